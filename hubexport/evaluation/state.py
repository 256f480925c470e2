"""Results so far, kept so that an interrupted evaluation can go on.

They are in a folder: one small file for each unit that is done, which appears whole or not at all, and one that tells
what is evaluated. Any number of processes, on any machines that share the folder, may add to them.
"""

from collections.abc import Iterator
import contextlib
from contextlib import AbstractContextManager
import dataclasses
import json
from pathlib import Path
import uuid

from hubexport.errors import OutputError, UsageError
from hubexport.evaluation.counting import Counts
from hubexport.system.atomic_output import make_folder, write_failures_reported
from hubexport.system.cache_folder import cache_dir
from hubexport.system.locks import LOCK, HeldError, locked

_KEY = "evaluation.json"
_UNIT = "unit-{:06}.json"
_UNITS = "unit-*.json"
_UNFINISHED = ".unfinished-"


@dataclasses.dataclass(frozen=True)
class State:
    """Where results are kept.

    Attributes:
        folder: it.
        key: of the evaluation that they are of.
    """

    folder: Path
    key: str

    def finished(self, units: int) -> dict[int, Counts]:
        """Returns what is known, by the number of the unit.

        Args:
            units: how many there are.
        """
        known = {number: _read(self._unit(number)) for number in range(units)}
        return {number: counts for number, counts in known.items() if counts is not None}

    def keep(self, unit: int, counts: Counts) -> None:
        """Keeps what came of a unit.

        Raises:
            OutputError: it cannot be written.
        """
        with _write_failures_reported(self.folder):
            _write(self._unit(unit), json.dumps(counts.as_json()))

    def scratch_file(self) -> Path:
        """Returns the path of a file that is not there, for whoever shares the folder; `remove` removes it too."""
        return self.folder / f"{_UNFINISHED}{uuid.uuid4().hex}"

    def remove(self) -> None:
        """Removes the results; when it is closed, the folder goes, too, if nothing else is in it."""
        with _write_failures_reported(self.folder):
            for pattern in (_UNITS, f"{_UNFINISHED}*", _KEY):
                for path in self.folder.glob(pattern):
                    path.unlink(missing_ok=True)

    def _unit(self, number: int) -> Path:
        return self.folder / _UNIT.format(number)


@contextlib.contextmanager
def opened_state(folder: str | Path | None, key: str) -> Iterator[State]:
    """Opens the results so far, which nobody else on this machine may have open. Without any, nothing stays behind.

    Args:
        folder: where they are or shall be; None for a place of their own in the cache folder.
        key: a digest of all that decides about results.
    Raises:
        UsageError: the folder has something else in it, or another process works on it.
        OutputError: it cannot be made or written to.
    """
    place = Path(folder) if folder is not None else cache_dir() / "evaluations" / key[:16]
    with _write_failures_reported(place):
        make_folder(place)
    try:
        with contextlib.ExitStack() as stack:
            with _write_failures_reported(place), _in_use_reported(place):
                stack.enter_context(locked(place / LOCK, "evaluate", None))
                _check_key(place, key)
            state = State(place, key)
            try:
                yield state
            finally:
                if not any(place.glob(_UNITS)):
                    with contextlib.suppress(OutputError):
                        state.remove()
    finally:
        with contextlib.suppress(OSError):  # Where something is left.
            place.rmdir()


@contextlib.contextmanager
def _in_use_reported(place: Path) -> Iterator[None]:
    try:
        yield
    except HeldError as error:
        raise UsageError(
            f"{place} is in use",
            why=f"another process is running the same evaluation: {error}",
            fix="wait for it, or keep the results elsewhere with --state",
        ) from None


def _check_key(place: Path, key: str) -> None:
    path = place / _KEY
    with contextlib.suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8", errors="replace").strip() == json.dumps({"key": key}):
            return
        raise UsageError(
            f"{place} holds the results of another evaluation",
            why="its module, data or options differ from yours, or their files have changed",
            fix="choose another folder with --state, or remove this one",
        )
    if any(one.name != LOCK and not one.name.startswith(_UNFINISHED) for one in place.iterdir()):
        raise UsageError(
            f"{place} is not a folder for results",
            why="it holds other files",
            fix="choose a folder with --state that is empty or does not exist",
        )
    _write(path, json.dumps({"key": key}))


def _read(path: Path) -> Counts | None:
    """Returns what is in a file; None if there is none, or a crash of the machine left it torn."""
    try:
        return Counts.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, text: str) -> None:
    # Two machines may do the same unit.
    unfinished = path.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
    unfinished.write_text(f"{text}\n", encoding="utf-8")
    unfinished.replace(path)


def _write_failures_reported(folder: Path) -> AbstractContextManager[None]:
    return write_failures_reported(f"cannot keep results in {folder}", folder, "choose another folder with --state")
