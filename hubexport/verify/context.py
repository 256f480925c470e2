"""Everything about one module that checks ask for, each part computed when a check first needs it.

Only the parts that run the module import TensorFlow, so that checks of files and weights do without it.
"""

from collections.abc import Mapping, Sequence
import contextlib
import functools
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from hubexport.arrays import Array
from hubexport.consumers.judge import Application, ModuleContract
from hubexport.modules.identity import ModuleIdentity
from hubexport.modules.module_report import ModuleReport, describe_module, read_saved_model
from hubexport.modules.saved_model_interface import hub_interface
from hubexport.modules.values import network_values, read_stored_values
from hubexport.networks.network import Network
from hubexport.progress import Progress
from hubexport.protos import Message
from hubexport.runtime.steady_copy import steady_copy
from hubexport.system.garbage_collection import rare_collections
from hubexport.system.temporary import temporary_directory, temporary_failures_reported
from hubexport.verify.artifact_context import ArtifactContext
from hubexport.verify.expected_values import ExpectedValues
from hubexport.verify.layer_errors import LIMIT_IN_FLOORS, ImageErrors, measure_layer_errors
from hubexport.verify.sample_images import SampleImages, extreme_images, random_images
from hubexport.verify.training_reference import TrainingReference, measure_training, training_gammas
from hubexport.verify.two_precisions import TwoPrecisions

if TYPE_CHECKING:
    from hubexport.runtime.image_module import HubModule
    from hubexport.runtime.trainable_module import Cotangents, TrainableModule, TrainingPass, TrainingStep

_COTANGENT_SEED = 2
# That of the steps of gradient descent.
LEARNING_RATE = 1e-3


