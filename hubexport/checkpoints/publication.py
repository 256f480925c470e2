"""Puts a checkpoint of two files into its place, so that at every moment the old one is there, or the new one.

A checkpoint is what its index says, and the index takes its place in one step. But where the old one has one data file,
the new one's has the same name. So the new checkpoint is first put there as one of two data files, which have other
names, and then as the one of one data file that it is to be:

    files there                                                  who reads them, finds
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

from hubexport.checkpoints.sources import shards
from hubexport.checkpoints.stored_values import DamageError
from hubexport.checkpoints.v2_bundle import data_path, shard_count, with_shard_count
from hubexport.progress import Progress
from hubexport.system.atomic_output import publish_file
from hubexport.system.destinations import check_destination
from hubexport.system.locks import LOCK, locked


def standing_files(prefix: Path) -> list[Path]:
    """Returns the files of a checkpoint, or of a part of one, that stand at a prefix."""
    index = _index_path(prefix)
    return [*([index] if os.path.lexists(index) else []), *shards(prefix)]


def publish_checkpoint(staged: Path, prefix: Path, *, overwrite: bool, progress: Progress) -> None:
    """Moves a finished checkpoint of one data file to its place.

    Args:
        staged: its prefix, in a scratch directory on the same file system.
        prefix: where it goes.
        overwrite: replace one that stands there.
        progress: hears if another process is at it just now.
    Raises:
        OutputError: something stands there that may not be replaced.
        OSError: a file cannot be moved.
    """
    with locked(prefix.parent / LOCK, f"write into {prefix.parent}", progress):
        for path in standing_files(prefix):
            check_destination(path, overwrite=overwrite)
        if _standing_count(prefix) == 1:
            _publish(_in_two(staged), prefix, 2)
        _publish(staged, prefix, 1)
        for shard in set(shards(prefix)) - {data_path(prefix, 0, 1)}:
            shard.unlink()


def _index_path(prefix: Path) -> Path:
    return Path(f"{prefix}.index")


def _standing_count(prefix: Path) -> int | None:
    """Returns how many data files the checkpoint at a prefix has; None if there is none that could be read."""
    with contextlib.suppress(FileNotFoundError, DamageError):
        return shard_count(_index_path(prefix).read_bytes())
    return None


def _in_two(staged: Path) -> Path:
    """Makes the same checkpoint in two data files, of which one is empty, and returns its prefix."""
    twice = staged.with_name("in-two")
    _index_path(twice).write_bytes(with_shard_count(_index_path(staged).read_bytes(), 2))
    data = data_path(staged, 0, 1)
    try:
        os.link(data, data_path(twice, 0, 2))
    except OSError:  # Some file systems have no links.
        shutil.copyfile(data, data_path(twice, 0, 2))
    data_path(twice, 1, 2).touch()
    return twice


def _publish(staged: Path, prefix: Path, count: int) -> None:
    """Puts a checkpoint's files into their places, its index last; if that fails, no data stay where none were."""
    with contextlib.ExitStack() as undo:
        for shard in range(count):
            place = data_path(prefix, shard, count)
            if not os.path.lexists(place):
                undo.callback(place.unlink, missing_ok=True)
            publish_file(data_path(staged, shard, count), place, overwrite=True)
        publish_file(_index_path(staged), _index_path(prefix), overwrite=True)
        undo.pop_all()
