"""Releases: what a run makes, keeps and refuses, and which files it leaves in the folder."""

import dataclasses
import hashlib
import json
import shutil
import subprocess
import tarfile

import numpy as np
import pytest

from hubexport import BuildOrder, build_modules
from hubexport.beam.options import Beam
from hubexport.checkpoints.download import fetch
from hubexport.checkpoints.download_cache import Downloads, memory_path
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.config_files import load_variant
from hubexport.errors import CheckpointError, DownloadError, HubexportError, ModuleError, ReleaseError
from hubexport.progress import Progress
from hubexport.release import make_artifact
from hubexport.release.check import check_release
from hubexport.release.index import INDEX, SHA256SUMS, ArtifactRecord, as_json, read_index, record_path
from hubexport.release.options import ReleaseOptions
from hubexport.release.plan import make_plan
from hubexport.release.release_modules import release_modules
from hubexport.system.digests import file_sha256, tree_files
from hubexport.variants import LabelFile, ModuleSpec
from hubexport.verify.checks.registry import select_checks
from tests.archives import member, tgz
from tests.checkpoints import network_values, write_v2
from tests.servers import running_server

# These need no TensorFlow and almost no time.
_CHECKS = ("structure.digests", "weights.equal")
_OPTIONS = ReleaseOptions(checkpoint="synthetic", checks=_CHECKS)
_OLD, _NEW = ModuleSpec.parse("feature_vector/2"), ModuleSpec.parse("classification/5")


def _orders(variant, *specs):
    return [BuildOrder(variant, specs or (_OLD, _NEW))]


def _release(variant, folder, *specs, options=_OPTIONS, **how):
    return release_modules(_orders(variant, *specs), options, folder, **how)


def _results(outcomes):
    return [outcome.result if isinstance(outcome.result, str) else type(outcome.result) for outcome in outcomes]


def _bytes(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in tree_files(folder)}


@pytest.fixture
def dist(small, tmp_path):
    """A release of two modules."""
    folder = tmp_path / "dist"
    assert _results(_release(small, folder)) == ["made", "made"]
    return folder


def test_a_release_has_these_files(dist):
    """Six for each artifact, and those that artifacts share."""
    names = ("tar.gz", "md", "card.md", "verify.json", "provenance.json", "json")
    artifacts = [f"google/imagenet/small/{module}." for module in ("feature_vector/2", "classification/5")]
    found = {name for name in _bytes(dist) if not name.startswith("sbom-")}
    assert found == {artifact + name for artifact in artifacts for name in names} | {
        "google/google.md",
        INDEX,
        SHA256SUMS,
    }
    assert not check_release(dist, Progress()).problems


def test_an_archive_holds_what_a_build_writes(dist, small, tmp_path):
    """The root of the archive is the root of the module. The test reads with tarfile; another library compresses."""
    [built] = build_modules(small, [_NEW], checkpoint="synthetic", output_dir=tmp_path / "built")
    with tarfile.open(dist / f"google/imagenet/small/{_NEW}.tar.gz") as tar:
        packed = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
    assert packed == _bytes(built)


def test_sha256sums_lists_all_files(dist):
    """The system's sha256sum accepts it."""
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SHA256SUMS], cwd=dist, check=True)
    summed = {line.split("  ")[1] for line in (dist / SHA256SUMS).read_text().splitlines()}
    assert summed == set(_bytes(dist)) - {INDEX, SHA256SUMS}


def test_the_index_has_the_facts_of_each_module(dist):
    """Figures computed by hand, for MobileNet V2 at 0.35 and 96 pixels with seven classes."""
    first, second = read_index(dist).artifacts
    assert (first.handle, second.handle) == (f"google/imagenet/small/{_NEW}", f"google/imagenet/small/{_OLD}")
    assert (first.num_classes, second.num_classes, first.num_features) == (7, None, 1280)
    assert first.parameters - second.parameters == 1280 * 7 + 7
    assert (first.format, second.format, first.values) == ("saved_model_2", "hub", "synthetic")
    assert (first.checks.passed, first.checks.not_applicable, first.checks.tensorflow) == (2, 0, None)
    archive = first.files["archive"]
    assert archive.sha256 == file_sha256(dist / archive.path)
    assert archive.bytes == (dist / archive.path).stat().st_size


