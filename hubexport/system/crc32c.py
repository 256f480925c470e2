"""CRC-32C in the form that LevelDB's tables, TFRecords and TensorFlow's checkpoints store."""

import google_crc32c

# From LevelDB's util/crc32c.h.
_MASK_DELTA = 0xA282EAD8


def masked_crc32c(*parts: bytes) -> int:
    """Returns the masked checksum of consecutive bytes, from 0 to 2**32 - 1.

    The mask rotates and shifts the CRC, because the plain CRC of data that contains CRCs is weak.
    """
    crc = 0
    for part in parts:
        crc = int(google_crc32c.extend(crc, part))
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
