"""Checks of releases: they find every damage and every forgery, and no folder can harm them."""

from collections.abc import Callable
import gzip
import hashlib
import io
import json
import os
from pathlib import Path
import random
import shutil
import socket
import subprocess
import sys
import tarfile
import tracemalloc

import pytest

from hubexport import BuildOrder
from hubexport.config_files import load_variant
from hubexport.errors import ReleaseError
from hubexport.progress import Progress
from hubexport.release.check import ReleaseCheck, check_release
from hubexport.release.options import ReleaseOptions
from hubexport.release.release_modules import release_modules
from hubexport.system import tars
from hubexport.variants import ModuleSpec
from tests.archives import member, tgz
from tests.command import environment
from tests.releases import INDEX, NEW, OLD, SUMS, Forged, as_json, shrink

pytestmark = pytest.mark.fuzz

_CHECKS = ("structure.digests", "weights.equal")
_ARCHIVE, _PAGE, _CARD = f"{OLD}.tar.gz", f"{OLD}.md", f"{OLD}.card.md"
_REPORT, _PROVENANCE, _RECORD = f"{OLD}.verify.json", f"{OLD}.provenance.json", f"{OLD}.json"
_PUBLISHER = "google/google.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Returns the folder of a release as `hubexport release` makes it: two modules of a small network."""
    folder = tmp_path_factory.mktemp("made") / "dist"
    variant = load_variant("mobilenet_v2_035_96").model_copy(
        update={"name": "small", "num_classes": 7, "checkpoint": None, "published": None, "labels": None}
    )
    modules = (ModuleSpec.parse("feature_vector/2"), ModuleSpec.parse("classification/5"))
    release_modules([BuildOrder(variant, modules)], ReleaseOptions(checkpoint="synthetic", checks=_CHECKS), folder)
    return folder


@pytest.fixture(scope="module")
def original(made) -> Forged:
    """Returns the same release in memory, with tiny archives."""
    forged = Forged(made)
    shrink(forged)
    return forged


@pytest.fixture
def forged(original) -> Forged:
    """Returns a copy that a test may change."""
    return original.copy()


@pytest.fixture
def dist(original, tmp_path) -> Path:
    """Returns the folder of the tiny release."""
    return original.written(tmp_path / "dist")


def _check(folder: Path) -> ReleaseCheck:
    return check_release(folder, Progress())


def _problems(checked: ReleaseCheck) -> list[str]:
    return [f"{problem.path}: {problem.what}" for problem in checked.problems]


def test_a_release_has_no_problems(made):
    """As made, with all its files checked."""
    checked = _check(made)
    assert (checked.problems, checked.stray, checked.artifacts) == ((), (), 2)
    listed = [path for path in made.rglob("*") if path.is_file() and path.name not in (INDEX, SUMS)]
    assert checked.files == len(listed) == 2 * 6 + 2
    assert checked.bytes == sum(path.stat().st_size for path in listed)


def test_the_tiny_release_has_no_problems(dist):
    """Otherwise the tests below would prove nothing."""
    assert _problems(_check(dist)) == []


# Damage to files, by a faulty disk or a bad copy.


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _linked(path: Path) -> None:
    outside = path.parents[len(path.parts) - 3] / f"outside-{path.name}"
    path.rename(outside)
    path.symlink_to(outside)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _socket(path: Path) -> None:
    path.unlink()
    # The path of a socket must be short.
    directory = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{directory}/{path.name}")
    os.close(directory)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


