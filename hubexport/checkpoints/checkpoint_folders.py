"""Finds the checkpoint in a folder: a module, a Hugging Face model, or what a training left."""

from collections.abc import Mapping, Sequence
from pathlib import Path
import re

from hubexport.checkpoints.archives import MODULE_FILE, MODULE_PREFIX
from hubexport.checkpoints.checkpoint_files import CheckpointFiles, files_at_prefix, files_of_index
from hubexport.checkpoints.checkpoint_state import latest_checkpoint
from hubexport.checkpoints.containers import container_of
from hubexport.checkpoints.foreign_files import foreign_format
from hubexport.checkpoints.module_without_values import no_values_error
from hubexport.checkpoints.safetensors_index import SAFETENSORS_INDEX_SUFFIX
from hubexport.checkpoints.v2_bundle import index_path
from hubexport.errors import CheckpointError, printable
from hubexport.readable_numbers import natural_key

# Hugging Face's name for the weights of a model.
HUGGING_FACE_WEIGHTS = "model.safetensors"

_HUGGING_FACE_INDEX = f"model{SAFETENSORS_INDEX_SUFFIX}"
_MODULE_AS_TEXT = "saved_model.pbtxt"
# A folder of Hugging Face's Trainer.
_OF_TRAINER = re.compile(r"checkpoint-\d+")
# What a Trainer keeps beside the weights, and TensorFlow.js beside the model.
_BESIDE_WEIGHTS = re.compile(
    r"(optimizer|scheduler|scaler|rng_state\w*|training_args)\.(pt|pth|bin)|group\d+-shard\d+of\d+(\.bin)?"
)

# Checkpoints in these formats are one file.
_ONE_FILE = ("V1", "HDF5", "Keras archive", "safetensors")

_MOST_SHOWN = 5


def files_in_directory(directory: Path) -> CheckpointFiles:
    """Finds the checkpoint in a directory.

    Of several that TensorFlow wrote, it is the one that the state file of the training calls the latest.

    Args:
        directory: a module, a Hugging Face model, or a folder with checkpoints or one file of weights.
    Raises:
        CheckpointError: the directory holds no checkpoint, or several and nothing tells which is meant.
        OSError: the directory cannot be read.
    """
    if (directory / MODULE_FILE).is_file():
        if not index_path(directory / MODULE_PREFIX).is_file():
            raise no_values_error(directory)
        return files_at_prefix(directory / MODULE_PREFIX)
    weights = directory / HUGGING_FACE_WEIGHTS
    if weights.is_file():
        if foreign := foreign_format(weights, container_of(weights)):
            raise foreign.error(weights)
        return CheckpointFiles(directory, (weights,), "safetensors")
    if (directory / _HUGGING_FACE_INDEX).is_file():
        return files_of_index(directory / _HUGGING_FACE_INDEX, directory)
    there = checkpoints_in_directory(directory) or _weights_in_directory(directory)
    if not there:
        raise _nothing_there_error(directory)
    chosen, latest = latest_of(directory, there), latest_checkpoint(directory)
    if len(there) == 1 and latest and latest not in there:
        [name] = there
        raise CheckpointError(
            f"the latest checkpoint in {directory} is not there",
            why=f"its file `checkpoint` names {printable(latest)}; {printable(name)} is there",
            fix=f"copy the files of {printable(latest)} as well, or use {directory / name}",
        )
    if len(chosen) == 1:
        return files_of(*chosen.values())
    raise not_one_error(
        directory,
        there,
        because=f"; the latest is {printable(latest)}, which is not there" if latest else "",
        fix=f"use one of them, like {directory / _newest(there)}",
    )


