"""Serves a release: programs load its modules by URL, and people browse them.

By default it listens on this machine only. Its log goes to stderr, one line per request.
"""

import argparse
from pathlib import Path
import re
import sys

from hubexport.cli.arguments import add_tfjs, base_url, positive, tfjs_of
from hubexport.errors import UsageError
from hubexport.extras import require_extras

SUMMARY = "serve a release to programs and people"

_MAX_PORT = 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport serve`."""
    parser.add_argument("directory", metavar="DIR", help="the release's folder, made by `hubexport release`")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="the address to listen on (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=8500,
        metavar="N",
        help="the port to listen on; 0 picks a free one (default: 8500)",
    )
    parser.add_argument(
        "--url",
        metavar="URL",
        help="where people and programs reach this server if it is behind a proxy; its pages tell them to load "
        "URL/HANDLE (default: the address it listens on)",
    )
    parser.add_argument(
        "--bucket",
        type=_bucket,
        metavar="URL",
        help="where the unpacked modules are, like gs://BUCKET/PATH, for tf-hub-format=uncompressed (default: none)",
    )
    parser.add_argument(
        "--enable-try",
        action="store_true",
        help="let people classify photographs on a module's page; this machine does the work",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="with --enable-try: a text file with one class name per line, for modules without their own",
    )
    add_tfjs(parser)
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="a text file with one token per line; answer only requests that have one of them",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="N",
        help="how many processes answer requests; more may pay where cores are free for them (default: 1)",
    )
    parser.add_argument(
        "--max-connections",
        type=positive,
        default=2000,
        metavar="N",
        help="the most connections at once (default: 2000)",
    )
    parser.add_argument(
        "--grace",
        type=positive,
        default=30,
        metavar="N",
        help="how many seconds answers in progress may take after the server is told to stop (default: 30)",
    )
    parser.add_argument(
        "--log-format",
        choices=("auto", "text", "json"),
        default="auto",
        help="the form of the log: text for people, json for programs; auto: text if stderr is a terminal, else json "
        "(default: auto)",
    )


def run(args: argparse.Namespace) -> int:
    """Serves until a signal ends it, and returns the exit status."""
    require_extras("hubexport serve", "serve")
    if args.labels and not args.enable_try:
        raise UsageError(
            "--labels needs --enable-try",
            why="without it, the server classifies no photographs",
            fix="add --enable-try",
        )
    if args.workers > 1 and args.enable_try:
        raise UsageError(
            f"--enable-try and --workers {args.workers} exclude each other",
            why="the limits for photographs hold for one process",
            fix="leave out one of them",
        )
    url = base_url(args.url) if args.url else ""

    from hubexport.labels import read_labels
    from hubexport.serve.app import AppOptions
    from hubexport.serve.server import ListenOptions, serve
    from hubexport.serve.tokens import read_tokens
    from hubexport.serve.trials import Trials

    labels = Path(args.labels) if args.labels else None
    if labels:
        read_labels(labels)
    tokens = read_tokens(Path(args.token_file)) if args.token_file else None
    trials = Trials(labels=labels) if args.enable_try else None
    listen = ListenOptions(args.host, args.port, args.max_connections, args.grace, args.workers, args.log_format)
    serve(Path(args.directory), listen, AppOptions(url, args.bucket, tokens, tfjs_of(args)), trials, sys.stdout)
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text}: must be a port number, at most {_MAX_PORT}")
    return int(text)


def _bucket(text: str) -> str:
    # The only kind of address that tensorflow_hub accepts here.
    if not re.fullmatch(r"gs://[\w.-]+(/[\w.+-]+)*/?", text):
        raise argparse.ArgumentTypeError(f"{text}: must be an address like gs://models/hub")
    return text.rstrip("/")
