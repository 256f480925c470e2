"""Runs the server until it is told to stop."""

import asyncio
from collections.abc import Iterator
import contextlib
import dataclasses
import functools
from pathlib import Path
import signal
import socket
import time
from typing import TextIO

import uvicorn

from hubexport.errors import ServerError
from hubexport.serve import protocol
from hubexport.serve.app import AppOptions, make_app
from hubexport.serve.listener import Listener, fitted_connections
from hubexport.serve.log import json_log_on_stderr
from hubexport.serve.metrics import Metrics
from hubexport.serve.release_watcher import ReleaseWatcher
from hubexport.serve.served_release import ServedRelease
from hubexport.serve.trial_endpoint import TrialEndpoint
from hubexport.serve.trials import Trials

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
    """

    host: str = "127.0.0.1"
    port: int = 8500
    max_connections: int = 2000
    grace_seconds: int = 30


def serve(directory: Path, listen: ListenOptions, options: AppOptions, trials: Trials | None, stdout: TextIO) -> None:
    """Serves a release until the process gets SIGINT or SIGTERM; a second SIGINT stops the server at once.

    Args:
        directory: the release's folder.
        listen: where to listen.
        options: how to serve the release; an empty `url` stands for the address that the server listens on.
        trials: classifies photographs; None disables that.
        stdout: gets one line when the server is ready: its address.
    Raises:
        ReleaseError: the folder holds no release, or its index cannot be read.
        ServerError: the server cannot listen there, or the system permits it too few open files.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(json_log_on_stderr())
        listen = dataclasses.replace(listen, max_connections=fitted_connections(listen.max_connections))
        listening = stack.enter_context(_bound_socket(listen))
        address = _address(listen.host, listening.getsockname()[1])
        options = dataclasses.replace(options, url=options.url or address)
        metrics = Metrics()
        watcher = ReleaseWatcher(
            directory, lambda: ServedRelease(directory, url=options.url, can_try=trials is not None), metrics
        )
        trial_endpoint = TrialEndpoint(watcher, directory, trials, metrics, options.url) if trials else None
        config = uvicorn.Config(
            make_app(watcher, options, metrics, trial_endpoint),
            # A function that makes a protocol is as good as a class.
            http=functools.partial(protocol.GuardedProtocol, max_connections=listen.max_connections),  # type: ignore
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
            timeout_graceful_shutdown=listen.grace_seconds,
        )
        _Server(config, f"{address}/", stdout).run([listening])


class _Server(uvicorn.Server):
    """uvicorn's server; it checks its connections, and a signal that stops it is not a failure.

    Args:
        config: uvicorn's settings.
        address: printed to stdout when the server is ready.
        stdout: where to print.
    """

    def __init__(self, config: uvicorn.Config, address: str, stdout: TextIO) -> None:
        super().__init__(config)
        self._address = address
        self._stdout = stdout

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._checking = asyncio.create_task(self._check_connections())
        print(self._address, file=self._stdout, flush=True)

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
def _bound_socket(listen: ListenOptions) -> Iterator[Listener]:
    with contextlib.ExitStack() as stack:
        try:
            family, _, _, _, address = socket.getaddrinfo(
                listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            bound = stack.enter_context(Listener(family, listen.max_connections))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError as error:
            raise ServerError(
                f"cannot listen on {listen.host}, port {listen.port}",
                why=error.strerror or str(error),
                fix="choose another --port (0 picks a free one), or a --host of this machine",
            ) from error
        yield bound


def _address(host: str, port: int) -> str:
    if host in ("", "0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
