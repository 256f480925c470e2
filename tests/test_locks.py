"""Lock files: one process at a time, every wait is announced, and no other user can block anybody."""

import contextlib
import errno
import os
import signal
import subprocess
import sys

import pytest

from hubexport.errors import OutputError
from hubexport.progress import Progress
from hubexport.system import locks
from hubexport.system.locks import HeldError, locked
from tests.command import environment
from tests.data import REPOSITORY

_HOLD = """\
import pathlib, sys
from hubexport.system.locks import locked
with locked(pathlib.Path(sys.argv[1]), "work", None):
    print("held", flush=True)
    sys.stdin.read()
"""


class _Ear(Progress):
    def __init__(self, then):
        self.steps = []
        self._then = then

    def step(self, message):
        self.steps.append(message)
        self._then()


@contextlib.contextmanager
def _holder(path):
    """Another process that has the lock until its stdin is closed."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment()}
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process


def test_a_waiting_process_names_the_holder_and_others_fail(tmp_path):
    """Both messages name the holder and the lock file, which is gone in the end."""
    path = tmp_path / "lock"
    with _holder(path) as process:
        holder = f"process {process.pid} on {os.uname().nodename} holds the lock {path}"
        with pytest.raises(HeldError) as caught, locked(path, "work", None):
            pass
        assert str(caught.value) == holder
        ear = _Ear(process.stdin.close)
        with locked(path, "work", ear):
            assert process.wait(30) == 0
            assert ear.steps == [f"waiting for another process to work: {holder}"]
            assert path.read_text().startswith(f"process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_blocks_nobody(tmp_path):
    """The system releases its lock, and the next process takes its file over."""
    with _holder(tmp_path / "lock") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "lock").exists()
    with locked(tmp_path / "lock", "work", None):
        pass
    assert list(tmp_path.iterdir()) == []


def test_nobody_but_its_owner_can_open_a_lock_file(tmp_path):
    """Anybody who can open the file could lock it, and make others wait."""
    before = os.umask(0o022)
    try:
        with locked(tmp_path / "lock", "work", None):
            assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_a_lock_file_that_was_removed_meanwhile_is_made_again(tmp_path, monkeypatch):
    """Between opening and locking a file, its holder may remove it, and another process may lock a new one."""
    path, count = tmp_path / "lock", 0
    wait = locks._wait

    def late(*arguments):
        nonlocal count
        count += 1
        if count == 1:
            path.unlink()
        wait(*arguments)

    monkeypatch.setattr(locks, "_wait", late)
    with locked(path, "work", None):
        assert count == 2
        assert path.exists()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("precious")], ids=["fifo", "link"])
def test_links_and_fifos_are_refused(tmp_path, make):
    """Somebody else may have put them there."""
    (tmp_path / "precious").write_text("x")
    make(tmp_path / "lock")
    with pytest.raises(OutputError, match="lock"), locked(tmp_path / "lock", "work", Progress()):
        pass
    assert (tmp_path / "precious").read_text() == "x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_lock_file_is_refused_where_everybody_may_write(tmp_path):
    """In /tmp anybody may have made it; in a folder of our own, its owner works there too."""
    path = tmp_path / "lock"
    path.touch()
    os.chown(path, 12345, 12345)
    tmp_path.chmod(0o1777)
    with pytest.raises(OutputError, match="cannot lock") as caught, locked(path, "work", Progress()):
        pass
    assert "belongs to another user" in caught.value.why and "remove that file" in caught.value.fix
    tmp_path.chmod(0o755)
    with locked(path, "work", Progress()):
        pass


def test_where_files_cannot_be_locked_nobody_is_kept_out(tmp_path, monkeypatch):
    """Some network file systems have no locks."""

    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with locked(tmp_path / "lock", "work", None), locked(tmp_path / "lock", "work", None):
        pass
    assert list(tmp_path.iterdir()) == []


def test_only_one_module_locks():
    """Nothing else imports fcntl."""
    modules = (REPOSITORY / "hubexport").rglob("*.py")
    assert [path.name for path in modules if "import fcntl" in path.read_text()] == ["locks.py"]
