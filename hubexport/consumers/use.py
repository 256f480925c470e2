"""Has a consumer use a module as a program of its time would, and judges what it saw."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np

from hubexport.arrays import Array
from hubexport.consumers.child import RunningProgram, running
from hubexport.consumers.judge import AnyArray, Judgement, Promise, judge_quickly
from hubexport.consumers.judge_tf1 import judge_tf1
from hubexport.consumers.judge_tf2 import judge_tf2
from hubexport.consumers.registry import Consumer, PinnedConsumer
from hubexport.progress import Progress
from hubexport.system.temporary import temporary_directory, temporary_failures_reported
from hubexport.variants import TF1_VERSIONS

_PROGRAMS = Path(__file__).with_name("programs")
# Loading and applying a module takes seconds, all that is tried with a large one can take ten minutes.
_QUICK_TIMEOUT_S = 300.0
_THOROUGH_TIMEOUT_S = 3600.0


@dataclasses.dataclass(frozen=True)
class ConsumerProgram:
    """A way to use modules.

    Attributes:
        program: which does that in the consumer's interpreter; it takes the tasks that `module_task` makes.
        judge: what makes a judgement of the facts and predictions that the program leaves.
    """

    program: Path
    judge: Callable[[Mapping[str, Any], Mapping[str, AnyArray], Promise], Judgement]


QUICKLY = ConsumerProgram(_PROGRAMS / "consume_quickly.py", judge_quickly)
AS_TF1 = ConsumerProgram(_PROGRAMS / "consume_tf1.py", judge_tf1)
AS_TF2 = ConsumerProgram(_PROGRAMS / "consume_tf2.py", judge_tf2)


@dataclasses.dataclass(frozen=True)
class ConsumerFindings:
    """What became of a module in a consumer.

    Attributes:
        consumer: its name.
        tensorflow: its version, as it says itself.
        tensorflow_hub: the same.
        apis: what the module was really used with: `hub.Module`, `hub.load`, `hub.KerasLayer`.
        largest_error: the largest difference of any output to what was expected; NaN if one cannot be compared.
        problems: the promises that it breaks, one a line; empty if it keeps all that were tried.
    """

    consumer: str
    tensorflow: str
    tensorflow_hub: str
    apis: tuple[str, ...]
    largest_error: float
    problems: tuple[str, ...]


class ModuleUse:
    """A use of a module that has begun."""

    def __init__(
        self, consumer: Consumer, way: ConsumerProgram, promise: Promise, program: RunningProgram, outputs: Path
    ) -> None:
        self._consumer = consumer
        self._way = way
        self._promise = promise
        self._program = program
        self._outputs = outputs

    def findings(self) -> ConsumerFindings:
        """Waits until the consumer is done, and judges what it saw.

        Raises:
            ConsumerError: it broke off, as it does with a module that it cannot load, or took too long.
            TemporaryFileError: it broke off because there is no room for its temporary files.
        """
        seen = self._program.seen()
        [facts] = seen["modules"]
        judgement = self._way.judge(facts, read_outputs(self._outputs), self._promise)
        return ConsumerFindings(
            consumer=self._consumer.name,
            tensorflow=seen["tensorflow"],
            tensorflow_hub=seen["tensorflow_hub"],
            apis=tuple(facts["apis"]),
            largest_error=judgement.largest_error,
            problems=judgement.problems,
        )


@contextlib.contextmanager
def started(
    consumer: Consumer,
    directory: Path,
    images: Array,
    promise: Promise,
    *,
    thorough: bool,
    timeout_s: float | None = None,
    shown_as: Path | str | None = None,
) -> Iterator[ModuleUse]:
    """Lets a consumer begin to use a module, and this process go on; with the context the use ends, done or not.

    Args:
        consumer: one that can load the module, see `why_not_applicable`.
        directory: the module's.
        images: float32 [batch, height, width, 3], RGB, intensities in [0, 1]. A thorough use trains on them: it needs
            two or more that differ.
        promise: what the module is held to.
        thorough: try all that programs do with modules, which takes minutes with large ones. Otherwise the module is
            loaded and applied twice, which takes little more than to import TensorFlow.
        timeout_s: seconds after which the consumer is given up; None means long enough for large modules.
        shown_as: what errors call the module, where it is the copy of something else.
    Raises:
        ConsumerError: the consumer is not set up, or cannot be started.
        TemporaryFileError: there is no room for what it leaves.
    """
    interpreter = consumer.interpreter()
    way = QUICKLY if not thorough else AS_TF1 if promise.version in TF1_VERSIONS else AS_TF2
    timeout_s = timeout_s or (_THOROUGH_TIMEOUT_S if thorough else _QUICK_TIMEOUT_S)
    what = f"TensorFlow {consumer.tensorflow} ({consumer.name}) cannot use {shown_as or directory}"
    with temporary_directory(what) as folder, contextlib.ExitStack() as stack:
        with temporary_failures_reported(what):
            task = module_task(directory, images, promise, folder)
        program = stack.enter_context(
            running(
                what,
                [interpreter, way.program],
                {"modules": [task]},
                folder,
                timeout_s=timeout_s,
                same_packages=not isinstance(consumer, PinnedConsumer),
            )
        )
        yield ModuleUse(consumer, way, promise, program, Path(task["outputs"]))


def use_module(
    consumer: Consumer,
    directory: Path,
    images: Array,
    promise: Promise,
    *,
    thorough: bool,
    progress: Progress,
    timeout_s: float | None = None,
    shown_as: Path | str | None = None,
) -> ConsumerFindings:
    """Has a consumer use a module, and waits for it: see `started`."""
    progress.step(f"using {shown_as or directory} with TensorFlow {consumer.tensorflow}")
    with started(
        consumer, directory, images, promise, thorough=thorough, timeout_s=timeout_s, shown_as=shown_as
    ) as use:
        return use.findings()


def module_task(directory: Path, images: Array, promise: Promise, folder: Path) -> dict[str, Any]:
    """Returns what any of the programs is told of one module, once what it reads is in `folder`, which exists."""
    folder = folder.absolute()
    # For fine-tuning, each image is a class of its own.
    inputs = io.BytesIO()  # On a full disk, NumPy's file would complain once more when it is forgotten.
    np.savez(inputs, images=images, photographs=images, labels=np.arange(len(images)))
    (folder / "inputs.npz").write_bytes(inputs.getvalue())
    return {
        "path": str(directory.absolute()),
        "version": promise.version,
        "is_tf1": promise.version in TF1_VERSIONS,
        "inputs": str(folder / "inputs.npz"),
        "outputs": str(folder / "outputs.npz"),
        "export": str(folder / "export"),
        "scratch": str(folder),
        "try_load": True,
        "fine_tune": True,
    }


def read_outputs(path: Path) -> dict[str, AnyArray]:
    """Returns the predictions that a program has left."""
    with np.load(path) as arrays:
        return dict(arrays)
