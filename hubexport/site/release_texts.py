"""Renders the Markdown files of a release for its pages."""

import functools
from urllib.parse import quote, urljoin, urlsplit

from hubexport.deployment_spec import DEPLOYMENTS_ROOT
from hubexport.release.index import ArtifactRecord, ReleaseFile
from hubexport.release.untrusted_folder import UntrustedFileError, UntrustedFolder, read_listed
from hubexport.site.catalogue import Catalogue
from hubexport.site.markdown import MAX_MARKDOWN, RenderedMarkdown, ShownElsewhere, render_markdown
from hubexport.site.page_links import PageLinks

_ADDRESS_CHARACTERS = ":/?#[]@!$&'*+,;=%~"


class ReleaseTexts:
    """Renders the Markdown files of a release, with links that lead into the site.

    Args:
        catalogue: the release's catalogue.
        folder: the release's folder, open while texts are rendered.
        url: where the site is served, without a slash at the end.
    """

    def __init__(self, catalogue: Catalogue, folder: UntrustedFolder, url: str) -> None:
        self._catalogue = catalogue
        self._folder = folder
        self._url = url
        self._root = urlsplit(url).path

    def render(
        self,
        file: ReleaseFile | None,
        links: PageLinks,
        record: ArtifactRecord | None = None,
        elsewhere: ShownElsewhere = ShownElsewhere(),
    ) -> RenderedMarkdown | str:
        """Renders a file.

        Args:
            file: the file; None if none is listed.
            links: those of the page that shows it.
            record: the module or deployment that it is about, if it is about one.
            elsewhere: what the page shows in other places.
        Returns:
            What is wrong with the file if it cannot be rendered.
        """
        if file is None:
            return "is not listed"
        try:
            text = read_listed(self._folder, file)
        except UntrustedFileError as error:
            return str(error)
        if len(text) > MAX_MARKDOWN:
            return f"has {len(text):,} characters, too many for this page"
        if record:
            text = self._with_our_addresses(text, record)
        resolve = functools.partial(self._resolved, links, f"{self._root}/{file.path}")
        level = 3 if record else 2
        return render_markdown(text, resolve=resolve, level=level, without_title=True, elsewhere=elsewhere)

    def _with_our_addresses(self, text: str, record: ArtifactRecord) -> str:
        """Replaces the address that the release was made for by this site's."""
        made_for = record.inputs.url.rstrip("/")
        if "://" not in made_for:
            return text
        for old in {made_for, quote(made_for, safe=_ADDRESS_CHARACTERS)}:
            for below in (f"{record.publisher}/", DEPLOYMENTS_ROOT):
                text = text.replace(f"{old}/{below}", f"{self._url}/{below}")
        return text

    def _resolved(self, links: PageLinks, base: str, href: str) -> str | None:
        """Returns where a link without a scheme leads; None if the release has nothing there."""
        path, _, fragment = urljoin(base, href).partition("#")
        inside = path.removeprefix(f"{self._root}/")
        fragment = f"#{fragment}" if fragment else ""
        if record := self._catalogue.records.get(inside) or self._catalogue.deployments.get(inside):
            return f"{links.link(record)}{fragment}"
        return f"{links.root}/{inside}{fragment}" if inside in self._catalogue.files else None
