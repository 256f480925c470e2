"""Modules and conversions are not begun on a disk without room for them."""

from collections import namedtuple
from pathlib import Path
import shutil

import pytest

from hubexport.batch import build_batch
from hubexport.build import BuildOptions, BuildOrder, build_modules, needed_bytes
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.conversion import convert
from hubexport.errors import OutputError
from hubexport.system.free_space import check_free_space
from tests.checkpoints import network_values

_Usage = namedtuple("_Usage", "total used free")
_MODULES = ["feature_vector/2", "classification/5"]


@pytest.fixture
def free(monkeypatch):
    """Sets how many bytes every disk has free, and returns the folders that were asked about."""
    asked = []

    def set_free(count: int) -> list[Path]:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or _Usage(10**12, 0, count))
        return asked

    return set_free


def test_the_bytes_of_all_modules_are_known_before_they_are_built(small, tmp_path):
    """They are the sizes of the files of values, without the graph of objects of TensorFlow 2."""
    order = BuildOrder(small, ["feature_vector/1", "feature_vector/2", "classification/3"])
    built = build_modules(small, order.modules, checkpoint="synthetic", output_dir=tmp_path)
    data = [path / "variables" / "variables.data-00000-of-00001" for path in built]
    assert needed_bytes(order) == sum(path.stat().st_size for path in data)


def test_modules_for_which_there_is_no_room_are_not_begun(small, tmp_path, free):
    """One byte too few, and nothing is made, not even the folder; enough, and all are built."""
    needed = needed_bytes(BuildOrder(small, _MODULES))
    folder = tmp_path / "new" / "modules"
    asked = free(needed - 1)
    with pytest.raises(OutputError) as caught:
        build_modules(small, _MODULES, checkpoint="synthetic", output_dir=folder)
    assert caught.value.what == f"cannot write modules to {folder}"
    assert caught.value.why == f"the values take 3.32 MB, and 3.32 MB are free on the disk of {tmp_path}"
    assert caught.value.fix == "free space there, or choose another --output-dir"
    assert asked == [tmp_path] and not (tmp_path / "new").exists()
    free(needed)
    assert len(build_modules(small, _MODULES, checkpoint="synthetic", output_dir=folder)) == 2


def test_a_batch_is_checked_as_a_whole(small, tmp_path, free):
    """But modules that are there already need no room."""
    orders = [BuildOrder(small, ["feature_vector/2"]), BuildOrder(small, ["classification/2"])]
    each = [needed_bytes(order) for order in orders]
    options = BuildOptions("synthetic", output_dir=tmp_path / "m")
    free(sum(each) - 1)
    with pytest.raises(OutputError, match="cannot write modules"):
        build_batch(orders, options)
    assert not (tmp_path / "m").exists()
    free(sum(each))
    build_batch(orders[:1], options)
    free(each[1])
    replacing = BuildOptions("synthetic", output_dir=tmp_path / "m", overwrite=True)
    assert all(isinstance(outcome.result, Path) for outcome in build_batch(orders, replacing))


@pytest.mark.parametrize("to", ["slim", "safetensors", "tf2"])
def test_a_conversion_for_which_there_is_no_room_is_not_begun(tmp_path, free, to):
    """And leaves what was there."""
    values = network_values()
    write_bundle(tmp_path / "c", values)
    needed = sum(value.nbytes for value in values.values())
    free(needed - 1)
    with pytest.raises(OutputError, match=r"cannot write .*new/target\n  why: the values take"):
        convert(tmp_path / "c", tmp_path / "new" / "target", to, weights="raw")
    assert not (tmp_path / "new").exists()
    free(needed)
    convert(tmp_path / "c", tmp_path / "new" / "target", to, weights="raw")


def test_disks_that_do_not_know_their_size(monkeypatch, tmp_path):
    """Whether there is room shows when files are written."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(0, 0, 0))
    check_free_space(tmp_path, 1, "cannot", "do not")

    def fail(path: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(shutil, "disk_usage", fail)
    check_free_space(tmp_path / "new", 1, "cannot", "do not")
