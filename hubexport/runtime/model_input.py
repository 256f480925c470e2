"""Images as models take them, and outputs as they give them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hubexport.arrays import Array
from hubexport.deployments.options import Layout
from hubexport.modules.deployment_interface import DeploymentInterface
from hubexport.modules.image_interface import ImageInterface

_TO_CHANNELS_FIRST = (0, 3, 1, 2)
_TO_CHANNELS_LAST = (0, 2, 3, 1)


def in_range(images: Array, interface: ImageInterface) -> Array:
    """Maps images from [0, 1] to a model's range."""
    low, high = interface.input_range
    return images if (low, high) == (0, 1) else images * np.float32(high - low) + np.float32(low)


def as_input(images: Array, interface: DeploymentInterface) -> npt.NDArray[Any]:
    """Returns images in a deployment's range, dtype and layout.

    Args:
        images: float32 [batch, height, width, 3], RGB, intensities in [0, 1].
        interface: how the deployment is run. A quantized input of another dtype than uint8 is left as float32.
    """
    images = in_range(images, interface)
    pixels = np.rint(images).astype(np.uint8) if interface.images.dtype == "uint8" else images
    return pixels if interface.layout == "nhwc" else np.ascontiguousarray(pixels.transpose(_TO_CHANNELS_FIRST))


def channels_last(output: Array, layout: Layout) -> Array:
    """Returns an output with its channels last: that of an endpoint in a deployment that has them first."""
    return output.transpose(_TO_CHANNELS_LAST) if layout == "nchw" and output.ndim == 4 else output


def in_batches(
    images: npt.NDArray[Any], batch: int | None, run: Callable[[npt.NDArray[Any]], dict[str, Array]]
) -> dict[str, Array]:
    """Runs a deployment that takes a fixed number of images at once.

    Args:
        images: in any number, on the first axis.
        batch: how many it takes; None for any number.
        run: runs it on as many.
    Returns:
        All outputs, an image's on the first axis.
    """
    if batch is None or batch == len(images):
        return run(images)
    results = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        filled = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), part.dtype)])
        results.append({key: value[: len(part)] for key, value in run(filled).items()})
    return {key: np.concatenate([one[key] for one in results]) for key in results[0]}