_DAMAGES = {
    "missing": (Path.unlink, "is missing"),
    "flipped": (_flipped, "its SHA-256 is"),
    "shorter": (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes, not"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"\n"), "bytes, not"),
    "empty": (lambda path: path.write_bytes(b""), "has 0 bytes, not"),
    "linked": (_linked, "is a link"),
    "pipe": (_pipe, "is not a regular file"),
    "socket": (_socket, "is not a regular file"),
    "folder": (_folder, "is not a regular file"),
    "sparse": (lambda path: os.truncate(path, 1 << 43), "bytes, "),
}
_LISTED = {
    "archive": _ARCHIVE,
    "page": _PAGE,
    "card": _CARD,
    "report": _REPORT,
    "provenance": _PROVENANCE,
    "publisher": _PUBLISHER,
    "sbom": "sbom",
}


@pytest.mark.parametrize("damage", _DAMAGES)
@pytest.mark.parametrize("name", _LISTED.values(), ids=_LISTED)
def test_every_damage_to_a_listed_file_is_found(original, dist, name, damage):
    """In any file. No other file is blamed."""
    name = original.bill() if name == "sbom" else name
    change, what = _DAMAGES[damage]
    change(dist / name)
    problems = _check(dist).problems
    assert [problem.path for problem in problems] == [name]
    assert what in problems[0].what


@pytest.mark.parametrize("damage", _DAMAGES)
def test_every_damage_to_a_record_is_found(dist, damage):
    """Programs read records in place of the whole index."""
    change, _ = _DAMAGES[damage]
    change(dist / _RECORD)
    assert [problem.path for problem in _check(dist).problems] == [_RECORD]


def test_links_to_folders_are_problems(dist, tmp_path):
    """Although all files can be reached through them."""
    (dist / "google/imagenet").rename(tmp_path / "elsewhere")
    (dist / "google/imagenet").symlink_to(tmp_path / "elsewhere")
    problems = _problems(_check(dist))
    assert f"{_ARCHIVE}: is a link, or inside a linked folder" in problems
    assert len(problems) == 2 * 6


def test_the_release_itself_may_be_a_link(dist, tmp_path):
    """The user chose that path."""
    (tmp_path / "link").symlink_to(dist)
    assert _check(tmp_path / "link") == _check(dist)


# Forgeries, in which all digests of files are right.


def _update(**facts: object) -> Callable[[Forged], None]:
    return lambda forged: forged.record().update(facts)


def _update_inputs(**facts: object) -> Callable[[Forged], None]:
    return lambda forged: forged.record()["inputs"].update(facts)


def _second_time(forged: Forged) -> None:
    forged.index["artifacts"].append(forged.record(OLD))


def _other_order(forged: Forged) -> None:
    forged.index["artifacts"].reverse()


def _files_of_another(forged: Forged) -> None:
    forged.record(OLD)["files"]["archive"] = forged.record(NEW)["files"]["archive"]


def _no_page(forged: Forged) -> None:
    del forged.record()["files"]["page"]


def _two_bills(forged: Forged) -> None:
    forged.record(NEW)["sbom"] = {**forged.record(NEW)["sbom"], "bytes": 7}


def _bill_called(name: str) -> Callable[[Forged], None]:
    def change(forged: Forged) -> None:
        old = forged.bill()
        forged.files[name] = forged.files.pop(old)
        for record in forged.index["artifacts"]:
            record["sbom"]["path"] = name
        for handle in (OLD, NEW):
            forged.edit_text("provenance", old, name, handle)

    return change


def _publishers(change: Callable[[list], object]) -> Callable[[Forged], None]:
    return lambda forged: change(forged.index["publishers"])


_IN_THE_INDEX = {
    "variant": (_update(variant="other"), _RECORD, "do not match the handle"),
    "kind": (_update(kind="classification", num_classes=7), _RECORD, "do not match the handle"),
    "version": (_update(version=3), _RECORD, "do not match the handle"),
    "handle": (
        _update(handle="google/small/feature_vector/2"),
        "google/small/feature_vector/2.json",
        "match the handle",
    ),
    "unknown_version": (_update(version=6), _RECORD, "there is no version 6"),
    "format": (_update(format="saved_model_2"), _RECORD, "version 2 does not have the format saved_model_2"),
    "classes": (_update(num_classes=7), _RECORD, "cannot have 7 classes"),
    "values": (_update(values="trained"), _RECORD, "its values are not trained"),
    "figures": (_update(published={"top1_percent": 99.9}), _RECORD, "not the published checkpoint's values"),
    "no_source": (_update_inputs(checkpoint={}), _RECORD, "describe no checkpoint"),
    "odd_source": (_update_inputs(checkpoint={"source": 7}), _RECORD, "describe no checkpoint"),
    "odd_digest": (_update_inputs(checkpoint={"source": "a", "sha256": [1]}), _RECORD, "describe no checkpoint"),
    "more_of_it": (
        _update_inputs(checkpoint={"source": "synthetic:0", "more": 1}),
        _RECORD,
        "describe no checkpoint",
    ),
    "other_source": (_update_inputs(checkpoint={"source": "synthetic:7"}), _ARCHIVE, "names a different checkpoint"),
    "digest": (
        _update_inputs(checkpoint={"source": "synthetic:0", "sha256": "0" * 64}),
        _RECORD,
        "its values are not synthetic",
    ),
    "second_time": (_second_time, INDEX, f"lists {OLD} 2 times"),
    "order": (_other_order, INDEX, "is not sorted"),
    "files_of_another": (_files_of_another, _RECORD, f"its archive is listed as {NEW}.tar.gz"),
    "no_page": (_no_page, _RECORD, "has no page"),
    "two_bills": (_two_bills, "sbom-", "is listed with 2 different digests or sizes"),
    "bill": (_bill_called("installed.json"), "installed.json", "is not named like a bill of materials"),
    "other_bill": (
        _bill_called("sbom-0123456789ab.cdx.json"),
        "sbom-0123456789ab",
        "is not named like a bill of materials",
    ),
    "no_publisher": (_publishers(list.clear), _PUBLISHER, "is not listed"),
    "strange_publisher": (
        _publishers(lambda pages: pages[0].update(path="other/other.md")),
        "other/other.md",
        "though its publisher has no artifacts",
    ),
    "parameters": (_update(parameters=7), _RECORD, "bytes, not"),
    "inputs": (_update_inputs(program="0"), _PROVENANCE, "hubexportProgram does not agree"),
}


@pytest.mark.parametrize(("change", "path", "what"), _IN_THE_INDEX.values(), ids=_IN_THE_INDEX)
def test_forged_entries_are_found(forged, tmp_path, change, path, what):
    """The index must agree with itself, and with the files."""
    record = as_json(forged.record())
    change(forged)
    # Updates the record, or each forgery would be two problems.
    if path == _RECORD and what == "bytes, not":
        forged.after[_RECORD] = lambda content: record
    found = _check(forged.written(tmp_path)).problems
    assert any(problem.path.startswith(path) and what in problem.what for problem in found), found


def _manifest(**facts: object) -> Callable[[Forged], None]:
    return lambda forged: forged.edit_manifest(lambda manifest: manifest.update(facts))


def _in_archive(name: str, content: bytes | None, handle: str = OLD) -> Callable[[Forged], None]:
    return lambda forged: forged.put(name, content, handle)


def _attributes(name: str = "saved_model.pb", **attributes: object) -> Callable[[Forged], None]:
    def change(forged: Forged) -> None:
        members = forged.members()
        [info] = [info for info, _ in members if info.name == name]
        for key, value in attributes.items():
            setattr(info, key, value)
        forged.pack(members)

    return change


def _members(change: Callable[[list], list]) -> Callable[[Forged], None]:
    return lambda forged: forged.pack(change(forged.members()))


def _gzipped(**options: object) -> Callable[[Forged], None]:
    def change(forged: Forged) -> None:
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", **options) as file:
            file.write(gzip.decompress(forged.files[_ARCHIVE]))
        forged.files[_ARCHIVE] = packed.getvalue()

    return change


def _packed(content: bytes) -> Callable[[Forged], None]:
    return lambda forged: forged.files.update({_ARCHIVE: content})


def _with_member(info: tarfile.TarInfo, content: bytes = b"") -> Callable[[Forged], None]:
    return _members(lambda members: sorted([*members, (info, content)], key=lambda pair: pair[0].name))


def _special(name: str, kind: bytes, **attributes: object) -> Callable[[Forged], None]:
    return _with_member(member(name, b"", type=kind, mode=0o644, **attributes)[0])


def _nested_headers() -> bytes:
    """Returns a tar with nested extended headers."""
    header = tarfile.TarInfo("header")
    header.type, header.size = tarfile.XHDTYPE, 12
    return gzip.compress((header.tobuf() + b"12 path=abc\n".ljust(512, b"\0")) * 2000 + bytes(1024))


def _many_attributes() -> bytes:
    info = tarfile.TarInfo("a")
    info.pax_headers = {"comment": "x" * 900_000}
    return gzip.compress(info.tobuf(tarfile.PAX_FORMAT) + bytes(1024), mtime=0)


_IN_THE_ARCHIVE = {
    "time_of_gzip": (_gzipped(filename="", mtime=1), "its gzip header contains a name or a time"),
    "name_in_gzip": (_gzipped(filename="x", mtime=0), "its gzip header contains a name or a time"),
    "order": (_members(lambda members: members[1:] + members[:1]), "'hubexport.json' comes after"),
    "twice": (_members(lambda members: members + members[-1:]), "comes after"),
    "user": (_attributes(uid=1000), "'saved_model.pb' has an owner"),
    "group": (_attributes(gid=1), "'saved_model.pb' has an owner"),
    "user_name": (_attributes(uname="root"), "'saved_model.pb' has an owner"),
    "group_name": (_attributes(gname="root"), "'saved_model.pb' has an owner"),
    "time": (_attributes(mtime=1), "has the time 1, not 0"),
    "time_of_a_folder": (_attributes("variables", mtime=1), "has the time 1, not 0"),
    "fraction": (_attributes(mtime=0.5), "has the time 0.5, not 0"),
    "mode": (_attributes(mode=0o755), "has mode 755"),
    "mode_of_a_folder": (_attributes("variables", mode=0o777), "has mode 777"),
    "attribute": (_attributes(pax_headers={"comment": "x"}), "has extra attributes: comment"),
    "no_folder": (
        _members(lambda members: [pair for pair in members if not pair[0].isdir()]),
        "'variables/variables.data-00000-of-00001' comes before its folder",
    ),
    "dot": (
        _members(lambda members: [member("./a", mode=0o644), *members]),
        "name of its member './a' is not normalized",
    ),
    "root": (
        _members(lambda members: [member(".", b"", type=tarfile.DIRTYPE), *members]),
        "member '.' is not normalized",
    ),
    "no_manifest": (_in_archive("hubexport.json", None), "has no hubexport.json at its root"),
    "no_json": (_in_archive("hubexport.json", b"x"), "its hubexport.json is not what hubexport writes"),
    "deep_json": (_in_archive("hubexport.json", b"[" * 100_000), "its hubexport.json is not what hubexport writes"),
    "large_json": (_in_archive("hubexport.json", b" " * (2 << 20)), "is larger than 1 MiB"),
    "handle": (_manifest(handle=NEW), f"says handle {NEW}, the index says {OLD}"),
    "kind": (_manifest(kind="classification"), "says kind classification"),
    "parameters": (
        _manifest(depth_multiplier=0.5),
        "says parameters {'depth_multiplier': 0.5}, the index says {'depth_multiplier': 0.35}",
    ),
    "size": (_manifest(input_width_px=7), "says input_width_px 7, the index says 96"),
    "untold": (_manifest(network=None), "says network None, the index says mobilenet_v2"),
    "values": (_manifest(values="trained"), "says values trained, the index says synthetic"),
    "weights": (_manifest(weights="all"), "says weights all, the index says auto"),
    "checkpoint": (_manifest(checkpoint={"source": "synthetic:7"}), "names a different checkpoint"),
    "exporter": (_manifest(hubexport_version="9"), "names hubexport 9"),
    "changed": (
        _in_archive("saved_model.pb", b"other"),
        "its saved_model.pb does not match its digest in hubexport.json",
    ),
    "gone": (_in_archive("variables/variables.index", None), "its variables/variables.index is missing"),
    "more": (_in_archive("assets.txt", b""), "its assets.txt is not listed in hubexport.json"),
    "no_module": (_in_archive("saved_model.pb", None), "has no saved_model.pb at its root"),
    "no_hub_file": (_in_archive("tfhub_module.pb", None), "does not have the format hub: it has no tfhub_module.pb"),
    "no_gzip": (_packed(b"PK" * 99), "it is damaged or not a gzipped tar"),
    "no_tar": (_packed(gzip.compress(b"x" * 2000, mtime=0)), "it is damaged or not a gzipped tar"),
    "nothing": (_packed(gzip.compress(b"", mtime=0)), "it is damaged or not a gzipped tar"),
    "cut": (lambda forged: forged.files.update({_ARCHIVE: forged.files[_ARCHIVE][:-9]}), "it is damaged"),
    "link": (_special("link", tarfile.SYMTYPE, linkname="/etc/passwd"), "'link' is a link or a device"),
    "hard_link": (_special("link", tarfile.LNKTYPE, linkname="saved_model.pb"), "'link' is a link or a device"),
    "device": (_special("null", tarfile.CHRTYPE, devmajor=1, devminor=3), "'null' is a link or a device"),
    "pipe": (_special("pipe", tarfile.FIFOTYPE), "'pipe' is a link or a device"),
    "upwards": (_with_member(*member("../up")), "'../up' points outside"),
    "absolute": (_with_member(*member("/etc/x")), "'/etc/x' points outside"),
    "nested": (_packed(_nested_headers()), "it is damaged or not a gzipped tar"),
    "attributes": (_packed(_many_attributes()), "has extra attributes: comment"),
    "controls": (_with_member(*member("\x1b[31m", mode=0o644)), r"its \x1b[31m is not listed"),
}


@pytest.mark.parametrize(("change", "what"), _IN_THE_ARCHIVE.values(), ids=_IN_THE_ARCHIVE)
def test_forged_archives_are_found(forged, tmp_path, change, what):
    """Even if reports and statements have the digests of the forged archives."""
    change(forged)
    forged.seal()
    problems = _problems(_check(forged.written(tmp_path)))
    assert any(line.startswith(f"{_ARCHIVE}: ") and what in line for line in problems), problems
    assert all(line.startswith(f"{_ARCHIVE}: ") and line.isprintable() for line in problems)


def test_a_hub_module_in_the_place_of_a_saved_model_is_found(forged, tmp_path):
    """By the file that only hub modules have."""
    forged.put("tfhub_module.pb", b"\x08\x03", NEW)
    forged.seal()
    assert f"{NEW}.tar.gz: does not have the format saved_model_2: it has a tfhub_module.pb" in _problems(
        _check(forged.written(tmp_path))
    )


def _page(old: str, new: str) -> tuple[str, Callable[[Forged], None]]:
    return _PAGE, lambda forged: forged.edit_text("page", old, new)


def _report(**facts: object) -> tuple[str, Callable[[Forged], None]]:
    return _REPORT, lambda forged: forged.edit_json("verification", lambda report: report.update(facts))


def _result(**facts: object) -> tuple[str, Callable[[Forged], None]]:
    return _REPORT, lambda forged: forged.edit_json("verification", lambda report: report["checks"][0].update(facts))


def _ran_on(tensorflow: str) -> Callable[[Forged], None]:
    return lambda forged: forged.record()["checks"].update(tensorflow=tensorflow)


def _no_result(forged: Forged) -> None:
    forged.edit_json("verification", lambda report: report["checks"].pop())


def _statement(*place: str | int, value: object) -> tuple[str, Callable[[Forged], None]]:
    def change(document: dict) -> None:
        *folders, last = place
        for part in folders:
            document = document[part]
        if value is None:
            del document[last]
        else:
            document[last] = value

    return _PROVENANCE, lambda forged: forged.edit_json("provenance", change)


def _content(role: str, path: str, content: bytes) -> tuple[str, Callable[[Forged], None]]:
    return path, lambda forged: forged.files.update({path: content})


_BUILD, _RUN = ("predicate", "buildDefinition"), ("predicate", "runDetails")
_IN_TEXTS = {
    "title": (*_page(f"# Module {OLD}\n", f"# Module {NEW}\n"), "its title is not"),
    "no_title": (*_page("# Module", "\n# Module"), "its title is not"),
    "asset": (*_page("asset-path: https://YOUR_HUB/", "asset-path: https://example.org/"), "its asset-path is not"),
    "no_asset": (*_page("<!-- asset-path", "<!-- assets"), "its asset-path is not"),
    "two_assets": (
        *_page("\n<!-- asset-path: ", "\n<!-- asset-path: x -->\n<!-- asset-path: "),
        "its asset-path is not",
    ),
    "page_binary": (*_content("page", _PAGE, b"\xff\xfe\x00"), "is not text"),
    "not_passed": (*_report(passed=False), "does not say that the module passed"),
    "report_of_another": (*_report(handle=NEW), f"is about {NEW}"),
    "report_of_another_archive": (*_report(archive_sha256="0" * 64), "is about another archive"),
    "tensorflow": (_REPORT, _ran_on("2.16.1"), "the module did not run on TensorFlow 2.16.1"),
    "failed": (*_result(status="fail"), "structure.digests failed"),
    "not_looked_at": (*_result(status="not applicable"), "it does not have 2 checks passed and 0"),
    "above_the_limit": (*_result(measured=3.0, limit=2.0), "structure.digests passed with 3.0, above its limit of 2.0"),
    "other_check": (*_result(check="weights.equal"), "its checks are not those"),
    "one_check_less": (_REPORT, _no_result, "its checks are not those"),
    "odd_status": (*_result(status="perhaps"), "is not what hubexport writes: checks: 0: status"),
    "no_report": (*_content("verification", _REPORT, b"{}"), "is not what hubexport writes: handle"),
    "deep_report": (*_content("verification", _REPORT, b'{"a":' * 100_000), "is not what hubexport writes"),
    "binary_report": (*_content("verification", _REPORT, bytes(range(256))), "is not text"),
    "type": (*_statement("_type", value="x"), "_type does not agree"),
    "predicate": (*_statement("predicateType", value="x"), "predicateType does not agree"),
    "no_predicate": (*_statement("predicate", value=None), "predicate does not agree"),
    "text_for_an_object": (*_statement("predicate", value="buildDefinition"), "predicate does not agree"),
    "subject": (*_statement("subject", 0, "digest", "sha256", value="0" * 64), "subject[0].digest.sha256 does not"),
    "no_list": (*_statement("subject", value=7), "subject does not agree"),
    "subjects": (*_statement("subject", value=[]), "subject does not agree"),
    "build_type": (*_statement(*_BUILD, "buildType", value="x"), "buildType does not agree"),
    "url": (*_statement(*_BUILD, "externalParameters", "url", value="x"), "url does not agree"),
    "module": (*_statement(*_BUILD, "externalParameters", "handle", value=NEW), "externalParameters.handle does not"),
    "no_number": (
        *_statement(*_BUILD, "externalParameters", "sourceDateEpoch", value=False),
        "sourceDateEpoch does not",
    ),
    "checks": (*_statement(*_BUILD, "externalParameters", "checks", value=["x"]), "checks does not agree"),
    "config": (*_statement(*_BUILD, "internalParameters", "network", value="0"), "internalParameters.network does not"),
    "program": (
        *_statement(*_BUILD, "resolvedDependencies", 0, "uri", value="x"),
        "resolvedDependencies[0].uri does not",
    ),
    "dependencies": (*_statement(*_BUILD, "resolvedDependencies", value={}), "resolvedDependencies does not agree"),
    "builder": (*_statement(*_RUN, "builder", "id", value="x"), "builder.id does not agree"),
    "versions": (*_statement(*_RUN, "builder", "version", "NumPy", value="0"), "builder.version.NumPy does not agree"),
    "byproduct": (
        *_statement(*_RUN, "byproducts", 1, "digest", value={}),
        "byproducts[1].digest.sha256 does not agree",
    ),
    "no_statement": (*_content("provenance", _PROVENANCE, b"[]"), "is not what hubexport writes"),
    "deep_statement": (*_content("provenance", _PROVENANCE, b'{"a":' * 100_000), "is not what hubexport writes"),
}


@pytest.mark.parametrize(("path", "change", "what"), _IN_TEXTS.values(), ids=_IN_TEXTS)
def test_forged_pages_reports_and_statements_are_found(forged, tmp_path, path, change, what):
    """Each must agree with the index."""
    change(forged)
    forged.seal()
    found = _check(forged.written(tmp_path)).problems
    assert any(problem.path == path and what in problem.what for problem in found), found
    assert {problem.path for problem in found} == {path}


def _sum(name: str, content: bytes) -> Callable[[bytes], bytes]:
    """Returns a function that adds a line to SHA256SUMS, in order."""
    line = f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()
    return lambda sums: b"".join(sorted([*sums.splitlines(True), line], key=lambda line: line[66:]))


_SUMS = {
    "missing": (lambda content: None, "is missing"),
    "empty": (lambda content: b"", f"does not list {_ARCHIVE}"),
    "less": (lambda content: b"".join(content.splitlines(True)[1:]), f"does not list {_PUBLISHER}"),
    "other": (lambda content: b"0" * 64 + content[64:], "has a different digest for"),
    "one_space": (lambda content: content.replace(b"  ", b" ", 1), "line 1 is not in sha256sum's format"),
    "binary_mark": (lambda content: content.replace(b"  ", b" *", 1), "line 1 is not in sha256sum's format"),
    "capitals": (lambda content: content[:64].upper() + content[64:], "line 1 is not in sha256sum's format"),
    "no_end": (lambda content: content[:-1], "does not end with a newline"),
    "twice": (lambda content: content + content.splitlines(True)[0], f"repeats {_PUBLISHER}"),
    "empty_line": (lambda content: content + b"\n", "line 15 is not in sha256sum's format"),
    "order": (lambda content: b"".join(reversed(content.splitlines(True))), "line 2 is out of order"),
    "no_text": (lambda content: b"\xff" + content, "is not text"),
}


@pytest.mark.parametrize(("change", "what"), _SUMS.values(), ids=_SUMS)
def test_wrong_sums_are_found(forged, tmp_path, change, what):
    """SHA256SUMS must agree with the index, in the format of sha256sum."""
    forged.after[SUMS] = change
    found = _check(forged.written(tmp_path)).problems
    assert {problem.path for problem in found} == {SUMS}
    assert any(what in problem.what for problem in found), found


def test_sums_may_be_ahead_of_the_index(forged, tmp_path):
    """A run may be killed between the two files. The additional files exist and are right, but are not published."""
    content = b"finished, not published"
    forged.files["google/next.tar.gz"] = content
    forged.after[SUMS] = _sum("google/next.tar.gz", content)
    checked = _check(forged.written(tmp_path))
    assert (_problems(checked), checked.stray) == ([], ("google/next.tar.gz",))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("google/next.tar.gz", "its SHA-256 is"),
        ("google/absent.tar.gz", "is missing"),
        ("../outside", "is not a path inside the release"),
        ("/etc/passwd", "is not a path inside the release"),
        ("google/./next.tar.gz", "is not a path inside the release"),
        ("google//next.tar.gz", "is not a path inside the release"),
        ("a\0b", "is not a path inside the release"),
        ("x" * 300, "cannot be read: File name too long"),
        ("google", "is not a regular file"),
        ("google/google.md/x", "is missing"),
    ],
)
def test_files_that_only_the_sums_list_must_be_right(forged, tmp_path, name, what):
    """No file outside the release is opened."""
    forged.files["google/next.tar.gz"] = b"next"
    forged.after[SUMS] = _sum(name, b"other")
    [problem] = _check(forged.written(tmp_path / "dist")).problems
    assert what in problem.what


