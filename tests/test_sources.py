"""The sources that --checkpoint may name, and the errors for everything else."""

import shutil

import pytest

from hubexport.checkpoints.checkpoint_files import CheckpointFiles
from hubexport.checkpoints.download_cache import Downloads, memory_path
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.checkpoints.sources import ArchiveSource, FileSource, SyntheticSource, resolve_source
from hubexport.errors import CheckpointError
from hubexport.progress import Progress
from hubexport.system.digests import file_sha256
from tests.archives import member, tgz
from tests.checkpoints import network_values, write_v1, write_v2
from tests.ear import Ear


def _resolve(text, variant):
    return resolve_source(str(text), variant, Progress())


@pytest.fixture
def v2(tmp_path):
    """A V2 checkpoint's prefix, alone in its folder."""
    folder = tmp_path / "v2"
    folder.mkdir()
    write_v2(folder / "model.ckpt-12", network_values())
    return folder / "model.ckpt-12"


def test_a_prefix_of_v2_files(small, v2):
    """Its provenance names the files and their digests, and no path of this machine."""
    source = _resolve(v2, small)
    assert isinstance(source, FileSource)
    assert source.files.prefix == v2
    index, data = f"{v2.name}.index", f"{v2.name}.data-00000-of-00001"
    assert source.provenance() == {
        "source": "model.ckpt-12",
        "sha256": {name: file_sha256(v2.with_name(name)) for name in (index, data)},
    }


def test_a_v1_file(small, tmp_path):
    """One file, recognized by its content."""
    write_v1(tmp_path / "old", {"x": network_values()["MobilenetV2/Conv/weights"]})
    source = _resolve(tmp_path / "old", small)
    assert source == FileSource(CheckpointFiles(tmp_path / "old", (tmp_path / "old",), "V1"))


def test_a_directory_with_one_checkpoint(small, v2):
    """Other files do not matter."""
    (v2.parent / "checkpoint").write_text("model_checkpoint_path: 'model.ckpt-12'\n")
    (v2.parent / "model.ckpt-12.meta").write_bytes(b"graph")
    assert _resolve(v2.parent, small).files.prefix == v2


def test_a_directory_with_two_checkpoints_is_ambiguous(small, v2):
    """The error names both."""
    write_v2(v2.with_name("model.ckpt-20"), network_values())
    with pytest.raises(CheckpointError, match="does not hold exactly one checkpoint") as caught:
        _resolve(v2.parent, small)
    assert caught.value.why == "it holds 2: model.ckpt-12, model.ckpt-20"


def test_an_archive(small, v2, tmp_path):
    """It is unpacked only while it is open."""
    members = [member(f"./{path.name}", path.read_bytes()) for path in sorted(v2.parent.iterdir())]
    (tmp_path / "a.tgz").write_bytes(tgz(*members))
    source = _resolve(tmp_path / "a.tgz", small)
    assert isinstance(source, ArchiveSource)
    digest = file_sha256(tmp_path / "a.tgz")
    assert source.provenance() == {"source": "a.tgz", "sha256": digest, "published": False}
    with source.opened(small, Progress()) as (files, _):
        assert files.prefix.name == "model.ckpt-12"
        assert files.prefix.with_name("model.ckpt-12.index").is_file()
    assert not files.prefix.parent.exists()


def test_the_published_archive_is_recognized_by_its_digest(small, v2, tmp_path):
    """Wherever it came from."""
    members = [member(path.name, path.read_bytes()) for path in sorted(v2.parent.iterdir())]
    (tmp_path / "a.tgz").write_bytes(tgz(*members))
    digest = file_sha256(tmp_path / "a.tgz")
    published = small.model_copy(update={"checkpoint": small.checkpoint.model_copy(update={"sha256": digest})})
    assert _resolve(tmp_path / "a.tgz", published).provenance()["published"] is True


def test_an_archive_of_unknown_digest_counts_as_published_once_it_was_downloaded(small, tmp_path):
    """Before that, nobody can say that it is or that it is not. Another one differs from the downloaded one."""
    unpinned = small.model_copy(update={"checkpoint": small.checkpoint.model_copy(update={"sha256": None})})
    (tmp_path / "a.tgz").write_bytes(tgz(member("model.ckpt", b"x")))
    downloads = Downloads(tmp_path / "cache")

    def resolved():
        ear = Ear()
        source = resolve_source(tmp_path / "a.tgz", unpinned, ear, downloads)
        return source.provenance()["published"], ear.warnings

    assert resolved() == (False, [])
    memory = memory_path(unpinned.checkpoint, downloads)
    memory.parent.mkdir(parents=True)
    memory.write_text(f"{file_sha256(tmp_path / 'a.tgz')}  small.tgz\n")
    assert resolved() == (True, [])
    memory.write_text(f"{'1' * 64}  small.tgz\n")
    published, [warning] = resolved()
    assert not published
    assert warning.startswith(f"{tmp_path / 'a.tgz'} differs from the archive that was first downloaded for small")


