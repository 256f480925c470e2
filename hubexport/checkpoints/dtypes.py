"""The dtypes of stored values: their names, their sizes, and NumPy arrays made from their bytes.

Names are NumPy's; dtypes that NumPy lacks have the names of TensorFlow and ml_dtypes. Bytes are little-endian.
"""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

# The numbers of tensorflow/core/framework/types.proto.
TENSORFLOW_DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    26: "float8_e4m3fnuz",
    27: "float8_e4m3b11fnuz",
    28: "float8_e5m2fnuz",
    29: "int4",
    30: "uint4",
    31: "int2",
    32: "uint2",
    33: "float4_e2m1fn",
}

NUMPY_NUMBERS = frozenset(
    ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
    + ["float16", "float32", "float64", "complex64", "complex128"]
)
# The dtypes in which trainings keep values, and how these become float32.
TRAINED_DTYPES = {
    "float32": "kept",
    "float16": "widened exactly",
    "bfloat16": "widened exactly",
    "float64": "rounded",
}
# Bits of the exponent, its bias, and the bytes that are NaN, as ml_dtypes documents them.
_FLOAT8 = {
    "float8_e4m3fn": (4, 7, (0x7F, 0xFF)),
    "float8_e4m3fnuz": (4, 8, (0x80,)),
    "float8_e4m3b11fnuz": (4, 11, (0x80,)),
    "float8_e5m2fnuz": (5, 16, (0x80,)),
}
# Their bytes are not numbers by themselves: the range that scales them is stored elsewhere.
_QUANTIZED = {"qint8": "int8", "quint8": "uint8", "qint16": "int16", "quint16": "uint16", "qint32": "int32"}
# The NumPy dtype with the same bits.
_BITS = {
    **{name: name for name in NUMPY_NUMBERS},
    **{"bfloat16": "uint16", "float8_e5m2": "uint8", **dict.fromkeys(_FLOAT8, "uint8")},
    **_QUANTIZED,
}


def tensorflow_dtype(number: int) -> str:
    """Returns the name of the dtype that has this number in TensorFlow's protos."""
    return TENSORFLOW_DTYPES.get(number, f"dtype {number}")


def holds_numbers(dtype: str) -> bool:
    """Tells whether hubexport can read values of a dtype as numbers."""
    return dtype in _BITS and dtype not in _QUANTIZED


def bits_dtype(dtype: str) -> np.dtype[Any] | None:
    """Returns the little-endian NumPy dtype with the same bits; None for strings and unknown dtypes."""
    return np.dtype(_BITS[dtype]).newbyteorder("<") if dtype in _BITS else None


def decode_numbers(dtype: str, data: bytes) -> npt.NDArray[Any]:
    """Returns stored numbers, exactly.

    Args:
        dtype: a dtype that `holds_numbers` accepts.
        data: the bytes of the numbers.
    Returns:
        A flat array of that dtype. NumPy lacks small floats: bfloat16 and most kinds of float8 become float32,
        float8_e5m2 becomes float16.
    """
    bits = np.frombuffer(data, bits_dtype(dtype))
    if dtype == "bfloat16":
        return (bits.astype("<u4") << 16).view("<f4")
    if dtype == "float8_e5m2":
        return (bits.astype("<u2") << 8).view("<f2")
    return _float8_values(dtype)[bits] if dtype in _FLOAT8 else bits


@functools.cache
def _float8_values(dtype: str) -> npt.NDArray[np.float32]:
    """Returns the number that each of the 256 bytes stands for."""
    exponent_bits, bias, nan_bytes = _FLOAT8[dtype]
    byte = np.arange(256)
    mantissa_bits = 7 - exponent_bits
    exponent, mantissa = byte % 128 >> mantissa_bits, byte % (1 << mantissa_bits)
    # Subnormal numbers, whose exponent is 0, have no implicit leading one.
    significand = mantissa + np.where(exponent > 0, 1 << mantissa_bits, 0)
    values = np.ldexp(significand.astype(np.float32), np.maximum(exponent, 1) - bias - mantissa_bits)
    values[list(nan_bytes)] = np.nan
    return np.copysign(values, np.where(byte < 128, np.float32(1), np.float32(-1)))
