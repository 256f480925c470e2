"""HDF5 files of any content: each value is read, listed as unreadable, or refused by name."""

import h5py
import ml_dtypes
import numpy as np
import pytest

from hubexport.checkpoints.hdf5 import read_hdf5
from hubexport.system.damage import DamageError


def _hdf5(path, write):
    with h5py.File(path, "w") as file:
        write(file)
    return path


def _list_weights(file, layer, weights):
    file.attrs["layer_names"] = [layer.encode()]
    file.require_group(layer).attrs["weight_names"] = [weight.encode() for weight in weights]


def test_values_of_every_dtype(tmp_path):
    """Types that NumPy has are read; others are listed with their names, and reading them is an error."""

    def write(file):
        for dtype in ("f2", "f4", "f8", ">f4", ">i2", "i1", "u1", "i8", "?"):
            file[f"read{dtype}"] = np.array([0, 1], dtype)
        file["half"] = np.zeros([2, 2], np.complex64)
        file["long"] = np.zeros(3, np.longdouble)
        file["text"] = ["a", "b"]
        file["fixed"] = np.array([b"a"])
        file["pairs"] = np.zeros(2, [("a", "f4"), ("b", "i4")])
        file["nothing"] = h5py.Empty("f4")
        file["bits"] = np.zeros([4], "V1")
        file["bits"].attrs["dtype"] = "float8_e4m3fn"
        file["pointers"] = np.array([file["text"].ref], h5py.ref_dtype)

    found = read_hdf5(_hdf5(tmp_path / "x.h5", write), tmp_path)
    unread = {name: (found.dtype(name), found.shapes[name]) for name in found.shapes if not name.startswith("read")}
    assert unread == {
        "half": ("complex", (2, 2)),
        "long": ("extended float", (3,)),
        "text": ("string", (2,)),
        "fixed": ("string", (1,)),
        "pairs": ("compound", (2,)),
        "nothing": ("empty", ()),
        "bits": ("opaque float8_e4m3fn", (4,)),
        "pointers": ("reference", (1,)),
    }
    for name in unread:
        with pytest.raises(DamageError, match="cannot be read as numbers"):
            found.read(name)
    read = [name for name in found.shapes if name.startswith("read")]
    assert len(read) == 9
    for name in read:
        assert found.read(name).tolist() == [0, 1]
        assert found.dtype(name) == np.dtype(name.removeprefix("read")).name


def test_bfloat16_as_keras_3_stores_it(tmp_path):
    """Its bytes are opaque to HDF5; an attribute gives their dtype."""
    values = np.float32([[1, -2.5, 3e38], [np.nan, 0, 1e-40]]).astype(ml_dtypes.bfloat16)

    def write(file):
        file["a"] = values.view("V2")
        file["a"].attrs["dtype"] = "bfloat16"
        file["nothing"] = h5py.Empty("V2")
        file["nothing"].attrs["dtype"] = "bfloat16"

    found = read_hdf5(_hdf5(tmp_path / "x.h5", write), tmp_path)
    assert (found.dtype("a"), found.dtype("nothing")) == ("bfloat16", "empty")
    np.testing.assert_array_equal(found.read("a"), values.astype(np.float32))


def test_a_value_of_two_names_has_both(tmp_path):
    """Layers may share weights; HDF5 then has a hard link."""

    def write(file):
        file["a/kernel:0"] = np.float32([1, 2])
        file["b/kernel:0"] = file["a/kernel:0"]
        file.attrs["layer_names"] = [b"a", b"b"]
        for layer in "ab":
            file[layer].attrs["weight_names"] = [b"kernel:0"]

    found = read_hdf5(_hdf5(tmp_path / "x.h5", write), tmp_path)
    assert sorted(found.shapes) == ["a/kernel", "b/kernel"]
    assert found.read("b/kernel").tolist() == [1, 2]


def test_a_value_that_no_layer_lists_is_read_by_its_path(tmp_path):
    """Keras itself would ignore it."""

    def write(file):
        file["a/a/kernel:0"] = file["a/more"] = file["x"] = np.float32(1)
        _list_weights(file, "a", ["a/kernel:0"])

    assert sorted(read_hdf5(_hdf5(tmp_path / "x.h5", write), tmp_path).shapes) == ["a/kernel", "a/more", "x"]


def test_names_that_would_collide_stay_apart(tmp_path):
    """A layer may have weights in scopes, and a kernel beside a depthwise kernel."""

    def write(file):
        weights = ["a/query/kernel:0", "a/key/kernel:0", "a/key/depthwise_kernel:0"]
        for weight in weights:
            file[f"a/{weight}"] = np.float32(1)
        _list_weights(file, "a", weights)

    found = read_hdf5(_hdf5(tmp_path / "x.h5", write), tmp_path)
    assert sorted(found.shapes) == ["a/a/key/depthwise_kernel:0", "a/a/key/kernel:0", "a/a/query/kernel:0"]


def test_long_lists_of_weights_that_keras_splits(tmp_path):
    """Beyond 64 KB, Keras numbers the attributes."""

    def write(file):
        for number in range(4):
            file[f"a/s/w{number}:0"] = np.float32(number)
        file.attrs["layer_names0"] = [b"a"]
        file["a"].attrs["weight_names0"] = [b"s/w0:0", b"s/w1:0"]
        file["a"].attrs["weight_names1"] = [b"s/w2:0", b"s/w3:0"]

    assert sorted(read_hdf5(_hdf5(tmp_path / "x.h5", write), tmp_path).shapes) == ["a/w0", "a/w1", "a/w2", "a/w3"]


def _soft_link(file):
    file["x"] = np.float32(1)
    file["y"] = h5py.SoftLink("/x")


def _external_link(file):
    file["y"] = h5py.ExternalLink("other.h5", "/x")


def _missing(file):
    file["a/s/kernel:0"] = np.float32(1)
    _list_weights(file, "a", ["s/kernel:0", "s/bias:0"])


def _same_name(file):
    file["a/s/kernel:0"] = file["a/kernel"] = np.float32(1)
    _list_weights(file, "a", ["s/kernel:0"])


def _endless(file):
    group = file.create_group("a")
    group["a"] = group


def _virtual(file):
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(2,))
    file.create_virtual_dataset("v", layout)


_REFUSED = {
    _soft_link: "y is a link",
    _external_link: "y is a link",
    _missing: "a/s/bias:0 is listed among its weights, but missing",
    _same_name: "the name 'a/kernel' is there twice",
    _endless: "nested more than",
    _virtual: "v is stored in another file",
}


@pytest.mark.parametrize(("write", "reason"), _REFUSED.items(), ids=[write.__name__.strip("_") for write in _REFUSED])
def test_a_file_that_cannot_be_read_whole_is_refused(tmp_path, write, reason):
    """No value is dropped silently; the error names it."""
    with pytest.raises(DamageError, match=reason):
        read_hdf5(_hdf5(tmp_path / "x.h5", write), tmp_path)


def test_a_full_folder_for_temporary_files_is_not_damage(tmp_path):
    """The file is good; the copy of its values has no room."""
    _hdf5(tmp_path / "x.h5", lambda file: file.create_dataset("x", data=np.zeros(10, np.float32)))
    (tmp_path / "values.safetensors").symlink_to("/dev/full")
    with pytest.raises(OSError):
        read_hdf5(tmp_path / "x.h5", tmp_path)
