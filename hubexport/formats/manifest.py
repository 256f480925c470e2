"""`hubexport.json`, the manifest of a module: where the module came from, and the digests of its files.

`write_manifest` writes it, `read_manifest` reads it, and `changed_files` compares it with the files beside it. Anybody
may have written a manifest: its fields are checked like all foreign input, and no file is opened because it is listed.
"""

from collections.abc import Iterable, Iterator, Mapping
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, ConfigDict, Field, SerializerFunctionWrapHandler

from hubexport.deployment_spec import DeploymentSpec
from hubexport.errors import printable
from hubexport.formats.revision import FORMAT_REVISION
from hubexport.networks.family_fields import SpreadParameters, spread_parameters
from hubexport.networks.network import Network
from hubexport.networks.registry import FAMILIES
from hubexport.system.digests import file_sha256, tree_files
from hubexport.system.regular_files import read_regular_file
from hubexport.variants import ModuleSpec, Variant
from hubexport.version import __version__

MANIFEST = "hubexport.json"
# The folder of a SavedModel's values.
_VARIABLES = "variables/"
# A manifest of ours has about 900 bytes.
MAX_MANIFEST_BYTES = 1 << 20
# Up to here a float64 holds every whole number, so programs in any language read the same one.
_MAX_NUMBER = 1 << 53


class ManifestError(Exception):
    """The manifest is not one that hubexport writes; the message says why in a few words."""


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
        sha256: the digest of that file, or the digests of several files by their names.
        published: whether the source is the archive that the variant's config names.
        scope: what the names of the network's variables begin with there, if the user said it.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    source: _Text | None = None
    sha256: _Text | dict[_Text, _Text] | None = None
    published: bool | None = None
    scope: _Text | None = None


