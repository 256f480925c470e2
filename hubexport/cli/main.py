"""The entry point: parses the command line with absl, runs a subcommand, and turns errors into an exit status."""

import argparse
from collections.abc import Callable, Sequence
import gc
import os
from pathlib import Path
import re
import signal
import sys
from typing import Any, NoReturn

from absl import app, flags
from absl.flags import argparse_flags

from hubexport.cli import (
    build,
    classify,
    consumers,
    convert,
    diff,
    evaluate,
    features,
    fetch,
    inspect,
    list_variants,
    release,
    serve,
    show_mapping,
    site,
    verify,
)
from hubexport.cli.error_lines import print_errors
from hubexport.cli.streams import prepare_streams
from hubexport.errors import HubexportError, UsageError, guess
from hubexport.system.regular_files import read_regular_file
from hubexport.version import __version__

_COMMANDS = {
    "build": build,
    "fetch": fetch,
    "inspect": inspect,
    "convert": convert,
    "diff": diff,
    "show-mapping": show_mapping,
    "verify": verify,
    "consumers": consumers,
    "classify": classify,
    "features": features,
    "evaluate": evaluate,
    "release": release,
    "serve": serve,
    "site": site,
    "list": list_variants,
}

# The exit status that shells report after SIGINT and SIGTERM: 128 + the signal's number.
_INTERRUPTED = 130
_TERMINATED = 143

_MAX_FLAGFILE_BYTES = 1 << 20

# How many new objects there are before Python looks for garbage (by default 700). Imports and graphs make many objects
# that stay: looking for garbage among them takes 8% of a build's time.
_OBJECTS_BETWEEN_COLLECTIONS = 100_000


def run() -> NoReturn:
    """Runs hubexport with the arguments of this process, and exits."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    prepare_streams()
    # Unlike the default handler, an exception lets scratch directories be removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    status = _status_of(lambda: app.run(lambda args: args.run(args), flags_parser=_parse))
    # Stdout's buffer may still hold text, even after --help.
    flushed = _status_of(sys.stdout.flush)
    sys.exit(status or flushed)


def _status_of(work: Callable[[], None]) -> Any:
    """Runs `work` and returns the exit status. Prints a HubexportError to stderr."""
    try:
        work()
    except SystemExit as ended:
        return ended.code
    except HubexportError as error:
        return print_errors([error])
    except BrokenPipeError:
        return 1  # The reader of stdout is gone, as in `hubexport list | head -1`.
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="hubexport",
        description="Turns TF-Slim image checkpoints into TensorFlow Hub modules.",
        epilog="Run `hubexport COMMAND --help` for the flags of a command; --helpfull adds those of absl.",
    )
    parser.add_argument("--version", action="version", version=f"hubexport {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in _COMMANDS.items():
        command_parser = commands.add_parser(name, help=command.SUMMARY, description=command.__doc__)
        command.add_arguments(command_parser)
        command_parser.set_defaults(run=command.run, parser=command_parser)
    _check_flagfiles(argv)
    try:
        args, unknown = parser.parse_known_args(list(argv[1:]))
    except flags.Error as error:
        raise UsageError(
            f"hubexport: {str(error).removeprefix('ERROR:: ')}",
            why="an absl flag has an invalid value",
            fix="see hubexport --helpfull",
        ) from None
    if unknown:
        args.parser.error(f"unknown argument: {' '.join(unknown)}")
    return args


def _check_flagfiles(argv: Sequence[str]) -> None:
    """Refuses flag files that absl would never finish reading, such as pipes and endless devices."""
    for word, following in zip(argv, (*argv[1:], "")):
        name, equals, value = word.partition("=")
        if name in ("--flagfile", "-flagfile"):
            path = value if equals else following
            try:
                if path != os.devnull:  # Not a regular file, but a common way to pass no flags.
                    read_regular_file(Path(path).expanduser(), _MAX_FLAGFILE_BYTES)
            except OSError as error:
                raise UsageError(
                    f"hubexport: cannot read --flagfile {path}",
                    why=error.strerror or str(error),
                    fix="use a text file with one flag per line",
                ) from None


# From Python 3.12 on, the choices are not quoted.
_INVALID_CHOICE = re.compile(r".*: invalid choice: '(?P<word>.*)' \(choose from (?P<known>.*)\)")


class _Parser(argparse_flags.ArgumentParser):
    """Raises mistakes in a command line as UsageErrors, and suggests what was meant."""

    def __init__(self, **options: Any) -> None:
        # If prefixes were allowed, a new flag could change the meaning of an existing command line.
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = [word.partition("=")[0] for word in args or ()]
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        known = [option for action in self._actions for option in action.option_strings]
        unknown = [word for word in self._given if word.startswith("--") and word not in known]
        if choice := _INVALID_CHOICE.fullmatch(message.splitlines()[0]):
            unknown.append(choice["word"])
            known += re.findall(r"[\w-]+", choice["known"])
        guesses = [f"{word}{guess(word, known)}" for word in unknown if guess(word, known)]
        raise UsageError(
            f"{self.prog}: {message.splitlines()[0]}",
            why=f"unknown: {', '.join(guesses)}" if guesses else "the command line is incomplete or invalid",
            fix=f"see {self.prog} --help",
        )