def test_the_report_has_all_checks_and_the_digest_of_the_archive(dist):
    """But no times, which differ from run to run."""
    report = json.loads((dist / f"google/imagenet/small/{_OLD}.verify.json").read_text())
    assert report["passed"] is True
    assert report["archive_sha256"] == file_sha256(dist / f"google/imagenet/small/{_OLD}.tar.gz")
    assert [(check["check"], check["status"]) for check in report["checks"]] == [(name, "pass") for name in _CHECKS]
    assert "seconds" not in json.dumps(report)


def test_a_second_run_changes_nothing(dist, small):
    """It does not even rewrite a file with the same content."""
    before = {path: path.stat().st_mtime_ns for path in tree_files(dist)}
    assert _results(_release(small, dist)) == ["up to date", "up to date"]
    assert {path: path.stat().st_mtime_ns for path in tree_files(dist)} == before


def test_a_later_run_adds_artifacts(dist, small):
    """Published files stay as they are, byte for byte, even those of modules that the later run does not ask for."""
    before = _bytes(dist)
    added = ModuleSpec.parse("feature_vector/3")
    assert _results(_release(small, dist, added, _OLD)) == ["made", "up to date"]
    after = _bytes(dist)
    assert {name: after[name] for name in before if name not in (INDEX, SHA256SUMS)}.items() <= before.items()
    assert len(read_index(dist).artifacts) == 3
    assert not check_release(dist, Progress()).problems


@pytest.mark.parametrize(
    ("options", "facts", "blamed"),
    [
        pytest.param(dataclasses.replace(_OPTIONS, checkpoint="synthetic:1"), {}, "the checkpoint", id="checkpoint"),
        pytest.param(dataclasses.replace(_OPTIONS, weights="raw"), {}, "--weights", id="weights"),
        pytest.param(_OPTIONS, {"num_classes": 9}, "the config", id="classes"),
        pytest.param(_OPTIONS, {"dataset": "another"}, "the config", id="dataset"),
        pytest.param(_OPTIONS, {"checkpoint": None}, "the config", id="checkpoint of an archive"),
    ],
)
@pytest.mark.slow
def test_published_content_never_changes(dist, small, options, facts, blamed):
    """Both modules are refused, although the bytes of one would stay the same."""
    before = _bytes(dist)
    variant = small.model_copy(update=facts)
    outcomes = _release(variant, dist, options=options)
    assert _results(outcomes) == [ReleaseError, ReleaseError]
    for outcome in outcomes:
        assert outcome.result.what == f"{outcome.artifact.handle} is already published"
        assert outcome.result.why == f"its content would change because of {blamed}, and published modules never change"
    assert _bytes(dist) == before


def test_labels_are_content(dist, small, tmp_path):
    """A changed label is refused, because modules contain the labels. The file may move, or have other line ends."""
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class {number}\n" for number in range(7)))
    labelled = small.model_copy(update={"labels": LabelFile(file=str(labels))})
    assert _results(_release(labelled, dist)) == [ReleaseError, ReleaseError]
    assert _results(_release(labelled, tmp_path / "other")) == ["made", "made"]
    moved = labels.rename(tmp_path / "moved.txt")
    moved.write_text(moved.read_text(), newline="\r\n")
    labelled = small.model_copy(update={"labels": LabelFile(file=str(moved))})
    assert _results(_release(labelled, tmp_path / "other")) == ["up to date", "up to date"]


