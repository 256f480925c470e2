"""The targets of `hubexport convert`, apart from the layouts so that a command line can be parsed without NumPy."""

from typing import Literal, get_args

Target = Literal["slim", "keras", "safetensors", "huggingface", "tf2"]
TARGETS: tuple[Target, ...] = get_args(Target)
