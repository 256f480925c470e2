"""What pip installs: it works without a checkout."""

import json
from pathlib import Path
import subprocess
import sys
import zipfile

import pytest

from hubexport.consumers.environments import find_python
from hubexport.system.child_process import clean_environment
from tests.command import environment
from tests.data import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of a copy of the tracked files; setuptools leaves traces where it builds."""
    folder = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, check=True
    )
    subprocess.run(["tar", "cf", folder / "source.tar", "-T", "-"], cwd=REPOSITORY, input=files.stdout, check=True)
    (folder / "source").mkdir()
    subprocess.run(["tar", "xf", folder / "source.tar", "-C", folder / "source"], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder]
    subprocess.run([*command, folder / "source"], check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    return path


def test_the_wheel_has_the_configs_and_every_module(wheel):
    """It has nothing of the tests."""
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "hubexport").rglob("*.py")}
    configs = {f"hubexport/{path.relative_to(REPOSITORY)}" for path in (REPOSITORY / "configs").rglob("*.yaml")}
    assert len(configs) >= 23
    configs.add("hubexport/configs/imagenet_labels.txt")
    data = {"hubexport/py.typed", "hubexport/modules/op_versions.json"}
    for folder in (
        "consumers/requirements",
        "release/templates",
        "site/assets",
        "site/templates",
        "verify/report/templates",
    ):
        data |= {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "hubexport" / folder).iterdir()}
    assert modules | configs | data == {name for name in names if ".dist-info/" not in name}


def test_an_installed_package_finds_its_configs(wheel, tmp_path):
    """From any folder, with no checkout on the path."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-m", "hubexport", "list", "--format", "json"],
        cwd=tmp_path,
        env=environment({"PYTHONPATH": str(tmp_path / "site")}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "mobilenet_v2_075_192" in [variant["name"] for variant in json.loads(done.stdout)]


def test_an_installation_that_lost_imagenets_names_says_so(wheel, tmp_path):
    """With the missing path, before anything is written."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "site" / "hubexport" / "configs" / "imagenet_labels.txt").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "hubexport", "build", "--variant", "mobilenet_v2_035_96", "--checkpoint", "synthetic"],
        cwd=tmp_path,
        env=environment({"PYTHONPATH": str(tmp_path / "site")}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        done.returncode == 1 and "imagenet_labels.txt: No such file" in done.stderr and "Traceback" not in done.stderr
    )
    assert not (tmp_path / "modules").exists()


def test_the_wheel_names_its_command_and_pythons(wheel):
    """As setup.cfg does."""
    archive = zipfile.ZipFile(wheel)
    [folder] = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    assert "hubexport = hubexport.cli.entry:run" in archive.read(f"{folder}/entry_points.txt").decode()
    assert "Requires-Python: <3.14,>=3.10" in archive.read(f"{folder}/METADATA").decode()


def test_the_oldest_supported_python_reads_every_module():
    """A newer Python accepts syntax that this one does not have."""
    python = find_python("3.10")
    if python is None:
        pytest.skip("no Python 3.10 on this machine")
    files = [path for path in (REPOSITORY / "hubexport").rglob("*.py") if path.parent.name != "programs"]
    code = "import ast, pathlib, sys; [ast.parse(pathlib.Path(name).read_text(), name) for name in sys.argv[1:]]"
    subprocess.run([python, "-c", code, *files], check=True)


# Of what pip installs for the base, without pip itself.
_MOST_BYTES = 250 * 10**6


@pytest.mark.prove
@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_the_base_is_light_and_enough_to_build(wheel, tmp_path, version):
    """From the wheel, in a new environment, with what pip finds today; no package is missing or conflicts."""
    python = find_python(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], env=clean_environment(), check=True)
    [packages] = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    before = _bytes(packages)
    installed = tmp_path / "venv" / "bin" / "python"
    for arguments in (
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel],
        ["-m", "pip", "check"],
        ["-m", "hubexport", "build", "--variant", "mobilenet_v2_035_96", "--checkpoint", "synthetic"],
    ):
        subprocess.run([installed, *arguments], cwd=tmp_path, env=clean_environment(), check=True)
    assert _bytes(packages) - before < _MOST_BYTES
    assert len(list((tmp_path / "modules").rglob("saved_model.pb"))) == 4
    assert not list(packages.glob("tensorflow*"))


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
