"""Photographs that tell the ranges of a network's intermediate results, for quantization to int8."""

from collections.abc import Iterator, Sequence
import dataclasses
import hashlib
from pathlib import Path

from hubexport.arrays import Array
from hubexport.deployments.options import CalibrationRecord, Pixels
from hubexport.errors import ImageError
from hubexport.images.image_batches import apply_to_files
from hubexport.images.image_files import find_images, image_count_text
from hubexport.progress import Progress
from hubexport.system.digests import file_sha256


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Quantizes models by photographs.

    Attributes:
        images: an image file, a folder of them, or a pattern like `photos/**/*.jpg`. Some 100 photographs like those of
            later use are enough; others than those that measure the result.
    """

    images: str | Path

    def quantized(
        self, content: bytes, *, image_size: tuple[int, int], pixels: Pixels, outputs: Sequence[str], progress: Progress
    ) -> bytes:
        """Quantizes a TFLite model to int8; see `hubexport.deployments.options.Calibration`.

        Raises:
            ImageError: there are no images, or none can be read.
        """
        files = find_images(self.images)
        height, width = image_size
        with progress.tensorflow_starting():
            from hubexport.runtime.tflite_quantization import quantized_model

        def images() -> Iterator[Array]:
            progress.step(f"calibrating with {image_count_text(len(files))}")
            batches = apply_to_files(lambda batch: batch, files, height, width, batch_size=1, progress=progress)
            for batch in batches:
                yield from batch.numbers

        done = quantized_model(content, images(), pixels)
        for name in outputs:
            if name in done.ranges:
                lowest, highest = done.ranges[name]
                progress.note(f"{name}: from {lowest:.4g} to {highest:.4g} in calibration")
        return done.content

    def record(self) -> CalibrationRecord:
        """Returns how many images there are, and a digest of them.

        Raises:
            ImageError: there are no images, or one cannot be read.
        """
        files, digest = find_images(self.images), hashlib.sha256()
        for file in files:
            try:
                digest.update(bytes.fromhex(file_sha256(file)))
            except OSError as error:
                raise ImageError(
                    f"cannot read {file}", why=error.strerror or str(error), fix="use images that you may read"
                ) from error
        return CalibrationRecord(len(files), digest.hexdigest())
