"""Builds: what they write, what they refuse, and that they never leave a partial module."""

import errno
import json
import os
from pathlib import Path
import random
import resource
import shutil
import signal
import socket
import subprocess
import time
from unittest import mock

import numpy as np
import pytest

from hubexport import ModuleSpec, build_modules
from hubexport.errors import CheckpointError, OutputError
from hubexport.formats.revision import FORMAT_REVISION
from hubexport.system.digests import file_sha256
from tests.checkpoints import network_values, training_values, write_v2
from tests.command import command, environment, hubexport, hubexport_process
from tests.graphs import checkpoint_values

_BOTH = [ModuleSpec.parse("feature_vector/2"), ModuleSpec.parse("classification/2")]


def _files(folder: Path) -> dict[str, str]:
    """Returns the digest of every file in a folder by path, hidden ones included."""
    paths = [path for path in folder.rglob("*") if not path.is_dir()]
    return {str(path.relative_to(folder)): file_sha256(path) for path in paths}


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A checkpoint for `small` with averaged and raw values."""
    (tmp_path / "checkpoint").mkdir()
    write_v2(tmp_path / "checkpoint" / "model.ckpt", training_values())
    return tmp_path / "checkpoint" / "model.ckpt"


def test_a_module_has_these_files_and_no_others(small, checkpoint, tmp_path):
    """Its folder is named like its handle."""
    paths = build_modules(small, checkpoint=str(checkpoint), output_dir=tmp_path / "m")
    assert [str(path.relative_to(tmp_path / "m")) for path in paths] == [
        "google/imagenet/small/feature_vector/2",
        "google/imagenet/small/classification/2",
    ]
    for path in paths:
        assert set(_files(path)) == {
            "hubexport.json",
            "saved_model.pb",
            "tfhub_module.pb",
            "variables/variables.data-00000-of-00001",
            "variables/variables.index",
        }
        assert (path / "tfhub_module.pb").read_bytes() == b"\x08\x03"
    assert len(_files(tmp_path / "m")) == 10


@pytest.mark.parametrize(("weights", "seed"), [("averaged", 1), ("raw", 2)])
def test_variables_have_the_values_of_the_checkpoint_bit_for_bit(small, checkpoint, tmp_path, weights, seed):
    """By the checkpoint's plain names. A feature vector module lacks the classifier."""
    paths = build_modules(small, checkpoint=str(checkpoint), weights=weights, output_dir=tmp_path / "m")
    wanted = network_values(seed=seed)
    for path, size in zip(paths, (260, 262), strict=True):
        stored = checkpoint_values(path)
        assert len(stored) == size
        for name, value in stored.items():
            np.testing.assert_array_equal(value, wanted[name], err_msg=name)


def test_the_manifest_says_where_a_module_came_from(small, checkpoint, tmp_path):
    """It has the handle, the source and its digests, the kind of values, sizes, and all other files."""
    feature_vector, classification = build_modules(small, checkpoint=str(checkpoint), output_dir=tmp_path / "m")
    manifest = json.loads((classification / "hubexport.json").read_text())
    files = manifest.pop("sha256")
    checkpoint_files = [checkpoint.with_name(f"model.ckpt.{suffix}") for suffix in ("index", "data-00000-of-00001")]
    assert manifest == {
        "handle": "google/imagenet/small/classification/2",
        "variant": "small",
        "kind": "classification",
        "version": 2,
        "network": "mobilenet_v2",
        "depth_multiplier": 0.35,
        "input_height_px": 96,
        "input_width_px": 96,
        "num_features": 1280,
        "num_classes": 7,
        "dataset": "made up",
        "values": "trained",
        "weights": "averaged",
        "checkpoint": {
            "source": "model.ckpt",
            "sha256": {path.name: file_sha256(path) for path in checkpoint_files},
        },
        "hubexport_version": "0.1.0",
        "format_revision": FORMAT_REVISION,
    }
    assert files == {name: digest for name, digest in _files(classification).items() if name != "hubexport.json"}
    assert json.loads((feature_vector / "hubexport.json").read_text())["num_classes"] is None


def test_synthetic_values_are_recorded_and_cause_a_warning(small, tmp_path):
    """Nobody should mistake them for trained ones."""
    from hubexport.progress import Progress

    warnings = []

    class Ear(Progress):
        def warn(self, message):
            warnings.append(message)

    [path] = build_modules(small, _BOTH[:1], checkpoint="synthetic:5", output_dir=tmp_path / "m", progress=Ear())
    manifest = json.loads((path / "hubexport.json").read_text())
    assert manifest["values"] == "synthetic"
    assert manifest["checkpoint"] == {"source": "synthetic:5"}
    assert "UNTRAINED" in warnings[0]


