"""Finds the network that values are closest to, for errors about values that are of no network."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses

from hubexport.checkpoints.recognize import Recognition, any_network
from hubexport.errors import printable
from hubexport.layouts.registry import KNOWN_LAYOUTS
from hubexport.layouts.rules import VariableLayout
from hubexport.networks.family import Family, Parameters
from hubexport.networks.ops import Shape
from hubexport.networks.registry import FAMILIES

# Of a network, a few variables tell enough: others have hundreds.
_MOST_SHOWN = 5
# From here on, it is more useful to say which variables do not fit than which network it might be.
_NEARLY_ALL = 0.95


@dataclasses.dataclass(frozen=True)
class ClosestNetwork:
    """The network of which most variables are stored, up to the features.

    Attributes:
        recognition: the network and the layout.
        fitting: how many variables are stored in the right shape.
        problems: a line for each of the other variables.
        stored: the shapes of all stored values.
    """

    recognition: Recognition
    fitting: int
    problems: tuple[str, ...]
    stored: Mapping[str, Shape]

    @property
    def why(self) -> str:
        """How far the values are from the network."""
        title = self.recognition.family.describe(self.recognition.parameters)
        total = self.fitting + len(self.problems)
        if not self.fitting:
            return f"none of its {len(self.stored)} values fits a variable of a network that hubexport has"
        if not self.problems:
            return f"it has all {total} variables of {title}, but its layers have more variables than that has"
        if nearly_all_fit(len(self.problems), total):
            return f"{len(self.problems)} of the {total} variables of {title} do not fit"
        return (
            f"the closest network is {title}, of whose {total} variables {self.fitting} are there by their "
            f"{self.recognition.layout} names and shapes; it has {len(self.stored)} values in all"
        )

    @property
    def details(self) -> list[str]:
        """The variables that do not fit, or else what is stored."""
        if self.fitting:
            return shortened(self.problems)
        return shortened([f"it has {printable(name)} {list(shape)}" for name, shape in self.stored.items()])


def nearly_all_fit(problems: int, total: int) -> bool:
    """Tells whether so many variables fit that the values are certainly meant for the network."""
    return total - problems >= _NEARLY_ALL * total


def shortened(lines: Sequence[str]) -> list[str]:
    """Returns the first lines, and a count of the others."""
    if len(lines) <= _MOST_SHOWN:
        return [*lines]
    return [*lines[:_MOST_SHOWN], f"and {len(lines) - _MOST_SHOWN} more"]


def closest_network(shapes: Mapping[str, Shape], first: Sequence[tuple[Family, Parameters]] = ()) -> ClosestNetwork:
    """Finds the network of which most variables are stored.

    Args:
        shapes: the shapes of the values, with averages under the names of their variables.
        first: parameters to try before the published ones.
    """
    # Networks of one family differ in shapes, so that names alone tell the family.
    layout_name, family = max(_layouts_of_families(), key=lambda one: _known(shapes, *one))
    candidates = [own for other, own in first if other is family]
    fits = [
        _closeness(shapes, Recognition(layout_name, family, own)) for own in [*candidates, *family.published_parameters]
    ]
    return max(fits, key=lambda one: one.fitting)


def closest_layout(shapes: Mapping[str, Shape]) -> str:
    """Returns the name of the layout with the most variables stored."""
    return max(_layouts_of_families(), key=lambda one: _known(shapes, *one))[0]


def variable_problem(name: str, stored: Shape | None, wanted: Shape) -> str | None:
    """Says what is wrong with a variable's shape; None if nothing is."""
    if stored is None:
        return f"{name}: missing, expected shape {list(wanted)}"
    return None if stored == wanted else f"{name}: stored shape {list(stored)}, expected {list(wanted)}"


def _layouts_of_families() -> Iterator[tuple[str, Family]]:
    for layout_name, layout in KNOWN_LAYOUTS.items():
        yield from ((layout_name, family) for family in FAMILIES.values() if layout.has(family.name))


def _known(shapes: Mapping[str, Shape], layout_name: str, family: Family) -> int:
    return sum(layout.name in shapes for layout in KNOWN_LAYOUTS[layout_name].of(any_network(family)))


def _closeness(shapes: Mapping[str, Shape], candidate: Recognition) -> ClosestNetwork:
    layouts: Sequence[VariableLayout] = candidate.variable_layouts
    found = (variable_problem(layout.name, shapes.get(layout.name), layout.shape) for layout in layouts)
    problems = tuple(problem for problem in found if problem)
    return ClosestNetwork(candidate, len(layouts) - len(problems), problems, shapes)
