"""Scopes: what the names of a network's variables begin with in a file, where that is not TF-Slim's root scope."""

from collections.abc import Iterable, Iterator
import dataclasses

from hubexport.checkpoints.stored_values import Renamed, StoredValues


@dataclasses.dataclass(frozen=True)
class Scope:
    """Where a file has the variables of a network.

    Attributes:
        prefix: what their names begin with in the file, like `module/MobilenetV2/`; empty without a root scope.
        root: what they begin with in TF-Slim, like `MobilenetV2/`; empty for networks without a root scope.
    """

    prefix: str = ""
    root: str = ""

    def __str__(self) -> str:
        return self.prefix.rstrip("/") or "(none)"

    def answers_to(self, given: str) -> bool:
        """Tells whether a user means this scope: TF-Slim's root scope at its end may be left out."""
        return given in (self.prefix.rstrip("/"), self.prefix.removesuffix(self.root).rstrip("/"))

    def in_file(self, name: str) -> str:
        """Returns the name that the file has for a variable of the network."""
        return f"{self.prefix}{name.removeprefix(self.root)}"

    def applied(self, stored: StoredValues) -> StoredValues:
        """Returns a file's values with TF-Slim's root scope in place of the prefix.

        Values outside of the scope keep their names, except where one inside takes it.
        """
        if self.prefix == self.root:
            return stored
        inside = {name for name in stored.shapes if name.startswith(self.prefix)}
        outside = {name: name for name in stored.shapes if name not in inside}
        return Renamed(stored, {**outside, **{f"{self.root}{name.removeprefix(self.prefix)}": name for name in inside}})


# The network's variables have the names that TF-Slim gives them.
OWN_NAMES = Scope()


def scopes_with(variable: str, root: str, names: Iterable[str]) -> Iterator[Scope]:
    """Yields each scope in which one of a network's variables is stored, TF-Slim's own included.

    Args:
        variable: the variable.
        root: TF-Slim's root scope, with a slash at the end; empty for networks without one.
        names: the names of all stored values.
    """
    tail = variable.removeprefix(root)
    for name in names:
        if name == tail or name.endswith(f"/{tail}"):
            yield Scope(name.removesuffix(tail), root)
