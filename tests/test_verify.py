"""`hubexport verify` as users run it, and what its checks find in sound modules. test_mutations.py has damaged ones."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from hubexport.build import build_modules
from hubexport.config_files import load_variant
from hubexport.consumers.registry import CONSUMERS
from hubexport.errors import CheckpointError, ModuleError, UsageError
from hubexport.networks.costs import multiply_adds
from hubexport.networks.ops import Identity, Softmax
from hubexport.variants import ModuleSpec
from hubexport.verify.checks.registry import CHECKS, DEPLOYMENT_CHECKS, select_checks
from hubexport.verify.layer_errors import rounding_floor
from hubexport.verify.sample_images import extreme_images, random_images
from hubexport.verify.verify_module import verify_module
from tests.archives import member, tgz
from tests.checkpoints import network_values, write_v2
from tests.command import command, environment, hubexport
from tests.data import DATA, REAL_ARCHIVE, needs_data
from tests.environments import python_or_skip
from tests.servers import answer, running_server

_CHEAP = ["--checks", "structure", "--checks", "weights"]


@pytest.fixture
def module(small, tmp_path):
    """A small TF1 module with synthetic values."""
    [path] = build_modules(
        small, [ModuleSpec.parse("feature_vector/3")], checkpoint="synthetic:1", output_dir=tmp_path / "m"
    )
    return path


def _result(verification, name):
    [result] = [result for result in verification.results if result.check == name]
    return result


def test_the_command_passes_a_module_and_fails_a_damaged_one(module):
    """It prints a line for each check and a summary, and its exit status tells the verdict."""
    done = hubexport("verify", module, "--checkpoint", "synthetic:1", *_CHEAP)
    assert done.returncode == 0, done.stderr
    verdict = done.stdout.splitlines()[-1]
    assert "weights.equal" in done.stdout and verdict.startswith("PASSED: 12 passed, 1 not applicable, in ")
    assert verdict.endswith(f" s; {len(CHECKS) - 13} other checks were not selected")
    (module / "surplus").touch()
    done = hubexport("verify", module, "--checkpoint", "synthetic:1", *_CHEAP)
    assert done.returncode == 1 and not done.stderr.count("ERROR")
    assert done.stdout.splitlines()[-1].startswith("FAILED: 11 passed, 1 failed, 1 not applicable")
    assert "surplus is not listed in hubexport.json" in done.stdout


def test_json_has_figures_and_limits(module):
    """Standard output holds one JSON object and nothing else."""
    done = hubexport("verify", module, "--checkpoint", "synthetic:2", "--format", "json", "--checks", "weights.equal")
    verification = json.loads(done.stdout)
    assert done.returncode == 1 and verification["passed"] is False
    assert verification["facts"]["variant"] == "small" and verification["checkpoint"] == "synthetic:2"
    [result] = verification["results"]
    assert (result["status"], result["measured"], result["limit"], result["unit"]) == ("fail", 260, 0, "variables")
    assert result["proof"] == "computation"
    assert verification["not_selected"] == [check.name for check in CHECKS if check.name != "weights.equal"]


def test_each_check_says_what_proves_it(module):
    """In the table and in JSON: a rebuild, hubexport's own computation, or a program that loads the module."""
    assert {check.proof for check in CHECKS} == {"rebuild", "computation", "program"}
    rows = hubexport("verify", module, "--checks", "rebuild", "--checks", "weights").stdout.splitlines()
    words = dict(row.split()[:2] for row in rows if row.strip().startswith(("rebuild.", "weights.")))
    assert words["rebuild.files"] == "rebuild" and words["weights.sound"] == "computation"


def test_packed_modules_and_addresses_are_verified_like_directories(module, tmp_path):
    """As a gzipped tar in a file, and as a hub server sends it."""
    packed = tmp_path / "module.tar.gz"
    subprocess.run(["tar", "czf", packed, "-C", module, "."], check=True)
    checks = select_checks(["structure", "weights"])
    with running_server() as server:
        server.acts = [answer(200, packed.read_bytes())]
        for path in (str(packed), f"{server.address}/hub/small/feature_vector/3"):
            verification = verify_module(path, checkpoint="synthetic:1", checks=checks)
            assert verification.passed and verification.path == path
        assert [request.path for request in server.requests] == ["/hub/small/feature_vector/3?tf-hub-format=compressed"]


def test_a_report_is_replaced_only_with_overwrite(module, tmp_path):
    """Without the flag, the command stops before it checks anything."""
    report = tmp_path / "report.html"
    arguments = ("verify", module, *_CHEAP, "--report", report)
    assert hubexport(*arguments).returncode == 0
    first = report.read_text()
    assert first.startswith("<!DOCTYPE html>") and "structure.digests" in first
    done = hubexport(*arguments)
    assert done.returncode == 1 and "already exists" in done.stderr and "checking" not in done.stderr
    assert hubexport(*arguments, "--overwrite").returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".html") == ["report.html"]


