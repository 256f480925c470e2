"""Everything about one deployment that checks ask for, each part computed when a check first needs it."""

from collections.abc import Mapping
import contextlib
import functools
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from hubexport.arrays import Array
from hubexport.deployment_spec import DeploymentSpec
from hubexport.deployments.inference_model import InferenceModel, inference_model, with_outputs
from hubexport.deployments.report import DeploymentReport
from hubexport.modules.deployment_interface import deployment_interface
from hubexport.modules.identity import ModuleIdentity
from hubexport.modules.interface_hints import InterfaceHints
from hubexport.networks.network import Network
from hubexport.progress import Progress
from hubexport.verify.artifact_context import ArtifactContext
from hubexport.verify.expected_values import ExpectedValues
from hubexport.verify.finding import NotApplicable
from hubexport.verify.layer_errors import (
    LIMIT_IN_FLOORS,
    ImageErrors,
    LayerDeviation,
    layer_difference,
    output_floor,
)
from hubexport.verify.quantization_steps import quantized_outputs
from hubexport.verify.sample_images import SampleImages
from hubexport.verify.two_precisions import TwoPrecisions

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule

# How far quantized outputs may be off, in the floors that rounding to steps gives by itself.
LIMIT_IN_STEP_FLOORS = 4


class DeploymentContext(ArtifactContext):
    """Everything about one deployment that checks ask for, until the context ends; see also `ArtifactContext`.

    Attributes:
        spec: what it should be.
    """

    def __init__(
        self,
        module: ModuleIdentity,
        expected: ExpectedValues | None,
        photographs: SampleImages | None,
        progress: Progress,
    ) -> None:
        super().__init__(module, expected, photographs, progress)
        assert isinstance(module.spec, DeploymentSpec)
        self.spec: DeploymentSpec = module.spec

    @property
    def runtime_versions(self) -> dict[str, str]:
        """The versions of what ran it, if a check did, and of what decides its bytes."""
        versions = {name: metadata.version(name) for name in self.spec.packages}
        if "inference" in vars(self):
            engine, _, version = self.inference.engine.rpartition(" ")
            versions[engine] = version
        return versions

    @functools.cached_property
    def report(self) -> DeploymentReport:
        """The deployment as `hubexport inspect` describes it."""
        return self.spec.deployment.report(self.module.directory / self.spec.deployment.file)

    @property
    def values(self) -> Mapping[str, Array]:
        """The values that it should have been made of.

        Raises:
            NotApplicable: no checkpoint was given.
        """
        if self.expected is None:
            raise NotApplicable("its values are folded, and no checkpoint was given (--checkpoint)")
        return self.expected.values

    @functools.cached_property
    def model(self) -> InferenceModel:
        """What it should be written from, but for names of classes.

        Raises:
            NotApplicable: no checkpoint was given.
        """
        variant, spec = self.module.variant, self.spec
        return inference_model(variant.name, self.module.network, self.values, spec.options, endpoints=spec.endpoints)

    @functools.cached_property
    def network(self) -> Network:
        """The network, not folded, whose ops give all outputs."""
        return self._network_and_outputs[0]

    @property
    def outputs(self) -> Mapping[str, str]:
        """The op of each output by the output's name; the first is the main one."""
        return self._network_and_outputs[1]

    @functools.cached_property
    def _network_and_outputs(self) -> tuple[Network, dict[str, str]]:
        return with_outputs(self.module.network, self.spec.endpoints, softmax=self.spec.options.softmax)

    @functools.cached_property
    def inference(self) -> "ImageModule":
        """The deployment in the runtime that is installed for its format."""
        from hubexport.runtime.deployment_runners import RUNNERS, opened_deployment

        size = self.module.variant.image_size
        hints = InterfaceHints(image_size=(size, size) if None in self.module.network.image_shape else None)
        path = self.module.directory / self.spec.deployment.file
        interface = deployment_interface(path, self.spec.deployment, hints)
        in_tensorflow = RUNNERS[self.spec.format].extra == "tensorflow"
        with self._progress.tensorflow_starting() if in_tensorflow else contextlib.nullcontext():
            return self._stack.enter_context(opened_deployment(interface))

    def errors(self, samples: SampleImages) -> list[ImageErrors]:
        """Compares all outputs with the network in float64, image by image.

        Raises:
            NotApplicable: no checkpoint was given.
        """
        if samples.kind not in self.measurements:
            self.measurements[samples.kind] = self.measured(samples)
        return self.measurements[samples.kind]

    def measured(self, samples: SampleImages) -> list[ImageErrors]:
        """The same for images of another size."""
        quantization = getattr(self.spec.options, "quantize", "none")
        by_name = {op.name: op for op in self.network.ops}
        keep = {*self.outputs.values(), *(name for op in self.outputs.values() for name in by_name[op].inputs)}
        [main, *endpoints] = self.outputs
        errors = []
        for name, image in zip(samples.names, samples.images, strict=True):
            images = self._as_given(image[np.newaxis])
            found = self.inference.run(images, ["default", *endpoints])
            exact, rounded = TwoPrecisions(self.network, self.values, images).run(keep)
            stepped = {} if quantization == "none" else quantized_outputs(self.model, quantization, images)
            deviations = {}
            for key, op in self.outputs.items():
                floor = output_floor(by_name[op], rounded, exact)
                if key in stepped:
                    floor += layer_difference(stepped[key], exact[op]) * LIMIT_IN_STEP_FLOORS / LIMIT_IN_FLOORS
                error = layer_difference(found["default" if key == main else key], exact[op])
                deviations[op] = LayerDeviation(float(np.abs(exact[op]).max()), error, floor)
            vectors = {op: output[0] for op, output in exact.items() if output[0].ndim == 1}
            errors.append(ImageErrors(name, deviations, vectors, found["default"][0]))
        return errors

    def _as_given(self, images: Array) -> Array:
        """Returns images as a model of 8-bit intensities sees them."""
        if self.spec.options.pixels == "uint8":
            return (np.round(images * 255) / 255).astype(np.float32)
        return images
