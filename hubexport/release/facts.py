"""The facts about one packed module that its page, its card and the index tell."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Annotated, Any

import pydantic
from pydantic import ConfigDict, Field

from hubexport.deployment_spec import DeploymentSpec
from hubexport.deployments.registry import DEPLOYMENTS
from hubexport.errors import printable
from hubexport.formats.manifest import Manifest
from hubexport.variants import TF1_VERSIONS, ModuleSpec, Variant

# tfhub.dev's names of the TF1 Hub format, and of TensorFlow 2's SavedModel.
MODULE_FORMATS = ("hub", "saved_model_2")
# Of a module, or of a deployment.
Format = Annotated[str, Field(pattern=f"^({'|'.join((*MODULE_FORMATS, *DEPLOYMENTS))})$")]


# What people may publish of what commands found out about an artifact: the field of its record, and what it is called.
RESULTS = {"measured": "measured accuracy", "sample": "sample result"}

MAX_SAMPLE_CLASSES = 5
# Modules that declare probabilities may be off by as much, see `hubexport.images.classification`.
_MAX_SUM = 1.01


def without_missing_results(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out results that there are not: older records have no such fields, and must come out as they were."""
    return {name: value for name, value in fields.items() if name not in RESULTS or value is not None}


def artifact_format(spec: ModuleSpec) -> str:
    """Returns the format of a module by tfhub.dev's name, or that of a deployment."""
    if isinstance(spec, DeploymentSpec):
        return spec.format
    return "hub" if spec.version in TF1_VERSIONS else "saved_model_2"


@dataclasses.dataclass(frozen=True)
class ValuesOrigin:
    """Where a module's values come from, as its `hubexport.json` says.

    Attributes:
        synthetic: whether the values are made up, and the network is untrained.
        weights: `averaged`, `raw`, the number of each like `158 averaged, 104 raw`, or `only` if the source stores one
            value per variable.
        source: the name of the checkpoint's file, or `synthetic:SEED`.
        published: whether the source is the archive that the variant's config names.
        requested: the weights that were asked for: `auto`, `averaged` or `raw`.
    """

    synthetic: bool
    weights: str
    source: str
    published: bool
    requested: str = "auto"

    @classmethod
    def of(cls, manifest: Manifest, requested: str) -> "ValuesOrigin":
        """Returns the origin that a module's `hubexport.json` states.

        Args:
            manifest: the content of `hubexport.json`.
            requested: the weights that were asked for.
        """
        return cls(
            synthetic=manifest.values == "synthetic",
            weights=manifest.weights or "",
            source=manifest.checkpoint.source or "",
            published=bool(manifest.checkpoint.published),
            requested=requested,
        )


class VerificationProof(pydantic.BaseModel):
    """The result of `hubexport verify` for a module that passed.

    Attributes:
        passed: the number of checks that passed.
        not_applicable: the number of checks that do not apply to the module.
        tensorflow: the version of TensorFlow that ran the module; None if no selected check needs TensorFlow.
        graph_sha256: the digest of the module's graph; None in releases from before there was this field.
        graph_proved_by: the handle of another module with the same graph, which passed the checks of graphs in its
            place; None if this one passed them, or none were selected.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    passed: Annotated[int, Field(gt=0)]
    not_applicable: Annotated[int, Field(ge=0)]
    tensorflow: str | None
    graph_sha256: str | None = None
    graph_proved_by: str | None = None


class MeasuredFigures(pydantic.BaseModel):
    """The accuracy of an artifact that `hubexport evaluate` measured before the release.

    Attributes:
        top1_percent: how often the right class had the highest score, in percent.
        top5_percent: how often it was among the five with the highest scores, in percent; None if nobody counted.
        images: the number of images.
        dataset: what the user calls them.
        preprocessing: how the images were prepared, in words.
        engine: the program that ran the artifact, and its version; None if that is not known.
        values_sha256: a digest of the values that were measured, see `hubexport.formats.manifest.values_sha256`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    top1_percent: Annotated[float, Field(ge=0, le=100)]
    top5_percent: Annotated[float, Field(ge=0, le=100)] | None
    images: Annotated[int, Field(gt=0)]
    dataset: Annotated[str, Field(min_length=1, max_length=200)]
    preprocessing: Annotated[str, Field(max_length=200)]
    engine: Annotated[str, Field(max_length=200)] | None
    values_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> "MeasuredFigures":
        if self.top5_percent is not None and self.top5_percent < self.top1_percent:
            raise ValueError("the top-5 accuracy is below the top-1 accuracy")
        return self


