"""A module and what it should be, as its `hubexport.json` or the caller says."""

import dataclasses
import functools
from pathlib import Path

import pydantic

from hubexport.checkpoints.archives import MODULE_FILE
from hubexport.config_files import load_variant
from hubexport.deployment_spec import DeploymentSpec
from hubexport.errors import ConfigError, ModuleError, UsageError
from hubexport.formats.manifest import MANIFEST, Manifest, ManifestError, read_manifest
from hubexport.modules.module_report import no_module_error
from hubexport.networks.network import Network
from hubexport.variants import TF1_VERSIONS, ModuleSpec, Variant


@dataclasses.dataclass(frozen=True)
class ModuleIdentity:
    """A module or a deployment, and what it should be.

    Attributes:
        directory: its directory.
        shown_as: what messages call the module.
        manifest: the contents of its `hubexport.json`; None if it has none.
        variant: the variant that it should be of.
        spec: the kind and version that it should have.
        network: the network that a module of this variant and kind computes.
        described: whether the variant is what the manifest describes, and not one that the caller named.
    """

    directory: Path
    shown_as: str
    manifest: Manifest | None
    variant: Variant
    spec: ModuleSpec
    network: Network
    described: bool = False

    @property
    def is_tf1(self) -> bool:
        """Whether the module should have the TF1 Hub format, and not be a TF2 SavedModel."""
        return self.spec.version in TF1_VERSIONS

    @functools.cached_property
    def config(self) -> Variant | None:
        """The config of its variant: the caller's, or the built-in one of its name and network.

        None if only the manifest describes the variant.
        """
        if not self.described:
            return self.variant
        try:
            builtin = load_variant(self.variant.name)
        except ConfigError:
            return None
        return builtin if builtin.network_for(self.spec.kind, self.spec.version) == self.network else None


def identify(
    directory: Path, shown_as: str, variant: Variant | None = None, spec: ModuleSpec | None = None
) -> ModuleIdentity:
    """Finds out what a module should be.

    Args:
        directory: the module's directory.
        shown_as: what messages call the module.
        variant: the variant that it should be of. Defaults to the manifest's.
        spec: the kind and version that it should have. Defaults to the manifest's.
    Raises:
        ModuleError: the directory holds no module, the manifest cannot be understood, or neither the manifest nor the
            caller says what the module should be.
    """
    try:
        manifest = read_manifest(directory)
    except ManifestError as error:
        raise ModuleError(
            f"cannot tell what {shown_as} should be",
            why=str(error),
            fix=f"restore {MANIFEST} from a copy; or remove it, and give --variant and --module KIND/VERSION",
        ) from error
    deployed = manifest.deployment if manifest else None
    if deployed is None and not (directory / MODULE_FILE).is_file():
        raise no_module_error(directory, shown_as)
    described = variant is None
    if manifest is not None:
        variant = variant or _variant_of(manifest, shown_as)
        kind_and_version = f"{manifest.kind}/{manifest.version}"
        try:
            spec = spec or ModuleSpec.parse(kind_and_version)
        except ValueError as error:
            why = f"{MANIFEST} names an unknown kind or version: {kind_and_version}"
            raise _unidentified(shown_as, why) from error
        if deployed and not isinstance(spec, DeploymentSpec):
            try:
                spec = DeploymentSpec.of_json(spec, deployed.model_dump())
            except UsageError as error:
                raise _unidentified(shown_as, f"{MANIFEST}: {error.what}, and {error.why}") from error
    elif variant is None or spec is None:
        raise _unidentified(shown_as, f"it has no {MANIFEST}")
    network = variant.network_for(spec.kind, spec.version)
    return ModuleIdentity(directory, shown_as, manifest, variant, spec, network, described)


def _variant_of(manifest: Manifest, shown_as: str) -> Variant:
    """Returns the variant that a manifest describes, whether or not any config file does."""
    publisher, collection = [*(manifest.handle or "").split("/"), "", ""][:2]
    try:
        return Variant.model_validate(
            {
                "name": manifest.variant,
                "publisher": publisher,
                "collection": collection,
                "network": manifest.network,
                "family_parameters": manifest.family_parameters,
                "image_size": manifest.input_height_px,
                # A variant needs a number of classes, even where its network has no classifier.
                "num_classes": manifest.num_classes or 1,
                "dataset": manifest.dataset,
                "modules": [f"{manifest.kind}/{manifest.version}"],
            }
        )
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"] if part != "family_parameters")
        raise _unidentified(shown_as, f"{MANIFEST} describes an invalid variant: {key}: {first['msg']}") from error


def _unidentified(shown_as: str, why: str) -> ModuleError:
    return ModuleError(
        f"cannot tell what {shown_as} should be", why=why, fix="give --variant and --module KIND/VERSION"
    )
