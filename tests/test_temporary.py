"""Without room for temporary files, the error blames TMPDIR, and not the input."""

import errno
import os
from pathlib import Path
import resource
import subprocess
import zipfile

import pytest

from hubexport.build import build_modules
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.deployment_comparison import compare
from hubexport.description import describe
from hubexport.errors import TemporaryFileError
from hubexport.verify.verify_module import verify_module
from tests.archives import member, tgz
from tests.checkpoints import network_values
from tests.command import command, environment
from tests.conftest import SMALL
from tests.faulty_disk import small_disk

# These are unpacked or copied before they are read.
_SOURCES = ("c.h5", "c.weights.h5", "c.keras", "c.tgz", "module.tar.gz")


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A folder with one file of each kind, and a packed module."""
    folder = tmp_path_factory.mktemp("sources")
    write_bundle(folder / "c.ckpt", network_values())
    for name in ("c.h5", "c.weights.h5"):
        convert(folder / "c.ckpt", folder / name, "keras", weights="raw")
    with zipfile.ZipFile(folder / "c.keras", "w") as archive:
        archive.write(folder / "c.weights.h5", "model.weights.h5")
    parts = [f"c.ckpt.{end}" for end in ("index", "data-00000-of-00001")]
    (folder / "c.tgz").write_bytes(tgz(*(member(name, (folder / name).read_bytes()) for name in parts)))
    return folder


@pytest.fixture(scope="module")
def module(sources, tmp_path_factory) -> Path:
    """A module, which is also packed among the sources."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "small.yaml").write_text(SMALL)
    variant, checkpoint = load_variant("small", folder), sources / "c.ckpt"
    [path] = build_modules(variant, ["classification/5"], checkpoint=checkpoint, weights="raw", output_dir=folder)
    files = [found for found in sorted(path.rglob("*")) if found.is_file()]
    members = (member(f"./{found.relative_to(path)}", found.read_bytes()) for found in files)
    (sources / "module.tar.gz").write_bytes(tgz(*members))
    return path


def _told(stderr: str, number: int) -> None:
    assert "Traceback" not in stderr
    assert "ERROR cannot" in stderr and "temporary files" in stderr, stderr
    assert os.strerror(number) in stderr and "TMPDIR" in stderr, stderr
    assert "damaged" not in stderr and "fetch" not in stderr and "FAIL" not in stderr, stderr


@pytest.mark.parametrize("name", _SOURCES)
@pytest.mark.slow
def test_inspect_blames_the_limit_that_stops_a_copy_and_not_the_file(sources, module, tmp_path, name):
    """A limit on the size of files stops the copy in the middle, as a full disk does."""
    limit = 100_000
    done = subprocess.run(
        command("inspect", sources / name),
        env=environment({"TMPDIR": str(tmp_path)}),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1
    _told(done.stderr, errno.EFBIG)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", _SOURCES)
def test_a_folder_that_cannot_be_written_is_not_called_damage(sources, module, tmp_path, monkeypatch, name):
    """Nor is a path that is not a folder."""
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", Path("/proc/hubexport")):
        monkeypatch.setattr("tempfile.tempdir", str(place))
        with pytest.raises(TemporaryFileError) as caught:
            describe(sources / name)
        assert caught.value.what in (f"cannot unpack {sources / name}", f"cannot read {sources / name}")
        assert "TMPDIR" in caught.value.fix


def test_without_any_folder_for_temporary_files(sources, monkeypatch):
    """Python finds no such folder, and raises an error of its own."""

    def none():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.gettempdir", none)
    with pytest.raises(TemporaryFileError, match="No usable temporary directory"):
        describe(sources / "c.h5")


@pytest.mark.faults
@pytest.mark.parametrize("name", _SOURCES)
@pytest.mark.parametrize("act", ["inspect", "convert", "diff"])
def test_a_full_disk_for_temporary_files_is_not_called_damage(sources, module, tmp_path, monkeypatch, act, name):
    """At every size up to the first that is large enough."""
    failures = 0
    for kilobytes in range(4, 20_000, 250):
        with small_disk(tmp_path / "tmp", kilobytes) as disk:
            monkeypatch.setattr("tempfile.tempdir", str(disk))
            try:
                if act == "inspect":
                    describe(sources / name)
                elif act == "convert":
                    convert(sources / name, tmp_path / "c.ckpt", "slim", weights="raw")
                else:
                    compare(sources / "c.ckpt", sources / name)
                break
            except TemporaryFileError as error:
                failures += 1
                assert os.strerror(errno.ENOSPC) in error.why and str(disk) in error.fix
            assert list(disk.iterdir()) == []
            assert not list(tmp_path.glob("c.ckpt*"))
    assert failures > 3


@pytest.mark.faults
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_verify_does_not_blame_the_module_for_lack_of_room(sources, module, tmp_path, monkeypatch):
    """The module is built there a second time."""
    failures = 0
    for kilobytes in (4, 60, 250, 340, 4000, 20_000):
        for path in (module, sources / "module.tar.gz"):
            with small_disk(tmp_path / "tmp", kilobytes) as disk:
                monkeypatch.setattr("tempfile.tempdir", str(disk))
                try:
                    assert verify_module(path, checks=["rebuild.files"]).passed
                except TemporaryFileError as error:
                    failures += 1
                    assert str(disk) in error.fix
                assert list(disk.iterdir()) == []
    assert failures >= 4
