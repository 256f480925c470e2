"""Runs `hubexport serve` in a process of its own, and sends it exactly the requests that a test wants."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import http.client
import json
from pathlib import Path
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any
from urllib.parse import urlsplit

from tests.command import command, environment

_TIMEOUT = 30


@dataclasses.dataclass
class Answer:
    """A response.

    Attributes:
        status: the HTTP status.
        headers: the headers, by lower-case name.
        body: the whole body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class Server:
    """A running server.

    Attributes:
        process: the server's process.
        url: its address, without a slash at the end.
        log_path: the file with its stderr.
        port: the port that it listens on.
    """

    def __init__(self, process: subprocess.Popen[str], url: str, log_path: Path) -> None:
        self.process = process
        self.url = url
        self.log_path = log_path
        self.port = urlsplit(url).port

    def get(self, target: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """Requests exactly this target, and follows no redirect; in names of headers, _ stands for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT)
        with contextlib.closing(connection):
            connection.putrequest(method, target, skip_host="host" in headers, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            if body is not None:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def exchange(self, request: bytes, *, half_close: bool = False) -> bytes:
        """Sends bytes, and returns all that the server sends until it closes the connection.

        Args:
            request: the bytes.
            half_close: whether to say that nothing more will come.
        """
        with self.connection() as connection:
            connection.sendall(request)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(1 << 20), b""))

    def connection(self) -> socket.socket:
        """Opens a connection, without sending anything."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=_TIMEOUT)

    def refuses(self) -> bool:
        """Tells whether nobody accepts connections any more."""
        try:
            with self.connection():
                return False
        except ConnectionRefusedError:
            return True

    def logged(self, **facts: Any) -> dict[str, Any]:
        """Returns the line of the log with these facts; waits for it, because it may come after the response."""
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            for line in self.log():
                if facts.items() <= line.items():
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no line with {facts} in {self.log()}")

    def log(self) -> list[dict[str, Any]]:
        """Returns the complete lines of the log."""
        return [json.loads(line) for line in self.log_path.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def stop(self, sent: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal, and returns the exit status."""
        self.process.send_signal(sent)
        return self.process.wait(_TIMEOUT)


@contextlib.contextmanager
def serving(
    release: Path,
    *arguments: str,
    limits: Mapping[str, float] | None = None,
    open_files: tuple[int, int] | None = None,
) -> Iterator[Server]:
    """Serves a release on a free port; in the end, prints the log to stderr, for tests that fail.

    Args:
        release: the release's folder.
        arguments: further arguments of `hubexport serve`.
        limits: constants of `hubexport.serve.protocol` to replace: tests cannot wait as long as servers do.
        open_files: the soft and the hard limit of open files.
    """
    with tempfile.NamedTemporaryFile("w") as log:
        process = subprocess.Popen(
            [*_command(limits), "serve", str(release), "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(),
            preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, open_files)) if open_files else None,
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address, "the server did not start; its log is on stderr"
            yield Server(process, address.rstrip("/"), Path(log.name))
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            print(Path(log.name).read_text(), file=sys.stderr)


def _command(limits: Mapping[str, float] | None) -> list[str]:
    if limits is None:
        return command()
    program = f"""if True:
        from hubexport.cli.main import run
        from hubexport.serve import protocol

        for name, value in {dict(limits)!r}.items():
            assert hasattr(protocol, name), name
            setattr(protocol, name, value)
        run()
    """
    return [sys.executable, "-c", program]