def test_stray_files_are_listed(dist, tmp_path):
    """A run that works or was killed leaves such files. Links are not followed."""
    names = [".hubexport-x/modules/y.pb", "google/imagenet/small/feature_vector/2.tar.gz~", "zz"]
    for name in names:
        (dist / name).parent.mkdir(parents=True, exist_ok=True)
        (dist / name).write_bytes(b"")
    (dist / "up").symlink_to(tmp_path)
    (dist / "\udcff\n").write_bytes(b"")
    (dist / "empty").mkdir()
    checked = _check(dist)
    assert set(checked.stray) == {*names, "up", r"\udcff\n"}
    assert not checked.problems


def test_files_in_deep_folders_are_listed(dist):
    """Deeper than Python's recursion limit."""
    place = os.open(dist, os.O_RDONLY)
    for _ in range(2100):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    [stray] = _check(dist).stray
    assert stray.startswith("d/d/d/")
    subprocess.run(["rm", "-rf", dist / "d"], check=True)


# Folders that contain no release.


def test_no_release(tmp_path):
    """An empty folder, a file and a missing path are errors that say what to do."""
    (tmp_path / "file").write_bytes(b"")
    for path, why in [
        (tmp_path, "it has no index.json"),
        (tmp_path / "file", "Not a dir"),
        (tmp_path / "no", "No such"),
    ]:
        with pytest.raises(ReleaseError, match="no release in") as caught:
            _check(path)
        assert why in caught.value.why and "folder" in caught.value.fix


