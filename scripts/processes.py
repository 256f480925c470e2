"""Runs whole processes and says what they cost; for the benchmarks."""

from collections.abc import Sequence
import contextlib
import dataclasses
import os
from pathlib import Path
import subprocess
import sys
import threading
import time

_SAMPLE_EVERY_S = 0.01
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a process took, together with those that it started."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def run(arguments: Sequence[str]) -> Cost:
    """Runs Python with these arguments to its end.

    The peak is that of the largest process, or of the sum over all that run at one time, if that is more. It is right
    only because this process is small: Linux lets a child begin with its parent's.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    with _Watch(process.pid) as seen:
        _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(arguments)}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, max(usage.ru_maxrss / 1024, seen.peak_mib))


class _Watch(threading.Thread):
    """Looks again and again at how much memory all processes of a session have together."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self._session = session
        self._done = threading.Event()
        self.peak_mib = 0.0

    def __enter__(self) -> "_Watch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        while not self._done.wait(_SAMPLE_EVERY_S):
            self.peak_mib = max(self.peak_mib, _resident_bytes(self._session) / 2**20)


def _resident_bytes(session: int) -> int:
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(") ")[2].split()
            if int(fields[3]) == session:
                total += int(fields[21]) * _PAGE
    return total
