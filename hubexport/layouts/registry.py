"""Under what names and in what shapes trained values may stand in a file."""

from collections.abc import Callable

from hubexport.layouts.conversion_targets import Target
from hubexport.layouts.huggingface import PREFIX, huggingface
from hubexport.layouts.keras import keras_h5, keras_weights_h5
from hubexport.layouts.rules import VariableLayout
from hubexport.layouts.tf2 import tf2
from hubexport.networks.layers import Network

SLIM = "TF-Slim"
KERAS_H5 = "Keras .h5"
KERAS_WEIGHTS_H5 = "Keras .weights.h5"


def slim(network: Network) -> tuple[VariableLayout, ...]:
    """Returns a network's variables as TF-Slim has them."""
    return tuple(VariableLayout(variable, variable.name) for variable in network.variables)


def _headless_huggingface(network: Network) -> tuple[VariableLayout, ...]:
    """Returns the same as `MobileNetV2Model` saves them by itself."""
    entries = huggingface(network)
    return tuple(VariableLayout(entry.variable, entry.name.removeprefix(PREFIX), entry.axes) for entry in entries)


NetworkLayout = Callable[[Network], tuple[VariableLayout, ...]]

# What each target calls the variables, by the kind of file.
MAPPINGS: dict[Target, dict[str, NetworkLayout]] = {
    "slim": {SLIM: slim},
    "keras": {KERAS_H5: keras_h5, KERAS_WEIGHTS_H5: keras_weights_h5},
    "safetensors": {SLIM: slim},
    "huggingface": {"Hugging Face": huggingface},
    "tf2": {"TensorFlow 2": tf2},
}

# What to try when telling what the names in a file are. Object-based checkpoints are not among them: their own graph of
# objects leads to TF-Slim's names.
LAYOUTS: dict[str, NetworkLayout] = {
    SLIM: slim,
    **MAPPINGS["keras"],
    **MAPPINGS["huggingface"],
    "Hugging Face without head": _headless_huggingface,
}
HUGGING_FACE_LAYOUTS = ("Hugging Face", "Hugging Face without head")
