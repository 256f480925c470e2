"""Which class the name of a folder means, and which the label of a record."""

from collections.abc import Sequence
import dataclasses
from pathlib import Path

from hubexport.errors import DataError
from hubexport.labels import module_labels, read_labels

# In an error, of things that may be thousands.
_SHOWN = 10


@dataclasses.dataclass(frozen=True)
class Classes:
    """How data number and name the classes of a module.

    Attributes:
        labels: the lines of a file of labels; None if there is none.
        source: whose they are, for people.
        offset: is subtracted from a number of the data, or of a line of `labels` (from 0), to get the class's index in
            the module's output; TF-Slim calls it `labels_offset`.
    """

    labels: tuple[str, ...] | None
    source: str
    offset: int

    def find(self, folder: str) -> int | None:
        """Returns the index of the class that a folder is named after: by its label, or else by its number.

        None if there is no such class, or several have the label.
        """
        lines = [number for number, label in enumerate(self.labels or ()) if label == folder]
        if len(lines) == 1:
            return lines[0] - self.offset
        if not lines and folder.isdecimal() and folder.isascii():
            return int(folder) - self.offset
        return None

    def find_all(self, folders: list[str], root: Path) -> dict[str, int]:
        """Returns the indices of the classes that folders are named after.

        Raises:
            DataError: that cannot be told of all; it lists them.
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
        raise DataError(
            f"cannot match {len(unknown):,} of the {len(folders):,} folders in {root} to classes",
            why=f"a folder must be named by the number of its class{self._or_label}",
            details=details,
            fix="rename them, or pass a text file of their labels with --labels, one class per line",
        )

    def check_length(self, num_classes: int) -> None:
        """Sees whether the labels are those of a module with so many classes.

        Raises:
            DataError: they are not.
        """
        if self.labels is None or len(self.labels) - self.offset == num_classes:
            return
        less = f" (less an offset of {self.offset})" if self.offset else ""
        raise DataError(
            f"{self.source} do not match the module",
            why=f"there are {len(self.labels):,} labels{less} for {num_classes:,} classes",
            fix="use a text file with one class name per line, or set --labels_offset to the line of class 0, "
            "counted from 0",
        )

    @property
    def _or_label(self) -> str:
        return f", or by one of {self.source}" if self.labels else "; there are no labels"


def read_classes(labels: Sequence[str] | str | Path | None, module: Path, offset: int) -> Classes:
    """Reads the labels that data may use.

    Args:
        labels: they, or the path of a file of them; None for those in the module, if it has some.
        module: the module's directory.
        offset: see `Classes`.
    Raises:
        UsageError: the file cannot be read.
    """
    lines: Sequence[str] | None
    if labels is None:
        lines, source = module_labels(module), "the module's labels"
    elif isinstance(labels, (str, Path)):
        lines, source = read_labels(Path(labels)), f"the labels in {labels}"
    else:
        lines, source = labels, "the labels given"
    return Classes(tuple(lines) if lines is not None else None, source, offset)


def check_label(label: int, num_classes: int, of: str) -> None:
    """Sees whether a label is the index of a class.

    Args:
        label: less the offset.
        num_classes: of the module.
        of: whose label it is, for people.
    Raises:
        DataError: it is not.
    """
    if not 0 <= label < num_classes:
        raise DataError(
            f"the label of {of} does not fit the module",
            why=f"it is class {label}, but the module's {num_classes:,} classes are 0 to {num_classes - 1}",
            fix="use --labels_offset 1 if the data numbers classes from 1 and the module has no background class, or "
            "--labels_offset -1 if the data numbers them from 0 and the module has one",
        )
