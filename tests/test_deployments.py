"""Deployments beside modules: what `build`, `verify` and `release` make of them."""

import json

from PIL import Image
import numpy as np
import onnx
from onnx import numpy_helper
import onnxruntime
import pytest

from hubexport.build import BuildOrder, build_modules
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.deployment_spec import deployment_requests, with_deployments
from hubexport.deployments.options import TFJS_QUANTIZATIONS, CalibrationRecord, OnnxOptions
from hubexport.errors import ModuleError, UsageError
from hubexport.formats.manifest import read_manifest
from hubexport.images.calibration import Calibration
from hubexport.progress import Progress
from hubexport.release.check import check_release
from hubexport.release.index import read_index
from hubexport.release.options import ReleaseOptions
from hubexport.release.release_modules import release_modules
from hubexport.runtime.deployment_runners import Runner
from hubexport.system.digests import file_sha256, tree_files
from hubexport.variants import ModuleSpec
from hubexport.verify.checks.registry import DEPLOYMENT_CHECKS
from hubexport.verify.verify_module import verify_module
from tests.checkpoints import network_values
from tests.command import hubexport

_FEATURES, _CLASSES = ModuleSpec.parse("feature_vector/3"), ModuleSpec.parse("classification/5")
_CHECKS = ("structure.digests", "weights.equal", "deployment")
# Those that compute, and do not write the deployment again.
_COMPUTING = ["deployment.interface", "deployment.random", "deployment.extremes", "deployment.batches"]


def _build(variant, folder, *names, modules=(_CLASSES,), outputs=(), **chosen):
    """Builds modules with deployments, and returns the folders of the deployments."""
    specs = with_deployments(variant, modules, deployment_requests(names, chosen, outputs))
    return build_modules(variant, specs, checkpoint="synthetic:1", output_dir=folder)[len(modules) :]


def _files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in tree_files(folder)}


def _failed(verification):
    return {result.check for result in verification.failed}


def test_deployments_lie_beside_the_folders_of_modules(small, tmp_path):
    """Each below the handle of its module, with a manifest."""
    found = _build(small, tmp_path, "onnx", modules=(_CLASSES, _FEATURES))
    wanted = [f"deployments/google/imagenet/small/{spec}/onnx" for spec in (_CLASSES, _FEATURES)]
    assert [path.relative_to(tmp_path).as_posix() for path in found] == wanted
    assert sorted(_files(tmp_path / "deployments/google/imagenet/small/classification/5")) == [
        "onnx/hubexport.json",
        "onnx/model.onnx",
    ]
    assert (tmp_path / "google/imagenet/small/classification/5/saved_model.pb").is_file()
    assert not [name for name in _files(tmp_path / "google") if "onnx" in name]


def test_a_deployment_is_what_convert_writes(small, tmp_path):
    """From the same options."""
    [folder] = _build(small, tmp_path, "onnx", softmax=True, pixels="uint8", opset=15)
    options = OnnxOptions(softmax=True, pixels="uint8", opset=15)
    converted = convert("synthetic:1", tmp_path / "m.onnx", "onnx", variant=small, options=options)
    assert (folder / "model.onnx").read_bytes() == converted.read_bytes()


def test_the_manifest_says_how_it_was_written(small, tmp_path):
    """With the version of onnx, on which bytes may depend."""
    [folder] = _build(small, tmp_path, "onnx", layout="nchw", outputs=["MobilenetV2/layer_3"])
    facts = json.loads((folder / "hubexport.json").read_text())
    assert facts["handle"] == "deployments/google/imagenet/small/classification/5/onnx"
    assert (facts["kind"], facts["version"], facts["num_classes"]) == ("classification", 5, 7)
    assert facts["deployment"] == {
        "format": "onnx",
        "options": {"pixels": "float", "softmax": False, "opset": 17, "layout": "nchw"},
        "endpoints": ["MobilenetV2/layer_3"],
        "written_with": {"onnx": onnx.__version__},
    }
    assert facts["sha256"] == {"model.onnx": file_sha256(folder / "model.onnx")}
    assert read_manifest(tmp_path / "google/imagenet/small/classification/5").deployment is None


