"""The layout and the settings files of `MobileNetV2ForImageClassification` in Hugging Face's transformers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hubexport.layouts.rules import LayoutRole, RoleLayout, VariableLayout, layout_from_tables
from hubexport.networks.family import Parameters
from hubexport.networks.network import Network

HUGGING_FACE_NETWORKS = ("mobilenet_v2",)

# MobileNetV2ForImageClassification puts it before the names of MobileNetV2Model.
PREFIX = "mobilenet_v2."

# PIL.Image.Resampling.BILINEAR.
_BILINEAR = 2

_BLOCK_PARTS = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}

# The module in transformers by TF-Slim's scope; transformers starts counting at the second block.
_LAYER_NAMES = {
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

# The axes of PyTorch's kernels are outputs, inputs, height, width; of depthwise kernels channels, 1, height, width.
_ROLE_LAYOUTS: dict[LayoutRole, RoleLayout] = {
    "kernel": RoleLayout("{0}.convolution.weight", axes=(3, 2, 0, 1)),
    "depthwise_kernel": RoleLayout("{0}.convolution.weight", axes=(2, 3, 0, 1)),
    "classifier": RoleLayout("{0}.weight", axes=(3, 2)),
    "bias": RoleLayout("{0}.bias"),
    "gamma": RoleLayout("{0}.normalization.weight"),
    "beta": RoleLayout("{0}.normalization.bias"),
    "moving_mean": RoleLayout("{0}.normalization.running_mean"),
    "moving_variance": RoleLayout("{0}.normalization.running_var"),
}


def huggingface_layout(network: Network) -> tuple[VariableLayout, ...]:
    """Returns the layouts of a network's variables in `MobileNetV2ForImageClassification.state_dict()`."""
    return layout_from_tables(network, _LAYER_NAMES, _ROLE_LAYOUTS)


def batch_counters(network: Network) -> dict[str, Any]:
    """Returns the batch counters of PyTorch's batch norms, by name: int64 scalars of 0.

    Nothing reads them, since the network's momentum is fixed, but without them loading a model warns.
    """
    means = [layout.name for layout in huggingface_layout(network) if layout.name.endswith(".running_mean")]
    return {name.replace(".running_mean", ".num_batches_tracked"): np.int64(0) for name in means}


def huggingface_config(network: Network, parameters: Parameters, labels: Sequence[str] | None) -> dict[str, Any]:
    """Returns the content of `config.json`, from which `from_pretrained` makes the model.

    Args:
        network: the network, with or without classifier.
        parameters: the parameters of the network's family.
        labels: the name of each class. Defaults to LABEL_0 and so on.
    """
    # transformers' setting is the share that is dropped, TF-Slim's the share that is kept.
    dropout = [round(1 - network.dropout.keep_prob, 6)] if network.dropout else []
    numbers = range(network.num_classes or 0)
    names = [labels[number] if labels else f"LABEL_{number}" for number in numbers]
    return {
        "architectures": ["MobileNetV2ForImageClassification" if network.logits else "MobileNetV2Model"],
        "model_type": "mobilenet_v2",
        **parameters.model_dump(),
        "image_size": network.default_image_size[0],
        "num_channels": network.image_shape[-1],
        "layer_norm_eps": network.batch_norm_epsilon,
        "tf_padding": True,
        # Below depth multiplier 1 the last convolution keeps its number of channels.
        "finegrained_output": True,
        "hidden_act": "relu6",
        **({"classifier_dropout_prob": dropout[0]} if dropout else {}),
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(_told_apart(names))},
    }


def _told_apart(names: Sequence[str]) -> list[str]:
    """Returns the names, with the class's number after one that an earlier class has.

    ImageNet has a crane that is a bird, and one that lifts loads.

    Example:
        >>> _told_apart(["crane", "dove", "crane"])
        ['crane', 'dove', 'crane (2)']
    """
    taken = set(names)
    seen: set[str] = set()
    different = []
    for number, name in enumerate(names):
        key = name
        while key in seen or (key != name and key in taken):
            key += f" ({number})"
        seen.add(key)
        different.append(key)
    return different


def preprocessor_config(network: Network) -> dict[str, Any]:
    """Returns the content of `preprocessor_config.json`: resize without cropping, and map 0 … 255 to -1 … 1."""
    height, width = network.default_image_size
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
