"""Renders the pages of a release: the catalogue, modules, deployments, publishers, and messages.

Most of their content is untrusted: templates escape it, and the Content-Security-Policy forbids inline styles and
scripts.
"""

from collections.abc import Callable, Mapping, Sequence
import datetime
import threading
from typing import TYPE_CHECKING, Any, TypeVar, get_args
from urllib.parse import urlsplit

from markupsafe import Markup

from hubexport.errors import HubexportError
from hubexport.release.index import ArtifactRecord
from hubexport.release.options import UNKNOWN_URL
from hubexport.release.untrusted_folder import UntrustedFileError, UntrustedFolder
from hubexport.site.accuracy_points import Cost, accuracy_points, carried_figures
from hubexport.site.catalogue import Catalogue, SearchQuery, module_handle, unversioned
from hubexport.site.catalogue_charts import CatalogueChart, catalogue_chart
from hubexport.site.deployment_snippets import deployment_snippet
from hubexport.site.deployment_tables import DeploymentRow, deployment_files, smallest
from hubexport.site.listing import ROWS_PER_PAGE, address_query, list_page, search_choices
from hubexport.site.markdown import RenderedMarkdown, highlight
from hubexport.site.module_tables import (
    file_rows,
    layer_rows,
    read_class_names,
    read_interface,
    read_report,
    trainable_parameters,
)
from hubexport.site.module_text import citation, first_sentence, limits, shown_elsewhere
from hubexport.site.page_assets import page_assets
from hubexport.site.page_links import PageLinks, way_up
from hubexport.site.release_texts import ReleaseTexts
from hubexport.site.siblings import Siblings
from hubexport.site.snippets import Snippet, snippets
from hubexport.site.template_environment import template_environment
from hubexport.version import __version__

if TYPE_CHECKING:
    from hubexport.images.classification import Score

_Table = TypeVar("_Table")

# Format and kind of the module in the catalogue's example, best first.
_EXAMPLES = (("saved_model_2", "classification"), ("saved_model_2", "feature_vector"), ("hub", "classification"))
_EXAMPLE_CODE = 'import tensorflow_hub as hub\n\nmodule = hub.load("{address}")\n'
# The published figures that a module's page shows.
_FIGURES = (
    *("top1_percent", "top5_percent", "accuracy_image_size", "pixel1_cpu_ms"),
    *("macs_millions", "parameters_millions"),
)
# A page shows the names of so many classes.
_MAX_NAMES = 2000


