"""The newest supported Python and TensorFlow make the same bytes and pass the same tests."""

from pathlib import Path
import subprocess
import sys

import pytest

from hubexport.system.digests import file_sha256, tree_files
from tests.command import environment
from tests.data import REPOSITORY
from tests.environments import NEWEST, python_or_skip

pytestmark = [pytest.mark.consumers, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def newest() -> Path:
    """The Python interpreter of the newest environment."""
    return python_or_skip(NEWEST)


def _build(python, output_dir):
    for variant, *modules in (
        ("mobilenet_v2_075_192",),
        ("mobilenet_v2_050_96",),
        ("mobilenet_v2_035_96", "--module=feature_vector/5", "--module=classification/4"),
    ):
        command = [python, "-m", "hubexport", "build", "--variant", variant, "--checkpoint", "synthetic:1", *modules]
        subprocess.run([*command, "--output-dir", output_dir], env=environment(), check=True, capture_output=True)
    return {str(path.relative_to(output_dir)): file_sha256(path) for path in tree_files(output_dir)}


def test_both_ends_of_the_supported_range_build_the_same_bytes(newest, tmp_path):
    """Every file of four TF1 modules and of two TF2 modules; three are of classification and carry labels."""
    here = _build(sys.executable, tmp_path / "here")
    assert len(here) == 4 * 5 + 2 * 4 + 3
    assert _build(newest, tmp_path / "there") == here


def _convert(python, folder):
    folder.mkdir()
    for to, name in (
        ("slim", "slim.ckpt"),
        ("tf2", "tf2"),
        ("keras", "keras.h5"),
        ("keras", "keras.weights.h5"),
        ("keras", "model.keras"),
        ("safetensors", "slim.safetensors"),
        ("huggingface", "huggingface"),
    ):
        command = [python, "-m", "hubexport", "convert", "synthetic:1", folder / name, "--to", to]
        subprocess.run(
            [*command, "--variant", "mobilenet_v2_035_96"], env=environment(), check=True, capture_output=True
        )
    return {str(path.relative_to(folder)): file_sha256(path) for path in tree_files(folder)}


def test_both_ends_of_the_supported_range_convert_to_the_same_bytes(newest, tmp_path):
    """For each target, whatever the versions of h5py and safetensors."""
    here = _convert(sys.executable, tmp_path / "here")
    assert len(here) == 2 + 2 + 1 + 1 + 1 + 1 + 3
    assert _convert(newest, tmp_path / "there") == here


def _release(python, folder):
    folder.mkdir()
    chosen = ["--variant", "mobilenet_v2_035_96", "--module", "feature_vector/2,classification/5"]
    command = [python, "-m", "hubexport", "release", *chosen, "--checkpoint", "synthetic:1"]
    done = subprocess.run(
        [*command, "--checks", "structure,weights"], cwd=folder, env=environment(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {path.relative_to(folder / "dist"): file_sha256(path) for path in tree_files(folder / "dist")}


def test_both_ends_of_the_supported_range_release_the_same_archives_and_pages(newest, tmp_path):
    """Only files that name the versions of Python and its packages differ."""
    here, there = _release(sys.executable, tmp_path / "here"), _release(newest, tmp_path / "there")
    same = {path.name.partition(".")[2] for path in here if there.get(path) == here[path]}
    other = {path.name for path in here if there.get(path) != here[path] and not path.name.startswith("sbom-")}
    assert same == {"tar.gz", "md", "card.md"}
    told = {f"{version}.{what}" for version in (2, 5) for what in ("verify.json", "provenance.json", "json")}
    assert other == told | {"index.json", "SHA256SUMS"}


def test_a_module_passes_verification_on_the_newest_tensorflow(newest, tmp_path):
    """In numbers and behaviour; the built bytes are the same at both ends."""
    build = ["build", "--variant", "mobilenet_v2_035_96", "--module", "classification/5", "--output-dir", tmp_path]
    verify = ["verify", tmp_path / "google/imagenet/mobilenet_v2_035_96/classification/5", "--checks", "numbers"]
    for arguments in (build, [*verify, "--checks", "behaviour", "--checks", "consumers"]):
        command = [newest, "-m", "hubexport", *arguments, "--checkpoint", "synthetic:1"]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("PASSED: 16 passed, 3 not applicable")


@pytest.mark.prove
def test_tf_slim_agrees_on_the_newest_tensorflow(newest):
    """The tests of graphs, checkpoint files and messages pass in the newest environment."""
    tests = [
        *("test_reference.py", "test_tf1_hub.py", "test_tf2_saved_model.py"),
        *("test_bundle.py", "test_protos.py", "test_values.py", "test_release_archive.py"),
    ]
    command = [newest, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/{name}" for name in tests)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
