"""Averaged or raw values: the contents of a source decide, not its kind or name; the manifest records the choice."""

import json
from pathlib import Path
import shutil

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from hubexport import build_modules
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.checkpoints.weights_choice import weights_match
from hubexport.conversion import convert
from hubexport.description import describe
from hubexport.errors import CheckpointError
from hubexport.layouts.keras import keras_h5_layout
from tests.archives import member, tgz
from tests.checkpoints import network_values, training_values, write_v1, write_v2
from tests.command import hubexport
from tests.ear import Ear

_FEATURES, _CLASSES = "feature_vector/2", "classification/2"
# Counts of variables in `small`: all, moving statistics, and the classifier's.
_ALL, _STATISTICS, _CLASSIFIER = 262, 104, 2


def _raw_with_averages(averaged=lambda name: True):
    """Raw values of seed 2, with averages of seed 1 for some of them."""
    averages = {name: value for name, value in network_values(seed=1).items() if averaged(name)}
    return {**network_values(seed=2), **{f"{name}{AVERAGED_SUFFIX}": value for name, value in averages.items()}}


def _saved_model(folder, values):
    """A SavedModel as TensorFlow 1's builder writes it, with no graph but with values."""
    write_v2(_make_folder(folder / "variables") / "variables", values)
    graph = tf.compat.v1.MetaGraphDef()
    graph.meta_info_def.tags.append("serve")
    saved_model = saved_model_pb2.SavedModel(saved_model_schema_version=1, meta_graphs=[graph])
    (folder / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    return folder


def _make_folder(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _packed_saved_model(folder, values):
    _saved_model(folder / "m", values)
    files = [path for path in sorted((folder / "m").rglob("*")) if path.is_file()]
    members = [member(f"m/{path.relative_to(folder / 'm')}", path.read_bytes()) for path in files]
    (folder / "m.tar.gz").write_bytes(tgz(*members))
    return folder / "m.tar.gz"


def _prefix_in_saved_model(folder, values):
    return _saved_model(folder, values) / "variables" / "variables"


def _v2_called_variables(folder, values):
    write_v2(folder / "variables", values)
    return folder / "variables"


def _v1_called_variables(folder, values):
    write_v1(folder / "variables", values)
    return folder / "variables"


def _safetensors(folder, values):
    (folder / "x.safetensors").write_bytes(safetensors.numpy.save(values))
    return folder / "x.safetensors"


def _object_based(folder, values):
    """As tf.train.ExponentialMovingAverage names averages, and tf.train.Checkpoint saves them."""
    variables = [tf.Variable(value, name=name) for name, value in values.items()]
    return Path(tf.train.Checkpoint(variables=variables).write(str(folder / "objects")))


_SOURCES = {
    "SavedModel": _saved_model,
    "packed SavedModel": _packed_saved_model,
    "prefix in a SavedModel": _prefix_in_saved_model,
    "V2 called variables": _v2_called_variables,
    "V1 called variables": _v1_called_variables,
    "safetensors": _safetensors,
    "object-based": _object_based,
}
_of_all_sources = pytest.mark.parametrize("write", _SOURCES.values(), ids=_SOURCES)


def _stored(module):
    bundle = BundleReader(module / "variables" / "variables")
    return {name: bundle.read(name) for name in bundle.shapes}


def _recorded(module):
    return json.loads((module / "hubexport.json").read_text())["weights"]


def _build(small, folder, source, *modules, **options):
    return build_modules(small, modules or (_CLASSES,), checkpoint=source, output_dir=folder / "modules", **options)


def _assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    assert all(found[name].tobytes() == wanted[name].tobytes() for name in wanted)


@_of_all_sources
@pytest.mark.parametrize(("weights", "seed"), [("auto", 1), pytest.param("raw", 2, marks=pytest.mark.slow)])
def test_a_source_with_averages(small, tmp_path, write, weights, seed):
    """Averages are preferred, and the manifest records which values were taken."""
    source = write(_make_folder(tmp_path / "source"), _raw_with_averages())
    [module] = _build(small, tmp_path, source, weights=weights)
    _assert_equal(_stored(module), network_values(seed=seed))
    assert _recorded(module) == {"auto": "averaged", "raw": "raw"}[weights]


@pytest.mark.parametrize("write", [_saved_model, _v2_called_variables, _object_based])
def test_a_source_with_averages_of_some_variables(small, tmp_path, write):
    """One public convention averages trained variables only; the manifest counts both kinds."""
    source = write(_make_folder(tmp_path / "source"), _raw_with_averages(lambda name: "moving_" not in name))
    [module] = _build(small, tmp_path, source)
    averaged, raw = network_values(seed=1), network_values(seed=2)
    _assert_equal(_stored(module), {name: (raw if "moving_" in name else averaged)[name] for name in raw})
    assert _recorded(module) == f"{_ALL - _STATISTICS} averaged, {_STATISTICS} raw"


@pytest.mark.parametrize(
    ("source", "weights"),
    [
        ("SavedModel", "only"),
        ("packed SavedModel", "only"),
        ("prefix in a SavedModel", "only"),
        ("safetensors", "only"),
        ("object-based", "only"),
        ("V2 called variables", "raw"),
        ("V1 called variables", "raw"),
    ],
)
def test_a_source_without_averages(small, tmp_path, source, weights):
    """A training's checkpoint could have had averages, whatever its name; from other sources there is no choice."""
    path = _SOURCES[source](_make_folder(tmp_path / "source"), network_values(seed=2))
    ear = Ear()
    [module] = _build(small, tmp_path, path, progress=ear)
    assert _recorded(module) == weights
    assert ear.notes == (["weights: raw (the checkpoint has no averages)"] if weights == "raw" else [])
    assert not any("no average" in warning for warning in ear.warnings)
    _assert_equal(_stored(module), network_values(seed=2))


def test_averages_that_are_asked_for_must_be_there(small, tmp_path):
    """One at least. Nothing is written without any."""
    write_v2(tmp_path / "none", network_values())
    with pytest.raises(CheckpointError) as caught:
        _build(small, tmp_path, tmp_path / "none", weights="averaged")
    assert caught.value.why == "there are no averaged values in this checkpoint"
    assert caught.value.fix == "use --weights auto"
    assert not (tmp_path / "modules").exists()
    write_v2(tmp_path / "one", _raw_with_averages(lambda name: name == "MobilenetV2/Conv/weights"))
    [module] = _build(small, tmp_path, tmp_path / "one", weights="averaged")
    assert _recorded(module) == f"1 averaged, {_ALL - 1} raw"


@pytest.mark.parametrize(
    ("averaged", "weights", "note"),
    [
        pytest.param(lambda name: True, "auto", "averaged", id="all"),
        pytest.param(lambda name: True, "raw", "raw", id="raw on purpose"),
        pytest.param(lambda name: "moving_" not in name, "auto", "158 averaged, 104 raw", id="some"),
    ],
)
def test_the_output_says_which_values_were_taken(small, tmp_path, averaged, weights, note):
    """In the words of the manifest."""
    write_v2(tmp_path / "c", _raw_with_averages(averaged))
    for work in (
        lambda ear: _build(small, tmp_path, tmp_path / "c", weights=weights, progress=ear),
        lambda ear: convert(tmp_path / "c", tmp_path / "to", "slim", weights=weights, progress=ear),
    ):
        ear = Ear()
        work(ear)
        assert ear.notes == [f"weights: {note}"]
    done = hubexport("diff", tmp_path / "c", tmp_path / "to", "--weights", weights)
    assert " equal bit for bit, 0 different" in done.stdout


def test_our_own_modules_leave_no_choice(small, tmp_path):
    """Modules of both formats: as directories, packed, and by prefix."""
    for version in (2, 5):
        [module] = build_modules(
            small, [f"classification/{version}"], checkpoint="synthetic:1", output_dir=tmp_path / "first"
        )
        shutil.make_archive(str(tmp_path / f"packed{version}"), "gztar", module)
        sources = (module, module / "variables" / "variables", tmp_path / f"packed{version}.tar.gz")
        for number, source in enumerate(sources):
            [again] = _build(small, tmp_path / f"{version}-{number}", source)
            assert _recorded(again) == "only"
            _assert_equal(_stored(again), network_values(seed=1))


def test_each_module_records_its_own_values(small, tmp_path):
    """A feature vector records nothing of the classifier, whether or not both are built together."""
    write_v2(tmp_path / "c", _raw_with_averages(lambda name: "Logits" in name))
    features, classes = _build(small, tmp_path, tmp_path / "c", _FEATURES, _CLASSES)
    assert _recorded(features) == "raw"
    assert _recorded(classes) == f"{_CLASSIFIER} averaged, {_ALL - _CLASSIFIER} raw"
    [alone] = _build(small, tmp_path / "alone", tmp_path / "c", _FEATURES)
    assert (alone / "hubexport.json").read_bytes() == (features / "hubexport.json").read_bytes()


def test_raw_values_in_place_of_averages_are_warned_of(small, tmp_path):
    """The published accuracy was measured with averages. Requested raw values are no surprise."""
    write_v2(tmp_path / "c", _raw_with_averages(lambda name: "Logits" in name))
    for weights, count in (("auto", 1), ("averaged", 1), ("raw", 0)):
        for work in (
            lambda ear: _build(small, tmp_path, tmp_path / "c", weights=weights, overwrite=True, progress=ear),
            lambda ear: convert(tmp_path / "c", tmp_path / "to", "slim", weights=weights, overwrite=True, progress=ear),
        ):
            ear = Ear()
            work(ear)
            assert len(ear.warnings) == count
            assert all("260 of 262 variables have no average" in warning for warning in ear.warnings)


def _slot_checkpoint(folder, names, key):
    """A checkpoint of variables with an optimizer that keeps their averages, under the optimizer's full names."""
    values = {**network_values(seed=2)}
    variables = [tf.Variable(value, name=name) for name, value in values.items()]
    flat = {name: name.replace("/", "_") for name in names}
    averages = [tf.Variable(value, name=key.format(name, flat=flat[name])) for name, value in names.items()]
    optimizer = tf.train.Checkpoint(_variables=averages)
    return tf.train.Checkpoint(variables=variables, optimizer=optimizer).write(str(folder / "objects"))


@pytest.mark.parametrize(
    "key",
    [
        *("Adam/average/{}", "MovingAverage/{}/average", "adam/{flat}_average"),
        *(pytest.param(key, marks=pytest.mark.slow) for key in ("average/{}", "{}/average")),
    ],
)
def test_averages_that_optimizers_of_tensorflow_2_keep(small, tmp_path, key):
    """The names of `use_ema` in Keras 2 and Keras 3, and the slots of TensorFlow Addons' MovingAverage."""
    trained = {name: value for name, value in network_values(seed=1).items() if "moving_" not in name}
    source = _slot_checkpoint(tmp_path, trained, key)
    [module] = _build(small, tmp_path, source)
    assert _recorded(module) == f"{_ALL - _STATISTICS} averaged, {_STATISTICS} raw"
    _assert_equal(_stored(module), {**network_values(seed=2), **trained})
    [plain] = _build(small, tmp_path / "raw", source, weights="raw")
    _assert_equal(_stored(plain), network_values(seed=2))


def test_the_names_that_keras_gives_to_averages(tmp_path):
    """Keras really uses a name of the test above."""
    keras = pytest.importorskip("tf_keras") if hasattr(tf.keras, "ops") else tf.keras
    variable = tf.Variable([1.0, 2.0], name="MobilenetV2/Conv/weights")
    optimizer = keras.optimizers.Adam(use_ema=True)
    optimizer.apply_gradients([(tf.constant([1.0, 1.0]), variable)])
    names = [variable.name for variable in optimizer.variables]
    assert "Adam/average/MobilenetV2/Conv/weights:0" in names


def test_two_models_in_one_checkpoint_are_not_mixed(small, tmp_path):
    """Two variables share each name, and nothing tells which one is meant."""
    models = [[tf.Variable(value, name=name) for name, value in network_values(seed=seed).items()] for seed in (1, 2)]
    source = tf.train.Checkpoint(teacher=models[0], student=models[1]).write(str(tmp_path / "two"))
    with pytest.raises(CheckpointError):
        _build(small, tmp_path, source)


def test_a_variable_that_is_stored_twice_is_one(small, tmp_path):
    """Keras 3's `model.export` stores each variable in two lists."""
    lists = [[tf.Variable(value, name=name) for name, value in network_values(seed=1).items()] for _ in range(2)]
    source = tf.train.Checkpoint(variables=lists[0], _all_variables=lists[1]).write(str(tmp_path / "twice"))
    [module] = _build(small, tmp_path, source)
    _assert_equal(_stored(module), network_values(seed=1))
    assert len(describe(source).variables) == 2 * _ALL, "nothing is dropped"


def test_averages_under_the_names_of_keras(small, tmp_path):
    """A checkpoint of a training in Keras, whose optimizer averages trained variables."""
    layouts = keras_h5_layout(small.network_for("classification"))
    raw, averaged = network_values(seed=2), network_values(seed=1)
    trained = [layout for layout in layouts if "moving_" not in layout.variable.name]
    variables = [tf.Variable(layout.from_slim(raw[layout.variable.name]), name=layout.name) for layout in layouts]
    averages = [
        tf.Variable(layout.from_slim(averaged[layout.variable.name]), name=f"Adam/average/{layout.name}")
        for layout in trained
    ]
    optimizer = tf.train.Checkpoint(_variables=averages)
    source = tf.train.Checkpoint(model=variables, optimizer=optimizer).write(str(tmp_path / "objects"))
    [module] = _build(small, tmp_path, source)
    assert _recorded(module) == f"{_ALL - _STATISTICS} averaged, {_STATISTICS} raw"
    _assert_equal(_stored(module), {name: (raw if "moving_" in name else averaged)[name] for name in raw})


def test_misshaped_averages_are_named(small, tmp_path):
    """The raw value does not silently replace them."""
    values = _raw_with_averages()
    values[f"MobilenetV2/Conv/weights{AVERAGED_SUFFIX}"] = np.zeros([3], np.float32)
    with pytest.raises(CheckpointError) as caught:
        _build(small, tmp_path, _saved_model(tmp_path / "m", values))
    assert f"MobilenetV2/Conv/weights{AVERAGED_SUFFIX}: stored shape [3]" in "".join(caught.value.details)


def test_every_command_reads_a_manifest_with_both_kinds(small, config_dir, tmp_path):
    """inspect, verify, diff, release, and release --check."""
    write_v2(tmp_path / "c", _raw_with_averages(lambda name: "moving_" not in name))
    [module] = _build(small, tmp_path, tmp_path / "c")
    done = hubexport("inspect", module)
    assert done.returncode == 0
    assert "trained, 158 averaged, 104 raw, from c" in done.stdout
    flags = ("--config-dir", config_dir, "--checkpoint", tmp_path / "c", "--checks", "weights")
    done = hubexport("verify", module, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    done = hubexport("diff", module, tmp_path / "c")
    assert (done.returncode, done.stdout) == (
        0,
        "262 values (158 averaged, 104 raw) compared: 262 equal bit for bit, 0 different\n",
    )
    release = ("release", "--config-dir", config_dir, "--output-dir", tmp_path / "dist", "--variant", "small")
    done = hubexport(*release, "--checkpoint", tmp_path / "c", "--checks", "structure.digests,weights.equal")
    assert done.returncode == 0, done.stderr
    done = hubexport("check", tmp_path / "dist")
    assert done.returncode == 0, done.stdout + done.stderr


def test_averages_of_all_variables_are_recorded_as_averaged(small, tmp_path):
    """TF-Slim's training averages moving statistics, too."""
    write_v2(tmp_path / "c", training_values())
    [module] = _build(small, tmp_path, tmp_path / "c")
    assert _recorded(module) == "averaged"


@pytest.mark.parametrize(
    ("requested", "possible"),
    [
        ("auto", {"averaged", "raw", "only", "158 averaged, 104 raw"}),
        ("averaged", {"averaged", "raw", "only", "158 averaged, 104 raw"}),
        ("raw", {"raw", "only"}),
        ("best", set()),
    ],
)
def test_what_a_manifest_can_say_after_a_request(requested, possible):
    """A feature vector whose variables have no average is raw even if its classifier has some."""
    recorded = ["averaged", "raw", "only", "158 averaged, 104 raw", "auto", "all", "0 averaged, 1 raw", "", None]
    assert {one for one in recorded if weights_match(requested, one)} == possible


def _two_checkpoints(tmp_path, *folders, step=7, swapped=False):
    """Packs checkpoints as MobileNet V3's are: averages under plain names, and raw values with averages beside them."""
    ema = {**network_values(seed=1), "global_step": np.int64(7)}
    pristine = training_values(raw_seed=2, averaged_seed=3)
    members = []
    ema, pristine = (pristine, ema) if swapped else (ema, pristine)
    for folder, name, values in (("ema", f"model-{step}", ema), ("pristine", f"model.ckpt-{step}", pristine)):
        if folder in folders:
            (tmp_path / folder).mkdir()
            write_v2(tmp_path / folder / name, values)
            files = sorted((tmp_path / folder).iterdir())
            members += [member(f"v3/{folder}/{path.name}", path.read_bytes()) for path in files]
    (tmp_path / "v3.tgz").write_bytes(tgz(*members))
    return tmp_path / "v3.tgz"


@pytest.mark.parametrize("weights", ["auto", "averaged", "raw"])
@pytest.mark.parametrize("folders", [("ema", "pristine"), ("ema",), ("pristine",)])
def test_an_archive_may_have_averages_in_a_checkpoint_of_their_own(config_dir, tmp_path, folders, weights):
    """Its plain names count as averages, also in the manifest. Without it, the other checkpoint's averages do."""
    small = (config_dir / "small.yaml").read_text()
    (config_dir / "two.yaml").write_text(small.replace("small.ckpt", "model-7\n  raw_name: model.ckpt-7"))
    archive = _two_checkpoints(tmp_path, *folders)
    options = ("--config-dir", config_dir, "--output-dir", tmp_path / "m", "--weights", weights)
    done = hubexport("build", "--variant", "two", "--checkpoint", archive, *options)
    if (folders, weights) == (("ema",), "raw"):
        assert done.returncode == 1 and "some variables have only averaged values" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    module = tmp_path / "m" / "google" / "imagenet" / "two" / "classification" / "2"
    recorded = json.loads((module / "hubexport.json").read_text())["weights"]
    assert recorded == ("raw" if weights == "raw" else "averaged")
    built = BundleReader(module / "variables" / "variables")
    wanted = network_values(seed=2 if weights == "raw" else 1 if "ema" in folders else 3)
    assert {name: built.read(name).tobytes() for name in built.shapes} == {
        name: value.tobytes() for name, value in wanted.items()
    }


# The step in the names of a published archive's two checkpoints.
_STEP = 497500


def _module_of_two(config_dir, tmp_path, archive, step):
    """Builds a module of `two`, whose config names both checkpoints of an archive."""
    small = (config_dir / "small.yaml").read_text()
    (config_dir / "two.yaml").write_text(small.replace("small.ckpt", f"model-{step}\n  raw_name: model.ckpt-{step}"))
    options = ("--config-dir", config_dir, "--output-dir", tmp_path / "m", "--module", _CLASSES)
    done = hubexport("build", "--variant", "two", "--checkpoint", archive, *options)
    return done, tmp_path / "m" / "google" / "imagenet" / "two" / "classification" / "2"


def test_the_two_checkpoints_of_a_published_archive_are_known_without_the_variant(config_dir, tmp_path):
    """Every command takes the same values from it: a module's manifest does not say how they are packed."""
    archive = _two_checkpoints(tmp_path, "ema", "pristine", step=_STEP)
    done, module = _module_of_two(config_dir, tmp_path, archive, _STEP)
    assert done.returncode == 0, done.stderr
    done = hubexport("verify", module, "--checkpoint", archive, "--checks", "weights.equal")
    assert done.returncode == 0, done.stdout + done.stderr
    done = hubexport("inspect", archive, "--format", "json")
    assert json.loads(done.stdout)["averaged_copies"] == _ALL + 1, done.stderr  # The step has one, too.
    done = hubexport("convert", archive, tmp_path / "c.safetensors", "--to", "safetensors")
    assert done.returncode == 0, done.stderr
    averages = safetensors.numpy.load_file(tmp_path / "c.safetensors")
    assert {name: value.tobytes() for name, value in averages.items()} == {
        name: value.tobytes() for name, value in network_values(seed=1).items()
    }
    done = hubexport("diff", archive, tmp_path / "c.safetensors")
    assert (done.returncode, done.stdout) == (
        0,
        f"{_ALL} averaged values compared: {_ALL} equal bit for bit, 0 different\n",
    )


def test_a_module_of_a_config_of_ones_own_is_verified_with_its_variant(config_dir, tmp_path):
    """Without it nothing tells which of the archive's checkpoints has the averages. The fix works."""
    archive = _two_checkpoints(tmp_path, "ema", "pristine")
    _, module = _module_of_two(config_dir, tmp_path, archive, 7)
    verify = ("verify", module, "--checkpoint", archive, "--checks", "weights.equal")
    done = hubexport(*verify)
    assert done.returncode == 1
    assert "like DIRECTORY/v3/ema/model-7, or pass a --variant whose config names it" in " ".join(
        (done.stdout + done.stderr).split()
    )
    done = hubexport(*verify, "--variant", "two", "--config-dir", config_dir)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", ["inspect", "diff", "convert"])
def test_an_archive_with_two_unknown_checkpoints_can_be_unpacked(tmp_path, command):
    """The fix works."""
    archive = _two_checkpoints(tmp_path, "ema", "pristine")
    more = {"diff": [tmp_path / "ema"], "convert": [tmp_path / "c", "--to", "slim"]}.get(command, [])
    done = hubexport(command, archive, *more)
    assert done.returncode == 1
    assert "it holds 2: v3/ema/model-7, v3/pristine/model.ckpt-7" in done.stderr
    assert "unpack it, and use the prefix of one, like DIRECTORY/v3/ema/model-7" in " ".join(done.stderr.split())
    assert hubexport(command, tmp_path / "ema" / "model-7", *more).returncode == 0


def test_raw_values_in_the_place_of_averages_are_refused(config_dir, tmp_path):
    """Averages beside them show what they are. Nothing is written."""
    archive = _two_checkpoints(tmp_path, "ema", "pristine", swapped=True)
    done, module = _module_of_two(config_dir, tmp_path, archive, 7)
    assert done.returncode == 1
    assert f"the values of model-7 in {archive} are not averages" in done.stderr
    assert "it has averages beside them, like MobilenetV2/" in done.stderr
    assert not module.parent.exists()


def test_a_config_names_two_checkpoints_or_one(config_dir):
    """One checkpoint cannot hold both kinds of values under the same names."""
    small = (config_dir / "small.yaml").read_text()
    (config_dir / "small.yaml").write_text(small.replace("small.ckpt", "m\n  raw_name: m"))
    done = hubexport("list", "--config-dir", config_dir)
    assert done.returncode == 1
    assert "'checkpoint.raw_name': found 'm', must be the prefix of another checkpoint than `name`" in done.stderr
