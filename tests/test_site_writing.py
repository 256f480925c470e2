"""Static sites: complete, correct, with nothing else in them, and replaced in one step."""

from collections.abc import Callable
import errno
import hashlib
from html.parser import HTMLParser
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from hubexport.errors import OutputError, ReleaseError, UsageError
from hubexport.site import static_site
from hubexport.site.static_site import write_site
from hubexport.system.digests import tree_files
from tests.command import environment, hubexport

_URL = "https://hub.example.org"
_HANDLES = {
    f"google/imagenet/small/{module}"
    for module in ("feature_vector/1", "feature_vector/2", "feature_vector/5", "classification/3", "classification/5")
}
_OWN = {"hub.json", "hub.map", "models.map", "_headers", "robots.txt", "404.html", "index.html", "google/index.html"}


@pytest.fixture(name="site", scope="module")
def _site(small_release, tmp_path_factory) -> Path:
    """A site that tests only read."""
    folder = tmp_path_factory.mktemp("site") / "hub"
    write_site(small_release, folder, _URL)
    return folder


@pytest.fixture(name="release")
def _release(small_release, tmp_path) -> Path:
    """A copy of a release that tests may damage."""
    return Path(shutil.copytree(small_release, tmp_path / "release"))


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in tree_files(folder)}


def _listed(release: Path) -> dict[str, str]:
    """Returns the digests in a release's SHA256SUMS, by path."""
    lines = (release / "SHA256SUMS").read_text().splitlines()
    return {path: sha256 for sha256, path in (line.split("  ") for line in lines)}


def _edit_index(release: Path, change: Callable[[dict], object]) -> None:
    index = json.loads((release / "index.json").read_text())
    change(index)
    (release / "index.json").write_text(json.dumps(index))


def _edit_artifact(release: Path, change: Callable[[dict], object], number: int = 0) -> None:
    """Changes an artifact's record, in the index and in its own file."""
    _edit_index(release, lambda index: change(index["artifacts"][number]))
    artifact = json.loads((release / "index.json").read_text())["artifacts"][number]
    record = json.dumps(artifact, indent=2, ensure_ascii=False) + "\n"
    (release / f"{artifact['handle']}.json").write_text(record)


def test_a_site_has_the_release_its_pages_and_hosting_files(small_release, site):
    """And nothing else."""
    assets = {name for name in _names(site) if name.startswith("-/")}
    pages = {f"{handle}/index.html" for handle in _HANDLES}
    assert _names(site) == {*_listed(small_release), "index.json", "SHA256SUMS", *pages, *_OWN, *assets}
    assert {name.rpartition(".")[2] for name in assets} >= {"css", "js"}


def test_files_are_those_of_the_release(small_release, site):
    """They are hard links if the file system allows it."""
    for name, sha256 in _listed(small_release).items():
        assert hashlib.sha256((site / name).read_bytes()).hexdigest() == sha256
        assert (site / name).samefile(small_release / name)
    for name in ("index.json", "SHA256SUMS"):
        assert (site / name).read_bytes() == (small_release / name).read_bytes()


class _Links(HTMLParser):
    """Collects a page's links, and what its policy forbids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.forbidden: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects a tag's links and violations of the policy."""
        facts = dict(attrs)
        self.found |= {value for name, value in facts.items() if name in ("href", "src") and value}
        self.forbidden += [name for name in facts if name == "style" or name.startswith("on")]
        if tag == "style" or tag == "script" and "src" not in facts:
            self.forbidden.append(tag)


def test_all_links_of_pages_lead_to_files(site):
    """So they work without a rule on the server. No page violates the policy."""
    pages = [path for path in tree_files(site) if path.suffix == ".html"]
    inside = 0
    for page in pages:
        links = _Links(page.read_text())
        assert not links.forbidden
        address = f"{_URL}/{page.relative_to(site).as_posix().removesuffix('index.html')}"
        for link in links.found:
            target = urlsplit(urljoin(address, link))
            if f"{target.scheme}://{target.netloc}" != _URL:
                continue
            path = site / unquote(target.path).lstrip("/")
            assert path.is_file() or (path / "index.html").is_file() and target.path.endswith("/"), (address, link)
            inside += 1
    assert inside > 5 * len(pages)


