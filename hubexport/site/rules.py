"""What a server of files has to know to answer programs: as an index for a CDN's rule, for nginx, and as headers."""

from collections.abc import Iterator
from typing import Any

from hubexport.site.catalogue import FORMATS, Catalogue
from hubexport.site.policy import CHANGING, SECURITY, UNCHANGING

# In the index: that hubexport wrote it, and which form it has.
MARKER = "hubexport_site"
_FORM = 1


def is_rule_index(facts: Any) -> bool:
    """Tells whether JSON is an index that hubexport wrote beside a site."""
    return isinstance(facts, dict) and facts.get(MARKER) == _FORM


def rule_index(catalogue: Catalogue, url: str, *, unpacked: bool) -> dict[str, Any]:
    """Returns what `hub.json` says: for each module its newest versions, and where each version is.

    Args:
        catalogue: of the release.
        url: where the site is served.
        unpacked: whether the modules are below `unpacked`, too.
    """
    modules = {handle: _module(catalogue, handle) for handle in catalogue.modules}
    return {MARKER: _FORM, "url": url, "unpacked": unpacked, "modules": modules}


def _module(catalogue: Catalogue, handle: str) -> dict[str, Any]:
    versions = {
        record.handle.rpartition("/")[2]: record.files["archive"].model_dump() for record in catalogue.modules[handle]
    }
    # By what `?format=` says, if it is there.
    newest = {form or "": catalogue.newest(handle, form) for form in (None, *FORMATS)}
    return {
        "newest": {form: record.handle.rpartition("/")[2] for form, record in newest.items() if record},
        "versions": versions,
    }


def nginx_map(catalogue: Catalogue, root: str) -> str:
    """Returns the lines of an nginx `map`: from `ADDRESS FORMAT` to the address of the newest version.

    Args:
        catalogue: of the release.
        root: the path that all addresses begin with.
    """
    return "".join(f'"{root}/{handle} {form}" "{root}/{newest}";\n' for handle, form, newest in _newest(catalogue))


def _newest(catalogue: Catalogue) -> Iterator[tuple[str, str, str]]:
    for handle in catalogue.modules:
        for form in (None, *FORMATS):
            if record := catalogue.newest(handle, form):
                yield handle, form or "", record.handle


def headers_file(root: str) -> str:
    """Returns the `_headers` that Netlify and Cloudflare Pages read.

    Args:
        root: the path that all addresses begin with.
    """
    # Where two rules fit, the values of one header would be joined: each stands in one rule alone.
    rules = {
        "*": SECURITY,
        "-/*": {"cache-control": UNCHANGING},
        "*.tar.gz": {"content-type": "application/gzip", "cache-control": UNCHANGING},
        "*.md": {"content-type": "text/markdown; charset=utf-8"},
        "hub.json": {"cache-control": CHANGING},
        "index.json": {"cache-control": CHANGING},
        "SHA256SUMS": {"cache-control": CHANGING, "content-type": "text/plain; charset=utf-8"},
    }
    lines: list[str] = []
    for path, headers in rules.items():
        lines += [f"{root}/{path}", *(f"  {name}: {value}" for name, value in headers.items())]
    return "\n".join(lines) + "\n"
