"""Lets people try a module: each photograph that they upload is classified in a process of its own."""

import asyncio
import contextlib
import dataclasses
import logging
import math
import os
from pathlib import Path
import signal
import sys
import tempfile
from typing import TYPE_CHECKING, Annotated, Any

import pydantic
from pydantic import Field

from hubexport.errors import HubexportError, ImageError, ModuleError
from hubexport.serve.trial_worker import TrialTask, too_large
from hubexport.system.child_process import ChildError, child_command, last_lines, own_environment, read_answer
from hubexport.variants import StrictModel

if TYPE_CHECKING:
    from hubexport.images.classification import Score

_WORKER = Path(__file__).with_name("trial_worker.py")
# A real answer has a few hundred.
_MAX_ANSWER_BYTES = 64 << 10
_MAX_LOGGED = 4000
_END_SECONDS = 5
# Programs need these to find their libraries and each other. The process gets no other variables of the server.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME")
_VARIABLES = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
    # One thread for each core would take too much address space.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

_log = logging.getLogger(__name__)


class BusyError(HubexportError):
    """Too many photographs are waiting to be classified."""


@dataclasses.dataclass(frozen=True)
class TrialLimits:
    """The limits for one photograph.

    Attributes:
        seconds: the time from the start of its process to the answer, and the CPU time.
        memory_bytes: the address space. The largest network so far, of 240 MB, takes 910 MiB with its photograph, and
            decoding a large photograph up to 12 bytes for each pixel, or 20 if it is transparent.
        image_bytes: the size of its file.
    """

    seconds: float = 20
    memory_bytes: int = 2 << 30
    image_bytes: int = 10 << 20


class _Score(StrictModel):
    index: Annotated[int, Field(ge=0)]
    label: str | None
    probability: Annotated[float, Field(ge=0, le=1)]


class _Error(StrictModel):
    what: str
    why: str
    fix: str


class _Answer(StrictModel):
    top: tuple[_Score, ...] = ()
    error: _Error | None = None


class Trials:
    """Classifies the photographs that one server receives, a few at a time.

    Waiting photographs are kept in memory: at most `limits.image_bytes` times (`processes` + `waiting`).

    Args:
        processes: how many photographs to classify at the same time.
        waiting: how many more may wait.
        labels: a file with one class name per line, for modules without their own that have as many classes.
        top: how many classes to return.
        limits: the limits for each photograph.
    """

    def __init__(
        self,
        *,
        processes: int = 1,
        waiting: int = 8,
        labels: Path | None = None,
        top: int = 5,
        limits: TrialLimits = TrialLimits(),
    ) -> None:
        self._labels = labels
        self._top = top
        self._limits = limits
        self._capacity = processes + waiting
        self._free = asyncio.Semaphore(processes)
        self._trials: set["asyncio.Task[tuple[Score, ...]]"] = set()

    async def classify(self, archive: Path, image: bytes) -> "tuple[Score, ...]":
        """Returns the classes of a photograph. If the caller is cancelled, the process is killed.

        Args:
            archive: the classification module, a `.tar.gz` that the caller trusts.
            image: a file that claims to be a JPEG, PNG, BMP, GIF or WebP image.
        Returns:
            The most probable classes, the most probable first.
        Raises:
            ImageError: the photograph cannot be classified. The error tells its owner why.
            BusyError: too many others are waiting.
            ModuleError: the server or the module is at fault. The log says what happened, the error does not.
        """
        if len(image) > self._limits.image_bytes:
            raise too_large(self._limits.image_bytes)
        if len(self._trials) >= self._capacity:
            raise BusyError("the server is busy", why="other images are waiting", fix="try again in a few seconds")
        # In a task of its own, the cleaning up goes on however often the request is cancelled.
        trial = asyncio.create_task(self._classified(archive, image))
        self._trials.add(trial)
        trial.add_done_callback(self._trials.discard)
        try:
            return await asyncio.shield(trial)
        finally:
            trial.cancel()

    async def close(self) -> None:
        """Ends all processes, cancels their callers, and starts no more. Call it before the event loop ends."""
        self._capacity = 0
        trials = list(self._trials)
        for trial in trials:
            trial.cancel()
        await asyncio.gather(*trials, return_exceptions=True)

    async def _classified(self, archive: Path, image: bytes) -> "tuple[Score, ...]":
        async with self._free:
            try:
                # The process does not make the folder itself: it could be killed before it removes it.
                with tempfile.TemporaryDirectory(prefix="hubexport-try-") as folder:
                    return _scores(*await self._run(archive, image, Path(folder)))
            except OSError as error:
                _log.error("cannot run a process to classify an image: %s", error)
                raise no_answer() from None

    async def _run(self, archive: Path, image: bytes, folder: Path) -> tuple[int, Path]:
        """Runs the worker to its end, and returns its exit status and its folder."""
        task = TrialTask(
            archive=str(archive.absolute()),
            image=str(folder / "image"),
            module=str(folder / "module"),
            labels=str(self._labels.absolute()) if self._labels else None,
            top=self._top,
            image_bytes=self._limits.image_bytes,
            memory_bytes=self._limits.memory_bytes,
            cpu_seconds=math.ceil(self._limits.seconds),
        )
        Path(task.image).write_bytes(image)
        Path(task.module).mkdir()
        starting = asyncio.ensure_future(_start(task, folder))
        # asyncio hangs if a start is cancelled before the pipes are connected.
        cancelled = await _finished(starting)
        process = starting.result()
        try:
            if cancelled:
                raise asyncio.CancelledError
            return await asyncio.wait_for(process.wait(), self._limits.seconds), folder
        except asyncio.TimeoutError:
            raise ImageError(
                "the image takes too long",
                why=f"classifying it takes more than {self._limits.seconds:g} seconds",
                fix="choose a smaller one, or try again later",
            ) from None
        finally:
            await _finished(asyncio.ensure_future(_end(process)))


