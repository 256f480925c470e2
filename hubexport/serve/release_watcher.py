"""Notices when a new release is published, and serves it from then on."""

from collections.abc import Callable
import os
from pathlib import Path

import anyio
from anyio import to_thread

from hubexport.errors import HubexportError
from hubexport.release.index import INDEX
from hubexport.serve.log import LOG
from hubexport.serve.metrics import Metrics
from hubexport.serve.served_release import ServedRelease

_INTERVAL_SECONDS = 1.0


class ReleaseWatcher:
    """Loads a release, and loads it again when its index changes.

    Args:
        directory: the release's folder.
        load: loads the release.
        metrics: counts reloads and modules.
    Attributes:
        current: the release that answers new requests.
    Raises:
        ReleaseError: the folder holds no release, or it cannot be read.
    """

    def __init__(self, directory: Path, load: Callable[[], ServedRelease], metrics: Metrics) -> None:
        self._index = directory / INDEX
        self._load = load
        self._metrics = metrics
        # Taken before the index is read, so that a change in between is noticed later.
        self._fingerprint = _fingerprint(self._index)
        self._serve(load())

    async def watch(self) -> None:
        """Checks the index every second, until this task is cancelled."""
        while True:
            await anyio.sleep(_INTERVAL_SECONDS)
            try:
                await self._reload_if_changed()
            except Exception as error:  # Whatever is wrong with an index, it must not end the watch for the next one.
                self._report(error)

    async def _reload_if_changed(self) -> None:
        """Loads the release if its index has changed.

        Raises:
            Exception: the new index cannot be served. The old one is kept.
        """
        fingerprint = await to_thread.run_sync(_fingerprint, self._index)
        if fingerprint == self._fingerprint:
            return
        self._fingerprint = fingerprint
        release = await to_thread.run_sync(self._load)
        self._serve(release)
        self._metrics.reloads.labels("loaded").inc()
        LOG.info("serving a new index", extra={"facts": {"modules": len(release.catalogue.records)}})

    def _report(self, error: Exception) -> None:
        self._metrics.reloads.labels("failed").inc()
        why = error.why if isinstance(error, HubexportError) else str(error) or type(error).__name__
        # The traceback of an error that nobody foresaw helps to foresee it.
        traceback = None if isinstance(error, (HubexportError, OSError)) else error
        LOG.error(
            "cannot read the release's new index; still serving the old one",
            extra={"facts": {"why": why}},
            exc_info=traceback,
        )

    def _serve(self, release: ServedRelease) -> None:
        self.current = release
        self._metrics.modules.set(len(release.catalogue.records))


def _fingerprint(path: Path) -> tuple[int, ...] | None:
    """Returns what changes when a file is replaced or written; None if it is missing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
