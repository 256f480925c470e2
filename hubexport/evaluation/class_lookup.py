"""Maps the folder names and label numbers of a dataset to the classes of a module."""

from collections.abc import Sequence
import dataclasses
from pathlib import Path

from hubexport.errors import DataError
from hubexport.labels import read_labels
from hubexport.modules.image_interface import ImageInterface

# An error lists at most this many folders: there may be thousands.
_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class ClassLookup:
    """How a dataset numbers and names the classes of a module.

    Attributes:
        labels: the label of each class; None if there are no labels.
        source: what messages call the labels.
        offset: subtracted from a class number of the data to get the class's index in the module's output. TF-Slim
            calls it `labels_offset`.
        first: the line of `labels`, from 0, that has the label of the module's class 0.
    """

    labels: tuple[str, ...] | None
    source: str
    offset: int
    first: int

    def find(self, folder: str) -> int | None:
        """Returns the index of the class that a folder is named after: by its label, or else by its number.

        None if there is no such class, or if several classes have this label.
        """
        lines = [number for number, label in enumerate(self.labels or ()) if label == folder]
        if len(lines) == 1:
            return lines[0] - self.first
        if not lines and folder.isdecimal() and folder.isascii():
            return int(folder) - self.offset
        return None

    def find_all(self, folders: list[str], root: Path) -> dict[str, int]:
        """Returns the index of the class that each folder is named after.

        Raises:
            DataError: a folder's name is not the label or the number of one class. The error lists such folders.
        """
        found = {folder: self.find(folder) for folder in folders}
        unknown = [folder for folder, index in found.items() if index is None]
        if not unknown:
            return {folder: index for folder, index in found.items() if index is not None}
        details = [
            f"{folder}{' (the label of several classes)' * (folder in (self.labels or ()))}"
            for folder in unknown[:_SHOWN]
        ]
        if len(unknown) > _SHOWN:
            details.append(f"and {len(unknown) - _SHOWN:,} more")
        or_label = f", or by one of {self.source}" if self.labels else "; there are no labels"
        raise DataError(
            f"cannot match {len(unknown):,} of the {len(folders):,} folders in {root} to classes",
            why=f"a folder must be named by the number of its class{or_label}",
            details=details,
            fix="rename them, or pass a text file of their labels with --labels, one class per line",
        )

    def check_label_count(self, num_classes: int) -> None:
        """Checks that there is one label for each class of a module.

        Raises:
            DataError: there are more or fewer labels.
        """
        if self.labels is None or len(self.labels) - self.first == num_classes:
            return
        less = f" (less an offset of {self.first})" if self.first else ""
        raise DataError(
            f"{self.source} do not match the module",
            why=f"there are {len(self.labels):,} labels{less} for {num_classes:,} classes",
            fix="use a text file with one class name per line, or set --labels-offset to the line of class 0, "
            "counted from 0",
        )


def read_class_lookup(labels: Sequence[str] | str | Path | None, module: ImageInterface, offset: int) -> ClassLookup:
    """Reads the labels of a dataset's classes.

    Args:
        labels: the labels, in the order of the data's class numbers, or the path of a text file of them. Defaults to
            the module's labels, if it has any; these are in the order of the module's classes.
        module: how to run the module.
        offset: see `ClassLookup`.
    Raises:
        UsageError: the file cannot be read.
    """
    if labels is None:
        own = module.class_names()
        return ClassLookup(tuple(own) if own is not None else None, "the module's labels", offset, first=0)
    if isinstance(labels, (str, Path)):
        return ClassLookup(tuple(read_labels(Path(labels))), f"the labels in {labels}", offset, first=offset)
    return ClassLookup(tuple(labels), "the labels given", offset, first=offset)


def check_label(label: int, num_classes: int, of: str) -> None:
    """Checks that a label is the index of a class.

    Args:
        label: a class number of the data, less the offset.
        num_classes: the number of the module's classes.
        of: the folder or image that has the label, for messages.
    Raises:
        DataError: there is no such class.
    """
    if not 0 <= label < num_classes:
        raise DataError(
            f"the label of {of} does not fit the module",
            why=f"it is class {label}, but the module's {num_classes:,} classes are 0 to {num_classes - 1}",
            fix="use --labels-offset 1 if the data numbers classes from 1 and the module has no background class, or "
            "--labels-offset -1 if the data numbers them from 0 and the module has one",
        )
