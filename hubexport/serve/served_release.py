"""A release while it is served: its look-ups, its pages, and those of them that were asked for lately."""

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

# Rendered pages, of which a module's has some tens of kilobytes.
_CACHE_BYTES = 64 << 20
# To render takes a processor: more at once would only take longer, and leave none for downloads.
_RENDERING_THREADS = 2
# A gzip level beyond which pages get hardly smaller.
_GZIP_LEVEL = 6


@dataclasses.dataclass(frozen=True)
class PageText:
    """A text that is ready to be sent.

    Attributes:
        body: in UTF-8.
        gzipped: the same, packed.
        sha256: of the body.
    """

    body: bytes
    gzipped: bytes
    sha256: str

    @classmethod
    def of(cls, content: str | bytes) -> "PageText":
        """Packs a text."""
        body = content.encode() if isinstance(content, str) else content
        return cls(body, gzip.compress(body, _GZIP_LEVEL, mtime=0), hashlib.sha256(body).hexdigest())


class ServedRelease:
    """A release as its index was when it was read; requests that began with it end with it.

    Args:
        directory: the release's folder.
        url: where people and programs reach this server, without a slash at the end.
        can_try: whether pages offer to classify photographs.
    Attributes:
        catalogue: what the index says.
        files: those in the release's folder, which is open as long as this object is used.
        pages: the release's pages.
    Raises:
        ReleaseError: there is no release, or its index cannot be read.
    """

    def __init__(self, directory: Path, *, url: str, can_try: bool) -> None:
        index = read_index(directory)
        if index is None:
            raise ReleaseError(
                f"cannot serve {directory}",
                why="it has no index.json, so nothing is published there",
                fix=f"make a release: hubexport release --output_dir {directory}",
            )
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(UntrustedFolder(directory))
            self.files = OpenFiles(folder)
            self.catalogue = Catalogue(index)
            self.pages = Pages(self.catalogue, folder, url=url, can_try=can_try)
            self.assets = {path: PageText.of(content) for path, content in self.pages.assets().items()}
            weakref.finalize(self, stack.pop_all().close)
        self._texts = _Cache(_CACHE_BYTES)
        self._rendering = anyio.CapacityLimiter(_RENDERING_THREADS)
        self._locks: weakref.WeakValueDictionary[Hashable, anyio.Lock] = weakref.WeakValueDictionary()

    async def text(self, key: Hashable, make: Callable[[], str | bytes]) -> PageText:
        """Returns a text that was made lately, or makes it in a thread: once, however many ask for it.

        Args:
            key: names it among all texts of this release.
            make: makes it.
        """
        if text := self._texts.get(key):
            return text
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = anyio.Lock()
        async with lock:
            text = self._texts.get(key)
            if text is None:
                text = await to_thread.run_sync(lambda: PageText.of(make()), limiter=self._rendering)
                self._texts.put(key, text)
        return text


class _Cache:
    """Keeps the texts that were asked for last, as far as they have room."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._texts: OrderedDict[Hashable, PageText] = OrderedDict()

    def get(self, key: Hashable) -> PageText | None:
        text = self._texts.get(key)
        if text is not None:
            self._texts.move_to_end(key)
        return text

    def put(self, key: Hashable, text: PageText) -> None:
        self._texts[key] = text
        self._room -= len(text.body) + len(text.gzipped)
        while self._room < 0:
            _, oldest = self._texts.popitem(last=False)
            self._room += len(oldest.body) + len(oldest.gzipped)
