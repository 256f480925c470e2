"""A base installation works, and a command that needs an extra says so before it does anything."""

import configparser
import importlib.metadata
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import hubexport as package
from hubexport import extras
from hubexport.errors import MissingExtraError
from hubexport.extras import require_extras
from tests.checkpoints import network_values, write_partitioned, write_v1
from tests.command import environment
from tests.data import REPOSITORY

# The package of each distribution that is named differently; None if we do not import it.
_IMPORTED_AS = {
    "apache-beam": "apache_beam",
    "cyclonedx-python-lib": "cyclonedx",
    "jinja2": "jinja2",
    "markdown-it-py": "markdown_it",
    "packageurl-python": "packageurl",
    "pillow": "PIL",
    "setuptools": None,
}


def _declared() -> configparser.SectionProxy:
    config = configparser.ConfigParser(interpolation=None)
    config.read(REPOSITORY / "setup.cfg")
    return config["options.extras_require"]


def _packages(requirements: str) -> set[str]:
    lines = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    names = {re.match(r"[\w.-]+", line)[0].lower() for line in lines}
    return {_IMPORTED_AS.get(name, name.replace("-", "_")) for name in names} - {None}


@pytest.mark.parametrize("extra", ["tensorflow", "release", "serve", "beam", "onnx", "parquet", "tflite"])
def test_all_packages_of_an_extra_are_looked_for(extra):
    """Otherwise a command would begin, and break off in the middle."""
    assert set(extras._PACKAGES[extra]) == _packages(_declared()[extra])
    require_extras("this test", extra)


def test_all_is_every_extra_but_that_of_developers():
    """It lists extras only."""
    names = set(_declared()) - {"all", "dev", "docs"}
    assert _declared()["all"].split() == [f"hubexport[{','.join(sorted(names))}]"]


def test_one_error_names_all_that_is_missing(monkeypatch):
    """It has one command that installs everything."""
    monkeypatch.setitem(extras._PACKAGES, "beam", ("no_such_beam",))
    monkeypatch.setitem(extras._PACKAGES, "release", ("no_such_jinja", "numpy"))
    with pytest.raises(MissingExtraError) as caught:
        require_extras("hubexport release", "release", "tensorflow", "beam")
    assert str(caught.value).splitlines() == [
        "hubexport release needs the optional packages of [beam] and [release]",
        "  why: not installed: no_such_beam, no_such_jinja",
        f"  fix: run {extras.install_command(['beam', 'release'])}",
    ]


@pytest.mark.parametrize(
    ("noted", "command"),
    [
        (None, "pip install 'hubexport[beam,onnx]'"),
        ({"url": "file://{folder}/my%20checkout", "dir_info": {}}, "pip install '{folder}/my checkout[beam,onnx]'"),
        (
            {"url": "file://{folder}/my%20checkout", "dir_info": {"editable": True}},
            "pip install --editable '{folder}/my checkout[beam,onnx]'",
        ),
        ({"url": "file://{folder}/gone", "dir_info": {}}, "pip install 'hubexport[beam,onnx]'"),
        ({"url": "https://example.org/hubexport.whl", "archive_info": {}}, "pip install 'hubexport[beam,onnx]'"),
    ],
    ids=["from an index", "from a folder", "editable", "from a folder that is gone", "from an address"],
)
def test_extras_are_installed_from_where_hubexport_came_from(tmp_path, monkeypatch, noted, command):
    """A command with the bare name would look for it on an index, and find another package or none."""
    (tmp_path / "my checkout").mkdir()
    information = tmp_path / "hubexport-0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: hubexport\nVersion: 0\n")
    if noted is not None:
        noted = noted | {"url": noted["url"].format(folder=tmp_path)}
        (information / "direct_url.json").write_text(json.dumps(noted))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert extras.install_command(["beam", "onnx"]) == command.format(folder=tmp_path)


# Runs the command line as if only what the base requires were installed.
_LIGHT = """
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {hidden}:
            raise ModuleNotFoundError(f"hidden: {{name}}", name=name)

sys.meta_path.insert(0, Hidden())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {hidden} else found(name, package)
sys.argv[1:] = {arguments}
{program}
"""
_COMMAND = "from hubexport.cli.main import run\nrun()"


