"""`hubexport evaluate`: accuracies compared with TensorFlow's own preprocessing, and interrupted evaluations."""

import io
import json
import shutil
import signal
import subprocess

from PIL import Image
import numpy as np
import pytest
import tensorflow as tf

from hubexport import extras
from hubexport.build import build_modules
from hubexport.config_files import load_variant
from hubexport.errors import DataError, ModuleError, UsageError
from hubexport.evaluation.accuracy_counts import AccuracyCounts
from hubexport.evaluation.evaluation_result import Evaluation
from hubexport.runtime.image_module import opened_image_module
from hubexport.variants import ModuleSpec
from tests.command import command, environment, hubexport
from tests.data import DATA, REAL_ARCHIVE, needs_data
from tests.evaluation import run_evaluate, write_records

# The rank of each image's right class: 0 is the best one.
_RANKS = [0, 0, 3, 4, 5, 7, 0, 2, 900, 1, 0, 6]


def _build(folder, variant, *modules, checkpoint="synthetic"):
    specs = [ModuleSpec.parse(module) for module in modules]
    return build_modules(load_variant(variant), specs, checkpoint=str(checkpoint), output_dir=folder)


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Classification modules of both formats and a feature vector module, with made-up weights."""
    names = ["classification/3", "classification/5", "feature_vector/5"]
    return dict(zip(names, _build(tmp_path_factory.mktemp("modules"), "mobilenet_v2_035_96", *names)))


def _as_tf_slim(encoded, size):
    """Prepares an image as TF-Slim's evaluation does, without the step from [0, 1] to [-1, 1]."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image = tf.image.central_crop(tf.image.convert_image_dtype(image, tf.float32), 0.875)
    return tf.compat.v1.image.resize_bilinear(image[tf.newaxis], [size, size])[0].numpy()


def _logits(module, files, size):
    images = np.stack([_as_tf_slim(encoded, size) for encoded in files])
    with opened_image_module(module) as opened:
        return opened.run(images)["default"]


@pytest.fixture(scope="module")
def pictures():
    """PNG files, which all decoders read alike."""
    random, files = np.random.default_rng(0), []
    for height, width in [(100, 131), (97, 64), (203, 150)] * 4:
        coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(file, "png")
        files.append(file.getvalue())
    return files


@pytest.fixture(scope="module")
def labels(modules, pictures):
    """The right class of each picture: the module gives it the rank that `_RANKS` says."""
    order = np.argsort(-_logits(modules["classification/3"], pictures, 96), axis=1)
    return [int(row[rank]) for row, rank in zip(order, _RANKS)]


