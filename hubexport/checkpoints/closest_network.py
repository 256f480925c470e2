"""Finds the network that values are closest to, for errors about values that are of no network."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools

from hubexport.checkpoints.recognize import Recognition, any_network, candidates, possible_scopes
from hubexport.checkpoints.scopes import OWN_NAMES, Scope
from hubexport.errors import printable
from hubexport.layouts.registry import KNOWN_LAYOUTS
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
        scope: where the file has its variables.
        fitting: how many variables are stored in the right shape.
        problems: a line for each of the other variables.
        stored: the shapes of all stored values.
    """

    recognition: Recognition
    scope: Scope
    fitting: int
    problems: tuple[str, ...]
    stored: Mapping[str, Shape]

    @property
    def why(self) -> str:
        """How far the values are from the network."""
        title = self.recognition.family.describe(self.recognition.parameters)
        if self.scope.prefix != self.scope.root:
            title += f" in scope {printable(str(self.scope))}"
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
    layout_name, family, scope = max(_places(shapes), key=lambda place: _known(shapes, *place))
    fits = (_closeness(shapes, candidate, scope) for candidate in candidates(layout_name, family, first))
    return max(fits, key=lambda one: one.fitting)


def closest_layout(shapes: Mapping[str, Shape]) -> str:
    """Returns the name of the layout with the most variables stored."""
    return max(_places(shapes), key=lambda place: _known(shapes, *place))[0]


def variable_problem(name: str, stored: Shape | None, wanted: Shape) -> str | None:
    """Says what is wrong with a variable's shape; None if nothing is."""
    if stored is None:
        return f"{name}: missing, expected shape {list(wanted)}"
    return None if stored == wanted else f"{name}: stored shape {list(stored)}, expected {list(wanted)}"


def _places(shapes: Mapping[str, Shape]) -> Iterator[tuple[str, Family, Scope]]:
    """Yields where a network may be: a layout, a family that it has, and a scope."""
    for layout_name, layout in KNOWN_LAYOUTS.items():
        for family in FAMILIES.values():
            if layout.has(family.name):
                yield layout_name, family, OWN_NAMES
                yield from ((layout_name, family, scope) for scope in possible_scopes(layout_name, family, shapes))


def _known(shapes: Mapping[str, Shape], layout_name: str, family: Family, scope: Scope) -> int:
    return sum(scope.in_file(name) in shapes for name in _names(layout_name, family.name))


@functools.cache
def _names(layout_name: str, family_name: str) -> tuple[str, ...]:
    return tuple(layout.name for layout in KNOWN_LAYOUTS[layout_name].of(any_network(FAMILIES[family_name])))


def _closeness(shapes: Mapping[str, Shape], candidate: Recognition, scope: Scope) -> ClosestNetwork:
    layouts = candidate.variable_layouts
    names = [scope.in_file(layout.name) for layout in layouts]
    found = (
        variable_problem(name, shapes.get(name), layout.shape) for name, layout in zip(names, layouts, strict=True)
    )
    problems = tuple(problem for problem in found if problem)
    return ClosestNetwork(candidate, scope, len(layouts) - len(problems), problems, shapes)
