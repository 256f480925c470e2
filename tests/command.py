"""Runs the command line as a user does: in a process of its own."""

import os
from pathlib import Path
import subprocess
import sys

from tests.data import REPOSITORY


def hubexport(
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
