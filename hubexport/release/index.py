"""Where the files of a release are, below its folder, and what its index and the record of an artifact say of them.

google/imagenet/mobilenet_v2_075_192/feature_vector/2.tar.gz    what `hub.resolve` downloads
                                                    2.md        the module's page
                                                    2.card.md   its model card
                                                    2.verify.json
                                                    2.provenance.json
                                                    2.json      the record: written last, says that all others are there
google/google.md                                                the publisher's page
sbom-….cdx.json                                                 what was installed where artifacts were made
SHA256SUMS
index.json                                                      the release: what it does not list, is not published
"""

from collections.abc import Iterator, Mapping
import hashlib
import json
from pathlib import Path, PurePosixPath
import re
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, ConfigDict, Field

from hubexport.errors import ReleaseError
from hubexport.release.artifact_inputs import ArtifactInputs
from hubexport.system.digests import file_sha256

INDEX = "index.json"
SHA256SUMS = "SHA256SUMS"

# What each is for, and how its name ends.
Role = Literal["archive", "page", "card", "verification", "provenance"]
SUFFIXES: Mapping[Role, str] = {
    "archive": ".tar.gz",
    "page": ".md",
    "card": ".card.md",
    "verification": ".verify.json",
    "provenance": ".provenance.json",
}
RECORD_SUFFIX = ".json"

# An entry has about 3 kB: of eighty thousand artifacts. Parsed, it takes some times as much memory.
MAX_INDEX_BYTES = 256 << 20


def _inside(path: str) -> str:
    if not re.fullmatch(r"[\w.+-]+(/[\w.+-]+)*", path) or ".." in PurePosixPath(path).parts or path.startswith("."):
        raise ValueError("must be a path inside the release")
    return path


_Path = Annotated[str, AfterValidator(_inside)]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Count = Annotated[int, Field(ge=0)]


class _Strict(pydantic.BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ReleaseFile(_Strict):
    """One file.

    Attributes:
        path: in the release's folder.
        sha256: in lower-case hexadecimal.
        bytes: its size.
    """

    path: _Path
    sha256: _Sha256
    bytes: _Count

    @classmethod
    def of(cls, path: Path, name: str) -> "ReleaseFile":
        """Describes the file at a path, which has another name in the release."""
        return cls(path=name, sha256=file_sha256(path), bytes=path.stat().st_size)


class CheckSummary(_Strict):
    """How many checks of `hubexport verify` a module passed, and how many had nothing to look at; none failed."""

    passed: Annotated[int, Field(gt=0)]
    not_applicable: _Count
    tensorflow: str | None


class ArtifactRecord(_Strict):
    """One artifact: what programs want to know of it, what it was made from, and its files.

    Attributes:
        handle: like `google/imagenet/mobilenet_v2_075_192/feature_vector/2`.
        variant: its name.
        kind: `feature_vector` or `classification`.
        version: 1 to 5.
        format: `hub` (1 to 3) or `saved_model_2`.
        network: the architecture's name.
        depth_multiplier: scales the number of channels.
        image_size: height and width in pixels.
        num_features: values of a feature vector.
        num_classes: of the logits; None for feature vectors.
        parameters: of the module's network, moving statistics included.
        multiply_adds: of the module's network, for one image.
        dataset: what it was trained on.
        license: as SPDX names it; None if nobody says.
        values: `trained`, or `synthetic`: made up.
        published: the figures of the checkpoint's publishers, see `hubexport.variants.PublishedFigures`; None unless
            the values are those of the archive that the variant's config names.
        checks: what is proved.
        inputs: what it was made from.
        files: by role.
        sbom: what was installed where it was made.
    """

    handle: _Path
    variant: str
    kind: Literal["feature_vector", "classification"]
    version: int
    format: Literal["hub", "saved_model_2"]
    network: str
    depth_multiplier: float
    image_size: int
    num_features: int
    num_classes: int | None
    parameters: int
    multiply_adds: int
    dataset: str
    license: str | None
    values: Literal["trained", "synthetic"]
    published: Mapping[str, float | None] | None
    checks: CheckSummary
    inputs: ArtifactInputs
    files: Mapping[Role, ReleaseFile]
    sbom: ReleaseFile

    def all_files(self) -> Iterator[ReleaseFile]:
        """Yields the files that it names: those that are its own, and the one that it shares."""
        yield from self.files.values()
        yield self.sbom

    def own_file(self) -> ReleaseFile:
        """Describes the file that holds this record."""
        content = as_json(self)
        return ReleaseFile(
            path=record_path(self.handle), sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)
        )


class ReleaseIndex(_Strict):
    """A release.

    Attributes:
        format: of this file; other numbers will mean other fields.
        artifacts: sorted by their handles.
        publishers: the pages of the publishers.
    """

    format: Literal[1] = 1
    artifacts: tuple[ArtifactRecord, ...] = Field(default=(), strict=False)
    publishers: tuple[ReleaseFile, ...] = Field(default=(), strict=False)

    def files(self) -> list[ReleaseFile]:
        """Returns all files that are listed, each once, sorted by their paths; those of the records are among them."""
        listed = {file.path: file for record in self.artifacts for file in (*record.all_files(), record.own_file())}
        listed |= {file.path: file for file in self.publishers}
        return [listed[path] for path in sorted(listed)]

    def sums(self) -> bytes:
        """Returns what `SHA256SUMS` says of a release, for `sha256sum -c`."""
        return "".join(f"{file.sha256}  {file.path}\n" for file in self.files()).encode()


def path_in_release(handle: str, role: Role) -> str:
    """Returns where a file of an artifact is, below the release's folder.

    Example:
        >>> path_in_release("google/imagenet/mobilenet_v2_075_192/feature_vector/2", "archive")
        'google/imagenet/mobilenet_v2_075_192/feature_vector/2.tar.gz'
    """
    return f"{handle}{SUFFIXES[role]}"


def record_path(handle: str) -> str:
    """Returns where the record of an artifact is."""
    return f"{handle}{RECORD_SUFFIX}"


def as_json(model: pydantic.BaseModel | Mapping[str, Any]) -> bytes:
    """Returns JSON for people and programs, the same bytes for the same facts."""
    facts = model.model_dump(mode="json") if isinstance(model, pydantic.BaseModel) else model
    return (json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_index(directory: Path) -> ReleaseIndex | None:
    """Reads the index of a release.

    Returns:
        None if there is none: nothing is published there yet.
    Raises:
        ReleaseError: it cannot be read, or is not what hubexport writes.
    """
    path = directory / INDEX
    try:
        content = _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _damaged(path, f"{error.strerror}: {error.filename}") from error
    try:
        return ReleaseIndex.model_validate_json(content)
    except pydantic.ValidationError as error:
        raise _damaged(path, _first_finding(error)) from error


def read_record(directory: Path, handle: str) -> ArtifactRecord | None:
    """Reads the record of an artifact that need not be published.

    Returns:
        None if there is none, or none that hubexport would write now: the artifact is not finished.
    """
    try:
        return ArtifactRecord.model_validate_json(_read(directory / record_path(handle)))
    except (OSError, pydantic.ValidationError):
        return None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_INDEX_BYTES)


def _first_finding(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def _damaged(path: Path, why: str) -> ReleaseError:
    return ReleaseError(
        f"cannot read {path}",
        why=why,
        fix="restore it from a copy of the release, or choose another --output_dir",
    )
