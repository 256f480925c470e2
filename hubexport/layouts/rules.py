"""Makes the layout of a network's variables in another format from two small tables.

One table has the format's names for each layer, by TF-Slim's scope; the other has the names and axes of a layer's
variables, by role. `layout_from_tables` walks the network's layer list and joins the two.
"""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Literal

from hubexport.arrays import Array, StreamedValue, Value, as_streamed, streamed
from hubexport.networks.network import Network
from hubexport.networks.ops import Role, Shape, Variable

# The classifier's kernel is a 1x1 convolution's in TF-Slim, and a matrix elsewhere.
LayoutRole = Role | Literal["classifier"]


@dataclasses.dataclass(frozen=True)
class RoleLayout:
    """How a format stores the variables of one role.

    Attributes:
        name: the variable's name, with `{0}`, `{1}` … for the format's names of the layer.
        axes: TF-Slim's axes (of kernels: height, width, inputs, outputs) in the format's order; axes that the format
            lacks have length 1. None keeps TF-Slim's axes.
    """

    name: str
    axes: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class VariableLayout:
    """One variable in TF-Slim and in another format.

    Attributes:
        variable: the variable in TF-Slim.
        name: its name in the other format.
        axes: the order of its axes in the other format, see `RoleLayout`.
    """

    variable: Variable
    name: str
    axes: tuple[int, ...] | None = None

    @property
    def shape(self) -> Shape:
        """The shape in the other format."""
        shape = self.variable.shape
        return shape if self.axes is None else tuple(shape[axis] for axis in self.axes)

    @property
    def reorders(self) -> bool:
        """Whether the other format stores the elements in another order. Axes of length 1 do not matter."""
        lengths = self.variable.shape
        order = [axis for axis in self._all_axes if lengths[axis] != 1]
        return order != sorted(order)

    def from_slim(self, value: Array) -> Array:
        """Converts a value from TF-Slim's shape to the other format's, bit for bit."""
        return value.transpose(self._all_axes).reshape(self.shape)

    def streamed_from_slim(self, value: Value) -> StreamedValue:
        """Does the same in chunks.

        If the format stores the elements in another order, the value is whole in memory while it is read.
        """
        stored = as_streamed(value)
        if self.reorders:
            return StreamedValue(self.shape, lambda: streamed(self.from_slim(stored.read())).chunks())
        return StreamedValue(self.shape, stored.chunks)

    def to_slim(self, value: Array) -> Array:
        """Converts a value from the other format's shape to TF-Slim's, bit for bit."""
        axes = self._all_axes
        whole = value.reshape([self.variable.shape[axis] for axis in axes])
        return whole.transpose(sorted(range(len(axes)), key=axes.__getitem__))

    @property
    def _all_axes(self) -> tuple[int, ...]:
        """All of TF-Slim's axes, those of the other format first."""
        all_axes = range(len(self.variable.shape))
        kept = tuple(all_axes) if self.axes is None else self.axes
        return kept + tuple(axis for axis in all_axes if axis not in kept)


def variables_with_roles(network: Network) -> Iterator[tuple[str, LayoutRole, Variable]]:
    """Yields the scope of its layer, its role, and the variable itself for each variable of a network, in order."""
    for layer in network.layers:
        for variable in layer.variables:
            is_classifier = variable.role == "kernel" and network.classifier in layer.ops
            yield layer.name, "classifier" if is_classifier else variable.role, variable


def layout_from_tables(
    network: Network, layer_names: Mapping[str, tuple[str, ...]], role_layouts: Mapping[LayoutRole, RoleLayout]
) -> tuple[VariableLayout, ...]:
    """Returns the layouts of a network's variables in the format of the two tables, in the network's order."""
    return tuple(
        VariableLayout(variable, role_layouts[role].name.format(*layer_names[scope]), role_layouts[role].axes)
        for scope, role, variable in variables_with_roles(network)
    )
