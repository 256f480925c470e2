"""Where output may go, and what it may replace: regular files, and directories of the same kind."""

from collections.abc import Sequence
import os
from pathlib import Path
import stat

from hubexport.errors import OutputError

# Of what a directory holds besides, an error names as many.
_NAMED = 3

_KINDS = (
    (stat.S_ISREG, "a regular file"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)


def check_place(final: Path, *, overwrite: bool, holding: Sequence[str] = ()) -> None:
    """Finds out early what keeps output from its place.

    Args:
        final: where it goes.
        overwrite: replace what stands there, if it is of the same kind.
        holding: for a directory, the names of all that those of its kind hold, first the one that all of them have.
            Without names, the output is a file.
    Raises:
        OutputError: something stands there and `overwrite` is false; or it is a link, neither a file nor a directory,
            or a directory with other things in it.
        OSError: it cannot be looked at.
    """
    try:
        mode = final.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        leads_to = final.parent / os.readlink(final)
        raise OutputError(
            f"cannot write {final}",
            why=f"it is a link to {leads_to}",
            fix=f"write to {leads_to} itself, or remove the link",
        )
    kind, wanted = (stat.S_ISDIR, "a directory") if holding else (stat.S_ISREG, "a file")
    if not kind(mode):
        found = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise _irreplaceable(final, f"{found} is there, and the output is {wanted}")
    if not overwrite:
        raise exists_error(final)
    if holding:
        _check_directory(final, holding)


def exists_error(final: Path) -> OutputError:
    """Returns the error for a place that is taken."""
    return OutputError(
        f"{final} already exists",
        why="existing output is kept unless you say otherwise",
        fix="add --overwrite, or choose another place",
    )


def _check_directory(directory: Path, holding: Sequence[str]) -> None:
    if directory.is_mount():
        raise _irreplaceable(directory, "a file system is mounted there")
    if Path.cwd().is_relative_to(directory.resolve()):
        raise _irreplaceable(directory, "the current folder is in it")
    found = sorted(path.name for path in directory.iterdir())
    if found and holding[0] not in found:
        raise _irreplaceable(directory, f"it has no {holding[0]}, so that hubexport did not write it")
    if others := [name for name in found if name not in holding]:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        raise _irreplaceable(directory, f"it also holds {', '.join(others[:_NAMED])}{more}, which would be lost")


def _irreplaceable(final: Path, why: str) -> OutputError:
    return OutputError(f"cannot write {final}", why=why, fix="choose another place, or move it away")
