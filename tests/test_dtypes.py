"""Numbers that NumPy lacks, against ml_dtypes, and the dtypes of safetensors files."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from hubexport.checkpoints.dtypes import NUMPY_NUMBERS, TENSORFLOW_DTYPES, decode_numbers, holds_numbers
from hubexport.checkpoints.safetensors_file import SafetensorsReader
from hubexport.system.damage import DamageError

_FLOAT8 = ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz", "float8_e5m2", "float8_e5m2fnuz"]


def write_safetensors_bits(path, tensors):
    """Writes a safetensors file from bytes, for dtypes that NumPy lacks.

    Args:
        path: the file.
        tensors: safetensors' dtype, shape and bytes by name.
    """
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize("dtype", ["bfloat16", *_FLOAT8])
def test_small_floats_are_widened_exactly(dtype):
    """All 8-bit and 16-bit values, NaN included, and no two become equal."""
    bits = np.arange(1 << 16 if dtype == "bfloat16" else 1 << 8).astype("<u2" if dtype == "bfloat16" else "u1")
    found = decode_numbers(dtype, bits.tobytes())
    wanted = bits.view(getattr(ml_dtypes, dtype)).astype(np.float32)
    np.testing.assert_array_equal(found, wanted)
    assert len({number.tobytes() for number in found}) == len(bits)
    signed = found[~np.isnan(found)]
    np.testing.assert_array_equal(np.signbit(signed), np.signbit(wanted[~np.isnan(wanted)]))


@pytest.mark.parametrize("dtype", sorted(NUMPY_NUMBERS))
def test_numpys_numbers_are_their_bytes(dtype):
    """In little-endian order."""
    data = bytes(range(32)) if dtype != "bool" else b"\0\1"
    assert decode_numbers(dtype, data).tolist() == np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).tolist()


def test_what_holds_numbers():
    """Quantized and unknown dtypes do not."""
    without = {dtype for dtype in TENSORFLOW_DTYPES.values() if not holds_numbers(dtype)}
    assert without == {
        *("string", "resource", "variant", "qint8", "quint8", "qint16", "quint16", "qint32"),
        *("int4", "uint4", "int2", "uint2", "float4_e2m1fn"),
    }
    assert not holds_numbers("dtype 77") and not holds_numbers("F4")


def test_safetensors_of_every_dtype(tmp_path):
    """Also dtypes that safetensors' own NumPy reader lacks; unknown ones keep their names and bytes."""
    small = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64"}
    small |= {"F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz"}
    values = {name: np.float32([[1, -2.5, np.nan]]).astype(getattr(ml_dtypes, name, name)) for name in small.values()}
    tensors = {name: (stored, [1, 3], values[name].tobytes()) for stored, name in small.items()}
    write_safetensors_bits(tmp_path / "x", tensors | {"scale": ("F8_E8M0", [2], b"\x7f\x80")})
    reader = SafetensorsReader(tmp_path / "x")
    for name, value in values.items():
        assert reader.dtype(name) == name
        wide = np.complex64 if name == "complex64" else np.float32
        np.testing.assert_array_equal(reader.read(name).astype(wide), value.astype(wide))
        assert b"".join(reader.stored_chunks(name)) == value.tobytes()
    assert (reader.dtype("scale"), b"".join(reader.stored_chunks("scale"))) == ("F8_E8M0", b"\x7f\x80")
    with pytest.raises(DamageError, match="F8_E8M0 cannot be read as numbers"):
        reader.read("scale")


def test_safetensors_of_numpys_dtypes(tmp_path):
    """The values equal those of safetensors' own reader."""
    values = {name: np.arange(6).reshape(2, 3).astype(name) for name in NUMPY_NUMBERS - {"complex128"}}
    (tmp_path / "x").write_bytes(safetensors.numpy.save(values))
    reader = SafetensorsReader(tmp_path / "x")
    for name, value in safetensors.numpy.load_file(tmp_path / "x").items():
        assert reader.dtype(name) == name and reader.read(name).dtype == value.dtype
        np.testing.assert_array_equal(reader.read(name), value)


@pytest.mark.parametrize("shape", [[1] * 70, [0, 1 << 62, 1 << 62]])
def test_a_safetensors_shape_that_no_array_has(tmp_path, shape):
    """The package's check of the header allows it."""
    write_safetensors_bits(tmp_path / "x", {"x": ("F32", shape, bytes(4 * (0 not in shape)))})
    with pytest.raises(DamageError, match="impossible shape|overflow"):
        SafetensorsReader(tmp_path / "x").read("x")
