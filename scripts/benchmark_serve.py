"""Compares `hubexport serve`, with one process and with several, under load with nginx, which serves the same files.

    python scripts/benchmark_serve.py DIST [--runs N] [--seconds S] [--workers N] [--soak SECONDS]

DIST is a release. nginx and wrk must be installed. Figures are medians; the servers alternate, so that load on the
machine affects both. Client and server share the machine's cores, and talk over the loopback interface. The goals are:
archives at 0.7 of nginx's throughput, with as many workers as cores; 1,000 pages per second, 99 of 100 within 50 ms;
1,000 connections; and no errors and no growth of memory in a soak of five minutes (`--soak 300`).
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import json
import os
from pathlib import Path
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from hubexport.release.index import ReleaseIndex, read_index

PORT, NGINX_PORT, WORKERS_PORT = 8591, 8592, 8593
CONNECTIONS = 8
MANY_CONNECTIONS = 1000
ARCHIVES_GOAL, PAGES_GOAL, SLOWEST_GOAL_MS = 0.7, 1000, 50
PAGE_SECONDS = 5.0

# Debian's defaults, including sendfile and one worker per core.
NGINX = """\
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log {folder}/access.log;
  sendfile on;
  tcp_nopush on;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""
# Requests random targets, and prints a summary as JSON at the end.
WRK = """\
local targets = {{{targets}}}
math.randomseed({seed})
request = function() return wrk.format("GET", targets[math.random(#targets)]) end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{{"seconds": %f, "requests": %d, "bytes": %d, "errors": %d, "p50_ms": %f, "p99_ms": %f}}\\n',
    summary.duration / 1e6, summary.requests, summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


@dataclasses.dataclass(frozen=True)
class LoadResult:
    """The result of some seconds of requests, as wrk reports it."""

    seconds: float
    requests: int
    bytes: int
    errors: int
    p50_ms: float
    p99_ms: float

    @property
    def requests_per_s(self) -> float:
        """Answered requests per second."""
        return self.requests / self.seconds

    @property
    def mb_per_s(self) -> float:
        """Sent megabytes per second."""
        return self.bytes / self.seconds / 1e6


def main() -> None:
    """Measures, and prints figures and goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=PAGE_SECONDS)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--soak", type=float, default=0, metavar="SECONDS")
    args = parser.parse_args()
    index = read_index(args.dist)
    if index is None or not index.artifacts:
        raise SystemExit(f"{args.dist} holds no release")
    print(f"{len(index.artifacts)} modules, {os.cpu_count()} cores, medians of {args.runs} alternating runs")
    ports = {"1 process": PORT, f"{args.workers} workers": WORKERS_PORT}
    with (
        tempfile.TemporaryDirectory() as folder,
        nginx(args.dist, Path(folder)),
        hub(args.dist, PORT, 1) as server,
        hub(args.dist, WORKERS_PORT, args.workers),
    ):
        compare_archives(index, ports, args.runs, args.seconds)
        measure_pages(index, ports, args.runs, args.seconds)
        print(f"memory after that     {memory_mib(server):9.0f} MiB")
        if args.soak:
            soak(index, server, args.soak)


