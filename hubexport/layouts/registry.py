"""The layouts that trained values may have in files, by name."""

from collections.abc import Callable

from hubexport.layouts.conversion_targets import Target
from hubexport.layouts.huggingface import PREFIX, huggingface_layout
from hubexport.layouts.keras import keras_h5_layout, keras_weights_h5_layout
from hubexport.layouts.rules import VariableLayout
from hubexport.layouts.tf2 import tf2_layout
from hubexport.networks.network import Network

SLIM = "TF-Slim"
KERAS_H5 = "Keras .h5"
KERAS_WEIGHTS_H5 = "Keras .weights.h5"


def slim_layout(network: Network) -> tuple[VariableLayout, ...]:
    """Returns the layouts of a network's variables in TF-Slim."""
    return tuple(VariableLayout(variable, variable.name) for variable in network.variables)


def _headless_huggingface(network: Network) -> tuple[VariableLayout, ...]:
    """Returns the layouts of a network's variables in `MobileNetV2Model.state_dict()`."""
    return tuple(
        VariableLayout(layout.variable, layout.name.removeprefix(PREFIX), layout.axes)
        for layout in huggingface_layout(network)
    )


# Returns the layouts of a network's variables, in the network's order unless the format has its own.
LayoutFunction = Callable[[Network], tuple[VariableLayout, ...]]

# By target of `hubexport convert`, then by kind of file.
TARGET_LAYOUTS: dict[Target, dict[str, LayoutFunction]] = {
    "slim": {SLIM: slim_layout},
    "keras": {KERAS_H5: keras_h5_layout, KERAS_WEIGHTS_H5: keras_weights_h5_layout},
    "safetensors": {SLIM: slim_layout},
    "huggingface": {"Hugging Face": huggingface_layout},
    "tf2": {"TensorFlow 2": tf2_layout},
}

# The layouts by which files are recognized, in the order in which they are tried. Object-based checkpoints need none:
# their own graph of objects leads to TF-Slim's names.
KNOWN_LAYOUTS: dict[str, LayoutFunction] = {
    SLIM: slim_layout,
    **TARGET_LAYOUTS["keras"],
    **TARGET_LAYOUTS["huggingface"],
    "Hugging Face without head": _headless_huggingface,
}
HUGGING_FACE_LAYOUTS = ("Hugging Face", "Hugging Face without head")
