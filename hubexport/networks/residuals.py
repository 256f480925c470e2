"""Finds residual branches: what is computed beside a shortcut, and added to it."""

from collections.abc import Iterable, Iterator
import dataclasses
from typing import Any

from hubexport.networks import ops
from hubexport.networks.ops import Op, Variable

# What a shortcut may do and still carry the same values.
_PASSES_ON = (ops.Pool, ops.Identity)


def with_branch_counts(sequence: Iterable[Op]) -> tuple[Op, ...]:
    """Tells the variables of the last op of each residual branch how many branches there are; see `Variable.branches`.

    A branch that does not end with variables, but with a constant factor for instance, is not counted.
    """
    by_name = {op.name: op for op in sequence}
    ends = [*_branch_ends(by_name)]
    for op in ends:
        changes: dict[str, Any] = {
            field.name: dataclasses.replace(value, branches=len(ends))
            for field in dataclasses.fields(op)
            if isinstance(value := getattr(op, field.name), Variable) and value.trainable
        }
        by_name[op.name] = dataclasses.replace(op, **changes)
    return tuple(by_name.values())


def _branch_ends(by_name: dict[str, Op]) -> Iterator[Op]:
    """Yields the op with variables that gives the branch, for each sum of a branch and what it was computed from."""
    for op in by_name.values():
        if isinstance(op, ops.Add):
            for shortcut, branch in (op.inputs, op.inputs[::-1]):
                if by_name[branch].variables and _is_computed_from(branch, _source(shortcut, by_name), by_name):
                    yield by_name[branch]


def _source(name: str, by_name: dict[str, Op]) -> str:
    """Returns the op whose values come out of another op, which merely passes them on."""
    while isinstance(by_name[name], _PASSES_ON):
        name = by_name[name].inputs[0]
    return name


def _is_computed_from(name: str, source: str, by_name: dict[str, Op]) -> bool:
    """Tells whether a chain of ops, with no other sum on its way, leads from one op to another."""
    op = by_name[name]
    while op.inputs and not isinstance(op, ops.Add):
        op = by_name[op.inputs[0]]
        if _source(op.name, by_name) == source:
            return True
    return False
