"""The families of networks that a variant's `network` key may name."""

from hubexport.networks.family import Family
from hubexport.networks.mobilenet_v1 import MOBILENET_V1
from hubexport.networks.mobilenet_v2 import MOBILENET_V2
from hubexport.networks.resnet_v2 import RESNET_V2_FAMILIES

FAMILIES: dict[str, Family] = {family.name: family for family in (MOBILENET_V1, MOBILENET_V2, *RESNET_V2_FAMILIES)}
