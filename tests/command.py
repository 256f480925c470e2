"""Runs the command line as a user does: in this process, or where that is the point in one of its own."""

from collections.abc import Iterator
import contextlib
import io
import os
from pathlib import Path
import signal
import subprocess
import sys
from unittest import mock

from hubexport.cli.main import run
from tests.data import REPOSITORY


def hubexport(
    *arguments: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command line in this process to its end, with a standard output and error of its own.

    What happens below Python (file descriptors, signals, imports) is this process's: for tests of those there is
    `hubexport_process`.
    """
    words = ["hubexport", *map(str, arguments)]
    out, err, status = io.StringIO(), io.StringIO(), None
    terminates = signal.getsignal(signal.SIGTERM)
    try:
        with (
            mock.patch.object(sys, "argv", words),
            mock.patch.dict(os.environ, env or {}),
            _working_directory(cwd),
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
    """Returns this process's environment, in which hubexport is found in the checkout, and TensorFlow may chatter."""
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return {**inherited, "PYTHONPATH": str(REPOSITORY), **(extra or {})}
