"""The words of a command line, for shells to complete: commands, flags and the values that these take.

It walks the parsers once. What a flag takes is told by its choices, by its name, or by the metavar that all commands
use for the same thing.
"""

import argparse
from collections.abc import Callable, Mapping
import dataclasses
import re
from typing import Literal

from hubexport.cli.arguments import comma_separated


@dataclasses.dataclass(frozen=True)
class Values:
    """What can stand in one place of a command line.

    Attributes:
        words: the words that can stand there.
        paths: the paths that can stand there.
        listed: several words can stand there, with commas between them.
    """

    words: tuple[str, ...] = ()
    paths: Literal["none", "files", "directories"] = "none"
    listed: bool = False


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag.

    Attributes:
        names: its spellings, like `-o` and `--output-dir`.
        help: the first sentence of its help.
        values: what follows it; None if nothing does.
    """

    names: tuple[str, ...]
    help: str
    values: Values | None


@dataclasses.dataclass(frozen=True)
class Command:
    """The whole command line, a command, or an action of one.

    Attributes:
        name: the words after `hubexport`: none, `build` or `consumers list`.
        flags: its flags.
        arguments: what can stand where no flag does; None if nothing can.
        actions: what its commands or actions do, by name.
    """

    name: str
    flags: tuple[Flag, ...]
    arguments: Values | None
    actions: Mapping[str, str]


def command_words(parser: argparse.ArgumentParser, name: str = "") -> list[Command]:
    """Returns what a parser knows, and then what those of its commands know.

    Args:
        parser: the parser of the whole command line.
        name: for a command, the words after `hubexport`.
    """
    flags, arguments, commands = [], None, []
    actions: dict[str, str] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            actions = {choice.dest: choice.help or "" for choice in action._choices_actions}
            arguments = Values(tuple(actions))
            for each, subparser in action.choices.items():
                commands += command_words(subparser, f"{name} {each}".lstrip())
        elif not action.option_strings:
            # Where several arguments differ, as those of classify, all are files.
            arguments = _values(name, action)
        elif action.help != argparse.SUPPRESS:
            values = None if action.nargs == 0 else _values(name, action)
            flags.append(Flag(tuple(action.option_strings), _beginning(action.help or ""), values))
    return [Command(name, tuple(flags), arguments, actions), *commands]


def _beginning(help: str) -> str:
    """Returns the beginning of a help text: one line of a list has no room for the rest."""
    return re.split(r" \(default|[;:.] ", help)[0].replace("%%", "%")


def _values(command: str, action: argparse.Action) -> Values:
    """Returns what a flag or argument takes."""
    if action.choices is not None:
        return Values(tuple(map(str, action.choices)))
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    name = action.option_strings[-1] if action.option_strings else metavar
    find = _WORDS.get(name) or _WORDS.get(f"{command.partition(' ')[0]} {name}")
    if find:
        return Values(find(), listed=action.type is comma_separated)
    return Values(paths="directories" if metavar == "DIR" else "files" if metavar in _FILES else "none")


def _variants() -> tuple[str, ...]:
    from hubexport.config_files import variant_names

    return tuple(variant_names())


def _modules() -> tuple[str, ...]:
    from hubexport.variants import KINDS, TF1_VERSIONS, TF2_VERSIONS

    return *KINDS, *(f"{kind}/{version}" for kind in KINDS for version in (*TF1_VERSIONS, *TF2_VERSIONS))


def _checks() -> tuple[str, ...]:
    from hubexport.verify.checks.registry import CHECKS, DEPLOYMENT_CHECKS

    names = [check.name for check in (*CHECKS, *DEPLOYMENT_CHECKS)]
    return tuple(dict.fromkeys([*(name.partition(".")[0] for name in names), *names]))


def _consumers() -> tuple[str, ...]:
    from hubexport.consumers.registry import ALL, CONSUMERS

    return ALL, *(consumer.name for consumer in CONSUMERS)


def _deployments() -> tuple[str, ...]:
    from hubexport.deployments.options import TFJS_QUANTIZATIONS, TFLITE_QUANTIZATIONS
    from hubexport.deployments.registry import DEPLOYMENT_FORMATS

    quantized = {"tfjs": TFJS_QUANTIZATIONS, "tflite": TFLITE_QUANTIZATIONS}
    names = (f"{format_}-{how}" for format_, choices in quantized.items() for how in choices if how != "none")
    return *DEPLOYMENT_FORMATS, *names


def _networks() -> tuple[str, ...]:
    from hubexport.networks.registry import FAMILIES

    return tuple(FAMILIES)


# By flag or metavar, or by command and metavar.
_WORDS: Mapping[str, Callable[[], tuple[str, ...]]] = {
    "--variant": _variants,
    "PATTERN": _variants,
    "--module": _modules,
    "--checks": _checks,
    "--consumers": _consumers,
    "consumers NAME": _consumers,
    "--deployment": _deployments,
    "--network": _networks,
}
# The metavars of what is a file or can be one.
_FILES = ("FILE", "PATH", "SOURCE", "TARGET", "MODULE", "IMAGE", "A", "B")
