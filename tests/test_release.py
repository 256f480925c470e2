"""A release: what is made, what is left alone, what is refused, and what stands in the folder afterwards."""

import dataclasses
import json
import subprocess
import tarfile

import pytest

from hubexport import BuildOrder, build_modules
from hubexport.config_files import load_variant
from hubexport.errors import CheckpointError, HubexportError, ReleaseError
from hubexport.progress import Progress
from hubexport.release import make_artifact
from hubexport.release.check import check_release
from hubexport.release.index import INDEX, SHA256SUMS, read_index, record_path
from hubexport.release.plan import ReleaseOptions, make_plan
from hubexport.release.release_modules import release_modules
from hubexport.system.digests import file_sha256, tree_files
from hubexport.variants import ModuleSpec
from tests.archives import member, tgz
from tests.checkpoints import network_values, write_v2

# The ones that need no TensorFlow and next to no time.
_CHECKS = ("structure.digests", "weights.equal")
_RECIPE = ReleaseOptions(checkpoint="synthetic", checks=_CHECKS)
_OLD, _NEW = ModuleSpec.parse("feature_vector/2"), ModuleSpec.parse("classification/5")


def _orders(variant, *specs):
    return [BuildOrder(variant, specs or (_OLD, _NEW))]


def _release(variant, folder, *specs, recipe=_RECIPE, **options):
    return release_modules(_orders(variant, *specs), recipe, folder, **options)


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
    """For each artifact the archive and what is told of it; and what holds them together."""
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
    """File by file, with the archive's root as the module's; read by tarfile, written by another library."""
    [built] = build_modules(small, [_NEW], checkpoint="synthetic", output_dir=tmp_path / "built")
    with tarfile.open(dist / f"google/imagenet/small/{_NEW}.tar.gz") as tar:
        packed = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
    assert packed == _bytes(built)


def test_the_sums_are_those_of_all_files(dist):
    """By the program that everybody has for it."""
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SHA256SUMS], cwd=dist, check=True)
    summed = {line.split("  ")[1] for line in (dist / SHA256SUMS).read_text().splitlines()}
    assert summed == set(_bytes(dist)) - {INDEX, SHA256SUMS}


def test_the_index_tells_what_programs_want_to_know(dist):
    """Figures by hand: 0.35 of MobileNet V2 at 96 pixels, with seven classes."""
    first, second = read_index(dist).artifacts
    assert (first.handle, second.handle) == (f"google/imagenet/small/{_NEW}", f"google/imagenet/small/{_OLD}")
    assert (first.num_classes, second.num_classes, first.num_features) == (7, None, 1280)
    assert first.parameters - second.parameters == 1280 * 7 + 7
    assert (first.format, second.format, first.values) == ("saved_model_2", "hub", "synthetic")
    assert (first.checks.passed, first.checks.not_applicable, first.checks.tensorflow) == (2, 0, None)
    archive = first.files["archive"]
    assert archive.sha256 == file_sha256(dist / archive.path)
    assert archive.bytes == (dist / archive.path).stat().st_size


def test_the_report_says_what_was_proved_of_which_archive(dist):
    """Without times, which would differ from run to run."""
    report = json.loads((dist / f"google/imagenet/small/{_OLD}.verify.json").read_text())
    assert report["passed"] is True
    assert report["archive_sha256"] == file_sha256(dist / f"google/imagenet/small/{_OLD}.tar.gz")
    assert [(check["check"], check["status"]) for check in report["checks"]] == [(name, "pass") for name in _CHECKS]
    assert "seconds" not in json.dumps(report)


def test_what_is_up_to_date_is_left_alone(dist, small):
    """Nothing is written, not even the same once more."""
    before = {path: path.stat().st_mtime_ns for path in tree_files(dist)}
    assert _results(_release(small, dist)) == ["up to date", "up to date"]
    assert {path: path.stat().st_mtime_ns for path in tree_files(dist)} == before


def test_a_later_release_adds_to_an_earlier_one(dist, small):
    """What is published stays, byte for byte, also what is not asked for any more."""
    before = _bytes(dist)
    added = ModuleSpec.parse("feature_vector/3")
    assert _results(_release(small, dist, added, _OLD)) == ["made", "up to date"]
    after = _bytes(dist)
    assert {name: after[name] for name in before if name not in (INDEX, SHA256SUMS)}.items() <= before.items()
    assert len(read_index(dist).artifacts) == 3
    assert not check_release(dist, Progress()).problems