def _with_index(change: Callable[[dict], object]) -> Callable[[bytes], bytes]:
    def changed(content: bytes) -> bytes:
        index = json.loads(content)
        change(index)
        return json.dumps(index).encode()

    return changed


def _first_archive(**facts: object) -> Callable[[bytes], bytes]:
    return _with_index(lambda index: index["artifacts"][0]["files"]["archive"].update(facts))


_INDICES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:-3],
    "list": lambda content: b"[]",
    "binary": lambda content: bytes(range(256)),
    "deep": lambda content: b"[" * 1_000_000,
    "deep_objects": lambda content: b'{"artifacts":' * 100_000,
    "number": lambda content: content.replace(b'"version": 2', b'"version": ' + b"9" * 5000),
    "infinite": lambda content: content.replace(b'"depth_multiplier": 0.35', b'"depth_multiplier": NaN'),
    "format": _with_index(lambda index: index.update(format=2)),
    "more": _with_index(lambda index: index.update(more=1)),
    "less": _with_index(lambda index: index["artifacts"][0].pop("handle")),
    "upwards": _first_archive(path="../../etc/passwd"),
    "absolute": _first_archive(path="/etc/passwd"),
    "hidden": _first_archive(path=".ssh/id"),
    "newline": _first_archive(path="a\n"),
    "digest": _first_archive(sha256="0" * 63),
    "capitals": _first_archive(sha256="A" * 64),
    "size": _first_archive(bytes=-1),
    "type": _first_archive(bytes="7"),
}


