"""The standard streams, whatever a shell connects them to: closed, full, or a pipe that nobody reads any more.

What goes to stdout is the result: if it cannot be written, that is an error. What goes to stderr is said in passing: if
it cannot be written, the work goes on.
"""

import codecs
import errno
import io
import os
import select
import sys
from typing import Any, TextIO

from hubexport.errors import OutputError

# A path on the way to stdout is the bytes that it is on the disk.
_ERRORS = "hubexport.surrogateescape"


def prepare_streams() -> None:
    """Makes the standard streams of this process usable.

    Those that are closed are opened, on nothing. Otherwise the next file that is opened would be file descriptor 0, 1
    or 2, and what a library or another process says there would go into it.
    """
    # Writing to a stdout that can only be read fails, as it does on one that is closed.
    for descriptor, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free, which is this one.
            os.set_inheritable(os.open(os.devnull, mode), True)
    codecs.register_error(_ERRORS, _escaped)
    # Others than Python's own are somebody's who calls this program from within.
    if sys.stdin is sys.__stdin__ and sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text_stream(_Results(1, "w", closefd=False), sys.stdout, _ERRORS)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text_stream(_Remarks(2, "w", closefd=False), sys.stderr, "backslashreplace")


class _Results(io.FileIO):
    """Stdout: fails once, with what users can do about it; what is written later is lost without a word."""

    def write(self, data: Any) -> int:
        try:
            return _write(self, data)
        except OSError as error:
            # Otherwise Python would fail to write the rest at its exit, and say so in its own way.
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
    """Stderr: never fails."""

    def write(self, data: Any) -> int:
        try:
            return _write(self, data)
        except OSError:
            return len(data)


def _write(stream: io.FileIO, data: Any) -> int:
    """Writes all: also without a buffer above, and to a pipe that somebody made non-blocking."""
    left = memoryview(data).cast("B")
    while left:
        written = io.FileIO.write(stream, left)
        if written is None:
            select.select([], [stream], [])
        else:
            left = left[written:]
    return len(data)


def _text_stream(raw: io.FileIO, like: TextIO | None, errors: str) -> TextIO:
    """Returns a stream that buffers and encodes as the one that Python made, unless that is None."""
    unbuffered = isinstance(getattr(like, "buffer", None), io.RawIOBase)
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=like.encoding if like else "utf-8",
        errors=errors,
        line_buffering=getattr(like, "line_buffering", False),
        write_through=unbuffered,
    )


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encodes what stands for bytes of a path as these bytes, and escapes what else the encoding lacks."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)
