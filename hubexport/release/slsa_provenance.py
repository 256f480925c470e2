"""States how an artifact was made: an in-toto Statement with SLSA's provenance predicate.

It contains names and digests, but no times, hosts or paths, so the same inputs give the same bytes. docs/release.md
explains the addresses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hubexport.release.artifact_inputs import ArtifactInputs
from hubexport.release.config_facts import ConfigFacts
from hubexport.release.facts import RESULTS
from hubexport.release.index import ReleaseFile
from hubexport.variants import PublishedCheckpoint

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
# Defines the parameters below; another meaning of them needs another number.
BUILD_TYPE = "pkg:pypi/hubexport?build_type=release.v1#docs/release.md"
# Anyone may run `hubexport release` anywhere; nothing more is claimed about the builder.
BUILDER = "pkg:pypi/hubexport?builder=unattested#docs/release.md"
# A digest of the names and digests of all files, see hubexport.release.artifact_inputs.program_sha256.
_PROGRAM_DIGEST = "hubexportProgram"


def statement(
    handle: str,
    inputs: ArtifactInputs,
    *,
    subjects: Sequence[ReleaseFile],
    byproducts: Sequence[ReleaseFile],
    versions: Mapping[str, str],
    config: ConfigFacts | None = None,
) -> dict[str, Any]:
    """Returns the statement that is published with an artifact.

    Args:
        handle: the artifact's handle.
        inputs: what the artifact was made from.
        subjects: the archive or the files of a deployment, the page and the card.
        byproducts: the report of `hubexport verify`, and the bill of materials.
        versions: the versions of the programs that built and verified the module, by name.
        config: the facts of the variant's config; None if they are not known.
    """
    return {
        "_type": STATEMENT_TYPE,
        "subject": [_descriptor(file) for file in subjects],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                # What the user of `hubexport release` decides.
                "externalParameters": {
                    "handle": handle,
                    "checkpoint": inputs.checkpoint.get("source"),
                    "weights": inputs.weights,
                    **({"deployment": dict(inputs.deployment)} if inputs.deployment else {}),
                    "url": inputs.url,
                    "checks": list(inputs.checks),
                    **({"graphChecks": list(inputs.graph_checks)} if inputs.graph_checks else {}),
                    "sourceDateEpoch": inputs.source_date_epoch,
                    **{name: sha256 for name in RESULTS if (sha256 := getattr(inputs, name))},
                },
                "internalParameters": {
                    "network": inputs.network,
                    "description": inputs.description,
                    "compressor": inputs.compressor,
                    **({"config": config.as_json()} if config else {}),
                },
                "resolvedDependencies": [
                    *_checkpoint_files(inputs.checkpoint, config.variant.checkpoint if config else None),
                    {
                        "name": "hubexport",
                        "uri": f"pkg:pypi/hubexport@{inputs.exporter}",
                        "digest": {_PROGRAM_DIGEST: inputs.program},
                    },
                ],
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": dict(sorted({**versions, "hubexport": inputs.exporter}.items()))},
                "byproducts": [_descriptor(file) for file in byproducts],
            },
        },
    }


def config_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the facts of the variant's config in a statement; empty if there are none."""
    found: Any = document
    for name in ("predicate", "buildDefinition", "internalParameters", "config"):
        found = found.get(name, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def _checkpoint_files(checkpoint: Mapping[str, Any], archive: PublishedCheckpoint | None) -> list[dict[str, Any]]:
    """Describes the files that values come from. Synthetic values come from none."""
    digests = checkpoint.get("sha256", {})
    if isinstance(digests, Mapping):
        return [{"name": name, "digest": {"sha256": digests[name]}} for name in sorted(digests)]
    published = {"uri": archive.url} if archive and checkpoint.get("published") else {}
    return [{"name": checkpoint["source"], **published, "digest": {"sha256": digests}}]


def _descriptor(file: ReleaseFile) -> dict[str, Any]:
    return {"name": file.path, "digest": {"sha256": file.sha256}}
