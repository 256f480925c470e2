"""Several processes that answer requests, and the one that starts them, starts them again, and stops them."""

from collections.abc import Callable, Iterator
import contextlib
import multiprocessing
from multiprocessing import connection
import os
import signal
import sys
import time
from types import FrameType

from hubexport.errors import HubexportError, ServerError
from hubexport.serve.log import LOG

# A worker that ends at once, again and again, must not keep a core busy.
_PAUSE_SECONDS = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_fork = multiprocessing.get_context("fork")
Process = multiprocessing.context.ForkProcess


class Workers:
    """Runs workers until this process gets SIGINT or SIGTERM.

    They get the same signals, and end in their own time. Workers also stop if this process is killed.

    Args:
        number: how many workers to run.
        work: what each does, in a process of its own. It gets the worker's number, from 0, and a function to call when
            the worker is ready; it returns after SIGTERM.
        ended: called in this process with the number and process id of a worker that has ended.
        stopping: called in this process when the workers are told to stop, maybe several times.
    """

    def __init__(
        self,
        number: int,
        work: Callable[[int, Callable[[], None]], None],
        ended: Callable[[int, int], None],
        stopping: Callable[[], None],
    ) -> None:
        self._number = number
        self._work = work
        self._ended = ended
        self._stopping = stopping
        self._processes: dict[int, Process] = {}
        self._is_stopping = False

    def run(self, ready: Callable[[], None]) -> None:
        """Starts the workers, and waits until they have stopped.

        Args:
            ready: called when all workers are ready.
        Raises:
            ServerError: a worker does not become ready.
        """
        with self._signals_forwarded():
            try:
                started = [self._start(worker) for worker in range(self._number)]
                are_ready = all([_is_ready(receiver) for receiver in started])
                if not (are_ready or self._is_stopping):
                    raise ServerError(
                        "a worker of the server ended at its start",
                        why="the log on stderr says more",
                        fix="try --workers 1",
                    )
                if not self._is_stopping:
                    ready()
                while not self._is_stopping:
                    self._replace_ended()
            finally:
                self._signal(signal.SIGTERM)
                for process in self._processes.values():
                    process.join()

    def _replace_ended(self) -> None:
        """Waits until a worker ends, and starts another one."""
        connection.wait([process.sentinel for process in self._processes.values()])
        for worker, process in list(self._processes.items()):
            if process.is_alive() or self._is_stopping:
                continue
            process.join()
            LOG.error("a worker ended, and is started again", extra={"facts": {"status": process.exitcode}})
            assert process.pid is not None
            self._ended(worker, process.pid)
            time.sleep(_PAUSE_SECONDS)
            _is_ready(self._start(worker))

    def _start(self, worker: int) -> "connection.Connection[bool, bool]":
        """Starts a worker, unless all are stopping, and returns where it says that it is ready."""
        receiver, sender = _fork.Pipe(duplex=False)
        process = _fork.Process(target=self._run, args=(worker, sender), daemon=True)
        # A signal between the fork and the next line would not reach the new worker.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            if not self._is_stopping:
                process.start()
                self._processes[worker] = process
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        sender.close()
        return receiver

    def _run(self, worker: int, sender: "connection.Connection[bool, bool]") -> None:
        """What happens in the worker's process."""
        # Ctrl+C reaches all processes of a group. Only the first process shall get it, which passes it on.
        os.setpgid(0, 0)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        try:
            self._work(worker, lambda: sender.send(True))
        except HubexportError as error:
            LOG.error("a worker cannot serve", extra={"facts": {"what": error.what, "why": error.why}})
            sys.exit(1)
        except Exception:
            LOG.exception("a worker failed")
            sys.exit(1)

    @contextlib.contextmanager
    def _signals_forwarded(self) -> Iterator[None]:
        old_handlers = {number: signal.signal(number, self._stop) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in old_handlers.items():
                signal.signal(number, handler)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self._is_stopping = True
        self._stopping()
        self._signal(number)

    def _signal(self, number: int) -> None:
        for process in self._processes.values():
            if process.is_alive():
                assert process.pid is not None
                os.kill(process.pid, number)


def _is_ready(receiver: "connection.Connection[bool, bool]") -> bool:
    """Waits until a worker is ready, or has ended, and returns whether it is ready."""
    with receiver, contextlib.suppress(EOFError):
        return receiver.recv()
    return False
