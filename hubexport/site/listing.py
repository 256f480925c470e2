"""The list of modules on catalogue pages, and the choices of the search form."""

from collections.abc import Sequence
import dataclasses
import datetime
import itertools
from urllib.parse import urlencode

from hubexport.deployments.registry import DEPLOYMENTS
from hubexport.network_figures import network_order
from hubexport.networks.registry import FAMILIES
from hubexport.release.facts import MeasuredFigures
from hubexport.release.index import ArtifactRecord
from hubexport.site.accuracy_points import carried_figures
from hubexport.site.catalogue import Catalogue, SearchQuery, unversioned
from hubexport.variants import BUILTIN_PUBLISHER

# On a page from a server. A static site has all modules on one page.
ROWS_PER_PAGE = 200

KINDS = {"feature_vector": "feature vector", "classification": "classification"}
VALUES = {"trained": "trained", "synthetic": "untrained"}
# Each format's name, and its short name for a badge.
FORMATS = {
    "hub": ("TF1 Hub format", "TF1"),
    "saved_model_2": ("TF2 SavedModel", "TF2"),
    **{name: (deployment.title, deployment.title) for name, deployment in DEPLOYMENTS.items()},
}


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """The accuracy of a module's values.

    Attributes:
        top1_percent: the top-1 accuracy.
        measured: the measurement of the module itself; None if its publishers measured the values.
    """

    top1_percent: float
    measured: MeasuredFigures | None = None


def accuracy(record: ArtifactRecord) -> Accuracy | None:
    """Returns the accuracy of a module's values: the publishers', or else a measured one; None without either."""
    figures = carried_figures(record)
    if figures and figures.top1_percent is not None:
        return Accuracy(figures.top1_percent)
    if measured := record.measured:
        return Accuracy(measured.top1_percent, measured)
    return None


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
    def accuracy(self) -> Accuracy | None:
        """The accuracy of that version's values; None if it is not known."""
        return accuracy(self.newest)

    @property
    def dated(self) -> datetime.date | None:
        """The date of the files in that version's archive, in UTC; None if nobody set one."""
        seconds = self.newest.inputs.source_date_epoch
        return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).date() if seconds else None

    @property
    def group(self) -> tuple[str, str]:
        """The publisher, and the title of the group of families: empty for a publisher whose modules are one group."""
        publisher = self.newest.publisher
        return publisher, self.newest.family.group_title if publisher == BUILTIN_PUBLISHER else ""


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
    def groups(self) -> list[tuple[str, str, list[ListingRow]]]:
        """The rows by publisher and group of families, see `ListingRow.group`."""
        return [(*group, list(rows)) for group, rows in itertools.groupby(self.rows, lambda row: row.group)]

    @property
    def publishers(self) -> set[str]:
        """The publishers of these modules."""
        return {row.newest.publisher for row in self.rows}

    @property
    def has_accuracy(self) -> bool:
        """Whether the accuracy of any of these modules is known."""
        return any(row.accuracy for row in self.rows)

    @property
    def has_dates(self) -> bool:
        """Whether any of these modules is dated."""
        return any(row.dated for row in self.rows)

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
    ordered = sorted(records, key=_order)
    handles = list(dict.fromkeys(map(unversioned, ordered)))
    per_page = per_page or max(len(handles), 1)
    pages = max(-(-len(handles) // per_page), 1)
    page = min(max(page, 1), pages)
    rows = [
        ListingRow(handle, catalogue.modules[handle]) for handle in handles[(page - 1) * per_page : page * per_page]
    ]
    return Listing(rows, len(handles), len(catalogue.modules), page, pages)


def _order(record: ArtifactRecord) -> tuple[object, ...]:
    """Returns a key that sorts modules: those of this hub's own people first, by publisher, then by network."""
    is_published = record.publisher == BUILTIN_PUBLISHER
    return is_published, record.publisher, network_order(record), record.handle


def search_choices(catalogue: Catalogue) -> list[SearchChoice]:
    """Returns the fields of the search form, with the values that occur in the release."""
    records = catalogue.records.values()
    networks = {record.network for record in records}
    families = [(name, family.title) for name, family in FAMILIES.items() if name in networks]
    sizes = sorted({record.image_size for record in records})
    kinds = sorted({record.kind for record in records})
    versions = sorted({record.version for record in records})
    formats = sorted({record.format for record in records})
    values = sorted({record.values for record in records}, reverse=True)
    return [
        SearchChoice("family", "Family", families),
        SearchChoice("size", "Image size", [(str(size), f"{size} px") for size in sizes]),
        SearchChoice("kind", "Kind", [(kind, KINDS[kind]) for kind in kinds]),
        SearchChoice("version", "Version", [(str(version), str(version)) for version in versions]),
        SearchChoice("format", "Format", [(form, FORMATS[form][0]) for form in formats]),
        SearchChoice("values", "Values", [(kind, VALUES[kind]) for kind in values]),
    ]


def address_query(query: SearchQuery, page: int = 1) -> str:
    """Returns the query part of a search's URL with its question mark; empty for the first page of all modules."""
    fields = {name: value for name, value in dataclasses.asdict(query).items() if value}
    if page > 1:
        fields["page"] = str(page)
    return f"?{urlencode(fields)}" if fields else ""
