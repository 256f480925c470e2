"""Directories that appear whole or not at all."""

import errno
import fcntl
import multiprocessing
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys

import pytest

from hubexport.errors import OutputError
from hubexport.system import atomic_output, locks
from hubexport.system.atomic_output import publish_directory, publish_file, publish_together, scratch_directory
from tests.command import environment
from tests.release_misfortunes import die_before


def _staged(parent: Path, content: str) -> Path:
    staged = parent / "staged"
    staged.mkdir()
    (staged / "file").write_text(content)
    return staged


def _leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(".hubexport-*"))


def test_a_new_directory_is_moved_to_its_place(tmp_path):
    """Missing parents are made."""
    with scratch_directory(tmp_path) as scratch:
        publish_directory(_staged(scratch, "new"), tmp_path / "a" / "b", overwrite=False)
    assert (tmp_path / "a" / "b" / "file").read_text() == "new"
    assert not _leftovers(tmp_path)


def test_an_existing_directory_is_kept(tmp_path):
    """It is replaced only with `overwrite`."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("old")
    with scratch_directory(tmp_path) as scratch, pytest.raises(OutputError, match="already exists"):
        publish_directory(_staged(scratch, "new"), tmp_path / "old", overwrite=False)
    assert (tmp_path / "old" / "file").read_text() == "old"
    assert not _leftovers(tmp_path)


def test_an_existing_file_is_kept(tmp_path):
    """It is not ours."""
    (tmp_path / "old").write_text("precious")
    with scratch_directory(tmp_path) as scratch, pytest.raises(OutputError, match="already exists"):
        publish_directory(_staged(scratch, "new"), tmp_path / "old", overwrite=False)
    assert (tmp_path / "old").read_text() == "precious"


def test_overwriting_swaps_in_one_step(tmp_path, monkeypatch):
    """The place is never empty: the only call that touches it is the exchange."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("old")
    monkeypatch.setattr(atomic_output.shutil, "rmtree", lambda *args, **options: None)
    with scratch_directory(tmp_path) as scratch:
        publish_directory(_staged(scratch, "new"), tmp_path / "old", overwrite=True)
    assert (tmp_path / "old" / "file").read_text() == "new"
    assert (scratch / "staged" / "file").read_text() == "old"


def test_a_system_that_cannot_swap_says_so_and_keeps_the_old(tmp_path, monkeypatch):
    """Two steps would leave a moment with neither directory."""

    class NoExchange:
        def __getattr__(self, name):
            raise AttributeError(name)

    monkeypatch.setattr(atomic_output.ctypes, "CDLL", lambda *args, **options: NoExchange())
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("old")
    with scratch_directory(tmp_path) as scratch, pytest.raises(OutputError, match="cannot replace"):
        publish_directory(_staged(scratch, "new"), tmp_path / "old", overwrite=True)
    assert (tmp_path / "old" / "file").read_text() == "old"


def test_other_failures_to_move_are_not_taken_for_an_existing_directory(tmp_path, monkeypatch):
    """Such as a read-only place."""

    def refuse(self, target):
        raise OSError(errno.EROFS, "Read-only file system", str(target))

    monkeypatch.setattr(Path, "rename", refuse)
    with scratch_directory(tmp_path) as scratch, pytest.raises(OSError, match="Read-only"):
        publish_directory(_staged(scratch, "new"), tmp_path / "x", overwrite=True)


