"""Runs the command line: in this process, or in a process of its own where a test needs that."""

from collections.abc import Iterator
import contextlib
import io
import logging
import os
from pathlib import Path
import signal
import subprocess
import sys
from unittest import mock

from absl.testing import flagsaver

from hubexport.cli.main import run
from tests.data import REPOSITORY

_LOGGERS = (logging.root, logging.getLogger("absl"))


class _Terminal(io.StringIO):
    """What rich takes for a terminal. Its width is that in the environment."""

    def isatty(self) -> bool:
        return True


def hubexport(
    *arguments: str | Path,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    columns: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs the command line in this process, and captures its stdout and stderr.

    File descriptors, signals and imports are those of this process. Tests of these use `hubexport_process`.

    Args:
        arguments: the command line.
        env: changes of the environment.
        cwd: the working directory.
        columns: the width of the terminal that stdout and stderr go to; None if they go to files.
    """
    words = ["hubexport", *map(str, arguments)]
    out, err = (io.StringIO() if columns is None else _Terminal() for _ in range(2))
    status = None
    env = {**(env or {}), **({} if columns is None else {"TERM": "xterm", "COLUMNS": str(columns)})}
    terminates = signal.getsignal(signal.SIGTERM)
    try:
        with (
            mock.patch.object(sys, "argv", words),
            mock.patch.dict(os.environ, env),
            _working_directory(cwd),
            _logging_restored(),
            flagsaver.flagsaver(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            run()
    except SystemExit as ended:
        status = ended.code
    finally:
        signal.signal(signal.SIGTERM, terminates)
    return subprocess.CompletedProcess(words, status or 0, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _logging_restored() -> Iterator[None]:
    """Restores the loggers, which absl changes when a program starts."""
    handlers, levels = logging.root.handlers[:], [(logger, logger.level) for logger in _LOGGERS]
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        for logger, level in levels:
            logger.setLevel(level)


@contextlib.contextmanager
def _working_directory(path: Path | None) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path or before)
    try:
        yield
    finally:
        os.chdir(before)


def hubexport_process(
    *arguments: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m hubexport` to its end."""
    return subprocess.run(
        command(*arguments),
        env=environment(env),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def command(*arguments: str | Path) -> list[str]:
    """Returns the command line for a `subprocess.Popen`."""
    return [sys.executable, "-m", "hubexport", *map(str, arguments)]


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Returns this process's environment, with the checkout on the path and TensorFlow's messages switched on."""
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return {**inherited, "PYTHONPATH": str(REPOSITORY), **(extra or {})}
