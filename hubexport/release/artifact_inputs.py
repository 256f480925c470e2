"""What an artifact is made from, by names and digests.

The same inputs give the same archive, page and card on every machine, byte for byte. Measurements may differ.
"""

from collections.abc import Mapping
import functools
from importlib import metadata
from pathlib import Path
from typing import Any

import pydantic
from pydantic import ConfigDict, SerializerFunctionWrapHandler

from hubexport.checkpoints.download_cache import Downloads, archive_path, pinned
from hubexport.checkpoints.sources import ArchiveSource, checked_scope, resolve_source
from hubexport.deployment_spec import DeploymentSpec
from hubexport.errors import CheckpointError
from hubexport.progress import Progress
from hubexport.release.config_facts import ConfigFacts, digest
from hubexport.release.facts import without_missing_results
from hubexport.release.options import FOR_EACH_MODULE, ReleaseOptions
from hubexport.system.digests import file_sha256, tree_files
from hubexport.variants import ModuleSpec, Variant
from hubexport.verify.check import Check
from hubexport.verify.checks.registry import CHECKS, checks_to_run, select_checks
from hubexport.verify.result import Subject
from hubexport.version import __version__

# Published modules never change: one with different values of these needs another handle.
CONTENT = ("network", "checkpoint", "weights", "deployment")