def test_images_of_any_size_stay_so(tmp_path):
    """Where the version of the module takes them."""
    variant = load_variant("mobilenet_v1_025_128")
    for version, shape in ((1, [None, 128, 128, 3]), (5, [None, None, None, 3])):
        [folder] = _build(variant, tmp_path, "onnx", modules=(ModuleSpec.parse(f"feature_vector/{version}"),))
        [images] = onnx.load(folder / "model.onnx").graph.input
        assert [one.dim_value or None for one in images.type.tensor_type.shape.dim] == shape


def test_features_have_no_probabilities(small, tmp_path):
    """So that one command can ask for both kinds."""
    _, features = _build(small, tmp_path, "onnx", modules=(_CLASSES, _FEATURES), softmax=True)
    [output] = onnx.load(features / "model.onnx").graph.output
    assert output.name == "feature_vector"


@pytest.mark.parametrize(
    ("names", "chosen", "outputs", "words"),
    [
        (["onxx"], {}, (), ["onxx", "onnx"]),
        (["onnx-float16"], {}, (), ["onnx-float16", "no quantization"]),
        (["onnx"], {"opset": 3}, (), ["opset"]),
        ([], {"opset": 15}, (), ["opset", "onnx"]),
        (["onnx"], {}, ["MobilenetV2/layer_77"], ["MobilenetV2/layer_77"]),
    ],
    ids=["format", "quantization", "choice", "option of no format", "endpoint"],
)
def test_what_cannot_be_written_is_refused_by_name(small, names, chosen, outputs, words):
    """Before anything is read."""
    with pytest.raises(UsageError) as caught:
        with_deployments(small, [_CLASSES], deployment_requests(names, chosen, outputs))
    assert all(word in str(caught.value) for word in words)


def test_the_command_line_builds_verifies_and_tells_damage(tmp_path, config_dir):
    """As a user would do it."""
    where = ("--config-dir", config_dir)
    how = ("--checkpoint", "synthetic", "--output-dir", tmp_path / "m", "--module", "classification/5")
    done = hubexport("build", "--variant", "small", *how, "--deployment", "onnx", "--softmax", *where)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "m/deployments/google/imagenet/small/classification/5/onnx"
    assert done.stdout.splitlines()[1] == str(folder)
    done = hubexport("verify", folder, "--checkpoint", "synthetic", "--variant", "small", *where)
    assert done.returncode == 0, done.stdout
    assert "deployment.random" in done.stdout and "PASSED" in done.stdout
    assert " probabilities of 2 images; the same best class for " in " ".join(done.stdout.split())
    done = hubexport("verify", folder, "--checkpoint", "synthetic:2", "--variant", "small", *where)
    assert done.returncode == 1
    assert "FAILED" in done.stdout
    done = hubexport("verify", folder, "--checks", "weights")
    assert done.returncode == 2 and "of modules" in done.stderr
    done = hubexport("verify", folder, "--checks", "structure", "--format", "json")
    ran = [one["check"] for one in json.loads(done.stdout)["results"]]
    assert (done.returncode, ran) == (0, ["deployment.digests", "deployment.interface"])
    done = hubexport("verify", tmp_path / "m/google/imagenet/small/classification/5", "--checks", "deployment")
    assert (done.returncode, done.stdout) == (2, "") and "of deployments" in done.stderr
    done = hubexport("build", "--variant", "small", *how, "--opset", 15, *where)
    assert done.returncode == 2 and "--opset needs --deployment" in done.stderr


def test_a_calibration_goes_to_the_deployments_that_need_one():
    """So that one command can ask for floats and integers."""
    calibration = CalibrationRecord(3, "0" * 64)
    floats, integers = deployment_requests(["tflite", "tflite-int8"], {"calibration": calibration})
    assert floats.options.calibration is None and floats.options.quantize == "none"
    assert integers.options.calibration is calibration
    with pytest.raises(UsageError, match="calibration"):
        deployment_requests(["tflite"], {"calibration": calibration})


