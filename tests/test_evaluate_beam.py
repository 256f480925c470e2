"""Evaluations on Apache Beam, compared with local ones."""

import io
import re
import signal
import subprocess
import time

from PIL import Image
import numpy as np
import pytest

from hubexport.build import build_modules
from hubexport.config_files import load_variant
from hubexport.variants import ModuleSpec
from tests.command import command, environment
from tests.evaluation import run_evaluate, write_records

pytest.importorskip("apache_beam", reason="needs Apache Beam: pip install hubexport[beam]")

from hubexport.errors import DataError  # noqa: E402
from hubexport.errors import HubexportError, UsageError  # noqa: E402
from hubexport.evaluation.accuracy_counts import AccuracyCounts  # noqa: E402
from hubexport.evaluation.class_lookup import ClassLookup  # noqa: E402
from hubexport.evaluation.find_dataset import find_dataset  # noqa: E402
from hubexport.evaluation.measure_on_beam import add_up  # noqa: E402
from hubexport.progress import Progress  # noqa: E402

# The figures that interruptions must not change.
_FIGURES = ("images", "skipped", "top1", "top5")


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """A classification module with made-up weights."""
    spec = ModuleSpec.parse("classification/3")
    variant = load_variant("mobilenet_v2_035_96")
    [path] = build_modules(variant, [spec], checkpoint="synthetic", output_dir=tmp_path_factory.mktemp("modules"))
    return path


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Three shards of small images with random labels. One record is not an image."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("records")
    for shard in range(3):
        images = []
        for label in random.integers(0, 1001, 40).tolist():
            file = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(file, "png")
            images.append((file.getvalue(), label))
        write_records(folder / f"val-{shard}", images if shard else [*images, (b"no picture", 0)])
    return folder


def _units(records):
    return find_dataset(str(records), ClassLookup(None, "", offset=0, first=0), None, Progress()).units


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder for each test."""
    monkeypatch.setenv("HUBEXPORT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "evaluations"


@pytest.mark.slow
def test_beam_finds_what_a_local_evaluation_finds(capsys, module, records, cache):
    """All figures and the skipped images are equal, and no files stay behind."""
    local, _ = run_evaluate(capsys, module, "--data", records)
    by_beam, said = run_evaluate(
        capsys, module, "--data", records, "--runner", "DirectRunner", "--beam-option", "direct_num_workers=1"
    )
    assert by_beam.pop("engine") is None and local.pop("engine").startswith("TensorFlow ")
    for found in (local, by_beam):
        del found["seconds"], found["images_per_second"]
    assert by_beam == local
    assert local["images"] == 120
    assert len(local["skipped"]) == 1
    assert f"WARNING skipped {local['skipped'][0]}" in said
    assert not list(cache.iterdir())


def test_beam_goes_on_where_another_evaluation_stopped(capsys, module, records, tmp_path):
    """Finished units are not evaluated again. Their kept counts are used."""
    state = tmp_path / "state"
    # The last record's label is invalid. This is found after the other shards are done and kept.
    folder = tmp_path / "records"
    folder.mkdir()
    for path in records.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    write_records(folder / "val-3", [(b"", 5000)])
    arguments = (module, "--data", folder, "--state", state, "--runner", "DirectRunner")
    with pytest.raises(DataError, match=f"the label of {folder}/val-3: 0.JPEG does not fit the module"):
        run_evaluate(capsys, *arguments)
    kept = sorted(path.name for path in state.iterdir())
    assert kept == ["evaluation.json", *(f"unit-00000{number}.json" for number in range(3))]
    capsys.readouterr()
    with pytest.raises(DataError):
        run_evaluate(capsys, *arguments)
    assert "resuming: 121 of 122 images are done, 1 are left" in capsys.readouterr().err


@pytest.mark.prove
def test_an_interrupted_evaluation_by_beam_goes_on(capsys, module, records, tmp_path):
    """Units that have begun are finished first."""
    state, data = tmp_path / "state", tmp_path / "many"
    images = [sample.source for unit in _units(records) for sample in unit.samples()]
    write_records(data, [(image, number % 1000) for number, image in enumerate(images * 10)])
    arguments = (module, "--data", data, "--state", state, "--runner", "DirectRunner")
    child = subprocess.Popen(command("evaluate", *arguments), env=environment(), stderr=subprocess.PIPE, text=True)
    while not list(state.glob("unit-*")) and child.poll() is None:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "Traceback" not in said
    found, said = run_evaluate(capsys, *arguments)
    assert "resuming" in said
    assert 256 <= found["images"] + len(found["skipped"]) - found["images_now"] < len(images) * 10
    local, _ = run_evaluate(capsys, module, "--data", data)
    assert [found[key] for key in _FIGURES] == [local[key] for key in _FIGURES]


def test_labels_are_checked_by_workers(capsys, module, records, tmp_path):
    """With too few labels, folder names would mean other classes."""
    (tmp_path / "data" / "tench").mkdir(parents=True)
    [unit, *_] = _units(records)
    (tmp_path / "data" / "tench" / "0.png").write_bytes(next(unit.samples()).source)
    (tmp_path / "labels.txt").write_text("tench\ngoldfish\n")
    arguments = ("--data", tmp_path / "data", "--labels", tmp_path / "labels.txt", "--runner", "DirectRunner")
    with pytest.raises(DataError, match="there are 2 labels for 1,001 classes"):
        run_evaluate(capsys, module, *arguments)


@pytest.mark.parametrize(
    ("arguments", "what", "why"),
    [
        pytest.param(["NoRunner"], "NoRunner", "Unexpected pipeline runner: NoRunner", id="runner"),
        pytest.param(
            ["DirectRunner", "--beam-option", "direct_num_workers=many"],
            "DirectRunner",
            "argument --direct_num_workers: invalid int value: 'many'",
            id="option",
        ),
    ],
)
def test_what_beam_does_not_understand_is_an_error(capsys, module, records, arguments, what, why):
    """The error has Beam's own message."""
    with pytest.raises(UsageError, match=re.escape(f"Apache Beam cannot start {what}\n  why: {why}")):
        run_evaluate(capsys, module, "--data", records, "--runner", *arguments)
    assert "usage:" not in capsys.readouterr().err


def test_the_first_error_wins_over_counts():
    """In whatever order a runner combines them."""
    one, other = (HubexportError(text, why="", fix="") for text in "ab")
    assert add_up([AccuracyCounts(1), AccuracyCounts(2)]) == AccuracyCounts(3)
    assert add_up([]) == AccuracyCounts()
    assert add_up([AccuracyCounts(1), other, add_up([one, AccuracyCounts(2)])]) is one
    assert add_up([add_up([AccuracyCounts(1), UsageError("0", why="", fix="")]), one]).what == "0"
