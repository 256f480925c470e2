"""Runs whole processes and measures what they cost; for the benchmarks."""

from collections.abc import Sequence
import contextlib
import dataclasses
import os
from pathlib import Path
import statistics
import subprocess
import sys
import threading
import time

_SAMPLING_INTERVAL_S = 0.01
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclasses.dataclass(frozen=True)
class ProcessCost:
    """What a process and its children cost.

    Attributes:
        wall_s: seconds from start to end.
        cpu_s: seconds of processor time.
        peak_mib: the largest resident memory, in MiB.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float


def measure(arguments: Sequence[str], python: str | Path = sys.executable) -> ProcessCost:
    """Runs Python with these arguments, and returns its cost.

    The peak is that of the largest process, or of all that run at the same time, if that is more. It is right only
    because this process is small: Linux counts a parent's memory as its child's until the child starts a program.

    Raises:
        SystemExit: the process failed.
    """
    # pip compiles what it installs. A checkout's modules must be compiled once as well, not in every process.
    compiling = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    process = subprocess.Popen(
        [python, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=compiling,
    )
    with _MemorySampler(process.pid) as sampler:
        _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(arguments)}")
    return ProcessCost(wall_s, usage.ru_utime + usage.ru_stime, max(usage.ru_maxrss / 1024, sampler.peak_mib))


def median_cost(costs: Sequence[ProcessCost]) -> ProcessCost:
    """Returns the median of each figure."""
    return ProcessCost(*map(statistics.median, zip(*map(dataclasses.astuple, costs), strict=True)))


def verdict(figure: float, goal: float) -> str:
    """Says whether a figure is at most its goal."""
    return f"goal {goal:.2f}  {'reached' if figure <= goal else 'MISSED'}"


class _MemorySampler(threading.Thread):
    """Samples the resident memory of all processes of a session together."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self._session = session
        self._done = threading.Event()
        self.peak_mib = 0.0

    def __enter__(self) -> "_MemorySampler":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        while not self._done.wait(_SAMPLING_INTERVAL_S):
            self.peak_mib = max(self.peak_mib, _resident_bytes(self._session) / 2**20)


def _resident_bytes(session: int) -> int:
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(") ")[2].split()
            if int(fields[3]) == session:
                total += int(fields[21]) * _PAGE_BYTES
    return total
