"""What NASNet and PNASNet are made of: cells, each one of a few tables of operations that a search has found.

A cell sees the output of the cell before it and that of the one before that. It computes one state after another: two
operations, each on an earlier state, are added. In the end it joins the channels of some states. Names of layers and
endpoints are those of TF-Slim's `nasnet` and `pnasnet`, which put the whole network into no scope.
"""

from collections.abc import Callable, Sequence
import dataclasses

from hubexport.networks.builder import Builder, Defaults, Tensor
from hubexport.networks.image_size import ImageSize
from hubexport.networks.network import Network

# TF-Slim's NASNet training scope, but for the weight decay. Here the kernels of depthwise convolutions decay, too. The
# publishers count all variables as parameters.
_DEFAULTS = Defaults(
    activation=None,
    batch_norm_epsilon=0.001,
    batch_norm_momentum=0.9997,
    plain_convolutions=True,
    weight_decay=0.0,
    published_roles=frozenset(
        {"kernel", "depthwise_kernel", "pointwise_kernel", "bias", "beta", "gamma", "moving_mean", "moving_variance"}
    ),
)
BATCH_NORM_MOMENTUM = _DEFAULTS.batch_norm_momentum
# In a smaller image, some cell would not have larger images than the next one, and another reduction would take its
# place.
SMALLEST_IMAGE_SIZE = 19
_DROPOUT_KEEP_PROB = 0.5


@dataclasses.dataclass(frozen=True)
class Operation:
    """What becomes of a state before it is added to another one.

    Attributes:
        append: appends it to a builder under a scope, and returns its output, which has a number of channels. The last
            argument is its stride.
        drops_path: whether training may drop its output.
    """

    append: Callable[[Builder, str, Tensor, int, int], Tensor]
    drops_path: bool = True


@dataclasses.dataclass(frozen=True)
class Cell:
    """The table of a cell. State 0 is its input, narrowed to its channels, and state 1 the output before that.

    Attributes:
        sums: the two operations whose sum is state 2, 3 and so on, each with the number of the state that it takes.
        joined: the numbers of the states whose channels are the output.
    """

    sums: tuple[tuple[tuple[Operation, int], tuple[Operation, int]], ...]
    joined: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class PlacedCell:
    """A cell at its place in a network.

    Attributes:
        scope: TF-Slim's.
        cell: its table.
        filters: the number of channels of each of its states.
        stride: of the operations on its two inputs.
        previous: how many outputs back its second input is; 1 would be its first input.
        endpoint: the key of its output; None for none.
    """

    scope: str
    cell: Cell
    filters: int
    stride: int = 1
    previous: int = 2
    endpoint: str | None = None


def separable(kernel: int) -> Operation:
    """Two separable convolutions, each after a ReLU; the first one has the stride."""

    def append(b: Builder, scope: str, net: Tensor, filters: int, stride: int) -> Tensor:
        for number, (relu, step) in enumerate([("Relu", stride), ("Relu_1", 1)], start=1):
            layer = f"separable_{kernel}x{kernel}_{number}"
            net = b.activation(f"{scope}/{relu}", net, "relu")
            net = b.separable_conv(f"{scope}/{layer}", net, filters, kernel=kernel, stride=step)
            net = b.batch_norm(f"{scope}/bn_sep_{kernel}x{kernel}_{number}", net)
        return net

    return Operation(append)


def _average_pool(b: Builder, scope: str, net: Tensor, filters: int, stride: int) -> Tensor:
    return _with_channels(b, scope, b.average_pool(f"{scope}/AvgPool2D", net, 3, stride=stride), filters)


def _max_pool(b: Builder, scope: str, net: Tensor, filters: int, stride: int) -> Tensor:
    return _with_channels(b, scope, b.max_pool(f"{scope}/MaxPool2D", net, 3, stride=stride), filters)


def _with_channels(b: Builder, scope: str, net: Tensor, filters: int) -> Tensor:
    return net if b.channels(net) == filters else _single_pixels(b, scope, net, filters)


def _none(b: Builder, scope: str, net: Tensor, filters: int, stride: int) -> Tensor:
    if stride == 1 and b.channels(net) == filters:
        return net
    return _single_pixels(b, scope, b.activation(f"{scope}/Relu", net, "relu"), filters, stride)


def _single_pixels(b: Builder, scope: str, net: Tensor, filters: int, stride: int = 1) -> Tensor:
    return b.batch_norm(f"{scope}/bn_1", b.conv(f"{scope}/1x1", net, filters, stride=stride))


AVERAGE_POOL = Operation(_average_pool)
MAX_POOL = Operation(_max_pool)
# The state itself, if it has the right size and channels.
NONE = Operation(_none, drops_path=False)


