"""The names of classes, in UTF-8 text files with one name per line, class 0 first."""

from pathlib import Path

from hubexport.errors import UsageError
from hubexport.system.regular_files import read_regular_file

# In a module's directory.
_LABELS = Path("assets", "labels.txt")
# A thousand times the size of ImageNet's.
_MAX_LABELS_BYTES = 32 << 20


def module_labels(directory: Path) -> list[str] | None:
    """Returns the names of the classes in a module's assets; None if there are none.

    Raises:
        UsageError: the file cannot be read.
    """
    path = directory / _LABELS
    return read_labels(path) if path.is_file() else None


def read_labels(path: Path) -> list[str]:
    """Returns the lines of a file of labels.

    Raises:
        UsageError: the file cannot be read, is empty, or is not UTF-8.
    """
    try:
        content = read_regular_file(path, _MAX_LABELS_BYTES)
        # Not splitlines, which also splits at characters that a name may have.
        lines = content.decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"byte {error.start} is not UTF-8") from error
    if not content:
        raise _unreadable(path, "it is empty")
    return lines


def _unreadable(path: Path, why: str) -> UsageError:
    fix = "use a text file in UTF-8 with one class name per line"
    return UsageError(f"cannot read labels {path}", why=why, fix=fix)
