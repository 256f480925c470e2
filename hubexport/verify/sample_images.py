"""The images that checks run a module on: made-up ones, and the user's photographs."""

from collections.abc import Sequence
import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from hubexport.arrays import Array

SampleKind = Literal["random", "extreme", "photographs"]

_SEED = 20180414
# Points per side of the grid that clouds are interpolated from.
_CLOUD_POINTS = 8


@dataclasses.dataclass(frozen=True)
class SampleImages:
    """Images of one size.

    Attributes:
        kind: what they show.
        names: one per image.
        images: float32 [number, height, width, 3], RGB, intensities in [0, 1].
    """

    kind: SampleKind
    names: tuple[str, ...]
    images: Array


def random_images(height: int, width: int) -> SampleImages:
    """Returns noise, whose pixels are independent, and soft clouds, whose neighbours are alike as in photographs.

    The images depend on their size alone.
    """
    generator = np.random.Generator(np.random.PCG64(_SEED))
    noise = generator.random((height, width, 3), np.float32)
    grid = generator.random((_CLOUD_POINTS, _CLOUD_POINTS, 3), np.float32)
    rows, columns = (np.linspace(0, _CLOUD_POINTS - 1, size) for size in (height, width))
    clouds = np.stack([_interpolated(grid[..., channel], rows, columns) for channel in range(3)], axis=-1)
    return SampleImages("random", ("noise", "clouds"), np.stack([noise, clouds.astype(np.float32)]))


def _interpolated(grid: Array, rows: Array, columns: Array) -> Array:
    """Interpolates linearly between the points of a grid."""
    lines = np.stack([np.interp(columns, np.arange(grid.shape[1]), line) for line in grid])
    return np.stack([np.interp(rows, np.arange(grid.shape[0]), line) for line in lines.T], axis=1)


def extreme_images(height: int, width: int) -> SampleImages:
    """Returns the darkest and the brightest image possible: all 0, and all 1."""
    black = np.zeros((height, width, 3), np.float32)
    return SampleImages("extreme", ("black", "white"), np.stack([black, black + 1]))


def read_photographs(paths: Sequence[Path], height: int, width: int) -> SampleImages:
    """Reads photographs, and resizes them as `hubexport classify` does.

    Raises:
        ImageError: a file is missing or is not a readable image.
    """
    from hubexport.images.read_image import read_image
    from hubexport.images.resizing import resized  # Pillow: not worth waiting for without photographs.

    images = [resized(read_image(path), height, width) for path in paths]
    return SampleImages("photographs", tuple(path.name for path in paths), np.stack(images))
