"""What there is to say of one packed module: its page, its card and the index tell these facts, and no others."""

import dataclasses
from typing import Literal

from hubexport.variants import TF1_VERSIONS, ModuleSpec, Variant

# What tfhub.dev calls the two formats.
Format = Literal["hub", "saved_model_2"]


@dataclasses.dataclass(frozen=True)
class ValuesOrigin:
    """Where a module's values come from, as its `hubexport.json` says it.

    Attributes:
        synthetic: made up, of an untrained network.
        weights: `averaged`, `raw`, so many of each, or `only` where the source holds one value a variable.
        source: the name of the checkpoint's file, or `synthetic:SEED`.
        published: whether that is the very archive that the variant's config names.
    """

    synthetic: bool
    weights: str
    source: str
    published: bool


@dataclasses.dataclass(frozen=True)
class VerificationProof:
    """What `hubexport verify` found, in numbers of checks.

    Attributes:
        passed: how many passed; none failed.
        not_applicable: how many had nothing to look at.
        tensorflow: the version of TensorFlow that ran the module; None if no check that was asked for needed it.
    """

    passed: int
    not_applicable: int
    tensorflow: str | None


@dataclasses.dataclass(frozen=True)
class ModuleFacts:
    """One packed module.

    Attributes:
        variant: what it was built of.
        spec: its kind and version.
        url: where its release is served, without a slash at the end; its handle follows.
        values: where its values come from.
        proof: what is known of it.
        archive_sha256: of the `.tar.gz`, in lower-case hexadecimal.
        archive_bytes: its size.
        exporter: hubexport's version.
    """

    variant: Variant
    spec: ModuleSpec
    url: str
    values: ValuesOrigin
    proof: VerificationProof
    archive_sha256: str
    archive_bytes: int
    exporter: str

    @property
    def handle(self) -> str:
        """Like `google/imagenet/mobilenet_v2_075_192/feature_vector/2`."""
        return self.variant.handle(self.spec)

    @property
    def format(self) -> Format:
        """The TF1 Hub format, or TensorFlow 2's SavedModel."""
        return "hub" if self.spec.version in TF1_VERSIONS else "saved_model_2"
