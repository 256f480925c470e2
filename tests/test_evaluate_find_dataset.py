"""Which labelled images are found, and which classes their labels mean."""

import os

import pytest
import tensorflow as tf

from hubexport.errors import DataError, UsageError
from hubexport.evaluation.class_lookup import check_label, read_class_lookup
from hubexport.evaluation.find_dataset import find_dataset
from hubexport.labels import module_labels
from hubexport.progress import Progress
from tests.evaluation import write_records


class _Heard(Progress):
    def __init__(self):
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


class _Labelled:
    """The interface of a module with its labels in a folder."""

    def __init__(self, folder):
        self.class_names = lambda: module_labels(folder)


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def _find(data, labels=None, offset=0, limit=None, progress=None):
    classes = read_class_lookup(labels and str(labels), _Labelled(data.parent), offset)
    return find_dataset(str(data), classes, limit, progress or Progress())


def _found(dataset, root):
    return {os.path.relpath(sample.source, root): sample.label for unit in dataset.units for sample in unit.samples()}


@pytest.fixture
def labels(tmp_path):
    """A file of four labels, of which the last two are equal."""
    path = tmp_path / "labels.txt"
    path.write_text("background\ntench, Tinca tinca\n3\ncrane\ncrane\n")
    return path


def test_folders_are_classes_by_number_or_label(tmp_path, labels):
    """A label that looks like a number is still a label: labels come before numbers."""
    root = tmp_path / "data"
    _touch(root, "0/a.png", "tench, Tinca tinca/b.JPEG", "3/c.jpg", "3/more/d.webp", "04/e.bmp", "4/notes.txt")
    dataset = _find(root, labels)
    assert _found(dataset, root) == {
        "0/a.png": 0,
        "tench, Tinca tinca/b.JPEG": 1,
        "3/c.jpg": 2,
        "3/more/d.webp": 2,
        "04/e.bmp": 4,
    }
    assert dataset.size == 5
    dataset.check_labels(5)


def test_labels_come_with_the_module(tmp_path):
    """From its assets, unless --labels names a file."""
    _touch(tmp_path / "data", "b/a.png")
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "labels.txt").write_text("a\nb\n")
    assert _found(_find(tmp_path / "data"), tmp_path) == {"data/b/a.png": 1}
    (tmp_path / "others.txt").write_text("b\na\n")
    assert _found(_find(tmp_path / "data", tmp_path / "others.txt"), tmp_path) == {"data/b/a.png": 0}


def test_the_modules_own_labels_have_no_offset(tmp_path):
    """They are in the order of its classes. Numbers are the data's."""
    _touch(tmp_path / "data", "1/a.png", "b/a.png")
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "labels.txt").write_text("a\nb\n")
    dataset = _find(tmp_path / "data", offset=1)
    assert _found(dataset, tmp_path) == {"data/1/a.png": 0, "data/b/a.png": 1}
    dataset.check_labels(2)


def test_unknown_folders_are_listed(tmp_path, labels):
    """The first ten are listed, and ambiguous labels are marked."""
    root = tmp_path / "data"
    _touch(root, "0/a.png", "crane/a.png", *(f"x{number:02}/a.png" for number in range(12)))
    with pytest.raises(DataError) as caught:
        _find(root, labels)
    assert str(caught.value).splitlines() == [
        f"cannot match 13 of the 14 folders in {root} to classes",
        "  why: a folder must be named by the number of its class, or by one of the labels in "
        f"{tmp_path}/labels.txt",
        "    - crane (the label of several classes)",
        *(f"    - x{number:02}" for number in range(9)),
        "    - and 3 more",
        "  fix: rename them, or pass a text file of their labels with --labels, one class per line",
    ]


def test_the_offset_is_subtracted_from_numbers_and_lines(tmp_path, labels):
    """So that data numbered from 1 fits a module numbered from 0, and vice versa."""
    root = tmp_path / "data"
    _touch(root, "4/a.png", "tench, Tinca tinca/b.png")
    dataset = _find(root, labels, offset=1)
    assert sorted(_found(dataset, root).values()) == [0, 3]
    dataset.check_labels(4)
    assert sorted(_found(_find(root, labels, offset=-1), root).values()) == [2, 5]


def test_labels_must_be_those_of_the_module(tmp_path, labels):
    """One for each class, minus the offset."""
    root = tmp_path / "data"
    _touch(root, "0/a.png")
    with pytest.raises(DataError, match="there are 5 labels for 1,001 classes"):
        _find(root, labels).check_labels(1001)


@pytest.mark.parametrize("label", [-1, 1000, 2**62])
def test_a_label_must_be_of_a_class(label):
    """The error suggests the usual reason."""
    with pytest.raises(DataError, match="class -?[0-9]+, but the module's 1,000 classes are 0 to 999"):
        check_label(label, 1000, "a.png")
    check_label(999, 1000, "a.png")


def test_a_folder_beyond_the_classes_is_found_before_anything_is_read(tmp_path):
    """The files in it are not read."""
    root = tmp_path / "data"
    _touch(root, "0/a.png", "1000/a.png")
    with pytest.raises(DataError, match=f"the label of {root}/1000 does not fit the module"):
        _find(root).check_labels(1000)


