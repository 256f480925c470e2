"""The layouts in which Keras stores the weights of `keras.applications.MobileNetV2`.

`.h5` files ("legacy H5") use the names of a model's layers. `.weights.h5` files (Keras 2.12 and newer) number the
layers of each class in the model's order: `conv2d`, `conv2d_1` and so on. TensorFlow's own files tell the names of
Keras 2's variables, which are those of `.h5` files but for depthwise kernels.
"""

from collections import Counter
import itertools

from hubexport.layouts.rules import LayoutRole, RoleLayout, VariableLayout, layout_from_tables, variables_with_roles
from hubexport.networks.network import Network

KERAS_NETWORKS = ("mobilenet_v2",)

# Keras' convolution or dense layer, and its batch norm, by TF-Slim's scope.
_LAYER_NAMES = {
    "MobilenetV2/Conv": ("Conv1", "bn_Conv1"),
    **{
        f"MobilenetV2/expanded_conv/{part}": (f"expanded_conv_{part}", f"expanded_conv_{part}_BN")
        for part in ("depthwise", "project")
    },
    **{
        f"MobilenetV2/expanded_conv_{block}/{part}": (f"block_{block}_{part}", f"block_{block}_{part}_BN")
        for block in range(1, 17)
        for part in ("expand", "depthwise", "project")
    },
    "MobilenetV2/Conv_1": ("Conv_1", "Conv_1_bn"),
    "MobilenetV2/Logits/Conv2d_1c_1x1": ("predictions",),
}

# Kernels of convolutions have TF-Slim's axes.
_ROLE_LAYOUTS: dict[LayoutRole, RoleLayout] = {
    "kernel": RoleLayout("{0}/kernel"),
    "depthwise_kernel": RoleLayout("{0}/kernel"),
    "classifier": RoleLayout("{0}/kernel", axes=(2, 3)),
    "bias": RoleLayout("{0}/bias"),
    "gamma": RoleLayout("{1}/gamma"),
    "beta": RoleLayout("{1}/beta"),
    "moving_mean": RoleLayout("{1}/moving_mean"),
    "moving_variance": RoleLayout("{1}/moving_variance"),
}

# The class of the Keras layer, and the variable's number within the layer.
_NUMBERED: dict[LayoutRole, tuple[str, int]] = {
    "kernel": ("conv2d", 0),
    "depthwise_kernel": ("depthwise_conv2d", 0),
    "classifier": ("dense", 0),
    "bias": ("dense", 1),
    "gamma": ("batch_normalization", 0),
    "beta": ("batch_normalization", 1),
    "moving_mean": ("batch_normalization", 2),
    "moving_variance": ("batch_normalization", 3),
}


def keras_h5_layout(network: Network) -> tuple[VariableLayout, ...]:
    """Returns the layouts of a network's variables in `.h5` files: `LAYER/WEIGHT`, with Keras 3's names of weights.

    They are in Keras' order, which its loaders rely on: TF-Slim creates a batch norm's beta before its gamma.
    """
    numbers = {variable.name: _NUMBERED[role][1] for _, role, variable in variables_with_roles(network)}
    layouts = layout_from_tables(network, _LAYER_NAMES, _ROLE_LAYOUTS)
    layers = itertools.groupby(layouts, lambda layout: layout.name.partition("/")[0])
    return tuple(
        layout for _, layer in layers for layout in sorted(layer, key=lambda layout: numbers[layout.variable.name])
    )


def keras_variables_layout(network: Network) -> tuple[VariableLayout, ...]:
    """Returns the layouts of a network's variables by the names of Keras 2's variables."""
    named = {**_ROLE_LAYOUTS, "depthwise_kernel": RoleLayout("{0}/depthwise_kernel")}
    return layout_from_tables(network, _LAYER_NAMES, named)


def keras_weights_h5_layout(network: Network) -> tuple[VariableLayout, ...]:
    """Returns the layouts of a network's variables in `.weights.h5` files: `layers/CLASS_NUMBER/vars/NUMBER`."""
    names_by_scope: dict[str, dict[str, str]] = {}
    counts: Counter[str] = Counter()
    layouts = []
    for scope, role, variable in variables_with_roles(network):
        kind, number = _NUMBERED[role]
        names = names_by_scope.setdefault(scope, {})
        if kind not in names:
            names[kind] = f"{kind}_{counts[kind]}" if counts[kind] else kind
            counts[kind] += 1
        layouts.append(VariableLayout(variable, f"layers/{names[kind]}/vars/{number}", _ROLE_LAYOUTS[role].axes))
    return tuple(layouts)
