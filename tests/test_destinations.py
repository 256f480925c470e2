"""What `--overwrite` replaces: files by files, directories by directories of the same kind, and nothing else."""

import os
from pathlib import Path
import socket
import stat
import subprocess

import pytest

from hubexport.build import build_modules
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.conversion import convert
from hubexport.errors import OutputError, UsageError
from hubexport.images.feature_extraction import check_output
from tests.checkpoints import network_values
from tests.command import hubexport

# By case: the format, the path to convert to, and which of the written paths the test looks at.
_FILES = {
    "keras": ("keras", "c.h5", "c.h5"),
    "safetensors": ("safetensors", "c.st", "c.st"),
    "index": ("slim", "c.ckpt", "c.ckpt.index"),
    "data": ("tf2", "c", "c.data-00000-of-00001"),
    "other data": ("slim", "c", "c.data-00001-of-00003"),
}


def _device(path: Path) -> None:
    """Makes a null device."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root may make devices")


def _socket(path: Path) -> None:
    # Its address may have no more than some hundred bytes.
    before = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path.name)
    os.chdir(before)


def _link_to_a_file(path: Path) -> None:
    path.with_name("precious").write_text("x")
    path.symlink_to("precious")


def _link_to_a_directory(path: Path) -> None:
    path.with_name("precious").mkdir()
    path.symlink_to("precious")


def _link_to_a_device(path: Path) -> None:
    _device(path.with_name("precious"))
    path.symlink_to("precious")


# What stands at the place, and what the error says of it.
_STRANGE = {
    "device": (_device, "a device is there"),
    "fifo": (os.mkfifo, "a FIFO is there"),
    "socket": (_socket, "a socket is there"),
    "link to a file": (_link_to_a_file, "it is a link to {folder}/precious"),
    "link to a directory": (_link_to_a_directory, "it is a link to {folder}/precious"),
    "link to a device": (_link_to_a_device, "it is a link to {folder}/precious"),
    "dangling link": (lambda path: path.symlink_to("/nowhere/at/all"), "it is a link to /nowhere/at/all"),
    "loop": (lambda path: path.symlink_to(path.name), "it is a link to {folder}"),
}


@pytest.fixture
def checkpoint(tmp_path):
    """A small checkpoint."""
    (tmp_path / "source").mkdir()
    write_bundle(tmp_path / "source" / "model.ckpt", network_values())
    return tmp_path / "source" / "model.ckpt"


@pytest.fixture
def folder(tmp_path):
    """Where results go."""
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def _listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """The type, inode and size of each path in a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (stat.S_IFMT(status.st_mode), status.st_ino, status.st_size)
    return found


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("target", _FILES)
@pytest.mark.parametrize("strange", [*_STRANGE, "directory"])
def test_a_file_replaces_nothing_but_a_file(checkpoint, folder, strange, target, overwrite):
    """This is found before the source is read; a link is reported with its target, and neither is touched."""
    to, name, place = _FILES[target]
    make, why = {**_STRANGE, "directory": (Path.mkdir, "a directory is there")}[strange]
    make(folder / place)
    before = _listing(folder)
    with pytest.raises(OutputError) as caught:
        convert("/nowhere", folder / name, to, overwrite=overwrite)
    assert caught.value.why.startswith(why.format(folder=folder))
    assert str(folder / place) in caught.value.what
    assert "--overwrite" not in caught.value.fix
    assert _listing(folder) == before


@pytest.mark.parametrize("strange", [*_STRANGE, "file"])
def test_a_directory_replaces_nothing_but_a_directory(small, folder, strange):
    """For modules, and for models of Hugging Face."""
    make, why = {**_STRANGE, "file": (Path.touch, "a regular file is there")}[strange]
    place = folder / small.handle(small.modules[0])
    place.parent.mkdir(parents=True)
    for path in (place, folder / "hf"):
        make(path)
    before = _listing(folder)
    with pytest.raises(OutputError) as caught:
        build_modules(small, checkpoint="synthetic", output_dir=folder, overwrite=True)
    assert caught.value.why.startswith(why.format(folder=place.parent))
    with pytest.raises(OutputError) as caught:
        convert("synthetic", folder / "hf", "huggingface", variant=small, overwrite=True)
    assert caught.value.why.startswith(why.format(folder=folder))
    assert _listing(folder) == before


_STRANGERS = {
    "something else": (["thesis.tex"], "thesis.tex"),
    "repository": ([".git/HEAD"], ".git/HEAD"),
    "notes below": (["assets/my_notes.txt"], "assets/my_notes.txt"),
    "much": ([*"abcde"], "a, b, c and 2 more"),
}


@pytest.mark.parametrize(("strangers", "listed"), _STRANGERS.values(), ids=_STRANGERS)
@pytest.mark.parametrize("ours", [True, False])
def test_a_directory_with_other_files_is_not_replaced(small, folder, strangers, listed, ours):
    """Only a directory that is empty, or holds what hubexport wrote there, is replaced."""
    place = folder / small.handle(small.modules[0])
    if ours:
        build_modules(small, checkpoint="synthetic", output_dir=folder)
        convert("synthetic", folder / "hf", "huggingface", variant=small)
    for path in (directory / name for directory in (place, folder / "hf") for name in strangers):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    before = _listing(folder)
    why = f"it also holds {listed}, which would be lost" if ours else f"hubexport did not write it; it holds {listed}"
    with pytest.raises(OutputError) as caught:
        build_modules(small, checkpoint="synthetic", output_dir=folder, overwrite=True)
    assert caught.value.why == why
    with pytest.raises(OutputError) as caught:
        convert("synthetic", folder / "hf", "huggingface", variant=small, overwrite=True)
    assert caught.value.why == why
    assert _listing(folder) == before