@pytest.mark.parametrize(
    ("options", "facts", "blamed"),
    [
        pytest.param(dataclasses.replace(_OPTIONS, url="https://hub.example"), {}, "--url", id="address"),
        pytest.param(dataclasses.replace(_OPTIONS, checks=_CHECKS[:1]), {}, "the selected checks", id="checks"),
        pytest.param(dataclasses.replace(_OPTIONS, source_date_epoch=9), {}, "SOURCE_DATE_EPOCH", id="time"),
        pytest.param(_OPTIONS, {"license": "MIT"}, "the description in its config", id="license"),
    ],
)
@pytest.mark.slow
def test_a_published_module_is_kept_if_only_its_description_would_change(dist, small, options, facts, blamed):
    """Its content is the requested one."""
    before = _bytes(dist)
    outcomes = _release(small.model_copy(update=facts), dist, options=options)
    assert _results(outcomes) == ["kept", "kept"]
    assert outcomes[0].artifact.why == f"published before {blamed} changed"
    assert _bytes(dist) == before


def test_a_new_version_of_hubexport_keeps_published_modules(dist, small, monkeypatch):
    """It makes only what is missing."""
    monkeypatch.setattr("hubexport.release.artifact_inputs.program_sha256", lambda: "0" * 64)
    outcomes = _release(small, dist, _OLD, ModuleSpec.parse("feature_vector/3"))
    assert _results(outcomes) == ["kept", "made"]
    assert outcomes[0].artifact.why == "published before hubexport's code changed"


def _never(*_):
    raise AssertionError("nothing is to be made")


def test_an_unlisted_artifact_is_listed_by_the_next_run(dist, small, monkeypatch):
    """It is complete, so it is not made again."""
    before = _bytes(dist)
    (dist / INDEX).unlink()
    (dist / SHA256SUMS).unlink()
    monkeypatch.setattr("hubexport.release.release_modules.build_and_pack", _never)
    assert _results(_release(small, dist)) == ["listed", "listed"]
    assert _bytes(dist) == before


@pytest.mark.parametrize("role", ["tar.gz", "md", "provenance.json", "json"])
@pytest.mark.slow
def test_an_unlisted_artifact_with_a_damaged_file_is_made_again(dist, small, role):
    """Damage to any of its files counts. None of them is published yet."""
    before = _bytes(dist)
    (dist / INDEX).unlink()
    damaged = dist / f"google/imagenet/small/{_OLD}.{role}"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert _results(_release(small, dist)) == ["made", "listed"]
    assert _bytes(dist) == before


def test_an_unlisted_artifact_of_other_inputs_is_made_again(dist, small):
    """It is not published, so it may be replaced."""
    (dist / INDEX).unlink()
    outcomes = _release(small, dist, options=dataclasses.replace(_OPTIONS, checkpoint="synthetic:1"))
    assert _results(outcomes) == ["made", "made"]
    assert outcomes[0].artifact.why == "an unfinished run used different inputs: the checkpoint"
    assert not check_release(dist, Progress()).problems


@pytest.mark.parametrize("role", ["tar.gz", "md", "json"])
def test_lost_published_files_are_restored(dist, small, role):
    """With the same bytes as before."""
    before = _bytes(dist)
    lost = dist / f"google/imagenet/small/{_OLD}.{role}"
    if role == "md":
        lost.write_bytes(b"")
    else:
        lost.unlink()
    outcomes = _release(small, dist)
    assert _results(outcomes) == ["made", "up to date"]
    assert outcomes[0].artifact.why.startswith(f"published, but google/imagenet/small/{_OLD}.{role}")
    assert _bytes(dist) == before


def test_lost_files_that_cannot_be_restored_are_an_error(dist, small):
    """A changed option means different bytes, which must not replace published ones."""
    (dist / f"google/imagenet/small/{_OLD}.tar.gz").unlink()
    options = dataclasses.replace(_OPTIONS, url="https://hub.example")
    [lost, kept] = _release(small, dist, options=options)
    assert kept.result == "kept"
    assert lost.result.what == f"google/imagenet/small/{_OLD} is damaged, and cannot be rebuilt as it was"
    assert lost.result.why.endswith("; --url changed since it was made")


