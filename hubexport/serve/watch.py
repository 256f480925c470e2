"""Notices that a new release was published, and lets it be served from then on."""

from collections.abc import Callable
import os
from pathlib import Path

import anyio
from anyio import to_thread

from hubexport.errors import HubexportError
from hubexport.release.index import INDEX
from hubexport.serve.access import LOG
from hubexport.serve.metrics import Metrics
from hubexport.serve.served_release import ServedRelease

_INTERVAL_SECONDS = 1.0


class Watched:
    """The release that is served now.

    Args:
        directory: the release's folder.
        load: reads it.
        metrics: hears of new ones.
    Attributes:
        shelf: what new requests are answered from.
    Raises:
        ReleaseError: there is no release, or it cannot be read.
    """

    def __init__(self, directory: Path, load: Callable[[], ServedRelease], metrics: Metrics) -> None:
        self._index = directory / INDEX
        self._load = load
        self._metrics = metrics
        # Taken before the index is read: what comes in between is found later.
        self._stamp = _stamp(self._index)
        self._set(load())

    async def watch(self) -> None:
        """Looks again and again, until it is cancelled."""
        while True:
            await anyio.sleep(_INTERVAL_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Reads the index again if it is another one; one that cannot be read leaves all as it is."""
        stamp = await to_thread.run_sync(_stamp, self._index)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            shelf = await to_thread.run_sync(self._load)
        except (HubexportError, OSError) as error:
            self._metrics.reloads.labels("failed").inc()
            why = error.why if isinstance(error, HubexportError) else str(error)
            LOG.error("cannot read the release's new index; still serving the old one", extra={"facts": {"why": why}})
            return
        self._set(shelf)
        self._metrics.reloads.labels("loaded").inc()
        LOG.info("serving a new index", extra={"facts": {"modules": len(shelf.catalogue.records)}})

    def _set(self, shelf: ServedRelease) -> None:
        self.shelf = shelf
        self._metrics.modules.set(len(shelf.catalogue.records))


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Returns what changes with a file; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
