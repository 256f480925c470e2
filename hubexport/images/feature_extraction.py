"""Computes feature vectors of images and writes them to a file: `hubexport.extract_features`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import contextlib
from contextlib import AbstractContextManager
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hubexport.arrays import Array
from hubexport.engines import Engine
from hubexport.errors import ModuleError, UsageError, check_positive
from hubexport.extras import require_extras
from hubexport.images.image_batches import Batch, OnUnreadable, apply_to_files
from hubexport.images.image_files import find_images, image_count_text, no_readable_image
from hubexport.images.open_module import opened_module
from hubexport.modules.image_interface import ImageInterface, unknown_output_error
from hubexport.modules.interface_hints import InterfaceHints, OutputKind
from hubexport.progress import Progress
from hubexport.system.atomic_output import publish_together, scratch_directory, write_failures_reported
from hubexport.system.destinations import check_destination
from hubexport.system.locks import LOCK, locked

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule

# Readers of Parquet load whole row groups. One of this size has a few megabytes.
_ROWS_PER_GROUP = 1024

# Called with the names of images, and their feature vectors: float32 [len(names), num_features].
_Write = Callable[[Sequence[str], Array], None]


def extract_features(
    module: "ImageModule | str | Path",
    images: str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    batch_size: int = 32,
    overwrite: bool = False,
    input_range: tuple[float, float] | None = None,
    output_kind: OutputKind | None = None,
    image_size: tuple[int, int] | None = None,
    engine: Engine | None = None,
    unreadable: OnUnreadable | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Writes the feature vectors of images to a file.

    The whole image is resized to the module's size or `image_size` (Pillow's bilinear filter, aspect ratio not kept).
    The module gets float32 [batch, height, width, 3], RGB, with intensities in [0, 1] or in `input_range`. The output
    appears when it is complete, and a failure leaves nothing behind.

    Args:
        module: a module of either kind: its directory, a gzipped tar of it, its http or https address on a hub server,
            a deployment like an ONNX model, or a module that
            `hubexport.runtime.image_module.opened_image_module` has opened.
        images: one or more of: JPEG, PNG, BMP, GIF and WebP files, folders (with their subfolders), patterns such as
            `photos/**/*.jpg`. The files of a folder or pattern are sorted by name.
        output: a file `….npy`, float32 [images, num_features]; `….npy.names.txt` beside it names the image of each row,
            one per line. Or a file `….parquet` with the columns `file` (string) and `features` (a list of num_features
            float32).
        batch_size: the number of images that the module computes at once.
        overwrite: replace the output if it exists.
        input_range: the intensities of black and white that the module takes, like `(-1, 1)`. Defaults to (0, 1), as in
            the common signatures for images. SavedModels without these signatures, such as Keras models, need it.
        output_kind: the meaning of the module's output: `features`. Defaults to what the module says. SavedModels
            without the common signatures need it.
        image_size: height and width in pixels, for a module that takes images of any size. Defaults to the size that
            the module or its manifest names.
        engine: what runs the module: `tensorflow`, or `onnx` for ONNX Runtime, which runs modules of hubexport and
            starts in a fraction of the time. Defaults to TensorFlow, or to ONNX Runtime if TensorFlow is not installed.
            An ONNX model always runs in ONNX Runtime.
        unreadable: called with the path and the `ImageError` of each file that cannot be read. Such files have no row,
            and `progress` gets a warning.
        progress: receives each step, the number of images done, and warnings.
    Returns:
        The files written, `output` first. The rows are in the order of the images.
    Raises:
        ImageError: an input matches no image, or none of the images can be read.
        ModuleError: the module cannot be opened, gives no feature vectors, or does not say how to run it; or its output
            for an image is infinite or NaN.
        OutputError: the output exists, or cannot be written.
        UsageError: the output ends neither in `.npy` nor in `.parquet`, Parquet is not installed, `batch_size` is less
            than 1, there is no such range, kind of output, size or engine, or the engine does not run it.
        MissingExtraError: packages of the engine are missing.
    Example:
        >>> path = "modules/google/imagenet/mobilenet_v2_035_96/feature_vector/5"
        >>> hubexport.extract_features(path, "photos/*.png", "features.npy")
        [PosixPath('features.npy'), PosixPath('features.npy.names.txt')]
        >>> numpy.load("features.npy").shape
        (1, 1280)
    """
    check_positive(batch_size=batch_size)
    progress = progress or Progress()
    output = Path(output)
    check_output(output, overwrite=overwrite)
    image_files = find_images(images)
    with opened_module(module, progress, InterfaceHints(input_range, output_kind, image_size), engine) as opened:
        _check_features(opened.interface)
        progress.step(f"computing the features of {image_count_text(len(image_files))}")
        height, width, _ = opened.interface.image_shape
        batches = apply_to_files(
            opened.features, image_files, height, width, batch_size=batch_size, progress=progress, unreadable=unreadable
        )
        files = _files(output)
        with _write_failures_reported(output), scratch_directory(output.parent) as scratch, contextlib.closing(batches):
            if not _write(batches, scratch / output.name):
                raise no_readable_image(len(image_files))
            with locked(output.parent / LOCK, f"write into {output.parent}", progress):
                for path in files:
                    check_destination(path, overwrite=overwrite)
                publish_together(scratch, files, overwrite=overwrite)
    return files


