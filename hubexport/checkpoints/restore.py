"""Restores a network's variables from a checkpoint, all of them and exactly, or explains why that is impossible."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import functools
import math

import numpy as np

from hubexport.arrays import Array, StreamedValue, streamed
from hubexport.checkpoints.beside_network import check_constants
from hubexport.checkpoints.closest_network import (
    closest_layout,
    closest_network,
    nearly_all_fit,
    shortened,
    variable_problem,
)
from hubexport.checkpoints.dtypes import TRAINED_DTYPES
from hubexport.checkpoints.huggingface_directory import CONFIG
from hubexport.checkpoints.open_checkpoint import KERAS_CONTAINERS, OpenedCheckpoint, open_checkpoint
from hubexport.checkpoints.recognition_check import MODULE_MANIFEST, listed
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX, Recognition, plain_shapes
from hubexport.checkpoints.slim_values import has_averages, stored_name
from hubexport.checkpoints.sources import Source
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.checkpoints.weights_choice import ONLY, Choice, Weights, summarize_weights
from hubexport.errors import CheckpointError, either
from hubexport.layouts.registry import SLIM
from hubexport.networks.family import Family
from hubexport.networks.ops import Variable
from hubexport.progress import Progress
from hubexport.variants import Variant


class RestoredValues:
    """A network's values, which are read anew for each use.

    Args:
        stored: the values.
        names: the name of each variable's value there, by the variable's name.
        what: the first line of errors.
        choices: see below.
        in_module: see below.
    Attributes:
        values: float32 by variable name, of the variables' shapes. Each can be read for as long as its source is open.
        choices: which value each variable got, by its name; None if the source stores one value per variable.
        in_module: whether the values come from a module.
    """

    def __init__(
        self,
        stored: StoredValues,
        names: Mapping[str, str],
        what: str,
        choices: Mapping[str, Choice] | None,
        in_module: bool,
    ) -> None:
        self._stored = stored
        self._names = names
        self._what = what
        # How many NaN and infinite values each variable that was read to its end has.
        self._broken: dict[str, tuple[int, int]] = {}
        self.choices = choices
        self.in_module = in_module
        self.values = {
            name: StreamedValue(stored.shapes[native], functools.partial(self._chunks, name))
            for name, native in names.items()
        }

    def check_finite(self) -> None:
        """Checks that all values were finite when they were read last; those that were not yet read are read now.

        Raises:
            CheckpointError: a value is damaged, or has NaN or infinite numbers; all such variables are named.
        """
        for name in self.values:
            if name not in self._broken:
                for _ in self._chunks(name):
                    pass
        if broken := [name for name in self.values if any(self._broken[name])]:
            raise CheckpointError(
                self._what,
                why=f"{len(broken)} of {len(self.values)} variables hold NaN or infinite values",
                details=[
                    f"{self._names[name]}: {self._broken[name][0]} NaN, {self._broken[name][1]} infinite of "
                    f"{math.prod(self.values[name].shape)}"
                    for name in broken
                ],
                fix="use an earlier checkpoint of this training",
            )

    def weights(self, variables: Iterable[Variable] | None = None) -> str:
        """Sums up the choices as `hubexport.json` records them.

        Args:
            variables: the variables to count. Defaults to all.
        Returns:
            `averaged`, `raw`, the number of each like `158 averaged, 104 raw`, or `only` if there was no choice.
        """
        if self.choices is None:
            return ONLY
        names = self.values if variables is None else [variable.name for variable in variables]
        return summarize_weights(self.choices[name] for name in names)

    def _chunks(self, name: str) -> Iterator[Array]:
        nan_count = infinite_count = 0
        for chunk in self._float32_chunks(name):
            if not np.isfinite(chunk).all():
                nan_count += int(np.isnan(chunk).sum())
                infinite_count += int(np.isinf(chunk).sum())
            yield chunk
        self._broken[name] = nan_count, infinite_count

    def _float32_chunks(self, name: str) -> Iterator[Array]:
        for chunk in self._stored.chunks(self._names[name]):
            with np.errstate(over="ignore"):  # What float32 cannot hold is counted as infinite.
                converted = chunk.astype(np.float32, copy=False)
            yield from streamed(converted).chunks()  # Widened chunks are larger.


@contextlib.contextmanager
def open_and_restore(
    source: Source, variables: Sequence[Variable], weights: Weights, variant: Variant, progress: Progress
) -> Iterator[RestoredValues]:
    """Restores a variant's variables from a source, which stays open for as long as the context lasts.

    See `restore_values`.

    Raises:
        CheckpointError: the source cannot be opened, or does not hold the values.
        TemporaryFileError: the source has to be unpacked, and there is no room for that.
    """
    with open_checkpoint(source, progress, variant) as opened:
        warn_of_size(opened, variant, progress)
        check_classes(opened)
        yield restore_values(opened, variables, weights, progress)


def warn_of_size(opened: OpenedCheckpoint, variant: Variant, progress: Progress) -> None:
    """Warns if a checkpoint says that its network takes images of another size than a variant."""
    size = opened.image_size
    if size and size != variant.image_size:
        meant = (
            f"{opened.shown_as} is for images of {size} pixels by its {CONFIG if opened.settings else 'description'}"
        )
        progress.warn(f"{meant}, but {variant.name} takes {variant.image_size}")


def restore_values(
    opened: OpenedCheckpoint, variables: Sequence[Variable], weights: Weights, progress: Progress = Progress()
) -> RestoredValues:
    """Finds the values of variables in an open checkpoint, and reads them once to check them.

    Made-up values are finite, and not read here. Other values, like optimizer slots and `global_step`, are ignored.

    Args:
        opened: the checkpoint.
        variables: the variables to restore.
        weights: `auto` and `averaged` restore the moving average of each variable that has one and the raw value of the
            others; `averaged` needs one average at least. `raw` restores raw values. Ignored if the source stores one
            value per variable.
        progress: is told which values were restored, and receives a warning if only some variables have an average.
    Raises:
        CheckpointError: the network is not known or another one, or a value is missing, damaged, not finite, not
            a float of 16, 32 or 64 bits, or of another shape, or not the constant that modules have in its place.
    """
    if opened.recognition is None:
        is_told = opened.model_mismatch or opened.foreign or opened.container in KERAS_CONTAINERS
        if is_told or closest_layout(opened.native.shapes) != SLIM:
            raise opened.unrecognized_error()
    what = _cannot_restore(opened)
    stored = opened.slim_values()
    network = opened.recognition.network().variables if opened.recognition else ()
    # An auxiliary head, for example, may have averages without the network having any.
    averaged = any(f"{one.name}{AVERAGED_SUFFIX}" in stored.shapes for one in (*network, *variables))
    has_choice = opened.of_training or averaged
    if not has_choice:
        weights = "raw"
    elif weights == "averaged" and not averaged:
        which = "averaged values of the network" if has_averages(stored) else "averaged values"
        raise CheckpointError(what, why=f"there are no {which} in this checkpoint", fix="use --weights auto")
    names = {variable.name: stored_name(stored, variable.name, weights) for variable in variables}
    if problems := _problems(stored, variables, names):
        why, fix = _unfit_values(stored, variables, names)
        if opened.variant and opened.recognition:
            why, fix = _other_network(opened.recognition, opened.variant) or (why, fix)
        elif opened.variant and not nearly_all_fit(len(problems), len(variables)):
            wanted = opened.variant.family, opened.variant.family_parameters
            why = closest_network(plain_shapes(stored), [wanted]).why
            fix = f"use a TF-Slim checkpoint of {opened.variant.family.describe(opened.variant.family_parameters)}"
        raise CheckpointError(what, why=why, details=shortened(problems), fix=fix)
    _check_what_is_beside(opened, what)
    choices: dict[str, Choice] = {name: "raw" if names[name] == name else "averaged" for name in names}
    restored = RestoredValues(stored, names, what, choices if has_choice else None, opened.in_module)
    for dtype, count in Counter(map(stored.dtype, names.values())).items():
        if dtype != "float32":
            progress.note(f"{count} of {len(names)} variables are {dtype}, {TRAINED_DTYPES[dtype]} to float32")
    if opened.container is not None:
        restored.check_finite()
    if not has_choice:
        return restored
    raw_count = sum(choice == "raw" for choice in choices.values())
    others = [one for one in variables if names[one.name] != one.name and one.name in stored.shapes]
    if misshaped := sum(stored.shapes[one.name] != one.shape for one in others):
        progress.warn(
            f"{misshaped} of {len(choices)} variables have a raw value of another shape than their average in "
            f"{opened.shown_as}; the averages are used, and the raw values are of another network"
        )
    if weights != "raw" and raw_count and averaged:
        missing = f"{raw_count} of {len(choices)} variables have no average in {opened.shown_as}"
        progress.warn(f"{missing}; they get their raw values")
    progress.note(f"weights: {restored.weights()}{' (the checkpoint has no averages)' * (not averaged)}")
    return restored


def check_classes(opened: OpenedCheckpoint) -> None:
    """Checks that the number of classes does not suggest another network with the same variables.

    Feature vectors do not have the classes, but must come from the variant's network, too. A number that is the
    variant's own suggests nothing.

    Raises:
        CheckpointError: nothing but the number of classes tells the network from others with the same variables, and of
            these it is the published number of another one than the variant's.
    """
    if opened.variant and opened.recognition and (twin := _suggested_twin(opened.recognition, opened.variant)):
        why, fix = twin
        raise CheckpointError(_cannot_restore(opened), why=why, fix=fix)


def _suggested_twin(recognition: Recognition, variant: Variant) -> tuple[str, str] | None:
    """Returns which network with the same variables the number of classes suggests, and what to do; otherwise None."""
    classes = recognition.num_classes
    if classes is None or classes in (variant.num_classes, variant.family.published_classes):
        return None
    if not any(family is variant.family for family in (recognition.family, *recognition.alike)):
        return None
    for twin in (recognition.family, *recognition.alike):
        if twin.published_classes == classes:
            own = variant.family.title
            return (
                f"its {classes} classes suggest that this is {twin.title}, not {own}, which has the same variables",
                f"{_use_variant_of(twin, recognition)}; if this is {own}, set num_classes: {classes} in a config of "
                "your own",
            )
    return None


def _use_variant_of(family: Family, recognition: Recognition) -> str:
    """Returns the advice to use a variant of a family, with the name of a built-in one if there is any."""
    from hubexport.config_files import list_variants  # Reads all configs, which only this error needs.

    for variant in list_variants():
        if variant.family is family and variant.family_parameters == recognition.parameters:
            return f"use --variant {variant.name}"
    return f"use a variant with network: {family.name}"


def _check_what_is_beside(opened: OpenedCheckpoint, what: str) -> None:
    """Checks that what is beside the network does not belong to another one with the same variables."""
    recognition, variant = opened.recognition, opened.variant
    if recognition and variant and recognition.family != variant.family:
        found, wanted = recognition.family, variant.family
        telling = [name for name in opened.values.shapes if found.unused(name) and not wanted.unused(name)]
        if telling or opened.named_by_module:
            reason = f"it has {', '.join(telling)}" if telling else f"its {MODULE_MANIFEST} says so"
            raise CheckpointError(
                what,
                why=f"this is {found.title}, not {wanted.title}: {reason}",
                fix=_use_variant_of(found, recognition),
            )
    if family := variant.family if variant else recognition and recognition.family:
        check_constants(opened.values, family, what)


def _cannot_restore(opened: OpenedCheckpoint) -> str:
    return f"cannot restore {opened.variant.name if opened.variant else 'the values'} from {opened.shown_as}"


def _problems(stored: StoredValues, variables: Sequence[Variable], names: Mapping[str, str]) -> list[str]:
    problems = []
    for variable in variables:
        name = names[variable.name]
        if problem := variable_problem(name, stored.shapes.get(name), variable.shape):
            problems.append(problem)
        elif stored.dtype(name) not in TRAINED_DTYPES:
            problems.append(f"{name}: stored as {stored.dtype(name)}, expected float32")
    return problems


def _unfit_values(stored: StoredValues, variables: Sequence[Variable], names: Mapping[str, str]) -> tuple[str, str]:
    """Returns why values of the right network do not fit, and what to do."""
    missing = [name for name in names.values() if name not in stored.shapes]
    if any(f"{name}{AVERAGED_SUFFIX}" in stored.shapes for name in missing):
        return "some variables have only averaged values", "use --weights averaged"
    count = len(_problems(stored, variables, names))
    why = f"{count} of the network's {len(variables)} variables do not fit"
    if missing:
        return why, "use a checkpoint as TF-Slim's training wrote it"
    misshaped = [one for one in variables if stored.shapes[names[one.name]] != one.shape]
    if not misshaped:
        return why, f"save the values as {either([*TRAINED_DTYPES])}, and use those"
    if all(stored.shapes.get(f"{one.name}{AVERAGED_SUFFIX}") == one.shape for one in misshaped):
        return "its raw values are of another network than its averages", "use --weights averaged"
    return why, "use a checkpoint of the variant's network"


def _other_network(recognition: Recognition, variant: Variant) -> tuple[str, str] | None:
    """Returns why the values are not the variant's, and what to do; None if they are of its network."""
    if (recognition.family, recognition.parameters) != (variant.family, variant.family_parameters):
        found = recognition.family.describe(recognition.parameters)
        return (
            f"this is {found}, not {variant.family.describe(variant.family_parameters)}",
            f"use a variant of {found}, or another checkpoint",
        )
    if recognition.num_classes is None:
        beside = (
            f": {listed(recognition.further)} are not one dense layer on the features" if recognition.further else ""
        )
        return f"this checkpoint has no classifier{beside}", "build only feature_vector modules from it"
    if twin := _suggested_twin(recognition, variant):
        return twin
    if recognition.num_classes != variant.num_classes:
        return (
            f"it was trained with {recognition.num_classes} outputs, not {variant.num_classes}",
            f"set num_classes: {recognition.num_classes} in a config of your own, and pass its folder with "
            "--config-dir",
        )
    return None