class DeploymentFacts(pydantic.BaseModel):
    """How a deployment was written; see `hubexport.deployment_spec.DeploymentSpec`.

    Attributes:
        written_with: the versions of the packages that decide its bytes, by name.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    format: _Text
    options: dict[_Text, bool | int | _Text | dict[_Text, int | _Text] | None]
    endpoints: list[_Text]
    written_with: dict[_Text, _Text]


class Manifest(SpreadParameters):
    """The content of a manifest. `write_manifest` writes all fields; None stands for one that is missing or null.

    Attributes:
        deployment: how it was written; None for a module.
        family_parameters: the parameters of any family of networks, like a depth multiplier.
        values: `trained`, or `synthetic` for values made from a seed.
        weights: `averaged` (moving averages of the variables), `raw`, how many of each, or `only`.
        format_revision: see `hubexport.formats.revision`. Modules from before there were revisions have 0.
        sha256: the digest of each file in the module, by its path in the module's directory.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    handle: _Text | None = None
    variant: _Text | None = None
    kind: _Text | None = None
    version: _Count | None = None
    deployment: DeploymentFacts | None = None
    network: _Text | None = None
    family_parameters: dict[str, Annotated[float, Field(ge=0, le=_MAX_NUMBER)]] = Field(exclude=True)
    input_height_px: _Count | None = None
    input_width_px: _Count | None = None
    num_features: _Count | None = None
    num_classes: _Count | None = None
    dataset: _Text | None = None
    values: _Text | None = None
    weights: _Text | None = None
    checkpoint: CheckpointOrigin = CheckpointOrigin()
    hubexport_version: _Text | None = None
    format_revision: _Count = 0
    sha256: dict[str, str] = Field(exclude=True)

    @pydantic.model_serializer(mode="wrap")
    def _spread(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = spread_parameters(serialize(self), self.family_parameters)
        if self.deployment is None:  # Modules have no such field.
            del fields["deployment"]
        return fields

    @property
    def smallest_image_size(self) -> int | None:
        """The shortest side of an image, in pixels; None if the module takes one size, or its network is unknown."""
        family = FAMILIES.get(self.network or "")
        return family.smallest_size if family and family.takes_any_size(self.version or 0) else None


def read_manifest(directory: Path) -> Manifest | None:
    """Reads a module's manifest; None if the module has none.

    Raises:
        ManifestError: the manifest cannot be read, or is not one that hubexport writes.
    """
    path = directory / MANIFEST
    if not path.exists():
        return None
    if not path.is_file() or path.stat().st_size > MAX_MANIFEST_BYTES:
        raise ManifestError(f"{MANIFEST} is not a file, or is larger than {MAX_MANIFEST_BYTES >> 20} MiB")
    try:
        return parse_manifest(path.read_bytes())
    except OSError as error:
        raise ManifestError(f"{MANIFEST} cannot be read: {error.strerror}") from error


def parse_manifest(content: bytes) -> Manifest:
    """Reads a manifest from the content of its file.

    Raises:
        ManifestError: the manifest is not one that hubexport writes.
    """
    try:
        return Manifest.model_validate(json.loads(content))
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(printable(str(part)) for part in first["loc"])
        place = f"{MANIFEST}: {field}" if field else MANIFEST
        raise ManifestError(f"{place}: {first['msg']}") from error
    # Python also raises ValueError for an integer of thousands of digits.
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{MANIFEST} is not valid JSON") from error


def listed_files(directory: Path) -> frozenset[str] | None:
    """Returns the paths of the manifest and of all files that it lists, or None without a readable manifest.

    `--overwrite` replaces a directory only if it holds no other files. Fields other than `sha256` do not matter.
    """
    try:
        listed = json.loads(read_regular_file(directory / MANIFEST, MAX_MANIFEST_BYTES))["sha256"]
        return frozenset(listed) | {MANIFEST}
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None


def changed_files(directory: Path, files: Iterable[Path], sha256: Mapping[str, str]) -> Iterator[str]:
    """Compares a module's files with the digests in its manifest.

    Args:
        directory: the module's directory.
        files: all files in it.
        sha256: the digests from the manifest, by path in the directory.
    Yields:
        A sentence for each file that is missing, changed, unreadable or not listed; nothing for an unchanged module.
    """
    paths = {path.relative_to(directory).as_posix(): path for path in files}
    for name in sorted({*paths, *sha256} - {MANIFEST}):
        if name not in paths:
            yield f"{printable(name)} is missing"
        elif name not in sha256:
            yield f"{printable(name)} is not listed in {MANIFEST}"
        else:
            try:
                if file_sha256(paths[name]) != sha256[name]:
                    yield f"{printable(name)} has changed"
            except OSError as error:
                yield f"{printable(name)} cannot be read: {error.strerror}"


def values_sha256(sha256: Mapping[str, str]) -> str:
    """Returns a digest of a module's values: the same for all modules whose files hold the same values the same way.

    Args:
        sha256: the digest of each file, by its path in the module: of a module its `variables` count, and of a
            deployment, which holds values beside its graph, all files. The manifest itself never counts.
    """
    files = {name: digest for name, digest in sha256.items() if name != MANIFEST}
    counted = {name: digest for name, digest in files.items() if name.startswith(_VARIABLES)} or files
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def write_manifest(
    directory: Path, variant: Variant, spec: ModuleSpec, network: Network, provenance: Mapping[str, Any]
) -> None:
    """Writes the manifest of a module whose other files are complete.

    Raises:
        OSError: a file cannot be read, or the manifest cannot be written.
    """
    sha256 = {path.relative_to(directory).as_posix(): file_sha256(path) for path in tree_files(directory)}
    fields = manifest_fields(variant, spec, network, provenance) | {"sha256": sha256}
    (directory / MANIFEST).write_bytes(manifest_content(fields))


def manifest_fields(
    variant: Variant, spec: ModuleSpec, network: Network, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the fields of a manifest, but for `sha256`, which comes last.

    They contain no time, user or host, so a second build gives the same bytes. `provenance` has the fields that
    describe the values: `values`, `weights` and `checkpoint`.
    """
    height, width = network.default_image_size
    return {
        "handle": variant.handle(spec),
        "variant": variant.name,
        "kind": spec.kind,
        "version": spec.version,
        **({"deployment": spec.as_json()} if isinstance(spec, DeploymentSpec) else {}),
        "network": variant.network,
        **variant.family_parameters.model_dump(),
        "input_height_px": height,
        "input_width_px": width,
        "num_features": network.num_features,
        "num_classes": network.num_classes,
        "dataset": variant.dataset,
        **provenance,
        "hubexport_version": __version__,
        "format_revision": FORMAT_REVISION,
    }


def manifest_content(fields: Mapping[str, Any]) -> bytes:
    """Returns the content of a manifest's file."""
    return f"{json.dumps(fields, indent=2)}\n".encode()
