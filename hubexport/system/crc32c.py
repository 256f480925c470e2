"""CRC-32C in the form that LevelDB's tables, TFRecords and TensorFlow's checkpoints store."""

import functools

import google_crc32c

# From LevelDB's util/crc32c.h.
_MASK_DELTA = 0xA282EAD8


def extend_crc32c(crc: int, part: bytes) -> int:
    """Returns the checksum of bytes whose checksum is `crc`, 0 for none, and of the part that follows them."""
    return int(google_crc32c.extend(crc, part))


def masked(crc: int) -> int:
    """Masks a checksum: rotates and shifts it, because the CRC of data that contains plain CRCs is weak."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def masked_crc32c(*parts: bytes) -> int:
    """Returns the masked checksum of consecutive bytes, from 0 to 2**32 - 1."""
    return masked(functools.reduce(extend_crc32c, parts, 0))
