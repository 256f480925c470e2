"""Writes a release and its pages into a folder that any web server can serve."""

from collections.abc import Iterator
import contextlib
import dataclasses
import json
import os
from pathlib import Path
import re
import shutil
from urllib.parse import urlsplit

from hubexport.errors import OutputError, ReleaseError, UsageError
from hubexport.progress import Progress
from hubexport.release.index import INDEX, SHA256SUMS, ReleaseFile, ReleaseIndex, as_json, read_index
from hubexport.release.options import UNKNOWN_URL
from hubexport.release.untrusted_folder import UntrustedFileError, UntrustedFolder, opened_listed
from hubexport.site.catalogue import Catalogue
from hubexport.site.hosting_files import (
    MODEL_SUFFIXES,
    headers_file,
    is_rule_index,
    nginx_map,
    nginx_models,
    rule_index,
)
from hubexport.site.pages import Pages
from hubexport.system.atomic_output import publish_directory, scratch_directory, write_failures_reported
from hubexport.system.digests import tree_files
from hubexport.system.tars import ArchiveError, unpack_archive

_RULE_INDEX = "hub.json"
_UNPACKED = "unpacked"
# A release has no other files. A foreign file served as a page would speak in the site's name.
_SUFFIXES = (".tar.gz", ".md", ".json", *MODEL_SUFFIXES)
# Other characters have a meaning in nginx's configuration or in `_headers`.
_PLAIN_ROOT = re.compile(r"(/[A-Za-z0-9._~+-]+)*")
_ROBOTS = "User-agent: *\nAllow: /\n"


@dataclasses.dataclass
class WrittenSite:
    """A site that was written.

    Attributes:
        directory: the site's folder.
        url: where the site must be served.
        pages: the number of pages.
        files: the number of files, pages included.
        bytes: the size of all files.
    """

    directory: Path
    url: str
    pages: int = 0
    files: int = 0
    bytes: int = 0


def write_site(
    directory: str | Path,
    output_dir: str | Path,
    url: str | None = None,
    *,
    unpack: bool = False,
    tfjs: bytes | None = None,
    progress: Progress | None = None,
) -> WrittenSite:
    """Writes a release as a site. An older site is replaced in one step.

    Args:
        directory: the release's folder.
        output_dir: the site's folder. If it holds an older site, everything in it is replaced.
        url: where the site will be served, without a slash at the end. Defaults to the URL that the release was made
            for.
        unpack: also write the modules unpacked, below `unpacked`.
        tfjs: the content of TF.js, see `hubexport.site.tfjs_runtime`: with it, browsers classify photographs on the
            pages of modules that have a deployment for it.
        progress: receives each step.
    Raises:
        ReleaseError: there is no release, or one of its files is not as listed.
        UsageError: the path in `url` has characters that mean something to web servers.
        OutputError: `output_dir` holds something else, or the site cannot be written.
    """
    progress = progress or Progress()
    directory, output_dir = Path(directory), Path(output_dir)
    index = read_index(directory)
    if index is None:
        raise ReleaseError(
            f"no release in {directory}", why=f"it has no {INDEX}", fix="give a folder made by `hubexport release`"
        )
    site = WrittenSite(output_dir, url or _own_url(index, directory, progress))
    # If `output_dir` is a link, the site goes where it leads.
    final = output_dir.resolve()
    if output_dir.is_symlink():
        progress.note(f"{output_dir} is a link: the site goes to {final}")
    replaced = _check_place(final, directory.resolve())
    root = _root(site.url)
    failures = write_failures_reported(f"cannot write the site to {output_dir}", final, "choose another --output-dir")
    with failures, scratch_directory(final.parent) as scratch:
        staged = scratch / "site"
        staged.mkdir()
        with UntrustedFolder(directory) as folder:
            writer = _SiteWriter(Catalogue(index), folder, directory, staged, site, progress)
            writer.write_release()
            writer.write_pages(tfjs)
            writer.write_hosting_files(root, unpack)
            if unpack:
                writer.unpack_modules()
        publish_directory(staged, final, overwrite=replaced)
    return site


def _own_url(index: ReleaseIndex, directory: Path, progress: Progress) -> str:
    """Returns the URL that the release's modules were made for; of some, nobody may have said it."""
    made_for = {record.inputs.url for record in index.artifacts}
    urls = made_for - {UNKNOWN_URL} or made_for
    if len(urls) != 1:
        raise ReleaseError(
            f"cannot tell where the site of {directory} will be served",
            why=f"its modules were made for {', '.join(sorted(urls))}" if urls else "it lists no modules",
            fix="give its address, like --url https://hub.example.org",
        )
    [url] = urls
    if url == UNKNOWN_URL:
        progress.warn(
            f"the release does not say where it will be served: without --url, programs on the pages load {url}/HANDLE"
        )
    return url.rstrip("/")


def _check_place(final: Path, release: Path) -> bool:
    """Tells whether an older site must be replaced.

    Raises:
        OutputError: there is something else that would be lost.
    """
    if release.is_relative_to(final):
        raise OutputError(
            f"cannot write the site to {final}",
            why="the site would replace that folder, and the release is in it",
            fix="choose another --output-dir",
        )
    try:
        if not any(final.iterdir()):
            return False
        facts = json.loads((final / _RULE_INDEX).read_bytes())
    except FileNotFoundError:
        facts = None
    except (OSError, ValueError):
        facts = {}
    if facts is None and not os.path.lexists(final):
        return False
    if not is_rule_index(facts):
        raise OutputError(
            f"{final} already exists, and is not a site",
            why=f"it has no {_RULE_INDEX} from hubexport, and its contents would be lost",
            fix="choose another --output-dir, or delete it",
        )
    return True


