"""The files of a release, and the index and records that list them.

The paths, in the folder of the release:

google/imagenet/mobilenet_v2_075_192/feature_vector/2.tar.gz    what `hub.resolve` downloads
                                                    2.md        the module's page
                                                    2.card.md   its model card
                                                    2.verify.json
                                                    2.provenance.json
                                                    2.json      the record, which is written after all of the above
deployments/google/imagenet/mobilenet_v2_075_192/feature_vector/5/onnx/model.onnx
                                                                  /hubexport.json
                                                                 onnx.md and the like
google/google.md                                                the publisher's page
sbom-….cdx.json                                                 the packages installed where artifacts were made
SHA256SUMS
index.json                                                      the release: only what it lists is published
"""

from collections.abc import Iterator, Mapping
import hashlib
import json
import math
from pathlib import Path, PurePosixPath
import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, ConfigDict, Field, SerializerFunctionWrapHandler

from hubexport.deployment_spec import DEPLOYMENTS_ROOT, DeploymentSpec
from hubexport.deployments.registry import DEPLOYMENTS
from hubexport.errors import ReleaseError
from hubexport.formats.manifest import MANIFEST
from hubexport.networks.family_fields import FamilyParameters, NetworkName, SpreadParameters, spread_parameters
from hubexport.release.artifact_inputs import ArtifactInputs
from hubexport.release.facts import Format, MeasuredFigures, SampleResult, VerificationProof, without_missing_results
from hubexport.system.digests import file_sha256
from hubexport.system.regular_files import read_regular_file
from hubexport.variants import ModuleSpec

INDEX = "index.json"
SHA256SUMS = "SHA256SUMS"

# What an artifact's files are for, and how their names end.
Role = Literal["archive", "page", "card", "verification", "provenance"]
SUFFIXES: Mapping[Role, str] = {
    "archive": ".tar.gz",
    "page": ".md",
    "card": ".card.md",
    "verification": ".verify.json",
    "provenance": ".provenance.json",
}

# Enough for eighty thousand artifacts of about 3 kB each. A parsed index takes several times as much memory.
MAX_INDEX_BYTES = 256 << 20


def _inside_release(path: str) -> str:
    if not re.fullmatch(r"[\w.+-]+(/[\w.+-]+)*", path) or ".." in PurePosixPath(path).parts or path.startswith("."):
        raise ValueError("must be a path inside the release")
    return path


