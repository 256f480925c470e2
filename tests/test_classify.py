"""`hubexport classify`: its results for photographs, and its errors."""

import argparse
import csv
import io
import json
import math
from pathlib import Path
import shutil
import subprocess
import sys

from PIL import Image
import numpy as np
import pytest

from hubexport import ModuleSpec, build_modules
from hubexport.cli import classify as command
from hubexport.cli.progress_display import shown_progress
from hubexport.config_files import load_variant
from hubexport.errors import ImageError, ModuleError, UsageError
from hubexport.images.classification import classify, softmax
from hubexport.labels import module_labels, read_labels
from tests.command import environment
from tests.data import DATA, REAL_ARCHIVE, needs_data
from tests.open_interface import OpenInterface

_NAMES = [f"name {number}" for number in range(1001)]


def _built(folder, variant, checkpoint, *modules):
    specs = [ModuleSpec.parse(module) for module in modules]
    paths = build_modules(load_variant(variant), specs, checkpoint=str(checkpoint), output_dir=folder)
    return dict(zip(modules, paths, strict=True))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """Modules with the real weights."""
    folder = tmp_path_factory.mktemp("trained")
    return _built(folder, "mobilenet_v2_100_224", REAL_ARCHIVE, "classification/3", "classification/5")


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> dict[str, Path]:
    """Modules with made-up weights. The classification module has labels."""
    modules = ("classification/3", "feature_vector/3", "feature_vector/5")
    built = _built(tmp_path_factory.mktemp("untrained"), "mobilenet_v2_035_96", "synthetic:1", *modules)
    (built["classification/3"] / "assets" / "labels.txt").write_text("\n".join(_NAMES) + "\n")
    return built


def _run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


class _Counting:
    """A module of three classes, with given logits for each image intensity."""

    interface = OpenInterface(
        path=Path("nowhere"),
        shown_as="counting",
        image_shape=(2, 2, 3),
        input_range=(0, 1),
        output_shape=(3,),
        output_kind="logits",
    )

    engine = "a table"

    def __init__(self, *logits):
        self._logits = np.array(logits, np.float32)

    def run(self, images, outputs=("default",)):
        return {"default": self._logits[np.round(images[:, 0, 0, 0] * 255).astype(int)]}


def _images(folder, count):
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.new("L", (3, 3), number).save(path)
    return paths


def _classified(module, images, **options):
    return list(classify(module, images, unreadable=pytest.fail, **options))


@needs_data
@pytest.mark.parametrize("module", ["classification/3", "classification/5"])
def test_photographs_get_their_published_classes(trained, module, capsys):
    """All eight photographs, to the published digits, in both module formats, with batches that are not full.

    The names of the classes are the module's own.
    """
    images = DATA / "images"
    assert _run(trained[module], images, "--top", 3, "--batch-size", 3, "--format", "json") == 0
    printed = capsys.readouterr()
    found = {Path(image["file"]).name: image["top"] for image in json.loads(printed.out)["images"]}
    expected = json.loads((images / "expected_top3.json").read_text())
    assert found.keys() == expected.keys()
    for name, top3 in expected.items():
        assert [(one["index"], one["label"]) for one in found[name]] == [(index, label) for index, label, _ in top3]
        # Published to four digits. One of the 24 is so close to the middle that float32 can round it up or down.
        probabilities = [one["probability"] for one in found[name]]
        np.testing.assert_allclose(probabilities, [one for _, _, one in top3], rtol=0, atol=0.5e-4 + 1e-6)
    assert "each whole image is resized to 224 x 224 pixels (bilinear, aspect ratio not kept)" in printed.err


def test_labels_come_from_the_module(untrained, tmp_path, capsys):
    """Unless --labels names a file."""
    [image] = _images(tmp_path, 1)
    (tmp_path / "labels.txt").write_text("\n".join(name.upper() for name in _NAMES))
    for options, word in [((), "name"), (("--labels", tmp_path / "labels.txt"), "NAME")]:
        _run(untrained["classification/3"], image, "--top", 2, *options)
        path, *lines = capsys.readouterr().out.splitlines()
        assert path == str(image) and len(lines) == 2
        for line in lines:
            _, index, label = line.split(maxsplit=2)
            assert label == f"{word} {index}"