@pytest.mark.parametrize(
    ("recipe", "facts", "blamed"),
    [
        pytest.param(dataclasses.replace(_RECIPE, checkpoint="synthetic:1"), {}, "the checkpoint", id="checkpoint"),
        pytest.param(dataclasses.replace(_RECIPE, weights="raw"), {}, "--weights", id="weights"),
        pytest.param(_RECIPE, {"num_classes": 9}, "the config", id="classes"),
        pytest.param(_RECIPE, {"dataset": "another"}, "the config", id="dataset"),
        pytest.param(_RECIPE, {"checkpoint": None}, "the config", id="checkpoint of an archive"),
    ],
)
@pytest.mark.slow
def test_published_content_never_changes(dist, small, recipe, facts, blamed):
    """Not even of the module that would have no other bytes."""
    before = _bytes(dist)
    variant = small.model_copy(update=facts)
    outcomes = _release(variant, dist, recipe=recipe)
    assert _results(outcomes) == [ReleaseError, ReleaseError]
    for outcome in outcomes:
        assert outcome.result.what == f"{outcome.item.handle} is already published"
        assert outcome.result.why == f"its content would change because of {blamed}, and published modules never change"
    assert _bytes(dist) == before


def test_labels_are_content(dist, small, tmp_path):
    """They go into the module; where the file is does not matter."""
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class {number}\n" for number in range(7)))
    labelled = small.model_copy(update={"labels": str(labels)})
    assert _results(_release(labelled, dist)) == [ReleaseError, ReleaseError]
    assert _results(_release(labelled, tmp_path / "other")) == ["made", "made"]
    moved = labels.rename(tmp_path / "moved.txt")
    labelled = small.model_copy(update={"labels": str(moved)})
    assert _results(_release(labelled, tmp_path / "other")) == ["up to date", "up to date"]


@pytest.mark.parametrize(
    ("recipe", "facts", "blamed"),
    [
        pytest.param(dataclasses.replace(_RECIPE, url="https://hub.example"), {}, "--url", id="address"),
        pytest.param(dataclasses.replace(_RECIPE, checks=_CHECKS[:1]), {}, "the selected checks", id="checks"),
        pytest.param(dataclasses.replace(_RECIPE, source_date_epoch=9), {}, "SOURCE_DATE_EPOCH", id="time"),
        pytest.param(_RECIPE, {"license": "MIT"}, "the description in its config", id="license"),
    ],
)
@pytest.mark.slow
def test_what_is_published_is_kept_though_it_would_be_told_otherwise(dist, small, recipe, facts, blamed):
    """Its content is what is asked for."""
    before = _bytes(dist)
    outcomes = _release(small.model_copy(update=facts), dist, recipe=recipe)
    assert _results(outcomes) == ["kept", "kept"]
    assert outcomes[0].item.why == f"published before {blamed} changed"
    assert _bytes(dist) == before


def test_another_hubexport_keeps_what_is_published(dist, small, monkeypatch):
    """And makes what is not."""
    monkeypatch.setattr("hubexport.release.artifact_inputs.program_sha256", lambda: "0" * 64)
    outcomes = _release(small, dist, _OLD, ModuleSpec.parse("feature_vector/3"))
    assert _results(outcomes) == ["kept", "made"]
    assert outcomes[0].item.why == "published before hubexport's code changed"


def _never(*_):
    raise AssertionError("nothing is to be made")


def test_what_a_run_left_unlisted_is_listed_by_the_next(dist, small, monkeypatch):
    """Not made again, if it is whole."""
    before = _bytes(dist)
    (dist / INDEX).unlink()
    (dist / SHA256SUMS).unlink()
    monkeypatch.setattr("hubexport.release.release_modules.build", _never)
    assert _results(_release(small, dist)) == ["listed", "listed"]
    assert _bytes(dist) == before


@pytest.mark.parametrize("role", ["tar.gz", "md", "provenance.json", "json"])
@pytest.mark.slow
def test_what_a_run_left_unlisted_and_damaged_is_made_again(dist, small, role):
    """Every file of it counts: nobody has promised them yet."""
    before = _bytes(dist)
    (dist / INDEX).unlink()
    damaged = dist / f"google/imagenet/small/{_OLD}.{role}"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert _results(_release(small, dist)) == ["made", "listed"]
    assert _bytes(dist) == before