def cell_network(
    cells: Sequence[PlacedCell],
    image_size: ImageSize,
    num_classes: int | None,
    *,
    stem_filters: int,
    keep_prob: float,
    weight_decay: float,
) -> Network:
    """Lays out a convolution, cells and a classifier, without TF-Slim's auxiliary head, which is for training.

    Args:
        cells: in order.
        image_size: the images that it takes, which must have a fixed size.
        num_classes: the number of class scores; None leaves the classifier and its variables out.
        stem_filters: the number of channels of the first convolution.
        keep_prob: with which probability training keeps the output of an operation in the last cell. In the others it
            is the greater, the earlier they come.
        weight_decay: of all kernels.
    """
    if min(image_size.height, image_size.width) < SMALLEST_IMAGE_SIZE:
        raise ValueError(f"an image of {image_size.height} x {image_size.width} pixels does not fit, it is too small")
    b = Builder(
        "", image_size, dataclasses.replace(_DEFAULTS, weight_decay=weight_decay, depthwise_weight_decay=weight_decay)
    )
    net = b.conv("conv0", b.images, stem_filters, kernel=3, stride=2, padding="VALID")
    net = b.batch_norm("conv0_bn", net)
    outputs = [net]
    for number, placed in enumerate(cells, start=1):
        previous = outputs[-placed.previous] if len(outputs) >= placed.previous else None
        net = _append_cell(b, placed, net, previous, keep_prob=1 - number / len(cells) * (1 - keep_prob))
        outputs.append(net)
        if placed.endpoint is not None:
            b.endpoint(placed.endpoint, net)
    net = b.activation("final_layer/Relu", net, "relu")
    features = b.endpoint("global_pool", b.features(b.mean("final_layer/Mean", net)))
    logits = None
    if num_classes is not None:
        net = b.dropout("final_layer/dropout", features, _DROPOUT_KEEP_PROB)
        logits = b.endpoint("Logits", b.fully_connected("final_layer/FC", net, num_classes))
        b.endpoint("Predictions", b.softmax("final_layer/predictions", logits))
    return b.network(features=features, logits=logits)


def _append_cell(b: Builder, placed: PlacedCell, net: Tensor, previous: Tensor | None, *, keep_prob: float) -> Tensor:
    """Appends a cell; without a previous output it takes its input, as it is, for one."""
    scope, filters = placed.scope, placed.filters
    adapted = net if previous is None else _adapted(b, scope, previous, b.size(net), filters)
    # The name of the ReLU depends on whether there is another one in the scope.
    relu = f"{scope}/Relu" if adapted in (net, previous) else f"{scope}/Relu_1"
    first = b.conv(f"{scope}/1x1", b.activation(relu, net, "relu"), filters)
    states = [b.batch_norm(f"{scope}/beginning_bn", first), adapted]
    for number, pair in enumerate(placed.cell.sums):
        ends = []
        for side, (operation, state) in zip(("left", "right"), pair, strict=True):
            path = f"{scope}/comb_iter_{number}/{side}"
            end = operation.append(b, path, states[state], filters, placed.stride if state < 2 else 1)
            if operation.drops_path and keep_prob < 1:
                end = b.drop_path(f"{path}/drop_path", end, keep_prob)
            ends.append(end)
        states.append(b.add(f"{scope}/comb_iter_{number}/combine/add", *ends))
    return b.concat(f"{scope}/cell_output/concat", [states[number] for number in placed.cell.joined])


def _adapted(b: Builder, scope: str, previous: Tensor, size: tuple[int | None, ...], filters: int) -> Tensor:
    """Gives an earlier output, which may have twice the size, the size and the channels of a cell's states."""
    if b.size(previous) != size:
        return _factorized_reduction(b, scope, b.activation(f"{scope}/Relu", previous, "relu"), filters)
    if b.channels(previous) != filters:
        net = b.conv(f"{scope}/prev_1x1", b.activation(f"{scope}/Relu", previous, "relu"), filters)
        return b.batch_norm(f"{scope}/prev_bn", net)
    return previous


def _factorized_reduction(b: Builder, scope: str, net: Tensor, filters: int) -> Tensor:
    """Halves the size: half of the channels see every second pixel from the first on, the others from the second on."""
    first = b.average_pool(f"{scope}/path1", net, 1, stride=2, padding="VALID")
    first = b.conv(f"{scope}/path1_conv", first, filters // 2)
    # Zeros at the end, so that both halves have the same size.
    shifted = b.slice(f"{scope}/strided_slice", b.pad(f"{scope}/Pad", net, after=(1, 1)), (1, 1))
    second = b.average_pool(f"{scope}/path2", shifted, 1, stride=2, padding="VALID")
    second = b.conv(f"{scope}/path2_conv", second, filters - filters // 2)
    return b.batch_norm(f"{scope}/final_path_bn", b.concat(f"{scope}/concat", [first, second]))
