"""What modules are run on: made-up pictures, and photographs if the user has some."""

from collections.abc import Sequence
import dataclasses
from pathlib import Path

import numpy as np

from hubexport.arrays import Array

_SEED = 20180414


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Images of one size.

    Attributes:
        names: one each.
        images: float32 [number, height, width, 3], RGB, intensities in [0, 1].
    """

    names: tuple[str, ...]
    images: Array


def random_pictures(height: int, width: int) -> Pictures:
    """Returns noise, whose values are independent, and soft clouds, whose neighbours are alike as in photographs."""
    generator = np.random.Generator(np.random.PCG64(_SEED))
    noise = generator.random((height, width, 3), np.float32)
    coarse = generator.random((8, 8, 3), np.float32)
    rows, columns = (np.linspace(0, 7, size) for size in (height, width))
    clouds = np.stack([_interpolated(coarse[..., channel], rows, columns) for channel in range(3)], axis=-1)
    return Pictures(("noise", "clouds"), np.stack([noise, clouds.astype(np.float32)]))


def extreme_pictures(height: int, width: int) -> Pictures:
    """Returns the darkest and the brightest picture that there is: all 0, and all 1."""
    black = np.zeros((height, width, 3), np.float32)
    return Pictures(("black", "white"), np.stack([black, black + 1]))


def _interpolated(grid: Array, rows: Array, columns: Array) -> Array:
    """Interpolates linearly between the points of a grid."""
    lines = np.stack([np.interp(columns, np.arange(grid.shape[1]), line) for line in grid])
    return np.stack([np.interp(rows, np.arange(grid.shape[0]), line) for line in lines.T], axis=1)


def photographs(paths: Sequence[Path], height: int, width: int) -> Pictures:
    """Reads photographs, and resizes them as `hubexport classify` does.

    Raises:
        ImageError: one cannot be read.
    """
    from hubexport.images.read_image import read_image
    from hubexport.images.resizing import resized  # Pillow: not worth waiting for without photographs.

    images = [resized(read_image(path), height, width) for path in paths]
    return Pictures(tuple(path.name for path in paths), np.stack(images))
