"""The results of an unfinished evaluation, kept in a folder so that an interrupted evaluation can go on.

The folder has one small file for each finished unit, which appears complete or not at all, and one file that identifies
the evaluation. Any number of processes may add results, on all machines that share the folder.
"""

from collections.abc import Iterator, Mapping
import contextlib
from contextlib import AbstractContextManager
import dataclasses
import json
from pathlib import Path
from typing import Any
import uuid

from hubexport.errors import OutputError, UsageError
from hubexport.evaluation.accuracy_counts import AccuracyCounts
from hubexport.system.atomic_output import make_folder, write_failures_reported
from hubexport.system.cache_folder import cache_dir
from hubexport.system.locks import LOCK, HeldError, locked

_KEY = "evaluation.json"
_UNIT = "unit-{:06}.json"
_UNITS = "unit-*.json"
_UNFINISHED = ".unfinished-"


@dataclasses.dataclass(frozen=True)
class KeptResults:
    """A folder of results.

    Attributes:
        folder: the folder's path.
        key: the digest that identifies the evaluation.
    """

    folder: Path
    key: str

    def finished(self, num_units: int) -> dict[int, AccuracyCounts]:
        """Returns the counts of the finished units, by the unit's number.

        Args:
            num_units: the number of units in the dataset.
        """
        counts = {}
        for number in range(num_units):
            # There may be no file, or an incomplete one if the machine crashed.
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                counts[number] = AccuracyCounts.from_json(json.loads(self._unit_file(number).read_bytes()))
        return counts

    def keep(self, unit: int, counts: AccuracyCounts) -> None:
        """Writes the counts of a unit.

        Raises:
            OutputError: the file cannot be written.
        """
        with _write_failures_reported(self.folder):
            self._write(self._unit_file(unit), counts.as_json())

    def scratch_file(self) -> Path:
        """Returns the path of a new file for everyone who shares the folder. `remove` removes it."""
        # The name is unique because two machines may work on the same unit.
        return self.folder / f"{_UNFINISHED}{uuid.uuid4().hex}"

    def remove(self) -> None:
        """Removes the results. `opened_results` then removes the folder, unless it holds anything else."""
        with _write_failures_reported(self.folder):
            for pattern in (_UNITS, f"{_UNFINISHED}*", _KEY):
                for path in self.folder.glob(pattern):
                    path.unlink(missing_ok=True)

    def check_key(self) -> None:
        """Marks an empty folder with the key, or checks that it has this key.

        Raises:
            UsageError: the folder belongs to another evaluation, or holds other files.
        """
        path, content = self.folder / _KEY, {"key": self.key}
        with contextlib.suppress(FileNotFoundError):
            if path.read_text(encoding="utf-8", errors="replace").strip() == json.dumps(content):
                return
            raise UsageError(
                f"{self.folder} holds the results of another evaluation",
                why="its module, data or options differ from yours, or their files have changed",
                fix="choose another folder with --state, or remove this one",
            )
        if any(entry.name != LOCK and not entry.name.startswith(_UNFINISHED) for entry in self.folder.iterdir()):
            raise UsageError(
                f"{self.folder} is not a folder for results",
                why="it holds other files",
                fix="choose a folder with --state that is empty or does not exist",
            )
        self._write(path, content)

    def _unit_file(self, number: int) -> Path:
        return self.folder / _UNIT.format(number)

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        unfinished = self.scratch_file()
        unfinished.write_text(f"{json.dumps(content)}\n", encoding="utf-8")
        unfinished.replace(path)


@contextlib.contextmanager
def opened_results(folder: str | Path | None, key: str) -> Iterator[KeptResults]:
    """Opens a folder of results for one process of this machine. If there are no results at the end, it is removed.

    Args:
        folder: the folder, which need not exist. Defaults to one in the cache folder that belongs to the key.
        key: a digest of everything that the results depend on.
    Raises:
        UsageError: the folder holds something else, or another process uses it.
        OutputError: the folder cannot be created or written to.
    """
    place = Path(folder) if folder is not None else cache_dir() / "evaluations" / key[:16]
    with _write_failures_reported(place):
        make_folder(place)
    results = KeptResults(place, key)
    try:
        with contextlib.ExitStack() as stack:
            with _write_failures_reported(place):
                try:
                    stack.enter_context(locked(place / LOCK, "evaluate", None))
                except HeldError as error:
                    raise UsageError(
                        f"{place} is in use",
                        why=f"another process is running the same evaluation: {error}",
                        fix="wait for it, or keep the results elsewhere with --state",
                    ) from None
                results.check_key()
            try:
                yield results
            finally:
                if not any(place.glob(_UNITS)):
                    with contextlib.suppress(OutputError):
                        results.remove()
    finally:
        with contextlib.suppress(OSError):  # The folder is not empty.
            place.rmdir()


def _write_failures_reported(folder: Path) -> AbstractContextManager[None]:
    return write_failures_reported(f"cannot keep results in {folder}", folder, "choose another folder with --state")
