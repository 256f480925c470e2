"""What checks look at: the module's parts and what they should be, each computed when it is first asked for.

TensorFlow is imported by what needs it, and not before: checks of files and weights do without.
"""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import functools
import sys
from typing import TYPE_CHECKING

import numpy as np

from hubexport.arrays import Array
from hubexport.checkpoints.dtypes import NUMPY_NUMBERS
from hubexport.checkpoints.object_based import ValuesByVariable
from hubexport.checkpoints.stored_values import DamageError, StoredValues
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.consumers.judge import ModuleContract
from hubexport.consumers.registry import installed
from hubexport.consumers.use_module import ModuleUse, start_use
from hubexport.errors import ModuleError
from hubexport.modules.identity import ModuleIdentity
from hubexport.modules.image_interface import hub_interface
from hubexport.modules.module_report import ModuleReport, describe_module, read_saved_model
from hubexport.networks.layers import Network
from hubexport.networks.numpy_forward import Forward
from hubexport.progress import Progress
from hubexport.protos import Message
from hubexport.verify.finding import NotApplicable
from hubexport.verify.layer_errors import LIMIT_IN_FLOORS, PictureErrors, measure_layers
from hubexport.verify.sample_images import Pictures, extreme_pictures, random_pictures

if TYPE_CHECKING:
    from hubexport.runtime.image_module import HubModule
    from hubexport.runtime.trainable_module import TrainableModule, TrainingStep

_VALUES = "variables"
_COTANGENT_SEED = 2
LEARNING_RATE = 1e-3
_PRECISIONS = (np.float64, np.float32)


@dataclasses.dataclass(frozen=True)
class ExpectedValues:
    """What a module's values should be.

    Attributes:
        shown_as: what messages call the checkpoint.
        weights: which of its values, as `hubexport.json` says it: `averaged`, `raw`, so many of each, or `only`.
        values: by variable name.
        other: the values of the other choice, by its name, for those that have both.
        frozen_graph: reads the publisher's own GraphDef, serialized; None if there is none beside the checkpoint.
    """

    shown_as: str
    weights: str
    values: Mapping[str, Array]
    other: Mapping[str, Mapping[str, Array]]
    frozen_graph: Callable[[], bytes | None]


