"""The parser of the command line: argparse with absl's flags, the old spellings, and errors that help."""

import argparse
from collections.abc import Collection, Mapping, Sequence
import itertools
from typing import Any, NoReturn

from absl.flags import argparse_flags

from hubexport.cli.mistakes import misplaced_flag, mistake, short_usage, unknown_words


class Parser(argparse_flags.ArgumentParser):
    """Raises mistakes in a command line as UsageErrors, and suggests what was meant.

    Attributes:
        whole: the parser of the whole command line, for hints at flags of other commands.
    """

    def __init__(self, **options: Any) -> None:
        # If prefixes were allowed, a new flag could change the meaning of an existing command line.
        super().__init__(allow_abbrev=False, **options)
        self._positionals.title, self._optionals.title = "arguments", "flags"
        self._option_string_actions["--help"].help = "show this help"
        is_command = " " in self.prog  # absl's flags are told of once, in the help of the whole.
        self._option_string_actions["--helpfull"].help = argparse.SUPPRESS if is_command else "also show absl's flags"
        self._option_string_actions["--verbosity"].metavar = "N"  # absl would say that it takes VERBOSITY.
        self.whole: Parser = self
        self._given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = self._with_hyphens(args or ())
        return super().parse_known_args(self._given, namespace)

    def format_help(self) -> str:
        # argparse would show all flags in the usage, and again below.
        self.usage = f"{short_usage(self)} [flags]"
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise mistake(self, message, self._given, self._commands())

    def check_order(self, words: Sequence[str], commands: Collection[str]) -> None:
        """Refuses flags of a command that stand before it, where argparse would know neither."""
        before = list(itertools.takewhile(lambda word: word not in commands, words))
        for word in before if len(before) < len(words) else ():
            if word.startswith("-") and word.partition("=")[0] not in self._option_string_actions:
                raise misplaced_flag(self.prog, word, words[len(before)])

    def refuse_unknown(self, words: Sequence[str]) -> NoReturn:
        """Raises a UsageError for words that the command does not know."""
        raise unknown_words(self, words, self._given, self._commands())

    def _commands(self) -> Mapping[str, argparse.ArgumentParser]:
        of_whole = (action for action in self.whole._actions if isinstance(action, argparse._SubParsersAction))
        return next((action.choices for action in of_whole), {})

    def _with_hyphens(self, words: Sequence[str]) -> list[str]:
        """Returns words with flags as they are known: `--output_dir` is `--output-dir`, and absl's flags stay."""
        known = {option for action in self._actions for option in action.option_strings}
        spelled: list[str] = []
        for position, word in enumerate(words):
            if word == "--":
                return [*spelled, *words[position:]]
            name, equals, value = word.partition("=")
            hyphenated = name.replace("_", "-")
            is_ours = name.startswith("--") and name not in known and hyphenated in known
            spelled.append(f"{hyphenated}{equals}{value}" if is_ours else word)
        return spelled
