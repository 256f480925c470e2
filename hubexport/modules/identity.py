"""Which module is verified: the files, and what `hubexport.json`, or the user, says that they should be."""

import dataclasses
from pathlib import Path

import pydantic

from hubexport.checkpoints.archives import MODULE_FILE
from hubexport.errors import ModuleError
from hubexport.formats.manifest import MANIFEST, Manifest, ManifestError, read_manifest
from hubexport.networks.layers import Network
from hubexport.variants import TF1_VERSIONS, ModuleSpec, Variant

# Of classes, to a network without classifier.
_ANY_NUMBER = 1


@dataclasses.dataclass(frozen=True)
class ModuleIdentity:
    """A module, and what it should be.

    Attributes:
        directory: the module's.
        shown_as: what messages call it.
        manifest: what `hubexport.json` says; None if there is none.
        variant: what it should be of.
        spec: the kind and version that it should have.
        network: that of both.
    """

    directory: Path
    shown_as: str
    manifest: Manifest | None
    variant: Variant
    spec: ModuleSpec
    network: Network

    @property
    def is_tf1(self) -> bool:
        """Whether it should be in the TF1 Hub format; else it should be a TF2 SavedModel."""
        return self.spec.version in TF1_VERSIONS


def identify(
    directory: Path, shown_as: str, variant: Variant | None = None, spec: ModuleSpec | None = None
) -> ModuleIdentity:
    """Finds out what a module should be.

    Args:
        directory: the module's.
        shown_as: what messages call it.
        variant: what it should be of; None takes the word of `hubexport.json` for it.
        spec: the same for its kind and version.
    Raises:
        ModuleError: it is no module, or nobody says what it should be.
    """
    if not (directory / MODULE_FILE).is_file():
        raise ModuleError(
            f"no module in {shown_as}",
            why=f"it has no file {MODULE_FILE}",
            fix=f"give the directory that contains {MODULE_FILE}, like OUTPUT_DIR/google/imagenet/VARIANT/KIND/VERSION",
        )
    try:
        manifest = read_manifest(directory)
    except ManifestError as error:
        raise _unidentified(shown_as, str(error)) from error
    if manifest is None and not (variant and spec):
        raise _unidentified(shown_as, f"it has no {MANIFEST}")
    variant = variant or _variant_of(manifest, shown_as)
    spec = spec or _spec_of(manifest, shown_as)
    return ModuleIdentity(directory, shown_as, manifest, variant, spec, variant.network_for(spec.kind))


def _spec_of(manifest: Manifest | None, shown_as: str) -> ModuleSpec:
    assert manifest is not None, "without a manifest the user has to say it"
    try:
        return ModuleSpec.parse(f"{manifest.kind}/{manifest.version}")
    except ValueError as error:
        raise _unidentified(
            shown_as, f"{MANIFEST} names an unknown kind or version: {manifest.kind}/{manifest.version}"
        ) from error


def _variant_of(manifest: Manifest | None, shown_as: str) -> Variant:
    """Returns the variant that a manifest describes, whether or not there is a config of it."""
    assert manifest is not None, "without a manifest the user has to say it"
    publisher, collection = [*(manifest.handle or "").split("/"), "", ""][:2]
    try:
        return Variant.model_validate(
            {
                "name": manifest.variant,
                "publisher": publisher,
                "collection": collection,
                "network": manifest.network,
                "depth_multiplier": manifest.depth_multiplier,
                "image_size": manifest.input_height_px,
                "num_classes": manifest.num_classes or _ANY_NUMBER,
                "dataset": manifest.dataset,
                "modules": [f"{manifest.kind}/{manifest.version}"],
            }
        )
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise _unidentified(shown_as, f"{MANIFEST} describes an invalid variant: {place}: {first['msg']}") from error


def _unidentified(shown_as: str, why: str) -> ModuleError:
    return ModuleError(
        f"cannot tell what {shown_as} should be", why=why, fix="give --variant and --module KIND/VERSION"
    )