def _check_features(interface: ImageInterface) -> None:
    if interface.output_kind == "features" or interface.features_from:
        return
    what = f"cannot compute features with {interface.shown_as}"
    if interface.output_kind is None:
        raise unknown_output_error(what)
    raise ModuleError(
        what, why=f"it outputs {interface.output_kind} of classes, and nothing else", fix="use a feature vector module"
    )


def check_output(output: Path, *, overwrite: bool) -> None:
    """Checks that feature vectors can be written to a path, before any work is done.

    Args:
        output: the path of the file.
        overwrite: whether an existing file may be replaced.
    Raises:
        UsageError: the path does not end in `.npy` or `.parquet`, or the extra `parquet` is not installed.
        OutputError: the file exists and may not be replaced.
    """
    if output.suffix not in _WRITERS:
        raise UsageError(
            f"{output}: unknown format",
            why=f"the file's name must end in {' or '.join(_WRITERS)}",
            fix=f"use {output}.npy or {output}.parquet",
        )
    if output.suffix == _PARQUET:
        require_extras(f"writing {output}", "parquet")
    with _write_failures_reported(output):
        for path in _files(output):
            check_destination(path, overwrite=overwrite)


def _files(output: Path) -> list[Path]:
    return [output, _names_path(output)] if output.suffix == _NPY else [output]


def _names_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.names.txt")


def _write(batches: Iterator[Batch], path: Path) -> bool:
    """Writes each batch as it comes. Returns whether there are any."""
    first = next(batches, None)
    if first is None:
        return False
    num_features = first.numbers[0].size
    with _WRITERS[path.suffix](path, num_features) as write:
        for batch in itertools.chain([first], batches):
            write([_one_line(image) for image in batch.paths], batch.numbers.reshape(-1, num_features))
    return True


def _one_line(image: Path) -> str:
    """Returns a path as one line of UTF-8. Line breaks and other bytes become escapes."""
    text = os.fsencode(image).decode("utf-8", "backslashreplace")
    return text.replace("\n", "\\n").replace("\r", "\\r")


@contextlib.contextmanager
def _npy_writer(path: Path, num_features: int) -> Iterator[_Write]:
    rows = 0
    with path.open("wb") as vectors, _names_path(path).open("w", encoding="utf-8", newline="\n") as names:

        def write_header() -> None:
            header = {"descr": "<f4", "fortran_order": False, "shape": (rows, num_features)}
            np.lib.format.write_array_header_1_0(vectors, header)  # type: ignore[no-untyped-call]

        def write(files: Sequence[str], numbers: Array) -> None:
            nonlocal rows
            rows += len(files)
            vectors.write(numbers.astype("<f4").tobytes())
            names.writelines(f"{file}\n" for file in files)

        write_header()
        yield write
        # Now the number of rows is known. NumPy's header has room for any number.
        vectors.seek(0)
        write_header()


@contextlib.contextmanager
def _parquet_writer(path: Path, num_features: int) -> Iterator[_Write]:
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([("file", pa.string()), ("features", pa.list_(pa.float32(), num_features))])
    waiting: list[Any] = []

    def write(files: Sequence[str], numbers: Array) -> None:
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), num_features)
        waiting.append(pa.record_batch([pa.array(files), vectors], schema=schema))
        if sum(batch.num_rows for batch in waiting) >= _ROWS_PER_GROUP:
            flush()

    def flush() -> None:
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, schema))
            waiting.clear()

    with parquet.ParquetWriter(path, schema) as writer:
        yield write
        flush()


def _write_failures_reported(output: Path) -> AbstractContextManager[None]:
    return write_failures_reported(f"cannot write {output}", output, "choose another file")


_NPY, _PARQUET = ".npy", ".parquet"
_WRITERS = {_NPY: _npy_writer, _PARQUET: _parquet_writer}
