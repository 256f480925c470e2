"""`hubexport.json`: what stands beside a module's own files and says where it came from and what is in it."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

from hubexport import __version__
from hubexport.networks.layers import Network
from hubexport.output import file_sha256, tree_files
from hubexport.regular_files import read_regular_file
from hubexport.variants import ModuleSpec, Variant

MANIFEST = "hubexport.json"
_MAX_BYTES = 1 << 20


def listed_files(directory: Path) -> frozenset[str] | None:
    """Returns the paths of all files of a module that hubexport wrote; None if there is no such module."""
    try:
        listed = json.loads(read_regular_file(directory / MANIFEST, _MAX_BYTES))["sha256"]
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
