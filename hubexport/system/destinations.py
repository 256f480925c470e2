"""Where output may go, and what it may replace: files, and directories of the same kind."""

from collections.abc import Callable, Collection, Iterable, Sequence
import os
from pathlib import Path
import stat

from hubexport.errors import OutputError

# An error names at most this many files.
_NAMED = 3

_KINDS = (
    (stat.S_ISREG, "a regular file"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
)

# Returns the files that hubexport wrote into a directory, as paths relative to it; None if hubexport did not write it.
Written = Callable[[Path], Collection[str] | None]


def check_destination(final: Path, *, overwrite: bool, written: Written | None = None) -> None:
    """Checks that output can be written to a path, before any work is done.

    Args:
        final: the path of the output.
        overwrite: replace what is there, if it is of the same kind.
        written: the output is a directory, and this tells which files of a directory are hubexport's. If None, the
            output is a file.
    Raises:
        OutputError: the path exists and `overwrite` is false; or it is a link, something of another kind, or a
            directory with files that hubexport did not write.
        OSError: the path cannot be examined.
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
    kind, wanted = (stat.S_ISDIR, "a directory") if written else (stat.S_ISREG, "a file")
    if not kind(mode):
        found = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise _irreplaceable(final, f"{found} is there, and the output is {wanted}")
    if not overwrite:
        raise exists_error(final)
    if written:
        _check_directory(final, written(final))


def check_sources_kept(final: Path, replaced: Iterable[Path], sources: Iterable[Path]) -> None:
    """Refuses output that would replace its own sources, because they may hold more than goes into the output.

    Args:
        final: what errors call the output.
        replaced: the files and directories that the output replaces.
        sources: the files that the output is made from.
    Raises:
        OutputError: a source would be replaced.
    """
    resolved = {path.resolve() for path in replaced}
    for path in map(Path.resolve, sources):
        if not resolved.isdisjoint((path, *path.parents)):
            raise OutputError(
                f"cannot write {final}",
                why=f"it would replace {path}, one of its sources, and what it does not take from there would be lost",
                fix="choose another place",
            )


def exists_error(final: Path) -> OutputError:
    """Returns the error for output whose path exists."""
    return OutputError(
        f"{final} already exists",
        why="existing output is kept unless you say otherwise",
        fix="add --overwrite, or choose another place",
    )


def _check_directory(directory: Path, written: Collection[str] | None) -> None:
    if directory.is_mount():
        raise _irreplaceable(directory, "a file system is mounted there")
    if Path.cwd().is_relative_to(directory.resolve()):
        raise _irreplaceable(directory, "the current folder is in it")
    paths = (path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    found = sorted(path.relative_to(directory).as_posix() for path in paths)
    if found and written is None:
        raise _irreplaceable(directory, f"hubexport did not write it; it holds {_listed(found)}")
    if others := [path for path in found if written is None or path not in written]:
        raise _irreplaceable(directory, f"it also holds {_listed(others)}, which would be lost")


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return f"{', '.join(paths[:_NAMED])}{more}"


def _irreplaceable(final: Path, why: str) -> OutputError:
    return OutputError(f"cannot write {final}", why=why, fix="choose another place, or move it away")
