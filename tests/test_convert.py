"""Conversions there and back, against the frameworks themselves, and of damaged or hostile files."""

import errno
import io
import json
import os
from pathlib import Path
import pickle
import resource
import struct
import subprocess
import zipfile

import h5py
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import tensorflow as tf
import tensorflow_hub as hub

from hubexport.build import build_modules
from hubexport.checkpoints import hdf5
from hubexport.checkpoints.v2_bundle import BundleReader, write_bundle
from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.errors import CheckpointError, OutputError, TemporaryFileError, UsageError
from hubexport.variants import ModuleSpec
from tests.archives import member, tgz
from tests.checkpoints import MOBILENET_V2_MULTIPLIERS, TARGETS, network_values, training_values, write_v1, write_v2
from tests.command import command, environment, hubexport
from tests.data import REAL_ARCHIVE, needs_data, photographs, reference_outputs
from tests.ear import Ear
from tests.keras_models import FILES, save


def _convert(source, folder, target, **options):
    folder.mkdir(exist_ok=True)
    to, name = TARGETS[target]
    return convert(str(source), folder / name, to, **options)


def _stored(prefix):
    bundle = BundleReader(prefix)
    return {name: bundle.read(name) for name in bundle.shapes if bundle.dtype(name) != "string"}


def _assert_same_bits(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].tobytes() == value.tobytes() and found[name].shape == value.shape, name


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of TF-Slim's training; its averages are the values of seed 1."""
    write_v2(tmp_path / "model.ckpt", training_values(averaged_seed=1, raw_seed=2))
    return tmp_path / "model.ckpt"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("write", [write_v1, write_v2], ids=["V1", "V2"])
def test_there_and_back_is_the_same_bit_for_bit(tmp_path, write, target):
    """Even negative zeros and subnormal numbers, which arithmetic could change."""
    values = network_values()
    values["MobilenetV2/Conv/weights"][0, 0, 0, :2] = [-0.0, 1e-42]
    write(tmp_path / "model.ckpt", values)
    converted = _convert(tmp_path / "model.ckpt", tmp_path / "there", target, weights="raw")
    back = _convert(converted, tmp_path / "back", "slim", weights="raw")
    _assert_same_bits(_stored(back), values)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The averaged values of a training's checkpoint in every format."""
    folder = tmp_path_factory.mktemp("straight")
    write_v2(folder / "model.ckpt", training_values())
    return {target: _convert(folder / "model.ckpt", folder / target, target) for target in TARGETS}


