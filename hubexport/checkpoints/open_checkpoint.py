"""From what `--checkpoint` names to the values of a network's variables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
from pathlib import Path

from hubexport.arrays import Array
from hubexport.checkpoints.container_readers import DamageReporting, opened_values
from hubexport.checkpoints.containers import Container
from hubexport.checkpoints.huggingface_directory import CONFIG, HuggingFaceSettings, read_settings
from hubexport.checkpoints.object_based import ValuesByVariable
from hubexport.checkpoints.recognition_check import check_recognition
from hubexport.checkpoints.recognize import Recognition, in_slim_terms, most_likely_layout, plain_shapes, recognize
from hubexport.checkpoints.restore import has_averages, restore_values, stored_name
from hubexport.checkpoints.sources import ArchiveSource, FileSource, Source, SyntheticSource, Weights
from hubexport.checkpoints.stored_values import StoredValues
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.checkpoints.weights_choice import ONLY, told
from hubexport.errors import CheckpointError
from hubexport.layouts.registry import HUGGING_FACE_LAYOUTS, SLIM
from hubexport.networks.layers import Variable
from hubexport.networks.registry import PUBLISHED_DEPTH_MULTIPLIERS
from hubexport.progress import Progress
from hubexport.variants import Variant

_KERAS_CONTAINERS: tuple[Container, ...] = ("HDF5", "Keras archive")
_USE_ANOTHER = "pass the variant with --variant, or use another file"
# Models within models are told by nothing else.
_SAVE_IT_ALONE = "save the network by itself, like model.layers[0].save('network.keras'), and use that file"


@dataclasses.dataclass(frozen=True)
class OpenedCheckpoint:
    """Values that can be read for as long as their source is open.

    Attributes:
        native: the values under the names that they have in the file; those of object-based checkpoints under their
            variables' names.
        recognition: what they are of; None if that cannot be told.
        container: how the file stores them.
        packed: whether that is in a gzipped tar.
        object_based: whether a graph of objects told their names.
        of_training: whether it is a file that trainings write, and of which averages are to be expected.
        settings: what lies beside Hugging Face's weights; None beside others.
        problems: settings that the network does not have.
        doubt: why they are not what their names and shapes say; None if they are.
    """

    native: StoredValues
    recognition: Recognition | None
    container: Container
    packed: bool
    object_based: bool
    of_training: bool
    doubt: str | None
    settings: HuggingFaceSettings | None = None
    problems: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class RestoredValues:
    """A network's values.

    Attributes:
        values: float32 by variable name, finite and of the variables' shapes.
        taken: whether the average or the raw value of a variable was taken, by its name; None if there was no choice.
    """

    values: dict[str, Array]
    taken: Mapping[str, Weights] | None

    def weights(self, variables: Iterable[Variable] | None = None) -> str:
        """Says which values were taken, as `hubexport.json` does.

        Args:
            variables: of which variables; None means all.
        Returns:
            `averaged`, `raw`, the number of each like `158 averaged, 104 raw`, or `only` if there was no choice.
        """
        if self.taken is None:
            return ONLY
        names = self.values if variables is None else [variable.name for variable in variables]
        return told(self.taken[name] for name in names)


def read_values(
    source: Source, variables: Sequence[Variable], weights: Weights, variant: Variant, progress: Progress
) -> RestoredValues:
    """Reads or makes up the values of all variables.

    Args:
        source: where from.
        variables: whose values are wanted.
        weights: see `hubexport.checkpoints.restore.restore_values`.
        variant: what the checkpoint should be of.
        progress: hears of the steps.
    Raises:
        CheckpointError: they are not all there and right.
    """
    if isinstance(source, SyntheticSource):
        progress.step(f"making up synthetic values from seed {source.seed}")
        return RestoredValues({variable.name: synthetic_value(variable, source.seed) for variable in variables}, None)
    with opened_checkpoint(source, progress, (variant.depth_multiplier,)) as opened:
        size = opened.settings and opened.settings.image_size
        if size and size != variant.image_size:
            meant = f"{source.shown_as} is for images of {size} pixels by its {CONFIG}"
            progress.warn(f"{meant}, but {variant.name} takes {variant.image_size}")
        return restore(opened, source.shown_as, variables, weights, variant, progress)


def restore(
    opened: OpenedCheckpoint,
    shown_as: Path,
    variables: Sequence[Variable],
    weights: Weights,
    variant: Variant | None,
    progress: Progress = Progress(),
) -> RestoredValues:
    """Reads the values of variables from an open checkpoint; see `read_values`."""
    is_slim = opened.container not in _KERAS_CONTAINERS and most_likely_layout(opened.native.shapes)[0] == SLIM
    if opened.recognition is None and not is_slim:
        raise unrecognized_error(opened, shown_as)
    stored = in_slim_terms(opened.native, opened.recognition)
    if not (opened.of_training or has_averages(stored)):
        return RestoredValues(restore_values(stored, shown_as, variables, "raw", variant), None)
    values = restore_values(stored, shown_as, variables, weights, variant)
    taken: dict[str, Weights] = {
        name: "raw" if stored_name(stored, name, weights) == name else "averaged" for name in values
    }
    if weights == "averaged" and (count := sum(one == "raw" for one in taken.values())):
        progress.warn(f"{count} of {len(taken)} variables have no average in {shown_as}; they get their raw values")
    return RestoredValues(values, taken)


def unrecognized_error(opened: OpenedCheckpoint, shown_as: Path) -> CheckpointError:
    """Returns the error for values of which nobody knows what they are of."""
    layout, known, total = most_likely_layout(plain_shapes(opened.native))
    return CheckpointError(
        f"cannot identify the network in {shown_as}",
        why=opened.doubt
        or f"its names and shapes match no published MobileNet V2: it has {known} of {total} variables by their "
        f"{layout} names, and {len(opened.native.shapes)} values in all",
        fix=_SAVE_IT_ALONE if opened.container in _KERAS_CONTAINERS and not known else _USE_ANOTHER,
    )


@contextlib.contextmanager
def opened_checkpoint(
    source: Source, progress: Progress, multipliers: Sequence[float] = (), *, with_problems: bool = False
) -> Iterator[OpenedCheckpoint]:
    """Opens a source that is no synthetic one, for as long as the context lasts.

    Args:
        source: where from.
        progress: hears of the steps.
        multipliers: depth multipliers to try before the published ones.
        with_problems: open it even if Hugging Face's settings beside it are none that the network has.
    Raises:
        CheckpointError: it is damaged, or has such settings. Damage to values is told when they are read.
    """
    assert not isinstance(source, SyntheticSource), "there is nothing to open"
    progress.step(f"reading {source.shown_as}")
    with source.opened() as files, opened_values(files, source.shown_as) as stored:
        settings = _settings(files, stored)
        told_multipliers = settings.depth_multipliers if settings else ()
        recognition = recognize(stored, (*multipliers, *told_multipliers, *PUBLISHED_DEPTH_MULTIPLIERS))
        recognition, doubt = check_recognition(recognition, stored, source.shown_as, progress)
        problems = settings.problems(recognition) if settings else ()
        if settings and problems and not with_problems:
            raise settings.refusal(problems)
        for warning in settings.warnings(recognition) if settings and recognition else ():
            progress.warn(warning)
        object_based = isinstance(stored, ValuesByVariable)
        yield OpenedCheckpoint(
            native=DamageReporting(stored, source.shown_as),
            recognition=recognition,
            container=files.container,
            packed=isinstance(source, ArchiveSource),
            object_based=object_based,
            of_training=files.is_of_training and not object_based,
            doubt=doubt,
            settings=settings,
            problems=problems,
        )


def _settings(files: FileSource, stored: StoredValues) -> HuggingFaceSettings | None:
    """Reads the settings beside weights with Hugging Face's names."""
    if files.container != "safetensors" or most_likely_layout(stored.shapes)[0] not in HUGGING_FACE_LAYOUTS:
        return None
    return read_settings(files.files[0].parent)
