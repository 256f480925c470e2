"""Looks things up in a release: modules by handle, files by path, and modules by search."""

from collections.abc import Mapping
import dataclasses
import re

from hubexport.deployment_spec import DEPLOYMENTS_ROOT
from hubexport.deployments.registry import DEPLOYMENT_FORMATS
from hubexport.release.index import ArtifactRecord, ReleaseFile, ReleaseIndex

# How deployments store their weights, the most precise first.
_QUANTIZATIONS = ("none", "float16", "uint16", "dynamic", "int8", "uint8")


@dataclasses.dataclass(frozen=True)
class SearchQuery:
    """A search for modules, as its form sends it; an empty field matches everything.

    Attributes:
        q: words that must all occur in the module's handle, or in the name of its network or dataset. Only words with a
            slash must be written as in the handle; for others, see `squashed`. The version of a network may be missing:
            `resnet50` finds `resnet_v2_50`.
        family: the network's name.
        size: height and width of the module's images in pixels.
        kind: `feature_vector` or `classification`.
        version: the module's version.
        format: `hub` or `saved_model_2`.
        values: `trained` or `synthetic`.
    """

    q: str = ""
    family: str = ""
    size: str = ""
    kind: str = ""
    version: str = ""
    format: str = ""
    values: str = ""

    def matches(self, record: ArtifactRecord) -> bool:
        """Tells whether a module fits the search."""
        wanted = (self.family, self.size, self.kind, self.version, self.format, self.values)
        size, version = str(record.image_size), str(record.version)
        facts = (record.network, size, record.kind, version, record.format, record.values)
        if not all(not want or want == fact for want, fact in zip(wanted, facts)):
            return False
        handle, text = record.handle.lower(), _search_text(record)
        # The same rule is in script.js.
        return all(word in handle if "/" in word else squashed(word) in text for word in self.q.lower().split())


def squashed(text: str) -> str:
    """Returns what all ways of writing a name have in common: no capitals, no dots, and gaps between digits alone.

    Example:
        >>> squashed("mobilenet_v2_075_192"), squashed("MobileNet-V2"), squashed("0.75")
        ('mobilenetv2 075 192', 'mobilenetv2', '075')
    """
    text = re.sub(r"[\s_/-]+", " ", text.lower().replace(".", "")).strip()
    return re.sub(" ([^0-9])", r"\1", re.sub("([^0-9]) ", r"\1", text))


def _search_text(record: ArtifactRecord) -> str:
    """Returns a module's names, squashed, with and without the versions of networks."""
    handle, _, version = record.handle.lower().rpartition("/")
    names = f"{handle}|{record.family.short_name(record.family_parameters)}|{record.dataset}".lower()
    without_versions = re.sub(r"[\s_/-]v[0-9]+(?![0-9a-z])", "", names)
    return f"{squashed(handle)}{version}|{squashed(names)}|{squashed(without_versions)}"


class Catalogue:
    """The contents of a release.

    Args:
        index: the release's index.
    Attributes:
        index: the release's index.
        records: all modules in all versions by handle, in the index's order.
        deployments: all deployments by handle, in the index's order.
        deployment_files: the deployment that each of the models' files belongs to, by the file's path.
        modules: the versions of each module, newest first, by unversioned handle.
        files: all files that the index lists, by path.
        publishers: the publishers' Markdown pages, by the publisher's name.
    """

    def __init__(self, index: ReleaseIndex) -> None:
        self.index = index
        self.records: Mapping[str, ArtifactRecord] = {record.handle: record for record in index.modules()}
        self.deployments: Mapping[str, ArtifactRecord] = {record.handle: record for record in index.deployments()}
        self.deployment_files: Mapping[str, ArtifactRecord] = {
            file.path: record for record in self.deployments.values() for file in record.contents
        }
        self.files: Mapping[str, ReleaseFile] = {file.path: file for file in index.files()}
        self.publishers: Mapping[str, ReleaseFile] = {file.path.partition("/")[0]: file for file in index.publishers}
        versions: dict[str, list[ArtifactRecord]] = {}
        for record in index.modules():
            versions.setdefault(unversioned(record), []).append(record)
        for records in versions.values():
            records.sort(key=lambda record: record.version, reverse=True)
        self.modules: Mapping[str, list[ArtifactRecord]] = versions
        self._deployments: dict[str, list[ArtifactRecord]] = {}
        for record in index.deployments():
            self._deployments.setdefault(module_handle(record), []).append(record)
        for records in self._deployments.values():
            records.sort(key=lambda record: (DEPLOYMENT_FORMATS.index(record.format), _precision(record)))
        self._folders = {handle[: end.start()] for handle in versions for end in re.finditer("/", handle)}

    def newest(self, handle: str, form: str | None = None) -> ArtifactRecord | None:
        """Returns a module's newest version; None if there is none.

        Args:
            handle: an unversioned handle, like `google/imagenet/mobilenet_v2_075_192/feature_vector`.
            form: `hub` or `saved_model_2` for the newest version in this format. Defaults to any format.
        """
        return next((record for record in self.modules.get(handle, ()) if form in (None, record.format)), None)

    def versions(self, record: ArtifactRecord) -> list[ArtifactRecord]:
        """Returns all versions of a module, newest first."""
        return self.modules[unversioned(record)]

    def deployments_of(self, record: ArtifactRecord, form: str | None = None) -> list[ArtifactRecord]:
        """Returns the deployments of a module, each format's most precise one first.

        Args:
            record: the module.
            form: the name of a format, for those in it alone. Defaults to all formats.
        """
        return [deployed for deployed in self._deployments.get(record.handle, ()) if form in (None, deployed.format)]

    def select(self, query: SearchQuery) -> list[ArtifactRecord]:
        """Returns the modules that match a search, in the index's order."""
        return [record for record in self.records.values() if query.matches(record)]

    def holds_below(self, path: str) -> bool:
        """Tells whether handles begin with this path and a slash."""
        return path in self._folders


def unversioned(record: ArtifactRecord) -> str:
    """Returns a module's handle without the version, like `google/imagenet/mobilenet_v2_075_192/feature_vector`."""
    return record.handle.rpartition("/")[0]


def module_handle(record: ArtifactRecord) -> str:
    """Returns the handle of the module that a deployment is of."""
    return record.handle.removeprefix(DEPLOYMENTS_ROOT).rpartition("/")[0]


def quantization(record: ArtifactRecord) -> str:
    """Returns how a deployment stores its weights, like `float16`; `none` stands for float32."""
    return str(record.deployment.options.get("quantize", "none")) if record.deployment else "none"


def _precision(record: ArtifactRecord) -> int:
    stored = quantization(record)
    return _QUANTIZATIONS.index(stored) if stored in _QUANTIZATIONS else len(_QUANTIZATIONS)
