"""Work that several processes share, and what becomes of it when one of them is killed."""

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
    """Lets processes do the same work for many things.

    Args:
        work: a function of a module, which the processes import; what it warns of, `progress` hears.
        items: what to do it for; they travel to the processes.
        jobs: how many processes.
        progress: hears of warnings when what they belong to is done.
    Yields:
        Each with its result, in the order in which they come; None where it was lost, because some process was killed.
    """
    with _workers(jobs) as pool:
        with _interrupts_ignored():
            futures = {pool.submit(_work_in_process, work, item): item for item in items}
        for future in concurrent.futures.as_completed(futures):
            try:
                result, warnings = future.result()
            # One process that dies takes the pool with it, and what others have done with it is not heard of.
            except BrokenProcessPool:
                yield futures[future], None
                continue
            for warning in warnings:
                progress.warn(warning)
            yield futures[future], result


class _ProcessProgress(Progress):
    """Keeps what a process has to tell."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def tensorflow_starting(self) -> AbstractContextManager[None]:
        return tensorflow_hushed()


def _work_in_process(work: Callable[[_Item, Progress], _Result], item: _Item) -> tuple[_Result, list[str]]:
    progress = _ProcessProgress()
    # Ended in the middle of its work, it cleans up; otherwise there is nothing to clean up.
    signal.signal(signal.SIGTERM, _end_worker)
    try:
        return work(item, progress), progress.warnings
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_worker(*_: object) -> NoReturn:
    # The pool says it again when one of its processes has gone; that must not disturb the cleaning up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(1)


@contextlib.contextmanager
def _workers(jobs: int) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    others = multiprocessing.active_children()
    # Forked ones would inherit the threads' locks, but not the threads.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        # Whoever interrupts does not want to wait for what has been begun.
        for worker in set(multiprocessing.active_children()) - set(others):
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Lets processes start deaf to Ctrl-C, which reaches the whole group; this one ends the others in its own way."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread may say what signals do.
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _start_worker() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends an orphan, which would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
