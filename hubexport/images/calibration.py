"""Photographs that tell the ranges of a network's intermediate results, for quantization to int8."""

from collections.abc import Iterator
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from hubexport.arrays import Array
from hubexport.images.image_batches import apply_to_files
from hubexport.images.image_files import find_images, image_count_text
from hubexport.progress import Progress

if TYPE_CHECKING:
    from hubexport.deployments.inference_model import InferenceModel

# By the value of `InferenceModel.pixels`.
_WHITE = {"float": 1.0, "uint8": 255.0}


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Quantizes models by photographs.

    Attributes:
        images: an image file, a folder of them, or a pattern like `photos/**/*.jpg`. Some 100 photographs like those of
            later use are enough; others than those that measure the result.
        progress: receives the start of TensorFlow, the number of files done, a warning for each file that cannot be
            read, and the ranges of the outputs.
    """

    images: str | Path
    progress: Progress = dataclasses.field(default_factory=Progress, compare=False, repr=False)

    def quantized(self, content: bytes, model: "InferenceModel") -> bytes:
        """Quantizes a TFLite model to int8; see `hubexport.deployments.options.Calibration`.

        Raises:
            ImageError: there are no images, or none can be read.
        """
        files = find_images(self.images)
        height, width = model.network.default_image_size
        with self.progress.tensorflow_starting():
            from hubexport.runtime.tflite_quantization import quantized_model

        def images() -> Iterator[Array]:
            self.progress.step(f"calibrating with {image_count_text(len(files))}")
            batches = apply_to_files(lambda batch: batch, files, height, width, batch_size=1, progress=self.progress)
            for batch in batches:
                yield from batch.numbers

        done = quantized_model(content, images(), white=_WHITE[model.pixels], pixels=model.pixels)
        for name in model.outputs:
            if name in done.ranges:
                lowest, highest = done.ranges[name]
                self.progress.note(f"{name}: from {lowest:.4g} to {highest:.4g} in calibration")
        return done.content
