"""Zip archives with the name of a `.keras` file that are damaged or lie."""

import io
import struct
import zipfile

import h5py
import numpy as np
import pytest

from hubexport.description import describe
from hubexport.errors import CheckpointError


def _archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)


def _patched(path, offsets):
    """Overwrites two bytes in both headers of the only member: its own, and the one in the directory at the end."""
    content = bytearray(path.read_bytes())
    for start, (offset, number, size) in (
        (content.index(b"PK\x03\x04"), offsets[0]),
        (content.index(b"PK\x01\x02"), offsets[1]),
    ):
        content[start + offset : start + offset + size] = number.to_bytes(size, "little")
    path.write_bytes(content)


def _weights():
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers/dense/vars/0"] = np.arange(1000, dtype=np.float32)
    return content.getvalue()


def _lzma(path):
    _archive(path, [("model.weights.h5", _weights())], zipfile.ZIP_LZMA)


def _damaged_lzma(path):
    _lzma(path)
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)


def _bzip2(path):
    _archive(path, [("model.weights.h5", _weights())], zipfile.ZIP_BZIP2)


def _deflate64(path):
    _archive(path, [("model.weights.h5", _weights())], zipfile.ZIP_DEFLATED)
    _patched(path, [(8, 9, 2), (10, 9, 2)])


def _encrypted(path):
    _archive(path, [("model.weights.h5", _weights())])
    _patched(path, [(6, 1, 2), (8, 1, 2)])


@pytest.mark.filterwarnings("ignore:Duplicate name")
def _twice(path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        _archive(path, [("model.weights.h5", _weights()), ("model.weights.h5", _weights())])


def _damaged_deflate(path):
    _archive(path, [("model.weights.h5", _weights())], zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    content[60:80] = b"\xff" * 20
    path.write_bytes(content)


def _wrong_checksum(path):
    _archive(path, [("model.weights.h5", _weights())])
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<f", 999), struct.pack("<f", 998)))


def _shorter_than_it_is(path):
    _archive(path, [("model.weights.h5", _weights())])
    _patched(path, [(22, 1000, 4), (24, 1000, 4)])


def _name_of_another_member(path):
    _archive(path, [("model.weights.h5", _weights())])
    content = path.read_bytes()
    path.write_bytes(content.replace(b"model.weights.h5", b"model.weights.h6", 1))


def _damaged_description(path):
    _archive(path, [("config.json", "{}" * 100), ("model.weights.h5", _weights())])
    path.write_bytes(path.read_bytes().replace(b"{}{}", b"{}[]", 1))


def _bomb(path):
    _archive(path, [("model.weights.h5", bytes(100 << 20))], zipfile.ZIP_DEFLATED)


_BAD_ARCHIVES = {
    _lzma: "compressed in another way",
    _damaged_lzma: "compressed in another way",
    _bzip2: "compressed in another way",
    _deflate64: "compressed in another way",
    _encrypted: "is encrypted",
    _twice: "2 members model.weights.h5",
    _damaged_deflate: "cannot be unpacked",
    _wrong_checksum: "cannot be unpacked: Bad CRC-32",
    _shorter_than_it_is: "cannot be unpacked: Bad CRC-32",
    _name_of_another_member: "cannot be unpacked",
    _damaged_description: "its config.json cannot be unpacked",
    _bomb: "unpacks to more than",
}


@pytest.mark.parametrize(
    ("make", "reason"), _BAD_ARCHIVES.items(), ids=[make.__name__.strip("_") for make in _BAD_ARCHIVES]
)
def test_archives_that_are_damaged_or_lie(tmp_path, make, reason):
    """They raise DamageError, whatever zipfile raises."""
    make(tmp_path / "x.keras")
    with pytest.raises(CheckpointError) as caught:
        describe(tmp_path / "x.keras")
    assert caught.value.what == f"cannot read checkpoint {tmp_path / 'x.keras'}"
    assert reason in caught.value.why
