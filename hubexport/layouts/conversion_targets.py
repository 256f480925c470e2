"""The targets of `hubexport convert`, apart from the layouts so that a command line can be parsed without NumPy."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Literal, get_args

from hubexport.deployments.registry import DEPLOYMENT_FORMATS, DEPLOYMENTS, DeploymentFormat
from hubexport.errors import UsageError, either

# Formats that other programs read trained values from. Each has names of its own for the variables.
LayoutTarget = Literal["slim", "keras", "safetensors", "huggingface", "tf2"]
LAYOUT_TARGETS: tuple[LayoutTarget, ...] = get_args(LayoutTarget)
Target = Literal[LayoutTarget, DeploymentFormat]
TARGETS: tuple[Target, ...] = (*LAYOUT_TARGETS, *DEPLOYMENT_FORMATS)
# By how a target's name ends, the only format that has such names.
_SUFFIXES: Mapping[str, Target] = {
    ".keras": "keras",
    ".h5": "keras",
    ".safetensors": "safetensors",
    **{suffix: name for name in DEPLOYMENT_FORMATS if (suffix := DEPLOYMENTS[name].suffix)},
}


def format_of_target(target: str, to: Target | None) -> Target:
    """Returns the format to write.

    Args:
        target: the path of what is to be written.
        to: the format, if the user names it. Defaults to the one that the target's name tells.
    Raises:
        UsageError: the name tells no format or another one than `to`.
    """
    suffix = PurePath(target).suffix
    # Who writes it refuses capitals where programs do not know them.
    told = _SUFFIXES.get(suffix.lower(), to)
    if told is None:
        others = [name for name in TARGETS if name not in _SUFFIXES.values()]
        raise UsageError(
            f"no --to, and the name {target} does not tell the format",
            why=f"it ends in none of {', '.join(_SUFFIXES)}",
            fix=f"add --to {either(others)}, or use a name that ends so",
        )
    if to and told and to != told:
        raise UsageError(
            f"--to {to} and the name {target} contradict each other",
            why=f"names that end in {suffix} are those of {told}",
            fix=f"write --to {told}, or use another name",
        )
    return to or told