@dataclasses.dataclass(frozen=True)
class _SiteWriter:
    """Fills the scratch folder that becomes the site.

    Attributes:
        catalogue: the release's contents.
        folder: the release's folder, open.
        directory: the path of that folder.
        staged: the folder to fill.
        site: counts pages, files and bytes.
        progress: receives each step.
    """

    catalogue: Catalogue
    folder: UntrustedFolder
    directory: Path
    staged: Path
    site: WrittenSite
    progress: Progress

    def write_release(self) -> None:
        """Copies the release's files and writes its index."""
        self.progress.step("copying files")
        for done, file in enumerate(self.catalogue.files.values(), start=1):
            with self._damage_reported(file):
                self._place(file)
            self.progress.count(done, len(self.catalogue.files))
        self._put(INDEX, as_json(self.catalogue.index))
        self._put(SHA256SUMS, self.catalogue.index.sums())

    def write_pages(self, tfjs: bytes | None) -> None:
        """Writes the pages, and the files that they load; `tfjs` is one of these."""
        self.progress.step("writing pages")
        pages = Pages(self.catalogue, self.folder, url=self.site.url, static=True, tfjs=tfjs)
        self._put_page("index.html", pages.catalogue())
        for done, record in enumerate(self.catalogue.records.values(), start=1):
            self._put_page(f"{record.handle}/index.html", pages.module(record))
            self.progress.count(done, len(self.catalogue.records))
        for deployment in self.catalogue.deployments.values():
            self._put_page(f"{deployment.handle}/index.html", pages.deployment(deployment))
        for publisher in sorted(self.catalogue.publishers):
            self._put_page(f"{publisher}/index.html", pages.publisher(publisher))
        self._put_page("404.html", pages.message("Not found", "There is nothing at this address."))
        for path, content in pages.assets().items():
            self._put(path, content)

    def write_hosting_files(self, root: str, unpacked: bool) -> None:
        """Writes the files for web servers and search engines; `root` is the path that all addresses begin with."""
        self._put(_RULE_INDEX, as_json(rule_index(self.catalogue, self.site.url, unpacked=unpacked)))
        self._put("hub.map", nginx_map(self.catalogue, root).encode())
        self._put("models.map", nginx_models(self.catalogue, root).encode())
        self._put("_headers", headers_file(root).encode())
        self._put("robots.txt", _ROBOTS.encode())

    def unpack_modules(self) -> None:
        """Unpacks the modules below `unpacked`."""
        self.progress.step("unpacking modules")
        for done, record in enumerate(self.catalogue.records.values(), start=1):
            file, into = record.files["archive"], self.staged / _UNPACKED / record.handle
            into.mkdir(parents=True)
            with self._damage_reported(file):
                unpack_archive(self.staged / file.path, into)
            for path in tree_files(into):
                self._count(path.stat().st_size)
            self.progress.count(done, len(self.catalogue.records))

    def _place(self, file: ReleaseFile) -> None:
        """Checks a file against the index, and links or copies it into the site."""
        if not file.path.endswith(_SUFFIXES):
            raise UntrustedFileError(f"does not end in {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}")
        target = self._new(file.path)
        with opened_listed(self.folder, file) as opened:
            # The file system may be another one, or have no links.
            with contextlib.suppress(OSError):
                os.link(self.directory / file.path, target)
            # Another file may have this name since the file was checked.
            if not os.path.lexists(target) or not os.path.samestat(os.fstat(opened.fileno()), target.lstat()):
                target.unlink(missing_ok=True)
                with target.open("xb") as copy:
                    shutil.copyfileobj(opened, copy)
        self._count(file.bytes)

    def _put_page(self, path: str, text: str) -> None:
        self._put(path, text.encode())
        self.site.pages += 1

    def _put(self, path: str, content: bytes) -> None:
        with self._new(path).open("xb") as file:
            file.write(content)
        self._count(len(content))

    def _new(self, path: str) -> Path:
        """Returns the path of a new file.

        Raises:
            ReleaseError: a file of the release has the same path as one of the site's own.
        """
        target = self.staged / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not os.path.lexists(target):
                return target
        except (FileExistsError, NotADirectoryError):
            pass
        raise self._refusal(path, "is where the site has a file of its own")

    def _count(self, size: int) -> None:
        self.site.files += 1
        self.site.bytes += size

    @contextlib.contextmanager
    def _damage_reported(self, file: ReleaseFile) -> Iterator[None]:
        try:
            yield
        except UntrustedFileError as error:
            raise self._refusal(file.path, str(error)) from None
        except ArchiveError as error:
            raise self._refusal(file.path, error.why) from None

    def _refusal(self, path: str, why: str) -> ReleaseError:
        return ReleaseError(
            f"cannot make a site of {self.directory}",
            why=f"{path}: {why}",
            fix=f"restore it from a copy of the release; `hubexport check {self.directory}` shows more",
        )


def _root(url: str) -> str:
    """Returns the path that all addresses of a site begin with.

    Raises:
        UsageError: the path has characters that mean something to web servers.
    """
    root = urlsplit(url).path
    if not _PLAIN_ROOT.fullmatch(root):
        raise UsageError(
            f"--url {url}: not an address for a site",
            why="its path may contain only letters, digits and ._~+-",
            fix="use one like --url https://hub.example.org/models",
        )
    return root
