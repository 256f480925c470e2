"""`hubexport inspect` reports a problem, and exits with 1, if and only if TensorFlow cannot load the SavedModel."""

import json
from pathlib import Path
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from hubexport.modules.module_report import describe_module
from tests.checkpoints import write_v2
from tests.command import hubexport
from tests.foreign import write_hub_module, write_keras_model, write_tf2_saved_model

v1 = tf.compat.v1


def _variable(x, **options):
    return tf.matmul(x, v1.get_variable("w", [3, 2], **options))


# What TensorFlow 1's graphs compute from `x`, float32 [batch, 3].
_GRAPHS = {
    "trainable": _variable,
    "reference": lambda x: _variable(x, use_resource=False),
    "not trainable": lambda x: _variable(x, trainable=False),
    "local": lambda x: _variable(x, collections=[v1.GraphKeys.LOCAL_VARIABLES]),
    "whole numbers": lambda x: x + tf.cast(v1.get_variable("n", [], tf.int32), tf.float32),
    "no variables": lambda x: x * 2,
}


def _write_tf1(path, compute, *, signature=True, more=(), vocabulary=None):
    builder = v1.saved_model.Builder(str(path))
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        described = v1.saved_model.predict_signature_def({"x": x}, {"y": compute(x)})
        signatures = {"serving_default": described} if signature else None
        if vocabulary:
            v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, tf.constant(str(vocabulary)))
        assets = v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS)
        session.run(v1.global_variables_initializer())
        builder.add_meta_graph_and_variables(session, ["serve"], signatures, assets_collection=assets)
        for tags in more:
            builder.add_meta_graph(list(tags), signatures)
        builder.save()


class _Doubling(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def __call__(self, x):
        return x * 2


def _edited(path, edit):
    """Edits every MetaGraph of a SavedModel."""
    saved_model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    for meta_graph in saved_model.meta_graphs:
        edit(meta_graph)
    (path / "saved_model.pb").write_bytes(saved_model.SerializeToString())


def _only_an_init_op(meta_graph):
    meta_graph.collection_def.clear()
    meta_graph.signature_def.clear()
    meta_graph.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "init"


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Undamaged SavedModels, by name."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "words.txt").write_text("a\nb\n")
    for name, compute in _GRAPHS.items():
        _write_tf1(folder / name, compute)
    _write_tf1(folder / "no signature", _variable, signature=False)
    _write_tf1(folder / "several", _variable, more=[("train",), ("serve", "tpu")])
    _write_tf1(folder / "assets", _variable, vocabulary=folder / "words.txt")
    for name, edit in (("init only", _only_an_init_op), ("no collections", lambda one: one.collection_def.clear())):
        shutil.copytree(folder / "trainable", folder / name)
        _edited(folder / name, edit)
    write_tf2_saved_model(folder / "TF2")
    tf.saved_model.save(_Doubling(), str(folder / "TF2 without variables"))
    write_keras_model(folder / "Keras")
    if hasattr(tf.keras.Model, "export"):  # From 2.13 on.
        model = tf.keras.Sequential([tf.keras.layers.Input([3]), tf.keras.layers.Dense(2)])
        model.export(str(folder / "Keras export"))
    return {path.name: path for path in folder.iterdir() if path.is_dir()}


def _remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _damage_nothing(module):
    pass


def _remove_variables(module):
    _remove(module / "variables")


def _remove_index(module):
    _remove(module / "variables" / "variables.index")


def _remove_data(module):
    _remove(module / "variables" / "variables.data-00000-of-00001")


def _empty_variables(module):
    _remove_variables(module)
    (module / "variables").mkdir()


def _file_in_place_of_variables(module):
    _remove_variables(module)
    (module / "variables").write_text("x")


def _garbage_in_place_of_index(module):
    index = module / "variables" / "variables.index"
    if index.is_file():
        index.write_bytes(b"x" * 100)


def _cut_data(module):
    data = module / "variables" / "variables.data-00000-of-00001"
    if data.is_file():
        data.write_bytes(data.read_bytes()[:3])


_DAMAGES = [
    *(_damage_nothing, _remove_variables, _cut_data),
    *(_remove_index, _remove_data, _empty_variables, _file_in_place_of_variables, _garbage_in_place_of_index),
]


def _loads(module):
    try:
        tf.saved_model.load(str(module), tags=["serve"])
    # TensorFlow has many words for it.
    except Exception:  # noqa: BLE001
        return False
    return True


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(damage, id=damage.__name__.strip("_"), marks=[pytest.mark.prove] if number > 2 else [])
        for number, damage in enumerate(_DAMAGES)
    ],
)
@pytest.mark.slow
def test_inspect_reports_a_problem_where_tensorflow_fails_to_load(models, tmp_path, damage):
    """Text and JSON have the same exit status, and a line or an entry for each problem."""
    statuses = set()
    for name, path in models.items():
        module = Path(shutil.copytree(path, tmp_path / name))
        damage(module)
        done = hubexport("inspect", module)
        assert done.stderr == "" and "\n  format " in done.stdout, name
        assert done.returncode == (0 if _loads(module) else 1), f"{name}\n{done.stdout}"
        assert (done.returncode == 1) == ("\n  PROBLEM " in done.stdout), name
        as_json = hubexport("inspect", module, "--format", "json")
        assert as_json.returncode == done.returncode and bool(json.loads(as_json.stdout)["problems"]) == done.returncode
        statuses.add(done.returncode)
    assert statuses == ({0} if damage == _damage_nothing else {0, 1})


@pytest.mark.parametrize("name", ["not trainable", "no collections", "init only"])
def test_trainable_parameters_are_unknown_without_trainable_variables(models, name):
    """The module does not tell what fine-tuning changes."""
    parameters = describe_module(models[name]).parameters
    assert (parameters.total, parameters.trainable) == (6, None)
    lines = hubexport("inspect", models[name]).stdout.splitlines()
    assert "  parameters        6" in lines


def test_a_wrong_manifest_is_a_problem(tmp_path):
    """Files that it does not list are a problem, and so is a manifest that is not JSON."""
    write_hub_module(tmp_path / "m", resource_variables=True)
    for manifest, status in (({"sha256": {}}, 1), ("nonsense", 1)):
        (tmp_path / "m" / "hubexport.json").write_text(json.dumps(manifest))
        for flags in ((), ("--format", "json")):
            assert hubexport("inspect", tmp_path / "m", *flags).returncode == status
    (tmp_path / "m" / "hubexport.json").unlink()
    assert hubexport("inspect", tmp_path / "m").returncode == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_a_problem(tmp_path, bad):
    """In a checkpoint: building from it would fail, too."""
    write_v2(tmp_path / "c", {"x": np.float32([3, bad]), "y": np.float32([1])})
    done = hubexport("inspect", tmp_path / "c")
    assert done.returncode == 1
    assert "  PROBLEM           1 of 2 variables hold NaN or infinite values" in done.stdout.splitlines()
    done = hubexport("inspect", tmp_path / "c", "--format", "json")
    assert done.returncode == 1 and json.loads(done.stdout)["problems"]
    write_v2(tmp_path / "c", {"x": np.float32([3]), "y": np.float32([1])})
    assert hubexport("inspect", tmp_path / "c").returncode == 0
