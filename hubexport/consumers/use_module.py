"""Has a pinned consumer use a module as a program of its time would, and judges what the program recorded."""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np

from hubexport.consumers.child import running
from hubexport.consumers.judge import ModuleContract, Predictions
from hubexport.consumers.judge_tf1 import judge_tf1
from hubexport.consumers.judge_tf2 import judge_tf2
from hubexport.consumers.registry import PinnedConsumer
from hubexport.system.temporary import temporary_directory, temporary_failures_reported
from hubexport.variants import TF1_VERSIONS

# Each takes the tasks that `prepare_task` returns.
_PROGRAMS = Path(__file__).with_name("programs")
TF1_PROGRAM = _PROGRAMS / "consume_tf1.py"
TF2_PROGRAM = _PROGRAMS / "consume_tf2.py"
# It takes minutes, up to ten with a large module.
_TIMEOUT_S = 3600.0


@dataclasses.dataclass(frozen=True)
class ConsumerFindings:
    """The result of using a module with a consumer.

    Attributes:
        consumer: the consumer's name.
        tensorflow: the version that its TensorFlow reports.
        tensorflow_hub: the version that its tensorflow_hub reports.
        apis: the APIs that loaded the module: `hub.Module`, `hub.load`, `hub.KerasLayer`.
        largest_error: the largest difference between an output and the expected one; NaN if one cannot be compared.
        problems: the violations of the module's contract, one per line.
    """

    consumer: str
    tensorflow: str
    tensorflow_hub: str
    apis: tuple[str, ...]
    largest_error: float
    problems: tuple[str, ...]


@contextlib.contextmanager
def start_use(
    consumer: PinnedConsumer,
    directory: Path,
    contract: ModuleContract,
    *,
    shown_as: Path | str | None = None,
) -> Iterator[Callable[[], ConsumerFindings]]:
    """Starts to use a module with a consumer, in the background; the use ends with the context at the latest.

    Args:
        consumer: a consumer that can load the module, see `why_not_applicable`.
        directory: the module's directory.
        contract: what the module must contain and compute. Two or more of its images differ: the use trains on them.
        shown_as: what errors call the module; defaults to the directory.
    Yields:
        A function that waits until the consumer has finished, and judges what it recorded. It raises ConsumerError if
        the consumer failed, for example because it cannot load the module, or took too long.
    Raises:
        ConsumerError: the consumer is not set up, or cannot be started.
        TemporaryFileError: there is no room for its temporary files; so does the function.
    """
    interpreter = consumer.interpreter()
    program, judge = (TF1_PROGRAM, judge_tf1) if contract.version in TF1_VERSIONS else (TF2_PROGRAM, judge_tf2)
    what = f"TensorFlow {consumer.tensorflow} ({consumer.name}) cannot use {shown_as or directory}"
    with temporary_directory(what) as folder, contextlib.ExitStack() as stack:
        with temporary_failures_reported(what):
            task = prepare_task(directory, contract, folder)
        wait_for_answer = stack.enter_context(
            running(
                what,
                [interpreter, program],
                {"modules": [task]},
                folder,
                timeout_s=_TIMEOUT_S,
            )
        )

        def findings() -> ConsumerFindings:
            answer = wait_for_answer()
            [facts] = answer["modules"]
            judgement = judge(facts, read_outputs(Path(task["outputs"])), contract)
            return ConsumerFindings(
                consumer=consumer.name,
                tensorflow=answer["tensorflow"],
                tensorflow_hub=answer["tensorflow_hub"],
                apis=tuple(facts["apis"]),
                largest_error=judgement.largest_error,
                problems=judgement.problems,
            )

        yield findings


def prepare_task(directory: Path, contract: ModuleContract, folder: Path) -> dict[str, Any]:
    """Writes the inputs for one module into an existing folder, and returns the task that every program takes."""
    folder = folder.absolute()
    images = contract.images
    # For fine-tuning, each image is a class of its own.
    arrays = {"images": images, "photographs": images, "labels": np.arange(len(images))}
    arrays |= {f"training_{index}": batch for index, batch in enumerate(contract.training_batches)}
    if contract.other_images is not None:
        arrays["other_images"] = contract.other_images
    inputs = io.BytesIO()  # On a full disk, NumPy's own file would fail a second time, when it is garbage-collected.
    np.savez(inputs, **arrays)
    (folder / "inputs.npz").write_bytes(inputs.getvalue())
    return {
        "path": str(directory.absolute()),
        "is_tf1": contract.version in TF1_VERSIONS,
        "weight_decay": contract.weight_decay,
        "statistics": contract.statistics,
        "certain_statistics": contract.certain_statistics,
        "updates": [dataclasses.asdict(update) for update in contract.updates],
        "dropout_runs": contract.dropout_runs,
        "gradient_runs": contract.gradient_runs,
        "persistent": contract.persistent_modes,
        "inputs": str(folder / "inputs.npz"),
        "outputs": str(folder / "outputs.npz"),
        "export": str(folder / "export"),
        "scratch": str(folder),
        "try_load": True,
        "fine_tune": True,
    }


def read_outputs(path: Path) -> Predictions:
    """Returns the predictions that a program wrote."""
    with np.load(path) as arrays:
        return dict(arrays)
