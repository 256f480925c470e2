"""What modules take: pictures of their size, as numbers."""

from PIL import Image
import numpy as np

from hubexport.arrays import Array

_WHITE = 255


def to_array(image: Image.Image) -> Array:
    """Returns a picture's intensities.

    Args:
        image: in mode RGB.
    Returns:
        Float32 [height, width, 3], RGB, intensities in [0, 1].
    """
    return np.asarray(image, np.float32) / np.float32(_WHITE)


def resized(image: Image.Image, height: int, width: int) -> Array:
    """Resizes the whole picture to exactly this size, whatever its aspect ratio, by Pillow's bilinear filter.

    Where it gets smaller, the filter averages all pixels that fall together; `tf.image.resize` does so with
    `antialias=True`.

    Args:
        image: in mode RGB.
        height: in pixels.
        width: in pixels.
    Returns:
        Float32 [height, width, 3], RGB, intensities in [0, 1].
    """
    return to_array(image.resize((width, height), Image.Resampling.BILINEAR))


def describe_resize(height: int, width: int) -> str:
    """Returns what `resized` does, for people.

    Example:
        >>> describe_resize(192, 224)
        'each whole image is resized to 224 x 192 pixels (bilinear, aspect ratio not kept)'
    """
    return f"each whole image is resized to {width} x {height} pixels (bilinear, aspect ratio not kept)"
