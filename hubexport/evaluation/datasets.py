"""Finds labelled images: a folder for each class, or ImageNet-style TFRecords."""

from collections.abc import Iterable, Sequence
import dataclasses
import glob
import hashlib
from pathlib import Path

from hubexport.errors import DataError, ImageError
from hubexport.evaluation.classes import Classes, check_label
from hubexport.evaluation.tfrecords import is_record_file, split_records
from hubexport.evaluation.units import UNIT_IMAGES, FileUnit, RecordUnit, Unit, first_images, record_failures_reported
from hubexport.images.image_files import find_images
from hubexport.progress import Progress

# In an error, of things that may be thousands.
_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Labelled images.

    Attributes:
        units: all of them, in a fixed order.
        listing: a digest of what they are, and of the sizes and times of their files.
        classes: how their labels are meant.
        folders: those of classes, by their label; empty for TFRecords, whose labels are known only when they are read.
    """

    units: tuple[Unit, ...]
    listing: str
    classes: Classes
    folders: dict[int, str]

    @property
    def size(self) -> int:
        """How many images they are."""
        return sum(unit.size for unit in self.units)

    def check_labels(self, num_classes: int) -> None:
        """Sees whether what is known of the labels fits a module with so many classes.

        Raises:
            DataError: it does not.
        """
        if self.folders:
            self.classes.check_length(num_classes)
        for label, folder in sorted(self.folders.items()):
            check_label(label, num_classes, folder)


def find_data(text: str, classes: Classes, limit: int | None, progress: Progress) -> Dataset:
    """Finds labelled images.

    Args:
        text: a folder with a folder for each class, or a file, folder or pattern of TFRecords.
        classes: how their labels are meant.
        limit: no more images than these: of folders an even spread, of TFRecords the first.
        progress: hears of what is left out.
    Raises:
        DataError: there are none, or they cannot be read or understood.
        ImageError: the folder of a class cannot be read.
    """
    path = Path(text)
    try:
        folders = sorted(_subfolders(path)) if path.is_dir() else []
        if folders:
            return _class_folders(path, folders, classes, limit, progress)
        return _record_files(_records_named(text), path, classes, limit)
    except OSError as error:
        raise DataError(
            f"cannot read {error.filename or text}", why=error.strerror or str(error), fix="make it readable"
        ) from error


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _class_folders(
    root: Path, folders: Sequence[Path], classes: Classes, limit: int | None, progress: Progress
) -> Dataset:
    labels = classes.find_all([folder.name for folder in folders], root)
    if beside := sum(path.is_file() and not path.name.startswith(".") for path in root.iterdir()):
        progress.warn(f"ignoring {beside} files in {root} that are not in a class folder")
    files = [(path, label) for name, label in labels.items() for path in _images_in(root / name)]
    if not files:
        raise _no_data(str(root), f"none of its {len(folders)} folders holds an image")
    if limit is not None and limit < len(files):
        files = [files[number * len(files) // limit] for number in range(limit)]
    units = tuple(FileUnit(tuple(files[start : start + UNIT_IMAGES])) for start in range(0, len(files), UNIT_IMAGES))
    listing = ([path.relative_to(root), label, *_stamp(path)] for path, label in files)
    return Dataset(units, _digest(listing), classes, {label: str(root / name) for name, label in labels.items()})


def _images_in(folder: Path) -> list[Path]:
    try:
        return find_images([str(folder)])
    except ImageError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return []  # It is empty.


def _records_named(text: str) -> list[Path]:
    """Returns the files of records that are meant; in a folder, all that are some."""
    path = Path(text)
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
        found = [one for one in files if is_record_file(one)]
        if not found:
            raise _no_data(text, f"it has no folders, and none of its {len(files)} files is a TFRecord")
        return found
    if path.exists() or not glob.has_magic(text):
        found = [path] if path.exists() else []
    else:
        found = [one for one in map(Path, sorted(glob.glob(text, recursive=True))) if one.is_file()]
    if not found:
        raise _no_data(text, "no such file or folder, and no file matches it as a pattern")
    for one in found:
        if not is_record_file(one):
            raise _no_data(str(one), "it is not a TFRecord")
    return found


def _record_files(paths: Sequence[Path], named: Path, classes: Classes, limit: int | None) -> Dataset:
    units: list[Unit] = []
    for path in paths:
        with record_failures_reported(path):
            parts = split_records(path, UNIT_IMAGES)
        units += (RecordUnit(path, offset, size, classes.offset) for offset, size in parts)
        if limit is not None and sum(unit.size for unit in units) >= limit:
            units = list(first_images(units, limit))
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
        # repr escapes what cannot be encoded.
        digest.update(f"{[str(part) for part in row]!r}\n".encode())
    return digest.hexdigest()


def _no_data(shown: str, why: str) -> DataError:
    return DataError(
        f"no labelled images in {shown}",
        why=why,
        fix="use a folder with one subfolder of images per class, or TFRecords like 'imagenet/validation-*-of-00128'",
    )