@pytest.mark.parametrize("form", ["directory", "prefix", "archive"])
def test_values_of_an_untrained_module_stay_synthetic(config_dir, tmp_path, form):
    """In the manifest and in a release, which remains valid. Those of a trained module stay trained."""
    build = ("build", "--config-dir", config_dir, "--variant", "small", "--module", "feature_vector/2")
    hubexport(*build, "--checkpoint", "synthetic:1", "--output-dir", tmp_path / "first")
    module = tmp_path / "first" / "google" / "imagenet" / "small" / "feature_vector" / "2"
    shutil.make_archive(str(tmp_path / "packed"), "gztar", module)
    prefix = module / "variables" / "variables"
    source = {"directory": module, "prefix": prefix, "archive": tmp_path / "packed.tar.gz"}[form]
    done = hubexport(*build, "--checkpoint", source, "--output-dir", tmp_path / "second")
    assert done.returncode == 0 and "UNTRAINED" in done.stderr, done.stderr
    [again] = tmp_path.glob("second/**/hubexport.json")
    assert json.loads(again.read_text())["values"] == "synthetic"
    assert (again.parent / "saved_model.pb").read_bytes() == (module / "saved_model.pb").read_bytes()
    if form == "directory":
        release = ("release", "--config-dir", config_dir, "--variant", "small", "--module", "feature_vector/2")
        output = ("--output-dir", tmp_path / "dist", "--checks", "structure.digests")
        done = hubexport(*release, "--checkpoint", source, *output)
        assert done.returncode == 0, done.stderr
        done = hubexport("check", tmp_path / "dist")
        assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((module / "hubexport.json").read_text())
    (module / "hubexport.json").write_text(json.dumps({**manifest, "values": "trained"}))
    shutil.make_archive(str(tmp_path / "packed"), "gztar", module)
    done = hubexport(*build, "--checkpoint", source, "--output-dir", tmp_path / "third")
    assert done.returncode == 0 and "UNTRAINED" not in done.stderr, done.stderr
    [again] = tmp_path.glob("third/**/hubexport.json")
    assert json.loads(again.read_text())["values"] == "trained"


def test_a_module_whose_manifest_is_damaged_is_no_source(config_dir, tmp_path):
    """Whether its values are trained is not known. Nothing is written."""
    build = ("build", "--config-dir", config_dir, "--variant", "small", "--module", "feature_vector/2")
    hubexport(*build, "--checkpoint", "synthetic:1", "--output-dir", tmp_path / "first")
    module = tmp_path / "first" / "google" / "imagenet" / "small" / "feature_vector" / "2"
    for content, why in (("{", "hubexport.json is not valid JSON"), ("x" * (1 << 20 | 1), "it is larger than 1 MiB")):
        (module / "hubexport.json").write_text(content)
        shutil.make_archive(str(tmp_path / "packed"), "gztar", module)
        for source in (module, tmp_path / "packed.tar.gz"):
            done = hubexport(*build, "--checkpoint", source, "--output-dir", tmp_path / "second")
            assert done.returncode == 1 and why.removeprefix("it is ") in done.stderr, done.stderr
    assert not [path for path in (tmp_path / "second").rglob("*") if path.is_file()]


