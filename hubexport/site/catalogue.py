"""One release, ready for look-ups: which module a handle means, which files there are, and what a search finds."""

from collections.abc import Iterable, Mapping
import dataclasses
import re
from typing import get_args

from hubexport.networks.layers import Network
from hubexport.networks.registry import NETWORKS
from hubexport.release.facts import Format
from hubexport.release.index import ArtifactRecord, ReleaseFile, ReleaseIndex

FORMATS: tuple[Format, ...] = get_args(Format)


@dataclasses.dataclass(frozen=True)
class Query:
    """What somebody looks for; an empty text wants anything.

    Attributes:
        q: words, each of which stands somewhere in the module's handle or in what it was trained on.
        family: the network's name.
        size: the images' height and width in pixels.
        kind: `feature_vector` or `classification`.
        version: the module's version.
        format: `hub` or `saved_model_2`.
    """

    q: str = ""
    family: str = ""
    size: str = ""
    kind: str = ""
    version: str = ""
    format: str = ""

    def finds(self, record: ArtifactRecord) -> bool:
        """Tells whether a module is among what is looked for."""
        wanted = (self.family, self.size, self.kind, self.version, self.format)
        facts = (record.network, str(record.image_size), record.kind, str(record.version), record.format)
        text = f"{record.handle} {record.dataset}".casefold()
        return all(not want or want == fact for want, fact in zip(wanted, facts)) and all(
            word in text for word in self.q.casefold().split()
        )


class Catalogue:
    """What a release's index says, by what people and programs ask for.

    Args:
        index: of the release.
    Attributes:
        index: of the release.
        records: of all modules, by handle, in the index's order.
        files: all that the index lists, by path.
    """

    def __init__(self, index: ReleaseIndex) -> None:
        self.index = index
        self.records: Mapping[str, ArtifactRecord] = {record.handle: record for record in index.artifacts}
        self.files: Mapping[str, ReleaseFile] = {file.path: file for file in index.files()}
        self._versions: dict[str, list[ArtifactRecord]] = {}
        for record in index.artifacts:
            self._versions.setdefault(unversioned(record), []).append(record)
        for records in self._versions.values():
            records.sort(key=lambda record: record.version, reverse=True)
        self._publisher_files = {file.path.partition("/")[0]: file for file in index.publishers}
        self._folders = {handle[: end.start()] for handle in self._versions for end in re.finditer("/", handle)}

    @property
    def modules(self) -> Mapping[str, list[ArtifactRecord]]:
        """The versions of each module, the newest first, by its unversioned handle."""
        return self._versions

    @property
    def publishers(self) -> Mapping[str, ReleaseFile]:
        """The Markdown pages of the publishers, by their names."""
        return self._publisher_files

    def newest(self, handle: str, form: str | None = None) -> ArtifactRecord | None:
        """Returns what an unversioned handle means.

        Args:
            handle: like `google/imagenet/mobilenet_v2_075_192/feature_vector`.
            form: `hub` or `saved_model_2`, if no other will do.
        Returns:
            The newest version that suits; None if there is none.
        """
        for record in self._versions.get(handle, ()):
            if form in (None, record.format):
                return record
        return None

    def versions(self, record: ArtifactRecord) -> list[ArtifactRecord]:
        """Returns all versions of a module, the newest first."""
        return self._versions[unversioned(record)]

    def select(self, query: Query) -> list[ArtifactRecord]:
        """Returns the modules that a search finds, in the index's order."""
        return [record for record in self.records.values() if query.finds(record)]

    def holds_below(self, path: str) -> bool:
        """Tells whether handles begin with this path."""
        return path in self._folders


def unversioned(record: ArtifactRecord) -> str:
    """Returns a module's handle without the version.

    Example:
        `google/imagenet/mobilenet_v2_075_192/feature_vector`.
    """
    return record.handle.rpartition("/")[0]


def network_of(record: ArtifactRecord) -> Network:
    """Lays out the network that a module holds."""
    return NETWORKS[record.network](record.depth_multiplier, record.image_size, record.num_classes)


def sizes(records: Iterable[ArtifactRecord]) -> list[int]:
    """Returns the sizes of images that modules take, the smallest first."""
    return sorted({record.image_size for record in records})
