"""Whether a disk has room for what is about to be written."""

from pathlib import Path
import shutil

from hubexport.errors import OutputError
from hubexport.readable_numbers import short_bytes


def check_free_space(folder: Path, needed: int, what: str, otherwise: str) -> None:
    """Refuses to begin what cannot be finished for lack of room.

    Args:
        folder: where files will be written; it need not exist yet.
        needed: how many bytes they take at least.
        what: the error's first line, like `cannot write model.h5`.
        otherwise: what the user can do instead of making room, like `choose another folder`.
    Raises:
        OutputError: the file system of the folder has less room.
    """
    existing = next((place for place in (folder, *folder.absolute().parents) if place.is_dir()), None)
    if existing is None:
        return
    try:
        usage = shutil.disk_usage(existing)
    except OSError:  # Writing will tell.
        return
    # Some file systems, such as those of networks, do not know their size.
    if usage.total and usage.free < needed:
        raise OutputError(
            what,
            why=f"the values take {short_bytes(needed)}, and {short_bytes(usage.free)} are free on the disk of "
            f"{existing}",
            fix=f"free space there, or {otherwise}",
        )
