"""The families of networks that a variant's `network` key may name.

Where checkpoints of one family have the telling variable of another one's, that family comes first.
"""

from hubexport.networks.family import Family
from hubexport.networks.inception_resnet_v2 import INCEPTION_RESNET_V2
from hubexport.networks.inception_v1 import INCEPTION_V1
from hubexport.networks.inception_v2 import INCEPTION_V2
from hubexport.networks.inception_v3 import INCEPTION_V3
from hubexport.networks.inception_v4 import INCEPTION_V4
from hubexport.networks.mobilenet_v1 import MOBILENET_V1
from hubexport.networks.mobilenet_v2 import MOBILENET_V2
from hubexport.networks.mobilenet_v3 import MOBILENET_V3_FAMILIES
from hubexport.networks.nasnet import NASNET_FAMILIES
from hubexport.networks.pnasnet import PNASNET_FAMILIES
from hubexport.networks.resnet_v1 import RESNET_V1_FAMILIES
from hubexport.networks.resnet_v2 import RESNET_V2_FAMILIES
from hubexport.networks.vgg import VGG_FAMILIES

_ALL = (
    MOBILENET_V1,
    MOBILENET_V2,
    *MOBILENET_V3_FAMILIES,
    INCEPTION_V1,
    INCEPTION_V2,
    INCEPTION_V3,
    INCEPTION_V4,
    INCEPTION_RESNET_V2,
    *RESNET_V1_FAMILIES,
    *RESNET_V2_FAMILIES,
    *VGG_FAMILIES,
    *NASNET_FAMILIES,
    *PNASNET_FAMILIES,
)
FAMILIES: dict[str, Family] = {family.name: family for family in _ALL}
