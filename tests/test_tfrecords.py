"""TFRecords and the examples in them, compared with what TensorFlow writes."""

import gzip

import numpy as np
import pytest
import tensorflow as tf

from hubexport.evaluation.examples import parse_example
from hubexport.evaluation.tfrecords import RecordError, is_record_file, read_records, split_records

# The length of the first record begins with the same bytes as a gzipped file.
_RECORDS = [bytes(0x8B1F), b"", b"second", bytes(range(256)) * 40]


def _write(path, records, compression=""):
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type=compression)) as writer:
        for record in records:
            writer.write(record)
    return path


def _read_all(path, at_most):
    return [list(read_records(path, *part)) for part in split_records(path, at_most)]


@pytest.mark.parametrize(
    ("at_most", "parts"),
    [
        pytest.param(1, [[one] for one in _RECORDS], id="one"),
        pytest.param(3, [_RECORDS[:3], _RECORDS[3:]], id="three"),
        pytest.param(99, [_RECORDS], id="all"),
    ],
)
def test_records_are_what_tensorflow_wrote(tmp_path, at_most, parts):
    """In parts of any size."""
    path = _write(tmp_path / "a", _RECORDS)
    assert path.read_bytes().startswith(b"\x1f\x8b"), "or the first record does not look gzipped"
    assert is_record_file(path)
    assert _read_all(path, at_most) == parts


def test_gzipped_records_are_one_part(tmp_path):
    """They are recognized by content."""
    path = _write(tmp_path / "a", _RECORDS, "GZIP")
    assert is_record_file(path)
    assert _read_all(path, 1) == [_RECORDS]


def test_a_file_without_records_has_no_parts(tmp_path):
    """As a writer without records leaves it."""
    path = _write(tmp_path / "a", [])
    assert is_record_file(path)
    assert split_records(path, 1) == []


@pytest.mark.parametrize("content", [b"tench\ngoldfish\n", b"x", gzip.compress(b"tench\ngoldfish\n", mtime=0)])
def test_other_files_are_no_records(tmp_path, content):
    """Gzipped or not."""
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    assert not is_record_file(path)
    with pytest.raises(RecordError, match="there is no record at byte 0"):
        split_records(path, 1)


def _damaged(tmp_path, cut=None, flip=None, compression=""):
    path = _write(tmp_path / "a", [b"first", b"second"], compression)
    content = bytearray(path.read_bytes())
    if flip is not None:
        content[flip] ^= 1
    path.write_bytes(bytes(content)[:cut])
    return path


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param({"cut": -1}, "it ends in the middle of a record", id="in a checksum"),
        pytest.param({"cut": -6}, "it ends in the middle of a record", id="in a record"),
        pytest.param({"cut": 25}, "there is no record at byte 21", id="in a length"),
        pytest.param({"flip": 21}, "there is no record at byte 21", id="wrong length"),
        pytest.param({"cut": 40, "compression": "GZIP"}, "it is damaged: Compressed file ended", id="gzip cut"),
        pytest.param({"flip": -1, "compression": "GZIP"}, "it is damaged: Incorrect length", id="gzip changed"),
    ],
)
def test_damage_is_found_before_records_are_read(tmp_path, damage, message):
    """From the lengths alone."""
    with pytest.raises(RecordError, match=message):
        split_records(_damaged(tmp_path, **damage), 1)


def test_a_changed_record_is_found(tmp_path):
    """Its length is the same, but the checksum of its data is wrong."""
    path = _damaged(tmp_path, flip=12)
    [*parts] = split_records(path, 2)
    with pytest.raises(RecordError, match="the checksum of the record that ends at byte 21 is wrong"):
        list(read_records(path, *parts[0]))


def test_missing_records_are_noticed(tmp_path):
    """A file may change between two runs."""
    path = _write(tmp_path / "a", _RECORDS)
    with pytest.raises(RecordError, match="it ends before its last record"):
        list(read_records(path, 0, 5))


def test_an_absurd_length_is_refused(tmp_path):
    """Although its checksum is right."""
    path = tmp_path / "a"
    # The header of a record of 2**40 bytes, as TensorFlow writes it: it has no limit.
    length = (1 << 40).to_bytes(8, "little")
    crc = _crc32c(length)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    path.write_bytes(length + masked.to_bytes(4, "little") + bytes(100))
    with pytest.raises(RecordError, match="a record is larger than 256 MiB"):
        split_records(path, 1)


def _crc32c(data):
    """Computes the checksum bit by bit, from its definition."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _features(**values):
    features = {}
    for name, value in values.items():
        match value:
            case [bytes(), *_]:
                feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
            case [float(), *_]:
                feature = tf.train.Feature(float_list=tf.train.FloatList(value=value))
            case _:
                feature = tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        features["image/" + name.replace("__", "/")] = feature
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def test_an_example_in_tf_slims_layout_is_parsed():
    """With all its other features."""
    image = np.random.default_rng(0).bytes(1000)
    example = parse_example(
        _features(
            encoded=[image],
            class__label=[437],
            filename=[b"ILSVRC2012_val_00000001.JPEG"],
            format=[b"JPEG"],
            height=[375],
            object__bbox__xmin=[0.25, 0.5],
            class__synset=[b"n02814533"],
        )
    )
    assert (example.encoded, example.label, example.name) == (image, 437, "ILSVRC2012_val_00000001.JPEG")


def test_an_example_may_have_no_name_and_a_negative_label():
    """A missing name becomes an empty one. Whether the label fits is checked elsewhere."""
    example = parse_example(_features(encoded=[b"x"], class__label=[-1]))
    assert (example.encoded, example.label, example.name) == (b"x", -1, "")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        pytest.param(b"\xff\xff", "a record is not a tf.train.Example", id="no example"),
        pytest.param(_features(encoded=[b"x"]), "it has image/encoded", id="no label"),
        pytest.param(_features(class__label=[1]), "it has image/class/label", id="no image"),
        pytest.param(_features(encoded=[b"x"], class__label=[1, 2]), "needs", id="two labels"),
        pytest.param(_features(encoded=[b"x"], class__label=[1.0]), "needs", id="label of another type"),
        pytest.param(b"", "it has nothing", id="empty"),
    ],
)
def test_other_records_are_refused(record, message):
    """The error lists their features."""
    with pytest.raises(RecordError, match=message):
        parse_example(record)
