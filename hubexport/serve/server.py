"""Runs the server until it is told to end."""

from collections.abc import Iterator
import contextlib
import dataclasses
import logging
from pathlib import Path
import resource
import signal
import socket
import sys
from typing import TextIO

import uvicorn

from hubexport.errors import ServerError
from hubexport.serve.access import ACCESS_LOG, LOG, JsonLines
from hubexport.serve.app import AppOptions, make_app
from hubexport.serve.metrics import Metrics
from hubexport.serve.protocol import GuardedProtocol
from hubexport.serve.served_release import ServedRelease
from hubexport.serve.trial_endpoint import TrialEndpoint
from hubexport.serve.trials import Trials
from hubexport.serve.watch import Watched

# Longer than a person reads between two pages is no use: browsers connect again.
_KEEP_ALIVE_SECONDS = 15
_BACKLOG = 2048
# Of what is open beside connections and the files that they get.
_SPARE_FILES = 64


@dataclasses.dataclass(frozen=True)
class ListenAddress:
    """Where and for how many the server is there.

    Attributes:
        host: the address to listen at.
        port: 0 lets the system choose one.
        max_connections: beyond which requests are answered by status 503.
        grace_seconds: how long answers under way may take once the server is told to end.
    """

    host: str = "127.0.0.1"
    port: int = 8500
    max_connections: int = 2000
    grace_seconds: int = 30


def serve(directory: Path, listen: ListenAddress, options: AppOptions, trials: Trials | None, told: TextIO) -> None:
    """Serves a release until the process gets SIGINT or SIGTERM; a second SIGINT ends it at once.

    Args:
        directory: the release's folder.
        listen: where.
        options: how; an empty `url` means the address it listens at.
        trials: classifies photographs; None if nobody may ask for that.
        told: gets one line when the server is there: its address.
    Raises:
        ReleaseError: there is no release, or its index cannot be read.
        ServerError: it cannot listen there.
    """
    with _logging(), _bound(listen) as listening:
        here = _address(listen.host, listening.getsockname()[1])
        options = dataclasses.replace(options, url=options.url or here)
        metrics = Metrics()
        watched = Watched(
            directory, lambda: ServedRelease(directory, url=options.url, can_try=trials is not None), metrics
        )
        try_out = TrialEndpoint(watched, directory, trials, metrics) if trials else None
        _allow_open_files(2 * listen.max_connections + _SPARE_FILES)
        config = uvicorn.Config(
            make_app(watched, options, metrics, try_out),
            http=GuardedProtocol,
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=listen.max_connections,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=listen.grace_seconds,
        )
        _Server(config, f"{here}/", told).run([listening])


class _Server(uvicorn.Server):
    """uvicorn's, which tells when it is there, and whose end by a signal is no failure."""

    def __init__(self, config: uvicorn.Config, address: str, told: TextIO) -> None:
        super().__init__(config)
        self._address = address
        self._told = told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self._address, file=self._told, flush=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own would raise the signal again once all is answered.
        before = {one: signal.signal(one, self.handle_exit) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


@contextlib.contextmanager
def _bound(listen: ListenAddress) -> Iterator[socket.socket]:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _cannot_listen(listen, error) from error
    with listening:
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except OSError as error:
            raise _cannot_listen(listen, error) from error
        yield listening


def _cannot_listen(listen: ListenAddress, error: OSError) -> ServerError:
    return ServerError(
        f"cannot listen on {listen.host}, port {listen.port}",
        why=error.strerror or str(error),
        fix="choose another --port (0 picks a free one), or a --host of this machine",
    )


def _address(host: str, port: int) -> str:
    if host in ("", "0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _allow_open_files(wanted: int) -> None:
    """Raises the number of files that this process may have open, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    loggers = [LOG, logging.getLogger("uvicorn")]
    ACCESS_LOG.setLevel(logging.INFO)
    LOG.setLevel(logging.INFO)
    # uvicorn tells of each start and stop; what is wrong is of interest.
    loggers[1].setLevel(logging.WARNING)
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
