"""The targets of `hubexport convert`, apart from the layouts so that a command line can be parsed without NumPy."""

from typing import Literal, get_args

# Formats that other programs read trained values from. Each has names of its own for the variables.
LayoutTarget = Literal["slim", "keras", "safetensors", "huggingface", "tf2"]
LAYOUT_TARGETS: tuple[LayoutTarget, ...] = get_args(LayoutTarget)
# Formats of whole models for inference, whose values no longer are those of the training.
DeploymentTarget = Literal["onnx"]
DEPLOYMENT_TARGETS: tuple[DeploymentTarget, ...] = get_args(DeploymentTarget)

Target = Literal[LayoutTarget, DeploymentTarget]
TARGETS: tuple[Target, ...] = (*LAYOUT_TARGETS, *DEPLOYMENT_TARGETS)
