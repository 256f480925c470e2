"""A network as data: ops in order, and what is special about some of them."""

from collections.abc import Mapping
import dataclasses
import functools
import itertools

from hubexport.networks.ops import Op, Shape, Variable
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


@dataclasses.dataclass(frozen=True)
class Network:
    """An architecture at one size, or at an open one.

    Attributes:
        ops: in an order in which each comes after its inputs; the first is the `Input`.
        endpoints: the public name of each intermediate result, to the name of its op.
        features: the op that gives the feature vector, `(num_features,)`.
        logits: the op that gives the class scores, `(num_classes,)`; None in a network without classifier.
        default_image_size: height and width of the images that the network was made for, in pixels.
        input_range: lowest and highest value of the images that the network was trained on.
    """

    ops: tuple[Op, ...]
    endpoints: Mapping[str, str]
    features: str
    logits: str | None
    default_image_size: tuple[int, int]
    input_range: tuple[float, float]

    @functools.cached_property
    def shapes(self) -> dict[str, Shape]:
        """The output shape of each op by its name, without the batch; None is an open height or width."""
        return output_shapes(self.ops)

    @functools.cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The ops, grouped as TF-Slim's calls made them."""
        groups = itertools.groupby(self.ops, lambda op: op.layer)
        return tuple(Layer(name, tuple(ops)) for name, ops in groups)

    @functools.cached_property
    def variables(self) -> tuple[Variable, ...]:
        """All variables, in the order of the ops."""
        return tuple(variable for op in self.ops for variable in op.variables)

    @property
    def image_shape(self) -> Shape:
        """Height, width and channels of an image; None for an open height or width."""
        return self.shapes[self.ops[0].name]

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
