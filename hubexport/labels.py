"""The names of classes, in UTF-8 text files with one name per line, class 0 first."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from hubexport.errors import UsageError
from hubexport.system.regular_files import read_regular_file

# In a module's directory.
MODULE_LABELS = Path("assets", "labels.txt")
# A thousand times the size of ImageNet's.
MAX_LABELS_BYTES = 32 << 20


def module_labels(directory: Path) -> list[str] | None:
    """Returns the names of the classes in a module's assets; None if there are none.

    Raises:
        UsageError: the file cannot be read.
    """
    path = directory / MODULE_LABELS
    return read_labels(path) if path.is_file() else None


def read_labels(path: Path) -> list[str]:
    """Returns the lines of a file of labels.

    Raises:
        UsageError: the file cannot be read, is empty, or is not UTF-8.
    """
    try:
        content = read_regular_file(path, MAX_LABELS_BYTES)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    return parse_labels(content, path)


def parse_labels(content: bytes, path: Path) -> list[str]:
    """Returns the lines in the content of a file of labels.

    Args:
        content: the file's bytes.
        path: what errors call the file.
    Raises:
        UsageError: the content is empty, or not UTF-8.
    """
    if not content:
        raise _unreadable(path, "it is empty")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"byte {error.start} is not UTF-8") from error
    # Not splitlines, which also splits at characters that a name may have.
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def labels_problem(names: Sequence[str], num_classes: int, path: Path | None = None, skip: int = 0) -> str | None:
    """Says why texts are not the names of a network's classes; None if they are.

    Args:
        names: the names, after those to skip.
        num_classes: the number of classes.
        path: the file whose lines they are; None for a list.
        skip: how many names at the beginning are of classes that the network lacks.
    """
    one, of, among = ("line", f" of {path}", f" in {path}") if path else ("name", "", "")
    if unprintable := [number for number, name in enumerate(names, start=1) if not name.isprintable()]:
        return f"{one} {unprintable[0]}{of} has characters that cannot be printed"
    blank = sum(not name.strip() for name in names)
    if not blank and len(names) - skip == num_classes:
        return None
    found = f"{len(names)} {one}{'s' * (len(names) != 1)}{f' ({blank} blank)' * (blank > 0)}{among}"
    skipped = f" after the {skip} to skip" * (skip > 0)
    return f"found {found}, must be one name for each of the {num_classes} classes{skipped}"


def labels_content(names: Iterable[str]) -> bytes:
    """Returns the content of a file of labels, with Unix line ends and without a byte order mark."""
    return "".join(f"{name}\n" for name in names).encode()


def _unreadable(path: Path, why: str) -> UsageError:
    fix = "use a text file in UTF-8 with one class name per line"
    return UsageError(f"cannot read labels {path}", why=why, fix=fix)