def _another_page(facts):
    return "# another page\n"


def test_a_published_file_is_not_replaced_by_a_different_one(dist, small, monkeypatch):
    """Here the page is made differently. The error names it."""
    (dist / f"google/imagenet/small/{_OLD}.md").unlink()
    monkeypatch.setattr("hubexport.release.describe_artifact.module_page", _another_page)
    before = _bytes(dist)
    [outcome] = _release(small, dist, _OLD)
    assert outcome.result.what.endswith("is damaged, and the rebuilt files differ from the published ones")
    assert outcome.result.why == f"different bytes in google/imagenet/small/{_OLD}.md"
    assert _bytes(dist) == before


@pytest.mark.parametrize("lost", ["tar.gz", "json"])
def test_only_the_lost_file_is_restored(dist, small, monkeypatch, lost):
    """Here the page is made differently, as measurements differ on another machine. The published page stays."""
    before = _bytes(dist)
    (dist / f"google/imagenet/small/{_OLD}.{lost}").unlink()
    monkeypatch.setattr("hubexport.release.describe_artifact.module_page", _another_page)
    assert _results(_release(small, dist, _OLD)) == ["made"]
    assert _bytes(dist) == before
    assert not check_release(dist).problems


def test_a_module_that_fails_a_check_is_not_published(small, tmp_path, monkeypatch):
    """The error names the failed checks, and the other module is published."""
    pack = make_artifact.pack

    def damaged(directory, archive, *, mtime):
        if "feature_vector" in str(archive):
            (directory / "variables/variables.data-00000-of-00001").open("r+b").write(b"\xff\xff\xff\x7f")
        pack(directory, archive, mtime=mtime)

    monkeypatch.setattr("hubexport.release.make_artifact.pack", damaged)
    [failed, made] = _release(small, tmp_path / "dist")
    assert made.result == "made"
    assert failed.result.what == f"google/imagenet/small/{_OLD} failed verification, and is not published"
    assert failed.result.details[0].startswith("structure.digests: ")
    assert [record.handle for record in read_index(tmp_path / "dist").artifacts] == [made.artifact.handle]
    assert not (tmp_path / "dist" / record_path(failed.artifact.handle)).exists()


def _archive(folder, num_classes, more=None):
    """Returns an archive like the published ones, perhaps with more values."""
    write_v2(folder / "model.ckpt", {**network_values(num_classes=num_classes), **(more or {})})
    return tgz(*(member(path.name, path.read_bytes()) for path in sorted(folder.glob("model.ckpt.*"))))


@pytest.fixture
def archives(tmp_path):
    """A directory with an archive for `one`, but not for `two`."""
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "one.tgz").write_bytes(_archive(tmp_path, num_classes=7))
    return tmp_path / "archives"


@pytest.fixture
def two_variants(config_dir):
    """Neither has a published checkpoint, so their archives are named like the variants."""
    text = (config_dir / "small.yaml").read_text()
    start, end = text.index("checkpoint:"), text.index("modules:")
    for name in ("one", "two"):
        (config_dir / f"{name}.yaml").write_text(text[:start] + text[end:])
    return [BuildOrder(load_variant(name, config_dir), (_OLD,)) for name in ("two", "one")]


@pytest.fixture
def quick_graph_checks(monkeypatch):
    """The default checks, as if there were only these two: one for each module, and one for each graph."""
    monkeypatch.setattr("hubexport.release.artifact_inputs.CHECKS", select_checks(_CHECKS))
    monkeypatch.setattr("hubexport.release.artifact_inputs.FOR_EACH_MODULE", _CHECKS[:1])
    return ReleaseOptions(checkpoint="synthetic")