@pytest.mark.parametrize("source", TARGETS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_pair_converts(tmp_path, straight, source, target):
    """The bytes equal those of a conversion straight from the checkpoint."""
    around = _convert(straight[source], tmp_path / "around", target, weights="raw")
    assert _files(around.parent) == _files(straight[target].parent)


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("multiplier", MOBILENET_V2_MULTIPLIERS)
@pytest.mark.slow
def test_every_depth_multiplier_is_recognized_in_every_format(tmp_path, multiplier):
    """From names and shapes alone."""
    values = network_values(multiplier, num_classes=3)
    write_bundle(tmp_path / "model.ckpt", values)
    source = tmp_path / "model.ckpt"
    for target in TARGETS:
        source = _convert(source, tmp_path / target, target, weights="raw")
    found = json.loads((tmp_path / "huggingface" / "c" / "config.json").read_text())
    assert (found["depth_multiplier"], len(found["id2label"])) == (multiplier, 3)
    _assert_same_bits(_stored(_convert(source, tmp_path / "back", "slim")), values)


@pytest.mark.parametrize(("weights", "seed"), [("averaged", 1), ("raw", 2)])
def test_averaged_or_raw_values(tmp_path, checkpoint, weights, seed):
    """As in builds, averages are the default."""
    options = {} if weights == "averaged" else {"weights": weights}
    _assert_same_bits(_stored(_convert(checkpoint, tmp_path / "c", "slim", **options)), network_values(seed=seed))


@needs_data
@pytest.mark.parametrize("name", ["c.weights.h5", pytest.param("c.h5", marks=pytest.mark.slow)])
def test_keras_computes_what_pytorch_computed(tmp_path, name):
    """With the values of synthetic:1, as in the reference."""
    variant = load_variant("mobilenet_v2_050_96")
    path = convert("synthetic:1", tmp_path / name, "keras", variant=variant)
    model = tf.keras.applications.MobileNetV2(
        alpha=0.5, weights=None, classes=1001, input_shape=(96, 96, 3), classifier_activation=None
    )
    model.load_weights(path)
    wanted = reference_outputs("mobilenet_v2_050_96")
    logits = model.predict(wanted["images"] * 2 - 1, verbose=0)
    np.testing.assert_allclose(logits, wanted["image_classification"], atol=1e-4)


def _keras_model(classes=7, include_top=True):
    """Keras' network with its own values, also in its batch norms."""
    model = tf.keras.applications.MobileNetV2(
        alpha=0.35,
        weights=None,
        classes=classes,
        input_shape=(96, 96, 3),
        classifier_activation=None,
        include_top=include_top,
        pooling=None if include_top else "avg",
    )
    random = np.random.RandomState(3)
    model.set_weights([random.uniform(0.5, 1.5, weight.shape) * (weight + 0.1) for weight in model.get_weights()])
    return model


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("head", [True, pytest.param(False, marks=pytest.mark.prove)], ids=["head", "headless"])
@pytest.mark.slow
def test_a_module_built_from_what_keras_saved_computes_what_keras_computes(small, tmp_path, name, head):
    """From weights or the whole model; without a head, a feature vector."""
    model = _keras_model(include_top=head)
    save(model, tmp_path / name)
    spec = ModuleSpec.parse("classification/5" if head else "feature_vector/5")
    [module] = build_modules(small, [spec], checkpoint=str(tmp_path / name), output_dir=tmp_path / "m")
    images = np.random.RandomState(0).uniform(size=[2, 96, 96, 3]).astype(np.float32)
    np.testing.assert_allclose(
        tf.saved_model.load(str(module))(tf.constant(images)).numpy(),
        model.predict(images * 2 - 1, verbose=0),
        rtol=1e-4,
        atol=1e-4,
    )
    manifest = json.loads((module / "hubexport.json").read_text())
    assert manifest["weights"] == "only"
    assert list(manifest["checkpoint"]["sha256"]) == [name]


@pytest.mark.parametrize(
    "target", [pytest.param(target, marks=[] if target == "huggingface" else pytest.mark.slow) for target in TARGETS]
)
def test_a_source_without_head_gives_a_result_for_feature_vectors(small, tmp_path, target):
    """A warning says so, and no classification can be built from the result."""
    save(_keras_model(include_top=False), tmp_path / "c.weights.h5")
    ear = Ear()
    path = _convert(tmp_path / "c.weights.h5", tmp_path / target, target, progress=ear)
    [warning] = ear.warnings
    assert "no classifier" in warning and "feature vectors" in warning
    options = {"checkpoint": path, "output_dir": tmp_path / target, "weights": "raw"}
    build_modules(small, ["feature_vector/3"], **options)
    with pytest.raises(CheckpointError) as caught:
        build_modules(small, ["classification/3"], **options)
    assert caught.value.fix == "build only feature_vector modules from it"
    if target != "huggingface":
        return
    config = json.loads((path / "config.json").read_text())
    assert "classifier_dropout_prob" not in config
    assert config["architectures"] == ["MobileNetV2Model"]
    assert config["id2label"] == {}


@pytest.mark.parametrize("version", [1, 3, 4, 5])
def test_a_module_is_a_source_too(small, tmp_path, version):
    """Modules of both formats, as a directory or packed."""
    [module] = build_modules(
        small, [ModuleSpec.parse(f"classification/{version}")], checkpoint="synthetic:1", output_dir=tmp_path
    )
    files = [path for path in sorted(module.rglob("*")) if path.is_file()]
    members = [member(f"./{path.relative_to(module)}", path.read_bytes()) for path in files]
    (tmp_path / "packed").write_bytes(tgz(*members))
    for source in (module, tmp_path / "packed"):
        _assert_same_bits(_stored(_convert(source, tmp_path / f"from-{source.name}", "slim")), network_values())


def test_a_loaded_module_restores_a_tf2_checkpoint(small, tmp_path, checkpoint):
    """And a checkpoint that tf.train.Checkpoint saves of it converts back, after training or not."""
    [module] = build_modules(
        small, [ModuleSpec.parse("classification/5")], checkpoint="synthetic:9", output_dir=tmp_path
    )
    loaded = tf.saved_model.load(str(module))
    prefix = _convert(checkpoint, tmp_path / "c", "tf2")
    tf.train.Checkpoint(root=loaded).read(str(prefix)).assert_existing_objects_matched().assert_consumed()
    for variable in loaded.variables:
        variable.assign(variable * 2)
    saved = tf.train.Checkpoint(module=loaded).save(str(tmp_path / "trained" / "t"))
    found = _stored(_convert(saved, tmp_path / "back", "slim"))
    _assert_same_bits(found, {name: value * np.float32(2) for name, value in network_values().items()})


@pytest.mark.parametrize("save", ["save_weights", pytest.param("save", marks=pytest.mark.prove)])
@pytest.mark.slow
def test_a_layer_that_keras_has_fine_tuned(small, tmp_path, save):
    """In TensorFlow's formats, beside an optimizer's state. The one dense layer behind it is the classifier."""
    [module] = build_modules(
        small, [ModuleSpec.parse("feature_vector/5")], checkpoint="synthetic:1", output_dir=tmp_path
    )
    layer, head = hub.KerasLayer(str(module), trainable=True), tf.keras.layers.Dense(2)
    model = tf.keras.Sequential([layer, head])
    model.build([None, 96, 96, 3])
    model.compile(tf.keras.optimizers.Adam(0.01), "mse")
    model.fit(np.random.RandomState(0).uniform(size=[2, 96, 96, 3]).astype(np.float32), np.ones([2, 2]), verbose=0)
    getattr(model, save)(str(tmp_path / "tuned"), save_format="tf")
    ear = Ear()
    found = _stored(_convert(tmp_path / "tuned", tmp_path / "c", "slim", progress=ear))
    assert ear.warnings == []
    kernel, biases = (weight.numpy() for weight in head.weights)
    classifier = {"weights": kernel[np.newaxis, np.newaxis], "biases": biases}
    wanted = {weight.name.removesuffix(":0"): weight.numpy() for weight in layer.weights}
    wanted |= {f"MobilenetV2/Logits/Conv2d_1c_1x1/{name}": value for name, value in classifier.items()}
    _assert_same_bits(found, wanted)
    assert not np.array_equal(found["MobilenetV2/Conv/weights"], network_values()["MobilenetV2/Conv/weights"])


def test_the_names_of_the_classes_go_into_the_config(config_dir, tmp_path):
    """If the variant has them, together with its image size."""
    (config_dir / "labels.txt").write_text("\n".join("abcdefg"))
    (config_dir / "small.yaml").write_text((config_dir / "small.yaml").read_text() + "labels: labels.txt\n")
    variant = load_variant("small", config_dir)
    path = convert("synthetic", tmp_path / "hf", "huggingface", variant=variant)
    config = json.loads((path / "config.json").read_text())
    assert config["id2label"] == {str(number): name for number, name in enumerate("abcdefg")}
    assert config["label2id"]["c"] == 2
    assert (config["image_size"], config["classifier_dropout_prob"]) == (96, 0.2)
    assert json.loads((path / "preprocessor_config.json").read_text())["size"] == {"height": 96, "width": 96}
    with safetensors.safe_open(path / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_variant_that_is_named_must_fit(checkpoint, tmp_path):
    """The error is the same as in a build."""
    with pytest.raises(CheckpointError) as caught:
        _convert(checkpoint, tmp_path / "c", "keras", variant=load_variant("mobilenet_v2_100_224"))
    assert caught.value.why == "this is MobileNet V2, depth multiplier 0.35, not MobileNet V2, depth multiplier 1"
    assert list((tmp_path / "c").iterdir()) == []


def test_synthetic_values_need_a_variant(tmp_path):
    """They fit any network."""
    with pytest.raises(CheckpointError, match="synthetic values need a variant"):
        _convert("synthetic", tmp_path / "c", "slim")


@pytest.mark.parametrize("name", ["c.npz", "c.hdf5", "c"])
def test_keras_would_not_load_a_file_of_another_name(checkpoint, tmp_path, name):
    """Keras goes by the suffix."""
    with pytest.raises(UsageError, match="Keras cannot load weights"):
        convert(str(checkpoint), tmp_path / name, "keras")


@pytest.mark.parametrize("named", [True, False])
def test_a_network_that_keras_lacks_is_refused_before_the_name_of_the_file(tmp_path, named):
    """A better name would not help, whether the network is named or recognized."""
    variant = load_variant("mobilenet_v1_025_128")
    network = variant.network_for("classification")
    write_bundle(tmp_path / "m", {one.name: np.zeros(one.shape, np.float32) for one in network.variables})
    with pytest.raises(UsageError, match="no keras format for mobilenet_v1"):
        convert(tmp_path / "m", tmp_path / "c.hdf5", "keras", variant=variant if named else None)
    assert not (tmp_path / "c.hdf5").exists()


@pytest.mark.parametrize("target", TARGETS)
def test_an_existing_target_is_kept_without_overwrite(tmp_path, checkpoint, target):
    """Whatever it is. With overwrite, nothing of it remains."""
    path = _convert(checkpoint, tmp_path / "c", target)
    before = _files(path.parent)
    with pytest.raises(OutputError, match="already exists"):
        _convert(checkpoint, tmp_path / "c", target, weights="raw")
    assert _files(path.parent) == before
    _convert(checkpoint, tmp_path / "c", target, weights="raw", overwrite=True)
    after = _files(path.parent)
    assert after.keys() == before.keys() and after != before


def test_an_old_checkpoint_of_more_files_is_replaced_whole(tmp_path, checkpoint):
    """Its other data files would make the new checkpoint look incomplete."""
    folder = tmp_path / "c"
    folder.mkdir()
    for name in ("c.ckpt.index", "c.ckpt.data-00000-of-00002", "c.ckpt.data-00001-of-00002", "c.ckpt.meta"):
        (folder / name).write_bytes(b"old")
    _convert(checkpoint, folder, "slim", overwrite=True)
    assert sorted(_files(folder)) == ["c.ckpt.data-00000-of-00001", "c.ckpt.index", "c.ckpt.meta"]
    _convert(folder / "c.ckpt", tmp_path / "again", "slim", weights="raw")


@pytest.mark.parametrize("target", ["slim", pytest.param("tf2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_pair_that_cannot_be_put_into_place_changes_nothing(tmp_path, checkpoint, monkeypatch, target, overwrite):
    """Whichever of the two files fails, TensorFlow finds the old checkpoint or the new one."""
    folder = tmp_path / "c"
    whole = _stored(_convert(checkpoint, tmp_path / "whole", target, weights="raw"))
    replace, failures = os.replace, 0
    for number in range(1, 10):
        old = _stored(_convert(checkpoint, folder, target, overwrite=True)) if overwrite else None
        count = 0

        def refuse(source, place, number=number):
            nonlocal count
            count += 1
            if count == number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))
            replace(source, place)

        monkeypatch.setattr(os, "replace", refuse)
        try:
            _convert(checkpoint, folder, target, weights="raw", overwrite=overwrite)
            break
        except OutputError as error:
            failures += 1
            assert os.strerror(errno.ENOSPC) in error.why
        finally:
            monkeypatch.setattr(os, "replace", replace)
        if overwrite:
            prefix = folder / TARGETS[target][1]
            _assert_same_bits(_stored(prefix), old if number <= 3 else whole)
            assert tf.train.load_checkpoint(str(prefix)).get_variable_to_shape_map()
            _convert(prefix, tmp_path / "again", "safetensors", weights="raw", overwrite=True)
        else:
            assert not list(folder.iterdir())
    assert failures == (5 if overwrite else 2)
    _assert_same_bits(_stored(folder / TARGETS[target][1]), whole)
    assert len(list(folder.iterdir())) == 2


def test_a_keras_file_is_made_in_memory(tmp_path, checkpoint, monkeypatch):
    """HDF5's library crashes on a full disk. The bytes are those that it would write to a file itself."""
    for target in ("keras", "keras_weights"):
        path = _convert(checkpoint, tmp_path / "c", target)
        with monkeypatch.context() as patched:
            patched.setattr(hdf5, "_new_file", lambda path: h5py.File(path, "x"))
            assert _convert(checkpoint, tmp_path / "on disk", target).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("limit", [0, pytest.param(100_000, marks=pytest.mark.slow), 1_000_000])
@pytest.mark.parametrize("target", ["keras", "keras_weights"])
def test_a_full_disk_stops_a_keras_file_with_an_error(tmp_path, checkpoint, target, limit):
    """A limit on the size of files stops the writing halfway, like a full disk."""
    to, name = TARGETS[target]
    done = subprocess.run(
        command("convert", checkpoint, tmp_path / "c" / name, "--to", to),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1, done.stderr
    assert f"ERROR cannot write {tmp_path / 'c' / name}" in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "c").iterdir())


@pytest.mark.parametrize("target", ["slim", "tf2"])
@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["folder", "file"])
def test_a_prefix_that_names_something_else(tmp_path, checkpoint, target, make):
    """It would be read in place of the checkpoint, and overwrite does not help."""
    make(tmp_path / TARGETS[target][1])
    with pytest.raises(OutputError, match="cannot write"):
        _convert(checkpoint, tmp_path, target, overwrite=True)


def test_a_target_in_which_nobody_can_write(tmp_path, checkpoint):
    """The error names the place."""
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="cannot write"):
        convert(str(checkpoint), tmp_path / "file" / "c.h5", "keras")


