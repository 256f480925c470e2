"""`release --measured`: an accuracy that `evaluate` measured is published with the module that it was measured on."""

import copy
import hashlib
import json
from pathlib import Path
import shutil

from PIL import Image
import numpy as np
import pytest

from hubexport.release.check import check_release
from hubexport.release.index import read_index
from tests.command import hubexport
from tests.release_runs import CHEAP, write_config
from tests.releases import Forged

_HANDLE = "google/imagenet/one/classification/5"


@pytest.fixture(scope="module", name="place")
def _place(tmp_path_factory) -> Path:
    """A folder with a config, labelled images, built modules, and what `evaluate` measured on one of them."""
    place = tmp_path_factory.mktemp("measured")
    write_config(place / "configs", "one", "classification/5", "feature_vector/5")
    generator = np.random.default_rng(0)
    for label in range(7):
        (place / "photos" / str(label)).mkdir(parents=True)
        for number in range(2):
            pixels = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / "photos" / str(label) / f"{number}.png")
    for seed in ("", ":1"):
        built = ("build", "--variant", "one", "--config-dir", "configs", "--checkpoint", f"synthetic{seed}")
        done = hubexport(*built, "--output-dir", f"modules{seed[1:]}", cwd=place)
        assert done.returncode == 0, done.stderr
        done = hubexport(
            *("evaluate", f"modules{seed[1:]}/{_HANDLE}", "--data", "photos", "--engine", "onnx", "--format", "json"),
            *("--data-name", "Noise | <b>`, seven classes", "--config-dir", "configs"),
            cwd=place,
            env={"HUBEXPORT_CACHE_DIR": str(place / "cache")},
        )
        assert done.returncode == 0, done.stderr
        (place / f"measured{seed[1:]}.json").write_text(done.stdout)
    return place


@pytest.fixture(scope="module", name="measured")
def _measured(place) -> dict:
    """What `evaluate` printed."""
    return json.loads((place / "measured.json").read_text())


def _release(place: Path, folder: Path, *arguments: str, modules: str = "classification/5"):
    words = (
        "release",
        "--variant",
        "one",
        "--config-dir",
        "configs",
        "--checkpoint",
        "synthetic",
        "--module",
        modules,
    )
    return hubexport(*words, *CHEAP, "--output-dir", str(folder), *map(str, arguments), cwd=place)


@pytest.fixture(scope="module", name="dist")
def _dist(place, tmp_path_factory) -> Path:
    """A release with a measured accuracy."""
    folder = tmp_path_factory.mktemp("dist") / "dist"
    done = _release(place, folder, "--measured", "measured.json")
    assert done.returncode == 0, done.stderr
    return folder


def test_an_evaluation_says_what_it_measured(place, measured):
    """The handle, and a digest of the files with values: it is worked out here from the module's files."""
    assert measured["handle"] == _HANDLE
    folder = place / "modules" / _HANDLE
    digests = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (folder / "variables").iterdir()
    }
    expected = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    assert measured["values_sha256"] == expected
    other = json.loads((place / "measured1.json").read_text())
    assert (other["handle"], other["values_sha256"] == expected) == (_HANDLE, False)


def test_the_record_has_the_measured_accuracy(dist, measured):
    """The figures, how many images there were, what they are called, and how they were used."""
    record = json.loads((dist / f"{_HANDLE}.json").read_text())
    assert record["measured"] == {
        "top1_percent": measured["top1"]["percent"],
        "top5_percent": measured["top5"]["percent"],
        "images": 14,
        "dataset": "Noise | <b>`, seven classes",
        "preprocessing": measured["preprocessing"],
        "engine": measured["engine"],
        "values_sha256": measured["values_sha256"],
    }
    assert record["published"] is None
    index = read_index(dist)
    assert index and index.artifacts[0].measured and index.artifacts[0].measured.images == 14


@pytest.mark.parametrize("suffix", [".md", ".card.md"])
def test_page_and_card_tell_the_measured_accuracy(dist, measured, suffix):
    """What the user calls the images is text, not markup."""
    text = (dist / f"{_HANDLE}{suffix}").read_text()
    assert "measured this module on 14 images of `` Noise | <b>`, seven classes ``:" in text
    assert f"  * top-1 accuracy: {measured['top1']['percent']:.2f} %" in text
    assert f"  * run by `{measured['engine']}`" in text
    assert "accuracy is unknown" not in text and "No accuracy is claimed" not in text


def test_the_same_measurement_is_up_to_date(place, dist):
    """Without it, or with other figures, a published artifact stays as it was, and the plan says why."""
    done = _release(place, dist, "--measured", "measured.json", "--dry-run")
    assert done.stdout.splitlines()[-1] == "1 up to date"
    done = _release(place, dist, "--dry-run")
    assert "published before the measured accuracy changed" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1] == "1 keep"
    done = _release(place, dist)
    assert "kept: published before the measured accuracy changed" in " ".join(done.stderr.split())
    assert done.stderr.splitlines()[-1] == "1 kept"