@pytest.mark.parametrize(
    ("module", "manifest"),
    [
        ("feature_vector/3", False),
        ("feature_vector/5", True),
        pytest.param("feature_vector/3", True, marks=pytest.mark.slow),
        pytest.param("feature_vector/5", False, marks=pytest.mark.slow),
    ],
)
def test_feature_vectors_are_not_taken_for_logits(untrained, tmp_path, capsys, module, manifest):
    """Even if another program made the module, without a manifest."""
    copied = shutil.copytree(untrained[module], tmp_path / "m")
    if not manifest:
        (copied / "hubexport.json").unlink()
    with pytest.raises(ModuleError) as raised:
        _run(copied, *_images(tmp_path, 1))
    assert raised.value.fix == "use a classification module, or run `hubexport features`"
    assert "starting TensorFlow" not in capsys.readouterr().err, "which takes seconds"


def test_the_classification_module_of_the_same_network_is_named(untrained, tmp_path, capsys):
    """If it is beside the feature vector module."""
    with pytest.raises(ModuleError) as raised:
        _run(untrained["feature_vector/3"], *_images(tmp_path, 1))
    assert raised.value.fix == f"use {untrained['classification/3']}, or run `hubexport features`"
    assert "starting TensorFlow" not in capsys.readouterr().err


def test_labels_that_do_not_fit_are_refused_before_tensorflow_starts(untrained, tmp_path, capsys):
    """The files of a module tell how many classes it has."""
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    with pytest.raises(UsageError, match="the labels do not match"):
        _run(untrained["classification/3"], *_images(tmp_path, 1), "--labels", tmp_path / "labels.txt")
    assert "starting TensorFlow" not in capsys.readouterr().err


def test_a_module_without_manifest_classifies(untrained, tmp_path, capsys):
    """Its signatures give its kind."""
    copied = shutil.copytree(untrained["classification/3"], tmp_path / "m")
    [image] = _images(tmp_path, 1)
    printed = []
    for module in (untrained["classification/3"], copied):
        (copied / "hubexport.json").unlink(missing_ok=True)
        assert _run(module, image) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


@pytest.mark.parametrize("count", [2, 4])
def test_labels_of_other_classes_are_refused(tmp_path, count):
    """Too few or too many, before an image is read."""
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(UsageError) as raised:
        classify(_Counting(), [tmp_path / "bad.jpg"], labels=["x"] * count, unreadable=pytest.fail)
    assert raised.value.why == f"there are {count} labels for 3 classes"


def test_probabilities_are_exact():
    """Even for logits whose exponentials overflow or underflow."""
    logits = np.array([[1000, 999, 0], [-1000, -1001, -1002], [0.5, 0.25, -3]], np.float32)
    for row, found in zip(logits.tolist(), softmax(logits), strict=True):
        wanted = [1 / math.fsum(math.exp(min(other - one, 700)) for other in row) for one in row]
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-300)


def test_the_most_probable_classes_come_first(tmp_path):
    """Equal classes keep their order, and `top` may exceed the number of classes."""
    images = _images(tmp_path, 2)
    found = _classified(_Counting([1, 3, 2], [5, 5, 6]), images, labels=["a", "b", "c"], top=9)
    assert [one.path for one in found] == images
    assert [[score.label for score in one.top] for one in found] == [["b", "c", "a"], ["c", "a", "b"]]
    assert [score.index for score in found[0].top] == [1, 2, 0]
    [equal] = _classified(_Counting([0.5] * 100), images[:1], top=100)
    assert [score.index for score in equal.top] == list(range(100))
    first = _classified(_Counting([1, 3, 2], [5, 5, 6]), images, top=1)
    assert [[(score.index, score.label) for score in one.top] for one in first] == [[(1, None)], [(2, None)]]


