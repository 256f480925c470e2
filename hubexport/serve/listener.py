"""Accepts connections, no more than the system has file descriptors for."""

import contextlib
import errno
import resource
import socket
from typing import Any
import weakref

from hubexport.errors import ServerError
from hubexport.serve.file_responses import MAX_OPEN_FILES
from hubexport.serve.log import LOG

# Connections beyond --max-connections that get an answer: 503. Still further ones are closed at once.
_REFUSED_CONNECTIONS = 32
# Two releases while one replaces the other, the refused connections, and what else a server opens.
_OTHER_FILES = 2 * MAX_OPEN_FILES + _REFUSED_CONNECTIONS + 64
# A connection, and a file that it downloads.
_FILES_PER_CONNECTION = 2
# So many are closed before the server turns to its other connections.
_MAX_CLOSED_AT_ONCE = 100
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def fitted_connections(wanted: int) -> int:
    """Raises this process's limit of open files as far as needed and permitted.

    Args:
        wanted: how many connections the server is asked to serve at once.
    Returns:
        How many it can serve. If they are fewer, the log says why.
    Raises:
        ServerError: it cannot serve any.
    """
    files = _FILES_PER_CONNECTION * wanted + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < files:
        permitted = files if hard == resource.RLIM_INFINITY else min(files, hard)
        # Some systems permit fewer than they say.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (permitted, hard))
            soft = permitted
    if soft == resource.RLIM_INFINITY or soft >= files:
        return wanted
    fitted = (soft - _OTHER_FILES) // _FILES_PER_CONNECTION
    if fitted < 1:
        raise ServerError(
            "too few open files are permitted",
            why=f"this process may have {soft}, and needs {_OTHER_FILES + _FILES_PER_CONNECTION} for one connection",
            fix=f"permit more: ulimit -n {files}",
        )
    facts = {"max_connections": fitted, "wanted": wanted, "open_files": soft, "fix": f"ulimit -n {files}"}
    LOG.warning("serving fewer connections than --max-connections", extra={"facts": facts})
    return fitted


class Listener(socket.socket):
    """A listening socket that closes further connections while there are too many."""

    def __init__(self, family: int, max_connections: int) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._max_open = max_connections + _REFUSED_CONNECTIONS
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._is_exhausted = False

    def accept(self) -> tuple[socket.socket, Any]:
        """Called by asyncio until nobody waits.

        Raises:
            BlockingIOError: nobody waits, or it is the turn of other connections.
            OSError: the system has no resources left. asyncio tries again after a second, but only after it has
                called this method some thousand times more, so the next call raises BlockingIOError.
        """
        if self._is_exhausted:
            self._is_exhausted = False
            raise BlockingIOError
        if len(self._open) >= self._max_open:
            self._open = weakref.WeakSet(connection for connection in self._open if connection.fileno() >= 0)
        for _ in range(_MAX_CLOSED_AT_ONCE):
            try:
                connection, address = super().accept()
            except OSError as error:
                self._is_exhausted = error.errno in _EXHAUSTED
                raise
            if len(self._open) < self._max_open:
                self._open.add(connection)
                return connection, address
            connection.close()
            LOG.warning("closed a connection: there are too many", extra={"facts": {"open": self._max_open}})
        raise BlockingIOError
