"""Labelled images, in parts that are evaluated one by one, wherever that happens."""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
from pathlib import Path
from typing import TypeAlias

from hubexport.errors import DataError
from hubexport.evaluation.examples import parse_example
from hubexport.evaluation.tfrecords import RecordError, read_records

# So much is done again after an interruption. A multiple of common batch sizes.
UNIT_IMAGES = 256


@dataclasses.dataclass(frozen=True)
class Sample:
    """A labelled image.

    Attributes:
        name: for people.
        label: the index of its class, which may be none of the module's.
        source: the image file, or what would be in it.
    """

    name: str
    label: int
    source: Path | bytes


@dataclasses.dataclass(frozen=True)
class FileUnit:
    """Some image files, each with the index of its class."""

    files: tuple[tuple[Path, int], ...]

    @property
    def size(self) -> int:
        """How many images they are."""
        return len(self.files)

    def samples(self) -> Iterator[Sample]:
        """Yields them."""
        for path, label in self.files:
            yield Sample(str(path), label, path)


@dataclasses.dataclass(frozen=True)
class RecordUnit:
    """Some records of a file.

    Attributes:
        path: the file's.
        offset: where the first begins, in bytes, unpacked.
        size: how many they are.
        labels_offset: what to subtract from their labels.
    """

    path: Path
    offset: int
    size: int
    labels_offset: int

    def samples(self) -> Iterator[Sample]:
        """Yields the images.

        Raises:
            DataError: a record cannot be read or is none of a labelled image.
        """
        with record_failures_reported(self.path):
            for number, record in enumerate(read_records(self.path, self.offset, self.size)):
                image = parse_example(record)
                name = image.name or f"image {number + 1} after byte {self.offset}"
                yield Sample(f"{self.path}: {name}", image.label - self.labels_offset, image.encoded)


Unit: TypeAlias = FileUnit | RecordUnit


@contextlib.contextmanager
def record_failures_reported(path: Path) -> Iterator[None]:
    """Turns what is wrong with a file of records into an error about it."""
    try:
        yield
    except (RecordError, OSError) as error:
        raise DataError(
            f"cannot read {path}",
            why=getattr(error, "strerror", None) or str(error),
            fix="use TFRecords with the features of TF-Slim's ImageNet, or create or copy the file again",
        ) from error


def first_images(units: Sequence[Unit], limit: int) -> Iterator[Unit]:
    """Yields units until they have so many images, the last one cut short."""
    for unit in units:
        size = min(unit.size, limit)
        if isinstance(unit, FileUnit):
            yield FileUnit(unit.files[:size])
        else:
            yield dataclasses.replace(unit, size=size)
        limit -= size
        if not limit:
            return
