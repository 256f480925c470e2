"""Folders and archives as trainings leave them: which checkpoint is taken, and what errors say."""

import json
from pathlib import Path
import pickle
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file
import tensorflow as tf

from hubexport import convert
from hubexport.checkpoints.sources import resolve_source
from hubexport.errors import CheckpointError
from hubexport.progress import Progress
from tests.archives import member, tgz
from tests.checkpoints import network_values, write_v1, write_v2
from tests.command import hubexport
from tests.foreign import write_frozen_saved_model

_ONE = {"x": np.zeros([2], np.float32)}


def _error(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        with resolve_source(path, None, Progress()).opened(None, Progress()):
            pass
    return caught.value


def _chosen(path: Path) -> Path:
    return resolve_source(path, None, Progress()).files.prefix


def _pack(folder: Path, archive: Path) -> Path:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    archive.write_bytes(tgz(*(member(f"./{path.relative_to(folder.parent)}", path.read_bytes()) for path in files)))
    return archive


@pytest.fixture
def training(tmp_path):
    """A training's folder with two checkpoints, whose steps sort otherwise as text, and other files."""
    folder = tmp_path / "training"
    folder.mkdir()
    for step in (500, 1000):
        write_v2(folder / f"model.ckpt-{step}", _ONE)
        (folder / f"model.ckpt-{step}.meta").write_bytes(b"\x0a\x02\x12\x00")
    (folder / "graph.pbtxt").write_text("node {\n}\n")
    return folder


@pytest.mark.parametrize(
    "state",
    [
        pytest.param('model_checkpoint_path: "model.ckpt-500"\n', id="relative"),
        pytest.param("model_checkpoint_path: 'model.ckpt-500'\n", id="single quotes"),
        pytest.param('model_checkpoint_path: "/of/another/machine/model.ckpt-500"\n', id="moved"),
        pytest.param('model_checkpoint_path: "C:\\\\runs\\\\model.ckpt-500"\n', id="from Windows"),
        pytest.param('# by hand\nmodel_checkpoint_path: "model\\056ckpt" "-\\x35\\u0030\\060"', id="escapes"),
        pytest.param('a_field_of_tomorrow: 1\nmodel_checkpoint_path: "model.ckpt-500"', id="unknown field"),
    ],
)
def test_the_state_file_tells_the_latest(training, state):
    """Here it is not the one with the most steps: a training may go back to an earlier one."""
    (training / "checkpoint").write_text(state)
    assert _chosen(training) == training / "model.ckpt-500"


def test_another_checkpoint_does_not_stand_in_for_the_latest(training):
    """Even if it is the only one that is there."""
    (training / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1000"\n')
    for path in training.glob("model.ckpt-1000.index"):
        path.unlink()
    error = _error(training)
    assert error.what == f"the latest checkpoint in {training} is not there"
    assert "model.ckpt-1000" in error.why and error.fix.endswith(f"or use {training}/model.ckpt-500")


def test_the_state_file_of_a_saver(tmp_path):
    """TensorFlow 1 writes it; the folder is moved afterwards. A name with a quote and an accent is escaped."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("x", [2])
        session.run(v1.global_variables_initializer())
        saver = v1.train.Saver(save_relative_paths=False)
        (tmp_path / "there").mkdir()
        for step in (9, 10):
            saver.save(session, str(tmp_path / "there" / "mod'è\"le"), step)
    shutil.move(tmp_path / "there", tmp_path / "here")
    assert "\\" in (tmp_path / "here" / "checkpoint").read_text()
    assert _chosen(tmp_path / "here") == tmp_path / "here" / "mod'è\"le-10"


def test_the_state_file_of_a_checkpoint_manager(tmp_path):
    """TensorFlow 2 writes it."""
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(x=tf.Variable(1.0)), tmp_path, max_to_keep=3)
    for _ in range(11):
        manager.save()
    assert len(list(tmp_path.glob("*.index"))) == 3
    assert _chosen(tmp_path) == Path(manager.latest_checkpoint)


def test_the_state_file_of_v1_checkpoints(tmp_path):
    """Each is one file."""
    for step in (1, 2):
        write_v1(tmp_path / f"model.ckpt-{step}", _ONE)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1"\n')
    source = resolve_source(tmp_path, None, Progress())
    assert (source.files.prefix.name, source.files.container) == ("model.ckpt-1", "V1")


def test_a_latest_checkpoint_that_is_not_there(training):
    """None is taken in its place. The fix names the one with the most steps, and works."""
    (training / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-1500"\n')
    error = _error(training)
    assert error.what == f"{training} does not hold exactly one checkpoint"
    assert error.why == (
        "it holds 2: model.ckpt-500, model.ckpt-1000; the latest is model.ckpt-1500, which is not there"
    )
    assert error.fix == f"use one of them, like {training / 'model.ckpt-1000'}"
    assert _chosen(training / "model.ckpt-1000") == training / "model.ckpt-1000"


@pytest.mark.parametrize(
    "state", [b"", b"\xff\xfe", b"model_checkpoint_path: 7", b"model_checkpoint_path: ''", b"{" * 9999]
)
def test_a_damaged_state_file_tells_nothing(training, state):
    """As if it were not there."""
    (training / "checkpoint").write_bytes(state)
    assert _error(training).why == "it holds 2: model.ckpt-500, model.ckpt-1000"


def test_the_only_checkpoint_needs_no_state_file(training):
    """Nor does it matter if that is far too large to be one."""
    for path in training.glob("model.ckpt-1000*"):
        path.unlink()
    assert _chosen(training) == training / "model.ckpt-500"
    with (training / "checkpoint").open("ab") as file:
        file.truncate(17 << 20)
    assert _chosen(training) == training / "model.ckpt-500"


def test_a_long_list_is_cut(training):
    """Five, in the order of their steps, and a count."""
    for step in (1, 2, 30, 4, 10000):
        write_v2(training / f"model.ckpt-{step}", _ONE)
    error = _error(training)
    assert error.why == (
        "it holds 7: model.ckpt-1, model.ckpt-2, model.ckpt-4, model.ckpt-30, model.ckpt-500 and 2 more"
    )
    assert error.fix.endswith("model.ckpt-10000")


def test_the_state_file_is_not_the_folder(training):
    """Nor are the graphs in it. The fix works."""
    (training / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-500"\n')
    assert _error(training / "checkpoint").fix == f"use the folder, {training}"
    assert _error(training / "model.ckpt-500.meta").fix == f"use {training / 'model.ckpt-500'}"
    assert "it holds no values" in _error(training / "graph.pbtxt").why


def _save_for_hugging_face(folder: Path, tmp_path: Path) -> None:
    write_v2(tmp_path / "source", network_values())
    convert(tmp_path / "source", folder, "huggingface")
    for name in ("optimizer.pt", "rng_state.pth", "scheduler.pt", "training_args.bin"):
        (folder / name).write_bytes(pickle.dumps({}))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 500}))


@pytest.fixture
def trainer(tmp_path):
    """The folder of a Hugging Face Trainer that was stopped."""
    folder = tmp_path / "trainer"
    folder.mkdir()
    _save_for_hugging_face(folder / "checkpoint-500", tmp_path)
    shutil.copytree(folder / "checkpoint-500", folder / "checkpoint-1000")
    (folder / "runs").mkdir()
    return folder


def test_a_trainers_folder_without_a_final_model(trainer):
    """The fix names the newest of its checkpoints, and works; the Trainer's other files do not matter."""
    error = _error(trainer)
    assert error.what == f"{trainer} holds no checkpoint"
    assert error.why == "2 of its folders do: checkpoint-500, checkpoint-1000"
    assert error.fix == f"use {trainer / 'checkpoint-1000'}"
    done = hubexport("inspect", trainer / "checkpoint-1000")
    assert done.returncode == 0 and "mobilenet_v2, depth multiplier 0.35" in done.stdout


def test_a_trainers_folder_with_a_final_model(trainer):
    """That is at the top."""
    for path in (trainer / "checkpoint-500").iterdir():
        shutil.copy(path, trainer)
    source = resolve_source(trainer, None, Progress())
    assert source.paths == (trainer / "model.safetensors",)


@pytest.mark.parametrize("at", ["", "checkpoint-1000"])
def test_weights_in_a_pickle(trainer, at):
    """The newest of several is named, never an optimizer; the fix is one for transformers."""
    for folder in (trainer, trainer / "checkpoint-500", trainer / "checkpoint-1000"):
        for path in folder.glob("model.safetensors"):
            path.unlink()
        if folder != trainer or not at:
            (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
            (folder / "config.json").write_text("{}")
    error = _error(trainer)
    assert error.what == f"{trainer} holds no checkpoint"
    assert error.why.startswith(f"{Path(at, 'pytorch_model.bin')} is a Python pickle: ")
    assert "save_pretrained" in error.fix
    assert _error(trainer / "checkpoint-500" / "pytorch_model.bin").fix == error.fix


def test_weights_that_git_did_not_fetch(tmp_path):
    """A clone without Git LFS has a pointer in their place."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 14000000\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        assert _error(path).why.startswith("it is a pointer of Git LFS")


def test_a_folder_with_one_file_of_weights(tmp_path):
    """Whatever it is called. Of two, the error names one, and that works."""
    save_file(network_values(), tmp_path / "b.safetensors")
    (tmp_path / "history.json").write_text("{}")
    assert _chosen(tmp_path) == tmp_path / "b.safetensors"
    shutil.copy(tmp_path / "b.safetensors", tmp_path / "a.safetensors")
    error = _error(tmp_path)
    assert error.why == "it holds 2: a.safetensors, b.safetensors"
    assert error.fix == f"use one of them, like {tmp_path / 'b.safetensors'}"
    assert _chosen(tmp_path / "b.safetensors") == tmp_path / "b.safetensors"


def test_checkpoints_go_before_other_files_of_weights(training):
    """A folder was never ambiguous because of other files."""
    save_file(_ONE, training / "export.safetensors")
    for path in training.glob("model.ckpt-1000*"):
        path.unlink()
    assert _chosen(training) == training / "model.ckpt-500"


def test_a_folder_with_nothing_of_use(tmp_path):
    """The error lists what is there."""
    (tmp_path / "notes.txt").write_text("x")
    assert _error(tmp_path).why == "it has no files of one: notes.txt"
    (tmp_path / "notes.txt").unlink()
    assert _error(tmp_path).why == "there are no files in it"


def test_a_folder_of_exports(tmp_path):
    """TensorFlow Serving numbers them. The fix works as far as the module does."""
    for number in (9, 10):
        write_frozen_saved_model(tmp_path / str(number))
        write_v2(tmp_path / str(number) / "variables" / "variables", _ONE)
    error = _error(tmp_path)
    assert (error.why, error.fix) == ("2 of its folders do: 9, 10", f"use {tmp_path / '10'}")
    assert _chosen(tmp_path / "10") == tmp_path / "10" / "variables" / "variables"


def test_a_folder_of_frozen_exports(tmp_path):
    """None is recommended, since none has values."""
    write_frozen_saved_model(tmp_path / "saved_model")
    (tmp_path / "frozen_inference_graph.pb").write_bytes(b"\x0a\x07\x0a\x01x\x12\x02Op")
    assert _error(tmp_path).why.startswith("frozen_inference_graph.pb is a frozen graph")


def test_a_file_beside_a_checkpoint_with_the_name_of_its_prefix(tmp_path):
    """It is not taken for the checkpoint if it is none."""
    write_v2(tmp_path / "model", _ONE)
    (tmp_path / "model").write_bytes(pickle.dumps({}))
    source = resolve_source(tmp_path, None, Progress())
    assert (source.files.prefix, source.files.container) == (tmp_path / "model", "V2")


@pytest.fixture
def zoo(tmp_path):
    """A folder as the detection model zoo packs them, here with values in the SavedModel too."""
    folder = tmp_path / "ssd_mobilenet_v2"
    write_frozen_saved_model(folder / "saved_model")
    write_v2(folder / "saved_model" / "variables" / "variables", _ONE)
    write_v2(folder / "model.ckpt", {f"FeatureExtractor/{name}": one for name, one in network_values().items()})
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\n')
    (folder / "frozen_inference_graph.pb").write_bytes(b"\x0a\x04\x0a\x02ab")
    (folder / "pipeline.config").write_text("model {\n}\n")
    return folder


@pytest.mark.parametrize("command", ["inspect", "convert", "build"])
def test_an_archive_with_a_checkpoint_and_a_module(zoo, tmp_path, config_dir, command):
    """The error tells both from each other by their folders. The fix works."""
    archive = _pack(zoo, tmp_path / "zoo.tar.gz")
    arguments = {
        "inspect": lambda source: ["inspect", source],
        "convert": lambda source: ["convert", source, tmp_path / "c.ckpt", "--to", "slim"],
        "build": lambda source: [
            *("build", "--variant", "small", "--config-dir", config_dir, "--checkpoint", source),
            *("--module", "feature_vector/3", "--output-dir", tmp_path / "modules"),
        ],
    }[command]
    done = hubexport(*arguments(archive))
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith(("ERROR", "  "))]
    assert lines[:2] == [
        f"ERROR {archive} does not hold exactly one checkpoint",
        "  why: it holds 2: ssd_mobilenet_v2/model.ckpt, ssd_mobilenet_v2/saved_model/variables/variables",
    ]
    assert lines[2].startswith(
        "  fix: unpack it, and use the prefix of one, like DIRECTORY/ssd_mobilenet_v2/model.ckpt"
    )
    assert not (tmp_path / "modules").exists() and not list(tmp_path.glob("c.ckpt*"))
    assert hubexport(*arguments(zoo / "model.ckpt")).returncode == 0


def test_the_fix_names_a_checkpoint_rather_than_a_module(zoo, tmp_path):
    """Even if the module comes first."""
    (zoo / "saved_model").rename(zoo / "export")
    error = _error(_pack(zoo, tmp_path / "zoo.tar.gz"))
    assert error.why.startswith("it holds 2: ssd_mobilenet_v2/export/variables/variables, ")
    assert error.fix.endswith("like DIRECTORY/ssd_mobilenet_v2/model.ckpt")


def test_an_archive_with_a_checkpoint_and_a_frozen_module(zoo, tmp_path):
    """As the detection zoo has them: only one holds values, and it is not part of the module."""
    for path in (zoo / "saved_model" / "variables").iterdir():
        path.unlink()
    archive = _pack(zoo, tmp_path / "zoo.tar.gz")
    done = hubexport("inspect", archive)
    assert done.returncode == 0, done.stderr
    assert "V2 checkpoint, in a gzipped tar" in done.stdout
    with resolve_source(archive, None, Progress()).opened(None, Progress()) as (files, _):
        assert not files.in_module


def test_a_packed_training(training, tmp_path):
    """Its state file counts as well."""
    (training / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/model.ckpt-500"\n')
    archive = _pack(training, tmp_path / "training.tar.gz")
    with resolve_source(archive, None, Progress()).opened(None, Progress()) as (files, _):
        assert files.prefix.name == "model.ckpt-500"
    (training / "checkpoint").unlink()
    error = _error(_pack(training, archive))
    assert error.why == "it holds 2: training/model.ckpt-500, training/model.ckpt-1000"


def test_packed_files_of_other_frameworks(trainer, tmp_path):
    """They have to be unpacked. The fix works."""
    archive = _pack(trainer / "checkpoint-500", tmp_path / "packed.tgz")
    error = _error(archive)
    assert error.what == f"{archive} holds no checkpoint"
    assert error.fix == "unpack it, and use DIRECTORY/checkpoint-500"
    assert _chosen(trainer / "checkpoint-500") == trainer / "checkpoint-500"
