"""Image files through a module, batch by batch: while it computes, all cores read ahead."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
import contextlib
import dataclasses
import os
from pathlib import Path

import numpy as np

from hubexport.arrays import Array
from hubexport.errors import ImageError, ModuleError, printable
from hubexport.images.image_files import counted, none_readable
from hubexport.images.preprocessing import resized
from hubexport.images.reading import read_image
from hubexport.progress import Progress

# Hears of a file that cannot be read, and why.
Unreadable = Callable[[Path, ImageError], None]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some of the files that could be read, in their order.

    Attributes:
        paths: of the files.
        numbers: float32 [len(paths), ...]: their pictures, or what a module made of them.
    """

    paths: tuple[Path, ...]
    numbers: Array


def apply_to_files(
    function: Callable[[Array], Array],
    paths: Sequence[Path],
    height: int,
    width: int,
    *,
    batch_size: int,
    progress: Progress,
    unreadable: Unreadable | None = None,
) -> Generator[Batch, None, None]:
    """Applies a function to the pictures in files, without ever having more than a few batches of them in memory.

    Args:
        function: takes float32 [batch, height, width, 3], RGB, intensities in [0, 1]; gives [batch, ...].
        paths: of the files.
        height: to which the pictures are resized, in pixels.
        width: the same.
        batch_size: how many pictures the function gets; the last time perhaps fewer.
        progress: hears how many files are done, and a warning for each file that cannot be read and is left out.
        unreadable: is called with these files, too.
    Yields:
        What the function gives, in the order of the files.
    Raises:
        ModuleError: it gives numbers that are infinite or NaN.
        ImageError: none of the files can be read.
    """
    done = skipped = 0

    def skip(path: Path, error: ImageError) -> None:
        nonlocal done, skipped
        done, skipped = done + 1, skipped + 1
        progress.warn(printable(f"skipped {path}: {error.why}"))
        if unreadable:
            unreadable(path, error)

    progress.count(0, len(paths))
    with contextlib.closing(_read_batches(paths, height, width, batch_size, skip)) as batches:
        for batch in batches:
            yield Batch(batch.paths, _finite(function(batch.numbers), batch.paths))
            done += len(batch.paths)
            progress.count(done, len(paths))
    if skipped and skipped == len(paths):
        raise none_readable(skipped)
    if skipped:
        progress.warn(f"{skipped:,} of {counted(len(paths))} skipped")


def _finite(numbers: Array, paths: Sequence[Path]) -> Array:
    sound = np.isfinite(numbers.reshape(len(paths), -1)).all(axis=1)
    if not sound.all():
        raise ModuleError(
            "the module is broken",
            why=f"it outputs NaN or infinite numbers for {paths[int(np.argmin(sound))]}",
            fix="look at it with `hubexport inspect`, and build, export or fetch it again",
        )
    return numbers


def _read_batches(
    paths: Sequence[Path], height: int, width: int, batch_size: int, unreadable: Unreadable
) -> Generator[Batch, None, None]:
    read: list[tuple[Path, Array]] = []
    for path, future in _read_ahead(paths, height, width, batch_size):
        try:
            read.append((path, future.result()))
        except ImageError as error:
            unreadable(path, error)
        if len(read) == batch_size:
            yield _stacked(read)
            read = []
    if read:
        yield _stacked(read)


def _stacked(read: Sequence[tuple[Path, Array]]) -> Batch:
    paths, pictures = zip(*read)
    return Batch(paths, np.stack(pictures))


def _read_ahead(
    paths: Sequence[Path], height: int, width: int, batch_size: int
) -> Iterator[tuple[Path, "Future[Array]"]]:
    """Yields the files in their order while further ones are read: the next batch's, and one or two a core."""
    cores = os.cpu_count() or 1
    # Pillow decodes and resizes without the lock that keeps Python's threads apart.
    pool = ThreadPoolExecutor(cores)
    waiting: deque[tuple[Path, "Future[Array]"]] = deque()
    try:
        for path in paths:
            waiting.append((path, pool.submit(_read_resized, path, height, width)))
            if len(waiting) > batch_size + 2 * cores:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


def _read_resized(path: Path, height: int, width: int) -> Array:
    return resized(read_image(path), height, width)