def test_images_that_cannot_be_read_are_skipped_and_counted(untrained, tmp_path, capsys):
    """Each gets one line, with unprintable characters escaped. The others are classified."""
    _images(tmp_path, 2)
    (tmp_path / "bad\x1b[31m.png").write_bytes(b"no image")
    assert _run(untrained["classification/3"], tmp_path, "--format", "json") == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert [Path(image["file"]).name for image in found["images"]] == ["0.png", "1.png"]
    [skipped] = found["skipped"]
    assert skipped["file"] == str(tmp_path / "bad\x1b[31m.png")
    skips = [line for line in printed.err.splitlines() if line.startswith("WARNING")]
    assert skips == [
        rf"WARNING skipped {tmp_path}/bad\x1b[31m.png: {skipped['why']}",
        "WARNING 1 of 3 images skipped",
    ]


def test_only_unreadable_images_are_an_error(untrained, tmp_path):
    """Instead of success without results."""
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="no image can be read"):
        _run(untrained["classification/3"], tmp_path)


def test_csv_has_a_row_for_each_class_of_each_image(untrained, tmp_path, capsys):
    """Names are quoted where necessary."""
    (tmp_path / "a,b").mkdir()
    images = _images(tmp_path / "a,b", 2)
    _run(untrained["classification/3"], tmp_path, "--format", "csv", "--top", 2)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["file"], row["rank"]) for row in rows] == [(str(one), rank) for one in images for rank in "12"]
    for row in rows:
        assert row["label"] == f"name {row['index']}" and 0 < float(row["probability"]) < 1


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        ("\ufeffä\n\u2028\n".encode(), ["ä", "\u2028"]),
        (b"a\n\nb\n", ["a", "", "b"]),
    ],
)
def test_labels_are_the_lines_of_a_file(tmp_path, content, labels):
    """With any line ending."""
    (tmp_path / "labels.txt").write_bytes(content)
    assert read_labels(tmp_path / "labels.txt") == labels


def test_labels_that_cannot_be_read_are_refused(tmp_path):
    """If the file is missing or in another encoding. A module does not need labels."""
    (tmp_path / "labels.txt").write_bytes(b"a\nb\xe4r\n")
    for name, why in [("missing.txt", "No such file"), ("labels.txt", "byte 3 is not UTF-8")]:
        with pytest.raises(UsageError) as raised:
            read_labels(tmp_path / name)
        assert why in raised.value.why
    assert module_labels(tmp_path) is None


def test_results_go_to_stdout_while_a_terminal_shows_progress(monkeypatch, capsys):
    """Although rich would redirect them to stderr."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with shown_progress() as progress:
        progress.step("classifying")
        progress.count(1, 2)
        progress.note("labels: [:cat:]")
        progress.result("cat.jpg")
        progress.count(2, 2)
    printed = capsys.readouterr()
    assert printed.out == "cat.jpg\n"
    assert "classifying  2 of 2" in printed.err
    assert "labels: [:cat:]\n" in printed.err


def test_errors_in_arguments_start_no_tensorflow(tmp_path):
    """The error comes at once."""
    program = (
        "import argparse, sys\n"
        "from hubexport.cli import classify\n"
        "from hubexport.errors import HubexportError\n"
        "parser = argparse.ArgumentParser()\n"
        "classify.add_arguments(parser)\n"
        "try:\n"
        "    classify.run(parser.parse_args(['m', sys.argv[1]]))\n"
        "except HubexportError as error:\n"
        "    print(error.what, sorted({'tensorflow', 'numpy', 'PIL', 'requests'} & set(sys.modules)))\n"
    )
    for image, printed in [("missing.jpg", f"cannot find {tmp_path}/missing.jpg []"), ("0.png", "m is not a module")]:
        _images(tmp_path, 1)
        done = subprocess.run(
            [sys.executable, "-c", program, tmp_path / image], env=environment(), capture_output=True, text=True
        )
        assert done.stdout.startswith(printed) and "tensorflow" not in done.stdout