@pytest.mark.parametrize("change", _INDICES.values(), ids=_INDICES)
def test_an_odd_index_is_one_problem(forged, tmp_path, change):
    """Whatever it contains, one line reports it."""
    forged.after[INDEX] = change
    checked = _check(forged.written(tmp_path))
    [problem] = checked.problems
    assert problem.path == INDEX and problem.what.isprintable() and len(problem.what) < 400
    assert (checked.artifacts, checked.files, checked.bytes) == (0, 0, 0)


@pytest.mark.parametrize("damage", ["linked", "pipe", "folder", "socket", "sparse"])
def test_an_index_that_is_not_a_file_is_a_problem(dist, damage):
    """The check does not wait for a pipe, and reads no file that is larger than any index."""
    change, _ = _DAMAGES[damage]
    change(dist / INDEX)
    [problem] = _check(dist).problems
    assert problem.path == INDEX
    assert problem.what.startswith(("is a link", "is not a regular file", "has 8,796,093,022,208 bytes"))


def test_large_files_are_not_read(forged, tmp_path):
    """Even if the index lists the size: reading a huge sparse file would take days."""
    forged.record()["files"]["archive"]["bytes"] = 1 << 43
    folder = forged.written(tmp_path)
    os.truncate(folder / _ARCHIVE, 1 << 43)
    assert f"{_ARCHIVE}: has 8,796,093,022,208 bytes, more than any release file" in _problems(_check(folder))