@contextlib.contextmanager
def nginx(root: Path, folder: Path) -> Iterator[None]:
    """Runs nginx, serving the release's files."""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=NGINX_PORT, root=root.absolute()))
    # -e: before nginx reads its configuration, it would write to its default log.
    command = ["nginx", "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(config), "-g", "daemon off;"]
    process = subprocess.Popen(command)
    try:
        time.sleep(1)
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def hub(dist: Path, port: int, workers: int) -> Iterator["subprocess.Popen[str]"]:
    """Runs `hubexport serve`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hubexport", "serve", str(dist), "--port", str(port), "--workers", str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.terminate()
        process.wait()


def compare_archives(index: ReleaseIndex, ports: Mapping[str, int], runs: int, seconds: float) -> None:
    """Downloads the smallest, the median and the largest archive from all servers."""
    by_size = sorted(index.artifacts, key=lambda record: record.files["archive"].bytes)
    for record in (by_size[0], by_size[len(by_size) // 2], by_size[-1]):
        file = record.files["archive"]
        loads: dict[str, list[LoadResult]] = {name: [] for name in ports}
        theirs = []
        for _ in range(runs):
            for name, port in ports.items():
                loads[name].append(wrk(port, [f"/{record.handle}?tf-hub-format=compressed"], CONNECTIONS, seconds))
            theirs.append(wrk(NGINX_PORT, [f"/{file.path}"], CONNECTIONS, seconds))
        for name, ours in loads.items():
            ratio = statistics.median(our.mb_per_s / their.mb_per_s for our, their in zip(ours, theirs, strict=True))
            print(
                f"archive of {file.bytes / 1e6:5.1f} MB, {name:9} {_median(ours, 'mb_per_s'):7.0f} MB/s  "
                f"nginx {_median(theirs, 'mb_per_s'):7.0f} MB/s  ratio {ratio:.2f}  goal {ARCHIVES_GOAL}  "
                f"{_verdict(ratio >= ARCHIVES_GOAL)}  errors {sum(load.errors for load in ours)}"
            )


def measure_pages(index: ReleaseIndex, ports: Mapping[str, int], runs: int, seconds: float) -> None:
    """Requests the catalogue, pages of modules, and the catalogue over many connections."""
    modules = [f"/{record.handle}" for record in index.artifacts]
    for name, targets, connections, goal_ms in (
        ("catalogue", ["/"], CONNECTIONS, SLOWEST_GOAL_MS),
        ("modules' pages", modules, CONNECTIONS, SLOWEST_GOAL_MS),
        (f"{MANY_CONNECTIONS} connections", ["/"], MANY_CONNECTIONS, None),
    ):
        # Fills the cache: the first request for a page waits until the page is rendered.
        for port in ports.values():
            for target in targets:
                wrk(port, [target], CONNECTIONS, 0.1)
        loads: dict[str, list[LoadResult]] = {server: [] for server in ports}
        for _ in range(runs):
            for server, port in ports.items():
                loads[server].append(wrk(port, targets, connections, seconds))
        for server, ours in loads.items():
            rate, slowest = _median(ours, "requests_per_s"), _median(ours, "p99_ms")
            reached = rate >= PAGES_GOAL and (goal_ms is None or slowest < goal_ms)
            print(
                f"{name:16}, {server:9} {rate:7.0f} requests/s  median {_median(ours, 'p50_ms'):6.1f} ms  "
                f"99 of 100 within {slowest:6.1f} ms  {_verdict(reached)}  errors {sum(load.errors for load in ours)}"
            )


def soak(index: ReleaseIndex, server: "subprocess.Popen[str]", seconds: float) -> None:
    """Requests pages over many connections and archives over some, for a long time, and watches the server's memory."""
    targets = ["/", "/?q=feature", "/index.json", "/google"]
    targets += [f"/{record.handle}" for record in index.artifacts]
    archives = [f"/{record.handle}?tf-hub-format=compressed" for record in index.artifacts]
    memory: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            memory.append(memory_mib(server))

    watcher = threading.Thread(target=watch)
    watcher.start()
    loads: list[LoadResult] = []
    clients = [
        threading.Thread(target=lambda: loads.append(wrk(PORT, targets, MANY_CONNECTIONS, seconds))),
        threading.Thread(target=lambda: loads.append(wrk(PORT, archives, CONNECTIONS, seconds))),
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    ended.set()
    watcher.join()
    tenth = max(1, len(memory) // 10)
    means = [statistics.mean(memory[start : start + tenth]) for start in range(0, len(memory), tenth)]
    requests, sent = sum(load.requests for load in loads), sum(load.bytes for load in loads)
    errors = sum(load.errors for load in loads)
    print(f"soak of {seconds:.0f} s: {requests} requests, {sent / 1e9:.1f} GB, errors {errors}")
    print(f"memory by tenths of the time: {' '.join(f'{mean:.0f}' for mean in means)} MiB")


def wrk(port: int, targets: Sequence[str], connections: int, seconds: float) -> LoadResult:
    """Requests targets from a server again and again."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        quoted = ", ".join(json.dumps(target) for target in targets)
        script.write(WRK.format(targets=quoted, seed=random.randrange(1 << 30)))
        script.flush()
        threads = "1" if connections == 1 else "2"
        duration = f"{max(1, round(seconds))}s"
        command = ["wrk", "-t", threads, "-c", str(connections), "-d", duration, "--timeout", "30s", "-s", script.name]
        done = subprocess.run([*command, f"http://127.0.0.1:{port}/"], check=True, stdout=subprocess.PIPE, text=True)
    return LoadResult(**json.loads(done.stdout.splitlines()[-1]))


def memory_mib(process: "subprocess.Popen[str]") -> float:
    """Returns the resident memory of a process."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _median(loads: Sequence[LoadResult], name: str) -> float:
    return float(statistics.median(getattr(load, name) for load in loads))


def _verdict(reached: bool) -> str:
    return "reached" if reached else "MISSED"


if __name__ == "__main__":
    main()