def test_no_report_is_left_where_the_module_or_checkpoint_cannot_be_read(module, tmp_path):
    """These are errors: there is nothing to check."""
    report = tmp_path / "report.html"
    for arguments in ((tmp_path,), (module, "--checkpoint", tmp_path / "nowhere")):
        done = hubexport("verify", *arguments, "--report", report)
        assert done.returncode == 1 and done.stderr.splitlines()[-3].startswith("ERROR"), done.stderr
        assert not report.exists()


def test_checks_are_selected_by_name_group_and_pattern():
    """They keep their own order. For a mistyped name, the error suggests the right one."""
    assert [check.name for check in select_checks(["weights", "structure.ops"])] == [
        "structure.ops",
        "weights.equal",
        "weights.sound",
    ]
    assert [check.name for check in select_checks(["*.signatures"])] == ["structure.signatures", "numbers.signatures"]
    assert select_checks([]) == CHECKS
    assert [check.name for check in select_checks(["numbers.random", "structure"], subject="deployment")] == [
        "deployment.digests",
        "deployment.interface",
        "deployment.random",
    ]
    assert not select_checks(["weights"], subject="deployment") and not select_checks(["deployment"])
    assert {check.counterpart for check in DEPLOYMENT_CHECKS} < {check.name for check in CHECKS}
    with pytest.raises(UsageError, match="did you mean 'weights.equal'"):
        select_checks(["weights.equl"])


def test_the_list_of_checks_names_each_with_its_promise():
    """Each name is unique, and each promise is a sentence."""
    printed = hubexport("verify", "--list-checks").stdout
    names = [check.name for check in (*CHECKS, *DEPLOYMENT_CHECKS)]
    assert len(names) == len(set(names))
    assert [line.split()[0] for line in printed.splitlines() if line[1:].partition(" ")[0] in names] == names
    for check in (*CHECKS, *DEPLOYMENT_CHECKS):
        assert check.promise.endswith(".") and check.promise in printed


def test_a_module_without_a_manifest_is_verified_if_flags_say_what_it_should_be(module, config_dir):
    """The flags are --variant and --module. `structure.digests` and `structure.facts` do not apply."""
    (module / "hubexport.json").unlink()
    with pytest.raises(ModuleError, match="cannot tell what"):
        verify_module(str(module))
    arguments = (
        "verify",
        module,
        "--checkpoint",
        "synthetic:1",
        *_CHEAP,
        "--variant",
        "small",
        "--config-dir",
        config_dir,
    )
    done = hubexport(*arguments, "--module", "feature_vector/3")
    assert done.returncode == 0, done.stdout
    done = hubexport(*arguments, "--module", "feature_vector/2")
    assert done.returncode == 1 and "is attached" in done.stdout


def test_a_manifest_that_describes_no_possible_module_is_an_error(module):
    """Anybody may have written it."""
    manifest = json.loads((module / "hubexport.json").read_text())
    for change in ({"network": "vgg"}, {"kind": "segmentation"}, {"input_height_px": 7}, {"depth_multiplier": None}):
        (module / "hubexport.json").write_text(json.dumps({**manifest, **change}))
        with pytest.raises(ModuleError, match="cannot tell what"):
            verify_module(str(module))


def test_a_checkpoint_of_another_network_is_an_error(module, tmp_path):
    """It is no finding about the module."""
    other = load_variant("mobilenet_v2_050_96")
    [path] = build_modules(
        other, [ModuleSpec.parse("feature_vector/3")], checkpoint="synthetic", output_dir=tmp_path / "o"
    )
    with pytest.raises(CheckpointError, match="cannot restore small"):
        verify_module(str(module), checkpoint=str(path), checks=select_checks(["weights"]))


