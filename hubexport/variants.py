"""Variants and modules, as strict data classes.

A variant is one trained network at one size, named after its YAML file. A module is what is exported from it: a kind in
a version.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationInfo, WrapValidator

from hubexport.errors import UsageError, check_choice, check_list, either, guess
from hubexport.labels import read_labels
from hubexport.networks.family_fields import FamilyParameters, NetworkName, SpreadParameters
from hubexport.networks.network import Network
from hubexport.networks.registry import FAMILIES

Kind = Literal["feature_vector", "classification"]
KINDS: tuple[Kind, ...] = ("feature_vector", "classification")
# Versions 1 to 3 have the TF1 Hub format. Versions 4 and 5 are TF2 SavedModels.
TF1_VERSIONS = (1, 2, 3)
TF2_VERSIONS = (4, 5)
VERSIONS = TF1_VERSIONS + TF2_VERSIONS

# Whose handles the built-in configs have. Modules of other publishers are those of a hub's own people.
BUILTIN_PUBLISHER = "google"

# The dataset in the config of a checkpoint, none of which tells what it was trained on.
UNKNOWN_DATASET = "unknown"

# Far above any published network. A larger number is a typing error, and would fill the disk.
_MAX_CLASSES = 1_000_000
_MAX_LINE_CHARACTERS = 1000
_MAX_NAME_BYTES = 200


class ModuleSpec(pydantic.BaseModel):
    """The kind and version of a module, written `kind/version`, like `feature_vector/2`."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    version: int

    def __str__(self) -> str:
        return f"{self.kind}/{self.version}"

    @property
    def root(self) -> str:
        """What its handle begins with, before the publisher."""
        return ""

    @classmethod
    def parse(cls, text: object) -> "ModuleSpec":
        """Parses `kind/version`.

        Raises:
            ValueError: `text` is something else. The message says what is allowed.
        """
        kind, _, version = text.partition("/") if isinstance(text, str) else ("", "", "")
        if kind not in KINDS:
            raise ValueError(f"KIND/VERSION with the kind {either(KINDS)}{guess(kind, KINDS)}")
        if version not in map(str, VERSIONS):
            raise ValueError(f"KIND/VERSION with the version {either(VERSIONS)}")
        return cls(kind=kind, version=int(version))


def is_known_dataset(dataset: str) -> bool:
    """Tells whether the dataset in a config is one, and not the word for an unknown one."""
    return dataset.strip().lower() != UNKNOWN_DATASET


def module_spec(module: ModuleSpec | str) -> ModuleSpec:
    """Converts an argument to a module spec.

    Args:
        module: a module spec, or text like `feature_vector/2`.
    Raises:
        UsageError: there is no such kind or version. `why` lists those that exist.
    """
    if isinstance(module, ModuleSpec):
        return module
    try:
        return ModuleSpec.parse(module)
    except ValueError as error:
        raise UsageError(
            f"unknown module {module!r}", why=f"it must be {error}", fix="use one like feature_vector/3"
        ) from None


def module_specs(modules: Iterable[ModuleSpec | str]) -> tuple[ModuleSpec, ...]:
    """Converts arguments to module specs, without duplicates, in the order given.

    Args:
        modules: module specs, or texts like `feature_vector/2`.
    Raises:
        UsageError: there is no such kind or version, or `modules` is one string.
    """
    check_list(modules=modules)
    return tuple(dict.fromkeys(map(module_spec, modules)))


def _must_be(meaning: str, is_allowed: Callable[[Any], object]) -> AfterValidator:
    """Refuses other values. Reports of mistakes have `meaning` after "must be"."""

    def check(value: Any) -> Any:
        if not is_allowed(value):
            raise ValueError(meaning)
        return value

    return AfterValidator(check)


def _matching(pattern: str, meaning: str) -> AfterValidator:
    return _must_be(meaning, re.compile(pattern).fullmatch)