@pytest.mark.slow
@needs_data
def test_the_command_converts_the_real_archive(tmp_path):
    """Stdout has only the target. Keras then recognizes the photographs."""
    done = hubexport("convert", REAL_ARCHIVE, tmp_path / "c.weights.h5", "--to", "keras")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'c.weights.h5'}\n")
    reading, writing = f"reading {REAL_ARCHIVE}", f"writing {tmp_path / 'c.weights.h5'}"
    assert done.stderr.splitlines() == [reading, "weights: averaged", writing]
    images, classes = photographs(224)
    model = tf.keras.applications.MobileNetV2(weights=None, classes=1001)
    model.load_weights(tmp_path / "c.weights.h5")
    assert model.predict(images * 2 - 1, verbose=0).argmax(axis=1).tolist() == classes


def _text(folder):
    (folder / "x").write_text("hello")


def _empty_directory(folder):
    (folder / "x").mkdir()


def _two_checkpoints(folder):
    (folder / "x").mkdir()
    for name in ("a", "b"):
        write_bundle(folder / "x" / name, {"v": np.zeros(1, np.float32)})


def _v2(folder, damage):
    values = training_values()
    write_v2(folder / "x", values)
    damage(Path(f"{folder / 'x'}.index"), Path(f"{folder / 'x'}.data-00000-of-00001"))


