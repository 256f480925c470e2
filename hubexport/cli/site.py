"""Writes a release and its pages as files for any web server.

With a small rule on the server, programs load modules from there by URL; docs/hosting.md explains how.
"""

import argparse
from pathlib import Path

from hubexport.cli.arguments import add_output_dir, add_quiet, add_tfjs, base_url, tfjs_of
from hubexport.cli.progress_display import shown_progress
from hubexport.extras import require_extras

SUMMARY = "write a release and its pages as files for any web server"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport site`."""
    parser.add_argument("directory", metavar="DIR", help="the release's folder, made by `hubexport release`")
    add_output_dir(parser, "site", "the site's folder; an older site there is replaced")
    parser.add_argument(
        "--url",
        metavar="URL",
        help="where the site will be served; its pages tell people to load URL/HANDLE (default: the release's own URL)",
    )
    parser.add_argument(
        "--unpack",
        action="store_true",
        help="also write the modules unpacked, to copy to a bucket for tf-hub-format=uncompressed",
    )
    add_tfjs(parser)
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the site, prints a summary, and returns the exit status."""
    require_extras("hubexport site", "serve")
    url = base_url(args.url) if args.url else None
    from hubexport.site.static_site import write_site

    tfjs = tfjs_of(args)
    with shown_progress(args.quiet) as progress:
        site = write_site(
            Path(args.directory), Path(args.output_dir), url, unpack=args.unpack, tfjs=tfjs, progress=progress
        )
    print(f"{site.directory}: {site.pages:,} pages, {site.files:,} files, {site.bytes / 1e6:.1f} MB, for {site.url}")
    return 0