def test_a_decompression_bomb_is_not_unpacked(forged, tmp_path, monkeypatch):
    """The part that is unpacked is not kept in memory."""
    monkeypatch.setattr(tars, "MAX_UNPACKED_BYTES", 16 << 20)
    content = bytes(64 << 20)
    forged.pack([(info, old) for info, old in forged.members()] + [member("zeros", content, mode=0o644)])
    forged.seal()
    folder = forged.written(tmp_path)
    del content
    tracemalloc.start()
    problems = _problems(_check(folder))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert problems == [f"{_ARCHIVE}: it unpacks to more than 16,777,216 bytes"]
    assert peak < 16 << 20


_COSTLY = {
    "entries": (INDEX, b'{"format":1,"publishers":[],"artifacts":[%s{}]}', b"{},", "artifacts[0] is not what"),
    "lists": (INDEX, b'{"format":1,"publishers":[],"artifacts":[[%s0]]}', b"{},", "more than 20,000 values"),
    "fields": (INDEX, b'{"format":1,%s"artifacts":[]}', b'"%d":1,', "is not a JSON object with the keys"),
    "results": (_REPORT, b'{"checks":[%s{}]}', b"{},", "more than 20,000 values"),
}


@pytest.mark.parametrize(("path", "around", "repeated", "what"), _COSTLY.values(), ids=_COSTLY)
def test_wrong_documents_cost_little_memory(forged, tmp_path, path, around, repeated, what):
    """A document with very many errors is one problem."""
    many = b"".join(repeated % number if b"%" in repeated else repeated for number in range(300_000))
    if path == INDEX:
        forged.after[INDEX] = lambda content: around % many
    else:
        forged.files[path] = around % many
        forged.seal()
    command = [sys.executable, "-c", _CHECK_AND_TELL, forged.written(tmp_path)]
    output = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    assert what in output
    assert int(output.split()[-1]) < 250 << 10