def test_without_a_checkpoint_only_files_and_interface_are_checked(small, tmp_path):
    """Folded values cannot be taken apart; the report says so."""
    [folder] = _build(small, tmp_path, "onnx")
    found = verify_module(folder, variant=small)
    assert found.passed
    assert {one.check for one in found.results if one.status == "pass"} == {
        "deployment.digests",
        "deployment.manifest",
        "deployment.interface",
    }


@pytest.mark.parametrize("pixels", ["float", "uint8"])
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_a_right_deployment_passes_all_checks(small, tmp_path, layout, pixels):
    """With all endpoints, compared with the float64 network, which shares no code with its writer."""
    [folder] = _build(small, tmp_path, "onnx", outputs="all", layout=layout, pixels=pixels)
    found = verify_module(folder, checkpoint="synthetic:1", variant=small)
    assert found.passed, found.failed
    by_name = {one.check: one for one in found.results}
    assert by_name["deployment.rebuild"].status == by_name["deployment.random"].status == "pass"
    assert (
        f"of {len(small.network_for('classification').endpoints) + 1} outputs"
        in by_name["deployment.random"].explanation
    )
    assert found.versions["ONNX Runtime"] == onnxruntime.__version__


def _swap_bytes_of_a_kernel(model):
    [kernel] = (
        one for one in model.graph.initializer if one.name == "MobilenetV2/expanded_conv_3/depthwise/depthwise_weights"
    )
    values = numpy_helper.to_array(kernel).copy()
    values[3], values[4] = values[4].copy(), values[3].copy()
    kernel.CopyFrom(numpy_helper.from_array(values, kernel.name))


def _change_a_bias(model):
    [bias] = (one for one in model.graph.initializer if one.name == "MobilenetV2/expanded_conv_5/project/biases")
    values = numpy_helper.to_array(bias).copy()
    values[7] += 0.05
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))


def _move_a_pad(model):
    for node in model.graph.node:
        for one in node.attribute:
            if one.name == "pads" and list(one.ints) == [0, 0, 1, 1]:
                one.ints[:] = [1, 1, 0, 0]
                return


def _drop_an_activation(model):
    [clip] = (node for node in model.graph.node if node.name == "MobilenetV2/expanded_conv_1/expand/Relu6")
    clip.op_type = "Identity"
    del clip.input[1:]


def _rename_the_output(model):
    for node in model.graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
    model.graph.output[0].name = "scores"


