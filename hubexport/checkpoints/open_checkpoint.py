"""Opens a source, recognizes the network of its values, and checks both against the settings beside them."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path

from hubexport.checkpoints.checkpoint_files import CheckpointFiles
from hubexport.checkpoints.closest_network import closest_network
from hubexport.checkpoints.container_readers import DamageReporting
from hubexport.checkpoints.containers import Container
from hubexport.checkpoints.foreign_networks import FIX, WHY, foreign_network
from hubexport.checkpoints.huggingface_directory import HuggingFaceSettings, read_settings
from hubexport.checkpoints.keras_recognition import recognize_model
from hubexport.checkpoints.keras_saved_model import saved_model_description
from hubexport.checkpoints.keras_values import KerasValues
from hubexport.checkpoints.object_based import ValuesByVariable
from hubexport.checkpoints.recognition_check import check_recognition, network_named_by_module
from hubexport.checkpoints.recognize import (
    AVERAGED_SUFFIX,
    Recognition,
    is_hugging_face,
    plain_shapes,
    recognize,
)
from hubexport.checkpoints.scope_choice import choose_scope
from hubexport.checkpoints.scopes import OWN_NAMES, Scope
from hubexport.checkpoints.slim_values import SlimValues
from hubexport.checkpoints.sources import Source
from hubexport.checkpoints.stored_values import Joined, Renamed, StoredValues
from hubexport.errors import CheckpointError, printable
from hubexport.layouts.registry import KERAS_H5, KERAS_LAYOUTS, KERAS_VARIABLES, KERAS_WEIGHTS_H5, SLIM
from hubexport.networks.family import Family, Parameters
from hubexport.progress import Progress
from hubexport.variants import Variant

# The containers of Keras, and how they name the values of a model's layers.
_KERAS_LAYOUTS: dict[Container, str] = {"HDF5": KERAS_H5, "Keras archive": KERAS_WEIGHTS_H5}
KERAS_CONTAINERS = tuple(_KERAS_LAYOUTS)
_WHOLE_MODEL = "save the whole model, like model.save('model.keras'), and use that file"


@dataclasses.dataclass(frozen=True)
class OpenedCheckpoint:
    """Values that can be read for as long as their source is open.

    Attributes:
        shown_as: the path by which messages name the source.
        variant: the variant whose values are wanted; None accepts any network.
        native: the values under their names in the file, those of object-based checkpoints under their variables'.
        scope: where the file has the network's variables.
        values: the values with TF-Slim's root scope in place of the scope's prefix.
        recognition: the network of the values; None if it is not known.
        named_by_module: whether the manifest of the module that holds the values tells the network from others with the
            same variables.
        container: the file format; None for made-up values.
        packed: whether the file is inside a gzipped tar.
        in_module: whether a module holds the file.
        object_based: whether a graph of objects gave the values their names.
        of_training: whether a training wrote the file, so that it should hold averages. Modules and the files of other
            frameworks usually store one value per variable.
        model_mismatch: why the model that the file describes is none of our networks; None if it is one.
        image_size: the height and width of the images that the file says its network takes; None if it does not.
        foreign: what the values are, if they are of no known network and their names tell, like `a ResNet of Keras`.
        settings: the settings beside Hugging Face's weights; None beside others.
        problems: the settings that the network does not support.
    """

    shown_as: Path
    variant: Variant | None
    native: StoredValues
    scope: Scope
    values: StoredValues
    recognition: Recognition | None
    named_by_module: bool
    container: Container | None
    packed: bool
    in_module: bool
    object_based: bool
    of_training: bool
    model_mismatch: str | None
    image_size: int | None
    foreign: str | None
    settings: HuggingFaceSettings | None
    problems: tuple[str, ...]

    def slim_values(self) -> StoredValues:
        """Returns the values under TF-Slim's names; unrecognized values stay as they are.

        A TF-Slim checkpoint keeps all its values except the further ones of its recognition. From another layout, only
        the network's variables and their averages are returned.
        """
        if self.recognition is None:
            return self.values
        network = SlimValues(self.values, self.recognition)
        if self.recognition.layout != SLIM:
            return network
        further = self.recognition.further
        names = (name for name in self.values.shapes if name.removesuffix(AVERAGED_SUFFIX) not in further)
        return Joined(Renamed(self.values, {name: name for name in names}), network)

    def unrecognized_error(self, advice: str = "pass the variant with --variant") -> CheckpointError:
        """Returns the error for values whose network is not known.

        Args:
            advice: what may help to recognize it.
        """
        what = f"cannot identify the network in {self.shown_as}"
        if self.model_mismatch:
            fix = f"{advice}, or use a model of a network in `hubexport list`"
            return CheckpointError(what, why=self.model_mismatch, fix=fix)
        if self.foreign:
            what = f"cannot use the weights of {self.shown_as}"
            return CheckpointError(what, why=f"it is {self.foreign}; {WHY}", fix=FIX)
        closest = closest_network(plain_shapes(self.native))
        return CheckpointError(
            what,
            why=f"its names and shapes match no published network: {closest.why}",
            details=closest.details,
            fix=_WHOLE_MODEL if self.container in KERAS_CONTAINERS else f"{advice}, or use another file",
        )


@contextlib.contextmanager
def open_checkpoint(
    source: Source,
    progress: Progress,
    variant: Variant | None = None,
    *,
    accept_problems: bool = False,
    accept_several: bool = False,
    networks: Sequence[tuple[Family, Parameters]] = (),
) -> Iterator[OpenedCheckpoint]:
    """Opens a source for as long as the context lasts.

    Args:
        source: the source.
        progress: receives the steps and warnings.
        variant: the variant whose values are wanted; None accepts any network. Synthetic values need a variant.
        accept_problems: also open weights whose Hugging Face settings the network does not support.
        accept_several: also open a file in which several scopes hold a network, as a file of no known network.
        networks: without a variant, the families that win where nothing tells several apart, with parameters to try
            before the published ones.
    Raises:
        CheckpointError: the source is damaged, has unsupported settings, or needs a variant. Reading a damaged value
            raises it later.
        TemporaryFileError: the source has to be unpacked, and there is no room for that.
    """
    with source.opened(variant, progress) as (files, stored):
        settings = None
        if files and files.container == "safetensors" and is_hugging_face(stored):
            settings = read_settings(files.paths[0].parent)
        wanted = [(variant.family, variant.family_parameters)] if variant else [*networks]
        first = [*wanted]
        if settings and settings.config:
            first.append((settings.config.family, settings.config.parameters))
        own = recognize(stored, first)
        scope, values, recognition = OWN_NAMES, stored, own
        description = _description(source, files, stored, own, progress) if source.scope is None else None
        model = None
        try:
            if description and files:
                layout = _KERAS_LAYOUTS.get(files.container, KERAS_VARIABLES)
                model = recognize_model(description, stored, layout, own, first, source.shown_as, progress)
            if model is None:
                scope = choose_scope(stored, own, wanted, source.scope, source.shown_as)
        except CheckpointError as error:
            if not accept_several:
                raise
            progress.warn(f"{error.what}: {', '.join(error.details)}")
        if model:
            recognition = model.recognition
            if model.mismatch and accept_several:
                progress.warn(f"{source.shown_as}: {model.mismatch}")
        elif scope.applied(stored) is not stored:
            values = scope.applied(stored)
            recognition = recognize(values, first)
            if recognition:
                title = recognition.family.describe(recognition.parameters)
                progress.note(f"scope: {printable(str(scope))} holds all variables of {title}")
        recognition = check_recognition(
            recognition, described=model is not None, shown_as=source.shown_as, progress=progress
        )
        named = recognition and files and network_named_by_module(recognition, files, source)
        mismatch = model.mismatch if model else None
        problems = settings.problems(recognition) if settings else ()
        if settings and problems and not accept_problems:
            raise settings.refusal(problems)
        for warning in settings.warnings(recognition) if settings and recognition else ():
            progress.warn(warning)
        object_based = isinstance(stored, ValuesByVariable)
        in_training_format = files is not None and files.container in ("V1", "V2") and not files.in_module
        yield OpenedCheckpoint(
            shown_as=source.shown_as,
            variant=variant,
            native=DamageReporting(stored, source.shown_as),
            scope=scope,
            values=DamageReporting(values, source.shown_as),
            recognition=named or recognition,
            named_by_module=bool(named),
            container=files.container if files else None,
            packed=source.packed,
            in_module=files is not None and files.in_module,
            object_based=object_based,
            of_training=in_training_format and not object_based,
            model_mismatch=mismatch,
            image_size=model.image_size if model else settings.image_size if settings else None,
            foreign=None if recognition or mismatch else _foreign(files, stored),
            settings=settings,
            problems=problems,
        )


def _description(
    source: Source,
    files: CheckpointFiles | None,
    stored: StoredValues,
    named: Recognition | None,
    progress: Progress,
) -> str | None:
    """Returns Keras' description of the model whose values are stored; None if there is none, or no need for it."""
    if files is None or (named and named.layout not in KERAS_LAYOUTS):
        return None
    if isinstance(stored, KerasValues):
        return stored.model_config
    return saved_model_description(source, progress) if isinstance(stored, ValuesByVariable) else None


def _foreign(files: CheckpointFiles | None, stored: StoredValues) -> str | None:
    if is_hugging_face(stored):  # The closest network says more.
        return None
    is_safetensors = files is not None and files.container == "safetensors"
    return foreign_network(stored.shapes, files.paths[0].parent if files and is_safetensors else None)
