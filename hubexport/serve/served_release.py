"""One state of a release as the server needs it: lookups, open files, and pages, with a cache of rendered texts."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
import contextlib
import dataclasses
import gzip
import hashlib
from pathlib import Path
import weakref

import anyio
from anyio import to_thread

from hubexport.errors import ReleaseError
from hubexport.release.index import read_index
from hubexport.release.untrusted_folder import UntrustedFolder
from hubexport.serve.file_responses import OpenFiles
from hubexport.site.catalogue import Catalogue
from hubexport.site.pages import Pages

# For rendered texts; the page of a module takes some tens of kilobytes.
_CACHE_BYTES = 64 << 20
# Rendering is bound by the CPU: more threads would not be faster, and would slow down downloads.
_RENDERING_THREADS = 2
# Higher levels hardly make pages smaller.
_GZIP_LEVEL = 6


@dataclasses.dataclass(frozen=True)
class PageText:
    """A text that is ready to be sent.

    Attributes:
        body: the text in UTF-8.
        gzipped: the compressed body.
        sha256: the body's digest, in hexadecimal.
    """

    body: bytes
    gzipped: bytes
    sha256: str

    @classmethod
    def of(cls, content: str | bytes) -> "PageText":
        """Encodes, compresses and digests a text."""
        body = content.encode() if isinstance(content, str) else content
        return cls(body, gzip.compress(body, _GZIP_LEVEL, mtime=0), hashlib.sha256(body).hexdigest())


class ServedRelease:
    """A release as its index describes it; a request that begins with one index ends with the same one.

    Args:
        directory: the release's folder. It stays open as long as this object is referred to.
        url: the server's public address, without a slash at the end.
        can_try: whether pages offer that this server classifies photographs.
        tfjs: the content of TF.js, for pages that offer that browsers do; None if none does.
    Attributes:
        catalogue: lookups in the index.
        files: the release's files.
        pages: the release's pages.
        assets: the style sheets, scripts and images of the pages, by path.
    Raises:
        ReleaseError: the folder holds no release, or its index cannot be read.
    """

    def __init__(self, directory: Path, *, url: str, can_try: bool, tfjs: bytes | None = None) -> None:
        index = read_index(directory)
        if index is None:
            raise ReleaseError(
                f"cannot serve {directory}",
                why="it has no index.json, so nothing is published there",
                fix=f"make a release: hubexport release --output-dir {directory}",
            )
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(UntrustedFolder(directory))
            self.files = OpenFiles(folder)
            self.catalogue = Catalogue(index)
            self.pages = Pages(self.catalogue, folder, url=url, can_try=can_try, tfjs=tfjs)
            self.assets = {path: PageText.of(content) for path, content in self.pages.assets().items()}
            weakref.finalize(self, stack.pop_all().close)
        self._cache = _TextCache(_CACHE_BYTES)
        self._rendering = anyio.CapacityLimiter(_RENDERING_THREADS)
        self._locks: weakref.WeakValueDictionary[Hashable, anyio.Lock] = weakref.WeakValueDictionary()

    async def text(self, key: Hashable, render: Callable[[], str | bytes]) -> PageText:
        """Returns a text from the cache, or renders it in a thread: once, however many requests wait for it.

        Args:
            key: identifies the text within this release.
            render: renders the text.
        """
        if text := self._cache.get(key):
            return text
        async with self._locks.setdefault(key, anyio.Lock()):
            text = self._cache.get(key)
            if text is None:
                text = await to_thread.run_sync(lambda: PageText.of(render()), limiter=self._rendering)
                self._cache.put(key, text)
        return text


class _TextCache:
    """Keeps the most recently used texts, up to a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._free_bytes = max_bytes
        self._texts: OrderedDict[Hashable, PageText] = OrderedDict()

    def get(self, key: Hashable) -> PageText | None:
        text = self._texts.get(key)
        if text is not None:
            self._texts.move_to_end(key)
        return text

    def put(self, key: Hashable, text: PageText) -> None:
        self._texts[key] = text
        self._free_bytes -= len(text.body) + len(text.gzipped)
        while self._free_bytes < 0:
            _, oldest = self._texts.popitem(last=False)
            self._free_bytes += len(oldest.body) + len(oldest.gzipped)
