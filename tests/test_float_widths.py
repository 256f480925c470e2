"""Values in other floats than float32, from every container: widened exactly, or rounded and said so."""

import json
import shutil

import h5py
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.conversion import convert
from hubexport.errors import CheckpointError
from tests.checkpoints import TARGETS, network_values, training_values, write_v1, write_v2
from tests.ear import Ear

_DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}
# Of these, float64 has bits that float32 has not.
_EXACT = {name: value + value.astype(np.float64) / 2**30 for name, value in network_values().items()}
_SAID = {
    "float16": "262 of 262 variables are float16, widened exactly to float32",
    "bfloat16": "262 of 262 variables are bfloat16, widened exactly to float32",
    "float64": "262 of 262 variables are float64, rounded to float32",
}


def _restored(source, tmp_path, **options):
    """Returns the values that `convert` writes, and what it said of dtypes."""
    ear = Ear()
    bundle = BundleReader(convert(source, tmp_path / "restored", "slim", progress=ear, **options))
    return {name: bundle.read(name) for name in bundle.shapes}, [one for one in ear.notes if "variables are" in one]


def _assert_narrowed(found, dtype):
    """Compares with what was written, as NumPy and ml_dtypes convert it."""
    assert found.keys() == _EXACT.keys()
    for name, value in _EXACT.items():
        np.testing.assert_array_equal(found[name], value.astype(_DTYPES[dtype]).astype(np.float32), strict=True)


def _narrowed(value, dtype):
    """Adds bits that float32 has not before it narrows a value; integers stay as they are."""
    if value.dtype != np.float32:
        return value
    return np.asarray(value + value.astype(np.float64) / 2**30).astype(_DTYPES[dtype])


def _narrow_safetensors(path, dtype):
    values = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file({name: _narrowed(value, dtype) for name, value in values.items()}, path)


def _narrow_hdf5(path, dtype):
    """As Keras 3 stores bfloat16: as opaque bytes, with an attribute."""
    with h5py.File(path, "r+") as file:
        found = []
        file.visititems(lambda name, node: found.append(name) if isinstance(node, h5py.Dataset) else None)
        for name in found:
            value = _narrowed(file[name][()], dtype)
            del file[name]
            file[name] = value.view("V2") if dtype == "bfloat16" else value
            if dtype == "bfloat16":
                file[name].attrs["dtype"] = dtype


@pytest.mark.parametrize(
    ("write", "dtype"),
    # No TensorFlow writes bfloat16 as V1.
    [(write_v1, "float16"), (write_v1, "float64"), *((write_v2, dtype) for dtype in _DTYPES)],
    ids=["V1 float16", "V1 float64", *(f"V2 {dtype}" for dtype in _DTYPES)],
)
def test_checkpoints_of_tensorflow_1(tmp_path, write, dtype):
    """Each number is the float32 that NumPy makes of it, and the dtype is said once."""
    write(tmp_path / "c", {name: value.astype(_DTYPES[dtype]) for name, value in _EXACT.items()})
    found, said = _restored(tmp_path / "c", tmp_path)
    _assert_narrowed(found, dtype)
    assert said == [_SAID[dtype]]


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("target", ["keras", "keras_weights", "safetensors", "huggingface"])
def test_files_of_other_frameworks(tmp_path, target, dtype):
    """Layouts that transpose kernels, too."""
    write_v2(tmp_path / "c", network_values())
    to, name = TARGETS[target]
    source = convert(tmp_path / "c", tmp_path / name, to)
    if source.suffix == ".h5":
        _narrow_hdf5(source, dtype)
    else:
        _narrow_safetensors(source / "model.safetensors" if source.is_dir() else source, dtype)
    found, said = _restored(source, tmp_path)
    _assert_narrowed(found, dtype)
    assert said == [_SAID[dtype]]


def test_float32_is_not_worth_a_word(tmp_path):
    """As all values were before."""
    write_v2(tmp_path / "c", network_values())
    assert _restored(tmp_path / "c", tmp_path)[1] == []


def test_only_what_is_restored_counts(tmp_path):
    """Averages are often float32 beside half precision."""
    values = training_values()
    half = {name: value if AVERAGED_SUFFIX in name else value.astype(np.float16) for name, value in values.items()}
    write_v2(tmp_path / "c", half)
    assert _restored(tmp_path / "c", tmp_path)[1] == []
    assert _restored(tmp_path / "c", tmp_path, weights="raw", overwrite=True)[1] == [_SAID["float16"]]


def test_a_number_beyond_float32(tmp_path):
    """It counts as infinite."""
    values = {name: value.astype(np.float64) for name, value in network_values().items()}
    values["MobilenetV2/Conv/weights"][0, 0, 0, 0] = 1e300
    write_v2(tmp_path / "c", values)
    with pytest.raises(CheckpointError) as caught:
        _restored(tmp_path / "c", tmp_path)
    assert caught.value.details == ("MobilenetV2/Conv/weights: 0 NaN, 1 infinite of 432",)


@pytest.fixture
def sharded(tmp_path):
    """A Hugging Face model in two files and an index, and its values in one file."""
    write_v2(tmp_path / "c", network_values())
    whole = convert(tmp_path / "c", tmp_path / "whole", "huggingface")
    folder = tmp_path / "sharded"
    shutil.copytree(whole, folder)
    values = safetensors.numpy.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-0000{number % 2 + 1}-of-00002.safetensors" for number, name in enumerate(values)}
    for file in set(places.values()):
        safetensors.numpy.save_file({name: values[name] for name in values if places[name] == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("file", ["", "model.safetensors.index.json"], ids=["directory", "index"])
def test_a_sharded_model(sharded, tmp_path, file):
    """Named by its directory or by its index, it is what it was in one file; its settings count."""
    found, _ = _restored(sharded / file, tmp_path)
    wanted = network_values()
    assert found.keys() == wanted.keys() and all(np.array_equal(found[name], wanted[name]) for name in wanted)
    config = json.loads((sharded / "config.json").read_text())
    (sharded / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    with pytest.raises(CheckpointError, match="cannot use the weights"):
        _restored(sharded / file, tmp_path, overwrite=True)


def test_a_shard_that_is_missing(sharded, tmp_path):
    """It is named."""
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="incomplete") as caught:
        _restored(sharded, tmp_path)
    assert caught.value.why == "1 of 2 data files are beside model.safetensors.index.json"
    assert caught.value.details == ("model-00002-of-00002.safetensors is missing",)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "it has no list of values and their files"),
        ("[" * 100_000, "it has no list of values and their files"),
        ('{"weight_map": ["a"]}', "it has no list of values and their files"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "the file of a is not beside it"),
        ('{"weight_map": {"a": 1}}', "the file of a is not beside it"),
        ('{"weight_map": {"a": "b", "a": "c"}}', "the name 'a' is there twice"),
        ('{"weight_map": {}}', "it has no list of values and their files"),
        (
            '{"weight_map": {"b": "model-00001-of-00002.safetensors"}}',
            "model-00001-of-00002.safetensors: it lacks b, which model.safetensors.index.json says it has",
        ),
    ],
    ids=["JSON", "depth", "list", "place", "number", "twice", "empty", "another"],
)
def test_an_index_that_cannot_be_trusted(sharded, tmp_path, content, why):
    """It is not followed to another place."""
    (sharded / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match="cannot read checkpoint") as caught:
        _restored(sharded, tmp_path)
    assert why in caught.value.why