def _light(arguments, folder, program=_COMMAND):
    hidden = {package for packages in extras._PACKAGES.values() for package in packages}
    code = _LIGHT.format(hidden=hidden, arguments=list(map(str, arguments)), program=program)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["classify", "nowhere", "nothing.jpg"], "tensorflow"),
        (["features", "nowhere", "nothing.jpg", "--output", "f.npy"], "tensorflow"),
        (["evaluate", "nowhere", "--data", "none"], "tensorflow"),
        (["features", "nowhere", "nothing.jpg", "--output", "f.parquet"], "parquet,tensorflow"),
        (["evaluate", "nowhere", "--data", "none", "--runner", "DirectRunner"], "beam,tensorflow"),
        (["verify", "nowhere"], "tensorflow"),
        (["verify", "nowhere", "--checks", "weights", "--report", "r.html"], "tensorflow"),
        (["release", "--checkpoint", "synthetic"], "release,tensorflow"),
        (["release", "--checkpoint", "synthetic", "--checks", "structure"], "release"),
        (["release", "--checkpoint", "synthetic", "--dry-run"], "release"),
        (["release", "--checkpoint", "synthetic", "--runner", "beam"], "beam,release,tensorflow"),
        (["check", "nowhere"], "release"),
        (["convert", "nowhere", "model.onnx", "--to", "onnx"], "onnx"),
        (["serve", "nowhere"], "serve"),
        (["site", "nowhere"], "serve"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_command_whose_extra_is_missing_says_so_first(tmp_path, arguments, extra):
    """Before it looks at its arguments, which do not exist either."""
    done = _light(arguments, tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    what, why, fix = done.stderr.splitlines()
    assert what.startswith(f"ERROR hubexport {arguments[0]}")
    assert why.startswith("  why: not installed: ")
    assert fix == f"  fix: run {extras.install_command(extra.split(','))}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_light_commands_need_no_extra(tmp_path):
    """They build, verify by structure and weights, inspect, convert and compare; V1 and partitioned variables, too."""
    write_v1(tmp_path / "v1", network_values())
    values = {"rows": (np.ones([4, 3], np.float32), [2, 1])}
    write_partitioned(tmp_path / "partitioned", values, tf.compat.v1.train.SaverDef.V2)
    module = "modules/google/imagenet/mobilenet_v2_035_96/classification/5"
    for arguments in (
        ["list"],
        ["build", "--variant", "mobilenet_v2_035_96", "--checkpoint", "synthetic", "--module", "classification/5"],
        ["inspect", module],
        ["inspect", "partitioned"],
        ["convert", "v1", "v1.safetensors", "--to", "safetensors", "--weights", "raw"],
        ["verify", module, "--checks", "structure", "--checks", "weights", "--checkpoint", "synthetic"],
        ["convert", module, "there.h5", "--to", "keras"],
        ["convert", "there.h5", "back.safetensors", "--to", "safetensors"],
        ["diff", module, "back.safetensors"],
        ["show-mapping", "--to", "huggingface"],
        ["fetch", "--list", "--variant", "mobilenet_v2_035_96", "--cache-dir", "cache"],
        ["consumers", "list"],
    ):
        done = _light(arguments, tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout


@pytest.mark.parametrize(("name", "extra"), [("release_modules", "release"), ("write_site", "serve")])
def test_a_public_name_whose_extra_is_missing_says_so(tmp_path, name, extra):
    """The error is that of the commands."""
    done = _light([], tmp_path, f"import hubexport\nhubexport.{name}")
    assert done.stderr.splitlines()[-1] == f"  fix: run {extras.install_command([extra])}"


def test_every_base_requirement_is_installed_and_declared_once():
    """No extra repeats a requirement of the base."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(REPOSITORY / "setup.cfg")
    base = _packages(config["options"]["install_requires"])
    for extra in ("tensorflow", "release", "serve", "beam", "onnx", "parquet"):
        assert not base & _packages(_declared()[extra])
    assert importlib.metadata.version("hubexport") == package.__version__