def _truncated_index(folder):
    _v2(folder, lambda index, data: index.write_bytes(index.read_bytes()[:-100]))


def _truncated_data(folder):
    _v2(folder, lambda index, data: data.write_bytes(data.read_bytes()[:100_000]))


def _wrong_checksum(folder):
    def damage(index, data):
        content = bytearray(data.read_bytes())
        content[::100] = bytes(byte ^ 1 for byte in content[::100])
        data.write_bytes(content)

    _v2(folder, damage)


def _missing_shard(folder):
    _v2(folder, lambda index, data: data.rename(data.with_name("x.data-00000-of-00002")))


def _nan(folder):
    values = network_values()
    values["MobilenetV2/Conv/weights"][0] = np.nan
    _save_safetensors(folder, values)


def _infinite(folder):
    values = network_values()
    values["MobilenetV2/Conv/weights"][0] = np.inf
    _save_safetensors(folder, values)


def _save_safetensors(folder, values):
    (folder / "x").write_bytes(safetensors.numpy.save(values))


def _header(folder, header, data=b""):
    text = json.dumps(header).encode()
    (folder / "x").write_bytes(struct.pack("<Q", len(text)) + text + data)


def _lying_offsets(folder):
    _header(folder, {"v": {"dtype": "F32", "shape": [4], "data_offsets": [0, 1 << 40]}}, bytes(16))


