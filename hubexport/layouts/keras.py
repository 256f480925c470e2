"""`keras.applications.MobileNetV2`, and the two layouts in which Keras stores weights in HDF5.

`.h5` files ("legacy H5") name a model's layers. `.weights.h5` files (Keras 2.12 and newer) have no names but `conv2d`,
`conv2d_1` and so on, in the order of the model's layers.
"""

from collections import Counter
import itertools

from hubexport.layouts.rules import Role, RoleLayout, VariableLayout, layout_from_tables, roles
from hubexport.networks.layers import Network

# TF-Slim's scope: Keras' convolution or dense layer, and its batch norm.
_LAYERS = {
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

# Keras' convolutions have TF-Slim's layout.
_PARTS: dict[Role, RoleLayout] = {
    "kernel": RoleLayout("{0}/kernel"),
    "depthwise_kernel": RoleLayout("{0}/kernel"),
    "classifier": RoleLayout("{0}/kernel", axes=(2, 3)),
    "biases": RoleLayout("{0}/bias"),
    "gamma": RoleLayout("{1}/gamma"),
    "beta": RoleLayout("{1}/beta"),
    "moving_mean": RoleLayout("{1}/moving_mean"),
    "moving_variance": RoleLayout("{1}/moving_variance"),
}

# The class of the Keras layer, and the variable's number in it.
_NUMBERED: dict[Role, tuple[str, int]] = {
    "kernel": ("conv2d", 0),
    "depthwise_kernel": ("depthwise_conv2d", 0),
    "classifier": ("dense", 0),
    "biases": ("dense", 1),
    "gamma": ("batch_normalization", 0),
    "beta": ("batch_normalization", 1),
    "moving_mean": ("batch_normalization", 2),
    "moving_variance": ("batch_normalization", 3),
}


def keras_h5(network: Network) -> tuple[VariableLayout, ...]:
    """Returns a network's variables as `.h5` files have them: `LAYER/WEIGHT`, as Keras 3 calls its weights.

    They come in Keras' order, by which its loaders go: TF-Slim makes a batch norm's beta before its gamma.
    """
    numbers = {variable.name: _NUMBERED[role][1] for _, role, variable in roles(network)}
    layers = itertools.groupby(layout_from_tables(network, _LAYERS, _PARTS), lambda entry: entry.name.partition("/")[0])
    return tuple(entry for _, entries in layers for entry in sorted(entries, key=lambda e: numbers[e.variable.name]))


def keras_weights_h5(network: Network) -> tuple[VariableLayout, ...]:
    """Returns a network's variables as `.weights.h5` files have them: `layers/CLASS_NUMBER/vars/NUMBER`."""
    layers: dict[str, dict[str, str]] = {}
    seen: Counter[str] = Counter()
    entries = []
    for scope, role, variable in roles(network):
        kind, number = _NUMBERED[role]
        names = layers.setdefault(scope, {})
        if kind not in names:
            names[kind] = f"{kind}_{seen[kind]}" if seen[kind] else kind
            seen[kind] += 1
        entries.append(VariableLayout(variable, f"layers/{names[kind]}/vars/{number}", _PARTS[role].axes))
    return tuple(entries)