_Path = Annotated[str, AfterValidator(_inside_release)]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _is_finite(value: object) -> bool:
    """Returns whether all numbers in a JSON value are finite: parsers accept NaN, and read 1e999 as Infinity."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list) or all(map(_is_finite, value))


class _Strict(pydantic.BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ReleaseFile(_Strict):
    """One file of a release.

    Attributes:
        path: its path in the release's folder.
        sha256: its digest in lower-case hexadecimal.
        bytes: its size.
    """

    path: _Path
    sha256: _Sha256
    bytes: Annotated[int, Field(ge=0)]

    @classmethod
    def of(cls, path: Path, name: str) -> "ReleaseFile":
        """Describes the file at `path` under the path that it has in the release."""
        return cls(path=name, sha256=file_sha256(path), bytes=path.stat().st_size)


class DeploymentRecord(_Strict):
    """What an artifact is that is not a module; see `hubexport.deployment_spec.DeploymentSpec`.

    Attributes:
        options: of the format.
        endpoints: keys of the endpoints that are outputs, too.
        written_with: the versions of the packages that decide its bytes, by name.
        contents: the files in its folder, sorted by path.
    """

    options: Mapping[str, bool | int | str | Mapping[str, int | str] | None]
    endpoints: tuple[str, ...] = Field(strict=False)
    written_with: Mapping[str, str]
    contents: tuple[ReleaseFile, ...] = Field(strict=False)


class ArtifactRecord(_Strict, SpreadParameters):
    """One artifact: facts for programs, what it was made from, and its files.

    Attributes:
        handle: like `google/imagenet/mobilenet_v2_075_192/feature_vector/2`.
        variant: the variant's name.
        kind: `feature_vector` or `classification`.
        version: 1 to 5.
        format: `hub` (1 to 3) or `saved_model_2`; that of a deployment.
        network: the name of the network's family.
        family_parameters: the family's parameters, like a depth multiplier; in the file, keys beside the others.
        image_size: height and width in pixels; the default of a module that takes any size.
        num_features: the length of a feature vector.
        num_classes: the number of logits; None for feature vectors.
        parameters: the number of values in the module's network, moving statistics included.
        multiply_adds: the multiply-adds of the module's network for one image.
        dataset: the dataset that the network was trained on.
        license: SPDX's identifier of the license; None if the config names none.
        values: `trained`, or `synthetic` for made-up values.
        published: the figures of the checkpoint's publishers, see `hubexport.variants.PublishedFigures`; None unless
            the values come from the archive that the variant's config names.
        checks: the result of the verification.
        inputs: what the artifact was made from.
        files: its own files, by role.
        sbom: the bill of materials of the environment in which it was made; artifacts share these files.
        deployment: how it was written, and its files; None for a module, whose files are in its archive.
        measured: the accuracy that was measured on it; None if there is none, as in releases from before there was this
            field.
        sample: its result for a photograph; None as for `measured`.
    """

    handle: _Path
    variant: str
    kind: Literal["feature_vector", "classification"]
    version: int
    format: Format
    network: NetworkName
    family_parameters: FamilyParameters
    image_size: int
    num_features: int
    num_classes: int | None
    parameters: int
    multiply_adds: int
    dataset: str
    license: str | None
    values: Literal["trained", "synthetic"]
    published: Mapping[str, float | None] | None
    checks: VerificationProof
    inputs: ArtifactInputs
    files: Mapping[Role, ReleaseFile]
    sbom: ReleaseFile
    deployment: DeploymentRecord | None = None
    measured: MeasuredFigures | None = None
    sample: SampleResult | None = None

    @pydantic.model_serializer(mode="wrap")
    def _spread(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_missing_results(spread_parameters(serialize(self), self.family_parameters))

    @pydantic.model_validator(mode="before")
    @classmethod
    def _finite(cls, values: object) -> object:
        if isinstance(values, Mapping):
            for name, value in values.items():
                if not _is_finite(value):
                    raise ValueError(f"{name} holds NaN or Infinity, which JSON does not have")
        return values

    @pydantic.model_validator(mode="after")
    def _of_one_kind(self) -> "ArtifactRecord":
        if (self.format in DEPLOYMENTS) != (self.deployment is not None):
            raise ValueError(f"format {self.format} and deployment do not go together")
        return self

    @property
    def spec(self) -> ModuleSpec:
        """Its kind and version, and for a deployment its format and options.

        Raises:
            UsageError: there is no such format, option or choice.
        """
        spec = ModuleSpec(kind=self.kind, version=self.version)
        if self.deployment is None:
            return spec
        return DeploymentSpec.of_json(spec, {"format": self.format, **self.deployment.model_dump()})

    @property
    def publisher(self) -> str:
        """The first part of the handle of the module."""
        return self._module_handle.split("/")[0]

    @property
    def collection(self) -> str:
        """The second part of the handle of the module."""
        return self._module_handle.split("/")[1]

    @property
    def _module_handle(self) -> str:
        return self.handle.removeprefix(DEPLOYMENTS_ROOT) if self.deployment else self.handle

    @property
    def contents(self) -> tuple[ReleaseFile, ...]:
        """The files that users load: the archive of a module, or the files in the folder of a deployment."""
        return self.deployment.contents if self.deployment else (self.files["archive"],)

    @property
    def bytes(self) -> int:
        """The size of what users load."""
        return sum(file.bytes for file in self.contents)

    @property
    def digest_file(self) -> ReleaseFile:
        """The file whose digest stands for all contents: the archive, or the manifest, which lists the others'."""
        return next((file for file in self.contents if file.path == f"{self.handle}/{MANIFEST}"), self.contents[0])

    def all_files(self) -> Iterator[ReleaseFile]:
        """Yields the artifact's own files, the bill of materials, and the record, which comes last."""
        yield from self.files.values()
        if self.deployment:
            yield from self.deployment.contents
        yield self.sbom
        yield self.own_file()

    def own_file(self) -> ReleaseFile:
        """Describes the file that holds this record."""
        content = as_json(self)
        return ReleaseFile(
            path=record_path(self.handle), sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)
        )


