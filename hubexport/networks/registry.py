"""The families of networks that a variant's `network` key may name."""

from hubexport.networks.family import Family
from hubexport.networks.mobilenet_v1 import MOBILENET_V1
from hubexport.networks.mobilenet_v2 import MOBILENET_V2
from hubexport.networks.resnet_v2 import RESNET_V2_FAMILIES

FAMILIES: dict[str, Family] = {family.name: family for family in (MOBILENET_V1, MOBILENET_V2, *RESNET_V2_FAMILIES)}

# WIP: what has to go when its users know families.
NETWORKS = {
    "mobilenet_v2": lambda multiplier, size, classes: FAMILIES["mobilenet_v2"].lay_out(
        MOBILENET_V2.parameters(depth_multiplier=multiplier),
        __import__("hubexport.networks.image_size", fromlist=["x"]).ImageSize(size, size),
        classes,
    )
}
PUBLISHED_DEPTH_MULTIPLIERS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
