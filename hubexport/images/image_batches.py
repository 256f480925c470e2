"""Runs a module on image files in batches, while all cores read the next files."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
import contextlib
import dataclasses
import itertools
import os
from pathlib import Path

import numpy as np

from hubexport.arrays import Array
from hubexport.errors import ImageError, ModuleError, printable
from hubexport.images.image_files import image_count_text, no_readable_image
from hubexport.images.read_image import read_image
from hubexport.images.resizing import resized
from hubexport.progress import Progress

# Called with each file that cannot be read, and the reason.
OnUnreadable = Callable[[Path, ImageError], None]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some images of one call, in their order, without those that cannot be read.

    Attributes:
        paths: the images' files.
        numbers: the images, or a module's output for them: float32 [len(paths), ...].
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
    unreadable: OnUnreadable | None = None,
) -> Generator[Batch, None, None]:
    """Applies a function to image files, with no more than a few batches of them in memory.

    Args:
        function: takes float32 [batch, height, width, 3], RGB, intensities in [0, 1], and returns float32 [batch, ...].
        paths: the image files.
        height: the height in pixels that images are resized to.
        width: the width in pixels that images are resized to.
        batch_size: the number of images in a batch. The last batch may be smaller.
        progress: receives the number of files done, and a warning for each file that cannot be read. Such files are
            left out.
        unreadable: called with these files, too.
    Yields:
        The function's results, in the order of the files.
    Raises:
        ModuleError: the function returns infinite or NaN numbers.
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
            outputs = function(batch.numbers)
            finite = np.isfinite(outputs.reshape(len(batch.paths), -1)).all(axis=1)
            if not finite.all():
                raise ModuleError(
                    "the module is broken",
                    why=f"it outputs NaN or infinite numbers for {batch.paths[int(np.argmin(finite))]}",
                    fix="look at it with `hubexport inspect`, and build, export or fetch it again",
                )
            yield Batch(batch.paths, outputs)
            done += len(batch.paths)
            progress.count(done, len(paths))
    if skipped and skipped == len(paths):
        raise no_readable_image(skipped)
    if skipped:
        progress.warn(f"{skipped:,} of {image_count_text(len(paths))} skipped")


def _read_batches(
    paths: Sequence[Path], height: int, width: int, batch_size: int, unreadable: OnUnreadable
) -> Generator[Batch, None, None]:
    def readable() -> Iterator[tuple[Path, Array]]:
        for path, future in _read_ahead(paths, height, width, batch_size):
            try:
                yield path, future.result()
            except ImageError as error:
                unreadable(path, error)

    images = readable()
    while batch := list(itertools.islice(images, batch_size)):
        files, pictures = zip(*batch)
        yield Batch(files, np.stack(pictures))


def _read_ahead(
    paths: Sequence[Path], height: int, width: int, batch_size: int
) -> Iterator[tuple[Path, "Future[Array]"]]:
    """Yields the files in their order while threads read the next batch, and one or two more files per core."""
    cores = os.cpu_count() or 1
    # Threads suffice: Pillow releases Python's lock while it decodes and resizes.
    pool = ThreadPoolExecutor(cores)
    queue: deque[tuple[Path, "Future[Array]"]] = deque()
    try:
        for path in paths:
            queue.append((path, pool.submit(lambda path: resized(read_image(path), height, width), path)))
            if len(queue) > batch_size + 2 * cores:
                yield queue.popleft()
        while queue:
            yield queue.popleft()
    finally:
        pool.shutdown(cancel_futures=True)