def _overlapping_offsets(folder):
    one = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    _header(folder, {"v": one, "w": one}, bytes(16))


def _header_of_another_length(folder):
    (folder / "x").write_bytes(struct.pack("<Q", 90_000_000) + b'{"v"')


def _complex_numbers(folder):
    _save_safetensors(folder, {name: value.astype(np.complex64) for name, value in network_values().items()})


def _other_hdf5(folder):
    with h5py.File(folder / "x", "w") as file:
        file["measurements"] = np.arange(10)


def _truncated_hdf5(folder):
    write = folder / "whole"
    hdf5.write_keras_h5(write, {"Conv1/kernel": np.zeros([3, 3, 3, 8], np.float32)})
    (folder / "x").write_bytes(write.read_bytes()[:-300])
    write.unlink()


def _hdf5_that_unpacks_hugely(folder):
    with h5py.File(folder / "x", "w") as file:
        file.create_dataset("v", shape=[1 << 34], dtype="f4", chunks=(1 << 20,), compression="gzip")


def _hdf5_of_other_files(folder):
    with h5py.File(folder / "x", "w") as file:
        file.create_dataset("v", shape=[4], dtype="f4", external=[("/dev/zero", 0, 16)])


def _zip_bomb(folder):
    with zipfile.ZipFile(folder / "x", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("model.weights.h5", "w", force_zip64=True) as file:
            for _ in range(300):
                file.write(bytes(1 << 20))


def _other_zip(folder):
    with zipfile.ZipFile(folder / "x", "w") as archive:
        archive.writestr("readme.txt", "hello")


def _torch_zip(folder):
    with zipfile.ZipFile(folder / "x", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))


