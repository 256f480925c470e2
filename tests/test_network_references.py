"""Modules compute what TF-Slim's own networks computed: the outputs in `shared/data/networks/reference`, of made-up
weights, which nothing of hubexport had a part in. Its REFERENCE.md explains keys and tolerances.
"""

from collections.abc import Iterator
import dataclasses
import functools
import importlib.util
from pathlib import Path
import tempfile
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import hubexport
from hubexport import build_modules, list_variants, load_variant
from hubexport.arrays import Array
from hubexport.consumers.registry import CONSUMERS, PinnedConsumer, why_not_applicable
from hubexport.networks.numpy_forward import Forward
from hubexport.networks.ops import BatchNorm, Op, Scale
from hubexport.variants import Variant
from tests.data import DATA, REPOSITORY, needs_data
from tests.environments import python_or_skip, run_consumer

pytestmark = needs_data

_FACTS = DATA / "networks"
_PROGRAM = REPOSITORY / "tests" / "consumers" / "run_network.py"
_OTHER_SIZE = "256x192"
# How far REFERENCE.md lets endpoints be off, as a share of their standard deviation; and losses, of their value.
_ENDPOINT_TOLERANCE = 5e-4
_LOSS_TOLERANCE = 1e-5

# How far means and variances of a batch may be off, as a share of deviation and variance.
_STATISTICS_TOLERANCE = 1e-3
_FLOAT32_ROUNDING = 2e-7
_FLOAT64_TOLERANCE = 1e-11
_CALL = "call"
# Cheap ones; `make prove` tries the others in TensorFlow, and some of them, which take up to half a minute, in NumPy.
_CHEAPEST = ("mobilenet_v1_025_128", "inception_v1")
_DEAREST = ("inception_resnet_v2", "pnasnet_large", "nasnet_large", "resnet_v2_101", "resnet_v2_152", "vgg_16")


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """How far outputs may be off, by REFERENCE.md."""

    features: float
    logits: float
    training_features: float
    training_logits: float


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """An endpoint of a reference.

    Attributes:
        key: as modules call it.
        indices: flat positions of samples in the tensor of all photographs.
        values: the samples.
        mean: over the whole tensor.
        std: its standard deviation.
    """

    key: str
    indices: Array
    values: Array
    mean: float
    std: float


@dataclasses.dataclass(frozen=True)
class Case:
    """A variant with made-up weights, and what TF-Slim's own network computed with them.

    Attributes:
        variant: the variant.
        reference: the arrays of its reference file.
        tolerances: how far outputs may be off.
        values: the weights, by name.
        folder: for modules and temporary files.
    """

    variant: Variant
    reference: dict[str, Array]
    tolerances: Tolerances
    values: dict[str, Array]
    folder: Path

    def images(self, size: str | None = None, count: int | None = None) -> Array:
        """The photographs in [0, 1], float32 [count, height, width, 3]; 8 of the variant's own size by default."""
        with np.load(_FACTS / "images" / f"photos_{size or self.variant.image_size}.npz") as arrays:
            images = arrays["images"][:count] / np.float32(255)
        return images

    @functools.cached_property
    def checkpoint(self) -> Path:
        """The weights in the format of the published archive."""
        script = _script()
        facts, *_ = script.read_network(_FACTS / "networks" / f"{self.variant.name}.npz")
        checkpoint = self.folder / facts["member"]
        script.write_checkpoint(self.values, str(checkpoint), facts["format"])
        return checkpoint

    @functools.cached_property
    def endpoints(self) -> list[Endpoint]:
        """The reference's endpoints by the keys of modules: with TF-Slim's scope in front. No auxiliary head is one."""
        scope, slash, _ = next(iter(self.variant.network_for("classification").endpoints)).partition("/")
        root = scope + slash if slash else ""  # Some networks have no scope.
        keys = [key if key.startswith(root) else f"{root}{key}" for key in self.reference["endpoint_keys"].tolist()]
        columns = (self.reference[f"endpoint_{column}"] for column in ("indices", "values", "mean", "std"))
        endpoints = [Endpoint(*row) for row in zip(keys, *columns, strict=True)]
        return [endpoint for endpoint in endpoints if not endpoint.key.endswith("/AuxLogits")]

    def of_network(self, variables: Array) -> set[str]:
        """Those of the reference's variables that are not the auxiliary head's."""
        return {name for name in variables.tolist() if not self.variant.family.unused(name)}


def _names() -> list[str]:
    files = {path.stem for path in (_FACTS / "reference").glob("*.npz")}
    return [variant.name for variant in list_variants() if variant.name in files]