async def _finished(work: "asyncio.Future[Any]") -> bool:
    """Waits until work is done. Returns whether the waiting task was cancelled in the meantime."""
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            cancelled = True
    return cancelled


async def _start(task: TrialTask, folder: Path) -> asyncio.subprocess.Process:
    environment = {**own_environment(_INHERITED), **_VARIABLES}
    with child_command(sys.executable, _WORKER, dataclasses.asdict(task), folder, environment) as (command, options):
        return await asyncio.create_subprocess_exec(*command, **options, start_new_session=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.stdin, "it is a pipe"
    # The pipe closes when the programs that the process started have ended, too. After a time limit we stop waiting:
    # a program that left the process group may still run.
    with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
        await asyncio.wait_for(process.stdin.wait_closed(), _END_SECONDS)
    process.stdin.close()
    await process.wait()


def _scores(status: int, folder: Path) -> "tuple[Score, ...]":
    from hubexport.images.classification import Score  # Imports Pillow, which a server without trials does not need.

    if complaints := last_lines(folder):
        _log.warning("the classification process wrote: %s", " ".join(complaints)[-_MAX_LOGGED:])
    if status < 0:
        _log.warning("the classification process was killed by signal %d", -status)
        raise ImageError(
            "the image cannot be classified",
            why="it needs more time or memory than one image may use",
            fix="choose another one, or one with fewer pixels",
        )
    try:
        answer = _Answer.model_validate_json(read_answer(folder, status, _MAX_ANSWER_BYTES))
    except (ChildError, pydantic.ValidationError) as error:
        if status == 0:
            _log.error("the classification process did not answer with hubexport's JSON")
        raise no_answer() from error
    if answer.error:
        raise ImageError(answer.error.what, why=answer.error.why, fix=answer.error.fix)
    if not answer.top:
        raise no_answer()
    return tuple(Score(score.index, score.label, score.probability) for score in answer.top)


def no_answer() -> ModuleError:
    """Returns the error for an image that cannot be classified through no fault of its own."""
    return ModuleError(
        "the image cannot be classified",
        why="the server has a problem with this module, not with the image",
        fix="try another module, or tell the server's operator; the log says more",
    )
