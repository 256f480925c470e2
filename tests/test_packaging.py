"""What pip installs: it works without a checkout."""

import json
from pathlib import Path
import subprocess
import sys
import zipfile

import pytest

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
    """And nothing of the tests."""
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "hubexport").rglob("*.py")}
    configs = {f"hubexport/{path.relative_to(REPOSITORY)}" for path in (REPOSITORY / "configs").rglob("*.yaml")}
    assert len(configs) >= 23
    data = {"hubexport/py.typed", "hubexport/inspection/op_versions.json"}
    for folder in ("consumers/requirements", "release/templates", "site/assets", "site/templates", "verify/templates"):
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


def test_the_wheel_names_its_command_and_pythons(wheel):
    """What setup.cfg promises."""
    archive = zipfile.ZipFile(wheel)
    [folder] = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    assert "hubexport = hubexport.cli.main:run" in archive.read(f"{folder}/entry_points.txt").decode()
    assert "Requires-Python: <3.14,>=3.10" in archive.read(f"{folder}/METADATA").decode()