def test_files_beside_the_folders_get_a_warning(tmp_path):
    """Except hidden files."""
    root, heard = tmp_path / "data", _Heard()
    _touch(root, "0/a.png", "b.png", ".hidden", ".git/x.png")
    assert _found(_find(root, progress=heard), root) == {"0/a.png": 0}
    assert heard.warnings == [f"ignoring 1 files in {root} that are not in a class folder"]


def test_a_limit_spreads_over_the_folders(tmp_path):
    """The first images alone would only cover the first classes."""
    root = tmp_path / "data"
    _touch(root, *(f"{label}/{number}.png" for label in range(5) for number in range(4)))
    dataset = _find(root, limit=10)
    assert sorted(_found(dataset, root).values()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert _find(root, limit=99).size == 20


def test_images_are_cut_into_units(tmp_path):
    """Units of 256 images have a fixed order, with each image once."""
    root = tmp_path / "data"
    _touch(root, *(f"{label}/{number}.png" for label in range(3) for number in range(100)))
    dataset = _find(root)
    assert [unit.size for unit in dataset.units] == [256, 44]
    assert len(_found(dataset, root)) == 300


def _images(number, first=0):
    return [(bytes([index]), index) for index in range(first, first + number)]


def _samples(dataset):
    return [(sample.source, sample.label) for unit in dataset.units for sample in unit.samples()]


@pytest.fixture
def shards(tmp_path):
    """A folder with two shards and TF-Slim's file of labels."""
    folder = tmp_path / "imagenet"
    folder.mkdir()
    write_records(folder / "validation-00000-of-00002", _images(3))
    write_records(folder / "validation-00001-of-00002", _images(2, first=3))
    (folder / "labels.txt").write_text("0:background\n")
    return folder


@pytest.mark.parametrize("text", ["", "validation-*-of-00002", "**/validation-*"])
def test_records_are_named_by_folder_or_pattern(shards, text):
    """In the order of the files' names. Other files in the folder are ignored."""
    assert _samples(_find(shards / text)) == _images(5)


def test_records_may_be_one_file(shards):
    """Named by its path."""
    assert _samples(_find(shards / "validation-00001-of-00002")) == _images(2, first=3)


def test_the_offset_is_subtracted_from_the_labels_of_records(shards):
    """As in TF-Slim's evaluation."""
    assert [label for _, label in _samples(_find(shards, offset=1))] == [-1, 0, 1, 2, 3]


@pytest.mark.parametrize("limit", [1, 3, 4, 99])
def test_a_limit_takes_the_first_records(shards, limit):
    """Even within a file."""
    assert _samples(_find(shards, limit=limit)) == _images(5)[:limit]


def test_a_large_file_is_cut_into_units(tmp_path):
    """Each unit begins where it should."""
    write_records(tmp_path / "one", [(b"x" * (label % 7), label) for label in range(600)])
    dataset = _find(tmp_path / "one")
    assert [unit.size for unit in dataset.units] == [256, 256, 88]
    assert [label for _, label in _samples(dataset)] == list(range(600))


def test_the_listing_identifies_the_data(shards):
    """The same data has the same digest. Another file time, offset or limit changes it."""
    listings = [_find(shards).listing, _find(shards, limit=4).listing, _find(shards, offset=1).listing]
    assert _find(shards).listing == listings[0]
    os.utime(shards / "validation-00000-of-00002", ns=(0, 0))
    listings.append(_find(shards).listing)
    assert len(set(listings)) == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("nowhere", "no such file or folder", id="nothing"),
        pytest.param("no*where", "no file matches it", id="pattern of nothing"),
        pytest.param("labels.txt", "it is not a TFRecord", id="no record"),
        pytest.param("*.txt", "it is not a TFRecord", id="pattern of no record"),
        pytest.param("empty", "none of its 0 files is a TFRecord", id="empty folder"),
        pytest.param("folders", "none of its 1 folders holds an image", id="empty class"),
        pytest.param("hollow", "no records", id="no records in a file"),
    ],
)
def test_no_data_are_an_error(tmp_path, labels, name, message):
    """The error says what was expected."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "folders" / "0").mkdir(parents=True)
    write_records(tmp_path / "hollow", [])
    with pytest.raises(DataError, match=message):
        _find(tmp_path / name)


def test_a_torn_shard_is_an_error_that_names_it(shards):
    """Before any image is evaluated."""
    path = shards / "validation-00001-of-00002"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match=f"cannot read {path}\n  why: it ends in the middle of a record"):
        _find(shards)


def test_records_of_something_else_are_an_error_that_names_the_file(tmp_path):
    """This is found when the records are read."""
    with tf.io.TFRecordWriter(str(tmp_path / "one")) as writer:
        writer.write(tf.train.Example().SerializeToString())
    [unit] = _find(tmp_path / "one").units
    with pytest.raises(DataError, match=f"cannot read {tmp_path}/one\n  why: a record needs bytes 'image/encoded'"):
        list(unit.samples())


def test_a_missing_file_of_labels_is_an_error(tmp_path):
    """The error names the file."""
    with pytest.raises(UsageError, match="nowhere.txt"):
        read_class_lookup(str(tmp_path / "nowhere.txt"), _Labelled(tmp_path), 0)