def test_hub_json_has_newest_versions_and_archives(small_release, site):
    """The newest of all, and of each format."""
    rules = json.loads((site / "hub.json").read_text())
    assert (rules["hubexport_site"], rules["url"], rules["unpacked"]) == (1, _URL, False)
    modules = rules["modules"]
    assert {f"{name}/{version}" for name, module in modules.items() for version in module["versions"]} == _HANDLES
    assert {name: module["newest"] for name, module in modules.items()} == {
        "google/imagenet/small/feature_vector": {"": "5", "hub": "2", "saved_model_2": "5"},
        "google/imagenet/small/classification": {"": "5", "hub": "3", "saved_model_2": "5"},
    }
    for name, module in modules.items():
        for version, file in module["versions"].items():
            assert file["path"] == f"{name}/{version}.tar.gz"
            assert file["sha256"] == _listed(small_release)[file["path"]]
            assert file["bytes"] == (small_release / file["path"]).stat().st_size


def test_a_module_of_one_format_has_no_newest_version_of_the_other(release, tmp_path):
    """Neither in `hub.json` nor in nginx's map."""
    _edit_index(release, lambda index: index.update(artifacts=[a for a in index["artifacts"] if a["version"] < 3]))
    write_site(release, tmp_path / "site", _URL)
    rules = json.loads((tmp_path / "site/hub.json").read_text())
    name = "google/imagenet/small/feature_vector"
    assert rules["modules"][name]["newest"] == {"": "2", "hub": "2"}
    assert (tmp_path / "site/hub.map").read_text() == f'"/{name} " "/{name}/2";\n"/{name} hub" "/{name}/2";\n'


def test_all_links_begin_with_the_path_of_the_address(small_release, tmp_path):
    """So do the paths in the hosting files."""
    write_site(small_release, tmp_path / "site", f"{_URL}/models")
    for page in (path for path in tree_files(tmp_path / "site") if path.suffix == ".html"):
        assert not [link for link in _Links(page.read_text()).found if link[0] == "/" and link[:8] != "/models/"]
    name = "/models/google/imagenet/small/classification"
    assert f'"{name} hub" "{name}/3";\n' in (tmp_path / "site/hub.map").read_text()
    paths = [line for line in (tmp_path / "site/_headers").read_text().splitlines() if line[0] != " "]
    assert paths and all(path.startswith("/models/") for path in paths)


def test_headers_are_those_of_the_policy(site):
    """No path has a header from two rules, because their values would be joined."""
    rules: dict[str, dict[str, str]] = {}
    for block in re.split(r"\n(?=/)", (site / "_headers").read_text().strip()):
        path, *lines = block.split("\n")
        rules[path] = dict(line.strip().split(": ", 1) for line in lines)
    every = rules.pop("/*")
    assert every["content-security-policy"].startswith("default-src 'none'; style-src 'self'; script-src 'self'; ")
    assert every["x-content-type-options"] == "nosniff"
    assert rules["/*.tar.gz"]["content-type"] == "application/gzip"
    assert "immutable" in rules["/*.tar.gz"]["cache-control"] and "immutable" in rules["/-/*"]["cache-control"]
    assert all(every.keys().isdisjoint(rule) for rule in rules.values())


