"""Finds the siblings of a module: those of the same kind whose networks are of the same family, or of similar ones."""

from collections.abc import Sequence
import dataclasses

from hubexport.network_figures import network_order
from hubexport.readable_numbers import two_decimals
from hubexport.release.index import ArtifactRecord
from hubexport.site.catalogue import Catalogue, unversioned

# More would hide the rest of a page. The nearest ones are shown.
_MAX_SIBLINGS = 48


@dataclasses.dataclass(frozen=True)
class SiblingList:
    """The siblings of a module on its page.

    Attributes:
        title: what people call their families.
        records: the modules, sorted by network, the module itself among them. Each is of the same version, or else of
            the newest one in the same format, or else of the newest.
        left_out: the number of siblings beyond those.
    """

    title: str
    records: Sequence[ArtifactRecord]
    left_out: int

    @property
    def named_by(self) -> str:
        """What tells the networks apart: the parameters of their family, if they have one family with parameters."""
        families = {record.family.name: record.family_parameters for record in self.records}
        names = [name.replace("_", " ") for name, _ in next(iter(families.values()))]
        return " and ".join(names) if len(families) == 1 and names else "network"

    def label(self, record: ArtifactRecord) -> str:
        """Returns what tells one of their networks from the others."""
        if self.named_by == "network":
            return record.family.short_name(record.family_parameters)
        return " ".join(two_decimals(value) for _, value in record.family_parameters)


class Siblings:
    """The siblings of all modules of a release.

    Args:
        catalogue: the release's catalogue.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._groups: dict[tuple[str, ...], list[str]] = {}
        newest = sorted((versions[0] for versions in catalogue.modules.values()), key=network_order)
        for record in newest:
            self._groups.setdefault(_group(record), []).append(unversioned(record))
        self._places = {handle: place for handles in self._groups.values() for place, handle in enumerate(handles)}

    def of(self, record: ArtifactRecord) -> SiblingList | None:
        """Returns the siblings of a module; None if it has none."""
        # A forged index may say different things of two versions of a module: only the newest one counts.
        handles = self._groups.get(_group(record), [])
        if len(handles) < 2:
            return None
        place = self._places.get(unversioned(record), 0)
        first = max(0, min(place - _MAX_SIBLINGS // 2, len(handles) - _MAX_SIBLINGS))
        shown = [self._nearest(handle, record) for handle in handles[first : first + _MAX_SIBLINGS]]
        return SiblingList(record.family.group_title, shown, len(handles) - len(shown))

    def _nearest(self, handle: str, record: ArtifactRecord) -> ArtifactRecord:
        same = self._catalogue.records.get(f"{handle}/{record.version}")
        return same or self._catalogue.newest(handle, record.format) or self._catalogue.modules[handle][0]


def _group(record: ArtifactRecord) -> tuple[str, ...]:
    return record.publisher, record.collection, record.family.group_title, record.kind