class ArtifactInputs(pydantic.BaseModel):
    """Everything that decides what an artifact and its page contain.

    Attributes:
        network: a digest of the config's facts that modules contain, of the labels, and of the name of the checkpoint
            in its archive.
        checkpoint: what `hubexport.json` says of it: the source and, if it is in files, their digests.
        weights: which values were asked for: `auto`, `averaged` or `raw`.
        description: a digest of the config's facts that show in pages only, like the license and published figures.
        url: the address at which the release will be served.
        exporter: hubexport's version.
        program: a digest of hubexport's code.
        deployment: how a deployment is written, see `hubexport.deployment_spec.DeploymentSpec.as_json`; None for a
            module.
        compressor: the library that compresses archives, and its version; empty for a deployment.
        checks: the names of the checks that the module had to pass.
        graph_checks: the names of further checks that it had to pass, or another module with the same graph.
        source_date_epoch: the time of the files in the archive, in seconds since 1970.
        measured: a digest of the accuracy that was measured; None if there is none, as in releases from before there
            was this field.
        sample: a digest of the result for a photograph; None as for `measured`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    network: str
    checkpoint: Mapping[str, Any]
    weights: str
    description: str
    url: str
    exporter: str
    program: str
    deployment: Mapping[str, Any] | None = None
    compressor: str
    checks: tuple[str, ...] = pydantic.Field(strict=False)
    # Releases before there was this field had none.
    graph_checks: tuple[str, ...] = pydantic.Field((), strict=False)
    source_date_epoch: int
    measured: str | None = None
    sample: str | None = None

    @pydantic.model_serializer(mode="wrap")
    def _without_missing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_missing_results(serialize(self))

    @property
    def packages(self) -> dict[str, str]:
        """The versions of the packages that decide the bytes of the artifact, by name."""
        if self.deployment:
            return dict(self.deployment["written_with"])
        name, _, version = self.compressor.partition(" ")
        return {name: version}

    def differing(self, other: "ArtifactInputs") -> list[str]:
        """Returns the names of the attributes that are not equal."""
        return [name for name in type(self).model_fields if getattr(self, name) != getattr(other, name)]


def pinned_variant(variant: Variant, text: str | None, options: ReleaseOptions, progress: Progress) -> Variant:
    """Returns a variant with the SHA-256 of its published archive, as if its config had it, if that can be known.

    Args:
        variant: the variant.
        text: the `--checkpoint` of `hubexport build`, as `checkpoint_for` returns it. None means the published archive:
            one of unknown SHA-256 is downloaded.
        options: the release's options.
        progress: shows the download, and is warned when it is accepted.
    Raises:
        CheckpointError: the published archive is wanted, its config has no SHA-256, and the options do not accept that.
        DownloadError: the archive cannot be downloaded.
    """
    published = variant.checkpoint
    if published is None or published.sha256:
        return variant
    known = pinned(published, options.downloads)
    if text is None:
        if not options.accept_unpinned:
            raise unpinned_error(variant, known.sha256 if known else None)
        from hubexport.checkpoints.download import pin

        known = pin(published, progress, options.downloads)
    return variant.model_copy(update={"checkpoint": known}) if known else variant


def unpinned_error(variant: Variant, sha256: str | None) -> CheckpointError:
    """Returns the error of a release that must not use an archive without a SHA-256 in the config.

    Args:
        variant: the variant.
        sha256: the SHA-256 of the archive that was downloaded before; None if there was none.
    """
    assert variant.checkpoint, "only a published archive can be unpinned"
    pin = f"`sha256: {sha256}`" if sha256 else "its `sha256`"
    return CheckpointError(
        f"the published archive of {variant.name} is not pinned",
        why=f"the config has no SHA-256 for {variant.checkpoint.url}, which may serve another file one day",
        fix=f"put {pin} under `checkpoint` in the config, or add --accept-unpinned",
    )


def checkpoint_provenance(
    text: str | None, variant: Variant, progress: Progress, downloads: Downloads, scope: str | None
) -> dict[str, Any]:
    """Returns what `hubexport.json` will say of a checkpoint, without downloading it if its SHA-256 is known.

    Args:
        text: the `--checkpoint` of `hubexport build`, as `checkpoint_for` returns it. None means the published archive:
            its digest is known from the config, and the build accepts no other.
        variant: the variant to build, as `pinned_variant` returns it.
        progress: is warned of an archive that is not the published one.
        downloads: where published archives are cached.
        scope: what the names of the network's variables begin with there, if the user says it.
    Raises:
        CheckpointError: the checkpoint cannot be found or read.
    """
    if text is None and variant.checkpoint is not None and variant.checkpoint.sha256 is not None:
        archive = archive_path(variant.checkpoint, downloads)
        sha256 = variant.checkpoint.sha256
        return ArchiveSource(archive, sha256, published=True, name=None, scope=checked_scope(scope)).provenance()
    return resolve_source(text, variant, progress, downloads, scope).provenance()


def inputs_of(
    variant: Variant, spec: ModuleSpec, checkpoint: Mapping[str, Any], options: ReleaseOptions
) -> ArtifactInputs:
    """Returns what an artifact is made from.

    Args:
        variant: its variant.
        spec: its kind and version.
        checkpoint: what `hubexport.json` says of the checkpoint.
        options: the release's options. Of these, `checkpoint` and `downloads` do not count.
    Raises:
        UsageError: the file of labels cannot be read, or the options select checks of modules for a deployment, or of
            deployments for a module, alone.
    """
    config = ConfigFacts.of(variant)
    for_each, others = checks_of(variant, spec, options)
    return ArtifactInputs(
        network=config.network_sha256(),
        checkpoint=checkpoint,
        weights=options.weights,
        description=config.description_sha256(),
        url=options.url,
        exporter=__version__,
        program=program_sha256(),
        deployment=spec.as_json() if isinstance(spec, DeploymentSpec) else None,
        compressor="" if isinstance(spec, DeploymentSpec) else f"deflate {metadata.version('deflate')}",
        checks=tuple(check.name for check in for_each),
        graph_checks=tuple(check.name for check in others),
        source_date_epoch=options.source_date_epoch,
        **{name: result_sha256(result) for name, result in options.results_of(variant.handle(spec)).items()},
    )


def checks_of(
    variant: Variant, spec: ModuleSpec, options: ReleaseOptions
) -> tuple[tuple[Check, ...], tuple[Check, ...]]:
    """Returns the checks that an artifact has to pass, and those that it or another with the same graph has to pass.

    Raises:
        UsageError: the options select no check of what it is.
    """
    if options.checks or isinstance(spec, DeploymentSpec):
        subject: Subject = "deployment" if isinstance(spec, DeploymentSpec) else "module"
        return checks_to_run(options.checks, variant.handle(spec), subject), ()
    for_each = select_checks(FOR_EACH_MODULE)
    return for_each, tuple(check for check in CHECKS if check not in for_each)


def result_sha256(result: pydantic.BaseModel | None) -> str | None:
    """Returns a digest of a result; None if there is none."""
    return digest(result.model_dump(mode="json")) if result else None


@functools.cache
def program_sha256() -> str:
    """Returns a digest of hubexport's code, which changes more often than its version."""
    package = Path(__file__).parents[1]
    # Python writes compiled files beside the code. An installed package also contains the configs, which are inputs of
    # their own, each of its variant's artifacts alone.
    files = [
        path for path in tree_files(package) if path.suffix not in {".pyc", ".pyo"} and "configs" not in path.parts
    ]
    return digest({path.relative_to(package).as_posix(): file_sha256(path) for path in files})
