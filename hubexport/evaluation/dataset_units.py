"""Labelled images in units of a few hundred. A unit is what is evaluated, kept and sent to workers as a whole."""

from collections.abc import Iterator
import contextlib
import dataclasses
from pathlib import Path
from typing import TypeAlias

from hubexport.errors import DataError
from hubexport.evaluation.examples import parse_example
from hubexport.evaluation.tfrecords import RecordError, read_records

# An interruption loses at most one unit. A multiple of common batch sizes.
IMAGES_PER_UNIT = 256


@dataclasses.dataclass(frozen=True)
class Sample:
    """A labelled image.

    Attributes:
        name: what messages call the image.
        label: the index of its class. The module may not have this class.
        source: the path of the image file, or its content.
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
        """The number of images."""
        return len(self.files)

    def samples(self) -> Iterator[Sample]:
        """Yields the images. The files are not opened."""
        for path, label in self.files:
            yield Sample(str(path), label, path)


@dataclasses.dataclass(frozen=True)
class RecordUnit:
    """Some consecutive records of a TFRecord file.

    Attributes:
        path: the file.
        offset: the position of the first record in the uncompressed file, in bytes.
        size: the number of records.
        labels_offset: subtracted from the records' labels.
    """

    path: Path
    offset: int
    size: int
    labels_offset: int

    def samples(self) -> Iterator[Sample]:
        """Yields the images.

        Raises:
            DataError: a record cannot be read, or does not hold a labelled image.
        """
        with record_failures_reported(self.path):
            for number, record in enumerate(read_records(self.path, self.offset, self.size)):
                image = parse_example(record)
                name = image.name or f"image {number + 1} after byte {self.offset}"
                yield Sample(f"{self.path}: {name}", image.label - self.labels_offset, image.encoded)


DatasetUnit: TypeAlias = FileUnit | RecordUnit


@contextlib.contextmanager
def record_failures_reported(path: Path) -> Iterator[None]:
    """Turns failures to read a TFRecord file into a DataError that names the file."""
    try:
        yield
    except (RecordError, OSError) as error:
        raise DataError(
            f"cannot read {path}",
            why=getattr(error, "strerror", None) or str(error),
            fix="use TFRecords with the features of TF-Slim's ImageNet, or create or copy the file again",
        ) from error
