"""The server's metrics, in Prometheus' format."""

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST
# Buckets, from a cached page to a large archive on a slow connection.
_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """The metrics of one server; the label `what` says what was requested.

    Attributes:
        requests: answered requests, by `what`, method and status.
        seconds: time from a request to the end of its response, by `what`.
        sent_bytes: bytes of response bodies, by `what`.
        in_progress: requests that are being answered.
        downloads: complete archives sent, by module handle.
        reloads: attempts to load a new index, by result: `loaded` or `failed`.
        modules: the number of modules in the release.
        trials: uploaded photographs, by result: `classified`, `refused`, `failed` or `busy`.
    """

    def __init__(self) -> None:
        self._registry = registry = prometheus_client.CollectorRegistry()
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
        self.in_progress = Gauge("hubexport_requests_in_progress", "Requests being answered.", registry=registry)
        self.downloads = Counter("hubexport_downloads", "Complete archives sent.", ["handle"], registry=registry)
        self.reloads = Counter("hubexport_reloads", "Attempts to load a new index.", ["result"], registry=registry)
        self.modules = Gauge("hubexport_modules", "Modules in the release.", registry=registry)
        self.trials = Counter("hubexport_trials", "Photographs sent to be classified.", ["result"], registry=registry)

    def text(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return prometheus_client.generate_latest(self._registry)