def _cases(unmarked: tuple[str, ...], mark: Any) -> Any:
    """Parametrizes a test of all variants, and marks all but some."""
    names = _names() or ["none"]  # Without the data, a test that is skipped.
    cases = [pytest.param(name, marks=[] if name in unmarked else mark) for name in names]
    return pytest.mark.parametrize("case", cases, indirect=True)


def _numpy_cases() -> list[Any]:
    """All variants in inference and in training, which takes four times as long; the quick ones are not marked."""
    cases = []
    for name in _names() or ["none"]:
        in_inference = [] if name in _CHEAPEST else pytest.mark.prove if name in _DEAREST else pytest.mark.slow
        in_training = [] if name == _CHEAPEST[0] else pytest.mark.slow if name in _CHEAPEST else pytest.mark.prove
        cases.append(pytest.param(name, False, id=f"{name}-inference", marks=in_inference))
        cases.append(pytest.param(name, True, id=f"{name}-training", marks=in_training))
    return cases


@functools.cache
def _script() -> ModuleType:
    """The script that writes the made-up checkpoints."""
    return _imported(_FACTS / "make_network_checkpoint.py")


def _imported(path: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _tolerances(name: str) -> Tolerances:
    lines = (_FACTS / "REFERENCE.md").read_text(encoding="utf-8").splitlines()
    [row] = (line for line in lines if line.startswith(f"| `{name}`"))
    cells = [cell.strip(" *") for cell in row.split("|")]
    # Of a network without batch norm there is nothing to compare in training, and nothing is within NaN.
    return Tolerances(*(float(cells[column].replace("–", "nan")) for column in (10, 11, 14, 15)))


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    """A variant with its made-up weights."""
    name = request.param
    script = _script()
    facts, shapes, moving = script.read_network(_FACTS / "networks" / f"{name}.npz")
    tensors = script.checkpoint_tensors(facts, shapes, moving, facts["seed"])
    with np.load(_FACTS / "reference" / f"{name}.npz") as arrays:
        reference = {key: arrays[key] for key in arrays.files}
    with tempfile.TemporaryDirectory() as folder:
        yield Case(load_variant(name), reference, _tolerances(name), tensors, Path(folder))


def _difference(found: Array, wanted: Array) -> float:
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max())


@pytest.mark.parametrize(("case", "training"), _numpy_cases(), indirect=["case"])
def test_numpy_computes_what_tf_slim_computed_in_float64(case: Case, training: bool) -> None:
    """Practically without rounding on either side, so that the smallest departure from TF-Slim would show."""
    reference, mode = case.reference, "train_" if training else ""
    if f"{mode}features_float64" not in reference:
        pytest.skip("without batch norm, it trains on what inference gives")
    wanted = {name: reference[f"{mode}{name}_float64"] for name in ("features", "logits")}
    # One photograph takes a second in a large network; in training, the statistics are those of all four.
    count = 1 if not training else len(wanted["logits"])
    network = case.variant.network_for("classification")
    # The reference's float64 begins after its input, and its constants are in float32.
    rounded = (_with_float32_constants(op) for op in network.ops)
    network = dataclasses.replace(network, ops=tuple(rounded))
    images = case.images(count=count)
    first = Forward(network, case.values, images, dtype=np.float32)
    next(first.steps())
    known = {name: value.astype(np.float64) for name, value in first.outputs.items()}
    forward = Forward(network, case.values, images, training=training, known=known)
    outputs = forward.run()
    assert network.logits is not None
    for name, op in (("features", network.features), ("logits", network.logits)):
        assert _difference(outputs[op], wanted[name][:count]) < _FLOAT64_TOLERANCE, name
    if training:
        for number, scope in enumerate(reference["bn_names"]):
            for statistic in ("mean", "variance"):
                found = forward.batch_statistics[f"{scope}/moving_{statistic}"]
                batch, variance = (reference[f"bn{number}_batch_{name}"] for name in (statistic, "variance"))
                _check_statistic(found, batch, variance, statistic)
        return
    sampled = 0
    for one in case.endpoints:
        flat = outputs[network.endpoints[one.key]].ravel()
        among = one.indices < len(flat)  # The others are of the other photographs.
        errors = np.abs(flat[one.indices[among]] - one.values[among])
        assert np.all(errors <= _ENDPOINT_TOLERANCE * one.std), one.key
        sampled += among.sum()
    assert sampled > 2 * len(case.endpoints)