# Names become folders: they have no separators, are not hidden or `..`, and leave room for a suffix.
_Segment = Annotated[
    str,
    _matching(r"[A-Za-z0-9][\w.-]*", "letters, digits, '_', '-' and '.', and begin with a letter or digit"),
    _must_be(f"at most {_MAX_NAME_BYTES} bytes long", lambda name: len(name.encode()) <= _MAX_NAME_BYTES),
]
_SEGMENT: pydantic.TypeAdapter[str] = pydantic.TypeAdapter(_Segment)
# Text that goes into manifests and pages.
_Line = Annotated[
    str,
    _must_be(
        f"one line of printable characters, at most {_MAX_LINE_CHARACTERS:,} of them",
        lambda text: text.isprintable() and len(text) <= _MAX_LINE_CHARACTERS,
    ),
]
_Path = Annotated[_Line, _must_be("the path of a text file", lambda text: bool(text.strip()))]
_Percent = Annotated[float, Field(ge=0, le=100)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _allowed_size(size: int, info: ValidationInfo) -> int:
    family = FAMILIES.get(info.data.get("network", ""))
    if family and (problem := family.size_problem(size)):
        raise ValueError(problem)
    return size


def _family_versions(modules: tuple[ModuleSpec, ...], info: ValidationInfo) -> tuple[ModuleSpec, ...]:
    family = FAMILIES.get(info.data.get("network", ""))
    if family and any(spec.version not in family.versions for spec in modules):
        raise ValueError(f"a list of modules in the versions that {family.title} has: {either(family.versions)}")
    return modules


def _spdx_identifier(text: str) -> str:
    """Returns the identifier of a license as SPDX writes it, whose list ignores case."""
    from packaging import licenses  # Its list of some 700 licenses is only for configs that name one.

    try:
        return licenses.canonicalize_license_expression(text)
    except licenses.InvalidLicenseExpression:
        # The list itself is not in the package's documentation: without it, there is just no guess.
        known = [license_["id"] for license_ in getattr(licenses, "LICENSES", {}).values()]
        raise ValueError(
            f"an identifier in SPDX's list of licenses, like Apache-2.0{guess(text, known)}, or LicenseRef-NAME for "
            "another license"
        ) from None


def _another_checkpoint(raw_name: str | None, info: ValidationInfo) -> str | None:
    if raw_name is not None and raw_name == info.data.get("name"):
        raise ValueError("the prefix of another checkpoint than `name`")
    return raw_name


class StrictModel(pydantic.BaseModel):
    """An immutable model that accepts no unknown keys and converts no types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PublishedCheckpoint(StrictModel):
    """A published archive of trained values.

    Attributes:
        url: the http or https address of the archive, a gzipped tar.
        sha256: the archive's SHA-256, in lower-case hexadecimal; None if the publishers give none.
        name: the checkpoint's prefix inside the archive, like `mobilenet_v2_0.75_192.ckpt`.
        raw_name: the prefix of a second checkpoint in the archive, which has the raw values. The first one then has
            averages under the names of the variables. None for an archive with one checkpoint.
    """

    url: Annotated[_Line, _matching(r"https?://\S+", "an http:// or https:// address")]
    sha256: Annotated[str, _matching(r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")] | None = None
    name: _Segment
    raw_name: Annotated[_Segment | None, AfterValidator(_another_checkpoint)] = None


class PublishedFigures(StrictModel):
    """The figures that the checkpoint's publishers measured; None for one that they did not give.

    Attributes:
        macs_millions: the multiply-adds for one image, in millions, rounded down.
        parameters_millions: the number of parameters, in millions, rounded down to two decimals. Publishers differ in
            whether they count batch norm's.
        top1_percent: the top-1 accuracy on the ImageNet validation set.
        top5_percent: the top-5 accuracy on the ImageNet validation set.
        accuracy_image_size: the height and width of the images on which accuracy was measured, in pixels; None if it is
            the variant's.
        pixel1_cpu_ms: the time for one image on a Pixel 1, in milliseconds.
    """

    macs_millions: Annotated[int, Field(gt=0)] | None = None
    parameters_millions: _Positive | None = None
    top1_percent: _Percent | None = None
    top5_percent: _Percent | None = None
    accuracy_image_size: Annotated[int, Field(gt=0)] | None = None
    pixel1_cpu_ms: _Positive | None = None


class LabelFile(StrictModel):
    """A text file with one class name per line.

    Attributes:
        file: the path; in a config, relative to the file that names it.
        skip: how many lines at the top are of classes that the variant lacks, such as 1 for ImageNet's background.
    """

    file: _Path
    skip: Annotated[int, Field(ge=0)] = 0


ClassNames = tuple[str, ...]
_CLASS_NAMES: pydantic.TypeAdapter[ClassNames] = pydantic.TypeAdapter(
    tuple[Annotated[_Line, _must_be("a name, not blank", str.strip)], ...]
)


def _labels(value: object, _: object) -> LabelFile | ClassNames | None:
    """Accepts the path alone, too. Each form is checked by itself, so that mistakes are reported as those of one."""
    match value:
        case None | LabelFile():
            return value
        case str():
            return LabelFile(file=value)
        case dict():
            return LabelFile.model_validate(value)
        case list() | tuple():
            return _CLASS_NAMES.validate_python(tuple(value), strict=True)
    raise ValueError("the path of a text file, `file` and `skip` below this key, or a list of names")


class Variant(StrictModel, SpreadParameters):
    """One trained network at one size.

    Attributes:
        name: the name of the variant's file, without `.yaml` or `.yml`.
        publisher: the first part of the modules' handles.
        collection: the second part of the modules' handles.
        network: the name of the network's family in `hubexport.networks.registry`.
        family_parameters: the family's parameters, like a depth multiplier; in a config, keys beside the others.
        image_size: the height and width of the images in pixels; the default of modules that take any size.
        num_classes: the number of classes that the checkpoint was trained for, including the background class.
        dataset: the name of the training data, or `UNKNOWN_DATASET`.
        labels: the names of the classes, or the file that has them; in a config also its path alone. None if the
            classes have no names.
        license: the identifier of the trained values' license in SPDX's list, like `Apache-2.0`, or `LicenseRef-NAME`
            for another one; None if it is unknown.
        checkpoint: the published archive; None if users must pass `--checkpoint`.
        published: the publishers' figures; None if there are none.
        modules: the modules to build by default.
    """

    name: _Segment
    publisher: _Segment = BUILTIN_PUBLISHER
    collection: _Segment = "imagenet"
    network: NetworkName
    family_parameters: FamilyParameters
    image_size: Annotated[int, AfterValidator(_allowed_size)]
    num_classes: Annotated[int, Field(gt=0, le=_MAX_CLASSES)]
    dataset: _Line
    labels: Annotated[LabelFile | ClassNames | None, WrapValidator(_labels)] = None
    license: (
        Annotated[
            _Line,
            _matching(r"[A-Za-z0-9][\w.+-]*", "an SPDX identifier like Apache-2.0"),
            AfterValidator(_spdx_identifier),
        ]
        | None
    ) = None
    checkpoint: PublishedCheckpoint | None = None
    published: PublishedFigures | None = None
    modules: Annotated[
        tuple[Annotated[ModuleSpec, BeforeValidator(ModuleSpec.parse)], ...],
        Field(strict=False, min_length=1),
        _must_be("a list with each KIND/VERSION once", lambda specs: len(set(specs)) == len(specs)),
        AfterValidator(_family_versions),
    ]

    def handle(self, spec: ModuleSpec | str) -> str:
        """Returns a module's handle, like `google/imagenet/mobilenet_v2_075_192/feature_vector/2`.

        Args:
            spec: the module's kind and version, like `feature_vector/2`.
        Raises:
            UsageError: there is no such kind or version.
        """
        spec = module_spec(spec)
        return f"{spec.root}{self.publisher}/{self.collection}/{self.name}/{spec}"

    def network_for(self, kind: Kind, version: int | None = None) -> Network:
        """Returns the network of a module.

        Args:
            kind: the module's kind. Only classification modules have a classifier.
            version: the module's version. Some take images of any size; the default is for the variant's size alone.
        Raises:
            UsageError: there is no such kind, or the network's family lacks the version.
        """
        if version is None:
            check_choice("kind", kind, KINDS)
        else:
            spec = module_spec(f"{kind}/{version}")
            self.check_modules([spec])
            version = spec.version
        num_classes = self.num_classes if kind == "classification" else None
        return self.family.network(self.family_parameters, self.image_size, num_classes, version)

    def check_modules(self, modules: Iterable[ModuleSpec]) -> None:
        """Checks that the network's family has the versions of modules.

        Raises:
            UsageError: it lacks one.
        """
        versions = self.family.versions
        if unknown := [spec for spec in modules if spec.version not in versions]:
            raise UsageError(
                f"{self.name} has no {unknown[0]}",
                why=f"{self.family.title} modules have version {either(versions)}",
                fix=f"use {unknown[0].kind}/{versions[-1]}",
            )

    def class_names(self) -> list[str] | None:
        """Returns the name of each class; None if the variant has no labels.

        Raises:
            UsageError: the file cannot be read.
        """
        if isinstance(self.labels, LabelFile):
            return read_labels(Path(self.labels.file))[self.labels.skip :]
        return None if self.labels is None else list(self.labels)

    def select_modules(self, requests: Sequence[str]) -> tuple[ModuleSpec, ...]:
        """Returns the modules that `--module` asks for.

        Args:
            requests: the values of the flag: `KIND/VERSION`, or `KIND` for its versions in `modules`. An empty list
                means all of `modules`.
        Returns:
            The modules in the order of the requests, without duplicates.
        Raises:
            UsageError: there is no such kind or version, or the network's family lacks the version.
        """
        selected = tuple(dict.fromkeys(spec for request in requests for spec in self._select(request)))
        self.check_modules(selected)
        return selected or self.modules

    def _select(self, request: str) -> list[ModuleSpec]:
        if request in KINDS:
            if specs := [spec for spec in self.modules if spec.kind == request]:
                return specs
            raise UsageError(
                f"--module {request} needs a version",
                why=f"the config of {self.name} lists no {request} module",
                fix=f"use --module {request}/{VERSIONS[-1]}, or another version: {either(self.family.versions)}",
            )
        return [module_spec(request)]


def what_must_be(error: pydantic.ValidationError) -> str:
    """Returns what the first wrong value must be, without the words that pydantic puts before it."""
    return re.sub("^(Input should be|Value error,) ", "", error.errors(include_url=False)[0]["msg"])


def check_handle_part(what: str, text: str) -> None:
    """Checks that a text may be a part of a handle.

    Args:
        what: what messages call the text.
        text: the text.
    Raises:
        UsageError: it may not.
    """
    try:
        _SEGMENT.validate_python(text, strict=True)
    except pydantic.ValidationError as error:
        raise UsageError(
            f"{what} {text!r} cannot be a part of a handle",
            why=f"it must be {what_must_be(error)}",
            fix="choose another, like flowers_2",
        ) from None


def check_variant(variant: Variant) -> None:
    """Checks that an argument is a variant, not the name of one.

    Raises:
        UsageError: the argument is something else.
    """
    if not isinstance(variant, Variant):
        raise UsageError(
            f"variant is {variant!r}", why="it must be a hubexport.Variant", fix="pass hubexport.load_variant(NAME)"
        )
