"""`release --sample`: what `classify` found in a photograph is published with the module that found it."""

import copy
import hashlib
import json
from pathlib import Path

from PIL import Image
import numpy as np
import pydantic
import pytest

from hubexport.release.check import check_release
from hubexport.release.facts import SampleResult
from tests.command import hubexport
from tests.release_runs import CHEAP, write_config
from tests.releases import Forged

_HANDLE = "google/imagenet/one/classification/5"
_NAMES = ["a", "<b>", "```", "d | e", "f & g", "h", "i"]
_CLASSES = [{"number": 1, "name": "<b>", "probability": 0.75}, {"number": 4, "name": None, "probability": 0.25}]
_SAMPLE = {"photograph": "cat.jpg", "classes": _CLASSES, "engine": "a table", "values_sha256": "0" * 64}


@pytest.fixture(scope="module", name="place")
def _place(tmp_path_factory) -> Path:
    """A folder with a config, a photograph, built modules, and what `classify` found with each."""
    place = tmp_path_factory.mktemp("sample")
    write_config(place / "configs", "one", "classification/5", "feature_vector/5")
    with (place / "configs" / "one.yaml").open("a") as config:
        config.write(f"labels: {json.dumps(_NAMES)}\n")
    (place / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(place / "photos" / "noise `1` <b>.png")
    for seed in ("", ":1"):
        built = ("build", "--variant", "one", "--config-dir", "configs", "--checkpoint", f"synthetic{seed}")
        done = hubexport(*built, "--output-dir", f"modules{seed[1:]}", cwd=place)
        assert done.returncode == 0, done.stderr
        words = ("classify", f"modules{seed[1:]}/{_HANDLE}", "photos", "--engine", "onnx", "--top", "6")
        done = hubexport(*words, "--format", "json", cwd=place)
        assert done.returncode == 0, done.stderr
        (place / f"sample{seed[1:]}.json").write_text(done.stdout)
    return place


@pytest.fixture(scope="module", name="classified")
def _classified(place) -> dict:
    """What `classify` printed."""
    return json.loads((place / "sample.json").read_text())


def _release(place: Path, folder: Path, *arguments: object, modules: str = "classification/5"):
    words = ("release", "--variant", "one", "--config-dir", "configs", "--checkpoint", "synthetic", "--module", modules)
    return hubexport(*words, *CHEAP, "--output-dir", str(folder), *map(str, arguments), cwd=place)


@pytest.fixture(scope="module", name="dist")
def _dist(place, tmp_path_factory) -> Path:
    """A release with a sample result."""
    folder = tmp_path_factory.mktemp("dist") / "dist"
    done = _release(place, folder, "--sample", "sample.json")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_classification_says_which_module_it_is_of(place, classified):
    """The handle, and a digest of the files with values: it is worked out here from the module's files."""
    folder = place / "modules" / _HANDLE
    digests = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (folder / "variables").iterdir()
    }
    expected = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    assert (classified["handle"], classified["values_sha256"]) == (_HANDLE, expected)
    assert list(classified) == ["handle", "values_sha256", "engine", "images", "skipped"]
    other = json.loads((place / "sample1.json").read_text())
    assert (other["handle"], other["values_sha256"] == expected) == (_HANDLE, False)


def test_modules_without_a_manifest_are_classified_with(place):
    """Nothing says which module they are, but their values have a digest, too."""
    folder = place / "modules" / _HANDLE
    model = place / "bare.onnx"
    assert hubexport("convert", str(folder), str(model), cwd=place).returncode == 0
    done = hubexport("classify", str(model), "photos", "--format", "json", cwd=place)
    assert done.returncode == 0, done.stderr
    digest = {"bare.onnx": hashlib.sha256(model.read_bytes()).hexdigest()}
    found = json.loads(done.stdout)
    assert found["handle"] is None
    assert found["values_sha256"] == hashlib.sha256(json.dumps(digest).encode()).hexdigest()