class _Spy:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return Path.touch, (self._path,)


def _pickle(folder):
    (folder / "x").write_bytes(pickle.dumps(_Spy(folder / "unpickled")))


def _tar_bomb(folder):
    bomb = io.BytesIO(tgz(member("x.index", bytes(1 << 20)), member("x.data-00000-of-00001", bytes(8 << 20))))
    (folder / "x").write_bytes(bomb.getvalue())


_BAD = {
    _text: "is not a checkpoint",
    _empty_directory: "there are no files in it",
    _two_checkpoints: "it holds 2: a, b",
    _truncated_index: "it does not end like a table",
    _truncated_data: "points beyond the end",
    _wrong_checksum: "checksum is wrong",
    _missing_shard: "1 of 2 data files",
    _nan: "144 NaN, 0 infinite of 432",
    _infinite: "0 NaN, 144 infinite of 432",
    _lying_offsets: "offset",
    _overlapping_offsets: "offset",
    _header_of_another_length: "eader",
    _complex_numbers: "stored as complex64, expected float32",
    _other_hdf5: "cannot identify the network",
    _truncated_hdf5: "truncated",
    _hdf5_that_unpacks_hugely: "too large for the size of the file",
    _hdf5_of_other_files: "is stored in another file",
    _zip_bomb: "unpacks to more than",
    _other_zip: "is not a checkpoint",
    _torch_zip: "pickle",
    _pickle: "pickle",
    _tar_bomb: "unpacks to more than",
}


@pytest.mark.parametrize(("make", "reason"), _BAD.items(), ids=[make.__name__.strip("_") for make in _BAD])
def test_bad_input_is_a_clear_error_and_nothing_is_written(tmp_path, monkeypatch, make, reason):
    """The error is one that the command line prints."""
    monkeypatch.setattr("hubexport.system.tars.MAX_UNPACKED_BYTES", 4 << 20)
    make(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        convert(str(tmp_path / "x"), tmp_path / "target" / "c.h5", "keras")
    assert reason in str(caught.value)
    assert str(tmp_path / "x") in caught.value.what
    assert not (tmp_path / "target").exists()
    assert not (tmp_path / "unpickled").exists()


def test_the_command_says_it_in_three_lines(tmp_path):
    """With exit status 1 and without a traceback."""
    _pickle(tmp_path)
    done = hubexport("convert", tmp_path / "x", tmp_path / "c.safetensors", "--to", "safetensors")
    assert done.returncode == 1
    assert [line[:7] for line in done.stderr.splitlines()] == ["ERROR c", "  why: ", "  fix: "]
    assert done.stdout == "" and not (tmp_path / "unpickled").exists()


def test_without_room_for_temporary_files(checkpoint, tmp_path, monkeypatch):
    """Sources that need none are still read. For the others the error says what is missing."""
    path = _convert(checkpoint, tmp_path / "c", "keras")
    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    for target in ("slim", "safetensors"):
        _convert(checkpoint, tmp_path / target, target)
    with pytest.raises(TemporaryFileError) as caught:
        _convert(path, tmp_path / "c", "slim")
    assert caught.value.what == f"cannot unpack {path}" and "TMPDIR" in caught.value.fix
