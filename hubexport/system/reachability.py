"""Tells quickly that there is no network. An HTTP library would wait long for an answer, once for each address."""

from collections.abc import Sequence
import contextlib
import errno
import os
import queue
import select
import socket
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import requests

# Failures take less than a second where the system knows of them. Where packets are lost, nothing answers at all.
_LIMIT_S = 3.0
_PORTS = {"http": 80, "https": 443}
_SOCKS_PORT = 1080
_MAX_ADDRESSES = 8

# What `socket.getaddrinfo` returns for one address.
_Address = tuple[Any, ...]


def unreachable_reason(url: str) -> str | None:
    """Tries to connect to the server of an address, or to the proxy that the environment names for it.

    Args:
        url: an http or https address.
    Returns:
        Why there is no connection; None if there is one, or if the address is not valid.
    """
    try:
        proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
        # Like requests, this takes a proxy without a scheme for one that speaks HTTP.
        parts = urlsplit(url if not proxy else proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme, _SOCKS_PORT)
    except ValueError:
        return None
    if not host:
        return None
    what = "the proxy " if proxy else ""
    deadline = time.monotonic() + _LIMIT_S
    try:
        return _failed_connection(_look_up(host, port), f"{what}{host}, port {port}", deadline)
    except socket.gaierror as error:
        return f"cannot look up {what}{host}: {error.strerror}"
    except TimeoutError:
        return f"cannot look up {what}{host}: no answer within {_LIMIT_S:g} s"
    except UnicodeError:  # The name is not valid.
        return None


def _look_up(host: str, port: int) -> Sequence[_Address]:
    """Looks up a name. The system's own function may take much longer than the limit, and cannot be interrupted."""
    answers: queue.SimpleQueue[Sequence[_Address] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    # A daemon keeps no process alive.
    threading.Thread(target=look_up, daemon=True).start()
    try:
        answer = answers.get(timeout=_LIMIT_S)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _failed_connection(addresses: Sequence[_Address], what: str, deadline: float) -> str | None:
    """Connects to all addresses of a server at once, and returns why none answers; None as soon as one does."""
    code = 0
    with contextlib.ExitStack() as stack:
        waiting = []
        for family, kind, protocol, _, address in addresses[:_MAX_ADDRESSES]:
            try:
                connecting = stack.enter_context(socket.socket(family, kind, protocol))
            except OSError as error:  # The system has no addresses of this family.
                code = error.errno or code
                continue
            connecting.setblocking(False)
            code = connecting.connect_ex(address)
            if code in (0, errno.EISCONN):
                return None
            if code == errno.EINPROGRESS:
                waiting.append(connecting)
        while waiting:
            _, ready, _ = select.select([], waiting, [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return f"no answer from {what} within {_LIMIT_S:g} s"
            for connected in ready:
                waiting.remove(connected)
                if not (code := connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                    return None
    return f"no connection to {what}: {os.strerror(code)}"