def _reports(folder):
    reports = {path: json.loads(path.read_bytes()) for path in folder.rglob("*.verify.json")}
    return {
        report["handle"].split("/")[2]: ([check["check"] for check in report["checks"]], report["graph_proved_by"])
        for report in reports.values()
    }


@pytest.mark.parametrize(
    "how",
    [
        {"jobs": 1},
        *(pytest.param(how, marks=pytest.mark.slow) for how in ({"jobs": 2}, {"beam": Beam("DirectRunner")})),
    ],
    ids=["one process", "two processes", "Beam"],
)
def test_a_graph_is_proved_once(two_variants, quick_graph_checks, tmp_path, how):
    """The others with the same graph say which artifact's report proves it, and the release is in order."""
    outcomes = release_modules(two_variants, quick_graph_checks, tmp_path / "dist", **how)
    assert _results(outcomes) == ["made", "made"]
    prover = outcomes[1].artifact.handle
    assert _reports(tmp_path / "dist") == {"one": ([*_CHECKS], None), "two": ([*_CHECKS[:1]], prover)}
    page = (tmp_path / "dist" / outcomes[0].record.files["page"].path).read_text()
    assert f"`{prover}`, whose graph is the same byte for byte, passed" in page
    assert not check_release(tmp_path / "dist").problems
    assert _results(release_modules(two_variants, quick_graph_checks, tmp_path / "dist")) == ["up to date"] * 2


def test_another_artifact_proves_a_graph_if_the_first_fails(two_variants, quick_graph_checks, tmp_path, monkeypatch):
    verify = make_artifact.verify_module

    def verify_but_one(path, **how):
        done = verify(path, **how)
        results = [dataclasses.replace(result, status="fail") for result in done.results]
        return dataclasses.replace(done, results=tuple(results)) if "/one/" in path else done

    monkeypatch.setattr("hubexport.release.make_artifact.verify_module", verify_but_one)
    outcomes = release_modules(two_variants, quick_graph_checks, tmp_path / "dist")
    assert _results(outcomes) == ["made", ModuleError]
    assert _reports(tmp_path / "dist") == {"two": ([*_CHECKS], None)}


def test_selected_checks_are_for_every_module(two_variants, tmp_path):
    """Although both have the same graph."""
    release_modules(two_variants, _OPTIONS, tmp_path / "dist")
    assert _reports(tmp_path / "dist") == {"one": ([*_CHECKS], None), "two": ([*_CHECKS], None)}


def test_one_failure_stops_no_other(two_variants, archives, tmp_path):
    """The other variant is published, and the next run makes the one that failed."""
    options = ReleaseOptions(checkpoint=str(archives), weights="raw", checks=_CHECKS)
    outcomes = release_modules(two_variants, options, tmp_path / "dist")
    assert _results(outcomes) == [CheckpointError, "made"]
    assert outcomes[0].result.what == f"no checkpoint for two in {archives}"
    assert [record.variant for record in read_index(tmp_path / "dist").artifacts] == ["one"]
    # The next run makes the variant whose checkpoint has been added.
    (archives / "two.tgz").write_bytes((archives / "one.tgz").read_bytes())
    assert _results(release_modules(two_variants, options, tmp_path / "dist")) == ["made", "up to date"]


def test_fail_fast_stops_at_the_first_failure(two_variants, archives, tmp_path):
    """Nothing is published, but finished artifacts wait for the next run."""
    options = ReleaseOptions(checkpoint=str(archives), weights="raw", checks=_CHECKS)
    outcomes = release_modules(two_variants, options, tmp_path / "dist", fail_fast=True)
    assert _results(outcomes) == [CheckpointError, ReleaseError]
    assert outcomes[1].result.why == "another artifact failed, and --fail-fast stops at the first failure"
    assert read_index(tmp_path / "dist") is None
    # A checkpoint of another network fails later, when the first artifact is finished.
    (archives / "two.tgz").write_bytes(_archive(tmp_path, num_classes=5))
    orders = [dataclasses.replace(order, modules=(_NEW,)) for order in reversed(two_variants)]
    assert _results(release_modules(orders, options, tmp_path / "dist", fail_fast=True))[1] == CheckpointError
    assert read_index(tmp_path / "dist") is None
    (archives / "two.tgz").write_bytes((archives / "one.tgz").read_bytes())
    assert _results(release_modules(orders, options, tmp_path / "dist"))[1] == "made"


