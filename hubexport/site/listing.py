"""The list of modules on catalogue pages, and the choices of the search form."""

from collections.abc import Sequence
import dataclasses
from urllib.parse import urlencode

from hubexport.deployments.registry import DEPLOYMENTS
from hubexport.network_figures import network_order
from hubexport.networks.registry import FAMILIES
from hubexport.release.index import ArtifactRecord
from hubexport.site.catalogue import Catalogue, SearchQuery, unversioned

# On a page from a server. A static site has all modules on one page.
ROWS_PER_PAGE = 200

KINDS = {"feature_vector": "feature vector", "classification": "classification"}
# Each format's name, and its short name for a badge.
FORMATS = {
    "hub": ("TF1 Hub format", "TF1"),
    "saved_model_2": ("TF2 SavedModel", "TF2"),
    **{name: (deployment.title, deployment.title) for name, deployment in DEPLOYMENTS.items()},
}


@dataclasses.dataclass(frozen=True)
class ListingRow:
    """A module: its unversioned handle, and its versions, newest first."""

    handle: str
    versions: Sequence[ArtifactRecord]

    @property
    def newest(self) -> ArtifactRecord:
        """The version whose facts the row shows."""
        return self.versions[0]

    @property
    def top1(self) -> float | None:
        """The published top-1 accuracy in percent; None if there is none."""
        return (self.newest.published or {}).get("top1_percent")


@dataclasses.dataclass(frozen=True)
class Listing:
    """One page of a search's results.

    Attributes:
        rows: the modules on this page.
        found: the number of modules that the search found, on all pages.
        total: the number of modules in the release.
        page: this page's number, from 1.
        pages: the number of pages.
    """

    rows: Sequence[ListingRow]
    found: int
    total: int
    page: int
    pages: int

    @property
    def complete(self) -> bool:
        """Whether this page has every module of the release, so that a script can search them."""
        return len(self.rows) == self.total


@dataclasses.dataclass(frozen=True)
class SearchChoice:
    """A field of the search form: its name in URLs, its label, and its values, each with the text shown for it."""

    name: str
    label: str
    values: Sequence[tuple[str, str]]


def list_page(catalogue: Catalogue, records: Sequence[ArtifactRecord], *, page: int, per_page: int | None) -> Listing:
    """Returns one page of a search's results.

    Args:
        catalogue: the release's catalogue.
        records: the search's results; their modules are listed once, whichever versions were found.
        page: the page's number, from 1; one out of range means the nearest page.
        per_page: the number of modules on a page; None for all.
    """
    ordered = sorted(records, key=lambda record: (*network_order(record), record.handle))
    handles = list(dict.fromkeys(map(unversioned, ordered)))
    per_page = per_page or max(len(handles), 1)
    pages = max(-(-len(handles) // per_page), 1)
    page = min(max(page, 1), pages)
    rows = [
        ListingRow(handle, catalogue.modules[handle]) for handle in handles[(page - 1) * per_page : page * per_page]
    ]
    return Listing(rows, len(handles), len(catalogue.modules), page, pages)


def search_choices(catalogue: Catalogue) -> list[SearchChoice]:
    """Returns the fields of the search form, with the values that occur in the release."""
    records = catalogue.records.values()
    networks = {record.network for record in records}
    families = [(name, family.title) for name, family in FAMILIES.items() if name in networks]
    sizes = sorted({record.image_size for record in records})
    kinds = sorted({record.kind for record in records})
    versions = sorted({record.version for record in records})
    formats = sorted({record.format for record in records})
    return [
        SearchChoice("family", "Family", families),
        SearchChoice("size", "Image size", [(str(size), f"{size} px") for size in sizes]),
        SearchChoice("kind", "Kind", [(kind, KINDS[kind]) for kind in kinds]),
        SearchChoice("version", "Version", [(str(version), str(version)) for version in versions]),
        SearchChoice("format", "Format", [(form, FORMATS[form][0]) for form in formats]),
    ]


def address_query(query: SearchQuery, page: int = 1) -> str:
    """Returns the query part of a search's URL with its question mark; empty for the first page of all modules."""
    fields = {name: value for name, value in dataclasses.asdict(query).items() if value}
    if page > 1:
        fields["page"] = str(page)
    return f"?{urlencode(fields)}" if fields else ""
