"""Turns images into arrays of the size that a module takes."""

from PIL import Image
import numpy as np

from hubexport.arrays import Array

_MAX_INTENSITY = 255


def to_array(image: Image.Image) -> Array:
    """Returns the intensities of an image.

    Args:
        image: an image in mode RGB.
    Returns:
        Float32 [height, width, 3], RGB, intensities in [0, 1].
    """
    return np.asarray(image, np.float32) / np.float32(_MAX_INTENSITY)


def resized(image: Image.Image, height: int, width: int) -> Array:
    """Resizes the whole image with Pillow's bilinear filter, without keeping its aspect ratio.

    Where the image shrinks, the filter averages all old pixels under a new one, like `tf.image.resize` with
    `antialias=True`.

    Args:
        image: an image in mode RGB.
        height: the new height in pixels.
        width: the new width in pixels.
    Returns:
        Float32 [height, width, 3], RGB, intensities in [0, 1].
    """
    return to_array(image.resize((width, height), Image.Resampling.BILINEAR))


def describe_resize(height: int, width: int) -> str:
    """Describes what `resized` does, for messages.

    Example:
        >>> describe_resize(192, 224)
        'each whole image is resized to 224 x 192 pixels (bilinear, aspect ratio not kept)'
    """
    return f"each whole image is resized to {width} x {height} pixels (bilinear, aspect ratio not kept)"