def test_checkpoints_are_also_found_by_the_published_name(small, archives, tmp_path):
    """The config's URL ends in small.tgz. Another archive of that name is used with a warning, and not as published."""
    (archives / "one.tgz").rename(archives / "small.tgz")
    warned = []
    progress = Progress()
    progress.warn = warned.append
    options = ReleaseOptions(checkpoint=str(archives), weights="raw", checks=_CHECKS)
    assert _results(_release(small, tmp_path / "dist", options=options, progress=progress)) == ["made", "made"]
    assert any("differs from the published archive of small" in text for text in warned)
    [record, _] = read_index(tmp_path / "dist").artifacts
    assert (record.values, record.published, record.inputs.checkpoint["source"]) == ("trained", None, "small.tgz")


@pytest.mark.slow
def test_families_with_and_without_averages_are_released_together(two_variants, tmp_path):
    """By default. What the index says of the request agrees with both manifests."""
    (tmp_path / "archives").mkdir()
    averaged = {f"{name}{AVERAGED_SUFFIX}": value for name, value in network_values(num_classes=7, seed=1).items()}
    for name, averages in (("one", {}), ("two", averaged)):
        (tmp_path / "archives" / f"{name}.tgz").write_bytes(_archive(tmp_path, 7, averages))
    options = ReleaseOptions(checkpoint=str(tmp_path / "archives"), checks=_CHECKS)
    assert _results(release_modules(two_variants, options, tmp_path / "dist")) == ["made", "made"]
    weights = {}
    for record in read_index(tmp_path / "dist").artifacts:
        with tarfile.open(tmp_path / "dist" / record.files["archive"].path) as tar:
            weights[record.variant] = json.load(tar.extractfile("hubexport.json"))["weights"]
        assert record.inputs.weights == "auto"
    assert weights == {"one": "raw", "two": "averaged"}
    assert not check_release(tmp_path / "dist", Progress()).problems
    # An older hubexport asked for averages by default, and gave the same values.
    averaged = dataclasses.replace(options, weights="averaged")
    outcomes = release_modules(two_variants, averaged, tmp_path / "dist")
    assert _results(outcomes) == ["kept", "kept"]
    assert outcomes[0].artifact.why == "published before --weights changed"
    raw = dataclasses.replace(options, weights="raw")
    assert _results(release_modules(two_variants, raw, tmp_path / "dist")) == [ReleaseError, ReleaseError]


class _Unpinned:
    """A variant whose archive has no SHA-256 in the config, and a server that has the archive."""

    def __init__(self, small, server, folder):
        self.server, self.folder = server, folder
        self.server.content = _archive(folder, num_classes=7)
        self.digest = hashlib.sha256(server.content).hexdigest()
        self.variant = small.model_copy(update={"checkpoint": server.published("small.tgz", None)})
        self.options = ReleaseOptions(checks=_CHECKS, downloads=Downloads(folder / "cache"))
        self.accepting = dataclasses.replace(self.options, accept_unpinned=True)

    def release(self, options, variant=None, dist="dist"):
        return _release(variant or self.variant, self.folder / dist, _OLD, options=options)

    def pinned(self):
        """The variant with the SHA-256 in its config."""
        checkpoint = self.variant.checkpoint.model_copy(update={"sha256": self.digest})
        return self.variant.model_copy(update={"checkpoint": checkpoint})


@pytest.fixture
def unpinned(small, tmp_path, monkeypatch):
    """Such a variant, and its server."""
    monkeypatch.setenv("NO_PROXY", "*")
    with running_server() as server:
        yield _Unpinned(small, server, tmp_path)


