"""Files that tell a web server how to answer programs: `hub.json` for a CDN's rule, maps for nginx, `_headers`."""

from collections.abc import Iterator
from typing import Any

from hubexport.release.facts import MODULE_FORMATS
from hubexport.release.index import ArtifactRecord, ReleaseFile
from hubexport.site.catalogue import Catalogue
from hubexport.site.http_headers import CHANGING, OPEN_TO_PAGES, SECURITY, UNCHANGING
from hubexport.site.protocol_files import protocol_files

# How the names of models' files end that no browser shows.
MODEL_SUFFIXES = (".onnx", ".tflite", ".bin")
# In `hub.json`: the key that tells that hubexport wrote it, and the version of its layout.
_MARKER = "hubexport_site"
_LAYOUT = 1


def is_rule_index(facts: Any) -> bool:
    """Tells whether parsed JSON is a `hub.json` that hubexport wrote."""
    return isinstance(facts, dict) and facts.get(_MARKER) == _LAYOUT


def rule_index(catalogue: Catalogue, url: str, *, unpacked: bool) -> dict[str, Any]:
    """Returns the content of `hub.json`: each module's newest versions, every version's archive, and models.

    Args:
        catalogue: the release's catalogue.
        url: where the site will be served.
        unpacked: whether the site also has the modules unpacked.
    """
    modules = {
        handle: {
            "newest": {form: _version(record) for form, record in _newest(catalogue, handle)},
            "versions": {_version(record): record.files["archive"].model_dump() for record in records},
        }
        for handle, records in catalogue.modules.items()
    }
    models = {address: file.path for address, file in _models(catalogue)}
    return {_MARKER: _LAYOUT, "url": url, "unpacked": unpacked, "modules": modules, "models": models}


def nginx_map(catalogue: Catalogue, root: str) -> str:
    """Returns the lines of an nginx `map` from `PATH FORMAT` to the path of a module's newest version.

    Args:
        catalogue: the release's catalogue.
        root: the path that all paths begin with.
    """
    return "".join(
        f'"{root}/{handle} {form}" "{root}/{record.handle}";\n'
        for handle in catalogue.modules
        for form, record in _newest(catalogue, handle)
    )


def nginx_models(catalogue: Catalogue, root: str) -> str:
    """Returns the lines of an nginx `map` from the address where programs ask for a file of a model to that file.

    Args:
        catalogue: the release's catalogue.
        root: the path that all paths begin with.
    """
    return "".join(f'"{root}/{address}" "{root}/{file.path}";\n' for address, file in _models(catalogue))


def _models(catalogue: Catalogue) -> Iterator[tuple[str, ReleaseFile]]:
    """Yields each address where programs ask for a file of a model, with its query, and the file."""
    for handle in (*catalogue.records, *catalogue.deployments):
        for rest, file in protocol_files(catalogue, handle).items():
            yield f"{handle}{rest}", file


def _newest(catalogue: Catalogue, handle: str) -> Iterator[tuple[str, ArtifactRecord]]:
    """Yields the newest version for each value of `?format=`, and for requests without it."""
    for form in (None, *MODULE_FORMATS):
        if record := catalogue.newest(handle, form):
            yield form or "", record


def _version(record: ArtifactRecord) -> str:
    return record.handle.rpartition("/")[2]


def headers_file(root: str) -> str:
    """Returns the `_headers` that Netlify and Cloudflare Pages read.

    Args:
        root: the path that all paths begin with.
    """
    # If two rules set the same header for a path, its values are joined: each header is in one rule only.
    model = {"cache-control": UNCHANGING, **OPEN_TO_PAGES}
    rules = {
        "*": SECURITY,
        "-/*": {"cache-control": UNCHANGING},
        "*.tar.gz": {"content-type": "application/gzip", "cache-control": UNCHANGING},
        "deployments/*/model.json": model,
        **{f"*{suffix}": {"content-type": "application/octet-stream", **model} for suffix in MODEL_SUFFIXES},
        "*.md": {"content-type": "text/markdown; charset=utf-8"},
        "hub.json": {"cache-control": CHANGING},
        "index.json": {"cache-control": CHANGING},
        "SHA256SUMS": {"cache-control": CHANGING, "content-type": "text/plain; charset=utf-8"},
    }
    lines: list[str] = []
    for path, headers in rules.items():
        lines += [f"{root}/{path}", *(f"  {name}: {value}" for name, value in headers.items())]
    return "\n".join(lines) + "\n"