class SampleClass(pydantic.BaseModel):
    """One of the most probable classes of a photograph.

    Attributes:
        number: the class's index in the artifact's output, from 0.
        name: the class's name; None if the classes have no names.
        probability: from 0 to 1.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    number: Annotated[int, Field(ge=0)]
    name: Annotated[str, Field(max_length=1000)] | None
    probability: Annotated[float, Field(ge=0, le=1)]


class SampleResult(pydantic.BaseModel):
    """What `hubexport classify` found in a photograph with an artifact before the release.

    Attributes:
        photograph: the name of the photograph's file.
        classes: its most probable classes, the best one first.
        engine: the program that ran the artifact, and its version.
        values_sha256: a digest of the artifact's values, see `hubexport.formats.manifest.values_sha256`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    photograph: Annotated[str, Field(min_length=1, max_length=255, pattern="^[^/]+$")]
    classes: Annotated[tuple[SampleClass, ...], Field(min_length=1, max_length=MAX_SAMPLE_CLASSES, strict=False)]
    engine: Annotated[str, Field(min_length=1, max_length=200)]
    values_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> "SampleResult":
        probabilities = [one.probability for one in self.classes]
        if probabilities != sorted(probabilities, reverse=True):
            raise ValueError("a class is more probable than the one before it")
        if sum(probabilities) > _MAX_SUM:
            raise ValueError("the probabilities sum to more than 1")
        if len({one.number for one in self.classes}) < len(self.classes):
            raise ValueError("a class is there twice")
        return self

    @property
    def lines(self) -> list[str]:
        """The classes as the programs on a module's page print them, like ` 77.1%  Egyptian cat`."""
        return [
            f"{one.probability:6.1%}  {f'class {one.number}' if one.name is None else printable(one.name)}"
            for one in self.classes
        ]

    def problem(self, num_classes: int, names: Sequence[str] | None) -> str | None:
        """Says why an artifact cannot have this result; None if it can.

        Args:
            num_classes: how many classes the artifact has.
            names: what they are called; None if that is not known.
        """
        for one in self.classes:
            if one.number >= num_classes:
                return f"class {one.number} is not one of its {num_classes}"
            known = names[one.number] if names and one.number < len(names) else None
            if None not in (known, one.name) and known != one.name:
                return f"class {one.number} is called {printable(str(known))}, not {printable(str(one.name))}"
        return None


@dataclasses.dataclass(frozen=True)
class ModuleFacts:
    """The facts about one packed module.

    Attributes:
        variant: the variant that it was built from.
        spec: its kind and version, and for a deployment more.
        url: the address of its release, without a slash at the end. The module is at `URL/HANDLE`.
        values: where its values come from.
        proof: the result of its verification.
        sha256: the digest of its `.tar.gz`, or of a deployment's `hubexport.json`, in lower-case hexadecimal.
        bytes: the size of its `.tar.gz`, or of all files of a deployment.
        exporter: the version of hubexport that built it.
        outputs_compared: of a deployment, whether a check compared its outputs with those of the network.
        class_names: the names of the classes in its `assets/labels.txt`; None if it has none.
        has_class_names: whether a deployment contains the names of its classes.
        measured: its accuracy, if it was measured before the release.
        sample: its result for a photograph, if there is one.
    """

    variant: Variant
    spec: ModuleSpec
    url: str
    values: ValuesOrigin
    proof: VerificationProof
    sha256: str
    bytes: int
    exporter: str
    outputs_compared: bool = False
    class_names: Sequence[str] | None = None
    has_class_names: bool = False
    measured: MeasuredFigures | None = None
    sample: SampleResult | None = None

    @property
    def handle(self) -> str:
        """Like `google/imagenet/mobilenet_v2_075_192/feature_vector/2`."""
        return self.variant.handle(self.spec)

    @property
    def format(self) -> str:
        """The format of the module, by tfhub.dev's name, or of the deployment."""
        return artifact_format(self.spec)