class Pages:
    """Renders the pages of a release: the same text for the same input, in any thread.

    Args:
        catalogue: the release's catalogue.
        folder: the release's folder, open while pages are rendered.
        url: where the site is served.
        static: whether pages are files: their addresses end in a slash and mean an `index.html`, and their links lead
            from page to page, so that they work wherever the files are. Links of a server's pages begin with the path
            of the site.
        can_try: whether the server classifies photographs.
        tfjs: the content of TF.js, with which browsers classify photographs where a module has a deployment for it;
            None if they do not.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        folder: UntrustedFolder,
        *,
        url: str,
        static: bool = False,
        can_try: bool = False,
        tfjs: bytes | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._folder = folder
        self._url = url.rstrip("/")
        self._root = urlsplit(self._url).path
        self._slash = "/" if static else ""
        self._static = static
        self._can_try = can_try
        self._assets = page_assets(tfjs)
        self._choices = search_choices(catalogue)
        self._siblings = Siblings(catalogue)
        self._texts = ReleaseTexts(catalogue, folder, self._url)
        self._drawing_charts = threading.Lock()
        self._charts: tuple[CatalogueChart, ...] | None = None
        self._environment = template_environment()
        self._environment.globals |= {
            "version": __version__,
            "host": "" if self._url == UNKNOWN_URL else urlsplit(self._url).netloc,
            "slash": self._slash,
            "static": static,
            "assets": {name: asset.path for name, asset in self._assets.items()},
        }

    def _shown_deployments(self, record: ArtifactRecord) -> list[ArtifactRecord]:
        """Returns the most precise deployment of a module in each format."""
        by_format = {one.format: one for one in reversed(self._catalogue.deployments_of(record))}
        return [*reversed(by_format.values())]

    def catalogue(self, query: SearchQuery = SearchQuery(), page: int = 1) -> str:
        """Returns a page of the catalogue: the modules that a search finds.

        Args:
            query: the search. Defaults to all modules.
            page: the page's number, from 1, on a server. A static site has all modules on one page.
        """
        found = list(self._catalogue.records.values()) if query == SearchQuery() else self._catalogue.select(query)
        shown = list_page(self._catalogue, found, page=page, per_page=None if self._static else ROWS_PER_PAGE)
        example = self._example()
        charts = self._drawn_charts() if query == SearchQuery() and shown.page == 1 else ()
        return self._render(
            "catalogue.html",
            # Search engines need no pages of search results.
            path=f"/{address_query(query, shown.page)}" if query == SearchQuery() else None,
            listing=shown,
            artifacts=len(self._catalogue.records),
            query=query,
            choices=self._choices,
            address_query=address_query,
            example=example and highlight(_EXAMPLE_CODE.format(address=f"{self._url}/{example.handle}")),
            charts=charts,
            # Charts have most notes in common.
            chart_notes=dict.fromkeys(note for chart in charts for note in chart.notes),
        )

    def module(self, record: ArtifactRecord) -> str:
        """Returns the page of a module."""
        publisher = record.handle.partition("/")[0]
        address = f"{self._url}/{record.handle}"
        carried = carried_figures(record)
        figures = {name: getattr(carried, name, None) for name in _FIGURES}
        text = self._text(record, figures)
        names = self._class_names(record)
        deployments = [DeploymentRow.of(deployed) for deployed in self._catalogue.deployments_of(record)]
        twin = self._twin(record)
        programs = [self._program(DeploymentRow.of(deployed)) for deployed in self._shown_deployments(record)]
        return self._render(
            "module.html",
            path=self._path(record),
            record=record,
            address=address,
            newest=self._catalogue.versions(record)[0],
            versions=self._catalogue.versions(record),
            publisher=publisher if publisher in self._catalogue.publishers else None,
            collection="/".join(record.handle.split("/")[:-3]),
            any_size=record.family.takes_any_size(record.version),
            figures=figures,
            trainable=trainable_parameters(record),
            sentence=first_sentence(record),
            limits=limits(record),
            citation=citation(record),
            date=_date(record.inputs.source_date_epoch),
            names=names[:_MAX_NAMES],
            last_name=names[-1] if names else "",
            left_out_names=len(names[_MAX_NAMES:]),
            siblings=self._siblings.of(record),
            changelog=_changelog(text),
            text=text,
            twin=twin,
            tf1=self._catalogue.newest(unversioned(record), "hub") if record.format != "hub" else None,
            snippets=[
                (snippet, highlight(snippet.code, snippet.language))
                for snippet in snippets(record, address, has_labels=bool(names))
            ],
            interface=_or_reason(read_interface, self._folder, record),
            deployments=deployments,
            programs=[program for program in programs if program],
            layers=layer_rows(record),
            report=_or_reason(read_report, self._folder, record),
            files=file_rows(record),
            trial_model=self._trial_model(record),
            can_try=self._is_tried(record),
            try_twin=record.kind == "feature_vector" and twin is not None and self._is_tried(twin),
        )

    def deployment(self, record: ArtifactRecord) -> str:
        """Returns the page of a deployment."""
        row = DeploymentRow.of(record)
        module = self._catalogue.records.get(module_handle(record))
        return self._render(
            "deployment.html",
            path=self._path(record),
            record=record,
            row=row,
            module=module,
            try_module=module is not None and self._trial_model(module) == row,
            program=self._program(row),
            text=self._text(record, {}),
            sentence=first_sentence(record),
            citation=citation(record),
            report=_or_reason(read_report, self._folder, record),
            files=deployment_files(record),
        )

    def publisher(self, name: str) -> str:
        """Returns the page of a publisher: its own text, and its modules."""
        handles = [handle for handle in self._catalogue.modules if handle.startswith(f"{name}/")]
        records = [self._catalogue.modules[handle][0] for handle in handles]
        path = f"/{name}{self._slash}"
        return self._render(
            "publisher.html",
            path=path,
            name=name,
            text=self._texts.render(self._catalogue.publishers.get(name), self._links(path)),
            listing=list_page(self._catalogue, records[:ROWS_PER_PAGE], page=1, per_page=None),
            found=len(records),
        )

    def message(self, title: str, text: str) -> str:
        """Returns a page with a message, like an error's."""
        return self._render("message.html", path=None, title=title, text=text)

    def trial(self, record: ArtifactRecord, scores: "Sequence[Score] | None", error: HubexportError | None) -> str:
        """Returns the page with a module's classes for a photograph.

        Args:
            record: the module.
            scores: the best classes, best first; None after an error.
            error: why there are no scores; None otherwise.
        """
        return self._render("trial.html", path=None, record=record, scores=scores, error=error)

    def assets(self) -> Mapping[str, bytes]:
        """Returns the files that pages load by path below the root; the content under a path never changes."""
        return {asset.path: asset.content for asset in self._assets.values()}

    def _path(self, record: ArtifactRecord) -> str:
        return f"/{record.handle}{self._slash}"

    def _render(self, template: str, *, path: str | None, **facts: Any) -> str:
        """Renders a template; `path` is the page's path below the root, None if search engines must not list it."""
        canonical = None if path is None or self._url == UNKNOWN_URL else f"{self._url}{path}"
        links = self._links(path)
        return self._environment.get_template(template).render(
            canonical=canonical, site=links, root=links.root, **facts
        )

    def _links(self, path: str | None) -> PageLinks:
        """Returns the links of the page with a path below the root; None for one that is shown at any address."""
        root = way_up(path) if self._static and path is not None else self._root
        return PageLinks(root, self._slash, self._shown_deployments)

    def _is_tried(self, record: ArtifactRecord) -> bool:
        """Returns whether people can try a module on its page."""
        return record.kind == "classification" and (self._can_try or self._trial_model(record) is not None)

    def _trial_model(self, record: ArtifactRecord) -> DeploymentRow | None:
        """Returns the deployment with which browsers classify photographs on a module's page; None if there is none."""
        if "tf.js" not in self._assets or record.kind != "classification":
            return None
        return smallest(self._catalogue.deployments_of(record, "tfjs"))

    def _program(self, row: DeploymentRow) -> tuple[Snippet, Markup] | None:
        """Returns how a program runs a deployment, and that program as HTML."""
        snippet = deployment_snippet(row.record, f"{self._url}/{row.file.path}") if row.file else None
        return (snippet, highlight(snippet.code, snippet.language)) if snippet else None

    def _twin(self, record: ArtifactRecord) -> ArtifactRecord | None:
        """Returns the module of the other kind: the same version if there is one, else the newest."""
        other = "classification" if record.kind == "feature_vector" else "feature_vector"
        folder = unversioned(record).rpartition("/")[0]
        same = self._catalogue.records.get(f"{folder}/{other}/{record.version}")
        return same or self._catalogue.newest(f"{folder}/{other}")

    def _example(self) -> ArtifactRecord | None:
        """Returns the module of the catalogue's example: of the best format and kind; then trained, then small."""
        records = [versions[0] for versions in self._catalogue.modules.values()]
        for example in _EXAMPLES:
            if found := [record for record in records if (record.format, record.kind) == example]:
                return min(found, key=lambda record: (record.values == "synthetic", record.bytes, record.handle))
        return records[0] if records else None

    def _drawn_charts(self) -> tuple[CatalogueChart, ...]:
        """Returns the accuracy charts, drawn once; none if no point is a module of this release."""
        with self._drawing_charts:
            if self._charts is None:
                points = accuracy_points(self._catalogue, self._links("/").link)
                costs: tuple[Cost, ...] = get_args(Cost) if any(point.link for point in points) else ()
                self._charts = tuple(catalogue_chart(points, cost) for cost in costs)
            return self._charts

    def _text(self, record: ArtifactRecord, figures: Mapping[str, Any]) -> RenderedMarkdown | str:
        """Renders a module's or deployment's own page for its page here, without what that shows in other places."""
        links, elsewhere = self._links(self._path(record)), shown_elsewhere(record, figures)
        return self._texts.render(record.files.get("page"), links, record, elsewhere)

    def _class_names(self, record: ArtifactRecord) -> list[str]:
        try:
            return read_class_names(self._folder, record)
        except UntrustedFileError:  # Where the signatures would be, the page says what is wrong with the archive.
            return []


def _or_reason(
    read: Callable[[UntrustedFolder, ArtifactRecord], _Table], folder: UntrustedFolder, record: ArtifactRecord
) -> _Table | str:
    """Returns what `read` returns, or what is wrong with the file."""
    try:
        return read(folder, record)
    except UntrustedFileError as error:
        return str(error)


def _date(epoch: int) -> str | None:
    """Returns the date of a release in ISO 8601; None if nobody said a date."""
    try:
        return datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).date().isoformat() if epoch else None
    except (OverflowError, OSError, ValueError):
        return None


def _changelog(text: RenderedMarkdown | str) -> str | None:
    """Returns the id of a text's changelog heading; None if it has none."""
    headings = () if isinstance(text, str) else text.headings
    return next((heading.anchor for heading in headings if heading.text.casefold() == "changelog"), None)
