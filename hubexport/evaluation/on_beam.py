"""The evaluation of units by Apache Beam, on as many machines as its runner has.

Each process of a worker loads the module once; it reads, prepares and counts as a local evaluation does. Module, data
and the folder of results are named by paths, which must be the same on all machines.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
import contextlib
import dataclasses
import functools
from pathlib import Path
import pickle
import threading
from typing import TYPE_CHECKING, TypeAlias

import apache_beam as beam

from hubexport.beam.options import Beam
from hubexport.beam.pipelines import new_pipeline, run_pipeline, runner_failed, stopped
from hubexport.errors import HubexportError
from hubexport.evaluation.counting import Counts
from hubexport.evaluation.datasets import Dataset
from hubexport.evaluation.pipeline import EvaluationOptions, measure
from hubexport.evaluation.state import State
from hubexport.evaluation.units import Unit
from hubexport.images.classification import count_classes
from hubexport.modules.image_interface import InterfaceHints
from hubexport.modules.opening import ModuleDirectory
from hubexport.progress import tensorflow_hushed

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule

# Errors travel like results: a runner would try again what raises them, and hide what they say.
Outcome: TypeAlias = Counts | HubexportError

_loading = threading.Lock()


def measure_on_beam(
    units: Sequence[tuple[int, Unit]],
    dataset: Dataset,
    module: ModuleDirectory,
    options: EvaluationOptions,
    state: State,
    by: Beam,
) -> Counts:
    """Classifies the images of units.

    Args:
        units: each with its number in the state.
        dataset: whose they are.
        module: a classification module.
        options: how.
        state: where each result is kept as soon as it is known.
        by: the runner, and its options.
    Returns:
        The counts of all.
    Raises:
        UsageError: there is no such runner, or an option has a value that it cannot take.
        HubexportError: what went wrong with a unit, or with the runner.
    """
    pipeline = new_pipeline(by)
    module = dataclasses.replace(module, directory=module.directory.absolute())
    total = state.scratch_file()
    outcomes = (
        pipeline
        | "Units" >> beam.Create(units)
        # Without it a runner may keep all on one worker.
        | "Distribute" >> beam.Reshuffle()
        | "Measure" >> beam.ParDo(_Measure(dataset, module, options, state))
    )
    outcomes | "Add up" >> beam.CombineGlobally(add_up) | "Tell" >> beam.Map(_write, total)
    try:
        run_pipeline(pipeline, by)
        outcome = _read(total)
    except (OSError, EOFError) as error:
        raise runner_failed(by, str(error)) from error
    finally:
        total.unlink(missing_ok=True)
    if isinstance(outcome, HubexportError):
        raise outcome
    return outcome


class _Measure(beam.DoFn):
    """Gives the counts of units, or why there are none."""

    def __init__(self, dataset: Dataset, module: ModuleDirectory, options: EvaluationOptions, state: State) -> None:
        # It travels to each worker; units travel by themselves.
        self._labels = dataclasses.replace(dataset, units=())
        self._artifact = module
        self._options = options
        self._state = state

    def process(self, numbered: tuple[int, Unit]) -> Iterator[Outcome]:
        if stopped():
            return
        number, unit = numbered
        try:
            module = _loaded(self._artifact, self._options.told)
            self._labels.check_labels(count_classes(module.interface))
            [counts] = measure([unit], module, self._options)
            self._state.keep(number, counts)
            yield counts
        except HubexportError as error:
            yield error


def _loaded(artifact: ModuleDirectory, told: InterfaceHints) -> "ImageModule":
    """Returns the module, loaded once in a process, for all threads in which its runner works."""
    with _loading:
        return _load(artifact, told)


@functools.cache
def _load(artifact: ModuleDirectory, told: InterfaceHints) -> "ImageModule":
    # A thread of its own keeps the module open for as long as the process lives: a worker has no other work.
    loaded: Future[ImageModule] = Future()
    threading.Thread(target=_keep_open, args=(artifact, told, loaded), daemon=True).start()
    return loaded.result()


def _keep_open(artifact: ModuleDirectory, told: InterfaceHints, loaded: "Future[ImageModule]") -> None:
    try:
        with contextlib.ExitStack() as stack:
            with tensorflow_hushed():
                from hubexport.runtime.image_module import opened_image_module

                module = stack.enter_context(opened_image_module(artifact.directory, artifact.shown_as, told))
            loaded.set_result(module)
            threading.Event().wait()
    except Exception as error:
        loaded.set_exception(error)


def add_up(outcomes: Iterable[Outcome]) -> Outcome:
    """Adds counts up; if there are errors among them, gives the first of them in the order of their texts."""
    total, errors = Counts(), []
    for outcome in outcomes:
        if isinstance(outcome, HubexportError):
            errors.append(outcome)
        else:
            total += outcome
    return min(errors, key=str) if errors else total


def _write(outcome: Outcome, path: Path) -> None:
    path.write_bytes(pickle.dumps(outcome))


def _read(path: Path) -> Outcome:
    outcome: Outcome = pickle.loads(path.read_bytes())
    return outcome