class VerificationContext(ArtifactContext):
    """Everything about one module that checks ask for, until the context ends; see also `ArtifactContext`.

    Attributes:
        used_tensorflow: whether a check has run anything in the installed TensorFlow.
    """

    def __init__(
        self,
        module: ModuleIdentity,
        expected: ExpectedValues | None,
        photographs: SampleImages | None,
        progress: Progress,
    ) -> None:
        super().__init__(module, expected, photographs, progress)
        self.used_tensorflow = False

    @property
    def runtime_versions(self) -> dict[str, str]:
        """TensorFlow's version, if a check used it."""
        return {"TensorFlow": sys.modules["tensorflow"].__version__} if self.used_tensorflow else {}

    @functools.cached_property
    def report(self) -> ModuleReport:
        """The module as `hubexport inspect` describes it."""
        return describe_module(self.module.directory, self.module.shown_as)

    @functools.cached_property
    def saved_model(self) -> Message:
        """The module's `saved_model.pb`."""
        return read_saved_model(self.module.directory, self.module.shown_as)

    @functools.cached_property
    def stored_values(self) -> dict[str, Array]:
        """All values that the module stores, by variable name; see `hubexport.modules.values.read_stored_values`."""
        return read_stored_values(self.module)

    @property
    def network(self) -> Network:
        """The network that the module should compute."""
        return self.module.network

    @functools.cached_property
    def reference_values(self) -> Mapping[str, Array]:
        """The values that references compute with: the checkpoint's, or the module's own if no checkpoint was given.

        Raises:
            ModuleError: the module's own values are incomplete or have wrong shapes.
        """
        return self.expected.values if self.expected else network_values(self.module, self.stored_values)

    @property
    def default_layer(self) -> str:
        """The layer whose output is the module's default output: the logits, or else the features."""
        return self.network.logits or self.network.features

    @functools.cached_property
    def random_images(self) -> SampleImages:
        """Noise and soft clouds."""
        return random_images(*self.network.default_image_size)

    @functools.cached_property
    def extreme_images(self) -> SampleImages:
        """All 0, and all 1."""
        return extreme_images(*self.network.default_image_size)

    @functools.cached_property
    def training_images(self) -> Array:
        """A training batch of four different images, float32 [4, height, width, 3] in [0, 1]."""
        images = self.random_images.images
        return np.concatenate([images, 1 - images[:, ::-1]])

    @functools.cached_property
    def cotangent(self) -> Array:
        """The gradient of a made-up loss by the default output for the training batch, float32 [4, outputs]."""
        return self._random_cotangent(_COTANGENT_SEED, self.network.num_outputs)

    @functools.cached_property
    def _features_cotangent(self) -> Array:
        """The same by the features, for the signatures that return them."""
        return self._random_cotangent(_COTANGENT_SEED + 1, self.network.num_features)

    def _random_cotangent(self, seed: int, length: int) -> Array:
        generator = np.random.Generator(np.random.PCG64(seed))
        return generator.standard_normal((len(self.training_images), length), np.float32)

    @functools.cached_property
    def inference(self) -> "HubModule":
        """The module in the installed TensorFlow, for inference."""
        self._start_tensorflow()
        from hubexport.runtime.image_module import opened_hub_module

        interface = hub_interface(self.report, self.module.directory)
        loaded = opened_hub_module(interface, optimized=False, load=lambda _: self._loaded_by_hub)
        return self._stack.enter_context(loaded)

    @functools.cached_property
    def _loaded_by_hub(self) -> Any:
        from hubexport.consumers.hub_apis import load_tf2

        return load_tf2(self.module.directory)

    @functools.cached_property
    def training(self) -> "TrainableModule":
        """The module in the installed TensorFlow, for training, where dropout and dropped paths keep everything."""
        self._start_tensorflow()
        from hubexport.runtime.tf1_training import Tf1Training
        from hubexport.runtime.tf2_training import Tf2Training

        what = f"cannot train {self.module.shown_as}"
        scratch = self._stack.enter_context(temporary_directory(what))
        with temporary_failures_reported(what):
            directory = steady_copy(self.module.directory, self.saved_model, scratch)
        if self.module.is_tf1:
            return Tf1Training(directory, self._training_gammas, self._stack)
        [meta_graph] = self.saved_model.meta_graphs
        return Tf2Training(directory, self._training_gammas, meta_graph)

    @functools.cached_property
    def _training_gammas(self) -> dict[str, Array]:
        return training_gammas(self.network, self.reference_values)

    @functools.cached_property
    def values_before_training(self) -> dict[str, Array]:
        """The values that the module is trained from, by variable name."""
        return {**self.stored_values, **self._training_gammas}

    @functools.cached_property
    def training_reference(self) -> TrainingReference:
        """The float64 network in training mode, on the training batch, where dropout keeps everything."""
        values = {**self.reference_values, **self._training_gammas}
        return measure_training(self.network, values, self.training_images)

    @functools.cached_property
    def training_steps(self) -> "list[TrainingStep]":
        """A step of gradient descent in each way to apply the module, on the training batch."""
        return self.training.train(self.training_images, self.cotangents(), LEARNING_RATE)

    @functools.cached_property
    def training_passes(self) -> "list[TrainingPass]":
        """What the module computes for the training batch, with its default momentum, in each way to apply it."""
        return [*self.training_steps, *self.training.passes(self.training_images)]

    def cotangents(self, count: int | None = None) -> "Cotangents":
        """Returns the gradient of a made-up loss by each main output, for the first images of the training batch."""
        return {"default": self.cotangent[:count], "features": self._features_cotangent[:count]}

    def layer_errors(self, samples: SampleImages) -> list[ImageErrors]:
        """Returns the errors of all layers on sample images. The first call measures them into `measurements`."""
        if samples.kind not in self.measurements:
            errors = measure_layer_errors(self.inference, self.network, self.reference_values, samples)
            self.measurements[samples.kind] = errors
        return self.measurements[samples.kind]

    def _start_tensorflow(self) -> None:
        if self.used_tensorflow:
            return
        self.used_tensorflow = True
        self._stack.enter_context(rare_collections())
        with self._progress.tensorflow_starting() if "tensorflow" not in sys.modules else contextlib.nullcontext():
            from hubexport.runtime.graph_optimizer import graph_optimizer  # Takes seconds.
        self._stack.enter_context(graph_optimizer(on=False))

    def contract(self, images: Array) -> ModuleContract:
        """Returns what consumers should get for a batch of images: the float64 network's outputs, within the limit."""
        network, values = self.network, self.reference_values
        kept = {self.default_layer, network.features}
        exact, rounded = TwoPrecisions(network, values, images).run(kept)
        floor = float(np.abs(rounded[self.default_layer] - exact[self.default_layer]).max())
        expected = {"default": exact[self.default_layer]}
        if self.module.is_tf1:  # In this format, the names of signatures say what they return.
            expected["image_feature_vector"] = exact[network.features]
            if network.logits:
                expected["image_classification"] = exact[network.logits]
        version = self.module.spec.version
        return ModuleContract(version, network, images, values, expected, LIMIT_IN_FLOORS * floor)

    def apply_by_every_api(self, batches: Sequence[Array]) -> dict[str, Application]:
        """Applies the module with the installed tensorflow_hub; see `hubexport.consumers.hub_apis`."""
        self._start_tensorflow()
        from hubexport.consumers.hub_apis import apply_tf1, apply_tf2
        from hubexport.runtime.graph_optimizer import graph_optimizer

        with graph_optimizer(on=True):  # As in other programs.
            if self.module.is_tf1:
                return apply_tf1(self.module.directory, batches)
            return apply_tf2(self._loaded_by_hub, batches)