def test_files_are_copied_if_hard_links_are_impossible(small_release, tmp_path, monkeypatch):
    """As on another file system."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "other file system")

    monkeypatch.setattr(os, "link", refuse)
    write_site(small_release, tmp_path / "site", _URL)
    for name, sha256 in _listed(small_release).items():
        assert hashlib.sha256((tmp_path / "site" / name).read_bytes()).hexdigest() == sha256
        assert not (tmp_path / "site" / name).samefile(small_release / name)


@pytest.mark.parametrize("link", [False, True], ids=["file", "link"])
def test_a_file_replaced_after_its_check_stays_out(release, tmp_path, monkeypatch, link):
    """The site gets the file that was checked."""
    other = tmp_path / "other"
    other.write_text("somebody else's")
    linked = os.link

    def swap(source: Path, target: Path) -> None:
        source.unlink()
        source.symlink_to(other) if link else linked(other, source)
        linked(source, target)

    wanted = _listed(release)
    monkeypatch.setattr(os, "link", swap)
    write_site(release, tmp_path / "site", _URL)
    for name, sha256 in wanted.items():
        assert hashlib.sha256((tmp_path / "site" / name).read_bytes()).hexdigest() == sha256
        assert not (tmp_path / "site" / name).is_symlink()


def test_unlisted_files_stay_out(release, tmp_path):
    """Wherever they are."""
    (release / "google/imagenet/small/classification/4.tar.gz").write_bytes(b"not published")
    (release / "private.json").write_text("{}")
    write_site(release, tmp_path / "site", _URL)
    assert not {"google/imagenet/small/classification/4.tar.gz", "private.json"} & _names(tmp_path / "site")


def _change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def _make_it_a_link(path: Path) -> None:
    path.rename(path.with_suffix(".away"))
    path.symlink_to(path.with_suffix(".away"))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        pytest.param(_change_a_byte, "SHA-256", id="changed"),
        pytest.param(Path.unlink, "is missing", id="missing"),
        pytest.param(_make_it_a_link, "is a link", id="link"),
    ],
)
def test_a_damaged_file_is_an_error_and_the_old_site_stays(release, tmp_path, damage, why):
    """The error names the file, and no scratch directory is left."""
    write_site(release, tmp_path / "site", _URL)
    before = {name: (tmp_path / "site" / name).read_bytes() for name in _names(tmp_path / "site")}
    shutil.copytree(tmp_path / "site", tmp_path / "kept")
    shutil.rmtree(tmp_path / "site")
    (tmp_path / "kept").rename(tmp_path / "site")  # Now the site's files are no hard links to the release.
    damage(release / "google/imagenet/small/classification/5.tar.gz")
    with pytest.raises(ReleaseError, match="cannot make a site") as caught:
        write_site(release, tmp_path / "site", _URL)
    assert "classification/5.tar.gz" in caught.value.why and why in caught.value.why
    assert {name: (tmp_path / "site" / name).read_bytes() for name in _names(tmp_path / "site")} == before
    assert {path.name for path in tmp_path.iterdir()} == {"release", "site"}


@pytest.mark.parametrize("path", ["hub.json", "google/evil.html", "_headers", "google/imagenet/small.tar.gz/x.md"])
def test_a_listed_file_cannot_replace_one_of_the_sites_own(release, tmp_path, path):
    """Nor be a page, which would speak in the site's name."""
    content = b"<script src='https://evil.example'></script>"
    (release / path).parent.mkdir(parents=True, exist_ok=True)
    (release / path).write_bytes(content)
    listed = {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    _edit_index(release, lambda index: index["publishers"].append(listed))
    if path.endswith("x.md"):
        shutil.rmtree((release / path).parent)
        (release / path).parent.write_bytes(content)
        other = {**listed, "path": "google/imagenet/small.tar.gz"}
        _edit_index(release, lambda index: index["publishers"].append(other))
    with pytest.raises(ReleaseError, match="cannot make a site") as caught:
        write_site(release, tmp_path / "site", _URL)
    assert path in caught.value.why
    assert not (tmp_path / "site").exists()


def test_the_release_stays_unchanged(release, tmp_path):
    """Although the site's files may be hard links to its files."""
    card = release / json.loads((release / "index.json").read_text())["artifacts"][0]["files"]["card"]["path"]
    content = card.read_bytes()
    card.rename(release / "hub.json")
    _edit_artifact(release, lambda artifact: artifact["files"]["card"].update(path="hub.json"))
    with pytest.raises(ReleaseError, match="cannot make a site") as caught:
        write_site(release, tmp_path / "site", _URL)
    assert "hub.json: is where the site has a file of its own" in caught.value.why
    assert (release / "hub.json").read_bytes() == content


def test_an_older_site_is_replaced_completely(release, tmp_path):
    """Nothing of it is left."""
    write_site(release, tmp_path / "site", _URL)
    (tmp_path / "site/left.txt").write_text("left")
    _edit_index(release, lambda index: index["artifacts"].pop())
    write_site(release, tmp_path / "site", _URL)
    assert "left.txt" not in _names(tmp_path / "site")
    assert not (tmp_path / "site/google/imagenet/small/feature_vector/5").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"release", "site"}


