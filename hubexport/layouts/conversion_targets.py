"""The targets of `hubexport convert`, apart from the layouts so that a command line can be parsed without NumPy."""

from typing import Literal, get_args

from hubexport.deployments.registry import DEPLOYMENT_FORMATS, DeploymentFormat

# Formats that other programs read trained values from. Each has names of its own for the variables.
LayoutTarget = Literal["slim", "keras", "safetensors", "huggingface", "tf2"]
LAYOUT_TARGETS: tuple[LayoutTarget, ...] = get_args(LayoutTarget)
Target = Literal[LayoutTarget, DeploymentFormat]
TARGETS: tuple[Target, ...] = (*LAYOUT_TARGETS, *DEPLOYMENT_FORMATS)
