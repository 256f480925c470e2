"""What happens to a picture before a module sees it, as in the evaluation of the published figures.

TF-Slim's `inception_preprocessing.preprocess_for_eval` takes the middle of a picture and resizes it as TensorFlow 1
does: each pixel of the result lies between four pixels of the picture, and no others matter, however large it is. The
step from [0, 1] to [-1, 1] that follows there is in the modules.
"""

from collections.abc import Callable
import dataclasses

from PIL import Image
import numpy as np
import numpy.typing as npt

from hubexport.arrays import Array
from hubexport.images.preprocessing import resized

# Of the height and of the width.
CENTRAL_FRACTION = 0.875
_MAX_INTENSITY = 255


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """A way from a picture to what a module takes.

    Attributes:
        apply: takes a picture in mode RGB, a height and a width in pixels; gives float32 [height, width, 3], RGB,
            intensities in [0, 1].
        meaning: for people.
        upright: whether pictures are turned as their EXIF data say before; TensorFlow's decoders, with which the
            published figures were measured, know nothing of them.
    """

    apply: Callable[[Image.Image, int, int], Array]
    meaning: str
    upright: bool


def for_evaluation(image: Image.Image, height: int, width: int) -> Array:
    """Prepares a picture as TF-Slim does for evaluation, bit for bit, but for the decoding and the range.

    Args:
        image: in mode RGB.
        height: in pixels.
        width: in pixels.
    Returns:
        Float32 [height, width, 3], RGB, intensities in [0, 1].
    """
    return resize_bilinear(central_crop(np.asarray(image)), height, width)


def central_crop(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Returns the middle of a picture: what `tf.image.central_crop` takes for `CENTRAL_FRACTION`.

    Args:
        pixels: uint8 [height, width, 3].
    """
    top, left = (int((length - length * CENTRAL_FRACTION) / 2) for length in pixels.shape[:2])
    return pixels[top : pixels.shape[0] - top, left : pixels.shape[1] - left]


def resize_bilinear(pixels: npt.NDArray[np.uint8], height: int, width: int) -> Array:
    """Resizes as `tf.compat.v1.image.resize_bilinear` does: corners not aligned, no half-pixel centers.

    Args:
        pixels: uint8 [height before, width before, 3].
        height: in pixels.
        width: in pixels.
    Returns:
        Float32 [height, width, 3], intensities in [0, 1].
    """
    above, below, down = _neighbours(pixels.shape[0], height)
    left, right, rightward = _neighbours(pixels.shape[1], width)
    # Rows that more than one row of the result needs are computed once, others not at all.
    used, places = np.unique(np.concatenate([above, below]), return_inverse=True)
    intensities = pixels[used].astype(np.float32) * np.float32(1 / _MAX_INTENSITY)
    rows = _between(intensities.take(left, axis=1), intensities.take(right, axis=1), rightward[:, np.newaxis])
    upper, lower = rows.take(places[:height], axis=0), rows.take(places[height:], axis=0)
    return _between(upper, lower, down[:, np.newaxis, np.newaxis])


def _between(one: Array, other: Array, fraction: Array) -> Array:
    """Returns what is between two arrays, in the memory of the second."""
    other -= one
    other *= fraction
    other += one
    return other


def _neighbours(before: int, after: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Array]:
    """Returns for each new pixel of an axis the old ones before and after it, and how far it is on the way."""
    place = np.arange(after, dtype=np.float32) * (np.float32(before) / np.float32(after))
    first = np.floor(place)
    index = first.astype(np.intp)
    return index, np.minimum(index + 1, before - 1), place - first


CENTRAL_CROP = "central_crop"
PREPROCESSINGS = {
    CENTRAL_CROP: Preprocessing(
        for_evaluation, f"central crop {CENTRAL_FRACTION}, bilinear as in TensorFlow 1", upright=False
    ),
    "whole": Preprocessing(resized, "the whole picture, bilinear with antialiasing", upright=True),
}