@pytest.mark.parametrize("name", ["mobilenet_v2_0.35_96.tgz", "mobilenet_v2_035_96.tar.gz"])
def test_a_folder_of_archives_has_the_modules_checkpoint(tmp_path, name):
    """As it had when the module was built: named like the published archive, or like the variant."""
    archives, stored = tmp_path / "archives", load_variant("mobilenet_v2_035_96").checkpoint.name
    archives.mkdir()
    write_v2(tmp_path / stored, network_values(num_classes=1001))
    for archive, prefix in ((name, stored), ("mobilenet_v2_050_96.tgz", "missing")):
        members = [member(path.name, path.read_bytes()) for path in sorted(tmp_path.glob(f"{prefix}.*"))]
        (archives / archive).write_bytes(tgz(*members))
    how = ("--checkpoint", archives, "--variant", "mobilenet_v2_035_96")
    done = hubexport("build", *how, "--module", "feature_vector/5", "--output-dir", tmp_path / "m")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "m/google/imagenet/mobilenet_v2_035_96/feature_vector/5"
    done = hubexport("verify", path, *how[:2], "--checks", "rebuild,weights", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checkpoint"] == str(archives / name)
    (archives / name).unlink()
    done = hubexport("verify", path, *how[:2], "--checks", "weights")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no checkpoint for mobilenet_v2_035_96" in done.stderr and "mobilenet_v2_0.35_96.tgz" in done.stderr


def test_without_a_checkpoint_the_module_is_compared_with_its_own_values(module):
    """That proves its graph right, and says nothing about its weights."""
    verification = verify_module(str(module), checks=select_checks(["weights.equal", "numbers.random"]))
    assert verification.passed and verification.checkpoint is None
    assert _result(verification, "weights.equal").status == "not applicable"
    assert 0 < _result(verification, "numbers.random").measured < 1e-4


def test_layers_carry_errors_floors_and_costs(module, small):
    """The report gets all layers, with errors for those that the module shows."""
    verification = verify_module(str(module), checks=select_checks(["numbers.random"]))
    network = small.network_for("feature_vector")
    assert [layer.name for layer in verification.layers] == [layer.name for layer in network.layers]
    assert sum(layer.parameters for layer in verification.layers) == sum(v.size for v in network.variables)
    assert sum(layer.multiply_adds for layer in verification.layers) == sum(multiply_adds(network).values())
    shown = [layer for layer in verification.layers if layer.error is not None]
    assert len(shown) == len({*network.endpoints.values(), network.features})
    assert all(0 < layer.error < 10 * layer.floor for layer in shown)
    assert verification.layers[1].operation == "Conv2D 3×3, stride 2, relu6"


def test_the_floor_of_probabilities_follows_from_that_of_logits():
    """Logits that are all off by the same cancel out in NumPy, which says nothing about the module."""
    softmax, exact = Softmax("p", ("z",), "p"), {"z": np.zeros((1, 2)), "p": np.full((1, 2), 0.5)}
    assert rounding_floor(softmax, {"z": exact["z"] + 1e-3, "p": exact["p"]}, exact) == pytest.approx(0.5e-3)
    assert rounding_floor(softmax, {"z": exact["z"] + 1e-3, "p": exact["p"] + 1e-3}, exact) == pytest.approx(1e-3)
    assert rounding_floor(Identity("z", ("x",), "z"), {"z": exact["z"] + 1e-3}, exact) == pytest.approx(1e-3)


def test_made_up_images_look_like_images():
    """They are in range, have the right size, differ from each other, and are the same each time."""
    images = random_images(96, 64).images
    assert images.shape == (2, 96, 64, 3) and images.dtype == np.float32
    assert 0 <= images.min() < 0.2 and 0.8 < images.max() <= 1
    np.testing.assert_array_equal(images, random_images(96, 64).images)
    noise, clouds = images
    assert np.abs(np.diff(noise, axis=0)).mean() > 5 * np.abs(np.diff(clouds, axis=0)).mean()
    assert [image.mean() for image in extreme_images(32, 32).images] == [0, 1]


def test_a_missing_tensorflow_hub_fails_only_the_consumers_check(module, tmp_path):
    """The other checks do not need it."""
    code = (
        "import importlib.metadata as m, sys; real = m.version\n"
        "def version(name):\n"
        "    if name == 'tensorflow-hub': raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.version = version\n"
        f"sys.argv = ['hubexport', 'verify', {str(module)!r}, '--checks', 'consumers', '--checks', 'structure.ops']\n"
        "from hubexport.cli.main import run; run()\n"
    )
    done = subprocess.run([command()[0], "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "cannot load modules: tensorflow-hub is not installed" in done.stdout and "1 failed" in done.stdout
    assert "ConsumerError" not in done.stdout, "it is an expected error"


@needs_data
def test_a_wrong_number_of_labels_is_refused_before_anything_is_checked(small, tmp_path):
    """There are seven classes and six names."""
    [path] = build_modules(
        small, [ModuleSpec.parse("classification/2")], checkpoint="synthetic", output_dir=tmp_path / "m"
    )
    (tmp_path / "six.txt").write_text("one\ntwo\nthree\nfour\nfive\nsix\n")
    done = hubexport("verify", path, "--images", DATA / "images", "--labels", tmp_path / "six.txt")
    assert done.returncode == 2 and "there are 6 labels for 7 classes" in done.stderr
    assert "checking" not in done.stderr and not done.stdout


@needs_data
@pytest.mark.slow
def test_real_weights_pass_with_photographs_and_the_publisher_s_graph(tmp_path):
    """The frozen graph was frozen from averaged weights, and is not compared with a module that has raw ones."""
    variant, spec = load_variant("mobilenet_v2_100_224"), ModuleSpec.parse("classification/3")
    options = {"checkpoint": str(REAL_ARCHIVE), "output_dir": tmp_path}
    [path] = build_modules(variant, [spec], **options)
    images = sorted((DATA / "images").glob("*.jpg"))
    verification = verify_module(
        str(path),
        checkpoint=str(REAL_ARCHIVE),
        images=images,
        labels=(DATA / "imagenet_labels.txt").read_text().splitlines(),
        checks=select_checks(["weights", "numbers"]),
    )
    assert verification.passed, verification.failed
    inapplicable = [result.check for result in verification.results if result.status == "not applicable"]
    assert inapplicable == ["numbers.sizes", "numbers.serving"]
    assert "frozen from averaged weights" in _result(verification, "numbers.frozen_graph").explanation
    expected = json.loads((DATA / "images" / "expected_top3.json").read_text())
    for photograph in verification.photographs:
        wanted = expected[photograph.name]
        assert [[index, label] for index, label, _ in photograph.classes[:3]] == [best[:2] for best in wanted]
        probabilities = [probability for *_, probability in photograph.classes[:3]]
        np.testing.assert_allclose(probabilities, [best[2] for best in wanted], atol=1e-4)
        assert photograph.jpeg.startswith(b"\xff\xd8")

    [path] = build_modules(variant, [spec], weights="raw", overwrite=True, **options)
    verification = verify_module(
        str(path), checkpoint=str(REAL_ARCHIVE), checks=select_checks(["weights.equal", "numbers.frozen_graph"])
    )
    assert _result(verification, "weights.equal").status == "pass"
    frozen = _result(verification, "numbers.frozen_graph")
    assert frozen.status == "not applicable" and "frozen from averaged weights, but" in frozen.explanation


# In make test, test_mutations has one module of each format pass.
@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "spec"), [("mobilenet_v2_075_192", "feature_vector/2"), ("mobilenet_v2_050_96", "classification/1")]
)
def test_modules_with_synthetic_values_pass(tmp_path, name, spec):
    """They pass every check that applies."""
    spec = ModuleSpec.parse(spec)
    [path] = build_modules(load_variant(name), [spec], checkpoint="synthetic:1", output_dir=tmp_path)
    verification = verify_module(str(path), checkpoint="synthetic:1")
    assert verification.passed, verification.failed


@pytest.mark.consumers
@pytest.mark.timeout(1800)
@pytest.mark.slow
def test_modules_are_tried_in_other_tensorflows(small, tmp_path):
    """TensorFlow 1.15 can use a TF1 Hub module. For a TF2 SavedModel the check does not apply."""
    chosen = {consumer.name: consumer for consumer in CONSUMERS}
    python_or_skip(chosen["tf1.15"].environment)
    [path] = build_modules(
        small, [ModuleSpec.parse("classification/2")], checkpoint="synthetic:1", output_dir=tmp_path / "1"
    )
    options = {"checks": select_checks(["structure.ops"]), "consumers": [chosen["tf1.15"]]}
    result = _result(verify_module(str(path), **options), "consumers.tf1.15")
    assert result.status == "pass" and "hub.Module in tensorflow_hub 0.12.0" in result.explanation
    [path] = build_modules(
        small, [ModuleSpec.parse("classification/5")], checkpoint="synthetic:1", output_dir=tmp_path / "5"
    )
    result = _result(verify_module(str(path), **options), "consumers.tf1.15")
    assert result.status == "not applicable" and "older than 2.4" in result.explanation


def test_an_interrupted_verification_leaves_no_consumer_running(module, tmp_path):
    """It leaves no report either."""
    assert shutil.which("pgrep"), "the test needs pgrep to list processes"
    code = f"""
import signal, sys, threading, os
sys.argv = ["hubexport", "verify", {str(module)!r}, "--report", {str(tmp_path / "r.html")!r}]
import hubexport.verify.verify_module as verify_module
run_check = verify_module.run_check
def interrupt_or_run(check, *arguments):
    if check.name == "numbers.random":
        os.kill(os.getpid(), signal.SIGINT)
    return run_check(check, *arguments)
verify_module.run_check = interrupt_or_run
from hubexport.cli.main import run; run()
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 130 and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "r.html").exists()
    left = subprocess.run(["pgrep", "-f", str(module)], capture_output=True, text=True, check=False).stdout
    assert not left