def test_the_record_has_the_sample_result(dist, classified):
    """The five most probable classes of the six, the photograph's name without its folder, and the engine."""
    record = json.loads((dist / f"{_HANDLE}.json").read_text())
    top = classified["images"][0]["top"]
    assert len(top) == 6
    assert record["sample"] == {
        "photograph": "noise `1` <b>.png",
        "classes": [
            {"number": one["index"], "name": _NAMES[one["index"]], "probability": one["probability"]} for one in top[:5]
        ],
        "engine": classified["engine"],
        "values_sha256": classified["values_sha256"],
    }


@pytest.mark.parametrize("suffix", [".md", ".card.md"])
def test_page_and_card_tell_the_sample_result(dist, classified, suffix):
    """In the form that the programs on pages print. Names are text, not markup."""
    text = (dist / f"{_HANDLE}{suffix}").read_text()
    found = f"`` noise `1` <b>.png ``, as `hubexport classify` found them with `{classified['engine']}`:"
    lines = "".join(f"{one['probability']:6.1%}  {one['label']}\n" for one in classified["images"][0]["top"][:5])
    assert (
        f"\n### Sample result\n\nThe most probable classes of the photograph {found}\n\n```text\n{lines}```\n" in text
    )


def test_the_same_sample_is_up_to_date(place, dist):
    """Without it, a published artifact stays as it was, and the plan says why."""
    assert _release(place, dist, "--sample", "sample.json", "--dry-run").stdout.splitlines()[-1] == "1 up to date"
    done = _release(place, dist, "--dry-run")
    assert "published before the sample result changed" in " ".join(done.stdout.split())


def test_results_of_other_values_are_refused(place, tmp_path):
    """The handle alone says nothing about the values."""
    done = _release(place, tmp_path / "dist", "--sample", "sample1.json")
    assert done.returncode == 1
    assert f"ERROR {_HANDLE} does not have the values of its sample result\n" in done.stderr
    assert not (tmp_path / "dist" / "index.json").exists()


def test_results_of_no_artifact_and_of_one_twice_are_refused(place, tmp_path):
    """They are named, and nothing is made."""
    done = _release(place, tmp_path / "dist", "--sample", "sample.json", modules="feature_vector/5")
    assert (done.returncode, f"--sample: this run does not release {_HANDLE}\n" in done.stderr) == (2, True)
    done = _release(place, tmp_path / "dist", "--sample", "sample.json", "--sample", "sample1.json")
    assert done.returncode == 2
    assert "--sample sample1.json: another file is about the same module\n" in done.stderr
    assert "sample.json has the sample result of google" in done.stderr
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda found: found.update(handle=None), "it does not say which module it is of"),
        (lambda found: found.update(images=found["images"] * 2), "it is about 2 images; a page shows one"),
        (lambda found: found["images"].clear(), "it is about 0 images; a page shows one"),
        (lambda found: found["images"][0]["top"].clear(), "images.0.top: List should have at least 1 item"),
        (
            lambda found: found["images"][0]["top"][0].update(probability=1.5),
            "why: images.0.top.0.probability: Input should be less",
        ),
        (lambda found: found["images"][0]["top"].reverse(), "a class is more probable than the one before it"),
        (
            lambda found: found["images"][0].update(file="/"),
            "why: images.0.file: String should have at least 1 character",
        ),
        (lambda found: found.pop("images"), "`hubexport classify` did not print it"),
    ],
)
def test_what_is_no_result_for_one_photograph_is_refused(place, classified, tmp_path, change, why):
    """The file and the field are named."""
    changed = copy.deepcopy(classified)
    change(changed)
    (tmp_path / "odd.json").write_text(json.dumps(changed))
    done = _release(place, tmp_path / "dist", "--sample", tmp_path / "odd.json")
    assert done.returncode == 1
    assert f"--sample {tmp_path}/odd.json: no sample result to publish\n" in done.stderr
    assert why in done.stderr
    assert "printed for one photograph and a module of hubexport\n" in done.stderr
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(
    ("facts", "why"), [({"index": 7}, "class 7 is not one of its 7"), ({"label": "cat"}, "is called")]
)
def test_other_classes_than_the_modules_are_refused(place, classified, tmp_path, facts, why):
    """Such as the names of `classify --labels`."""
    changed = copy.deepcopy(classified)
    changed["images"][0]["top"][0].update(facts)
    (tmp_path / "odd.json").write_text(json.dumps(changed))
    done = _release(place, tmp_path / "dist", "--sample", tmp_path / "odd.json")
    assert done.returncode == 1
    assert f"ERROR {_HANDLE} cannot have its sample result\n" in done.stderr
    assert why in done.stderr


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"photograph": "../cat.jpg"}, "photograph"),
        ({"photograph": "c" * 256}, "photograph"),
        ({"engine": "e" * 201}, "engine"),
        ({"values_sha256": "0"}, "values_sha256"),
        ({"classes": []}, "classes"),
        ({"classes": [{**_CLASSES[0], "number": number, "probability": 0.1} for number in range(6)]}, "classes"),
        ({"classes": _CLASSES[::-1]}, "a class is more probable than the one before it"),
        ({"classes": [_CLASSES[0], {**_CLASSES[0], "probability": 0.1}]}, "a class is there twice"),
        ({"classes": [_CLASSES[0], {**_CLASSES[1], "probability": 0.3}]}, "the probabilities sum to more than 1"),
        ({"classes": [{**_CLASSES[0], "probability": -0.1}]}, "probability"),
        ({"classes": [{**_CLASSES[0], "probability": float("nan")}]}, "probability"),
        ({"classes": [{**_CLASSES[0], "number": -1}]}, "number"),
        ({"classes": [{**_CLASSES[0], "name": "n" * 1001}]}, "name"),
    ],
)
def test_impossible_results_are_refused(facts, why):
    """Whoever wrote them into a record."""
    SampleResult.model_validate(_SAMPLE)
    with pytest.raises(pydantic.ValidationError, match=why):
        SampleResult.model_validate(_SAMPLE | facts)


