"""Compares a module's `hubexport.json` with what hubexport would write for it, field by field."""

from collections.abc import Iterator, Mapping
import json
from typing import Any

from hubexport.checkpoints.weights_choice import ONLY, weights_match
from hubexport.formats.manifest import MANIFEST, manifest_content, manifest_fields
from hubexport.formats.revision import FORMAT_REVISION
from hubexport.modules.identity import ModuleIdentity
from hubexport.system.digests import tree_files
from hubexport.variants import Variant
from hubexport.verify.message_differences import shown

# What nothing else in a module tells. structure.digests checks the digests.
_TAKEN_AS_RECORDED = ("hubexport_version", "format_revision", "sha256")
_SYNTHETIC = "synthetic:"


def manifest_differences(
    module: ModuleIdentity, config: Variant | None, provenance: Mapping[str, Any] | None
) -> Iterator[str]:
    """Yields how a module's manifest differs from what hubexport would write, one line per difference.

    Args:
        module: the module. Its manifest can be read.
        config: the config of its variant; None if there is none.
        provenance: the fields `values`, `weights` and `checkpoint` that a build from the given checkpoint records. None
            if no checkpoint was given: then the manifest's own only have to agree with each other.
    Raises:
        OSError: the manifest cannot be read.
    """
    content = (module.directory / MANIFEST).read_bytes()
    recorded = json.loads(content)
    if provenance is None:
        provenance = _possible_provenance(recorded)
    provenance = {**provenance, "checkpoint": _with_published(provenance["checkpoint"], recorded, config)}
    wanted = manifest_fields(config or module.variant, module.spec, module.network, provenance)
    wanted |= {name: recorded[name] for name in _TAKEN_AS_RECORDED if name in recorded}
    if "format_revision" not in recorded:  # It is older than the field.
        del wanted["format_revision"]
    elif recorded["format_revision"] > FORMAT_REVISION:
        yield f"format_revision is {recorded['format_revision']}, and this hubexport knows only {FORMAT_REVISION}"
    differences = [*_field_differences(_flat(recorded), _flat(wanted))]
    yield from differences
    if not differences and recorded.get("format_revision") == FORMAT_REVISION:
        files = [path.relative_to(module.directory).as_posix() for path in tree_files(module.directory)]
        wanted["sha256"] = {name: recorded["sha256"][name] for name in files if name in recorded["sha256"]}
        if content != manifest_content(wanted):
            yield "it says the same in other bytes"


def _possible_provenance(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a manifest can say of the values if what it says of their source is true."""
    checkpoint = recorded.get("checkpoint", {})
    if str(checkpoint.get("source")).startswith(_SYNTHETIC):
        return {"values": "synthetic", "weights": ONLY, "checkpoint": {"source": checkpoint["source"]}}
    values, weights = recorded.get("values"), recorded.get("weights")
    return {
        "values": values if values in ("trained", "synthetic") else "trained",
        "weights": weights if weights_match("auto", weights) else ONLY,
        "checkpoint": checkpoint,
    }


def _with_published(
    checkpoint: Mapping[str, Any], recorded: Mapping[str, Any], config: Variant | None
) -> Mapping[str, Any]:
    """Says of an archive whether it is the published one, if the config has the SHA-256 of that."""
    if "published" not in checkpoint:
        return checkpoint
    sha256 = config.checkpoint.sha256 if config and config.checkpoint else None
    as_recorded = recorded.get("checkpoint", {}).get("published")
    return {**checkpoint, "published": checkpoint.get("sha256") == sha256 if sha256 else bool(as_recorded)}


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields by their own names and those of the fields around them, like `checkpoint sha256`."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        inner = _flat(value) if isinstance(value, Mapping) else {"": value}
        flat |= {f"{name} {key}".strip(): field for key, field in inner.items()}
    return flat


def _field_differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name, value in wanted.items():
        if name not in found:
            yield f"{name} is missing; it should be {shown(value)}"
        elif found[name] != value:
            yield f"{name} is {shown(found[name])}, not {shown(value)}"
    for name in found:
        if name not in wanted:
            yield f"{shown(name)} is {shown(found[name])}, but should not be there"