class ReleaseIndex(_Strict):
    """The index of a release.

    Attributes:
        format: the version of this format; it changes when the fields do.
        artifacts: the records of all artifacts, sorted by handle.
        publishers: the pages of the publishers, sorted by path.
    """

    format: Literal[1] = 1
    artifacts: tuple[ArtifactRecord, ...] = Field(default=(), strict=False)
    publishers: tuple[ReleaseFile, ...] = Field(default=(), strict=False)

    def modules(self) -> list[ArtifactRecord]:
        """Returns the artifacts that are modules."""
        return [record for record in self.artifacts if record.deployment is None]

    def deployments(self) -> list[ArtifactRecord]:
        """Returns the artifacts that are deployments."""
        return [record for record in self.artifacts if record.deployment]

    def files(self) -> list[ReleaseFile]:
        """Returns all files that the index lists, the records included, each once and sorted by path."""
        listed = {file.path: file for record in self.artifacts for file in record.all_files()}
        listed |= {file.path: file for file in self.publishers}
        return [listed[path] for path in sorted(listed)]

    def pieces(self) -> Iterator[bytes]:
        """Yields the content of `index.json`, which may be large, in pieces: what `as_json` returns of the index."""
        frame = as_json({name: [] if isinstance(value, tuple) else value for name, value in self}).decode()
        for name, entries in (("artifacts", self.artifacts), ("publishers", self.publishers)):
            head, frame = frame.split(f'"{name}": []', maxsplit=1)
            yield f'{head}"{name}": ['.encode()
            for number, entry in enumerate(entries):
                yield (b",\n    " if number else b"\n    ") + as_json(entry).strip().replace(b"\n", b"\n    ")
            yield b"\n  ]" if entries else b"]"
        yield frame.encode()

    def sums(self) -> bytes:
        """Returns the content of `SHA256SUMS`, for `sha256sum --check`."""
        return "".join(f"{file.sha256}  {file.path}\n" for file in self.files()).encode()


def path_in_release(handle: str, role: Role) -> str:
    """Returns the path of one of an artifact's files in the release's folder.

    Example:
        >>> path_in_release("google/imagenet/mobilenet_v2_075_192/feature_vector/2", "archive")
        'google/imagenet/mobilenet_v2_075_192/feature_vector/2.tar.gz'
    """
    return f"{handle}{SUFFIXES[role]}"


def roles(spec: ModuleSpec) -> list[Role]:
    """Returns what the own files of an artifact are for. A deployment is not packed: programs load its files."""
    return [role for role in SUFFIXES if role != "archive" or not isinstance(spec, DeploymentSpec)]


def record_path(handle: str) -> str:
    """Returns the path of an artifact's record in the release's folder."""
    return f"{handle}.json"


def as_json(model: pydantic.BaseModel | Mapping[str, Any]) -> bytes:
    """Returns indented JSON in UTF-8, the same bytes for the same facts."""
    facts = model.model_dump(mode="json") if isinstance(model, pydantic.BaseModel) else model
    return (json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_index(directory: Path) -> ReleaseIndex | None:
    """Reads the index of a release.

    Returns:
        None if there is no index: nothing is published there yet.
    Raises:
        ReleaseError: the index cannot be read, or is not what hubexport writes.
    """
    path = directory / INDEX
    try:
        content = read_regular_file(path, MAX_INDEX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _damaged(path, f"{error.strerror}: {error.filename}") from error
    try:
        return ReleaseIndex.model_validate_json(content)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        if first["loc"][-1:] == ("network",):
            raise _damaged(path, why, fix="use a hubexport that knows this network") from error
        raise _damaged(path, why) from error


def read_record(directory: Path, handle: str) -> ArtifactRecord | None:
    """Reads the record of an artifact, published or not.

    Returns:
        None if the artifact is not finished: it has no record, or not one that this hubexport would write.
    """
    try:
        return ArtifactRecord.model_validate_json(read_regular_file(directory / record_path(handle), MAX_INDEX_BYTES))
    except (OSError, pydantic.ValidationError):
        return None


def _damaged(
    path: Path, why: str, fix: str = "restore it from a copy of the release, or choose another --output-dir"
) -> ReleaseError:
    return ReleaseError(f"cannot read {path}", why=why, fix=fix)
