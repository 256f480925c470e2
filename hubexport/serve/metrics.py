"""The server's metrics, in Prometheus' format."""

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path

from hubexport.system.temporary import temporary_directory

# prometheus_client reads this variable when it is imported. So it must not be imported at the top of this module.
_FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# Buckets, from a cached page to a large archive on a slow connection.
_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


@contextlib.contextmanager
def shared_metrics() -> Iterator[Path]:
    """Lets the processes that this one forks add up their metrics.

    Yields:
        The folder to name when they make their `Metrics`.
    Raises:
        TemporaryFileError: the folder cannot be made.
    """
    with temporary_directory("cannot share metrics") as folder, contextlib.ExitStack() as stack:
        os.environ[_FOLDER_VARIABLE] = str(folder)
        stack.callback(os.environ.pop, _FOLDER_VARIABLE)
        yield folder


def forget_process(folder: Path, process: int) -> None:
    """Takes back what is true of a process only while it runs.

    Args:
        folder: the folder of shared metrics.
        process: the id of a process that has ended.
    """
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(process, str(folder))  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one server; the label `what` says what was requested.

    Args:
        shared: the folder from `shared_metrics`, if the server has several processes. Then the text has the metrics of
            all of them, but no `process_…`.
    Attributes:
        content_type: the media type of the text.
        requests: answered requests, by `what`, method and status.
        seconds: time from a request to the end of its response, by `what`.
        sent_bytes: bytes of response bodies, by `what`.
        in_progress: requests that are being answered.
        downloads: complete archives and models sent, by handle. A model of several files counts once, by the file that
            names the others.
        reloads: attempts to load a new index, by result: `loaded` or `failed`.
        modules: the number of modules in the release.
        trials: uploaded photographs, by result: `classified`, `refused`, `failed` or `busy`.
    """

    def __init__(self, shared: Path | None = None) -> None:
        import prometheus_client
        from prometheus_client import Counter, Gauge, Histogram, multiprocess

        self.content_type = prometheus_client.CONTENT_TYPE_LATEST
        registry = prometheus_client.CollectorRegistry()
        if shared:
            self._all = prometheus_client.CollectorRegistry()
            multiprocess.MultiProcessCollector(self._all, str(shared))  # type: ignore[no-untyped-call]
        else:
            self._all = registry
            prometheus_client.ProcessCollector(registry=registry)
        self.requests = Counter(
            "hubexport_requests", "Requests answered.", ["what", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "hubexport_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["what"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.sent_bytes = Counter("hubexport_sent_bytes", "Bytes sent in response bodies.", ["what"], registry=registry)
        self.in_progress = Gauge(
            "hubexport_requests_in_progress",
            "Requests being answered.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.downloads = Counter(
            "hubexport_downloads", "Complete archives and models sent.", ["handle"], registry=registry
        )
        self.reloads = Counter("hubexport_reloads", "Attempts to load a new index.", ["result"], registry=registry)
        self.modules = Gauge(
            "hubexport_modules", "Modules in the release.", registry=registry, multiprocess_mode="livemostrecent"
        )
        self.trials = Counter("hubexport_trials", "Photographs sent to be classified.", ["result"], registry=registry)

    def text(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        import prometheus_client

        return prometheus_client.generate_latest(self._all)
