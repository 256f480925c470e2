"""The README's own words: its programs run, its config builds, its errors and figures are those of the code."""

import json
import os
from pathlib import Path
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from hubexport import ModuleSpec, build_modules, list_variants, load_variant
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.formats.tf1_hub import saved_model_bytes
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from hubexport.variants import KINDS
from tests.checkpoints import network_values, write_v2
from tests.command import command, environment, hubexport
from tests.data import DATA, REAL_ARCHIVE, REPOSITORY, needs_data
from tests.graphs import imported, read_saved_model
from tests.servers import ARCHIVE, SHA256, running_server, serve, serve_some

hub = pytest.importorskip("tensorflow_hub")

_README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def modules(tmp_path_factory) -> Path:
    """A folder in which `modules/` has what the README's programs load."""
    folder = tmp_path_factory.mktemp("readme")
    specs = [ModuleSpec(kind=kind, version=version) for version in (2, 5) for kind in KINDS]
    build_modules(load_variant("mobilenet_v2_075_192"), specs, checkpoint="synthetic", output_dir=folder / "modules")
    return folder


@pytest.mark.skipif(not hasattr(hub, "Module"), reason="tensorflow-hub 0.15 is the last with hub.Module")
@pytest.mark.parametrize("program", _blocks("python"), ids=range(len(_blocks("python"))))
def test_programs_run(modules, program):
    """Each by itself, and each prints something."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=modules, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout


def _arrange_photographs(folder):
    """All in one folder, each in one named by its class, and a file that is none."""
    (folder / "photos").mkdir()
    for name, top3 in json.loads((DATA / "images" / "expected_top3.json").read_text()).items():
        (folder / "classes" / str(top3[0][0])).mkdir(parents=True)
        for place in (folder / "photos", folder / "classes" / str(top3[0][0])):
            (place / name).symlink_to(DATA / "images" / name)
    (folder / "imagenet_labels.txt").symlink_to(DATA / "imagenet_labels.txt")
    (folder / "broken.jpg").write_bytes(b"no picture")


@pytest.fixture
def console_folder(tmp_path):
    """What the examples speak of, and the server that it calls models.example, which breaks once."""
    (tmp_path / REAL_ARCHIVE.name).symlink_to(REAL_ARCHIVE)
    _arrange_photographs(tmp_path)
    network = tf.keras.applications.MobileNetV2(alpha=0.35, weights=None, classes=7, input_shape=(96, 96, 3))
    tf.saved_model.save(network, str(tmp_path / "written_by_tensorflow_2.15"))
    with running_server() as server:
        server.acts = [serve_some(len(ARCHIVE) // 2), serve]
        (tmp_path / "configs_of_mine").mkdir()
        (tmp_path / "configs_of_mine" / "flowers.yaml").write_text(
            "network: mobilenet_v2\ndepth_multiplier: 0.35\nimage_size: 96\nnum_classes: 7\ndataset: made up\n"
            "modules: [feature_vector/5]\n"
            f"checkpoint: {{url: {server.address}/flowers.tgz, sha256: {SHA256}, name: x}}\n"
        )
        yield tmp_path, server.address


@needs_data
@pytest.mark.skipif(not hasattr(hub, "Module"), reason="the foreign module must be of the TensorFlow that is shown")
def test_examples_show_real_output(console_folder):
    """Every line that is shown comes, in this order; where no … stands, no other comes on stdout."""
    folder, address = console_folder
    examples = re.findall(r"^\$ hubexport (.*)\n((?:(?!\$ ).*\n)*)", "".join(_blocks("console")), re.MULTILINE)
    assert len(examples) >= 19
    for arguments, shown in examples:
        done = hubexport(*shlex.split(arguments), cwd=folder, env={"NO_PROXY": "*"})
        stdout = [line.rstrip() for line in done.stdout.replace(address, "https://models.example").splitlines()]
        stderr = done.stderr.replace(address, "https://models.example").splitlines()
        wanted = shown.splitlines()
        coming = iter([*stderr, *stdout])
        assert all(line == "…" or line in coming for line in wanted), f"{arguments}\n{done.stderr}{done.stdout}"
        if "…" not in wanted:
            assert [line for line in wanted if line not in stderr] == [line for line in stdout if line], arguments


def test_the_config_of_ones_own_builds(tmp_path):
    """The YAML file and the command below it, as they stand."""
    [config] = _blocks("yaml")
    [line] = [line for block in _blocks("sh") for line in block.splitlines() if "flowers" in line]
    (tmp_path / "configs_of_mine").mkdir()
    (tmp_path / "configs_of_mine" / "flowers_075_192.yaml").write_text(config)
    (tmp_path / "configs_of_mine" / "flowers.txt").write_text("daisy\nrose\ntulip\nsunflower\ndandelion\n")
    (tmp_path / "train_dir").mkdir()
    values = network_values(depth_multiplier=0.75, num_classes=5)
    averaged = {f"{name}{AVERAGED_SUFFIX}": value for name, value in values.items()}
    write_v2(tmp_path / "train_dir" / "model.ckpt-20000", {**values, **averaged})
    done = hubexport(*line.removeprefix("hubexport ").split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "modules/me/flowers/flowers_075_192/feature_vector/5",
        "modules/me/flowers/flowers_075_192/classification/5",
    ]
    module = tmp_path / "modules/me/flowers/flowers_075_192/classification/5"
    assert (module / "assets" / "labels.txt").read_text().split()[1] == "rose"
    assert "assets/labels.txt" in json.loads((module / "hubexport.json").read_text())["sha256"]
    images = np.random.RandomState(0).uniform(size=(2, 192, 192, 3)).astype(np.float32)
    logits = hub.load(str(module))(images)
    assert logits.shape == (2, 5)
    network = mobilenet_v2(0.75, 192, 5)
    reference = saved_model_bytes(ModuleSpec.parse("classification/3"), network)
    with imported(read_saved_model(reference)[()], values) as tf1:
        wanted = tf1.run("image_classification", images)["default"]
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("command_name", "header"),
    [("build", "| flag |"), *((name, f"| flag of `{name}` |") for name in ("release", "serve", "site"))],
)
def test_every_flag_is_in_its_table(command_name, header):
    """And no other."""
    table = _README[_README.index(header) :].split("\n\n")[0]
    shown = {
        flag for row in re.findall(r"^\| (`--.*?) \|", table, re.MULTILINE) for flag in re.findall(r"`(--\w+)", row)
    }
    if command_name == "release":
        shown |= {"--beam_option"}  # In the row of --runner.
    offered = set(re.findall(r"--\w+", hubexport(command_name, "--help").stdout)) - {"--help", "--helpfull"}
    assert shown == offered


def test_every_error_of_its_table_is_one_of_the_code():
    """Word for word, but for what stands in place of names."""
    code = "".join(path.read_text() for path in (REPOSITORY / "hubexport").rglob("*.py"))
    table = _README[_README.index("| error | what to do |") :].split("\n\n")[0]
    errors = re.findall(r"^\| `([^`]*)`", table, re.MULTILINE)
    assert len(errors) >= 9
    for error in errors:
        words = re.sub(r"^\S*…\S*|…$", "", error).strip()
        assert words in code, error


def test_every_variant_is_in_its_table():
    """With its modules, size, features and accuracy."""
    for variant in list_variants():
        features = variant.network_for("feature_vector").num_features
        row = (
            f"| `{variant.name}` | {', '.join(map(str, variant.modules))} | {variant.image_size} | {features} "
            f"| {variant.published.top1_percent} |"
        )
        assert row in _README


def test_the_demo_prints_what_it_finds(modules):
    """`make demo`'s second half; its first is the build that made these modules."""
    done = subprocess.run(
        [command()[0], REPOSITORY / "scripts" / "demo.py", modules / "modules"],
        env={**environment(), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("images          [batch, 192, 192, 3], float32 in [0, 1]") == 2
    assert "default output  [2, 1280]" in done.stdout
    assert "default output  [2, 1001]" in done.stdout
