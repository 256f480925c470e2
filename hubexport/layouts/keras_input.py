"""What Keras' description of a model says of the images that it takes."""

import json
import re
from typing import Any

# Layers that may stand before a network, and give it images of another size than the model takes.
_RESIZING = re.compile(r"(\w+>)?(Resizing|(Center|Random)Crop|Cropping2D|UpSampling2D|Random(Height|Width))")


def model_image_size(description: str) -> int | None:
    """Returns the height and width of the images that a model and its network take, in pixels.

    Args:
        description: Keras' JSON: the attribute `model_config` of an `.h5` file, `config.json` of a `.keras` file.
    Returns:
        None if the description does not say it, names several sizes, or has layers that change the size.
    """
    try:
        layers = json.loads(description)["config"]["layers"]
        shapes = [_batch_shape(layer["config"]) for layer in layers if layer["class_name"] == "InputLayer"]
        resizes = any(_RESIZING.fullmatch(layer["class_name"]) for layer in layers)
    # Anybody may have written the description.
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None
    match shapes:
        case [[_, int(height), int(width), 3]] if height == width > 0 and not resizes:
            return height
    return None


def _batch_shape(config: dict[str, Any]) -> Any:
    return config.get("batch_input_shape") or config.get("batch_shape")
