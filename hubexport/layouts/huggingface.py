"""`MobileNetV2ForImageClassification` of Hugging Face's transformers, and the `config.json` beside its weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hubexport.layouts.rules import Role, RoleLayout, VariableLayout, layout_from_tables
from hubexport.networks.layers import Dropout, Network

# What MobileNetV2ForImageClassification puts before the names of MobileNetV2Model.
PREFIX = "mobilenet_v2."

# Pillow's number.
_BILINEAR = 2

_BLOCK_PARTS = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}

# TF-Slim's scope: the module in transformers, which counts the blocks from the second on.
_LAYERS = {
    "MobilenetV2/Conv": (f"{PREFIX}conv_stem.first_conv",),
    "MobilenetV2/expanded_conv/depthwise": (f"{PREFIX}conv_stem.conv_3x3",),
    "MobilenetV2/expanded_conv/project": (f"{PREFIX}conv_stem.reduce_1x1",),
    **{
        f"MobilenetV2/expanded_conv_{block}/{part}": (f"{PREFIX}layer.{block - 1}.{name}",)
        for block in range(1, 17)
        for part, name in _BLOCK_PARTS.items()
    },
    "MobilenetV2/Conv_1": (f"{PREFIX}conv_1x1",),
    "MobilenetV2/Logits/Conv2d_1c_1x1": ("classifier",),
}

# PyTorch has outputs, inputs, height, width; of a depthwise kernel channels, 1, height, width.
_PARTS: dict[Role, RoleLayout] = {
    "kernel": RoleLayout("{0}.convolution.weight", axes=(3, 2, 0, 1)),
    "depthwise_kernel": RoleLayout("{0}.convolution.weight", axes=(2, 3, 0, 1)),
    "classifier": RoleLayout("{0}.weight", axes=(3, 2)),
    "biases": RoleLayout("{0}.bias"),
    "gamma": RoleLayout("{0}.normalization.weight"),
    "beta": RoleLayout("{0}.normalization.bias"),
    "moving_mean": RoleLayout("{0}.normalization.running_mean"),
    "moving_variance": RoleLayout("{0}.normalization.running_var"),
}


def huggingface(network: Network) -> tuple[VariableLayout, ...]:
    """Returns a network's variables as `MobileNetV2ForImageClassification.state_dict()` has them."""
    return layout_from_tables(network, _LAYERS, _PARTS)


def batch_counters(network: Network) -> dict[str, Any]:
    """Returns what PyTorch's batch norms count beside their statistics, at its start: int64 scalars by name.

    The network's momentum is fixed, so that nothing reads them, but without them a model is loaded with a warning.
    """
    means = [entry.name for entry in huggingface(network) if entry.name.endswith(".running_mean")]
    return {name.replace(".running_mean", ".num_batches_tracked"): np.int64(0) for name in means}


def config(network: Network, depth_multiplier: float, labels: Sequence[str] | None) -> dict[str, Any]:
    """Returns `config.json`, from which `from_pretrained` makes the model.

    Args:
        network: with or without classifier.
        depth_multiplier: the network's.
        labels: the name of each class; None names them LABEL_0 and so on.
    """
    # transformers' own default drops what TF-Slim keeps.
    dropout = [round(1 - layer.keep_prob, 6) for layer in network.layers if isinstance(layer, Dropout)]
    numbers = range(network.num_classes or 0)
    names = [labels[number] if labels else f"LABEL_{number}" for number in numbers]
    return {
        "architectures": ["MobileNetV2ForImageClassification" if network.logits else "MobileNetV2Model"],
        "model_type": "mobilenet_v2",
        "depth_multiplier": depth_multiplier,
        "image_size": network.image_shape[0],
        "num_channels": network.image_shape[2],
        "layer_norm_eps": network.batch_norm_epsilon,
        "tf_padding": True,
        # Below depth multiplier 1 the last convolution keeps its channels.
        "finegrained_output": True,
        "hidden_act": "relu6",
        **({"classifier_dropout_prob": dropout[0]} if dropout else {}),
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


def preprocessor_config(network: Network) -> dict[str, Any]:
    """Returns `preprocessor_config.json`: photographs are resized whole, and their 0 … 255 become -1 … 1."""
    height, width, _ = network.image_shape
    return {
        "image_processor_type": "MobileNetV2ImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": _BILINEAR,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
