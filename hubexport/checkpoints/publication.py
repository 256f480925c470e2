"""Replaces a checkpoint of two files so that readers find the old one or the new one at every moment.

A checkpoint's index determines its data files, and the index is replaced in one step. But if the old checkpoint has one
data file, the new one's has the same name. So the new checkpoint is first published with two data files, which have
other names, and then with one:

    files in place                                               readers find
    index (of one), old data                                     the old checkpoint
    index (of one), old data, new data (1 and 2 of two)          the old one
    index (of two), old data, new data (1 and 2 of two)          the new one
    index (of two), new data, new data (1 and 2 of two)          the new one
    index (of one), new data, new data (1 and 2 of two)          the new one
    index (of one), new data                                     the new one
"""

import contextlib
import os
from pathlib import Path
import shutil

from hubexport.checkpoints.checkpoint_files import shards
from hubexport.checkpoints.v2_bundle import data_path, index_path, shard_count, with_shard_count
from hubexport.progress import Progress
from hubexport.system.atomic_output import publish_file
from hubexport.system.damage import DamageError
from hubexport.system.destinations import check_destination
from hubexport.system.locks import LOCK, locked


def existing_files(prefix: Path) -> list[Path]:
    """Returns the files of a whole or incomplete checkpoint at a prefix."""
    index = index_path(prefix)
    return [*([index] if os.path.lexists(index) else []), *shards(prefix)]


def publish_checkpoint(staged: Path, prefix: Path, *, overwrite: bool, progress: Progress) -> None:
    """Moves a finished checkpoint of one data file to its place.

    Args:
        staged: its prefix, in a scratch directory on the same file system.
        prefix: the prefix of its place.
        overwrite: replace a checkpoint that exists there.
        progress: receives a message if another process holds the lock.
    Raises:
        OutputError: something exists there that may not be replaced.
        OSError: a file cannot be moved.
    """
    with locked(prefix.parent / LOCK, f"write into {prefix.parent}", progress):
        for path in existing_files(prefix):
            check_destination(path, overwrite=overwrite)
        old_count = None
        with contextlib.suppress(FileNotFoundError, DamageError):
            old_count = shard_count(index_path(prefix).read_bytes())
        if old_count == 1:
            _publish(_split_in_two(staged), prefix, 2)
        _publish(staged, prefix, 1)
        for shard in set(shards(prefix)) - {data_path(prefix, 0, 1)}:
            shard.unlink()


def _split_in_two(staged: Path) -> Path:
    """Makes the same checkpoint with two data files, the second of them empty, and returns its prefix."""
    split = staged.with_name("in-two")
    index_path(split).write_bytes(with_shard_count(index_path(staged).read_bytes(), 2))
    data = data_path(staged, 0, 1)
    try:
        os.link(data, data_path(split, 0, 2))
    except OSError:  # Some file systems have no hard links.
        shutil.copyfile(data, data_path(split, 0, 2))
    data_path(split, 1, 2).touch()
    return split


def _publish(staged: Path, prefix: Path, count: int) -> None:
    """Moves a checkpoint's files to their places, the index last; on failure, removes data files that are new there."""
    with contextlib.ExitStack() as undo:
        for shard in range(count):
            place = data_path(prefix, shard, count)
            if not os.path.lexists(place):
                undo.callback(place.unlink, missing_ok=True)
            publish_file(data_path(staged, shard, count), place, overwrite=True)
        publish_file(index_path(staged), index_path(prefix), overwrite=True)
        undo.pop_all()
