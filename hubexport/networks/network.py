"""A network as data: ops in order, and what is special about some of them."""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import itertools

from hubexport.networks import ops
from hubexport.networks.ops import BatchNorm, Dropout, DropPath, Op, TensorShape, Variable
from hubexport.networks.shapes import output_shapes


@dataclasses.dataclass(frozen=True)
class Layer:
    """The ops that TF-Slim makes in one call, such as a convolution with its batch norm and its activation.

    Attributes:
        name: TF-Slim's scope.
        ops: in order; the output of the last one is the layer's output.
    """

    name: str
    ops: tuple[Op, ...]

    @property
    def output(self) -> str:
        """The name of the op that gives the layer's output."""
        return self.ops[-1].name

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables of its ops."""
        return tuple(variable for op in self.ops for variable in op.variables)

    @property
    def operation(self) -> str:
        """What it computes, as people read it, like `DepthwiseConv2D 3×3, stride 2, relu6`."""
        texts = (describe_op(op) for op in self.ops if not isinstance(op, (ops.BatchNorm, ops.Pad)))
        return ", ".join(texts) or "BatchNorm"


def describe_op(op: Op) -> str:
    """Returns what an op computes, as people read it, like `Conv2D 3×3, stride 2`."""
    match op:
        case ops.Conv() | ops.DepthwiseConv():
            kind = "Conv2D" if isinstance(op, ops.Conv) else "DepthwiseConv2D"
            return _describe_windows(kind, op.kernel.shape[:2], op.stride)
        case ops.Pool():
            return _describe_windows(f"{op.kind.capitalize()}Pool", op.window, op.stride)
        case ops.Activation():
            return op.kind
    return type(op).__name__


def _describe_windows(kind: str, window: tuple[int, ...], stride: tuple[int, int]) -> str:
    strided = f", stride {stride[0]}" if stride != (1, 1) else ""
    return f"{kind} {window[0]}×{window[1]}{strided}"


@dataclasses.dataclass(frozen=True)
class Network:
    """An architecture at one size, or at an open one.

    Attributes:
        ops: in an order in which each comes after its inputs; the first is the `Input`.
        endpoints: the public name of each intermediate result, to the name of its op.
        features: the op that gives the feature vector, `(num_features,)`.
        logits: the op that gives the class scores, `(num_classes,)`; None in a network without classifier.
        default_image_size: height and width of the images that the network was made for, in pixels.
        input_range: lowest and highest value of the images that the network was trained on, before means are
            subtracted.
        momentum: how much of batch norm's moving averages a training step keeps in TF-Slim's training scope.
        channel_means: what is subtracted from each channel of the images; None for nothing.
    """

    ops: tuple[Op, ...]
    endpoints: Mapping[str, str]
    features: str
    logits: str | None
    default_image_size: tuple[int, int]
    input_range: tuple[float, float]
    momentum: float = 0.997
    channel_means: tuple[float, ...] | None = None

    @property
    def input_scale(self) -> float:
        """What images in [0, 1] are multiplied with for the network."""
        lowest, highest = self.input_range
        return highest - lowest

    @property
    def input_offset(self) -> float | tuple[float, ...]:
        """What is subtracted from images after that: a number, or one per channel."""
        lowest, _ = self.input_range
        return -lowest if self.channel_means is None else tuple(mean - lowest for mean in self.channel_means)

    @functools.cached_property
    def shapes(self) -> dict[str, TensorShape]:
        """The output shape of each op by its name, without the batch; None is an open height or width."""
        return output_shapes(self.ops)

    def at_default_size(self) -> "Network":
        """Returns the same network for images of the default size alone."""
        first, *others = self.ops
        assert isinstance(first, ops.Input), "a network begins with its input"
        shape = (*self.default_image_size, first.shape[-1])
        return dataclasses.replace(self, ops=(dataclasses.replace(first, shape=shape), *others))

    @functools.cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The ops, grouped as TF-Slim's calls made them."""
        groups = itertools.groupby(self.ops, lambda op: op.layer)
        return tuple(Layer(name, tuple(ops)) for name, ops in groups)

    @functools.cached_property
    def variables(self) -> tuple[Variable, ...]:
        """All variables, in the order of the ops."""
        return tuple(variable for op in self.ops for variable in op.variables)

    @functools.cached_property
    def classifier(self) -> Op | None:
        """The last op before the logits that has variables; None in a network without classifier."""
        return next((op for op in self._back_from(self.logits) if op.variables), None) if self.logits else None

    @functools.cached_property
    def dropout(self) -> Dropout | None:
        """The dropout between the features and the classifier; None if there is none."""
        classifier = self.classifier
        if classifier is None:
            return None
        before = itertools.takewhile(lambda op: not op.variables, self._back_from(*classifier.inputs))
        return next((op for op in before if isinstance(op, Dropout)), None)

    @functools.cached_property
    def random_ops(self) -> frozenset[str]:
        """The names of the ops that drop at random in training, and of all that come after them."""
        random: set[str] = set()
        for op in self.ops:
            if (isinstance(op, (Dropout, DropPath)) and op.keep_prob < 1) or not random.isdisjoint(op.inputs):
                random.add(op.name)
        return frozenset(random)

    def _back_from(self, name: str) -> Iterator[Op]:
        """Yields an op, the op that gives its first input, and so on."""
        by_name = {op.name: op for op in self.ops}
        while True:
            op = by_name[name]
            yield op
            if not op.inputs:
                return
            name = op.inputs[0]

    @functools.cached_property
    def predictions_endpoint(self) -> str | None:
        """The key of the endpoint with the probabilities of the classes, `(num_classes,)`; None if there is none."""
        softmaxes = {op.name for op in self.ops if isinstance(op, ops.Softmax) and op.inputs == (self.logits,)}
        return next((key for key, name in self.endpoints.items() if name in softmaxes), None)

    @property
    def image_shape(self) -> TensorShape:
        """Height, width and channels of an image; None for an open height or width."""
        return self.shapes[self.ops[0].name]

    @property
    def features_endpoint(self) -> str:
        """The endpoint with the features: `(num_features,)`, or `(1, 1, num_features)` if the image axes are kept."""
        [features] = (op for op in self.ops if op.name == self.features)
        return next(key for key, name in self.endpoints.items() if name in (features.name, *features.inputs))

    @property
    def batch_norm_epsilon(self) -> float | None:
        """The epsilon of its batch norms, which is the same in all of them; None in a network without batch norm."""
        epsilons = {op.epsilon for op in self.ops if isinstance(op, BatchNorm)}
        [epsilon] = epsilons or [None]
        return epsilon

    @property
    def num_outputs(self) -> int:
        """The length of the output: that of the class scores, or of the features without classifier."""
        return self.num_features if self.num_classes is None else self.num_classes

    @property
    def num_features(self) -> int:
        """The length of a feature vector."""
        [length] = self.shapes[self.features]
        assert length is not None, "channels are never open"
        return length

    @property
    def num_classes(self) -> int | None:
        """The number of class scores; None in a network without classifier."""
        return self.shapes[self.logits][0] if self.logits else None