class VerificationContext:
    """Everything about one module that checks may ask for, as long as the context lasts.

    Args:
        subject: the module, and what it should be.
        trained: what it was made from; None if that is not at hand.
        photographs: of the module's size; None if there are none.
        progress: hears of the start of TensorFlow.
    """

    def __init__(
        self,
        subject: ModuleIdentity,
        trained: ExpectedValues | None = None,
        photographs: Pictures | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.subject = subject
        self.trained = trained
        self._photographs = photographs
        self._progress = progress or Progress()
        self._stack = contextlib.ExitStack()
        # Whether anything was computed by TensorFlow.
        self.used_tensorflow = False

    def __enter__(self) -> "VerificationContext":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def network(self) -> Network:
        """What the module should compute."""
        return self.subject.network

    @functools.cached_property
    def report(self) -> ModuleReport:
        """The module as `hubexport inspect` describes it."""
        return describe_module(self.subject.directory, self.subject.shown_as)

    @functools.cached_property
    def saved_model(self) -> Message:
        """The module's `saved_model.pb`."""
        return read_saved_model(self.subject.directory, self.subject.shown_as)

    @functools.cached_property
    def stored(self) -> dict[str, Array]:
        """The values in the module's `variables` folder, by variable name; those of dtypes that NumPy has.

        Raises:
            ModuleError: they are damaged.
        """
        try:
            values = self.open_stored()
            return {name: values.read(name) for name in values.shapes if values.dtype(name) in NUMPY_NUMBERS}
        except (DamageError, OSError) as error:
            raise ModuleError(
                f"cannot read the values of {self.subject.shown_as}", why=str(error), fix="build or fetch it again"
            ) from error

    @property
    def unchecked(self) -> list[str]:
        """The names of values that `stored` lacks."""
        stored = self.stored
        return [name for name in self.open_stored().shapes if name not in stored]

    def open_stored(self) -> StoredValues:
        """Opens the module's `variables` folder, by variable name.

        Raises:
            DamageError, OSError: it is damaged, or cannot be read.
        """
        reader = BundleReader(self.subject.directory / _VALUES / _VALUES)
        return reader if self.subject.is_tf1 else ValuesByVariable(reader)

    @property
    def values(self) -> Mapping[str, Array]:
        """What the network's variables should be: the checkpoint's values, or without one the module's own.

        Raises:
            ModuleError: the module's own are not all there, or not of the right shapes.
        """
        return self.trained.values if self.trained else self._own_values

    @functools.cached_property
    def _own_values(self) -> dict[str, Array]:
        wanted = {variable.name: variable.shape for variable in self.network.variables}
        wrong = [name for name in wanted if name not in self.stored or self.stored[name].shape != wanted[name]]
        if wrong:
            raise ModuleError(
                f"cannot compute the expected outputs of {self.subject.shown_as}",
                why=f"its variable {wrong[0]} is missing or has the wrong shape",
                fix="build or fetch it again, or give its --checkpoint",
            )
        return {name: self.stored[name] for name in wanted}

    @functools.cached_property
    def random(self) -> Pictures:
        """Made-up pictures of the module's size."""
        return random_pictures(*self.network.image_shape[:2])

    @functools.cached_property
    def extremes(self) -> Pictures:
        """All 0 and all 1."""
        return extreme_pictures(*self.network.image_shape[:2])

    @property
    def photographs(self) -> Pictures:
        """Those that the user named.

        Raises:
            NotApplicable: there are none.
        """
        if self._photographs is None:
            raise NotApplicable("no photographs were given (--images)")
        return self._photographs

    @functools.cached_property
    def module(self) -> "HubModule":
        """The module in TensorFlow, for inference."""
        self._start_tensorflow()
        from hubexport.runtime.image_module import opened_hub_module

        interface = hub_interface(self.subject.directory, self.subject.shown_as)
        return self._stack.enter_context(opened_hub_module(interface))

    @functools.cached_property
    def training(self) -> "TrainableModule":
        """The module in TensorFlow, for training."""
        self._start_tensorflow()
        from hubexport.runtime.training import opened_for_training

        return self._stack.enter_context(opened_for_training(self.subject.directory, is_tf1=self.subject.is_tf1))

    @functools.cached_property
    def training_pictures(self) -> Array:
        """A batch of four for training, no two of them alike."""
        pictures = self.random.images
        return np.concatenate([pictures, 1 - pictures[:, ::-1]])

    @functools.cached_property
    def cotangent(self) -> Array:
        """What the gradients of the outputs are, to a loss that is made up: float32 [4, outputs]."""
        generator = np.random.Generator(np.random.PCG64(_COTANGENT_SEED))
        shape = (len(self.training_pictures), *self.network.shapes[self.default_layer])
        return generator.standard_normal(shape, np.float32)

    @property
    def default_layer(self) -> str:
        """The layer that gives a module's default output: the logits, or else the features."""
        return self.network.logits or self.network.features

    @functools.cached_property
    def training_step(self) -> "TrainingStep":
        """One step of gradient descent, after which the variables have their first values again."""
        step = self.training.train(self.training_pictures, self.cotangent, LEARNING_RATE)
        self.training.reset()
        return step

    def promise(self, images: Array) -> ModuleContract:
        """Returns what a consumer should get for images, with the outputs of the float64 network."""
        exact, rounded = (Forward(self.network, self.values, images, dtype=dtype).run() for dtype in _PRECISIONS)
        layers = {"default": self.default_layer}
        if self.subject.is_tf1:  # There signatures have names that say what they give.
            layers["image_feature_vector"] = self.network.features
        if self.subject.is_tf1 and self.network.logits:
            layers["image_classification"] = self.network.logits
        floor = float(np.abs(rounded[self.default_layer] - exact[self.default_layer]).max())
        expected = {name: exact[layer] for name, layer in layers.items()}
        return ModuleContract(self.subject.spec.version, self.network, expected, LIMIT_IN_FLOORS * floor)

    @functools.cached_property
    def installed_use(self) -> ModuleUse:
        """The use of the module by the installed tensorflow_hub, which begins when this is first asked for.

        Raises:
            ConsumerError: there is no tensorflow_hub.
        """
        images = self.random.images
        return self._stack.enter_context(
            start_use(
                installed(),
                self.subject.directory,
                images,
                self.promise(images),
                thorough=False,
                shown_as=self.subject.shown_as,
            )
        )

    @functools.cached_property
    def errors_on_random(self) -> list[PictureErrors]:
        """The errors of all layers on made-up pictures."""
        return self._measure(self.random)

    @functools.cached_property
    def errors_on_extremes(self) -> list[PictureErrors]:
        """The errors of all layers on the extremes."""
        return self._measure(self.extremes)

    @functools.cached_property
    def errors_on_photographs(self) -> list[PictureErrors]:
        """The errors of all layers on photographs; raises NotApplicable without any."""
        return self._measure(self.photographs)

    @property
    def photograph_errors(self) -> list[PictureErrors]:
        """What was measured on photographs, if a check asked for it."""
        return self.__dict__.get("errors_on_photographs", [])

    @property
    def measured(self) -> list[PictureErrors]:
        """All that was measured so far."""
        made_up = [self.__dict__.get(name, []) for name in ("errors_on_random", "errors_on_extremes")]
        return [*made_up[0], *made_up[1], *self.photograph_errors]

    def _measure(self, pictures: Pictures) -> list[PictureErrors]:
        return measure_layers(self.module, self.network, self.values, pictures)

    def _start_tensorflow(self) -> None:
        self.used_tensorflow = True
        if "tensorflow" not in sys.modules:
            with self._progress.tensorflow_starting():
                import hubexport.runtime.tf1_graph  # noqa: F401  Takes seconds.