def test_a_module_by_another_program_is_not_replaced(small, folder):
    """Its files have the same names as ours."""
    build_modules(small, checkpoint="synthetic", output_dir=folder)
    place = folder / small.handle(small.modules[0])
    (place / "hubexport.json").unlink()
    before = _listing(folder)
    with pytest.raises(OutputError, match="cannot write") as caught:
        build_modules(small, checkpoint="synthetic", output_dir=folder, overwrite=True)
    assert "hubexport did not write it" in caught.value.why
    assert _listing(folder) == before


def test_a_build_does_not_replace_its_source(small, folder):
    """The source may hold more than the module takes, such as averages beside raw values."""
    paths = build_modules(small, checkpoint="synthetic", output_dir=folder)
    before = _listing(folder)
    for source in (paths[0], paths[0] / "variables" / "variables"):
        with pytest.raises(OutputError, match="cannot write") as caught:
            build_modules(small, checkpoint=source, output_dir=folder, overwrite=True)
        assert "it would replace" in caught.value.why
    assert _listing(folder) == before


def test_an_empty_directory_is_replaced(small, folder):
    """There is nothing to lose."""
    place = folder / small.handle(small.modules[0])
    for directory in (place, folder / "hf"):
        directory.mkdir(parents=True)
    with pytest.raises(OutputError, match="already exists"):
        build_modules(small, checkpoint="synthetic", output_dir=folder)
    build_modules(small, checkpoint="synthetic", output_dir=folder, overwrite=True)
    convert("synthetic", folder / "hf", "huggingface", variant=small, overwrite=True)
    assert (place / "saved_model.pb").is_file() and (folder / "hf" / "config.json").is_file()


def test_neither_the_current_folder_nor_one_around_it_is_replaced(small, folder, monkeypatch):
    """The user's shell would be in a folder that is gone."""
    convert("synthetic", folder / "hf", "huggingface", variant=small)
    monkeypatch.chdir(folder / "hf")
    with pytest.raises(OutputError, match="cannot write") as caught:
        convert("synthetic", folder / "hf", "huggingface", variant=small, overwrite=True)
    assert caught.value.why == "the current folder is in it"
    for name in (".", "..", "/"):
        with pytest.raises((OutputError, UsageError)):
            convert("synthetic", name, "huggingface", variant=small, overwrite=True)
    assert len(list((folder / "hf").iterdir())) == 3


def test_a_mounted_file_system_is_not_replaced(small, folder):
    """The system would refuse it after all the work."""
    (folder / "hf").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder / "hf"], capture_output=True, check=False).returncode:
        pytest.skip("only root may mount file systems")
    try:
        with pytest.raises(OutputError) as caught:
            convert("synthetic", folder / "hf", "huggingface", variant=small, overwrite=True)
        assert caught.value.why == "a file system is mounted there"
    finally:
        subprocess.run(["umount", folder / "hf"], check=True)


@pytest.mark.parametrize("name", ["features.npy", "features.npy.names.txt", "features.parquet"])
@pytest.mark.parametrize("strange", _STRANGE)
def test_features_replace_nothing_but_files(folder, name, strange):
    """This holds for the file of names beside them, too."""
    _STRANGE[strange][0](folder / name)
    before = _listing(folder)
    with pytest.raises(OutputError) as caught:
        check_output(folder / name.removesuffix(".names.txt"), overwrite=True)
    assert str(folder / name) in caught.value.what
    assert _listing(folder) == before


def test_a_report_replaces_nothing_but_a_file(folder):
    """Not a device, for example."""
    _device(folder / "report.html")
    done = hubexport("verify", "/nowhere", "--report", folder / "report.html", "--overwrite")
    assert done.returncode == 1
    assert f"ERROR cannot write {folder / 'report.html'}\n  why: a device is there" in done.stderr


@pytest.mark.parametrize(
    ("source", "target", "to"),
    [
        ("m.h5", "m.h5", "keras"),
        ("m.st", "./m.st", "safetensors"),
        ("m.ckpt", "m.ckpt", "slim"),
        ("m.ckpt", "m.ckpt", "tf2"),
        ("hf", "hf", "huggingface"),
        ("hf/model.safetensors", "hf", "huggingface"),
        ("link.st", "m.st", "safetensors"),
    ],
)
def test_a_conversion_does_not_replace_its_source(checkpoint, folder, monkeypatch, source, target, to):
    """The source may hold more: other variables, or the raw values beside the averaged ones."""
    monkeypatch.chdir(folder)
    for name, kind in (("m.h5", "keras"), ("m.st", "safetensors"), ("m.ckpt", "slim"), ("hf", "huggingface")):
        convert(checkpoint, name, kind, weights="raw")
    (folder / "link.st").symlink_to("m.st")
    before = _listing(folder)
    with pytest.raises(OutputError, match="cannot write") as caught:
        convert(source, target, to, weights="raw", overwrite=True)
    assert "it would replace" in caught.value.why
    assert _listing(folder) == before


def test_a_target_beside_its_source_is_fine(checkpoint):
    """It may be in the source's own folder, or in a new folder there."""
    folder = checkpoint.parent
    convert(folder, folder / "m.h5", "keras", weights="raw")
    convert(folder / "m.h5", folder / "a" / "b" / "m.st", "safetensors")
    assert (folder / "a" / "b" / "m.st").is_file()
