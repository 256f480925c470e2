"""`hubexport.json`, the manifest of a module: where the module came from, and what is in it.

Whoever made a module made this file, too. So it is read like anything from a stranger, and names no file to open.
"""

from collections.abc import Iterable, Iterator, Mapping
import json
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, ConfigDict, Field

from hubexport.errors import printable
from hubexport.networks.layers import Network
from hubexport.system.digests import file_sha256, tree_files
from hubexport.system.regular_files import read_regular_file
from hubexport.variants import ModuleSpec, Variant
from hubexport.version import __version__

MANIFEST = "hubexport.json"
# A hundred times the size of ours.
_MAX_MANIFEST_BYTES = 1 << 20
_MAX_NUMBER = 1 << 53


class ManifestError(Exception):
    """It is not what hubexport writes; the message says why in a few words."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("control characters are not allowed")
    return text


_Text = Annotated[str, AfterValidator(_printable)]
_Count = Annotated[int, Field(ge=0, le=_MAX_NUMBER)]


class CheckpointOrigin(pydantic.BaseModel):
    """Where a module's values came from.

    Attributes:
        source: the name of a file, or `synthetic:SEED`.
        sha256: of the file, or of each by its name.
        published: whether it is the archive that the variant's config names.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    source: _Text | None = None
    sha256: _Text | dict[_Text, _Text] | None = None
    published: bool | None = None


class Manifest(pydantic.BaseModel):
    """What a module's manifest says, None for what it leaves out."""

    model_config = ConfigDict(strict=True, frozen=True)

    handle: _Text | None = None
    variant: _Text | None = None
    kind: _Text | None = None
    version: _Count | None = None
    network: _Text | None = None
    depth_multiplier: Annotated[float, Field(ge=0, le=_MAX_NUMBER)] | None = None
    input_height_px: _Count | None = None
    input_width_px: _Count | None = None
    num_features: _Count | None = None
    num_classes: _Count | None = None
    dataset: _Text | None = None
    values: _Text | None = None
    weights: _Text | None = None
    checkpoint: CheckpointOrigin = CheckpointOrigin()
    hubexport_version: _Text | None = None
    sha256: dict[str, str] = Field(exclude=True)


def read_manifest(directory: Path) -> Manifest | None:
    """Reads a module's manifest.

    Returns:
        None if there is none.
    Raises:
        ManifestError: it is not what hubexport writes.
    """
    path = directory / MANIFEST
    if not path.exists():
        return None
    if not path.is_file() or path.stat().st_size > _MAX_MANIFEST_BYTES:
        raise ManifestError(f"{MANIFEST} is not a file, or is larger than {_MAX_MANIFEST_BYTES >> 20} MiB")
    try:
        return Manifest.model_validate(json.loads(path.read_bytes()))
    except pydantic.ValidationError as error:
        raise ManifestError(f"{MANIFEST}: {_first_finding(error)}") from error
    except OSError as error:
        raise ManifestError(f"{MANIFEST} cannot be read: {error.strerror}") from error
    # Numbers of thousands of digits are a ValueError, too.
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{MANIFEST} is not valid JSON") from error


def _first_finding(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(printable(str(part)) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def changed_files(directory: Path, files: Iterable[Path], sha256: Mapping[str, str]) -> Iterator[str]:
    """Compares a module's files with what its manifest lists.

    Args:
        directory: the module's.
        files: all that are in it.
        sha256: the digests that they should have, by their paths in the directory.
    Yields:
        What is missing, changed, unreadable or not listed; nothing if all is as it was written.
    """
    found = {path.relative_to(directory).as_posix(): path for path in files}
    for name in sorted({*found, *sha256} - {MANIFEST}):
        if name not in found:
            yield f"{printable(name)} is missing"
        elif name not in sha256:
            yield f"{printable(name)} is not listed in {MANIFEST}"
        else:
            try:
                if file_sha256(found[name]) != sha256[name]:
                    yield f"{printable(name)} has changed"
            except OSError as error:
                yield f"{printable(name)} cannot be read: {error.strerror}"


def listed_files(directory: Path) -> frozenset[str] | None:
    """Returns the paths of all files of a module that hubexport wrote; None if there is no such module."""
    try:
        listed = json.loads(read_regular_file(directory / MANIFEST, _MAX_MANIFEST_BYTES))["sha256"]
        return frozenset(listed) | {MANIFEST}
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None


def write_manifest(
    directory: Path, variant: Variant, spec: ModuleSpec, network: Network, provenance: Mapping[str, Any]
) -> None:
    """Writes the manifest of a module whose other files are complete.

    Nothing in it depends on when, where or by whom the module was built, so that a second build has the same bytes.

    Args:
        directory: the module's.
        variant: which it was built from.
        spec: its kind and version.
        network: what was written.
        provenance: facts about the values: `weights`, `values` and `checkpoint`.
    """
    height, width, _ = network.image_shape
    manifest = {
        "handle": variant.handle(spec),
        "variant": variant.name,
        "kind": spec.kind,
        "version": spec.version,
        "network": variant.network,
        "depth_multiplier": variant.depth_multiplier,
        "input_height_px": height,
        "input_width_px": width,
        "num_features": network.num_features,
        "num_classes": network.num_classes,
        "dataset": variant.dataset,
        **provenance,
        "hubexport_version": __version__,
        "sha256": {path.relative_to(directory).as_posix(): file_sha256(path) for path in tree_files(directory)},
    }
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