def test_an_archive_that_is_not_the_published_one_is_warned_of(small, tmp_path):
    """It is used all the same, because the user named it."""
    (tmp_path / "a.tgz").write_bytes(tgz(member("readme.txt")))
    warnings = []

    class Ear(Progress):
        def warn(self, message):
            warnings.append(message)

    resolve_source(str(tmp_path / "a.tgz"), small, Ear())
    [warning] = warnings
    assert warning.startswith(f"{tmp_path / 'a.tgz'} differs from the published archive of small")
    resolve_source(str(tmp_path / "a.tgz"), small.model_copy(update={"checkpoint": None}), Ear())
    assert len(warnings) == 1


def test_an_archive_without_checkpoint(small, tmp_path):
    """The error names the archive, not a temporary folder."""
    (tmp_path / "a.tgz").write_bytes(tgz(member("readme.txt")))
    with pytest.raises(CheckpointError) as caught:
        _resolve(tmp_path / "a.tgz", small).opened(small, Progress()).__enter__()
    assert caught.value.what == f"{tmp_path / 'a.tgz'} holds no checkpoint"
    assert caught.value.why == "none of what it holds is one: readme.txt"


@pytest.mark.parametrize(("text", "seed"), [("synthetic", 0), ("synthetic:1", 1), ("synthetic:123456789", 123456789)])
def test_synthetic(small, text, seed):
    """With a seed or without."""
    assert _resolve(text, small) == SyntheticSource(seed)


@pytest.mark.parametrize("text", ["synthetic:", "synthetic:x", "synthetic:-1", "synthetic:1.5", "synthetic:1234567890"])
def test_synthetic_with_an_invalid_seed(small, text):
    """It does not silently become another seed."""
    with pytest.raises(CheckpointError, match="not a valid synthetic checkpoint"):
        _resolve(text, small)


def test_nothing_there(small, tmp_path):
    """The error says what was looked for."""
    with pytest.raises(CheckpointError, match="no checkpoint") as caught:
        _resolve(tmp_path / "model.ckpt", small)
    assert "model.ckpt.index" in caught.value.why


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
def test_one_file_of_a_checkpoint_is_not_its_name(small, v2, suffix):
    """A frequent slip; the fix names the prefix."""
    with pytest.raises(CheckpointError) as caught:
        _resolve(f"{v2}{suffix}", small)
    assert caught.value.fix == f"use {v2}"


def test_a_file_that_is_not_a_checkpoint(small, tmp_path):
    """The content decides, not the name."""
    (tmp_path / "model.tgz").write_text("hello")
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        _resolve(tmp_path / "model.tgz", small)


def test_a_path_that_cannot_be_read(small, tmp_path):
    """The error gives the system's reason."""
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "a.index").symlink_to("a.index")
    with pytest.raises(CheckpointError):
        _resolve(tmp_path / "loop", small)
    with pytest.raises(CheckpointError):
        _resolve("x" * 5000, small)


def test_a_directory_without_checkpoint(small, tmp_path):
    """The error says what it holds instead."""
    with pytest.raises(CheckpointError) as caught:
        _resolve(tmp_path / "configs", small)
    assert caught.value.why == "it has no files of one: small.yaml"


def test_files_that_vanish_while_they_are_read(small, v2):
    """Here, after the values are read and before the manifest's digests are."""
    source = _resolve(v2, small)
    v2.with_name(f"{v2.name}.index").unlink()
    with pytest.raises(CheckpointError, match="cannot read checkpoint"):
        source.provenance()


def test_a_missing_data_file(small, v2):
    """It is noticed before anything is read."""
    v2.with_name(f"{v2.name}.data-00000-of-00001").unlink()
    with pytest.raises(CheckpointError, match="is incomplete") as caught:
        _resolve(v2, small)
    assert caught.value.why.startswith("0 of 1 data files")


def test_a_missing_data_file_of_several(small, v2):
    """The names say how many there should be."""
    shutil.move(f"{v2}.data-00000-of-00001", f"{v2}.data-00001-of-00003")
    with pytest.raises(CheckpointError) as caught:
        _resolve(v2, small)
    assert caught.value.why.startswith("1 of 3 data files")


def test_a_variant_without_published_checkpoint_needs_one_named(small):
    """There is nothing to download."""
    with pytest.raises(CheckpointError, match="no checkpoint for small"):
        resolve_source(None, small.model_copy(update={"checkpoint": None}), Progress())


def test_the_suffix_of_averaged_values():
    """The same as in tf.train.ExponentialMovingAverage."""
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default():
        variable = tf.get_variable("x", [])
        average = tf.train.ExponentialMovingAverage(0.9)
        average.apply([variable])
        assert average.average_name(variable) == f"x{AVERAGED_SUFFIX}"
