"""Old spellings, which go on working with a warning: one table of what is written differently today.

The words of a command line are rewritten before they are parsed, so that the commands know today's spelling alone.
"""

from collections.abc import Collection, Iterator, Sequence
import dataclasses
import itertools


@dataclasses.dataclass(frozen=True)
class _Today:
    """What is written today.

    Attributes:
        flag: the flag of today.
        took_several: the old flag took all words up to the next flag. Today commas separate them.
        without: what the old flag stood for without a value; None if it needed one.
    """

    flag: str
    took_several: bool = False
    without: str | None = None


_WITH_OUTPUTS = ("build", "convert", "release")
_FLAGS = {
    ("release", "--variants"): _Today("--variant", took_several=True),
    ("release", "--modules"): _Today("--module", took_several=True),
    ("release", "--verify"): _Today("--checks", took_several=True),
    ("verify", "--check"): _Today("--checks"),
    **{(command, "--endpoints"): _Today("--outputs", True, "all") for command in _WITH_OUTPUTS},
    **{(command, "--outputs"): _Today("--outputs", without="all") for command in _WITH_OUTPUTS},
}
_VALUES = {("--format", "table"): "text"}
# The command of today takes the flag's value as its argument.
_COMMANDS = {("release", "--check"): "check"}
# Flags that kept their name. Words after the first value may be arguments of the command, so the parser decides.
_TOOK_SEVERAL = {("verify", "--consumers"), *((command, "--outputs") for command in _WITH_OUTPUTS)}


def todays_words(words: Sequence[str], commands: Collection[str]) -> tuple[list[str], list[str]]:
    """Rewrites a command line.

    Args:
        words: the words after the program's name.
        commands: the names of the commands.
    Returns:
        The words as they are written today, and a warning for each change.
    """
    position = next((position for position, word in enumerate(words) if word in commands), None)
    if position is None:
        return list(words), []
    before, command, rest = words[:position], words[position], list(words[position + 1 :])
    for (old_command, old), new_command in _COMMANDS.items():
        names = [word.partition("=")[0] for word in itertools.takewhile(lambda word: word != "--", rest)]
        if command == old_command and old in names:
            flag, equals, value = rest.pop(names.index(old)).partition("=")
            rest[names.index(old) : names.index(old)] = [value] if equals else []
            return [*before, new_command, *rest], [_warning(f"{command} {flag} DIR", f"{new_command} DIR")]
    rewritten, warnings = [*before, command], []
    while rest and rest[0] != "--":
        today, count = _today(command, rest)
        if today != rest[:count]:
            warnings.append(_warning(" ".join(rest[:count]), " ".join(today)))
        rewritten += today
        del rest[:count]
    return rewritten + rest, warnings


def _today(command: str, words: Sequence[str]) -> tuple[list[str], int]:
    """Returns how the first words of a command line are written today, and how many words these are."""
    name, equals, value = words[0].partition("=")
    flag = name.replace("_", "-")
    values = [value] if equals else list(_up_to_a_flag(words[1:]))
    today = _FLAGS.get((command, flag))
    if values and (flag, values[0]) in _VALUES:
        return [flag, _VALUES[flag, values[0]]], 1 if equals else 2
    if today is None or (today.flag == flag and values):
        return [words[0]], 1
    if not today.took_several:
        values = values[:1]
    written = [",".join(values)] if values else [today.without] if today.without else []
    return [today.flag, *written], 1 if equals else 1 + len(values)


def _up_to_a_flag(words: Sequence[str]) -> Iterator[str]:
    return itertools.takewhile(lambda word: not word.startswith("-"), words)


def separate_words(words: Sequence[str], left: Sequence[str], flags: Collection[str]) -> tuple[int, list[str]] | None:
    """Finds the flag that unknown words were meant for, as in `--checks structure weights`.

    Args:
        words: the words of a command line.
        left: the words that the parser left over.
        flags: the flags that take several values, separated by commas.
    Returns:
        The position of the flag's value, and the values that were meant; None if the words were not meant for a flag.
    """
    for position, word in enumerate(words[:-1], start=1):
        values = list(_up_to_a_flag(words[position:]))
        # The first of the values is the flag's. The command may have taken the next ones as arguments, in place of the
        # last ones, which it left over.
        if word in flags and len(values) > len(left) and list(left) == values[-len(left) :]:
            return position, values[: 1 + len(left)]
    return None


def todays_list(command: str, words: Sequence[str], left: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """Rewrites a flag that once took all words up to the next flag, if the command leaves these words over.

    Returns:
        The words as they are written today, and a warning; None if there is no such flag.
    """
    flags = [flag for taker, flag in _TOOK_SEVERAL if taker == command]
    if not (found := separate_words(words, left, flags)):
        return None
    position, values = found
    if values[1:] != list(left):
        return None
    old, today = words[position - 1 : position + len(values)], [words[position - 1], ",".join(values)]
    rest = words[position + len(values) :]
    return [*words[: position - 1], *today, *rest], [_warning(" ".join(old), " ".join(today))]


def _warning(old: str, today: str) -> str:
    return f"`{old}` is an old spelling: write `{today}`"