def test_an_unpublished_artifact_is_made_again_for_another_measurement(place, dist, tmp_path):
    """Until something is published, nobody relies on it."""
    shutil.copytree(dist, tmp_path / "dist")
    (tmp_path / "dist" / "index.json").unlink()
    done = _release(place, tmp_path / "dist", "--dry-run")
    assert "an unfinished run used different inputs: the measured accuracy" in " ".join(done.stdout.split())


def test_values_that_were_not_measured_are_refused(place, tmp_path):
    """The handle alone says nothing about the values."""
    done = _release(place, tmp_path / "dist", "--measured", "measured1.json")
    assert done.returncode == 1
    assert f"ERROR {_HANDLE} does not have the values of its measured accuracy\n" in done.stderr
    assert not (tmp_path / "dist" / "index.json").exists()


def test_a_measurement_of_no_artifact_is_refused(place, tmp_path):
    """It is named, and nothing is made."""
    done = _release(place, tmp_path / "dist", "--measured", "measured.json", modules="feature_vector/5")
    assert done.returncode == 2
    assert f"--measured: this run does not release {_HANDLE}\n" in done.stderr
    assert not (tmp_path / "dist").exists()


def test_two_measurements_of_a_module_are_refused(place, tmp_path):
    """Whichever was meant, one of them would be lost."""
    done = _release(place, tmp_path / "dist", "--measured", "measured.json", "--measured", "measured1.json")
    assert done.returncode == 2
    assert "--measured measured1.json: another file is about the same module\n" in done.stderr


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda found: found.update(handle=None), "it does not say which module it is of"),
        (lambda found: found.update(images=0), "no image was classified"),
        (
            lambda found: found["top1"].update(percent=101.0),
            "why: top1.percent: Input should be less than or equal to 100",
        ),
        (lambda found: found["top1"].update(percent=float("nan")), "why: top1.percent: Input should be"),
        (lambda found: found.update(data_name=""), "why: data_name: String should have at least 1 character"),
        (lambda found: found["top1"].update(percent="50"), "why: top1.percent: Input should be a valid number"),
        (lambda found: found["top5"].update(percent=0.0), "the top-5 accuracy is below the top-1 accuracy"),
        (lambda found: found.update(images="many"), "images: Input should be a valid integer"),
        (lambda found: found.clear(), "why: `hubexport evaluate` did not print it"),
    ],
)
def test_what_is_no_evaluation_is_refused(place, measured, tmp_path, change, why):
    """The file and the field are named."""
    changed = copy.deepcopy(measured)
    changed["top1"]["percent"] = 50.0
    change(changed)
    (tmp_path / "odd.json").write_text(json.dumps(changed))
    done = _release(place, tmp_path / "dist", "--measured", tmp_path / "odd.json")
    assert done.returncode == 1
    assert f"--measured {tmp_path}/odd.json: no measured accuracy to publish\n" in done.stderr
    assert why in done.stderr


@pytest.mark.parametrize(("content", "why"), [(b"{", "it is not JSON"), (None, "No such file or directory")])
def test_files_that_cannot_be_read_are_refused(place, tmp_path, content, why):
    """As for any other input."""
    if content is not None:
        (tmp_path / "odd.json").write_bytes(content)
    done = _release(place, tmp_path / "dist", "--measured", tmp_path / "odd.json")
    assert (done.returncode, why in done.stderr) == (1, True), done.stderr


def test_a_release_with_a_measurement_is_complete_and_correct(dist):
    """It can be checked from its files alone."""
    checked = check_release(dist)
    assert (checked.problems, checked.unproven) == ((), ())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda record: record["measured"].update(top5_percent=100.0), "its inputs have another measured accuracy"),
        (lambda record: record.pop("measured"), "its inputs have another measured accuracy"),
        (lambda record: record["measured"].update(values_sha256="0" * 64), "its inputs have another measured accuracy"),
    ],
)
def test_forged_measurements_are_found(dist, tmp_path, change, what):
    """The inputs have the digest of the figures."""
    forged = Forged(dist)
    change(forged.record(_HANDLE))
    checked = check_release(forged.written(tmp_path / "forged"))
    assert what in [problem.what for problem in checked.problems]


def test_a_measurement_of_other_values_is_found(dist, tmp_path):
    """Whoever forges the digest of the figures, too, cannot forge that of the values."""
    forged = Forged(dist)
    record = forged.record(_HANDLE)
    record["measured"]["values_sha256"] = "0" * 64
    digest = hashlib.sha256(json.dumps(record["measured"], sort_keys=True).encode()).hexdigest()
    record["inputs"]["measured"] = digest
    forged.edit_json(
        "provenance",
        lambda found: found["predicate"]["buildDefinition"]["externalParameters"].update(measured=digest),
        _HANDLE,
    )
    forged.seal()
    checked = check_release(forged.written(tmp_path / "forged"))
    assert "has a measured accuracy of other values than its own" in [problem.what for problem in checked.problems]


def test_records_without_a_measurement_have_no_such_field(place, tmp_path):
    """So older releases are still read, and their records come out as they were."""
    done = _release(place, tmp_path / "dist")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "dist" / f"{_HANDLE}.json").read_text())
    assert "measured" not in record and "measured" not in record["inputs"]
