"""How an artifact was made, as an in-toto Statement with SLSA's provenance predicate: by names and digests alone.

There are no times, hosts or paths in it: the same inputs give the same bytes. docs/release.md explains the addresses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hubexport.release.artifact_inputs import ArtifactInputs
from hubexport.release.index import ReleaseFile
from hubexport.variants import ModuleSpec, Variant

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
# What the parameters below mean; other parameters need another number.
BUILD_TYPE = "pkg:pypi/hubexport?build_type=release.v1#docs/release.md"
# Whoever runs `hubexport release`, wherever: nothing more is claimed.
BUILDER = "pkg:pypi/hubexport?builder=unattested#docs/release.md"
# Not of one file, but of the names and digests of all, see hubexport.release.artifact_inputs.
_PROGRAM_DIGEST = "hubexportProgram"


def statement(
    variant: Variant,
    spec: ModuleSpec,
    inputs: ArtifactInputs,
    *,
    subjects: Sequence[ReleaseFile],
    byproducts: Sequence[ReleaseFile],
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Returns the statement that is published beside an artifact.

    Args:
        variant: what it was built of.
        spec: its kind and version.
        inputs: what it was made from.
        subjects: what was made.
        byproducts: what tells of the work: the report of `hubexport verify`, and what was installed.
        versions: of the programs that computed, by name.
    """
    url = variant.checkpoint.url if variant.checkpoint and inputs.checkpoint.get("published") else None
    return statement_of(
        variant.handle(spec), inputs, subjects=subjects, byproducts=byproducts, versions=versions, checkpoint_url=url
    )


def statement_of(
    handle: str,
    inputs: ArtifactInputs,
    *,
    subjects: Sequence[ReleaseFile],
    byproducts: Sequence[ReleaseFile],
    versions: Mapping[str, str],
    checkpoint_url: str | None = None,
) -> dict[str, Any]:
    """Returns the statement about the artifact with a handle; see `statement`.

    Args:
        checkpoint_url: where the checkpoint's archive is published; None if that is not known.
    """
    return {
        "_type": STATEMENT_TYPE,
        "subject": [_descriptor(file) for file in subjects],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": _chosen(handle, inputs),
                "internalParameters": {
                    "network": inputs.network,
                    "description": inputs.description,
                    "compressor": inputs.compressor,
                },
                "resolvedDependencies": [*_checkpoint_files(inputs.checkpoint, checkpoint_url), _program(inputs)],
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": dict(sorted({**versions, "hubexport": inputs.exporter}.items()))},
                "byproducts": [_descriptor(file) for file in byproducts],
            },
        },
    }


def _chosen(handle: str, inputs: ArtifactInputs) -> dict[str, Any]:
    """Returns what the user of `hubexport release` decides."""
    return {
        "handle": handle,
        "checkpoint": inputs.checkpoint.get("source"),
        "weights": inputs.weights,
        "url": inputs.url,
        "checks": list(inputs.checks),
        "sourceDateEpoch": inputs.source_date_epoch,
    }


def _checkpoint_files(checkpoint: Mapping[str, Any], url: str | None) -> list[dict[str, Any]]:
    """Describes the files that values come from; made-up values come from none."""
    digests = checkpoint.get("sha256", {})
    if isinstance(digests, Mapping):
        return [{"name": name, "digest": {"sha256": digests[name]}} for name in sorted(digests)]
    published = {"uri": url} if url else {}
    return [{"name": checkpoint["source"], **published, "digest": {"sha256": digests}}]


def _program(inputs: ArtifactInputs) -> dict[str, Any]:
    purl = f"pkg:pypi/hubexport@{inputs.exporter}"
    return {"name": "hubexport", "uri": purl, "digest": {_PROGRAM_DIGEST: inputs.program}}


def _descriptor(file: ReleaseFile) -> dict[str, Any]:
    return {"name": file.path, "digest": {"sha256": file.sha256}}