@_cases((_CHEAPEST[0],), pytest.mark.prove)
def test_onnx_runtime_computes_what_tf_slim_computed(case: Case, tmp_path: Path) -> None:
    """Features and logits of all photographs, from the checkpoint in its published format."""
    onnxruntime = pytest.importorskip("onnxruntime")
    images = case.images()
    for kind, key, name, tolerance in (
        ("feature_vector", "feature_vector", "features", case.tolerances.features),
        ("classification", "logits", "logits", case.tolerances.logits),
    ):
        path = tmp_path / f"{kind}.onnx"
        hubexport.convert(case.checkpoint, path, "onnx", variant=case.variant, weights="raw", kind=kind)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found = [session.run([key], {"images": images[number : number + 4]})[0] for number in (0, 4)]
        assert _difference(np.concatenate(found), case.reference[name]) < tolerance, name


def _with_float32_constants(op: Op) -> Op:
    match op:
        case BatchNorm():
            return dataclasses.replace(op, epsilon=float(np.float32(op.epsilon)))
        case Scale():
            return dataclasses.replace(op, factor=float(np.float32(op.factor)))
    return op


def _check_statistic(found: Array, wanted: Array, variance: Array, statistic: str, share: float = 1.0) -> None:
    """Compares means or variances, of which a share comes from a batch of this variance."""
    scale = np.sqrt(variance) if statistic == "mean" else variance
    rounding = _FLOAT32_ROUNDING * np.abs(wanted)
    error = np.abs(found - wanted)
    assert np.all(error <= share * _STATISTICS_TOLERANCE * scale + rounding), (error / scale).max()


def _tasks(case: Case, is_tf1: bool) -> dict[str, dict[str, Any]]:
    """Builds modules of one format, of fixed and open size or of both kinds; returns what to compute with each."""
    own, other = {"images": case.images()}, {}
    indices = {f"indices:{one.key}": one.indices for one in case.endpoints}
    if f"features_{_OTHER_SIZE}" in case.reference:
        other = {"other_images": case.images(_OTHER_SIZE)}
    training = {"training_images": case.images(count=4)}
    slim = case.variant.family.momentum
    versions = [version for version in case.variant.family.versions if (version <= 3) == is_tf1]
    if not versions:
        return {}
    if not is_tf1:
        inputs = {
            f"feature_vector/{versions[0]}": ({**own, **other}, []),
            "classification/5": ({**own, **other, **training, **indices}, [0.0, slim]),
        }
    elif 1 in versions:
        inputs = {
            "classification/1": ({**own, **training, **indices}, [None]),
            "classification/3": ({"images": own["images"][:1], **other, **training}, [0.0]),
        }
    else:
        inputs = {"classification/3": ({**own, **other, **training, **indices}, [0.0, slim])}
    tasks = {}
    for module, (arrays, momenta) in inputs.items():
        options = {"weights": "raw", "output_dir": case.folder, "overwrite": True}
        [path] = build_modules(case.variant, [module], checkpoint=case.checkpoint, **options)
        scratch = case.folder / module.replace("/", "_")
        scratch.mkdir(exist_ok=True)
        np.savez(scratch / "inputs.npz", **arrays)
        tasks[module] = {
            "path": str(path),
            "is_tf1": is_tf1,
            "inputs": str(scratch / "inputs.npz"),
            "outputs": str(scratch / "outputs.npz"),
            "momenta": momenta,
        }
    return tasks


def _check(case: Case, tasks: dict[str, dict[str, Any]], facts: list[dict[str, Any]], *, trained: bool) -> None:
    """Compares what was computed with modules with the reference."""
    limits, reference = case.tolerances, case.reference
    for (module, task), seen in zip(tasks.items(), facts, strict=True):
        with np.load(task["outputs"]) as arrays:
            found = {key: arrays[key] for key in arrays.files}
        results = _results(module, found, seen)
        errors, worst = {}, 0.0
        for (name, mode), output in results.items():
            wanted = reference[f"{name}{mode}"][: len(output)]
            error, limit = _difference(output, wanted), getattr(limits, name)
            assert error <= limit, (module, name, mode, error)
            errors[f"{name}{mode}"] = f"{error:.1e} of {limit:.0e}"
        for one in case.endpoints:
            if f"endpoint:{one.key}" in found:
                limit = _ENDPOINT_TOLERANCE * one.std
                error = _difference(found[f"endpoint:{one.key}"], one.values)
                assert error <= limit, (module, one.key, error)
                worst = max(worst, error / one.std)
                assert abs(found[f"endpoint_mean:{one.key}"] - one.mean) <= limit, (module, one.key)
        if trained and task["momenta"]:
            _check_training(case, module, task, found, seen)
        errors["endpoints"] = f"{worst:.1e} of {_ENDPOINT_TOLERANCE:.0e} of their deviation"
        print(f"{case.variant.name}/{module}: errors {errors}")