def test_what_a_run_left_unlisted_of_other_inputs_is_made_again(dist, small):
    """As if it were not there."""
    (dist / INDEX).unlink()
    outcomes = _release(small, dist, recipe=dataclasses.replace(_RECIPE, checkpoint="synthetic:1"))
    assert _results(outcomes) == ["made", "made"]
    assert outcomes[0].item.why == "an unfinished run used different inputs: the checkpoint"
    assert not check_release(dist, Progress()).problems


@pytest.mark.parametrize("role", ["tar.gz", "md", "json"])
def test_published_files_that_are_lost_come_back(dist, small, role):
    """With the bytes that they had."""
    before = _bytes(dist)
    lost = dist / f"google/imagenet/small/{_OLD}.{role}"
    if role == "md":
        lost.write_bytes(b"")
    else:
        lost.unlink()
    outcomes = _release(small, dist)
    assert _results(outcomes) == ["made", "up to date"]
    assert outcomes[0].item.why.startswith(f"published, but google/imagenet/small/{_OLD}.{role}")
    assert _bytes(dist) == before


def test_lost_files_that_cannot_come_back_are_told(dist, small):
    """They would not be what is published."""
    (dist / f"google/imagenet/small/{_OLD}.tar.gz").unlink()
    recipe = dataclasses.replace(_RECIPE, url="https://hub.example")
    [lost, kept] = _release(small, dist, recipe=recipe)
    assert kept.result == "kept"
    assert lost.result.what == f"google/imagenet/small/{_OLD} is damaged, and cannot be rebuilt as it was"
    assert lost.result.why.endswith("; --url changed since it was made")


def _another_page(facts):
    return "# another page\n"


def test_what_comes_out_otherwise_does_not_replace_what_is_published(dist, small, monkeypatch):
    """Whatever the reason."""
    (dist / f"google/imagenet/small/{_OLD}.md").unlink()
    monkeypatch.setattr("hubexport.release.make_artifact.module_page", _another_page)
    before = _bytes(dist)
    [outcome] = _release(small, dist, _OLD)
    assert outcome.result.what.endswith("is damaged, and the rebuilt files differ from the published ones")
    assert outcome.result.why == f"different bytes in google/imagenet/small/{_OLD}.md"
    assert _bytes(dist) == before


@pytest.mark.parametrize("lost", ["tar.gz", "json"])
def test_only_what_is_lost_is_put_back(dist, small, monkeypatch, lost):
    """What comes out otherwise here, like what is measured on another machine, stays as it is published."""
    before = _bytes(dist)
    (dist / f"google/imagenet/small/{_OLD}.{lost}").unlink()
    monkeypatch.setattr("hubexport.release.make_artifact.module_page", _another_page)
    assert _results(_release(small, dist, _OLD)) == ["made"]
    assert _bytes(dist) == before
    assert not check_release(dist).problems


def test_what_is_not_right_is_not_published(small, tmp_path, monkeypatch):
    """The checks that failed are told; the other module is published."""
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
    assert [record.handle for record in read_index(tmp_path / "dist").artifacts] == [made.item.handle]
    assert not (tmp_path / "dist" / record_path(failed.item.handle)).exists()


def _archive(folder, num_classes):
    """An archive like the published ones."""
    write_v2(folder / "model.ckpt", network_values(num_classes=num_classes))
    return tgz(*(member(path.name, path.read_bytes()) for path in sorted(folder.glob("model.ckpt.*"))))


@pytest.fixture
def archives(tmp_path):
    """A directory with an archive for `one`, and none for `two`."""
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "one.tgz").write_bytes(_archive(tmp_path, num_classes=7))
    return tmp_path / "archives"


@pytest.fixture
def two_variants(config_dir):
    """Both without a published checkpoint, so that their archives are named like them."""
    text = (config_dir / "small.yaml").read_text()
    start, end = text.index("checkpoint:"), text.index("modules:")
    for name in ("one", "two"):
        (config_dir / f"{name}.yaml").write_text(text[:start] + text[end:])
    return [BuildOrder(load_variant(name, config_dir), (_OLD,)) for name in ("two", "one")]