@pytest.mark.parametrize(
    ("damage", "checks"),
    [
        (_swap_bytes_of_a_kernel, {"deployment.random"}),
        (_change_a_bias, {"deployment.random", "deployment.extremes"}),
        (_move_a_pad, {"deployment.random"}),
        (_drop_an_activation, {"deployment.random"}),
        (_rename_the_output, {"deployment.interface"}),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_damage_is_caught_by_what_is_computed(small, tmp_path, damage, checks):
    """Even where the manifest lists the damaged file; and the rebuild tells each as well."""
    [folder] = _build(small, tmp_path, "onnx")
    model = onnx.load(folder / "model.onnx")
    damage(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    assert "deployment.digests" in _failed(verify_module(folder, variant=small))
    facts = json.loads((folder / "hubexport.json").read_text())
    facts["sha256"]["model.onnx"] = file_sha256(folder / "model.onnx")
    (folder / "hubexport.json").write_text(json.dumps(facts, indent=2) + "\n")
    found = verify_module(folder, checkpoint="synthetic:1", variant=small, checks=_COMPUTING)
    assert checks <= _failed(found)
    assert _failed(verify_module(folder, checkpoint="synthetic:1", variant=small, checks=["deployment.rebuild"]))


def _swap_bytes_of_a_shard(folder):
    path = folder / "group1-shard1of1.bin"
    content = bytearray(path.read_bytes())
    place = len(content) // 2
    content[place : place + 4000] = content[place : place + 4000][::-1]
    path.write_bytes(content)


def _double_a_scale(folder):
    described = json.loads((folder / "model.json").read_text())
    weights = described["weightsManifest"][0]["weights"]
    quantized = [one for one in weights if one.get("quantization", {}).get("scale")]
    quantized[3]["quantization"]["scale"] *= 2
    (folder / "model.json").write_text(json.dumps(described))


def _rename_the_output_of_a_graph_model(folder):
    described = json.loads((folder / "model.json").read_text())
    described["signature"]["outputs"] = {"scores": described["signature"]["outputs"]["logits"]}
    (folder / "model.json").write_text(json.dumps(described))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "check"),
    [
        (_swap_bytes_of_a_shard, "deployment.random"),
        (_double_a_scale, "deployment.random"),
        (_rename_the_output_of_a_graph_model, "deployment.interface"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_damage_of_a_quantized_graph_model_is_caught_by_what_is_computed(small, tmp_path, damage, check):
    """Although its steps move outputs by themselves. A right one passes all checks."""
    [folder] = _build(small, tmp_path, "tfjs-uint8")
    assert verify_module(folder, checkpoint="synthetic:1", variant=small).passed
    damage(folder)
    facts = json.loads((folder / "hubexport.json").read_text())
    facts["sha256"] = {name: file_sha256(folder / name) for name in facts["sha256"]}
    (folder / "hubexport.json").write_text(json.dumps(facts, indent=2) + "\n")
    assert check in _failed(verify_module(folder, checkpoint="synthetic:1", variant=small, checks=_COMPUTING))


def test_a_manifest_of_no_known_format_is_an_error(small, tmp_path):
    """It says which."""
    [folder] = _build(small, tmp_path, "onnx")
    facts = json.loads((folder / "hubexport.json").read_text())
    for change, word in (({"format": "onnyx"}, "onnyx"), ({"options": {"opset": 3}}, "opset")):
        (folder / "hubexport.json").write_text(json.dumps(facts | {"deployment": facts["deployment"] | change}))
        with pytest.raises(ModuleError) as caught:
            verify_module(folder)
        assert word in str(caught.value)


def test_the_module_of_the_same_build_is_a_checkpoint_too(small, tmp_path):
    """Its manifest tells of the checkpoint that both are from."""
    write_bundle(tmp_path / "model.ckpt", network_values())
    specs = with_deployments(small, [_CLASSES], deployment_requests(["onnx"], {}))
    module, folder = build_modules(small, specs, checkpoint=tmp_path / "model.ckpt", output_dir=tmp_path / "m")
    for checkpoint in (module, tmp_path / "model.ckpt"):
        found = verify_module(folder, checkpoint=checkpoint, variant=small)
        assert found.passed, found.failed
    [other] = build_modules(small, [_CLASSES], checkpoint="synthetic:1", output_dir=tmp_path / "other")
    assert "deployment.manifest" in _failed(verify_module(folder, checkpoint=other, variant=small))


def test_a_pass_without_a_checkpoint_says_what_it_leaves_open(small, tmp_path):
    """Whoever wrote a deployment may say anything in it."""
    [folder] = _build(small, tmp_path, "onnx")
    assert "NOT compared" in verify_module(folder, variant=small).summary
    assert "NOT compared" not in verify_module(folder, variant=small, checkpoint="synthetic:1").summary


def test_a_verification_names_the_checks_that_were_not_selected(small, tmp_path):
    """Those of deployments, and none of modules."""
    [folder] = _build(small, tmp_path, "onnx")
    verification = verify_module(folder, variant=small, checks=["deployment.digests", "weights"])
    assert [result.check for result in verification.results] == ["deployment.digests"]
    assert {*verification.not_selected} == {check.name for check in DEPLOYMENT_CHECKS} - {"deployment.digests"}
    assert f"; {len(DEPLOYMENT_CHECKS) - 1} other checks were not selected" in verification.summary
    assert verify_module(folder, variant=small, checkpoint="synthetic:1").not_selected == ()


@pytest.mark.parametrize("change", ["manifest of another", "damaged manifest", "weights of another"])
def test_photographs_are_not_classified_by_what_the_manifest_does_not_describe(small, tmp_path, change):
    """Figures would be reported as another model's."""
    [folder], [other] = (_build(small, tmp_path / layout, "onnx", layout=layout) for layout in ("nhwc", "nchw"))
    Image.new("RGB", (96, 96)).save(tmp_path / "photo.png")
    assert hubexport("classify", folder, tmp_path / "photo.png").returncode == 0
    if change == "damaged manifest":
        (folder / "hubexport.json").write_text("{")
    else:
        name = "hubexport.json" if change == "manifest of another" else "model.onnx"
        (folder / name).write_bytes((other / name).read_bytes())
    for path in (folder, folder / "model.onnx"):
        done = hubexport("classify", path, tmp_path / "photo.png")
        assert done.returncode == 1 and "hubexport.json" in done.stderr, done.stderr


def test_files_that_convert_wrote_are_not_verified_but_compared(small, tmp_path):
    """The error says what to do."""
    path = convert("synthetic:1", tmp_path / "m.onnx", "onnx", variant=small)
    done = hubexport("verify", path, "--checkpoint", "synthetic:1")
    assert done.returncode == 1
    assert "--deployment onnx" in done.stderr and "hubexport diff" in done.stderr


def test_names_and_options_that_contradict_each_other_are_refused(small):
    """And a softmax that no model would have."""
    with pytest.raises(UsageError, match="exclude"):
        deployment_requests(["tfjs-uint16"], {"quantize": "uint8"})
    plain, named = deployment_requests(["tfjs", "tfjs-uint16"], {"quantize": "uint8"})
    assert (plain.options.quantize, named.options.quantize) == ("uint8", "uint16")
    with pytest.raises(UsageError, match="probabilities"):
        with_deployments(small, [_FEATURES], deployment_requests(["onnx"], {"softmax": True}))
    with pytest.raises(UsageError, match="did you mean 'MobilenetV2/layer_4'"):
        with_deployments(small, [_CLASSES], deployment_requests(["onnx"], {}, ["layer_4"]))


@pytest.fixture
def dist(small, tmp_path):
    """A release of a module and its deployment."""
    specs = with_deployments(small, [_CLASSES], deployment_requests(["onnx"], {}))
    outcomes = release_modules(
        [BuildOrder(small, specs)], ReleaseOptions(checkpoint="synthetic", checks=_CHECKS), tmp_path / "dist"
    )
    assert [outcome.result for outcome in outcomes] == ["made", "made"]
    return tmp_path / "dist"


_HANDLE = "deployments/google/imagenet/small/classification/5/onnx"


def test_a_release_has_the_files_of_a_deployment_as_programs_load_them(dist, small):
    """With page, card, report, provenance and record; and it is proved by its own checks."""
    assert {name.removeprefix(_HANDLE) for name in _files(dist) if name.startswith(_HANDLE)} == {
        "/model.onnx",
        "/hubexport.json",
        *(".md", ".card.md", ".verify.json", ".provenance.json", ".json"),
    }
    index = read_index(dist)
    [record] = index.deployments()
    assert [one.handle for one in index.modules()] == ["google/imagenet/small/classification/5"]
    assert (record.handle, record.format, record.publisher) == (_HANDLE, "onnx", "google")
    assert record.bytes == sum((dist / file.path).stat().st_size for file in record.contents)
    report = json.loads((dist / f"{_HANDLE}.verify.json").read_text())
    assert {one["check"] for one in report["checks"]} >= {"deployment.random", "deployment.rebuild"}
    for suffix in (".md", ".card.md"):
        page = (dist / f"{_HANDLE}{suffix}").read_text()
        assert "Its outputs were compared with the network in float64" in page and "None of them ran" not in page
    statement = json.loads((dist / f"{_HANDLE}.provenance.json").read_text())
    assert {one["name"] for one in statement["subject"]} >= {f"{_HANDLE}/model.onnx", f"{_HANDLE}/hubexport.json"}
    assert verify_module(dist / _HANDLE, checkpoint="synthetic", variant=small).passed


@pytest.mark.parametrize(
    ("chosen", "of_module", "of_deployment"),
    [
        pytest.param(
            ["rebuild.files", "structure.digests", "weights"],
            {"rebuild.files", "structure.digests", "weights.equal", "weights.sound"},
            {"deployment.rebuild", "deployment.digests"},
            id="counterparts",
        ),
        pytest.param(
            ["weights.equal", "deployment.manifest"], {"weights.equal"}, {"deployment.manifest"}, id="one of each"
        ),
    ],
)
def test_a_release_runs_no_checks_but_the_selected_ones(small, tmp_path, monkeypatch, chosen, of_module, of_deployment):
    """And neither they nor the pages run a deployment."""
    monkeypatch.setattr("hubexport.runtime.deployment_runners.RUNNERS", {"tfjs": Runner("no extra", None, None)})
    specs = with_deployments(small, [_CLASSES], deployment_requests(["tfjs"], {}))
    options = ReleaseOptions(checkpoint="synthetic", checks=tuple(chosen))
    outcomes = release_modules([BuildOrder(small, specs)], options, tmp_path / "dist")
    assert [outcome.result for outcome in outcomes] == ["made", "made"]
    for outcome, wanted in zip(outcomes, (of_module, of_deployment), strict=True):
        report = json.loads((tmp_path / "dist" / f"{outcome.artifact.handle}.verify.json").read_text())
        assert {one["check"] for one in report["checks"]} == wanted == {*outcome.record.inputs.checks}
    for suffix in (".md", ".card.md"):
        page = (tmp_path / "dist" / f"{outcome.artifact.handle}{suffix}").read_text()
        assert "None of them ran the model." in page and "were compared" not in page
    assert not check_release(tmp_path / "dist", Progress()).problems


@pytest.mark.parametrize(
    ("chosen", "named"),
    [("deployment.digests", "google/imagenet/small/classification/5"), ("weights", _HANDLE)],
    ids=["of deployments", "of modules"],
)
def test_a_release_needs_a_check_for_each_artifact(tmp_path, config_dir, chosen, named):
    """It says so before it makes anything, and plans nothing either."""
    how = ("--checkpoint", "synthetic", "--config-dir", config_dir, "--output-dir", tmp_path / "dist")
    what = ("--variant", "small", "--module", "classification/5", "--deployment", "onnx", "--checks", chosen)
    for more in ((), ("--dry-run",)):
        done = hubexport("release", *what, *how, *more)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"no checks to run on {named}\n" in done.stderr
    assert not (tmp_path / "dist").exists()


def test_what_a_release_recorded_of_its_checks_stays_valid(small, tmp_path):
    """Releases once ran all checks of deployments where only checks of modules were selected."""
    specs = with_deployments(small, [_CLASSES], deployment_requests(["onnx"], {}))
    order = BuildOrder(small, specs)
    release_modules([order], ReleaseOptions(checkpoint="synthetic", checks=_CHECKS), tmp_path / "dist")
    before = _files(tmp_path / "dist")
    narrower = ReleaseOptions(checkpoint="synthetic", checks=_CHECKS[:2])
    outcomes = release_modules([order], narrower, tmp_path / "dist")
    assert [outcome.result for outcome in outcomes] == ["up to date", "kept"]
    assert _files(tmp_path / "dist") == before
    assert not check_release(tmp_path / "dist", Progress()).problems


def test_a_second_run_makes_nothing_and_other_options_are_refused(dist, small):
    """Published files never change."""
    options = ReleaseOptions(checkpoint="synthetic", checks=_CHECKS)
    before = _files(dist)
    same, other = (
        release_modules(
            [BuildOrder(small, with_deployments(small, [_CLASSES], deployment_requests(["onnx"], chosen)))],
            options,
            dist,
        )
        for chosen in ({}, {"opset": 15})
    )
    assert [outcome.result for outcome in same] == ["up to date", "up to date"]
    assert other[0].result == "up to date" and "never change" in other[1].result.why
    assert _files(dist) == before


@pytest.mark.slow
def test_the_audit_accepts_what_a_release_makes_of_each_quantization(small, tmp_path):
    """Integers included, whose manifest counts photographs."""
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (96, 96, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    names = ["onnx", *(f"tfjs-{one}" for one in TFJS_QUANTIZATIONS[1:]), "tflite-dynamic", "tflite-int8"]
    requests = deployment_requests(names, {"calibration": Calibration(tmp_path / "photos")})
    specs = with_deployments(small, [_CLASSES], requests)
    options = ReleaseOptions(checkpoint="synthetic:1", checks=_CHECKS)
    outcomes = release_modules([BuildOrder(small, specs)], options, tmp_path / "dist")
    assert [outcome.result for outcome in outcomes] == ["made"] * len(specs)
    assert not check_release(tmp_path / "dist", Progress()).problems
    records = {record.spec.name: record for record in read_index(tmp_path / "dist").deployments()}
    assert records["tflite-int8"].deployment.options["calibration"]["images"] == 3


def test_the_audit_finds_a_complete_release_right(dist):
    """From its files alone."""
    checked = check_release(dist, Progress())
    assert not checked.problems and not checked.stray
    assert checked.artifacts == 2


def _rewrite(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


@pytest.mark.parametrize(
    ("damage", "path"),
    [
        (lambda dist: (dist / _HANDLE / "model.onnx").unlink(), "hubexport.json"),
        (lambda dist: _rewrite(dist / _HANDLE / "hubexport.json", b'"opset": 17', b'"opset": 16'), "hubexport.json"),
        (lambda dist: _rewrite(dist / f"{_HANDLE}.md", b"for inference alone", b"for training"), "onnx.md"),
        (lambda dist: _rewrite(dist / "index.json", b'"opset": 17', b'"opset": 16'), "onnx.json"),
        (lambda dist: (dist / _HANDLE / "more.bin").write_bytes(b"x"), None),
    ],
    ids=["missing", "manifest", "page", "index", "stray"],
)
def test_the_audit_finds_what_was_changed(dist, damage, path):
    """Each at its file."""
    damage(dist)
    checked = check_release(dist, Progress())
    if path is None:
        assert checked.stray == (f"{_HANDLE}/more.bin",)
    else:
        assert any(problem.path.endswith(path) for problem in checked.problems), checked.problems


def test_the_command_line_releases_deployments(tmp_path, config_dir):
    """And prints where each lies. The page tells where the names of the classes are."""
    with (config_dir / "small.yaml").open("a") as config:
        config.write("labels: [daisy, rose, tulip, poppy, lily, iris, aster]\n")
    how = ("--checkpoint", "synthetic", "--config-dir", config_dir, "--checks", ",".join(_CHECKS))
    what = ("--variant", "small", "--module", "classification/5", "--deployment", "onnx")
    done = hubexport("release", *what, *how, "--output-dir", tmp_path / "dist")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == str(tmp_path / "dist" / _HANDLE / "model.onnx")
    assert hubexport("check", tmp_path / "dist").returncode == 0
    page = (tmp_path / "dist" / f"{_HANDLE}.md").read_text()
    assert page.startswith(f"# ONNX {_HANDLE}\n")
    assert np.all([word in page for word in ("parent-model: google/imagenet/small/classification/5", "UNTRAINED")])
    assert "The names of the classes are in the model's metadata" in page