def checkpoints_in_directory(directory: Path) -> dict[str, Path]:
    """Returns the prefix of each checkpoint of TensorFlow directly in a directory, by its name, `-500` before `-1000`.

    Raises:
        OSError: the directory cannot be read.
    """
    files = _files(directory)
    indexes = {path.stem: path.with_suffix("") for path in files if path.suffix == ".index"}
    found = indexes | {path.name: path for path in files if path.suffix != ".index" and container_of(path) == "V1"}
    return {name: found[name] for name in sorted(found, key=natural_key)}


def latest_of(directory: Path, there: Mapping[str, Path]) -> dict[str, Path]:
    """Returns the checkpoint of a directory that its state file calls the latest; all if it names none of them.

    Args:
        directory: the directory.
        there: its checkpoints.
    Raises:
        OSError: the state file cannot be read.
    """
    latest = latest_checkpoint(directory) if len(there) > 1 else None
    return {name: path for name, path in there.items() if path.name == latest} or {**there}


def files_of(path: Path) -> CheckpointFiles:
    """Returns the files of a checkpoint: those of a V2 checkpoint's prefix, or the one file of that name.

    Raises:
        CheckpointError: files are missing.
        OSError: a file cannot be read.
    """
    container = container_of(path) if path.is_file() else None
    return CheckpointFiles(path, (path,), container) if container in _ONE_FILE else files_at_prefix(path)


def not_one_error(shown_as: Path, there: Mapping[str, Path], *, fix: str, because: str = "") -> CheckpointError:
    """Returns the error for a folder or an archive with several checkpoints."""
    return CheckpointError(
        f"{shown_as} does not hold exactly one checkpoint",
        why=f"it holds {len(there)}: {shortened_list([*there])}{because}",
        fix=fix,
    )


def shortened_list(names: Sequence[str]) -> str:
    """Returns the first names of a list in one line, and a count of the others."""
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return printable(", ".join(names[:_MOST_SHOWN])) + more


def _weights_in_directory(directory: Path) -> dict[str, Path]:
    return {path.name: path for path in _files(directory) if container_of(path) in _ONE_FILE}


def _nothing_there_error(directory: Path) -> CheckpointError:
    """Returns the error for a folder that is no checkpoint, with advice on what is there instead."""
    what = f"{directory} holds no checkpoint"
    folders = sorted((path.name for path in directory.iterdir() if path.is_dir()), key=natural_key)
    useful = [name for name in folders if _can_be_used(directory / name)]
    if useful and not (directory / _MODULE_AS_TEXT).is_file():
        which = "one of its folders does" if len(useful) == 1 else f"{len(useful)} of its folders do"
        return CheckpointError(what, why=f"{which}: {shortened_list(useful)}", fix=f"use {directory / _newest(useful)}")
    trained = [directory / name for name in folders if _OF_TRAINER.fullmatch(name)]
    for path in (path for folder in (directory, *reversed(trained)) for path in _files(folder)):
        foreign = foreign_format(path, container_of(path))
        if foreign and not _BESIDE_WEIGHTS.fullmatch(path.name):
            name = printable(str(path.relative_to(directory)))
            return CheckpointError(what, why=f"{name} is {foreign.title}: {foreign.why}", fix=foreign.fix)
    names = [path.name for path in _files(directory)]
    return CheckpointError(
        what,
        why=f"it has no files of one: {shortened_list(names)}" if names else "there are no files in it",
        fix="use a directory with a checkpoint, a module or a Hugging Face model in it",
    )


def _can_be_used(folder: Path) -> bool:
    """Tells from names alone whether a folder may hold a checkpoint: it is not the one that the user named."""
    try:
        if (folder / MODULE_FILE).is_file():
            return index_path(folder / MODULE_PREFIX).is_file()
        weights = (HUGGING_FACE_WEIGHTS, _HUGGING_FACE_INDEX)
        return any(path.suffix == ".index" or path.name in weights for path in folder.iterdir())
    except OSError:
        return False


def _newest(names: Sequence[str] | Mapping[str, Path]) -> str:
    return max(names, key=natural_key)


def _files(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.iterdir()) if path.is_file()]