def test_an_archive_without_a_digest_is_refused(unpinned):
    """Before anything is downloaded. Once it was, the error has the line for the config."""
    url = unpinned.variant.checkpoint.url
    for pin in ("its `sha256`", f"`sha256: {unpinned.digest}`"):
        outcomes = unpinned.release(unpinned.options)
        assert _results(outcomes) == [CheckpointError]
        assert outcomes[0].result.what == "the published archive of small is not pinned"
        assert outcomes[0].result.why.startswith(f"the config has no SHA-256 for {url}, ")
        assert outcomes[0].result.fix == f"put {pin} under `checkpoint` in the config, or add --accept-unpinned"
        assert unpinned.server.requests == []
        memory = memory_path(unpinned.variant.checkpoint, unpinned.options.downloads)
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(f"{unpinned.digest}  small.tgz\n")
    assert not (unpinned.folder / "dist" / INDEX).exists()


def test_an_archive_without_a_digest_can_be_accepted(unpinned):
    """It is downloaded once, and everything is as if the config had its digest."""
    warned = []
    progress = Progress()
    progress.warn = warned.append
    assert _results(
        _release(unpinned.variant, unpinned.folder / "dist", _OLD, options=unpinned.accepting, progress=progress)
    ) == ["made"]
    assert sum(unpinned.digest in text for text in warned) == 1
    assert len(unpinned.server.requests) == 1
    [record] = read_index(unpinned.folder / "dist").artifacts
    wanted = {"source": "small.tgz", "sha256": unpinned.digest, "published": True}
    assert record.inputs.checkpoint == wanted
    with tarfile.open(unpinned.folder / "dist" / record.files["archive"].path) as tar:
        assert json.load(tar.extractfile("hubexport.json"))["checkpoint"] == wanted
    provenance = (unpinned.folder / "dist" / record.files["provenance"].path).read_text()
    assert unpinned.variant.checkpoint.url in provenance and unpinned.digest in provenance
    assert not check_release(unpinned.folder / "dist", Progress()).problems
    # Whoever follows the advice to pin it changes nothing, byte for byte.
    assert _results(unpinned.release(unpinned.options, unpinned.pinned())) == ["up to date"]
    assert _results(unpinned.release(unpinned.options, unpinned.pinned(), "again")) == ["made"]
    assert _bytes(unpinned.folder / "again") == _bytes(unpinned.folder / "dist")
    assert len(unpinned.server.requests) == 1


def test_another_archive_of_the_same_address_is_not_released(unpinned):
    """Neither on the machine that has seen the first one, nor on one that has not: that would change the content."""
    unpinned.release(unpinned.accepting)
    before = _bytes(unpinned.folder / "dist")
    shutil.rmtree(unpinned.folder / "cache" / "checkpoints" / unpinned.digest[:16])
    unpinned.server.content = _archive(unpinned.folder, num_classes=7, more={"x": np.zeros(1, np.float32)})
    outcomes = unpinned.release(unpinned.accepting, dist="another")
    assert _results(outcomes) == [DownloadError]
    assert unpinned.digest in outcomes[0].result.why
    elsewhere = dataclasses.replace(unpinned.accepting, downloads=Downloads(unpinned.folder / "elsewhere"))
    outcomes = unpinned.release(elsewhere)
    assert _results(outcomes) == [ReleaseError]
    assert "its content would change because of the checkpoint" in outcomes[0].result.why
    assert _bytes(unpinned.folder / "dist") == before


