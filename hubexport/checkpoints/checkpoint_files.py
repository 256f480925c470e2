"""Finds the files of one checkpoint, by their common prefix or in a directory."""

import contextlib
import dataclasses
import glob
import os
from pathlib import Path
import re

from hubexport.checkpoints.archives import MODULE_FILE
from hubexport.checkpoints.containers import Container, container_of
from hubexport.checkpoints.safetensors_index import SAFETENSORS_INDEX_SUFFIX, names_by_shard
from hubexport.checkpoints.stored_values import DamageError
from hubexport.checkpoints.v2_bundle import index_path, shard_count
from hubexport.errors import CheckpointError

_HUGGING_FACE_WEIGHTS = "model.safetensors"
_HUGGING_FACE_INDEX = f"model{SAFETENSORS_INDEX_SUFFIX}"
# SavedModels and TF1 Hub modules keep their checkpoint at this prefix.
_MODULE_PREFIX = Path("variables", "variables")

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
            fix="use a .tgz archive, a directory, a prefix like model.ckpt, or synthetic",
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


def checkpoints_in_directory(directory: Path) -> dict[str, Path]:
    """Returns the prefix of each checkpoint directly in a directory, by its name.

    Raises:
        OSError: the directory cannot be read.
    """
    paths = [path for path in sorted(directory.iterdir()) if path.is_file()]
    prefixes = {path.stem: path.with_suffix("") for path in paths if path.suffix == ".index"}
    return prefixes | {path.name: path for path in paths if path.suffix != ".index" and container_of(path) == "V1"}


def files_in_directory(
    directory: Path, name: str | None = None, archive: Path | None = None, *, takes_variant: bool = False
) -> CheckpointFiles:
    """Finds the checkpoint in a directory.

    Args:
        directory: a module, a Hugging Face model, or a folder with checkpoints.
        name: the prefix of the wanted checkpoint, for folders that hold several.
        archive: the archive from which the directory was unpacked, for messages; None if users know the directory.
        takes_variant: whether the command takes a variant, whose config may name a checkpoint in the archive.
    Raises:
        CheckpointError: the directory holds no checkpoint, or several and none has that name.
        OSError: the directory cannot be read.
    """
    if (directory / MODULE_FILE).is_file():
        return files_at_prefix(directory / _MODULE_PREFIX)
    if (directory / _HUGGING_FACE_WEIGHTS).is_file():
        return CheckpointFiles(directory, (directory / _HUGGING_FACE_WEIGHTS,), "safetensors")
    if (directory / _HUGGING_FACE_INDEX).is_file():
        return files_of_index(directory / _HUGGING_FACE_INDEX, directory)
    prefixes = checkpoints_in_directory(directory)
    if name in prefixes:
        prefixes = {name: prefixes[name]}
    if len(prefixes) != 1:
        fix = f"use the prefix of one, like DIRECTORY/{next(iter(prefixes), 'model.ckpt')}"
        if archive:
            fix = f"unpack it, and {fix}" if prefixes else "use an archive with the files of a checkpoint"
            if prefixes and takes_variant:
                fix += ", or pass a --variant whose config names it"
        raise CheckpointError(
            f"{archive or directory} does not hold exactly one checkpoint",
            why=f"it holds {len(prefixes)}{': ' if prefixes else ''}{', '.join(prefixes)}",
            fix=fix,
        )
    (prefix,) = prefixes.values()
    return CheckpointFiles(prefix, (prefix,), "V1") if prefix.is_file() else files_at_prefix(prefix)
