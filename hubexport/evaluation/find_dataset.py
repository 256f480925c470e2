"""Finds labelled images: a folder for each class, or TFRecords like those of ImageNet."""

from collections.abc import Iterable, Sequence
import dataclasses
import glob
import hashlib
from pathlib import Path
import sys

from hubexport.errors import DataError, ImageError
from hubexport.evaluation.class_lookup import ClassLookup, check_label
from hubexport.evaluation.dataset_units import (
    IMAGES_PER_UNIT,
    DatasetUnit,
    FileUnit,
    RecordUnit,
    record_failures_reported,
)
from hubexport.evaluation.tfrecords import is_record_file, split_records
from hubexport.images.image_files import find_images
from hubexport.progress import Progress

# An error lists at most this many files: there may be thousands.
_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Labelled images.

    Attributes:
        units: the images, in a fixed order.
        listing: a SHA-256 of the images' names and labels, and of the sizes and times of their files.
        classes: how the dataset numbers and names classes.
        folders: the folder of each class, by its index; empty for TFRecords, whose labels are known only when they are
            read.
    """

    units: tuple[DatasetUnit, ...]
    listing: str
    classes: ClassLookup
    folders: dict[int, str]

    @property
    def size(self) -> int:
        """The number of images."""
        return sum(unit.size for unit in self.units)

    def check_labels(self, num_classes: int) -> None:
        """Checks that the labels known so far are classes of a module.

        Raises:
            DataError: a label is not, or there are more or fewer labels than classes.
        """
        if self.folders:
            self.classes.check_label_count(num_classes)
        for label, folder in sorted(self.folders.items()):
            check_label(label, num_classes, folder)


def find_dataset(text: str, classes: ClassLookup, limit: int | None, progress: Progress) -> Dataset:
    """Finds labelled images.

    Args:
        text: a folder with a subfolder for each class; or TFRecords: a file, a folder or a pattern.
        classes: how the dataset numbers and names classes.
        limit: the largest number of images: an even spread of folders, the first of TFRecords. None means all.
        progress: receives a warning about files that are ignored.
    Raises:
        DataError: there are no images, they cannot be read, or a folder does not name a class.
        ImageError: the folder of a class cannot be read.
    """
    path = Path(text)
    try:
        entries = path.iterdir() if path.is_dir() else []
        if folders := sorted(entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")):
            return _class_folders(path, folders, classes, limit, progress)
        return _record_files(_find_record_files(text), path, classes, limit)
    except OSError as error:
        raise DataError(
            f"cannot read {error.filename or text}", why=error.strerror or str(error), fix="make it readable"
        ) from error


def _class_folders(
    root: Path, folders: Sequence[Path], classes: ClassLookup, limit: int | None, progress: Progress
) -> Dataset:
    labels = classes.find_all([folder.name for folder in folders], root)
    if beside := sum(path.is_file() and not path.name.startswith(".") for path in root.iterdir()):
        progress.warn(f"ignoring {beside} files in {root} that are not in a class folder")
    files = [(path, label) for name, label in labels.items() for path in _images_in(root / name)]
    if not files:
        raise _no_data(str(root), f"none of its {len(folders)} folders holds an image")
    if limit is not None and limit < len(files):
        files = [files[number * len(files) // limit] for number in range(limit)]
    starts = range(0, len(files), IMAGES_PER_UNIT)
    units = tuple(FileUnit(tuple(files[start : start + IMAGES_PER_UNIT])) for start in starts)
    listing = ([path.relative_to(root), label, *_stamp(path)] for path, label in files)
    return Dataset(units, _digest(listing), classes, {label: str(root / name) for name, label in labels.items()})


def _images_in(folder: Path) -> list[Path]:
    try:
        return find_images([str(folder)])
    except ImageError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return []  # It is empty.


def _find_record_files(text: str) -> list[Path]:
    """Returns the TFRecord files that a path or pattern stands for. A folder stands for all TFRecord files in it."""
    path = Path(text)
    if path.is_dir():
        files = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
        found = [file for file in files if is_record_file(file)]
        if not found:
            raise _no_data(text, f"it has no folders, and none of its {len(files)} files is a TFRecord")
        return found
    if path.exists():
        found = [path]
    else:
        found = [match for match in map(Path, sorted(glob.glob(text, recursive=True))) if match.is_file()]
    if not found:
        raise _no_data(text, "no such file or folder, and no file matches it as a pattern")
    for file in found:
        if not is_record_file(file):
            raise _no_data(str(file), "it is not a TFRecord")
    return found


def _record_files(paths: Sequence[Path], named: Path, classes: ClassLookup, limit: int | None) -> Dataset:
    units: list[RecordUnit] = []
    left = sys.maxsize if limit is None else limit
    for path in paths:
        with record_failures_reported(path):
            parts = split_records(path, IMAGES_PER_UNIT)
        for offset, size in parts:
            if left > 0:
                units.append(RecordUnit(path, offset, min(size, left), classes.offset))
                left -= size
        if left <= 0:
            break
    if not units:
        raise _no_data(str(named), f"{', '.join(map(str, paths[:_SHOWN]))}: no records")
    listing = ([path.name, *_stamp(path)] for path in paths)
    images = sum(unit.size for unit in units)
    return Dataset(tuple(units), _digest([*listing, [images, classes.offset]]), classes, {})


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _digest(rows: Iterable[Sequence[object]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        # repr escapes characters that cannot be encoded.
        digest.update(f"{[str(part) for part in row]!r}\n".encode())
    return digest.hexdigest()


def _no_data(shown: str, why: str) -> DataError:
    return DataError(
        f"no labelled images in {shown}",
        why=why,
        fix="use a folder with one subfolder of images per class, or TFRecords like 'imagenet/validation-*-of-00128'",
    )