def _results(module: str, found: dict[str, Array], seen: dict[str, Any]) -> dict[tuple[str, str], Array]:
    """Returns the features and logits, by their names in the reference."""
    kind = "features" if module.startswith("feature") else "logits"
    names = {_CALL: kind, "image_feature_vector": "features", "image_classification": "logits"}
    results = {}
    for signature, name in names.items():
        for prefix, mode in (("", ""), ("other:", f"_{_OTHER_SIZE}")):
            if f"{prefix}{signature}" in found:
                results[name, mode] = found[f"{prefix}{signature}"]
    assert len(results) in (1, 2, 4)
    return results


def _check_training(
    case: Case, module: str, task: dict[str, Any], found: dict[str, Array], seen: dict[str, Any]
) -> None:
    """Compares outputs, losses, and what an update makes of the statistics."""
    reference = case.reference
    network = case.variant.network_for("classification")
    [logits] = (value for key, value in found.items() if key.startswith("train:"))
    if network.dropout is None:  # Otherwise they are random; the reference was computed without dropout.
        assert _difference(logits, reference["train_logits"]) <= case.tolerances.training_logits
    losses = dict(zip((v.name for v in network.variables if v.weight_decay), found["losses"], strict=True))
    pairs = zip(reference["regularization_variables"].tolist(), reference["regularization_values"], strict=True)
    wanted_losses = {name: value for name, value in pairs if not case.variant.family.unused(name)}
    assert losses.keys() == wanted_losses.keys()
    for name, value in wanted_losses.items():
        np.testing.assert_allclose(losses[name], value, rtol=_LOSS_TOLERANCE, err_msg=name)
    np.testing.assert_allclose(sum(found["losses"]), sum(wanted_losses.values()), rtol=_LOSS_TOLERANCE)
    updated = case.of_network(reference["update_op_variables"])
    if task["is_tf1"]:
        assert seen["update_ops"] == len(updated)
    for momentum in task["momenta"]:
        after = {key.partition(":")[2]: value for key, value in found.items() if key.startswith(f"{momentum}:")}
        assert {name for name, value in after.items() if not np.array_equal(value, case.values[name])} == updated
        for number, scope in enumerate(reference["bn_names"]):
            if scope in network.random_ops:  # The reference was computed without dropped paths.
                continue
            for statistic in ("mean", "variance"):
                batch, variance = (reference[f"bn{number}_batch_{name}"] for name in (statistic, "variance"))
                wanted, share = batch, 1.0
                if momentum != 0.0:
                    wanted = reference[f"bn{number}_moving_{statistic}_after"]
                    share = 1 - case.variant.family.momentum
                _check_statistic(after[f"{scope}/moving_{statistic}"], wanted, variance, statistic, share)


@pytest.mark.slow
@_cases(_CHEAPEST[:1], pytest.mark.prove)
@pytest.mark.parametrize("is_tf1", [True, False], ids=["TF1", "TF2"])
def test_modules_compute_what_tf_slim_computed(case: Case, is_tf1: bool) -> None:
    """In the TensorFlow that runs the tests: with hub.Module and with hub.load."""
    tasks = _tasks(case, is_tf1)
    if not tasks:
        pytest.skip("the family has no module of this format")
    program = _imported(_PROGRAM)
    _check(case, tasks, [program.run(task) for task in tasks.values()], trained=True)


@pytest.mark.consumers
@pytest.mark.timeout(1800)
@_cases(_CHEAPEST[:1], pytest.mark.prove)
@pytest.mark.parametrize(
    "consumer", [one for one in CONSUMERS if one.name in ("tf1.15", "tf2.21")], ids=lambda one: one.name
)
def test_old_and_new_tensorflows_compute_what_tf_slim_computed(case: Case, consumer: PinnedConsumer) -> None:
    """The last TensorFlow 1 trains with hub.Module; the newest TensorFlow 2 loads both formats with hub.load."""
    python = python_or_skip(consumer.environment)
    formats = {True: ("TF1 Hub module", 1), False: ("TF2 SavedModel", 5)}
    applicable = [is_tf1 for is_tf1, kind in formats.items() if not why_not_applicable(consumer, *kind)]
    by_format = {is_tf1: tasks for is_tf1 in applicable if (tasks := _tasks(case, is_tf1))}
    if not by_format:
        pytest.skip("the family has no module that this TensorFlow loads")
    for is_tf1, tasks in by_format.items():
        answer = run_consumer(python, _PROGRAM, list(tasks.values()), case.folder)
        assert answer["tensorflow"] == consumer.tensorflow
        _check(case, tasks, answer["modules"], trained=consumer.has_hub_module or not is_tf1)
