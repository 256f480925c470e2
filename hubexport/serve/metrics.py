"""What Prometheus may ask the server."""

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST
# From a cached page to a large archive on a slow line.
_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """Counters of one server.

    Attributes:
        requests: by what was asked for, method and status.
        seconds: from a request to the end of its answer, by what was asked for.
        sent_bytes: of bodies, by what was asked for.
        in_progress: requests that were not yet answered in full.
        downloads: whole archives that were sent, by the module's handle.
        reloads: how often a new index was read, by result: `loaded` or `failed`.
        modules: how many the release has.
        trials: photographs that were to be classified, by result.
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
        """Returns all of them in Prometheus' format."""
        return prometheus_client.generate_latest(self._registry)
