"""The list of modules in the catalogue: a row a module, and what can be searched for."""

from collections.abc import Sequence
import dataclasses
from urllib.parse import urlencode

from hubexport.release.index import ArtifactRecord
from hubexport.site.catalogue import Catalogue, Query, sizes, unversioned

# On one page of a server; files have no other pages.
ROWS_PER_PAGE = 200

KINDS = {"feature_vector": "feature vector", "classification": "classification"}
# A format's name, and what fits into a badge.
FORMATS = {"hub": ("TF1 Hub format", "TF1"), "saved_model_2": ("TF2 SavedModel", "TF2")}


@dataclasses.dataclass(frozen=True)
class ListingRow:
    """A module: its unversioned handle, and its versions, the newest first."""

    handle: str
    versions: Sequence[ArtifactRecord]

    @property
    def newest(self) -> ArtifactRecord:
        """The version that its facts are taken from."""
        return self.versions[0]

    @property
    def collection(self) -> str:
        """What stands before the variant in its handle."""
        return "/".join(self.handle.split("/")[:-2])

    @property
    def top1(self) -> float | None:
        """The accuracy that the publishers measured."""
        return (self.newest.published or {}).get("top1_percent")

    @property
    def text(self) -> str:
        """What a search looks through, but for the version; see `Query.finds`."""
        return f"{self.handle} {self.newest.dataset}".casefold()


@dataclasses.dataclass(frozen=True)
class Listing:
    """Modules on a page of the catalogue.

    Attributes:
        rows: of this page.
        found: how many modules are on all pages.
        total: how many there are without a search.
        page: from 1.
        pages: how many there are.
        has_top1: whether any module of the release has a published accuracy.
    """

    rows: Sequence[ListingRow]
    found: int
    total: int
    page: int
    pages: int
    has_top1: bool

    @property
    def complete(self) -> bool:
        """Whether all modules are here, so that a script can search them."""
        return len(self.rows) == self.total


@dataclasses.dataclass(frozen=True)
class SearchChoice:
    """A field of the search form: its name in addresses, its label, and its values with their words."""

    name: str
    label: str
    values: Sequence[tuple[str, str]]


def listing(
    catalogue: Catalogue, records: Sequence[ArtifactRecord], *, page: int, per_page: int | None, top1: bool
) -> Listing:
    """Puts the modules that a search found on pages.

    Args:
        catalogue: of the release.
        records: what was found.
        page: the one that is wanted; the last one if there are fewer.
        per_page: how many modules a page has; None for all.
        top1: see `Listing.has_top1`.
    """
    # By name, 224 would come before 96.
    ordered = sorted(records, key=lambda one: (one.network, one.depth_multiplier, one.image_size, one.handle))
    handles = list(dict.fromkeys(map(unversioned, ordered)))
    per_page = per_page or max(len(handles), 1)
    pages = max(-(-len(handles) // per_page), 1)
    page = min(max(page, 1), pages)
    rows = [
        ListingRow(handle, catalogue.modules[handle]) for handle in handles[(page - 1) * per_page : page * per_page]
    ]
    return Listing(rows, len(handles), len(catalogue.modules), page, pages, top1)


def choices(catalogue: Catalogue) -> list[SearchChoice]:
    """Returns what the fields of the search form offer: what the release has."""
    records = catalogue.records.values()
    families = sorted({record.network for record in records})
    return [
        SearchChoice("family", "Family", [(family, family) for family in families]),
        SearchChoice("size", "Image size", [(str(size), f"{size} px") for size in sizes(records)]),
        SearchChoice("kind", "Kind", [(kind, KINDS[kind]) for kind in sorted({record.kind for record in records})]),
        SearchChoice(
            "version", "Version", [(str(one), str(one)) for one in sorted({record.version for record in records})]
        ),
        SearchChoice(
            "format", "Format", [(form, FORMATS[form][0]) for form in sorted({record.format for record in records})]
        ),
    ]


def address_query(query: Query, page: int = 1) -> str:
    """Returns what follows the path in the address of a search, with its question mark; empty if it is none."""
    fields = {name: value for name, value in dataclasses.asdict(query).items() if value}
    if page > 1:
        fields["page"] = str(page)
    return f"?{urlencode(fields)}" if fields else ""
