"""The layouts that trained values may have in files, by name."""

from collections.abc import Callable
import dataclasses

from hubexport.errors import UsageError, either
from hubexport.layouts.conversion_targets import LayoutTarget
from hubexport.layouts.huggingface import HUGGING_FACE_NETWORKS, PREFIX, huggingface_layout
from hubexport.layouts.keras import KERAS_NETWORKS, keras_h5_layout, keras_variables_layout, keras_weights_h5_layout
from hubexport.layouts.rules import VariableLayout
from hubexport.layouts.tf2 import tf2_layout
from hubexport.networks.network import Network

SLIM = "TF-Slim"
KERAS_H5 = "Keras .h5"
KERAS_WEIGHTS_H5 = "Keras .weights.h5"
KERAS_VARIABLES = "Keras variables"
KERAS_LAYOUTS = (KERAS_H5, KERAS_WEIGHTS_H5, KERAS_VARIABLES)


def slim_layout(network: Network) -> tuple[VariableLayout, ...]:
    """Returns the layouts of a network's variables in TF-Slim."""
    return tuple(VariableLayout(variable, variable.name) for variable in network.variables)


def _headless_huggingface(network: Network) -> tuple[VariableLayout, ...]:
    """Returns the layouts of a network's variables in `MobileNetV2Model.state_dict()`."""
    return tuple(
        VariableLayout(layout.variable, layout.name.removeprefix(PREFIX), layout.axes)
        for layout in huggingface_layout(network)
    )


@dataclasses.dataclass(frozen=True)
class Layout:
    """A layout of trained values.

    Attributes:
        of: returns the layouts of a network's variables, in the network's order unless the format has its own.
        networks: the names of the families whose networks the format has; None if it takes any network.
    """

    of: Callable[[Network], tuple[VariableLayout, ...]]
    networks: tuple[str, ...] | None = None

    def has(self, network_name: str) -> bool:
        """Tells whether the format has the networks of a family."""
        return self.networks is None or network_name in self.networks


_SLIM = Layout(slim_layout)

# By target of `hubexport convert`, then by kind of file.
TARGET_LAYOUTS: dict[LayoutTarget, dict[str, Layout]] = {
    "slim": {SLIM: _SLIM},
    "keras": {
        KERAS_H5: Layout(keras_h5_layout, KERAS_NETWORKS),
        KERAS_WEIGHTS_H5: Layout(keras_weights_h5_layout, KERAS_NETWORKS),
    },
    "safetensors": {SLIM: _SLIM},
    "huggingface": {"Hugging Face": Layout(huggingface_layout, HUGGING_FACE_NETWORKS)},
    "tf2": {"TensorFlow 2": Layout(tf2_layout)},
}

# The layouts by which files are recognized, in the order in which they are tried. The graph of objects in object-based
# checkpoints tells the names of the variables, which are TF-Slim's or Keras'.
KNOWN_LAYOUTS: dict[str, Layout] = {
    SLIM: _SLIM,
    **TARGET_LAYOUTS["keras"],
    KERAS_VARIABLES: Layout(keras_variables_layout, KERAS_NETWORKS),
    **TARGET_LAYOUTS["huggingface"],
    "Hugging Face without head": Layout(_headless_huggingface, HUGGING_FACE_NETWORKS),
}
HUGGING_FACE_LAYOUTS = ("Hugging Face", "Hugging Face without head")


def target_layouts(target: LayoutTarget, network_name: str) -> dict[str, Layout]:
    """Returns the layouts of a target of `hubexport convert`, by kind of file.

    Raises:
        UsageError: the target's format does not have the networks of this family.
    """
    layouts = TARGET_LAYOUTS[target]
    for layout in layouts.values():
        if not layout.has(network_name):
            raise UsageError(
                f"no {target} format for {network_name}",
                why=f"the {target} format exists for {either(layout.networks or ())} only",
                fix="convert to slim, safetensors or tf2, which take any network, or to keras with a target that ends "
                "in .keras",
            )
    return layouts
