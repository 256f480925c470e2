"""Says what is wrong with a command line, why, and how to write it.

argparse tells what it found in one sentence. The parser itself knows more: the choices, what a flag takes, and which
command has a flag.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
import itertools
import re

from hubexport.cli.arguments import comma_separated
from hubexport.cli.flag_hints import hint
from hubexport.cli.old_spellings import separate_words
from hubexport.errors import UsageError, either, guess

_Commands = Mapping[str, argparse.ArgumentParser]

_OF_ARGUMENT = re.compile(r"argument (?P<name>\S+): (?P<problem>.*)")
# From Python 3.12 on, the choices are not quoted.
_INVALID_CHOICE = re.compile(r"invalid choice: '?(?P<word>.*?)'? \(choose from .*")
_INVALID_VALUE = re.compile(r"invalid (?P<type>\w+) value: '(?P<value>.*)'")
_REQUIRED = re.compile(r"the following arguments are required: (?P<names>.*)")
_EXCLUDED = re.compile(r"not allowed with argument (?P<other>\S+)")
_EXPLICIT = re.compile(r"ignored explicit argument '(?P<value>.*)'")
_SPACED_FLAG = re.compile(r"(?P<flag>--[\w-]+)\s+(?P<value>.+)")
_TYPES = {"int": "a whole number", "float": "a number"}


def mistake(parser: argparse.ArgumentParser, message: str, words: Sequence[str], commands: _Commands) -> UsageError:
    """Returns the error for a command line that argparse refuses.

    Args:
        parser: the parser of the command.
        message: what argparse found.
        words: the words that it parsed.
        commands: the parsers of all commands, by name.
    """
    message = message.splitlines()[0]
    of_argument = _OF_ARGUMENT.fullmatch(message)
    action = _action(parser, of_argument["name"]) if of_argument else None
    problem = of_argument["problem"] if of_argument else message
    if action and (found := _INVALID_CHOICE.fullmatch(problem)):
        return _no_such_choice(parser, action, found["word"])
    if unknown := list(_unknown_flags(parser, words)):
        return unknown_words(parser, unknown, words, commands)
    if found := _REQUIRED.fullmatch(problem):
        return UsageError(
            f"{parser.prog}: {_and([f'no {name}' for name in found['names'].split(', ')])}",
            why=f"the command needs {'them' if ', ' in found['names'] else 'it'}",
            fix=f"write `{short_usage(parser)}`; see {parser.prog} --help",
        )
    if action is None:
        return UsageError(f"{parser.prog}: {problem}", why="it cannot be understood", fix=f"see {parser.prog} --help")
    return _wrong_value(parser, action, problem)


def unknown_words(
    parser: argparse.ArgumentParser, left: Sequence[str], words: Sequence[str], commands: _Commands
) -> UsageError:
    """Returns the error for words that a command does not know.

    Args:
        parser: the parser of the command.
        left: these words.
        words: all words that the parser got.
        commands: the parsers of all commands, by name.
    """
    for flag in _unknown_flags(parser, left):
        return _unknown_flag(parser, flag, words, commands)
    listed = [
        option for action in parser._actions if action.type is comma_separated for option in action.option_strings
    ]
    if found := separate_words(words, left, listed):
        position, values = found
        return UsageError(
            f"{parser.prog}: {words[position - 1]} {' '.join(values)}: more than one value",
            why="commas separate the values of a flag",
            fix=f"write {words[position - 1]} {','.join(values)}",
        )
    if line := _SPACED_FLAG.fullmatch(left[0]):
        return UsageError(
            f"{parser.prog}: unknown argument {left[0]}",
            why="it is one word, as is each line of a --flagfile",
            fix=f"write {line['flag']}={line['value']}",
        )
    takes = " ".join(_form(action) for action in parser._actions if not action.option_strings)
    variants = not takes and "--variant" in parser._option_string_actions
    return UsageError(
        f"{parser.prog}: unknown argument {' '.join(left)}",
        why=f"the command takes {f'{takes} and flags' if takes else 'only flags'}",
        fix=f"write --variant {','.join(left)}" if variants else f"leave it out; see {parser.prog} --help",
    )


def misplaced_flag(program: str, word: str, command: str) -> UsageError:
    """Returns the error for a flag before the command, which a file of `--flagfile` may have brought there."""
    return UsageError(
        f"{program}: {word.partition('=')[0]} stands before the command",
        why="a command's flags follow it, and so does --flagfile with them",
        fix=f"write `{program} {command} … {word}`",
    )


def _unknown_flag(parser: argparse.ArgumentParser, flag: str, words: Sequence[str], commands: _Commands) -> UsageError:
    command = parser.prog.partition(" ")[2]
    spelled = flag.replace("_", "-") if flag.startswith("--") else flag
    see = f"see {parser.prog} --help"
    if found := hint(command, spelled, _value_of(flag, words)):
        why, fix = found
        return UsageError(f"{parser.prog}: no flag {flag}", why=why, fix=fix)
    if having := [f"`{name}`" for name, other in commands.items() if spelled in other._option_string_actions]:
        return UsageError(f"{parser.prog}: no flag {flag}", why=f"it is a flag of {_and(having)}", fix=see)
    guessed = guess(spelled, parser._option_string_actions)
    return UsageError(f"{parser.prog}: no flag {flag}{guessed}", why="the command has no flag of this name", fix=see)


def _no_such_choice(parser: argparse.ArgumentParser, action: argparse.Action, word: str) -> UsageError:
    choices = [str(choice) for choice in action.choices or ()]
    if action.option_strings:
        flag = _shown(action)
        return UsageError(
            f"{parser.prog}: {flag} {word}: no such choice{guess(word, choices)}",
            why=f"{flag} takes {either(choices)}",
            fix="use one of these",
        )
    return UsageError(
        f"{parser.prog}: no {str(action.metavar).lower()} {word}{guess(word, choices)}",
        why=f"there are {_and(choices)}",
        fix=f"use one of these; {parser.prog} --help tells what they do",
    )


def _wrong_value(parser: argparse.ArgumentParser, action: argparse.Action, problem: str) -> UsageError:
    """Returns the error for a flag or argument whose value is missing or wrong."""
    shown, form = _shown(action), _form(action)
    fix = f"write {form}; see {parser.prog} --help"
    if problem.startswith("expected "):
        count = f"its {action.nargs} values" if isinstance(action.nargs, int) else "a value"
        return UsageError(f"{parser.prog}: {shown} without {count}", why=f"it takes {_metavars(action)}", fix=fix)
    if found := _INVALID_VALUE.fullmatch(problem):
        kind = _TYPES.get(found["type"], f"a {found['type']}")
        return UsageError(f"{parser.prog}: {shown} {found['value']}: not {kind}", why=f"it takes {kind}", fix=fix)
    if found := _EXCLUDED.fullmatch(problem):
        other = found["other"].split("/")[-1]
        return UsageError(
            f"{parser.prog}: {shown} and {other} exclude each other",
            why="each asks for what the other rules out",
            fix="leave out one of them",
        )
    if found := _EXPLICIT.fullmatch(problem):
        return UsageError(
            f"{parser.prog}: {shown}={found['value']}: a value", why="it takes none", fix=f"write {shown}"
        )
    value, _, wanted = problem.rpartition(": ")
    return UsageError(f"{parser.prog}: {shown} {value}: not valid", why=f"it {wanted}", fix=fix)


def _action(parser: argparse.ArgumentParser, name: str) -> argparse.Action | None:
    """Returns the flag or argument that argparse calls by a name."""
    names = [("/".join(action.option_strings) or action.metavar or action.dest, action) for action in parser._actions]
    return next((action for called, action in names if called == name), None)


def _unknown_flags(parser: argparse.ArgumentParser, words: Sequence[str]) -> Iterator[str]:
    known = parser._option_string_actions
    for word in itertools.takewhile(lambda word: word != "--", words):
        flag = word.partition("=")[0]
        # A short flag's value may follow without a space.
        if re.match("--?[A-Za-z]", word) and " " not in word and flag not in known:
            if word.startswith("--") or word[:2] not in known:
                yield flag


def _value_of(flag: str, words: Sequence[str]) -> str:
    """Returns what was given as the value of a flag that the parser does not know."""
    for word, following in itertools.pairwise((*words, "-")):
        name, equals, value = word.partition("=")
        if name == flag:
            return value if equals else "…" if following.startswith("-") else following
    return "…"


def short_usage(parser: argparse.ArgumentParser) -> str:
    """Returns a command with its arguments and what else it cannot do without."""
    shown = [action for action in parser._actions if action.required or not action.option_strings]
    return " ".join([parser.prog, *map(_form, shown)])


def _form(action: argparse.Action) -> str:
    """Returns a flag or argument as it is written, like `--jobs N` or `[PATTERN ...]`."""
    if action.option_strings:
        return f"{_shown(action)} {_metavars(action)}".rstrip()
    return {"?": "[{}]", "*": "[{} ...]", "+": "{} ..."}.get(str(action.nargs), "{}").format(_shown(action))


def _metavars(action: argparse.Action) -> str:
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    return str(action.metavar or ("|".join(map(str, action.choices)) if action.choices else ""))


def _shown(action: argparse.Action) -> str:
    return action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest)


def _and(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
