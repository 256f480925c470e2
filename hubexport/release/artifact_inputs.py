"""What an artifact is made from, by names and digests.

With the same inputs, archive, page and card have the same bytes everywhere; what is measured may differ.
"""

from collections.abc import Mapping, Sequence, Set
import functools
import hashlib
from importlib import metadata
import json
from pathlib import Path
from typing import Any

import pydantic
from pydantic import ConfigDict

from hubexport.batch import VARIANT_PLACEHOLDER
from hubexport.checkpoints.download_cache import Downloads, archive_path, file_name
from hubexport.checkpoints.sources import ArchiveSource, Weights, read_failures_reported, resolve_source
from hubexport.errors import CheckpointError
from hubexport.progress import Progress
from hubexport.system.digests import file_sha256, tree_files
from hubexport.variants import Variant
from hubexport.version import __version__

_ARCHIVE_SUFFIXES = (".tgz", ".tar.gz")
# Of a variant, what modules do not hold: `labels` is a path, whose file counts; the others stand in pages alone.
_NOT_IN_MODULES = {"labels", "license", "published", "checkpoint", "modules"}
# What Python makes of the program's files, and where an installed package keeps the configs, which count by themselves.
_COMPILED = {".pyc", ".pyo"}
_CONFIGS = "configs"


class ArtifactInputs(pydantic.BaseModel):
    """What decides what an artifact is, and what is told of it.

    Attributes:
        network: digest of those facts of the variant's config that modules hold, of its labels, and of which checkpoint
            of an archive is meant.
        checkpoint: as `hubexport.json` says it: the name of the source, and digests of its files if it has some.
        weights: `averaged` or `raw`.
        description: digest of the facts that stand in pages alone, like the license and published figures.
        url: where the release will be served.
        exporter: hubexport's version.
        program: digest of its code.
        compressor: the library that packs, and its version.
        checks: those that the module had to pass.
        source_date_epoch: the time that files in the archive carry, in seconds since 1970.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    network: str
    checkpoint: Mapping[str, Any]
    weights: str
    description: str
    url: str
    exporter: str
    program: str
    compressor: str
    checks: tuple[str, ...] = pydantic.Field(strict=False)
    source_date_epoch: int

    def differing(self, other: "ArtifactInputs") -> list[str]:
        """Returns the names of what is not the same in both."""
        return [name for name in type(self).model_fields if getattr(self, name) != getattr(other, name)]


# A published module with other values of these would be another module under its name.
CONTENT = ("network", "checkpoint", "weights")


def checkpoint_of(named: str | Path | None, variant: Variant) -> str | None:
    """Returns what `hubexport build --checkpoint` should be told for one variant.

    Args:
        named: anything that it takes, `{variant}` in it stands for the variant's name; or a directory of archives,
            where a variant's is named like the published one, or like the variant.
        variant: which.
    Raises:
        CheckpointError: it is a directory of archives, and none is the variant's.
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
            why=f"it holds archives, but none named {' or '.join(names)}",
            fix="add it, or limit --variants to those that are there",
        )
    return text


def checkpoint_digests(text: str | None, variant: Variant, progress: Progress, downloads: Downloads) -> dict[str, Any]:
    """Returns what `hubexport.json` will say of a checkpoint.

    Args:
        text: as for `checkpoint_of`, resolved; None is the archive that the config names, which is not downloaded:
            no other can come, and what it is called there is known.
        variant: whose values are wanted.
        progress: hears of an archive that is not the published one.
        downloads: where published archives are kept.
    Raises:
        CheckpointError: it cannot be found or read.
    """
    if text is None and variant.checkpoint is not None:
        archive = archive_path(variant.checkpoint, downloads)
        return ArchiveSource(archive, variant.checkpoint.sha256, published=True, name=None).provenance()
    return resolve_source(text, variant, progress, downloads).provenance()


def inputs_of(
    variant: Variant,
    checkpoint: Mapping[str, Any],
    *,
    weights: Weights,
    url: str,
    checks: Sequence[str],
    source_date_epoch: int,
) -> ArtifactInputs:
    """Returns what all artifacts of a variant are made from; see the attributes of `ArtifactInputs`.

    Raises:
        CheckpointError: the file of labels cannot be read.
    """
    facts = variant.model_dump(mode="json")
    labels = _labels_sha256(variant.labels) if variant.labels else None
    meant = variant.checkpoint.name if variant.checkpoint else None
    return ArtifactInputs(
        network=_digest({**_only(facts, set(facts) - _NOT_IN_MODULES), "labels": labels, "checkpoint": meant}),
        checkpoint=checkpoint,
        weights=weights,
        description=_digest(_only(facts, {"license", "published", "checkpoint"})),
        url=url,
        exporter=__version__,
        program=program_sha256(),
        compressor=f"deflate {metadata.version('deflate')}",
        checks=tuple(checks),
        source_date_epoch=source_date_epoch,
    )


@functools.cache
def program_sha256() -> str:
    """Returns a digest of hubexport's code: its version stays the same while it is worked on."""
    package = Path(__file__).parents[1]
    files = [path for path in tree_files(package) if path.suffix not in _COMPILED and _CONFIGS not in path.parts]
    return _digest({path.relative_to(package).as_posix(): file_sha256(path) for path in files})


def _labels_sha256(path: str) -> str:
    with read_failures_reported(Path(path)):
        return file_sha256(Path(path))


def _only(facts: Mapping[str, Any], names: Set[str]) -> dict[str, Any]:
    return {name: fact for name, fact in facts.items() if name in names}


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
