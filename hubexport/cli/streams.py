"""Makes the standard streams usable, even if they are closed, full, or pipes without a reader.

Stdout gets the result, so a failure to write it is an error. Stderr gets remarks, so the work goes on if it fails.
"""

import codecs
import errno
import io
import os
import select
import sys
from typing import Any, TextIO

from hubexport.errors import OutputError

# Prints a path to stdout as the bytes that it has on the disk.
_ERRORS = "hubexport.surrogateescape"


def prepare_streams() -> None:
    """Replaces the standard streams of this process, and opens closed ones on /dev/null.

    Without this, the next file that is opened would get the closed stream's descriptor, and the output of libraries
    and child processes would go into that file.
    """
    # Stdout is opened for reading, so that writing to it still fails.
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # open returns the lowest free descriptor, which is this one.
            os.set_inheritable(os.open(os.devnull, mode), True)
    codecs.register_error(_ERRORS, _escaped)
    # A caller within this process, such as a test, may have replaced a stream. It stays.
    if sys.stdin is sys.__stdin__ and sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text_stream(_Results(1, "w", closefd=False), sys.stdout, _ERRORS)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text_stream(_Remarks(2, "w", closefd=False), sys.stderr, "backslashreplace")


class _Results(io.FileIO):
    """Stdout. The first failure is an OutputError, and everything written later is dropped."""

    def write(self, data: Any) -> int:
        try:
            return _write(self, data)
        except OSError as error:
            # Otherwise Python would fail to flush the rest at exit, and print an error of its own.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if isinstance(error, BrokenPipeError):
                raise
            raise OutputError(
                "cannot write to stdout",
                why="it is closed" if error.errno == errno.EBADF else error.strerror or str(error),
                fix="send stdout to a place that takes it, or to /dev/null",
            ) from error


class _Remarks(io.FileIO):
    """Stderr, which never fails."""

    def write(self, data: Any) -> int:
        try:
            return _write(self, data)
        except OSError:
            return len(data)


def _write(stream: io.FileIO, data: Any) -> int:
    """Writes all of the data, even without a buffer, and to pipes that another program made non-blocking."""
    left = memoryview(data).cast("B")
    while left:
        written = io.FileIO.write(stream, left)
        if written is None:
            select.select([], [stream], [])
        else:
            left = left[written:]
    return len(data)


def _text_stream(raw: io.FileIO, like: TextIO | None, errors: str) -> TextIO:
    """Returns a text stream with the buffering and encoding of `like`, or with Python's defaults if `like` is None."""
    unbuffered = isinstance(getattr(like, "buffer", None), io.RawIOBase)
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=like.encoding if like else "utf-8",
        errors=errors,
        line_buffering=getattr(like, "line_buffering", False),
        write_through=unbuffered,
    )


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encodes surrogates as the bytes of a path that they stand for, and escapes what else the encoding lacks."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)