def test_a_result_is_printed_as_programs_print_it():
    """One line for each class, whatever it is called."""
    classes = [{**_CLASSES[0], "name": "x\ny\u2028\x1b"}, _CLASSES[1]]
    lines = SampleResult.model_validate({**_SAMPLE, "classes": classes}).lines
    assert lines == [r" 75.0%  x\ny\u2028\x1b", " 25.0%  class 4"]


def test_a_release_with_a_sample_result_is_complete_and_correct(dist):
    """It can be checked from its files alone."""
    checked = check_release(dist)
    assert (checked.problems, checked.unproven) == ((), ())


def _problems(dist: Path, folder: Path, change) -> list[str]:
    """Returns the problems of a release in which somebody changed a sample result, and all digests of it."""
    forged = Forged(dist)
    record = forged.record(_HANDLE)
    change(record["sample"])
    digest = hashlib.sha256(json.dumps(record["sample"], sort_keys=True).encode()).hexdigest()
    record["inputs"]["sample"] = digest
    forged.edit_json(
        "provenance",
        lambda found: found["predicate"]["buildDefinition"]["externalParameters"].update(sample=digest),
        _HANDLE,
    )
    forged.seal()
    return [problem.what for problem in check_release(forged.written(folder)).problems]


def test_forged_results_are_found(dist, tmp_path):
    """The inputs have a digest of the result, and the page repeats it. The archive has the values and the names."""
    forged = Forged(dist)
    forged.record(_HANDLE)["sample"]["photograph"] = "cat.jpg"
    checked = check_release(forged.written(tmp_path / "record"))
    assert "its inputs have another sample result" in [problem.what for problem in checked.problems]

    found = _problems(dist, tmp_path / "values", lambda sample: sample.update(values_sha256="0" * 64))
    assert "has a sample result of other values than its own" in found
    found = _problems(dist, tmp_path / "names", lambda sample: sample["classes"][0].update(name="cat"))
    assert any(what.startswith("has a sample result that it cannot have: class") for what in found)
    found = _problems(dist, tmp_path / "page", lambda sample: sample.update(photograph="cat.jpg"))
    assert any(what.startswith("is not what hubexport writes for this module") for what in found)


def test_records_without_a_sample_have_no_such_field(place, tmp_path):
    """So older releases are still read, and their records come out as they were."""
    done = _release(place, tmp_path / "dist")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "dist" / f"{_HANDLE}.json").read_text())
    assert "sample" not in record and "sample" not in record["inputs"]