def test_one_failure_stops_no_other(two_variants, archives, tmp_path):
    """It is told, and the rest is published."""
    recipe = ReleaseOptions(checkpoint=str(archives), weights="raw", checks=_CHECKS)
    outcomes = release_modules(two_variants, recipe, tmp_path / "dist")
    assert _results(outcomes) == [CheckpointError, "made"]
    assert outcomes[0].result.what == f"no checkpoint for two in {archives}"
    assert [record.variant for record in read_index(tmp_path / "dist").artifacts] == ["one"]
    # What is mended is made by the next run.
    (archives / "two.tgz").write_bytes((archives / "one.tgz").read_bytes())
    assert _results(release_modules(two_variants, recipe, tmp_path / "dist")) == ["made", "up to date"]


def test_the_first_failure_can_stop_all(two_variants, archives, tmp_path):
    """Nothing is published; and nothing that was finished is lost."""
    recipe = ReleaseOptions(checkpoint=str(archives), weights="raw", checks=_CHECKS)
    outcomes = release_modules(two_variants, recipe, tmp_path / "dist", fail_fast=True)
    assert _results(outcomes) == [CheckpointError, ReleaseError]
    assert outcomes[1].result.why == "another artifact failed, and --fail_fast stops at the first failure"
    assert read_index(tmp_path / "dist") is None
    # A checkpoint of another network: the failure comes later, when the first is finished.
    (archives / "two.tgz").write_bytes(_archive(tmp_path, num_classes=5))
    orders = [dataclasses.replace(order, modules=(_NEW,)) for order in reversed(two_variants)]
    assert _results(release_modules(orders, recipe, tmp_path / "dist", fail_fast=True))[1] == CheckpointError
    assert read_index(tmp_path / "dist") is None
    (archives / "two.tgz").write_bytes((archives / "one.tgz").read_bytes())
    assert _results(release_modules(orders, recipe, tmp_path / "dist"))[1] == "made"


def test_checkpoints_are_found_by_the_published_name_too(small, archives, tmp_path):
    """The config's URL ends in small.tgz; its digest is another, which is warned of, and told by no page."""
    (archives / "one.tgz").rename(archives / "small.tgz")
    warned = []
    progress = Progress()
    progress.warn = warned.append
    recipe = ReleaseOptions(checkpoint=str(archives), weights="raw", checks=_CHECKS)
    assert _results(_release(small, tmp_path / "dist", recipe=recipe, progress=progress)) == ["made", "made"]
    assert any("differs from the published archive of small" in text for text in warned)
    [record, _] = read_index(tmp_path / "dist").artifacts
    assert (record.values, record.published, record.inputs.checkpoint["source"]) == ("trained", None, "small.tgz")


def test_a_published_archive_is_known_without_having_it(small, tmp_path):
    """A plan downloads nothing; the run that wants it says that it cannot be had."""
    plan = make_plan(_orders(small), ReleaseOptions(checks=_CHECKS), tmp_path / "dist", None, Progress())
    assert [(item.action, item.inputs.checkpoint["sha256"]) for item in plan] == [("make", small.checkpoint.sha256)] * 2
    assert not (tmp_path / "dist").exists()


def test_an_index_that_is_none_is_not_overwritten(dist, small):
    """It may be that of a newer hubexport."""
    (dist / INDEX).write_text('{"format": 2}')
    with pytest.raises(ReleaseError, match="cannot read"):
        _release(small, dist)
    assert (dist / INDEX).read_text() == '{"format": 2}'


def test_times_in_archives_are_what_the_user_says(small, tmp_path):
    """Read by tarfile."""
    recipe = dataclasses.replace(_RECIPE, source_date_epoch=1_700_000_000)
    _release(small, tmp_path / "dist", _OLD, recipe=recipe)
    with tarfile.open(tmp_path / f"dist/google/imagenet/small/{_OLD}.tar.gz") as tar:
        assert {member.mtime for member in tar} == {1_700_000_000}


def test_all_errors_of_a_release_are_for_users(small, tmp_path):
    """One that comes from a process that cannot write, say."""
    (tmp_path / "dist").write_text("a file")
    with pytest.raises(HubexportError, match="cannot write the release to"):
        _release(small, tmp_path / "dist")
