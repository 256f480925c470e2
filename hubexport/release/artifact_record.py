"""Sums up one artifact for programs: its record, which the index repeats."""

from collections.abc import Mapping, Sequence

from hubexport.deployment_spec import DeploymentSpec
from hubexport.networks.costs import multiply_adds
from hubexport.release.artifact_inputs import ArtifactInputs
from hubexport.release.facts import ModuleFacts
from hubexport.release.index import ArtifactRecord, DeploymentRecord, ReleaseFile, Role, roles
from hubexport.variants import ModuleSpec


def artifact_record(
    facts: ModuleFacts,
    inputs: ArtifactInputs,
    files: Mapping[Role, ReleaseFile],
    bill: ReleaseFile,
    contents: Sequence[ReleaseFile] = (),
) -> ArtifactRecord:
    """Returns the record of an artifact. The same facts give the same record.

    Args:
        facts: the facts about its module.
        inputs: what it was made from.
        files: its own files, by role.
        bill: the bill of materials of the environment in which it was made.
        contents: the files of a deployment.
    """
    variant, spec, values = facts.variant, facts.spec, facts.values
    network = variant.network_for(spec.kind, spec.version)
    figures = variant.published if values.published else None
    return ArtifactRecord(
        handle=facts.handle,
        variant=variant.name,
        kind=spec.kind,
        version=spec.version,
        format=facts.format,
        network=variant.network,
        family_parameters=variant.family_parameters,
        image_size=variant.image_size,
        num_features=network.num_features,
        num_classes=network.num_classes,
        parameters=sum(variable.size for variable in network.variables),
        multiply_adds=sum(multiply_adds(network.at_default_size()).values()),
        dataset=variant.dataset,
        license=variant.license,
        values="synthetic" if values.synthetic else "trained",
        published=figures.model_dump(mode="json") if figures else None,
        checks=facts.proof,
        inputs=inputs,
        files={role: files[role] for role in roles(spec)},
        sbom=bill,
        deployment=_deployment(spec, contents),
        measured=facts.measured,
        sample=facts.sample,
    )


def _deployment(spec: ModuleSpec, contents: Sequence[ReleaseFile]) -> DeploymentRecord | None:
    if not isinstance(spec, DeploymentSpec):
        return None
    facts = {name: value for name, value in spec.as_json().items() if name != "format"}
    return DeploymentRecord(**facts, contents=tuple(sorted(contents, key=lambda file: file.path)))
