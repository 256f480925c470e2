"""Spreads work over several processes. If one is killed, the caller learns which results are lost."""

from collections.abc import Callable, Iterator, Sequence
import concurrent.futures
from concurrent.futures.process import BrokenProcessPool
import contextlib
from contextlib import AbstractContextManager
import multiprocessing
import os
import signal
import sys
import threading
from typing import NoReturn, TypeVar

from hubexport.progress import Progress, tensorflow_hushed

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_processes(
    work: Callable[[_Item, Progress], _Result], items: Sequence[_Item], jobs: int, progress: Progress
) -> Iterator[tuple[_Item, _Result | None]]:
    """Does the same work for many items in several processes.

    Args:
        work: a function at the top level of a module, which the processes import.
        items: the arguments of `work`. They are pickled.
        jobs: the number of processes.
        progress: receives the warnings of each item when it is done.
    Yields:
        Each item with its result, in the order in which they finish. A result is None if it was lost because a process
        was killed.
    """
    with _workers(jobs) as pool:
        with _interrupts_ignored():
            futures = {pool.submit(_work_in_process, work, item): item for item in items}
        for future in concurrent.futures.as_completed(futures):
            try:
                result, warnings = future.result()
            # A process that dies takes the whole pool with it, and the unfinished results of the others.
            except BrokenProcessPool:
                yield futures[future], None
                continue
            for warning in warnings:
                progress.warn(warning)
            yield futures[future], result


class _ProcessProgress(Progress):
    """Collects the warnings of one item."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def tensorflow_starting(self) -> AbstractContextManager[None]:
        return tensorflow_hushed()


def _work_in_process(work: Callable[[_Item, Progress], _Result], item: _Item) -> tuple[_Result, list[str]]:
    progress = _ProcessProgress()
    # A worker that is terminated while it works must clean up. An idle worker has nothing to clean up.
    signal.signal(signal.SIGTERM, _end_worker)
    try:
        return work(item, progress), progress.warnings
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_worker(*_: object) -> NoReturn:
    # After the death of a worker, the pool sends a second SIGTERM, which must not interrupt the cleaning up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


@contextlib.contextmanager
def _workers(jobs: int) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    others = multiprocessing.active_children()
    # Forked processes would inherit locks that threads hold, but not the threads.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        # A user who interrupts does not want to wait for work that has begun.
        for worker in set(multiprocessing.active_children()) - set(others):
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Lets processes that start here ignore Ctrl-C. It reaches all processes, but this one ends the others itself."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may set signal handlers.
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _start_worker() -> None:
    """Makes this worker end with its parent. An orphan would wait for work forever."""

    def end_with_parent() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
