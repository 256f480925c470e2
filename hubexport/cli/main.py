"""The entry point: parses the command line with absl, runs a subcommand, and turns errors into an exit status."""

import argparse
from collections.abc import Callable, Sequence
import gc
import importlib.metadata
import os
from pathlib import Path
import platform
import re
import signal
import sys
from typing import Any, NoReturn

from absl import app, flags

from hubexport.cli import (
    build,
    check,
    classify,
    completion,
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
from hubexport.cli.old_spellings import todays_list, todays_words
from hubexport.cli.parser import Parser
from hubexport.cli.streams import prepare_streams
from hubexport.errors import HubexportError, UsageError
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
    "check": check,
    "serve": serve,
    "site": site,
    "list": list_variants,
    "completion": completion,
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
    parser = new_parser()
    if len(argv) == 1:
        parser.print_help()
        parser.exit()
    _check_flagfiles(argv)
    try:
        words, warnings = todays_words(flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=True), _COMMANDS)
        parser.check_order(words, _COMMANDS)
        args, left = parser.parse_known_args(words)
        if left and (rewritten := todays_list(args.parser.prog.partition(" ")[2], words, left)):
            words, more = rewritten
            warnings += more
            args, left = parser.parse_known_args(words)
    except flags.Error as error:
        problem = re.sub("invalid literal for int.*", "not a whole number", str(error).removeprefix("ERROR:: "))
        raise UsageError(
            f"hubexport: {problem}",
            why="an absl flag has an invalid value",
            fix="see hubexport --helpfull",
        ) from None
    for warning in warnings:
        print(f"WARNING {warning}", file=sys.stderr)
    if left:
        args.parser.refuse_unknown(left)
    return args


def new_parser() -> Parser:
    """Returns the parser of the whole command line."""
    parser = Parser(
        prog="hubexport",
        description="Turns TF-Slim image checkpoints into TensorFlow Hub modules.",
        epilog="Run `hubexport COMMAND --help` for the flags of a command; --helpfull adds those of absl. A flag with "
        "[,...] takes several values: separate them with commas, or repeat the flag.",
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="print the versions of hubexport, Python, NumPy and TensorFlow"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in _COMMANDS.items():
        command_parser = commands.add_parser(name, help=command.SUMMARY, description=command.__doc__)
        command.add_arguments(command_parser)
        command_parser.set_defaults(run=command.run, parser=command_parser)
        command_parser.whole = parser
    return parser


class _Version(argparse.Action):
    """Prints the versions that a report of a bug needs, and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        print(f"hubexport {__version__}\nPython {platform.python_version()}")
        for package in ("NumPy", "TensorFlow"):
            try:
                print(f"{package} {importlib.metadata.version(package)}")
            except importlib.metadata.PackageNotFoundError:
                print(f"{package} is not installed")
        parser.exit()


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