_CHECK_AND_TELL = """if True:
    import pathlib, re, sys
    from hubexport.progress import Progress
    from hubexport.release.check import check_release

    print([problem.what for problem in check_release(pathlib.Path(sys.argv[1]), Progress()).problems])
    # Not getrusage: on Linux, a process inherits the peak of its parent.
    print(re.search("VmHWM: *([0-9]+)", pathlib.Path("/proc/self/status").read_text().replace("\t", " "))[1])
"""


def test_long_names_are_refused(forged, tmp_path):
    """Ten thousand long names would fill the memory."""
    forged.put("x" * 5000, b"")
    forged.seal()
    assert _problems(_check(forged.written(tmp_path))) == [f"{_ARCHIVE}: a member's name has 5,000 characters"]


def test_many_members_are_refused(forged, tmp_path):
    """Each member takes memory."""
    forged.files[_ARCHIVE] = tgz(*(member(f"{number:05}", b"", mode=0o644) for number in range(10_001)))
    forged.seal()
    problems = _problems(_check(forged.written(tmp_path)))
    assert any("it has more than 10000 members" in line for line in problems)


def _file_states(folder: Path) -> dict[str, tuple[float, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_nothing_is_written(dist):
    """The check writes no file, neither into the release nor beside it."""
    before = _file_states(dist.parent)
    _check(dist)
    assert _file_states(dist.parent) == before


def test_progress_is_reported(dist):
    """Check by check, to the last."""

    class Heard(Progress):
        counts: list[tuple[int, int]] = []

        def count(self, done: int, total: int) -> None:
            self.counts.append((done, total))

    heard = Heard()
    check_release(dist, heard)
    assert heard.counts == [(done, 3) for done in (1, 2, 3)]


def test_the_check_imports_no_tensorflow(dist):
    """Nor the package that only downloads need. It works in any locale and folder."""
    program = (
        "import sys; from pathlib import Path; from hubexport.progress import Progress;"
        "from hubexport.release.check import check_release; checked = check_release(Path(sys.argv[1]), Progress());"
        "assert not checked.problems and checked.artifacts == 2, checked;"
        "print(sorted({'tensorflow', 'requests'} & set(sys.modules)))"
    )
    env = environment({"LC_ALL": "C", "PYTHONUTF8": "0", "TZ": "Asia/Tokyo"})
    done = subprocess.run([sys.executable, "-c", program, dist], env=env, cwd="/", capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


# Random damage.


def test_every_flipped_byte_is_found(original, dist):
    """In any file, at any place."""
    rng = random.Random(7)
    files = sorted(path for path in dist.rglob("*") if path.is_file())
    for number in range(300):
        path = files[number % len(files)]
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= rng.randrange(1, 256)
        path.write_bytes(flipped)
        assert _problems(_check(dist)), (path, number)
        path.write_bytes(content)
    assert _problems(_check(dist)) == []


def _unpacked(content: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [(info.name, file.read() if (file := tar.extractfile(info)) else b"") for info in tar]


def test_flips_in_sealed_archives_are_found_or_change_nothing(original, tmp_path):
    """The tar is damaged, and all digests adjusted. Without a problem, the archive unpacks to the same files."""
    rng = random.Random(11)
    packed = original.files[_ARCHIVE]
    tar = gzip.decompress(packed)
    found = 0
    for number in range(120):
        forged = original.copy()
        flipped = bytearray(tar)
        # Half of the flips hit headers, where they can do most harm.
        place = rng.randrange(len(tar) // 512) * 512 + rng.randrange(512) if number % 2 else rng.randrange(1024)
        flipped[place] ^= rng.randrange(1, 256)
        forged.files[_ARCHIVE] = gzip.compress(bytes(flipped), mtime=0)
        forged.seal()
        problems = _problems(_check(forged.written(tmp_path / "dist")))
        found += bool(problems)
        assert problems or _unpacked(forged.files[_ARCHIVE]) == _unpacked(packed), place
        shutil.rmtree(tmp_path / "dist")
    assert found > 60


def test_odd_texts_do_not_break_the_check(original, tmp_path):
    """Texts are flipped, cut or repeated, and all digests adjusted. Accepted or not, the check completes."""
    rng = random.Random(13)
    roles = [("verification", _REPORT), ("provenance", _PROVENANCE), ("page", _PAGE), ("index", INDEX), ("sums", SUMS)]
    for number in range(120):
        forged = original.copy()

        def change(content: bytes) -> bytes:
            place = rng.randrange(len(content))
            return rng.choice(
                [
                    content[:place] + rng.randbytes(rng.randrange(9)) + content[place + rng.randrange(9) :],
                    content[:place],
                    content + content[place:],
                    content.replace(b"1", rng.choice([b"1e999", b"-0", b'"\\ud800"', b"null", b"[]", b"{}"])),
                ]
            )

        role, path = roles[number % len(roles)]
        if role in ("index", "sums"):
            forged.after[path] = change
        else:
            forged.files[path] = change(forged.files[path])
        forged.seal()
        for line in _problems(_check(forged.written(tmp_path / "dist"))):
            assert line.isprintable()
        shutil.rmtree(tmp_path / "dist")
