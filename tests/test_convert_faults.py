"""Failures while `hubexport convert` writes: readers find the old result or the new one, whole."""

from collections.abc import Callable, Mapping
import errno
import functools
import os
from pathlib import Path
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from hubexport.conversion import convert
from tests.checkpoints import TARGETS, network_values, write_v2
from tests.faulty_disk import hide_free_space, small_disk
from tests.release_misfortunes import die_before, hold_at
from tests.release_runs import Command, Done, hidden, wait_for

pytestmark = pytest.mark.faults

_PAIRS = ("slim", "tf2")

_Contents = dict[str, bytes]


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> list[Path]:
    """Two checkpoints of the same network with different values."""
    folder = tmp_path_factory.mktemp("sources")
    for seed in (1, 2):
        write_v2(folder / f"{seed}.ckpt", network_values(seed=seed))
    return [folder / "1.ckpt", folder / "2.ckpt"]


def _given(target: str, source: Path, folder: Path) -> tuple[str | Path, ...]:
    to, name = TARGETS[target]
    return ("convert", source, folder / name, "--to", to, "--weights", "raw")


def _run(*arguments: str | Path, before: Callable[[], None] | None = None) -> Done:
    return Command(*arguments, before=before).wait()


def _contents(folder: Path) -> _Contents:
    """Returns all visible files below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if ".hubexport" not in str(path)}


def _read(prefix: Path) -> Mapping[str, np.ndarray]:
    """Reads all values with TensorFlow, which checks their checksums."""
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def _same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


# Killed


@pytest.mark.parametrize("old_shards", [1, 2])
@pytest.mark.parametrize("target", _PAIRS)
def test_a_kill_while_a_pair_is_replaced_leaves_the_old_or_the_new(sources, tmp_path, target, old_shards):
    """Killed before each call that changes the folder. TensorFlow reads the result; the next run completes it."""
    wanted = {}
    for number, source in enumerate(sources):
        convert(source, tmp_path / f"whole-{number}" / TARGETS[target][1], TARGETS[target][0], weights="raw")
        wanted[number] = _read(tmp_path / f"whole-{number}" / TARGETS[target][1])
    new_files = _contents(tmp_path / "whole-1")
    found = []
    for number in range(1, 100):
        folder = tmp_path / str(number)
        prefix = folder / TARGETS[target][1]
        if old_shards == 1:
            shutil.copytree(tmp_path / "whole-0", folder)
        else:
            _write_in_two(wanted[0], prefix)
        arguments = (*_given(target, sources[1], folder), "--overwrite")
        status = _run(*arguments, before=functools.partial(die_before, folder, number)).status
        assert status in (0, -signal.SIGKILL)
        values = _read(prefix)
        [found_whole] = [which for which in wanted if _same(values, wanted[which])]
        found.append(found_whole)
        again = convert(prefix, tmp_path / "again" / "c.ckpt", "slim", weights="raw", overwrite=True)
        assert _same(_read(again), network_values(seed=1 + found_whole)), "hubexport reads what TensorFlow does"
        assert _run(*arguments).status == 0
        assert _contents(folder) == new_files
        assert hidden(folder) == []
        if status == 0:
            break
    assert found[0] == 0 and found[-1] == 1 and found == sorted(found)
    assert len(found) > 6


def _write_in_two(values: Mapping[str, np.ndarray], prefix: Path) -> None:
    """Merges two checkpoints with TensorFlow into one with two data files."""
    parts = []
    for number in range(2):
        names = sorted(values)[number::2]
        parts.append(f"{prefix}-part-{number}")
        write_v2(Path(parts[-1]), {name: values[name] for name in names})
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(prefix), delete_old_dirs=False)
    assert Path(f"{prefix}.data-00001-of-00002").exists()


@pytest.mark.parametrize("target", TARGETS)
def test_a_kill_leaves_nothing_or_all_where_nothing_was(sources, tmp_path, target):
    """Killed before each call that changes the folder; the next run completes it."""
    to, name = TARGETS[target]
    convert(sources[0], tmp_path / "whole" / name, to, weights="raw")
    whole = _contents(tmp_path / "whole")
    for number in range(1, 100):
        folder = tmp_path / str(number)
        folder.mkdir()
        arguments = _given(target, sources[0], folder)
        status = _run(*arguments, before=functools.partial(die_before, folder, number)).status
        assert status in (0, -signal.SIGKILL)
        if target in _PAIRS:
            # Without an index, data files are not a checkpoint.
            assert f"{name}.index" not in _contents(folder) or _contents(folder) == whole
        else:
            assert _contents(folder) in ({}, whole)
        assert _run(*arguments, "--overwrite").status == 0
        assert _contents(folder) == whole
        assert hidden(folder) == []
        if status == 0:
            break
    assert number > 2


@pytest.mark.parametrize("target", ["keras", "keras_weights", "safetensors", "huggingface"])
def test_a_kill_while_one_target_is_replaced_leaves_the_old_or_the_new(sources, tmp_path, target):
    """The same for targets that are replaced in one step."""
    to, name = TARGETS[target]
    for number, source in enumerate(sources):
        convert(source, tmp_path / f"whole-{number}" / name, to, weights="raw")
    wholes = [_contents(tmp_path / f"whole-{number}") for number in range(2)]
    for number in range(1, 100):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole-0", folder)
        arguments = (*_given(target, sources[1], folder), "--overwrite")
        status = _run(*arguments, before=functools.partial(die_before, folder, number)).status
        assert _contents(folder) in wholes
        assert _run(*arguments).status == 0
        assert _contents(folder) == wholes[1]
        assert hidden(folder) == []
        if status == 0:
            break
    assert number > 2


# At one time


@pytest.mark.parametrize("target", _PAIRS)
def test_the_second_of_two_runs_at_one_place_waits_and_says_so(sources, tmp_path, target):
    """Even if the first one is stopped between its two files."""
    folder = tmp_path / "c"
    folder.mkdir()
    convert(sources[0], folder / TARGETS[target][1], TARGETS[target][0], weights="raw")
    here, go = tmp_path / "here", tmp_path / "go"
    arguments = [(*_given(target, source, folder), "--overwrite") for source in sources]
    first = Command(*arguments[0], before=functools.partial(hold_at, "os.rename", ".index", here, go))
    wait_for(here.exists)
    second = Command(*arguments[1])
    wait_for(lambda: "waiting for another process" in second.stderr_so_far())
    go.touch()
    assert (first.wait().status, second.wait().status) == (0, 0)
    found = _read(folder / TARGETS[target][1])
    convert(sources[1], tmp_path / "alone" / TARGETS[target][1], TARGETS[target][0], weights="raw")
    assert _same(found, _read(tmp_path / "alone" / TARGETS[target][1]))
    assert _contents(folder) == _contents(tmp_path / "alone")
    assert hidden(folder) == []


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_many_runs_at_one_place_do_not_mix(sources, tmp_path, target, overwrite):
    """Each run succeeds or reports that another was quicker, and the result is whole."""
    to, name = TARGETS[target]
    wholes = []
    for number, source in enumerate(sources):
        convert(source, tmp_path / f"whole-{number}" / name, to, weights="raw")
        wholes.append(_contents(tmp_path / f"whole-{number}"))
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        arguments = [(*_given(target, source, folder), *["--overwrite"] * overwrite) for source in (*sources, *sources)]
        done = [command.wait() for command in [Command(*each) for each in arguments]]
        assert all(run.status == 0 or "already exists" in run.stderr for run in done), done
        assert sum(run.status == 0 for run in done) == (4 if overwrite else 1), done
        assert _contents(folder) in wholes
        assert hidden(folder) == []


# Full


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_a_disk_that_is_too_small_keeps_what_it_has(sources, tmp_path, target, overwrite):
    """At every size that is too small, the error names the place, and no new file is left."""
    to, name = TARGETS[target]
    convert(sources[0], tmp_path / "old" / name, to, weights="raw")
    old_kilobytes = sum(map(len, _contents(tmp_path / "old").values())) >> 10
    failures = 0
    for kilobytes in range(16, 20_000, 150):
        with small_disk(tmp_path / "disk", kilobytes + overwrite * (old_kilobytes + 64)) as disk:
            if overwrite:
                shutil.copytree(tmp_path / "old", disk / "c")
            before = _contents(disk)
            arguments = _given(target, sources[1], disk / "c")
            done = _run(*arguments, *["--overwrite"] * overwrite, before=hide_free_space)
            if done.status == 0:
                break
            failures += 1
            assert done.status == 1, done.stderr
            assert f"ERROR cannot write {disk / 'c' / name}" in done.stderr
            assert os.strerror(errno.ENOSPC) in done.stderr and "Traceback" not in done.stderr
            assert _contents(disk) == before
            assert hidden(disk) == []
    assert failures > 8
