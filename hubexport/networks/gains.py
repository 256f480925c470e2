"""Tells by how much made-up values are larger or smaller than usual, so that activations neither die nor explode.

`hubexport.checkpoints.synthetic` says what is usual. It suits images in [-1, 1], batch norms with gamma, and a few
residual branches.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import itertools
import math
from typing import Any

from hubexport.networks import ops
from hubexport.networks.ops import Op, Variable

# What a shortcut may do and still carry the same values.
_PASSES_ON = (ops.Pool, ops.Identity)
# Usual kernels have variance 1.4 / fan-in. A rectified layer halves the mean square, so it takes 2 / fan-in to keep it.
_RECTIFIED = math.sqrt(2 / 1.4)
# A gate is a half on average.
_GATED = 2.0
# A network may add up so many residual branches, each as large as it comes. More of them get smaller together, so that
# their sum does not grow with the network's depth.
_BRANCHES_OF_FULL_SIZE = 10
# Where each sum is rectified, it has no negative part that later branches could cancel.
_RECTIFIED_BRANCHES_OF_FULL_SIZE = 3


def with_gains(sequence: Iterable[Op], input_range: tuple[float, float]) -> tuple[Op, ...]:
    """Tells trained variables their gains; see `Variable.gain`.

    - Kernels that take the images make up for the range of these, if it is not [-1, 1].
    - Kernels of rectified layers without batch norm, or with one without gamma, keep the mean square.
    - Kernels that take joined sums make up for these.
    - Kernels that take the product of a tensor and its gates make up for these.
    - What ends a residual branch makes up for the number of branches. A branch that does not end with variables, but
      with a constant factor for instance, is not counted.

    Args:
        sequence: the ops of a network, each after its inputs.
        input_range: lowest and highest value of the images.
    """
    by_name = {op.name: op for op in sequence}
    gains: dict[str, float] = defaultdict(lambda: 1.0)
    found = (
        _of_images(by_name, input_range),
        _of_rectified(by_name),
        _of_joined_sums(by_name),
        _of_gated(by_name),
        _of_branch_ends(by_name),
    )
    for name, gain in itertools.chain(*found):
        gains[name] *= gain
    return tuple(_with_gains_of(op, gains) for op in by_name.values())


def _with_gains_of(op: Op, gains: Mapping[str, float]) -> Op:
    changes: dict[str, Any] = {
        field.name: dataclasses.replace(value, gain=gains[value.name])
        for field in dataclasses.fields(op)
        if isinstance(value := getattr(op, field.name), Variable) and value.name in gains
    }
    return dataclasses.replace(op, **changes) if changes else op


def _of_images(by_name: Mapping[str, Op], input_range: tuple[float, float]) -> Iterator[tuple[str, float]]:
    lowest, highest = input_range
    for op in by_name.values():
        if isinstance(op, (ops.Conv, ops.DepthwiseConv)):
            source = by_name[op.inputs[0]]
            while isinstance(source, (ops.Pad, *_PASSES_ON)):
                source = by_name[source.inputs[0]]
            if isinstance(source, ops.Input):
                yield op.kernel.name, 2 / (highest - lowest)


def _of_rectified(by_name: Mapping[str, Op]) -> Iterator[tuple[str, float]]:
    for op in by_name.values():
        if isinstance(op, ops.Activation) and op.kind != "hard_sigmoid":
            source = by_name[op.inputs[0]]
            if isinstance(source, ops.BatchNorm) and source.gamma is None:
                source = by_name[source.inputs[0]]
            if isinstance(source, ops.Conv):
                yield source.kernel.name, _RECTIFIED


def _of_joined_sums(by_name: Mapping[str, Op]) -> Iterator[tuple[str, float]]:
    for op in by_name.values():
        if isinstance(op, ops.Conv):
            source = by_name[op.inputs[0]]
            while isinstance(source, (ops.Activation, ops.Pad, ops.Slice, *_PASSES_ON)):
                source = by_name[source.inputs[0]]
            if isinstance(source, ops.Concat):
                # The mean square of a sum of two is that of both together.
                squares = [2 if isinstance(by_name[name], ops.Add) else 1 for name in source.inputs]
                if max(squares) > 1:
                    yield op.kernel.name, math.sqrt(len(squares) / sum(squares))


def _of_gated(by_name: Mapping[str, Op]) -> Iterator[tuple[str, float]]:
    for op in by_name.values():
        if isinstance(op, ops.Conv) and isinstance(by_name[op.inputs[0]], ops.Multiply):
            yield op.kernel.name, _GATED


def _of_branch_ends(by_name: Mapping[str, Op]) -> Iterator[tuple[str, float]]:
    ends = [*_branch_ends(by_name)]
    rectified = {op.inputs[0] for op in by_name.values() if isinstance(op, ops.Activation)}
    for branch, total in ends:
        full = _RECTIFIED_BRANCHES_OF_FULL_SIZE if total.name in rectified else _BRANCHES_OF_FULL_SIZE
        if len(ends) > full:
            for variable in branch.variables:
                if variable.trainable:
                    yield variable.name, math.sqrt(full / len(ends))


def _branch_ends(by_name: Mapping[str, Op]) -> Iterator[tuple[Op, Op]]:
    """Yields the op with variables that gives the branch, and the sum, wherever a branch is added to what it is of."""
    for op in by_name.values():
        if isinstance(op, ops.Add):
            for shortcut, branch in (op.inputs, op.inputs[::-1]):
                if by_name[branch].variables and _is_computed_from(branch, _source(shortcut, by_name), by_name):
                    yield by_name[branch], op


def _source(name: str, by_name: Mapping[str, Op]) -> str:
    """Returns the op whose values come out of another op, which merely passes them on."""
    while isinstance(by_name[name], _PASSES_ON):
        name = by_name[name].inputs[0]
    return name


def _is_computed_from(name: str, source: str, by_name: Mapping[str, Op]) -> bool:
    """Tells whether a chain of ops, with no other sum on its way, leads from one op to another."""
    op = by_name[name]
    while op.inputs and not isinstance(op, ops.Add):
        op = by_name[op.inputs[0]]
        if _source(op.name, by_name) == source:
            return True
    return False