@pytest.mark.slow
def test_readers_never_see_half_a_site(small_release, tmp_path):
    """Every file is there all the time while the site is replaced."""
    write_site(small_release, tmp_path / "site", _URL)
    missing, done = [], threading.Event()

    def read() -> None:
        while not done.is_set():
            for name in ("index.html", "hub.json", "google/imagenet/small/feature_vector/5.tar.gz"):
                try:
                    (tmp_path / "site" / name).stat()
                except FileNotFoundError:
                    missing.append(name)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(2):
            write_site(small_release, tmp_path / "site", _URL)
    finally:
        done.set()
        reader.join()
    assert not missing


def test_a_site_goes_where_a_link_leads(small_release, tmp_path):
    """The link stays."""
    (tmp_path / "served").mkdir()
    (tmp_path / "link").symlink_to("served")
    write_site(small_release, tmp_path / "link", _URL)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "served/index.html").is_file()


def _folder_of_mine(folder: Path) -> None:
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")


def _folder_with_another_index(folder: Path) -> None:
    _folder_of_mine(folder)
    (folder / "hub.json").write_text('{"hubexport_site": 2}')


def _folder_with_a_list(folder: Path) -> None:
    _folder_of_mine(folder)
    (folder / "hub.json").write_text("[")


@pytest.mark.parametrize(
    "make", [_folder_of_mine, _folder_with_another_index, _folder_with_a_list, lambda path: path.write_text("mine")]
)
def test_only_a_site_is_replaced(small_release, tmp_path, make):
    """Whatever else is there stays."""
    make(tmp_path / "site")
    before = _names(tmp_path)
    with pytest.raises(OutputError, match="is not a site") as caught:
        write_site(small_release, tmp_path / "site", _URL)
    assert "choose another --output-dir" in caught.value.fix
    assert _names(tmp_path) == before


def test_an_empty_folder_may_be_there(small_release, tmp_path):
    """As a server's root may be."""
    (tmp_path / "site").mkdir()
    write_site(small_release, tmp_path / "site", _URL)
    assert (tmp_path / "site/index.html").is_file()


@pytest.mark.parametrize("place", [".", "..", "../.."])
def test_a_site_does_not_replace_its_own_release(small_release, tmp_path, place):
    """Even if the release is inside an older site."""
    write_site(small_release, tmp_path / "site", _URL)
    release = tmp_path / "site/below/release"
    shutil.copytree(small_release, release)
    for folder in (release, release.parent):
        shutil.copy(tmp_path / "site/hub.json", folder)
    with pytest.raises(OutputError, match="cannot write the site") as caught:
        write_site(release, release / place, _URL)
    assert "would replace that folder" in caught.value.why
    assert (release / "index.json").is_file()


def test_the_address_defaults_to_the_releases(small_release, tmp_path):
    """It is the one that its modules were made for."""
    made_for = {
        record["inputs"]["url"] for record in json.loads((small_release / "index.json").read_text())["artifacts"]
    }
    assert {write_site(small_release, tmp_path / "site").url} == made_for == {"https://YOUR_HUB"}


def test_a_site_without_an_address_shows_one_to_replace(small_release, tmp_path):
    """A warning says so, and search engines are told no address."""
    done = hubexport("site", small_release, "--output-dir", tmp_path / "site")
    assert (done.returncode, "WARNING the release does not say where it will be served" in done.stderr) == (0, True)
    page = (tmp_path / "site/google/imagenet/small/classification/5/index.html").read_text()
    assert "https://YOUR_HUB/google/imagenet/small/classification/5" in page
    for path in (tmp_path / "site").rglob("*.html"):
        assert 'rel="canonical"' not in path.read_text() and '"noindex"' in path.read_text()
    done = hubexport("site", small_release, "--output-dir", tmp_path / "site", "--url", _URL)
    assert (done.returncode, done.stderr.count("WARNING")) == (0, 0)


def test_the_address_of_some_modules_is_that_of_all(release, tmp_path):
    """Nobody said where the others will be served."""
    _edit_artifact(release, lambda artifact: artifact["inputs"].update(url="https://other.example/hub"))
    assert write_site(release, tmp_path / "site").url == "https://other.example/hub"


