"""Finds a network's values in a checkpoint, all of them and exactly, or says what is wrong and why that may be."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hubexport.arrays import Array
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX, plain_shapes, recognize
from hubexport.checkpoints.sources import Weights
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.errors import CheckpointError
from hubexport.networks.layers import Shape, Variable
from hubexport.networks.registry import PUBLISHED_DEPTH_MULTIPLIERS
from hubexport.variants import Variant


def restore_values(
    stored: StoredValues, shown_as: Path, variables: Sequence[Variable], weights: Weights, variant: Variant | None
) -> dict[str, Array]:
    """Reads the value of each variable.

    Args:
        stored: the checkpoint; what it has beside model variables (optimizer slots, global_step) is left alone.
        shown_as: what messages call it.
        variables: whose values are wanted.
        weights: `averaged` takes the moving average of each variable that has one, and the plain value of the others;
            `raw` takes the plain values.
        variant: what the checkpoint should be of, for guessing what is wrong; None if it is recognized already.
    Returns:
        float32 values by variable name, finite and of the variables' shapes.
    Raises:
        CheckpointError: a value is missing, misshaped, no float32 or not finite.
    """
    what = f"cannot restore {variant.name if variant else 'the values'} from {shown_as}"
    if weights == "averaged" and not has_averages(stored):
        raise CheckpointError(
            what,
            why="there are no averaged values in this checkpoint",
            fix="use --weights raw",
        )
    names = {variable.name: stored_name(stored, variable.name, weights) for variable in variables}
    if problems := _problems(stored, variables, names):
        cause = _other_network(stored, variant) if variant else None
        why, fix = cause or _cause(stored, names)
        raise CheckpointError(what, why=why, details=problems, fix=fix)
    values = {name: stored.read(native) for name, native in names.items()}
    if broken := [name for name, value in values.items() if not np.isfinite(value).all()]:
        raise CheckpointError(
            what,
            why=f"{len(broken)} of {len(values)} variables hold NaN or infinite values",
            details=[f"{names[name]}: {_count_broken(values[name])}" for name in broken],
            fix="use an earlier checkpoint of this training",
        )
    return values


def has_averages(stored: StoredValues) -> bool:
    """Tells whether a moving average of any variable is there."""
    return any(name.endswith(AVERAGED_SUFFIX) for name in stored.shapes)


def stored_name(stored: StoredValues, name: str, weights: Weights) -> str:
    """Returns under which name the wanted value of a variable is stored, if it is."""
    averaged = f"{name}{AVERAGED_SUFFIX}"
    return averaged if weights == "averaged" and averaged in stored.shapes else name


def _count_broken(value: Array) -> str:
    return f"{np.isnan(value).sum()} NaN, {np.isinf(value).sum()} infinite of {value.size}"


def _problems(stored: StoredValues, variables: Sequence[Variable], names: Mapping[str, str]) -> list[str]:
    problems = []
    for variable in variables:
        name = names[variable.name]
        wanted = _listed(variable.shape)
        if name not in stored.shapes:
            problems.append(f"{name}: missing, expected shape {wanted}")
        elif stored.shapes[name] != variable.shape:
            problems.append(f"{name}: stored shape {_listed(stored.shapes[name])}, expected {wanted}")
        elif stored.dtype(name) != "float32":
            problems.append(f"{name}: stored as {stored.dtype(name)}, expected float32")
    return problems


def _listed(shape: Shape) -> str:
    return str(list(shape))


def _cause(stored: StoredValues, names: Mapping[str, str]) -> tuple[str, str]:
    """Returns why values of the right network do not fit, and what to do."""
    missing = [name for name in names.values() if name not in stored.shapes]
    if any(f"{name}{AVERAGED_SUFFIX}" in stored.shapes for name in missing):
        return "some variables have only averaged values", "use --weights averaged"
    if missing:
        return "some values are missing", "use a checkpoint as TF-Slim's training wrote it"
    return "some values are of another shape, or not float32", "save the values as float32, and use those"


def _other_network(stored: StoredValues, variant: Variant) -> tuple[str, str] | None:
    """Returns which network the checkpoint is of instead, and what to do; None if it is the variant's."""
    found = recognize(stored, (variant.depth_multiplier, *PUBLISHED_DEPTH_MULTIPLIERS))
    if found is None:
        wanted = variant.network_for("classification").variables
        shapes = plain_shapes(stored)
        known = sum(variable.name in shapes for variable in wanted)
        return (
            f"it has {known} of the network's {len(wanted)} variables by name, and {len(shapes)} values in all",
            f"use a TF-Slim checkpoint of {variant.network} at depth multiplier {variant.depth_multiplier:g}",
        )
    if found.depth_multiplier != variant.depth_multiplier:
        return (
            f"this is depth multiplier {found.depth_multiplier:g}, not {variant.depth_multiplier:g}",
            f"use a variant of depth multiplier {found.depth_multiplier:g}, or another checkpoint",
        )
    if found.num_classes is None:
        return "this checkpoint has no classifier", "build only feature_vector modules from it"
    if found.num_classes != variant.num_classes:
        return (
            f"it was trained with {found.num_classes} outputs, not {variant.num_classes}",
            f"set num_classes: {found.num_classes} in a config of your own, and pass its folder with --config_dir",
        )
    return None
