"""Finds the files of one checkpoint, by their common prefix or by the index of its shards."""

import contextlib
import dataclasses
import glob
import os
from pathlib import Path
import re

from hubexport.checkpoints.archives import MODULE_FILE
from hubexport.checkpoints.containers import Container
from hubexport.checkpoints.safetensors_index import names_by_shard
from hubexport.checkpoints.v2_bundle import index_path, shard_count
from hubexport.errors import CheckpointError
from hubexport.system.damage import DamageError

_MOST_SHOWN = 5

_SHARD = re.compile(r"\.data-\d{5}-of-(?P<count>\d{5})$")


@dataclasses.dataclass(frozen=True)
class CheckpointFiles:
    """The files of one checkpoint.

    Attributes:
        prefix: the path that TensorFlow calls a checkpoint's prefix; otherwise the path that the user named.
        paths: all files that belong to the checkpoint.
        container: the file format that stores the values.
        in_module: whether the files are part of a SavedModel or a TF1 Hub module.
    """

    prefix: Path
    paths: tuple[Path, ...]
    container: Container
    in_module: bool = False


def shards(prefix: Path) -> list[Path]:
    """Returns the data files of a V2 checkpoint."""
    return sorted(path for path in prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*") if is_shard(path))


def is_shard(path: Path) -> bool:
    """Tells from its name whether a file is a data file of a V2 checkpoint."""
    return _SHARD.search(path.name) is not None


def files_at_prefix(prefix: Path) -> CheckpointFiles:
    """Finds the files of a V2 checkpoint.

    Raises:
        CheckpointError: there is no checkpoint at the prefix, or some of its files are missing.
        OSError: the index cannot be read.
    """
    index = index_path(prefix)
    if not index.is_file():
        raise CheckpointError(
            f"no checkpoint {prefix}",
            why=f"there is no such file or directory, and no {index.name}",
            fix="use a .tgz archive, a directory, a prefix like model.ckpt, a Keras or safetensors file, or a module; "
            "for a named variant also synthetic",
        )
    paths = shards(prefix)
    counts = {int(match["count"]) for path in paths if (match := _SHARD.search(path.name))} or {1}
    if len(counts) > 1:  # A process that was replacing the checkpoint stopped halfway.
        with contextlib.suppress(DamageError):
            counts = {shard_count(index.read_bytes())}
    count = min(counts)
    paths = [path for path in paths if path.name.endswith(f"-of-{count:05}")]
    if len(paths) != count:
        raise CheckpointError(
            f"checkpoint {prefix} is incomplete",
            why=f"{len(paths)} of {count} data files are beside {index.name}",
            fix="copy all of its files",
        )
    in_module = (prefix.parent / os.pardir / MODULE_FILE).is_file()
    return CheckpointFiles(prefix, (index, *paths), "V2", in_module)


def files_of_index(index: Path, prefix: Path) -> CheckpointFiles:
    """Finds the safetensors files that an index lists.

    Args:
        index: the index.
        prefix: the path that the user named.
    Raises:
        CheckpointError: the index is damaged, or some of its files are missing.
        OSError: it cannot be read.
    """
    try:
        paths = tuple(names_by_shard(index))
    except DamageError as error:
        raise CheckpointError(
            f"cannot read checkpoint {prefix}", why=str(error), fix="it is damaged: fetch or copy it again"
        ) from error
    if missing := [path.name for path in paths if not path.is_file()]:
        raise CheckpointError(
            f"checkpoint {prefix} is incomplete",
            why=f"{len(paths) - len(missing)} of {len(paths)} data files are beside {index.name}",
            details=[f"{name} is missing" for name in missing[:_MOST_SHOWN]],
            fix="copy all of its files",
        )
    return CheckpointFiles(prefix, (index, *paths), "safetensors")
