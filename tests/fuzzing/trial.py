"""Runs readers on damaged inputs in separate processes, and reports each outcome.

python -m tests.fuzzing.trial FOLDER INPUT SEED START END      one such process, for the mutations START to END
"""

from collections.abc import Iterator
import dataclasses
import faulthandler
import json
import os
from pathlib import Path
from random import Random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from typing import Literal

from hubexport.errors import HubexportError
from tests.fuzzing.inputs import INPUTS, damage

_PATIENCE_S = 60
_MEMORY_BYTES = 6 << 30
# An error's what, why and fix.
_ERROR_LINES = 3
# The mutations that one process tries. Starting a process takes as long as about fifty of them.
_BATCH = 100


@dataclasses.dataclass(frozen=True)
class Trial:
    """The outcome of one damaged input.

    Attributes:
        number: the number of the mutation; with the seed it determines the damage.
        outcome: whether the input was read, refused by a HubexportError, or neither.
        seconds: the time that it took.
        why: the finding; empty if there is none.
    """

    number: int
    outcome: Literal["read", "refused", "finding"]
    seconds: float
    why: str


def trials(folder: Path, name: str, seed: str, count: int) -> Iterator[Trial]:
    """Damages an input in several ways, and yields each outcome; a process that dies is a finding.

    Args:
        folder: the folder of the good input.
        name: its name in `INPUTS`.
        seed: the seed of the damage.
        count: the number of mutations.
    """
    start = 0
    while start < count:
        for trial in _batch(folder, name, seed, start, min(count, start + _BATCH)):
            yield trial
            start = trial.number + 1


def write_damaged(folder: Path, name: str, seed: str, number: int, target: Path) -> None:
    """Writes one damaged input."""
    shutil.copytree(folder, target)
    damage(name, target, Random(f"{seed} {name} {number}"))


def _batch(folder: Path, name: str, seed: str, start: int, end: int) -> Iterator[Trial]:
    """Yields the outcomes of mutations in one process, up to one that kills it."""
    command = [sys.executable, "-m", "tests.fuzzing.trial", str(folder), name, seed, str(start), str(end)]
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            command,
            env={
                **os.environ,
                "TMPDIR": scratch,
                "PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), *sys.path])),
            },
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    lines = done.stdout.splitlines()
    yield from (Trial(**json.loads(line)) for line in lines)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        why = f"its process ended with status {done.returncode}: {''.join(last)[:150]}"
        yield Trial(start + len(lines), "finding", 0.0, why)


def _try(folder: Path, name: str, seed: str, number: int) -> Trial:
    with tempfile.TemporaryDirectory() as place:
        damaged = Path(place) / "input"
        write_damaged(folder, name, seed, number, damaged)
        began = time.perf_counter()
        outcome, why = _outcome(name, damaged)
        seconds = time.perf_counter() - began
    scratch = Path(tempfile.gettempdir())
    if left := sorted(path.name for path in scratch.iterdir()):
        outcome, why = "finding", f"left behind: {left}"
        for path in scratch.iterdir():
            shutil.rmtree(path, ignore_errors=True)
    return Trial(number, outcome, seconds, why)


def _outcome(name: str, damaged: Path) -> tuple[Literal["read", "refused", "finding"], str]:
    try:
        INPUTS[name].read(damaged)
    except HubexportError as error:
        lines = str(error).splitlines()
        if error.why and len(lines) == _ERROR_LINES + len(error.details):
            return "refused", ""
        return "finding", f"an error without a reason, or with lines of a stranger: {lines}"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "finding", f"{type(error).__name__}: {str(error)[:100]!r} in {Path(place.filename).name}:{place.lineno}"
    return "read", ""


def _main(folder: str, name: str, seed: str, start: str, end: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in range(int(start), int(end)):
        faulthandler.dump_traceback_later(_PATIENCE_S, exit=True)
        print(json.dumps(dataclasses.asdict(_try(Path(folder), name, seed, number))), flush=True)
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    _main(*sys.argv[1:])
