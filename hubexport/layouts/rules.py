"""A network's variables under the names and in the shapes of another format, from two small tables.

A format says what it calls each layer (`layers`, by TF-Slim's scope) and what it calls each variable of a layer, with
the order of its axes (`parts`, by role). `layout_from_tables` walks the network's layer list and joins the two.
"""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Literal

from hubexport.arrays import Array
from hubexport.networks.layers import Convolution, DepthwiseConv2D, Network, Shape, Variable

# What a variable is to its layer. The classifier is a convolution of one pixel in TF-Slim, and a matrix elsewhere.
Role = Literal[
    "kernel",
    "depthwise_kernel",
    "classifier",
    "biases",
    "gamma",
    "beta",
    "moving_mean",
    "moving_variance",
]


@dataclasses.dataclass(frozen=True)
class RoleLayout:
    """How a format stores the variables of one role.

    Attributes:
        name: with `{0}`, `{1}` … for what the format calls the layer.
        axes: TF-Slim's axes (of kernels: height, width, inputs, outputs) in the format's order; those that it does not
            have are of length 1. None leaves them as they are.
    """

    name: str
    axes: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class VariableLayout:
    """One variable in TF-Slim and in another format.

    Attributes:
        variable: TF-Slim's.
        name: the other format's.
        axes: see `RoleLayout`.
    """

    variable: Variable
    name: str
    axes: tuple[int, ...] | None = None

    @property
    def shape(self) -> Shape:
        """The shape in the other format."""
        shape = self.variable.shape
        return shape if self.axes is None else tuple(shape[axis] for axis in self.axes)

    def from_slim(self, value: Array) -> Array:
        """Lays a value out as the other format has it, without changing a bit."""
        return value.transpose(self._all_axes).reshape(self.shape)

    def to_slim(self, value: Array) -> Array:
        """Lays a value out as TF-Slim has it, without changing a bit."""
        axes = self._all_axes
        whole = value.reshape([self.variable.shape[axis] for axis in axes])
        return whole.transpose(sorted(range(len(axes)), key=axes.__getitem__))

    @property
    def _all_axes(self) -> tuple[int, ...]:
        """All of TF-Slim's axes, those of the other format first."""
        everything = range(len(self.variable.shape))
        kept = tuple(everything) if self.axes is None else self.axes
        return kept + tuple(axis for axis in everything if axis not in kept)


def roles(network: Network) -> Iterator[tuple[str, Role, Variable]]:
    """Yields the scope of the layer, the role and the variable, for all variables of a network in order."""
    for layer in network.layers:
        for variable in layer.variables(*network.input_shapes(layer)):
            yield layer.name, _role(layer, variable), variable


def _role(layer: object, variable: Variable) -> Role:
    last = variable.name.rpartition("/")[2]
    if last in ("weights", "depthwise_weights"):
        if isinstance(layer, DepthwiseConv2D):
            return "depthwise_kernel"
        return "kernel" if isinstance(layer, Convolution) and layer.batch_norm else "classifier"
    return last  # type: ignore[return-value]  # TF-Slim's own names are the other roles.


def layout_from_tables(
    network: Network, layers: Mapping[str, tuple[str, ...]], parts: Mapping[Role, RoleLayout]
) -> tuple[VariableLayout, ...]:
    """Returns a network's variables as a format's two tables name and lay them out, in the network's order."""
    return tuple(
        VariableLayout(variable, parts[role].name.format(*layers[scope]), parts[role].axes)
        for scope, role, variable in roles(network)
    )