@pytest.mark.slow
def test_a_local_copy_of_an_archive_without_a_digest(unpinned):
    """Nobody knows if it is the published one; as soon as somebody does, the same rule holds for it."""
    (unpinned.folder / "copy.tgz").write_bytes(unpinned.server.content)
    copy = dataclasses.replace(unpinned.options, checkpoint=str(unpinned.folder / "copy.tgz"))
    assert _results(unpinned.release(copy)) == ["made"]
    [record] = read_index(unpinned.folder / "dist").artifacts
    assert record.inputs.checkpoint["published"] is False
    fetch(unpinned.variant.checkpoint, Progress(), unpinned.options.downloads)
    outcomes = unpinned.release(copy, dist="another")
    assert [outcome.result.what for outcome in outcomes] == ["the published archive of small is not pinned"]
    accepting = dataclasses.replace(copy, accept_unpinned=True)
    assert _results(unpinned.release(accepting, dist="another")) == ["made"]
    [record] = read_index(unpinned.folder / "another").artifacts
    assert record.inputs.checkpoint["published"] is True


def test_a_plan_does_not_need_the_published_archive(small, tmp_path):
    """Planning downloads nothing. Only the run fails, because the archive cannot be downloaded."""
    plan = make_plan(_orders(small), ReleaseOptions(checks=_CHECKS), tmp_path / "dist", None, Progress())
    assert [(one.action, one.inputs.checkpoint["sha256"]) for one in plan] == [("make", small.checkpoint.sha256)] * 2
    assert not (tmp_path / "dist").exists()


def test_an_unreadable_index_is_not_overwritten(dist, small):
    """A newer hubexport may have written it."""
    (dist / INDEX).write_text('{"format": 2}')
    with pytest.raises(ReleaseError, match="cannot read"):
        _release(small, dist)
    assert (dist / INDEX).read_text() == '{"format": 2}'


def test_an_index_with_an_unknown_network_says_which_and_what_helps(small_release, tmp_path):
    """A newer hubexport may know more networks."""
    index = json.loads((small_release / INDEX).read_text())
    index["artifacts"][0]["network"] = "mobilenet_v9"
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(ReleaseError) as caught:
        read_index(tmp_path)
    assert caught.value.why.startswith("artifacts.0.network: ")
    assert caught.value.fix == "use a hubexport that knows this network"


@pytest.mark.parametrize(
    ("network", "parameters"),
    [("mobilenet_v1", {"depth_multiplier": 0.25}), ("mobilenet_v2", {"depth_multiplier": 1.0}), ("resnet_v2_50", {})],
)
def test_a_record_holds_the_parameters_of_its_own_family(small_release, network, parameters):
    """In JSON they stand beside the other keys, after the network; those of other families are refused."""
    record = json.loads((small_release / INDEX).read_text())["artifacts"][0]
    del record["depth_multiplier"]
    record["network"] = network
    facts = {name: value for key, told in record.items() for name, value in ({key: told} | parameters).items()}
    read = ArtifactRecord.model_validate_json(json.dumps(facts))
    assert dict(read.family_parameters) == parameters and json.loads(as_json(read)) == facts
    keys = list(json.loads(as_json(read)))
    assert keys[keys.index("network") + 1 :][: len(parameters) + 1] == [*parameters, "image_size"]
    with pytest.raises(ValueError, match="family_parameters" if parameters else "depth_multiplier"):
        wrong = {**record, **({} if parameters else {"depth_multiplier": 1.0})}
        ArtifactRecord.model_validate_json(json.dumps(wrong))


def test_archives_carry_the_time_that_the_user_chose(small, tmp_path):
    """As tarfile reads it."""
    options = dataclasses.replace(_OPTIONS, source_date_epoch=1_700_000_000)
    _release(small, tmp_path / "dist", _OLD, options=options)
    with tarfile.open(tmp_path / f"dist/google/imagenet/small/{_OLD}.tar.gz") as tar:
        assert {member.mtime for member in tar} == {1_700_000_000}


def test_a_folder_that_cannot_be_written_is_an_error_for_users(small, tmp_path):
    """Its three parts say what, why, and what to do."""
    (tmp_path / "dist").write_text("a file")
    with pytest.raises(HubexportError, match="cannot write the release to"):
        _release(small, tmp_path / "dist")
