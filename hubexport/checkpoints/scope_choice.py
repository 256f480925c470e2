"""Chooses the scope of a file from which the values of a network are taken."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from hubexport.checkpoints.closest_network import closest_network
from hubexport.checkpoints.recognize import Recognition, plain_shapes, recognize_in_scopes
from hubexport.checkpoints.scopes import OWN_NAMES, Scope
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.errors import CheckpointError, printable
from hubexport.networks.family import Family, Parameters
from hubexport.networks.ops import Shape


def choose_scope(
    stored: StoredValues,
    own: Recognition | None,
    wanted: Sequence[tuple[Family, Parameters]],
    given: str | None,
    shown_as: Path,
) -> Scope:
    """Chooses the scope of a network.

    A network under TF-Slim's own names goes before others. If there is none, or none of a wanted family, it is the only
    scope that holds a network.

    Args:
        stored: the values.
        own: the network that is stored under TF-Slim's own names; None if there is none.
        wanted: the family and the parameters of the wanted network; empty if any will do.
        given: the scope that the user names, with or without TF-Slim's root scope at its end; None if none is named.
        shown_as: how messages name the file.
    Returns:
        The scope; TF-Slim's own names also where no scope holds a network.
    Raises:
        CheckpointError: several scopes hold a network, or the given one does not.
    """
    if given is not None:
        return _given_scope(stored, wanted, given.strip("/"), shown_as)
    families = [family for family, _ in wanted]
    if own and (not families or _is_of(own, families)):
        return OWN_NAMES
    found = recognize_in_scopes(stored, wanted)
    suitable = {scope: one for scope, one in found.items() if one.family in families}
    if own and not suitable:
        return OWN_NAMES
    suitable = suitable or found
    if len(suitable) > 1:
        raise CheckpointError(
            f"cannot tell which network of {shown_as} is meant",
            why=f"{len(suitable)} scopes hold all variables of a network",
            details=_listed(suitable),
            fix=f"name one with --scope, like --scope {next(iter(suitable))}",
        )
    return next(iter(suitable), OWN_NAMES)


def _given_scope(
    stored: StoredValues, wanted: Sequence[tuple[Family, Parameters]], given: str, shown_as: Path
) -> Scope:
    found = recognize_in_scopes(stored, wanted)
    answering = [scope for scope in found if scope.answers_to(given)]
    # A network may stand beside another that has TF-Slim's root scope.
    exact = [scope for scope in answering if scope.prefix.rstrip("/") == given]
    if answering:
        return next(iter(exact or answering))
    closest = closest_network(_inside(given, stored), wanted)
    is_there = closest.fitting and closest.scope.answers_to(given)
    raise CheckpointError(
        f"no network in scope {printable(repr(given))} of {shown_as}",
        why=(
            closest.why
            if is_there
            else f"none of its {len(stored.shapes)} values is a network's variable in this scope"
        ),
        details=_listed(found),
        fix="name another --scope" if found else "leave out --scope, or use another file",
    )


def _inside(given: str, stored: StoredValues) -> dict[str, Shape]:
    shapes = plain_shapes(stored)
    return {name: shape for name, shape in shapes.items() if not given or name.startswith(f"{given}/")}


def _is_of(recognition: Recognition, families: Collection[Family]) -> bool:
    there = (recognition.family, *recognition.alike, *(other.family for other in recognition.others))
    return any(family in families for family in there)


def _listed(found: Mapping[Scope, Recognition]) -> list[str]:
    return [f"{printable(str(scope))}: {one.family.describe(one.parameters)}" for scope, one in found.items()]
