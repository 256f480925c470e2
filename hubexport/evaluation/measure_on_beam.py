"""Measures units on Apache Beam, on as many machines as its runner has.

Each worker process loads the module once, then reads, prepares and counts as a local evaluation does. The paths of the
module, the data and the kept results must be the same on all machines.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
import dataclasses
from pathlib import Path
import pickle
import threading
from typing import TYPE_CHECKING, TypeAlias

import apache_beam

from hubexport.beam.options import Beam
from hubexport.beam.pipelines import new_pipeline, run_pipeline, runner_failed, stopped
from hubexport.engines import Engine
from hubexport.errors import HubexportError
from hubexport.evaluation.accuracy_counts import AccuracyCounts
from hubexport.evaluation.dataset_units import DatasetUnit
from hubexport.evaluation.evaluation_task import EvaluationTask
from hubexport.evaluation.kept_results import KeptResults
from hubexport.evaluation.measure_units import measure_units
from hubexport.images.classification import count_classes
from hubexport.images.open_module import opened_interface
from hubexport.modules.image_interface import ImageInterface
from hubexport.modules.interface_hints import InterfaceHints
from hubexport.progress import Progress, tensorflow_hushed

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule

# Errors travel as results: a runner would retry a unit that raises one, and lose its message.
UnitOutcome: TypeAlias = AccuracyCounts | HubexportError

_loading = threading.Lock()
# By where they are, and how they are run.
_loaded: dict[tuple[Path, InterfaceHints, Engine | None], "ImageModule"] = {}


class _Hushed(Progress):
    """Shows nothing, not even TensorFlow's own messages."""

    def tensorflow_starting(self) -> AbstractContextManager[None]:
        return tensorflow_hushed()


def measure_on_beam(
    units: Sequence[tuple[int, DatasetUnit]], task: EvaluationTask, results: KeptResults, beam: Beam
) -> AccuracyCounts:
    """Classifies the images of units.

    Args:
        units: some units of the task's dataset, each with its number.
        task: the module, the dataset and the options.
        results: the folder that keeps the result of each unit as soon as it is known.
        beam: the runner, and its options.
    Returns:
        The sum of all counts.
    Raises:
        UsageError: there is no such runner, or an option has a value that it cannot have.
        HubexportError: a unit or the runner failed.
    """
    pipeline = new_pipeline(beam)
    interface = dataclasses.replace(task.interface, path=task.interface.path.absolute())
    total = results.scratch_file()
    outcomes = (
        pipeline
        | "Units" >> apache_beam.Create(units)
        # Without this, a runner may keep all units on one worker.
        | "Distribute" >> apache_beam.Reshuffle()
        | "Measure" >> apache_beam.ParDo(_Measure(dataclasses.replace(task, interface=interface), results))
    )
    outcomes | "Add up" >> apache_beam.CombineGlobally(add_up) | "Write" >> apache_beam.Map(_write, total)
    try:
        run_pipeline(pipeline, beam)
        outcome: UnitOutcome = pickle.loads(total.read_bytes())
    except (OSError, EOFError) as error:
        raise runner_failed(beam, str(error)) from error
    finally:
        total.unlink(missing_ok=True)
    if isinstance(outcome, HubexportError):
        raise outcome
    return outcome


class _Measure(apache_beam.DoFn):
    """Maps a numbered unit to its counts, or to the error that prevented them."""

    def __init__(self, task: EvaluationTask, results: KeptResults) -> None:
        # The task is sent to each worker, and the units are sent one by one.
        self._task = dataclasses.replace(task, dataset=dataclasses.replace(task.dataset, units=()))
        self._results = results

    def process(self, numbered: tuple[int, DatasetUnit]) -> Iterator[UnitOutcome]:
        if stopped():
            return
        number, unit = numbered
        try:
            module = _loaded_once(self._task.interface, self._task.options.engine)
            self._task.dataset.check_labels(count_classes(module.interface))
            [counts] = measure_units([unit], module, self._task.options)
            self._results.keep(number, counts)
            yield counts
        except HubexportError as error:
            yield error


def _loaded_once(interface: ImageInterface, engine: Engine | None) -> "ImageModule":
    """Returns the module, loaded once per process for all threads of a worker."""
    key = interface.path, interface.hints, engine
    with _loading:
        if key not in _loaded:
            _loaded[key] = _load(interface, engine)
        return _loaded[key]


def _load(interface: ImageInterface, engine: Engine | None) -> "ImageModule":
    # A thread of its own keeps the module open for as long as the process lives: a worker has no other work.
    loaded: Future[ImageModule] = Future()

    def keep_open() -> None:
        try:
            with opened_interface(interface, _Hushed(), engine) as opened:
                loaded.set_result(opened)
                threading.Event().wait()
        except Exception as error:
            loaded.set_exception(error)

    threading.Thread(target=keep_open, daemon=True).start()
    return loaded.result()


def add_up(outcomes: Iterable[UnitOutcome]) -> UnitOutcome:
    """Returns the sum of all counts. If there are errors, returns the first of them in the order of their texts."""
    total, errors = AccuracyCounts(), []
    for outcome in outcomes:
        if isinstance(outcome, HubexportError):
            errors.append(outcome)
        else:
            total += outcome
    return min(errors, key=str) if errors else total


def _write(outcome: UnitOutcome, path: Path) -> None:
    path.write_bytes(pickle.dumps(outcome))