def _made_for_two(release: Path) -> None:
    for number, url in enumerate(("https://other.example", "https://another.example")):
        _edit_artifact(release, lambda artifact, url=url: artifact["inputs"].update(url=url), number)


def _without_modules(release: Path) -> None:
    _edit_index(release, lambda index: index["artifacts"].clear())


@pytest.mark.parametrize(
    ("change", "why"),
    [(_made_for_two, "https://another.example, https://other.example"), (_without_modules, "no module")],
)
def test_an_unknown_address_is_an_error(release, tmp_path, change, why):
    """The error asks for --url, which works."""
    change(release)
    with pytest.raises(ReleaseError, match="cannot tell where the site") as caught:
        write_site(release, tmp_path / "site")
    assert why in caught.value.why and "--url" in caught.value.fix
    assert write_site(release, tmp_path / "site", _URL).url == _URL


@pytest.mark.parametrize("path", ["/a b", '/x"; return 200;', "/%41", "//", "/ü"])
def test_an_address_with_special_characters_is_an_error(small_release, tmp_path, path):
    """They mean something in servers' settings."""
    with pytest.raises(UsageError, match="not an address for a site"):
        write_site(small_release, tmp_path / "site", f"{_URL}{path}")
    assert not (tmp_path / "site").exists()


def test_a_missing_release_is_an_error(tmp_path):
    """In an empty folder, and without a folder."""
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ReleaseError, match="no release in"):
            write_site(folder, tmp_path / "site", _URL)


def test_unpacked_modules_equal_the_archives(small_release, tmp_path):
    """They are in a folder to copy to a bucket."""
    write_site(small_release, tmp_path / "site", _URL, unpack=True)
    unpacked = tmp_path / "site/unpacked"
    expected = {}
    for handle in _HANDLES:
        with tarfile.open(small_release / f"{handle}.tar.gz") as tar:
            expected |= {f"{handle}/{one.name}": tar.extractfile(one).read() for one in tar if one.isfile()}
    assert {name: (unpacked / name).read_bytes() for name in _names(unpacked)} == expected
    assert f"{next(iter(_HANDLES))}/saved_model.pb" in expected
    assert json.loads((tmp_path / "site/hub.json").read_text())["unpacked"] is True


def test_a_full_disk_is_an_error_and_leaves_the_old_site(small_release, tmp_path, monkeypatch):
    """The error says that there was no space."""
    write_site(small_release, tmp_path / "site", _URL)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(static_site, "publish_directory", full)
    with pytest.raises(OutputError, match="cannot write the site") as caught:
        write_site(small_release, tmp_path / "site", _URL)
    assert "No space left" in caught.value.why
    assert (tmp_path / "site/index.html").is_file() and len(list(tmp_path.iterdir())) == 1


def test_two_sites_of_one_release_are_the_same(small_release, site, tmp_path):
    """Byte for byte."""
    write_site(small_release, tmp_path / "site", _URL)
    for name in _names(site) | _names(tmp_path / "site"):
        assert (site / name).read_bytes() == (tmp_path / "site" / name).read_bytes()


def test_the_command_tells_what_it_wrote(small_release, tmp_path):
    """In a line on stdout."""
    done = hubexport("site", small_release, "--output-dir", tmp_path / "out", "--url", f"{_URL}/", "--unpack")
    assert done.returncode == 0, done.stderr
    written = tree_files(tmp_path / "out")
    size = sum(path.stat().st_size for path in written)
    assert done.stdout == f"{tmp_path / 'out'}: 8 pages, {len(written)} files, {size / 1e6:.1f} MB, for {_URL}\n"
    again = hubexport("site", small_release, "--output-dir", tmp_path)
    assert (again.returncode, again.stdout) == (1, "")
    assert "is not a site" in again.stderr and "\n  fix: " in again.stderr


def test_writing_a_site_imports_no_tensorflow(small_release, tmp_path):
    """Which takes seconds."""
    program = (
        "import sys; from pathlib import Path; from hubexport.site.static_site import write_site\n"
        f"write_site(Path({str(small_release)!r}), Path({str(tmp_path / 'site')!r}), unpack=True)\n"
        "print([name for name in ('tensorflow', 'tensorflow_hub') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
