"""How images are prepared for an evaluation; by default as for the published accuracies.

TF-Slim's `inception_preprocessing.preprocess_for_eval` takes the middle of an image and resizes it as TensorFlow 1
does: each new pixel is interpolated between four old ones, and all others are ignored, however large the image is.
TF-Slim then maps [0, 1] to [-1, 1]; the modules do this themselves.
"""

from collections.abc import Callable
import dataclasses

from PIL import Image
import numpy as np
import numpy.typing as npt

from hubexport.arrays import Array
from hubexport.evaluation.evaluation_options import CENTRAL_CROP, WHOLE
from hubexport.images.resizing import resized

# The part of the height and of the width that is kept.
CENTRAL_FRACTION = 0.875
_MAX_INTENSITY = 255


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """A way to prepare images for a module.

    Attributes:
        apply: takes an image in mode RGB, a height and a width in pixels, and returns float32 [height, width, 3], RGB,
            intensities in [0, 1].
        meaning: a description for the result.
        upright: apply the rotation in the image's EXIF data first. TensorFlow's decoders, which the published figures
            were measured with, ignore it.
    """

    apply: Callable[[Image.Image, int, int], Array]
    meaning: str
    upright: bool


def preprocess_for_eval(image: Image.Image, height: int, width: int) -> Array:
    """Crops and resizes an image as TF-Slim's function of this name does, bit for bit, except for the final range.

    Args:
        image: an image in mode RGB.
        height: the new height in pixels.
        width: the new width in pixels.
    Returns:
        Float32 [height, width, 3], RGB, intensities in [0, 1].
    """
    return resize_bilinear(central_crop(np.asarray(image)), height, width)


def central_crop(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns the middle of an image, as `tf.image.central_crop` does for `CENTRAL_FRACTION`.

    Args:
        pixels: uint8 [height, width, 3].
    Returns:
        Uint8 [cropped height, cropped width, 3].
    """
    top, left = (int((length - length * CENTRAL_FRACTION) / 2) for length in pixels.shape[:2])
    return pixels[top : pixels.shape[0] - top, left : pixels.shape[1] - left]


def resize_bilinear(pixels: npt.NDArray[np.uint8], height: int, width: int) -> Array:
    """Resizes an image as `tf.compat.v1.image.resize_bilinear` does: corners not aligned, no half-pixel centers.

    Args:
        pixels: uint8 [old height, old width, 3].
        height: the new height in pixels.
        width: the new width in pixels.
    Returns:
        Float32 [height, width, 3], intensities in [0, 1].
    """
    above, below, down = _neighbours(pixels.shape[0], height)
    left, right, rightward = _neighbours(pixels.shape[1], width)
    # Each row that the result needs is computed once, and the others are skipped.
    used, places = np.unique(np.concatenate([above, below]), return_inverse=True)
    intensities = pixels[used].astype(np.float32) * np.float32(1 / _MAX_INTENSITY)
    rows = _interpolate(intensities.take(left, axis=1), intensities.take(right, axis=1), rightward[:, np.newaxis])
    upper, lower = rows.take(places[:height], axis=0), rows.take(places[height:], axis=0)
    return _interpolate(upper, lower, down[:, np.newaxis, np.newaxis])


def _interpolate(start: Array, end: Array, fraction: Array) -> Array:
    """Returns `start + fraction * (end - start)`, and overwrites `end` to save memory."""
    end -= start
    end *= fraction
    end += start
    return end


def _neighbours(old_length: int, new_length: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Array]:
    """Returns, for each new pixel along an axis, the old pixels before and after it, and its place between the two."""
    place = np.arange(new_length, dtype=np.float32) * (np.float32(old_length) / np.float32(new_length))
    before = np.floor(place)
    index = before.astype(np.intp)
    return index, np.minimum(index + 1, old_length - 1), place - before


PREPROCESSINGS = {
    CENTRAL_CROP: Preprocessing(
        preprocess_for_eval, f"central crop {CENTRAL_FRACTION}, bilinear as in TensorFlow 1", upright=False
    ),
    WHOLE: Preprocessing(resized, "the whole picture, bilinear with antialiasing", upright=True),
}
