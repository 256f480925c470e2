"""What the Inception networks are made of: steps one after another, and branches side by side whose channels join.

The tables of the networks list steps in the order of TF-Slim's code, under the names of its scopes.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses

from hubexport.networks.builder import Builder, Defaults, Tensor
from hubexport.networks.family import Group
from hubexport.networks.image_size import ImageSize
from hubexport.networks.network import Network
from hubexport.networks.ops import Padding

# TF-Slim's Inception training scope.
DEFAULTS = Defaults(
    activation="relu",
    batch_norm_epsilon=0.001,
    batch_norm_scale=False,
    batch_norm_momentum=0.9997,
    weight_decay=4e-5,
)
DROPOUT_KEEP_PROB = 0.8

GROUP = Group("Inception", "deep networks whose blocks have convolutions of several sizes side by side")


@dataclasses.dataclass(frozen=True)
class Step:
    """One layer, or one block of branches.

    Attributes:
        scope: below the scope of the block that it is in.
        append: appends the step to a builder, under a scope below the network's root, and returns its output.
    """

    scope: str
    append: Callable[[Builder, str, Tensor], Tensor]


def conv(
    scope: str, filters: int, kernel: int | tuple[int, int] = 1, *, stride: int = 1, padding: Padding = "SAME"
) -> Step:
    """A convolution with batch norm and ReLU."""
    return Step(scope, lambda b, path, net: b.conv(path, net, filters, kernel=kernel, stride=stride, padding=padding))


def max_pool(scope: str, window: int = 3, *, stride: int = 1, padding: Padding = "SAME") -> Step:
    """The maximum of each window of pixels."""
    return Step(scope, lambda b, path, net: b.max_pool(path, net, window, stride=stride, padding=padding))


def average_pool(scope: str, window: int = 3) -> Step:
    """The average of the window around each pixel."""
    return Step(scope, lambda b, path, net: b.average_pool(path, net, window))


def mixed(scope: str, *branches: Sequence[Step]) -> Step:
    """Branches of one input, joined: an Inception block."""
    return Step(scope, lambda b, path, net: join_branches(b, path, net, branches))


def split(*steps: Step) -> Step:
    """Steps of one input, joined within a branch."""

    def append(b: Builder, path: str, net: Tensor) -> Tensor:
        branch = path.rpartition("/")[0]
        return b.concat(path, [step.append(b, f"{branch}/{step.scope}", net) for step in steps])

    return Step("concat", append)


def join_branches(b: Builder, path: str, net: Tensor, branches: Iterable[Iterable[Step]]) -> Tensor:
    """Appends each branch to the same input, and joins their channels in order."""
    ends = []
    for number, steps in enumerate(branches):
        end = net
        for step in steps:
            end = step.append(b, f"{path}/Branch_{number}/{step.scope}", end)
        ends.append(end)
    return b.concat(f"{path}/concat", ends)


def trunk(b: Builder, root: str, steps: Iterable[Step]) -> Tensor:
    """Appends the steps of a network to its images; each is an endpoint by the name of its scope."""
    net = b.images
    for step in steps:
        net = b.endpoint(f"{root}/{step.scope}", step.append(b, step.scope, net))
    return net


def network_with_convolved_classes(
    root: str, steps: Iterable[Step], pool: str, image_size: ImageSize, num_classes: int | None
) -> Network:
    """Lays out a whole network of V2 or V3: its classifier is a convolution of the pooled features.

    Args:
        root: the scope of the network.
        steps: from images to what is pooled.
        pool: the scope of the pooling.
        image_size: the images that it takes.
        num_classes: the number of class scores; None leaves the classifier and its variables out.
    """
    b = Builder(root, image_size, DEFAULTS)
    pooled = b.endpoint(f"{root}/global_pool", b.mean(pool, trunk(b, root, steps)))
    features = b.features(pooled)
    logits = None
    if num_classes is not None:
        net = b.endpoint(f"{root}/PreLogits", b.dropout("Logits/Dropout_1b", pooled, DROPOUT_KEEP_PROB))
        net = b.conv("Logits/Conv2d_1c_1x1", net, num_classes, batch_norm=False, activation=None)
        logits = b.endpoint(f"{root}/Logits", b.squeeze("Logits/SpatialSqueeze", net))
        b.endpoint(f"{root}/Predictions", b.softmax("Predictions/Softmax", logits))
    return b.network(features=features, logits=logits)
