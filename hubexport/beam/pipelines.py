"""Runs Apache Beam's pipelines, and reports its errors and a user's Ctrl-C."""

from collections.abc import Iterator
import contextlib
import io
import signal
import threading

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from hubexport.beam.options import Beam
from hubexport.errors import HubexportError, UsageError

_stopped = threading.Event()


def stopped() -> bool:
    """Returns whether the user has interrupted, so that this process must begin no further work."""
    return _stopped.is_set()


def new_pipeline(by: Beam) -> beam.Pipeline:
    """Returns an empty pipeline.

    Raises:
        UsageError: the runner does not exist, or an option has an invalid value.
    """
    messages = io.StringIO()
    flags = [f"--{option.removeprefix('--')}" for option in by.options]
    try:
        # Beam's parser prints what it does not understand, and exits.
        with contextlib.redirect_stderr(messages):
            options = PipelineOptions(flags, runner=by.runner)
            options.get_all_options()
            return beam.Pipeline(options=options)
    except (SystemExit, Exception) as error:
        why = messages.getvalue().rpartition("error: ")[2] or str(error)
        raise UsageError(
            f"Apache Beam cannot start {by.runner}",
            why=" ".join(why.split()),
            fix="use a runner like DirectRunner, FlinkRunner, SparkRunner or DataflowRunner, with its own options in "
            "--beam-option",
        ) from error


def run_pipeline(pipeline: beam.Pipeline, by: Beam) -> None:
    """Runs a pipeline to its end.

    Raises:
        HubexportError: the runner failed.
    """
    try:
        with _interrupted_between_units():
            running = pipeline.run()
        try:
            running.wait_until_finish()
        except (KeyboardInterrupt, SystemExit):
            with contextlib.suppress(Exception):
                running.cancel()
            raise
    # Runners come from many authors, and raise anything.
    except Exception as error:
        raise runner_failed(by, str(error)) from error


@contextlib.contextmanager
def _interrupted_between_units() -> Iterator[None]:
    """Delays the first Ctrl-C or SIGTERM until the runner has finished the units that it has begun in this process.

    A runner in this process would mistake an exception from a signal handler for a failure of the unit. Other runners
    return soon.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may set signal handlers.
        return
    received: list[int] = []

    def note(number: int, _: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        _stopped.set()

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _stopped.clear()
        if received:
            signal.raise_signal(received[0])


def runner_failed(by: Beam, message: str) -> HubexportError:
    """Returns the error for a runner that failed with a message."""
    [*_, last] = [line for line in message.splitlines() if line.strip()] or ["it gave no reason"]
    return HubexportError(
        f"{by.runner} failed",
        why=" ".join(last.split()),
        fix="see its log; paths must be the same on all workers. Run the same command again to resume",
    )