def test_scratch_is_removed_after_a_failure(tmp_path):
    """So is its content."""
    with pytest.raises(ZeroDivisionError), scratch_directory(tmp_path) as scratch:
        _staged(scratch, "x")
        raise ZeroDivisionError
    assert not _leftovers(tmp_path)


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    """A living process keeps its scratch directory."""
    code = (
        "import os, sys, pathlib\n"
        "from hubexport.system.atomic_output import scratch_directory\n"
        "with scratch_directory(pathlib.Path(sys.argv[1])) as scratch:\n"
        "    (scratch / 'half').write_text('x')\n"
        "    print(scratch, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment()}
    with subprocess.Popen(command, **pipes) as dying, subprocess.Popen(command, **pipes) as living:
        killed = Path(dying.stdout.readline().strip())
        kept = Path(living.stdout.readline().strip())
        dying.kill()
        dying.wait()
        assert (killed / "half").exists()
        with scratch_directory(tmp_path) as scratch:
            assert not killed.exists()
            assert (kept / "half").exists()
            assert set(_leftovers(tmp_path)) == {kept, scratch}
        living.stdin.close()
        assert living.wait(timeout=30) == 0
    assert not _leftovers(tmp_path)


@pytest.fixture
def alarm():
    """Interrupts a test that hangs."""

    def ring(*_):
        pytest.fail("it waits")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(5)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_a_lock_on_the_folder_itself_blocks_nobody(tmp_path, alarm):
    """Every user of a machine can lock /tmp."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with scratch_directory(tmp_path) as scratch:
        assert scratch.stat().st_mode & 0o777 == 0o700, "otherwise others could lock this one"
    os.close(descriptor)


@pytest.mark.parametrize("moment", ["before it is opened", "before it is locked", "while it is locked"])
def test_a_directory_that_others_take_for_a_leftover_is_made_again(tmp_path, monkeypatch, alarm, moment):
    """A new one is not locked yet."""
    taken = []
    open_directory, lock = atomic_output._open_directory, atomic_output.lock_at_once

    def open_late(path):
        if not taken and moment == "before it is opened":
            taken.append(path)
            shutil.rmtree(path)
        return open_directory(path)

    def lock_late(descriptor):
        if not taken:
            [path] = tmp_path.iterdir()
            taken.append(path)
            if moment == "while it is locked":
                raise BlockingIOError
            shutil.rmtree(path)
        return lock(descriptor)

    monkeypatch.setattr(atomic_output, "_open_directory", open_late)
    monkeypatch.setattr(atomic_output, "lock_at_once", lock_late)
    with scratch_directory(tmp_path) as scratch:
        assert taken and scratch not in taken
        assert scratch.is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_leftovers_of_other_users_stay_even_if_root_could_remove_them(tmp_path):
    """In /tmp anybody may make a directory or a link of such a name."""
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 12345, 12345)
    (tmp_path / "precious").mkdir()
    tmp_path.joinpath("theirs").rename(tmp_path / ".hubexport-theirs")
    (tmp_path / ".hubexport-link").symlink_to("precious")
    with scratch_directory(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hubexport-link", ".hubexport-theirs", "precious"]


def test_content_is_flushed_before_its_name(tmp_path, monkeypatch):
    """The names of new parents are flushed too, each in its own parent."""
    events = []
    fsync, rename = os.fsync, os.rename

    def record(descriptor):
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def note(source, target, **options):
        events.append("rename")
        rename(source, target, **options)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(os, "rename", note)
    with scratch_directory(tmp_path) as scratch:
        staged = _staged(scratch, "new")
        publish_directory(staged, tmp_path / "google" / "imagenet" / "x" / "2", overwrite=False)
        parents = [tmp_path / "google" / "imagenet", tmp_path / "google", tmp_path]
        assert events == [staged / "file", staged, *parents, "rename", tmp_path / "google" / "imagenet" / "x"]
        events.clear()
        (scratch / "file").write_text("x")
        publish_file(scratch / "file", tmp_path / "a" / "b" / "file", overwrite=True)
        assert events == [scratch / "file", tmp_path / "a", tmp_path, tmp_path / "a" / "b"]


def test_a_file_system_without_locks_keeps_leftovers_and_works(tmp_path, monkeypatch):
    """NFS refuses to lock a directory, so nobody can know whether its owner lives."""

    def refuse(descriptor, operation):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    (tmp_path / ".hubexport-old").mkdir()
    with scratch_directory(tmp_path) as scratch:
        publish_directory(_staged(scratch, "new"), tmp_path / "a", overwrite=False)
    assert (tmp_path / "a" / "file").read_text() == "new"
    assert _leftovers(tmp_path) == [tmp_path / ".hubexport-old"]


def test_a_file_named_like_a_leftover_is_ignored(tmp_path):
    """It is not a directory."""
    (tmp_path / ".hubexport-strange").write_text("x")
    with scratch_directory(tmp_path):
        pass
    assert (tmp_path / ".hubexport-strange").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_place_is_an_os_error(tmp_path):
    """The callers turn it into their own errors."""
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError), scratch_directory(tmp_path):
        pass


def test_a_file_takes_its_place_in_one_step(tmp_path):
    """An existing file stays unless `overwrite` is set, even if it appeared a moment ago."""
    final = tmp_path / "final"
    for number, overwrite in enumerate((False, True)):
        (tmp_path / "staged").write_text(str(number))
        publish_file(tmp_path / "staged", final, overwrite=overwrite)
        assert final.read_text() == str(number)
    (tmp_path / "staged").write_text("late")
    with pytest.raises(OutputError, match="already exists"):
        publish_file(tmp_path / "staged", final, overwrite=False)
    assert final.read_text() == "1"


def _replace_pair(folder, number):
    die_before(folder, number)
    with scratch_directory(folder) as scratch:
        for name in ("vectors", "names"):
            (scratch / name).write_text("new")
        publish_together(scratch, [folder / "vectors", folder / "names"], overwrite=True)


def test_of_files_that_belong_together_a_kill_loses_none(tmp_path):
    """At any moment: the first never lies beside old versions of the others, and the old files are kept."""
    numbers = range(1, 20)
    for number in numbers:
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in ("vectors", "names"):
            (folder / name).write_text("old")
        process = multiprocessing.get_context("fork").Process(target=_replace_pair, args=(folder, number))
        process.start()
        process.join(60)
        found = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
        if "vectors" in found:
            assert found["vectors"] == found["names"]
        if found.get("vectors") != "new":
            assert "old" in (found.get("vectors"), found.get("vectors.old"))
            assert "old" in (found.get("names"), found.get("names.old"))
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert number > 5 and found == {"vectors": "new", "names": "new"}


@pytest.mark.parametrize("old", [{"vectors": "old", "names": "old"}, {"names": "old"}, {}], ids=["both", "one", "none"])
def test_of_files_that_belong_together_a_failure_leaves_the_old_ones(tmp_path, old):
    """One new file is missing, so none of the others stays."""
    for name, text in old.items():
        (tmp_path / name).write_text(text)
    with scratch_directory(tmp_path) as scratch, pytest.raises(FileNotFoundError):
        (scratch / "names").write_text("new")
        publish_together(scratch, [tmp_path / "vectors", tmp_path / "names"], overwrite=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == old
