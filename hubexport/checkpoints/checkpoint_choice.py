"""Chooses the checkpoint of each variant where one `--checkpoint` stands for those of many."""

from pathlib import Path

from hubexport.checkpoints.download_cache import file_name
from hubexport.checkpoints.sources import read_failures_reported
from hubexport.errors import CheckpointError, either
from hubexport.variants import Variant

# In `--checkpoint`, this stands for the name of the variant.
VARIANT_PLACEHOLDER = "{variant}"

_ARCHIVE_SUFFIXES = (".tgz", ".tar.gz")


def checkpoint_for(variant: Variant, named: str | Path | None) -> str | None:
    """Returns the source of one variant's values, as `hubexport.checkpoints.sources` takes it.

    Args:
        variant: the variant.
        named: what stands for the sources of all variants: any source, with `{variant}` for the variant's name; or a
            directory of archives, each named like the published one or like its variant.
    Returns:
        None if `named` is None: the published archive is downloaded.
    Raises:
        CheckpointError: `named` is a directory of archives, and none is the variant's.
    """
    if named is None:
        return None
    text = str(named).replace(VARIANT_PLACEHOLDER, variant.name)
    directory = Path(text)
    if not directory.is_dir():
        return text
    names = [f"{variant.name}{suffix}" for suffix in _ARCHIVE_SUFFIXES]
    if variant.checkpoint is not None:
        names.insert(0, file_name(variant.checkpoint.url))
    for name in names:
        if (directory / name).is_file():
            return str(directory / name)
    with read_failures_reported(directory):
        archives = [path.name for path in directory.iterdir() if path.name.endswith(_ARCHIVE_SUFFIXES)]
    if archives:
        raise CheckpointError(
            f"no checkpoint for {variant.name} in {directory}",
            why=f"it holds archives, but none named {either(names)}",
            fix=f"add it, or give {variant.name} a checkpoint of its own with --checkpoint",
        )
    return text