def test_two_builds_have_the_same_bytes(checkpoint, config_dir, tmp_path):
    """Even with another folder, process, hash seed, time zone and umask."""
    arguments = ["build", "--variant", "small", "--config-dir", config_dir, "--checkpoint"]
    shutil.copytree(checkpoint.parent, tmp_path / "elsewhere" / "deep")
    first = hubexport_process(
        *(*arguments, checkpoint, "--output-dir", tmp_path / "1"), env={"PYTHONHASHSEED": "1", "TZ": "UTC"}
    )
    second = hubexport_process(
        *(*arguments, tmp_path / "elsewhere" / "deep" / "model.ckpt", "--output-dir", "2/3"),
        env={"PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        cwd=tmp_path,
    )
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert len(_files(tmp_path / "1")) == 10
    assert _files(tmp_path / "1") == _files(tmp_path / "2" / "3")


def test_an_existing_module_is_kept_and_nothing_else_is_built(small, checkpoint, tmp_path):
    """The build fails before it looks for the checkpoint."""
    build_modules(small, _BOTH[1:], checkpoint=str(checkpoint), output_dir=tmp_path / "m")
    before = _files(tmp_path / "m")
    with pytest.raises(OutputError, match="classification/2 already exists"):
        build_modules(small, _BOTH, checkpoint="/nowhere", output_dir=tmp_path / "m")
    assert _files(tmp_path / "m") == before


def test_overwrite_replaces_the_whole_module(small, checkpoint, tmp_path):
    """Files that only the old module had are gone."""
    [path] = build_modules(small, _BOTH[:1], checkpoint="synthetic", output_dir=tmp_path / "m")
    (path / "assets").mkdir()
    (path / "assets" / "old").write_text("x")
    manifest = json.loads((path / "hubexport.json").read_text())
    (path / "hubexport.json").write_text(json.dumps({**manifest, "sha256": {**manifest["sha256"], "assets/old": "0"}}))
    before = _files(path)
    build_modules(small, _BOTH[:1], checkpoint=str(checkpoint), output_dir=tmp_path / "m", overwrite=True)
    after = _files(path)
    assert "assets/old" in before and "assets/old" not in after
    assert after["variables/variables.data-00000-of-00001"] != before["variables/variables.data-00000-of-00001"]
    assert len(_files(tmp_path / "m")) == 5


def test_a_checkpoint_that_does_not_fit_changes_no_file(small, tmp_path):
    """Not even the feature vector module is written, which would not need the classifier."""
    (tmp_path / "ckpt").mkdir()
    write_v2(tmp_path / "ckpt" / "model.ckpt", network_values(num_classes=17))
    options = {"checkpoint": str(tmp_path / "ckpt"), "weights": "raw", "output_dir": tmp_path / "m"}
    with pytest.raises(CheckpointError, match="cannot restore small"):
        build_modules(small, _BOTH, **options)
    assert not (tmp_path / "m").exists()
    build_modules(small, _BOTH, checkpoint="synthetic", output_dir=tmp_path / "m")
    before = _files(tmp_path / "m")
    with pytest.raises(CheckpointError):
        build_modules(small, _BOTH, overwrite=True, **options)
    assert _files(tmp_path / "m") == before
    build_modules(small, _BOTH[:1], overwrite=True, **options)


def test_values_that_are_not_finite_are_refused(small, tmp_path):
    """They would spread to every output. No file is written."""
    values = network_values()
    values["MobilenetV2/Conv/weights"][0, 0, 0, 0] = np.nan
    write_v2(tmp_path / "model.ckpt", values)
    with pytest.raises(CheckpointError, match="cannot restore"):
        build_modules(small, checkpoint=str(tmp_path / "model.ckpt"), weights="raw", output_dir=tmp_path / "m")
    assert not (tmp_path / "m").exists()


def _build_arguments(config_dir, checkpoint, output_dir):
    return [
        "build",
        "--variant",
        "small",
        "--config-dir",
        config_dir,
        "--checkpoint",
        checkpoint,
        "--output-dir",
        output_dir,
    ]


@pytest.mark.parametrize(
    "limit", [100_000, 1_500_000, *(pytest.param(limit, marks=pytest.mark.slow) for limit in (100, 600_000))]
)
def test_a_full_disk_is_a_clean_error(config_dir, checkpoint, tmp_path, limit):
    """A limit on the size of files interrupts the writing of graph, values or manifest, like a full disk."""
    done = subprocess.run(
        command(*_build_arguments(config_dir, checkpoint, tmp_path / "m")),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 1
    assert done.stderr.count("ERROR") == 1, "both modules fail in the same way, which is said once"
    assert "ERROR cannot write" in done.stderr
    assert "0 built, 2 failed" in done.stderr
    assert _files(tmp_path / "m") == {}
    assert hubexport(*_build_arguments(config_dir, checkpoint, tmp_path / "m")).returncode == 0


def test_a_really_full_disk_is_a_clean_error(config_dir, checkpoint, tmp_path, monkeypatch):
    """The file system has 2 MB, and the modules need three times as much."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        monkeypatch.setattr(shutil, "disk_usage", mock.Mock(side_effect=OSError))  # It would refuse to begin.
        done = hubexport(*_build_arguments(config_dir, checkpoint, disk / "m"))
        assert done.returncode == 1
        assert os.strerror(errno.ENOSPC) in done.stderr
        assert "Traceback" not in done.stderr
        assert _files(disk) == {}
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_read_only_place_is_a_clean_error(config_dir, checkpoint):
    """Not even root can write to /proc."""
    done = hubexport(*_build_arguments(config_dir, checkpoint, "/proc/modules_of_hubexport"))
    assert done.returncode == 1
    assert "ERROR cannot write modules to /proc/modules_of_hubexport" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_place_below_a_file_is_a_clean_error(config_dir, checkpoint, tmp_path):
    """Part of the path is a file, not a folder."""
    (tmp_path / "file").write_text("x")
    done = hubexport(*_build_arguments(config_dir, checkpoint, tmp_path / "file" / "m"))
    assert done.returncode == 1
    assert "ERROR cannot write modules to" in done.stderr
    assert "Traceback" not in done.stderr


def _wait_for_writing(process):
    for line in process.stderr:
        if line.startswith("writing"):
            return


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.faults
def test_a_build_killed_at_any_moment_leaves_no_partial_module(config_dir, checkpoint, tmp_path, sig):
    """The moments are spread over start and writing. The next build removes leftovers and completes."""
    output_dir = tmp_path / "m"
    wanted = tmp_path / "wanted"
    assert hubexport(*_build_arguments(config_dir, checkpoint, wanted)).returncode == 0
    modules = {path.parent.relative_to(wanted): _files(path.parent) for path in wanted.rglob("hubexport.json")}
    chance = random.Random(int(sig))
    interrupted = 0
    for attempt in range(8):
        shutil.rmtree(output_dir, ignore_errors=True)
        with subprocess.Popen(
            command(*_build_arguments(config_dir, checkpoint, output_dir)),
            env=environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as process:
            if attempt % 4 == 0:
                time.sleep(chance.uniform(0, 0.3))
            else:
                _wait_for_writing(process)
                time.sleep(chance.uniform(0, 0.15))
            process.send_signal(sig)
            process.stderr.read()
        interrupted += process.returncode != 0
        for module, files in modules.items():
            assert not (output_dir / module).exists() or _files(output_dir / module) == files
    assert interrupted, "no moment was early enough to prove anything"
    done = hubexport(*_build_arguments(config_dir, checkpoint, output_dir), "--overwrite")
    assert done.returncode == 0, done.stderr
    assert _files(output_dir) == _files(wanted)


@pytest.mark.parametrize(("sig", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_build_ends_at_once(config_dir, tmp_path, sig, status):
    """Here, while it waits for a server that never answers. There is no traceback, and no partial file."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = config_dir / "small.yaml"
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        config.write_text(config.read_text().replace("https://example.invalid", address))
        with subprocess.Popen(
            command("build", "--variant", "small", "--config-dir", config_dir, "--output-dir", tmp_path / "m"),
            env=environment({"HUBEXPORT_CACHE_DIR": str(tmp_path / "cache"), "NO_PROXY": "*"}),
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr.readline().startswith("downloading http://127.0.0.1")
            connection, _ = server.accept()
            process.send_signal(sig)
            assert process.stderr.read() == ""
            connection.close()
    assert process.returncode == status
    assert list(tmp_path.glob("cache/*/*/*")) == []
    assert not (tmp_path / "m").exists()


@pytest.mark.faults
def test_overwriting_killed_at_any_moment_leaves_the_old_or_the_new(config_dir, checkpoint, tmp_path):
    """A watcher that reads all the time sees nothing else, either."""
    output_dir, new = tmp_path / "m", tmp_path / "new"
    assert hubexport(*_build_arguments(config_dir, "synthetic", output_dir)).returncode == 0
    assert hubexport(*_build_arguments(config_dir, checkpoint, new)).returncode == 0
    handles = [path.parent.relative_to(new) for path in new.rglob("hubexport.json")]
    allowed = {handle: [_files(output_dir / handle), _files(new / handle)] for handle in handles}
    chance = random.Random(0)
    for _ in range(5):
        with subprocess.Popen(
            command(*_build_arguments(config_dir, checkpoint, output_dir), "--overwrite"),
            env=environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        ) as process:
            _wait_for_writing(process)
            deadline = time.monotonic() + chance.uniform(0, 0.15)
            while time.monotonic() < deadline:
                for handle in handles:
                    assert (output_dir / handle / "hubexport.json").is_file()
            process.kill()
            process.stderr.read()
        for handle in handles:
            assert _files(output_dir / handle) in allowed[handle]


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["keep", "overwrite"])
@pytest.mark.faults
def test_two_builds_into_one_place_at_once_do_not_corrupt_it(config_dir, checkpoint, tmp_path, overwrite):
    """One of them may fail, with a clear error."""
    arguments = _build_arguments(config_dir, checkpoint, tmp_path / "m")
    processes = [
        subprocess.Popen(
            command(*arguments, *overwrite),
            env=environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(3)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    statuses = sorted(process.returncode for process in processes)
    assert statuses[0] == 0, errors
    assert (
        statuses == [0, 0, 0]
        if overwrite
        else all(
            process.returncode == 0 or "already exists" in error
            for process, error in zip(processes, errors, strict=True)
        )
    )
    assert hubexport(*_build_arguments(config_dir, checkpoint, tmp_path / "alone")).returncode == 0
    assert _files(tmp_path / "m") == _files(tmp_path / "alone")
