"""Runs the server until it is told to stop."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import functools
import multiprocessing
from pathlib import Path
import signal
import socket
import time
from typing import TextIO

import uvicorn

from hubexport.errors import ServerError
from hubexport.serve import protocol
from hubexport.serve.app import AppOptions, make_app
from hubexport.serve.connection_limit import ConnectionLimit
from hubexport.serve.listener import Listener, fitted_connections
from hubexport.serve.log import LogForm, log_on_stderr
from hubexport.serve.metrics import Metrics, forget_process, shared_metrics
from hubexport.serve.release_watcher import ReleaseWatcher
from hubexport.serve.served_release import ServedRelease
from hubexport.serve.trial_endpoint import TrialEndpoint
from hubexport.serve.trials import Trials
from hubexport.serve.workers import Workers

_BACKLOG = 2048
_LONGER_THAN_ANY_LIMIT = 3600


@dataclasses.dataclass(frozen=True)
class ListenOptions:
    """Where the server listens, and how it treats connections.

    Attributes:
        host: the address to listen on.
        port: the port to listen on; 0 lets the system choose one.
        max_connections: how many connections are served at once; requests on further ones are answered with 503.
        grace_seconds: how long responses in progress may take once the server is told to stop.
        workers: how many processes answer requests.
        log_form: the form of the log's lines.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    max_connections: int = 2000
    grace_seconds: int = 30
    workers: int = 1
    log_form: LogForm = "auto"


def serve(directory: Path, listen: ListenOptions, options: AppOptions, trials: Trials | None, stdout: TextIO) -> None:
    """Serves a release until the process gets SIGINT or SIGTERM; a second SIGINT stops the server at once.

    Args:
        directory: the release's folder.
        listen: where to listen.
        options: how to serve the release; an empty `url` stands for the address that the server listens on.
        trials: classifies photographs; None disables that. Only for a server with one process.
        stdout: gets one line when the server is ready: its address.
    Raises:
        ReleaseError: the folder holds no release, or its index cannot be read.
        ServerError: the server cannot listen there, or the system permits it too few open files.
        TemporaryFileError: several processes cannot share their metrics.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(log_on_stderr(listen.log_form, shared=listen.workers > 1))
        limit = ConnectionLimit(fitted_connections(listen.max_connections), listen.workers)
        sockets = stack.enter_context(_bound_sockets(listen, limit.max_connections))
        address = _address(listen.host, sockets[0].getsockname()[1])
        options = dataclasses.replace(options, url=options.url or address)

        shared = stack.enter_context(shared_metrics()) if listen.workers > 1 else None
        process = _Process(directory, sockets, limit, listen.grace_seconds, options, trials, shared)

        def ready() -> None:
            print(f"{address}/", file=stdout, flush=True)

        if shared is None:
            process.serve(0, ready)
        else:
            # Reports a folder that holds no release, once.
            ServedRelease(directory, url=options.url, can_try=False)
            Workers(listen.workers, process.serve, process.ended, process.close_sockets).run(ready)


@dataclasses.dataclass(frozen=True)
class _Process:
    """Answers requests, in this process or in one that it forks.

    Attributes:
        directory: the release's folder.
        sockets: one for each worker.
        limit: the limit of connections, for all workers together.
        grace_seconds: how long responses in progress may take once the server is told to stop.
        options: how to serve the release.
        trials: classifies photographs; None disables that.
        shared: the folder of shared metrics; None if there is only one worker.
    """

    directory: Path
    sockets: Sequence[Listener]
    limit: ConnectionLimit
    grace_seconds: int
    options: AppOptions
    trials: Trials | None
    shared: Path | None

    def serve(self, worker: int, ready: Callable[[], None]) -> None:
        """Serves as one of the workers, in this process, until it gets a signal.

        Args:
            worker: the number of the worker.
            ready: called when it is ready.
        """
        self.limit.worker = worker
        self.close_sockets(but=worker)
        metrics, options, trials = Metrics(self.shared), self.options, self.trials
        watcher = ReleaseWatcher(
            self.directory,
            lambda: ServedRelease(self.directory, url=options.url, can_try=trials is not None, tfjs=options.tfjs),
            metrics,
        )
        trial_endpoint = TrialEndpoint(watcher, self.directory, trials, metrics, options.url) if trials else None
        config = uvicorn.Config(
            make_app(watcher, options, metrics, trial_endpoint),
            # A function that makes a protocol is as good as a class.
            http=functools.partial(protocol.GuardedProtocol, limit=self.limit),  # type: ignore
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            # The protocol's own limit comes first; any byte would switch off this one.
            timeout_keep_alive=_LONGER_THAN_ANY_LIMIT,
            timeout_graceful_shutdown=self.grace_seconds,
        )
        _Server(config, ready).run([self.sockets[worker]])

    def ended(self, worker: int, process: int) -> None:
        """Clears away what a worker leaves that has ended.

        Args:
            worker: the number of the worker.
            process: its process id.
        """
        self.limit.forget(worker)
        if self.shared:
            forget_process(self.shared, process)

    def close_sockets(self, but: int | None = None) -> None:
        """Closes the workers' sockets, except for one: the system accepts connections until all processes do."""
        for number, listening in enumerate(self.sockets):
            if number != but:
                listening.close()


class _Server(uvicorn.Server):
    """uvicorn's server; it checks its connections, and a signal that stops it is not a failure.

    Args:
        config: uvicorn's settings.
        ready: called when the server is ready.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._checking = asyncio.create_task(self._check_connections())
        if parent := multiprocessing.parent_process():
            asyncio.get_running_loop().add_reader(parent.sentinel, self._stop_without, parent.sentinel)
        self._ready()

    def _stop_without(self, sentinel: int) -> None:
        """Stops because the process that started this one was killed."""
        asyncio.get_running_loop().remove_reader(sentinel)
        self.handle_exit(signal.SIGTERM, None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().shutdown(sockets)
        finally:
            self._checking.cancel()

    async def _check_connections(self) -> None:
        while True:
            await asyncio.sleep(protocol.CHECK_SECONDS)
            now = time.monotonic()
            for connection in list(self.server_state.connections):
                assert isinstance(connection, protocol.GuardedProtocol)
                connection.check(now)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own method would raise the signal again at the end, and so kill the process.
        old_handlers = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old_handlers.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _bound_sockets(listen: ListenOptions, max_connections: int) -> Iterator[list[Listener]]:
    """Binds a socket for each worker to the same address; the system gives each of them its share of connections."""
    with contextlib.ExitStack() as stack:
        sockets: list[Listener] = []
        try:
            family, _, _, _, address = socket.getaddrinfo(
                listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            for number in range(listen.workers):
                bound = stack.enter_context(Listener(family, max_connections))
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if number:
                    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    bound.bind(sockets[0].getsockname())
                else:
                    bound.bind(address)
                    if listen.workers > 1:
                        # Only now, so that this server does not share the port with another one.
                        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sockets.append(bound)
        except OSError as error:
            raise ServerError(
                f"cannot listen on {listen.host}, port {listen.port}",
                why=error.strerror or str(error),
                fix="choose another --port (0 picks a free one), or a --host of this machine",
            ) from error
        yield sockets


def _address(host: str, port: int) -> str:
    if host in ("", "0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