@pytest.fixture(scope="module")
def records(tmp_path_factory, pictures, labels):
    """Two shards. The first one also has a record that is not an image."""
    folder = tmp_path_factory.mktemp("records")
    write_records(folder / "val-00000-of-00002", [*zip(pictures[:5], labels[:5]), (b"no picture", 1)])
    write_records(folder / "val-00001-of-00002", zip(pictures[5:], labels[5:]))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory, pictures, labels):
    """The same images in a folder for each class."""
    root = tmp_path_factory.mktemp("folders")
    for number, (picture, label) in enumerate(zip(pictures, labels)):
        (root / str(label)).mkdir(exist_ok=True)
        (root / str(label) / f"{number}.png").write_bytes(picture)
    (root / str(labels[0]) / "none.jpg").write_bytes(b"no picture")
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder for each test."""
    monkeypatch.setenv("HUBEXPORT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "evaluations"


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        ("classification/3", "records"),
        ("classification/5", "folders"),
        pytest.param("classification/3", "folders", marks=pytest.mark.prove),
        pytest.param("classification/5", "records", marks=pytest.mark.prove),
    ],
)
@pytest.mark.slow
def test_made_up_accuracies_are_found(capsys, modules, module, kind, records, folders, cache):
    """With both module formats and both kinds of data. Unreadable images do not count, but are listed."""
    data = {"records": records, "folders": folders}[kind]
    found, said = run_evaluate(capsys, modules[module], "--data", data)
    assert (found["images"], found["top1"]["right"], found["top5"]["right"]) == (12, 4, 8)
    assert found["top1"]["percent"] == pytest.approx(100 / 3)
    assert found["top1"]["standard_error"] == pytest.approx(100 * (1 / 3 * 2 / 3 / 12) ** 0.5)
    # Made-up weights have no published accuracy.
    assert found["top1"]["published_percent"] is found["top1"]["difference"] is None
    assert found["images_now"] == 13
    [skipped] = found["skipped"]
    assert skipped.startswith(str(data))
    assert skipped.endswith(": it is not a JPEG, PNG, BMP, GIF or WebP file, or its first bytes are damaged")
    assert f"WARNING skipped {skipped}" in said.splitlines()
    assert not list(cache.iterdir()), "the results stay behind"


def test_a_batch_may_be_of_any_size(capsys, modules, records):
    """Smaller than a shard, so that the last batch is smaller still."""
    found, _ = run_evaluate(capsys, modules["classification/3"], "--data", records, "--batch-size", "4")
    assert (found["images"], found["top1"]["right"], found["top5"]["right"]) == (12, 4, 8)


@pytest.fixture(scope="module")
def real_modules(tmp_path_factory):
    """Modules with the real weights, in both formats."""
    folder = tmp_path_factory.mktemp("real")
    return _build(folder, "mobilenet_v2_100_224", "classification/3", "classification/5", checkpoint=REAL_ARCHIVE)


@needs_data
@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_photographs_are_counted_as_by_tensorflow(capsys, real_modules, number, tmp_path):
    """TensorFlow decodes, crops and resizes them. Half of them are in the folder of the second best class."""
    photographs = sorted((DATA / "images").glob("*.jpg"))
    logits = _logits(real_modules[0], [path.read_bytes() for path in photographs], 224)
    order = np.argsort(-logits, axis=1)
    names = (DATA / "imagenet_labels.txt").read_text().splitlines()
    for index, path in enumerate(photographs):
        folder = tmp_path / "data" / names[order[index, index % 2]]
        folder.mkdir(parents=True)
        shutil.copy(path, folder)
    arguments = ("--data", tmp_path / "data", "--labels", DATA / "imagenet_labels.txt")
    found, _ = run_evaluate(capsys, real_modules[number], *arguments)
    assert (found["images"], found["top1"]["right"], found["top5"]["right"]) == (8, 4, 8)
    assert found["values"] == "trained, averaged"
    assert (found["top1"]["published_percent"], found["top5"]["published_percent"]) == (71.8, 91.0)
    assert found["top1"]["difference"] == pytest.approx(50 - 71.8)


@needs_data
def test_the_table_puts_the_published_accuracy_beside_the_measured_one(real_modules, tmp_path):
    """Only the table is on stdout. Progress is on stderr."""
    expected = json.loads((DATA / "images" / "expected_top3.json").read_text())
    for name, [[label, *_], *_] in expected.items():
        (tmp_path / "data" / str(label)).mkdir(parents=True)
        shutil.copy(DATA / "images" / name, tmp_path / "data" / str(label))
    done = hubexport("evaluate", real_modules[0], "--data", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:6] == [
        str(real_modules[0]),
        f"  data            {tmp_path / 'data'}",
        "  images          8",
        "  preprocessing   central crop 0.875, bilinear as in TensorFlow 1",
        f"  engine          TensorFlow {tf.__version__}",
        "  values          trained, averaged",
    ]
    assert lines[6].startswith("  speed           ")
    assert lines[7:] == [
        "",
        "          measured   standard error   published   difference",
        "  top 1   100.00 %                -      71.8 %       +28.20",
        "  top 5   100.00 %                -      91.0 %        +9.00",
    ]
    assert "8 of 8 images, " in done.stderr


def _many(folder, pictures):
    """Writes enough small records to interrupt an evaluation."""
    write_records(folder / "many", [(pictures[1], label % 1000) for label in range(1500)])
    return folder / "many"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.prove)]
)
@pytest.mark.faults
def test_an_interrupted_evaluation_goes_on(capsys, modules, pictures, tmp_path, number, status, cache):
    """The second run does only the rest, and the figures equal those of an uninterrupted evaluation."""
    arguments = (modules["classification/3"], "--data", _many(tmp_path, pictures), "--format", "json")
    child = subprocess.Popen(
        command("evaluate", *arguments), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in child.stderr:
        if line.startswith("256 of 1,500 images"):
            child.send_signal(number)
            break
    output, said = child.communicate(timeout=60)
    assert (child.returncode, output) == (status, ""), said
    assert "Traceback" not in said
    found, said = run_evaluate(capsys, *arguments[:-2])
    [resumed] = [line for line in said.splitlines() if line.startswith("resuming")]
    done = 1500 - found["images_now"]
    assert 256 <= done < 1500
    assert resumed == f"resuming: {done:,} of 1,500 images are done, {found['images_now']:,} are left"
    assert not list(cache.iterdir()), "the results stay behind"
    whole, said = run_evaluate(capsys, *arguments[:-2])
    assert "resuming" not in said
    assert whole["images_now"] == 1500
    of_this_run = ("images_now", "seconds", "images_per_second")
    assert {key: found[key] for key in found if key not in of_this_run} == {
        key: whole[key] for key in whole if key not in of_this_run
    }


def test_a_module_of_feature_vectors_is_an_error(capsys, modules, records):
    """The error says what to use."""
    with pytest.raises(
        ModuleError, match=f"cannot classify with {modules['feature_vector/5']}\n  why: it outputs feature"
    ):
        run_evaluate(capsys, modules["feature_vector/5"], "--data", records)


def test_labels_that_do_not_fit_are_an_error(capsys, modules, tmp_path, pictures):
    """The error suggests --labels-offset."""
    write_records(tmp_path / "one", [(pictures[0], 1001)])
    with pytest.raises(DataError) as caught:
        run_evaluate(capsys, modules["classification/3"], "--data", tmp_path / "one")
    assert str(caught.value).splitlines() == [
        f"the label of {tmp_path}/one: 0.JPEG does not fit the module",
        "  why: it is class 1001, but the module's 1,001 classes are 0 to 1000",
        "  fix: use --labels-offset 1 if the data numbers classes from 1 and the module has no background class, or "
        "--labels-offset -1 if the data numbers them from 0 and the module has one",
    ]
    found, _ = run_evaluate(capsys, modules["classification/3"], "--data", tmp_path / "one", "--labels-offset", "1")
    assert found["images"] == 1


def test_results_of_another_evaluation_are_not_mixed(capsys, modules, records, tmp_path):
    """With --state, for other data or another module."""
    state = tmp_path / "state"
    state.mkdir()
    (state / "evaluation.json").write_text('{"key": "another"}\n')
    with pytest.raises(UsageError, match=f"{state} holds the results of another evaluation"):
        run_evaluate(capsys, modules["classification/3"], "--data", records, "--state", state)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        pytest.param(["--data", "nowhere"], 1, "ERROR no labelled images in nowhere", id="no data"),
        pytest.param(
            ["--data", "x", "--batch-size", "0"],
            2,
            "--batch-size 0: not valid\n  why: it must be a whole number",
            id="batch",
        ),
        pytest.param(
            ["--data", "x", "--limit", "-1"], 2, "--limit -1: not valid\n  why: it must be a whole number", id="limit"
        ),
        pytest.param(["--data", "x", "--beam-option", "y"], 2, "ERROR --beam-option y needs --runner", id="no runner"),
        pytest.param([], 2, "no --data", id="nothing"),
    ],
)
def test_usage_errors_come_before_tensorflow(modules, arguments, status, message):
    """TensorFlow takes seconds to start."""
    done = hubexport("evaluate", modules["classification/3"], *arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert "starting TensorFlow" not in done.stderr


def test_without_beam_a_runner_is_an_error(modules, records, monkeypatch):
    """The error names the extra."""
    monkeypatch.setitem(extras._PACKAGES, "beam", ("no_such_beam",))
    done = hubexport("evaluate", modules["classification/3"], "--data", records, "--runner", "DirectRunner")
    assert done.stderr.splitlines() == [
        "ERROR hubexport evaluate needs the optional packages of [beam]",
        "  why: not installed: no_such_beam",
        f"  fix: run {extras.install_command(['beam'])}",
    ]


def test_an_accuracy_published_at_another_image_size_is_marked(monkeypatch):
    """ResNet V2's was measured at 299 pixels."""
    result = Evaluation(
        "m", "d", None, "whole", AccuracyCounts(4, 3, 4), load_variant("resnet_v2_50").published, 4, 1.0
    )
    monkeypatch.setattr("hubexport.evaluation.evaluate_module.evaluate", lambda *_, report, **__: report(result))
    lines = hubexport("evaluate", "m", "--data", "d").stdout.splitlines()
    assert lines[-1] == "  The published accuracy was measured on images of 299 x 299 pixels."
