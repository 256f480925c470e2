"""Descriptions of modules agree with TensorFlow's and tensorflow_hub's own loaders, NumPy and hashlib."""

from collections import Counter
import hashlib
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import nested_structure_coder

from hubexport import ModuleSpec, build_modules
from hubexport.checkpoints.leveldb_table import table_bytes
from hubexport.config_files import load_variant
from hubexport.errors import HubexportError, ModuleError
from hubexport.modules import module_report
from hubexport.modules.graph_version_report import dtype_name
from hubexport.modules.module_report import describe_module
from hubexport.protos import BundleEntryProto, BundleHeaderProto
from hubexport.variants import KINDS, TF1_VERSIONS, TF2_VERSIONS, VERSIONS
from tests.command import environment, hubexport
from tests.foreign import write_hub_module, write_keras_model, write_tf1_saved_model, write_tf2_saved_model
from tests.graphs import checkpoint_values, imported

_SPECS = [ModuleSpec(kind=kind, version=version) for kind in KINDS for version in VERSIONS]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """A module of each kind in each version."""
    variant = load_variant("mobilenet_v2_035_96")
    paths = build_modules(variant, _SPECS, checkpoint="synthetic:1", output_dir=tmp_path_factory.mktemp("modules"))
    return {str(spec): path for spec, path in zip(_SPECS, paths, strict=True)}


@pytest.fixture
def copied(built, tmp_path) -> Path:
    """A copy of a module, to be damaged."""
    return Path(shutil.copytree(built["feature_vector/2"], tmp_path / "copied"))


def _of_versions(versions: tuple[int, ...]) -> Any:
    return pytest.mark.parametrize("spec", [spec for spec in _SPECS if spec.version in versions], ids=str)


def _read(path: Path) -> Any:
    return saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())


def _plain(tensors: Any) -> dict[str, tuple[str, list[int | None] | None]]:
    return {
        tensor.name: (tensor.dtype, tensor.shape if tensor.shape is None else list(tensor.shape)) for tensor in tensors
    }


def _plain_specs(specs: Any) -> dict[str, tuple[str, list[int | None] | None]]:
    """Converts TensorFlow's or tensorflow_hub's specs to the same form: anything with dtype and shape, by name."""
    infos = {
        name: (spec.dtype, spec.get_shape() if hasattr(spec, "get_shape") else spec.shape)
        for name, spec in specs.items()
    }
    return {
        name: (dtype.name, shape.as_list() if shape.rank is not None else None)
        for name, (dtype, shape) in infos.items()
    }


@_of_versions(TF1_VERSIONS)
def test_signatures_are_those_that_tensorflow_hub_finds(built, spec):
    """In both graph versions: names, inputs, outputs, and endpoints, which are all outputs but the default."""
    hub = pytest.importorskip("tensorflow_hub")
    if not hasattr(hub, "load_module_spec"):
        pytest.skip("tensorflow-hub 0.15 is the last that reads TF1 Hub modules' specs")
    report = describe_module(built[str(spec)])
    assert report.format == "TF1 Hub module"
    loaded = hub.load_module_spec(str(built[str(spec)]))
    assert [set(graph.tags) for graph in report.graph_versions] == loaded.get_tags() == [set(), {"train"}]
    for graph in report.graph_versions:
        tags = set(graph.tags)
        assert [signature.name for signature in graph.signatures] == sorted(loaded.get_signature_names(tags))
        for signature in graph.signatures:
            assert _plain(signature.inputs) == _plain_specs(loaded.get_input_info_dict(signature.name, tags))
            outputs = _plain_specs(loaded.get_output_info_dict(signature.name, tags))
            assert _plain(signature.outputs) == outputs
            del outputs["default"]
            assert _plain(graph.endpoints) == outputs
        assert graph.call is None
        names = [tensor.name for tensor in graph.endpoints]
        assert names.index("MobilenetV2/layer_2") < names.index("MobilenetV2/layer_10/expansion_output")


@_of_versions(TF2_VERSIONS)
def test_signatures_and_call_are_those_that_tensorflow_loads(built, spec):
    """The endpoints are what `__call__` returns on request."""
    report = describe_module(built[str(spec)])
    assert report.format == "TF2 SavedModel"
    loaded = tf.saved_model.load(str(built[str(spec)]))
    [graph] = report.graph_versions
    assert graph.tags == ("serve",)
    assert {signature.name for signature in graph.signatures} == set(loaded.signatures)
    for signature in graph.signatures:
        function = loaded.signatures[signature.name]
        assert _plain(signature.inputs) == _plain_specs(function.structured_input_signature[1])
        assert _plain(signature.outputs) == _plain_specs(function.structured_outputs)
    assert graph.call.arguments == ("inputs", "training=False", "return_endpoints=False", "batch_norm_momentum=0.99")
    assert [tensor.name for tensor in graph.call.inputs] == ["inputs", "batch_norm_momentum"]
    results = loaded(tf.zeros([2, 96, 96, 3]), return_endpoints=True)
    default = results.pop("default")
    assert _plain(graph.call.outputs) == {"output": ("float32", [None, *default.shape[1:]])}
    assert _plain(graph.endpoints) == {name: ("float32", [None, *value.shape[1:]]) for name, value in results.items()}


@pytest.mark.parametrize("spec", _SPECS, ids=str)
@pytest.mark.slow
def test_parameters_are_counted(built, spec):
    """All stored values, and those that TensorFlow would train."""
    path = built[str(spec)]
    report = describe_module(path)
    if spec.version in TF2_VERSIONS:
        loaded = tf.saved_model.load(str(path))
        total = sum(variable.numpy().size for variable in loaded.variables)
        trainable = sum(variable.numpy().size for variable in loaded.trainable_variables)
    else:
        values = checkpoint_values(path)
        total = sum(value.size for value in values.values())
        with imported(_read(path).meta_graphs[0], values) as graph, graph.session.graph.as_default():
            variables = tf.compat.v1.trainable_variables()
            trainable = sum(np.prod(variable.shape.as_list()) for variable in variables)
    assert (report.parameters.total, report.parameters.trainable) == (total, trainable)
    # Those of Keras's MobileNetV2 with alpha=0.35 and include_top=False; the classifier has 1280 * 1001 + 1001 more.
    classifier = 1_282_281 if spec.kind == "classification" else 0
    assert (total - classifier, trainable - classifier) == (410_208, 396_128)


@pytest.mark.parametrize("spec", _SPECS, ids=str)
def test_sizes_ops_and_manifest_are_right(built, spec):
    """Compared with the file system, with TensorFlow's messages, and with the JSON file."""
    path = built[str(spec)]
    report = describe_module(path, shown_as=Path("shown"))
    assert report.path == "shown"
    graph = os.path.getsize(path / "saved_model.pb")
    weights = sum(os.path.getsize(path / "variables" / name) for name in os.listdir(path / "variables"))
    other = os.path.getsize(path / "hubexport.json") + 2 * (spec.version in TF1_VERSIONS)
    sizes = report.sizes
    labels = os.path.getsize(path / "assets" / "labels.txt") if spec.kind == "classification" else 0
    assert (sizes.graph_bytes, sizes.weights_bytes, sizes.assets_bytes, sizes.other_bytes) == (
        *(graph, weights, labels),
        other,
    )
    assert sizes.total_bytes == graph + weights + labels + other
    assert report.labels == (1001 if spec.kind == "classification" else None)

    counts = Counter()
    for meta_graph in _read(path).meta_graphs:
        counts.update(node.op for node in meta_graph.graph_def.node)
        counts.update(node.op for function in meta_graph.graph_def.library.function for node in function.node_def)
    assert report.op_counts == counts
    assert [*report.op_counts.values()] == sorted(counts.values(), reverse=True)

    written = json.loads((path / "hubexport.json").read_text())
    assert set(written) - {"sha256"} == set(report.as_json()["manifest"])
    wanted = {**written, "checkpoint": {"source": "synthetic:1", "sha256": None, "published": None, "scope": None}}
    assert {**written, **report.as_json()["manifest"]} == wanted
    assert (report.manifest.kind, report.manifest.version) == (spec.kind, spec.version)
    assert (report.digest_problems, report.problems, report.written_by) == ((), (), None)


def test_a_report_as_json_has_the_same_keys_for_every_module(built):
    """It contains nothing but JSON."""
    described = [describe_module(path).as_json() for path in built.values()]
    assert {tuple(report) for report in described} == {
        (
            *("path", "format", "written_by", "manifest", "graph_versions", "parameters", "labels", "sizes"),
            *("op_counts", "compatibility", "digest_problems", "problems"),
        )
    }
    first = json.loads(json.dumps(described[0]))
    assert first["sizes"].keys() == {"graph_bytes", "weights_bytes", "assets_bytes", "other_bytes", "total_bytes"}
    assert first["graph_versions"][0]["signatures"][0]["inputs"] == [
        {"name": "images", "dtype": "float32", "shape": [None, 96, 96, 3]}
    ]
    assert first["compatibility"]["oldest"] == first["graph_versions"][0]["oldest_tensorflow"] == "1.7"
    assert "sha256" not in first["manifest"]


def test_tensorflow_is_not_imported(built):
    """Importing it would take longer than the rest."""
    program = "import sys; from pathlib import Path; from hubexport.modules.module_report import describe_module\n"
    program += "describe_module(Path(sys.argv[1])); sys.exit('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", program, str(built["classification/5"])]
    assert subprocess.run(command, env=environment(), check=False).returncode == 0


def test_labels_are_assets(copied):
    """Files beside the known folders count as others."""
    (copied / "assets").mkdir()
    (copied / "assets" / "labels.txt").write_text("cat\ndog\n")
    (copied / "assets.extra").mkdir()
    (copied / "assets.extra" / "notes").write_text("12345")
    before = os.path.getsize(copied / "hubexport.json") + os.path.getsize(copied / "tfhub_module.pb")
    report = describe_module(copied)
    assert (report.sizes.assets_bytes, report.sizes.other_bytes, report.labels) == (8, before + 5, 2)


def test_labels_that_no_program_can_read_are_a_problem(copied):
    """`classify` would refuse the module."""
    (copied / "assets").mkdir()
    (copied / "assets" / "labels.txt").write_bytes(b"a\nb\xe4r\n")
    report = describe_module(copied)
    assert report.labels is None
    assert report.problems == ("assets/labels.txt: byte 3 is not UTF-8",)


@pytest.mark.parametrize("resources", [False, True], ids=["references", "resources"])
def test_a_hub_module_that_tensorflow_hub_wrote(tmp_path, resources):
    """It has two graph versions; the one for training needs an op more."""
    write_hub_module(tmp_path / "m", resource_variables=resources)
    report = describe_module(tmp_path / "m")
    assert (report.format, report.written_by) == ("TF1 Hub module", tf.__version__)
    assert (report.manifest, report.digest_problems, report.problems) == (None, None, ())
    inference, training = report.graph_versions
    assert (inference.tags, training.tags) == ((), ("train",))
    [signature] = inference.signatures
    assert _plain(signature.inputs) == {"images": ("float32", [None, 8, 8, 3])}
    assert _plain(signature.outputs) == {
        "block_1/output": ("float32", [None, 8, 8, 4]),
        "default": ("float32", [None, 4]),
    }
    assert [tensor.name for tensor in inference.endpoints] == ["block_1/output"]
    assert (report.parameters.total, report.parameters.trainable) == (112, 108)
    oldest = (inference.oldest_tensorflow, training.oldest_tensorflow, report.compatibility.oldest)
    assert oldest == (("2.10", "2.10", "2.10") if resources else ("1.7", "1.15", "1.15"))
    assert report.compatibility.oldest_hub == "0.1.0"


def test_a_saved_model_of_tensorflow_1(tmp_path):
    """It has several tags and graph versions. Its step and its optimizer's slots are not parameters."""
    write_tf1_saved_model(tmp_path / "m")
    report = describe_module(tmp_path / "m")
    assert report.format == "TF1 SavedModel"
    serving, training = report.graph_versions
    assert (serving.tags, training.tags) == (("serve", "gpu"), ("train",))
    assert [signature.name for signature in serving.signatures] == ["serving_default"]
    assert (serving.endpoints, training.signatures) == ((), ())
    assert len(checkpoint_values(tmp_path / "m")) == 6
    assert (report.parameters.total, report.parameters.trainable) == (6, 6)


def test_a_partitioned_variable_counts_as_a_whole(tmp_path):
    """It is stored as one variable, but its parts are the trainable variables."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable("w", [6, 2], partitioner=v1.fixed_size_partitioner(3), use_resource=False)
        v1.get_variable("v", [5], use_resource=False, trainable=False)
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(tmp_path / "m"))
        builder.add_meta_graph_and_variables(session, ["serve"])
        builder.save()
    parameters = describe_module(tmp_path / "m").parameters
    assert (parameters.total, parameters.trainable) == (17, 12)


def test_a_tf2_saved_model(tmp_path):
    """Its `__call__` returns endpoints. An integer variable is not a parameter."""
    write_tf2_saved_model(tmp_path / "m")
    report = describe_module(tmp_path / "m")
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    assert (report.format, report.written_by, report.manifest) == ("TF2 SavedModel", tf.__version__, None)
    [graph] = report.graph_versions
    [signature] = graph.signatures
    function = loaded.signatures["serving_default"]
    assert signature.name == "serving_default"
    assert _plain(signature.inputs) == _plain_specs(function.structured_input_signature[1])
    assert _plain(signature.outputs) == _plain_specs(function.structured_outputs)
    assert graph.call.arguments == ("images",)
    assert _plain(graph.call.inputs) == {"images": ("float32", [None, 8, 8, 3])}
    assert set(_plain(graph.call.outputs)) == {"default", "block_1/output", "block_10/output"}
    assert [tensor.name for tensor in graph.endpoints] == ["block_1/output", "block_10/output"]
    assert (report.parameters.total, report.parameters.trainable) == (112, 108)


def test_a_model_that_keras_saved(tmp_path):
    """Its optimizer and its metrics are not parameters."""
    model = write_keras_model(tmp_path / "m")
    report = describe_module(tmp_path / "m")
    assert len(checkpoint_values(tmp_path / "m")) > 20
    assert report.parameters.total == model.count_params()
    assert report.parameters.trainable == sum(int(tf.size(variable)) for variable in model.trainable_variables)
    [graph] = report.graph_versions
    assert [tensor.shape for tensor in graph.call.inputs] == [(None, 8, 8, 3)]
    assert [tensor.shape for tensor in graph.call.outputs] == [(None, 2)]
    assert graph.call.arguments[0] == "inputs"
    assert graph.endpoints == ()


def test_a_module_without_variables(tmp_path):
    """Its input has an unknown rank, and its `__call__` returns a list in a dictionary."""

    class Doubling(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec(None, tf.int64, name="numbers")])
        def __call__(self, numbers):
            return {"default": numbers * 2, "parts": [numbers, tf.as_string(numbers)]}

    tf.saved_model.save(Doubling(), str(tmp_path / "m"))
    report = describe_module(tmp_path / "m")
    [graph] = report.graph_versions
    assert _plain(graph.call.inputs) == {"numbers": ("int64", None)}
    assert _plain(graph.endpoints) == {"parts/0": ("int64", None), "parts/1": ("string", None)}
    assert (report.parameters.total, report.parameters.trainable, report.problems) == (0, 0, ())


def test_a_method_is_shown_without_self(tmp_path):
    """TensorFlow up to about 2.10 stores `self` with the arguments. A default that is not a Python value is `...`."""
    saved_model = saved_model_pb2.SavedModel()
    objects = saved_model.meta_graphs.add().object_graph_def
    objects.nodes.add().children.add(local_name="__call__", node_id=1)
    function = objects.nodes.add().function
    function.concrete_functions.append("f")
    objects.concrete_functions["f"].output_signature.tensor_spec_value.dtype = 1
    inputs = objects.concrete_functions["f"].canonicalized_input_signature.tuple_value.values
    inputs.add().tuple_value.values.add().tensor_spec_value.name = "named"
    inputs[0].tuple_value.values.add().tensor_spec_value.dtype = 1
    fields = {"args": ["self", "images", "mode", "mask", "size", "dtype"], "defaults": ["fast", None, -3, tf.int8]}
    for key, values in fields.items():
        pair = function.function_spec.fullargspec.named_tuple_value.values.add(key=key)
        kind = pair.value.list_value if key == "args" else pair.value.tuple_value
        kind.values.extend(nested_structure_coder.encode_structure(value) for value in values)
    function.function_spec.is_method = True
    (tmp_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    [graph] = describe_module(tmp_path).graph_versions
    assert [tensor.name for tensor in graph.call.inputs] == ["named", "0/1"]
    assert graph.call.arguments == ("images", "mode='fast'", "mask=None", "size=-3", "dtype=...")


@pytest.mark.parametrize("node_id", [-1, 0, 2, 3, 99])
def test_a_call_that_leads_nowhere_is_ignored(tmp_path, node_id):
    """It leads beyond the objects, to an object that is not a function, or to a function that is missing."""
    saved_model = saved_model_pb2.SavedModel()
    objects = saved_model.meta_graphs.add().object_graph_def
    objects.nodes.add().children.add(local_name="__call__", node_id=node_id)
    objects.nodes.add().function.concrete_functions.append("f")
    objects.nodes.add().function.concrete_functions.append("g")
    objects.concrete_functions["f"].output_signature.tensor_spec_value.dtype = 1
    (tmp_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    [graph] = describe_module(tmp_path).graph_versions
    assert (graph.call, graph.endpoints) == (None, ())


def test_a_table_is_not_a_variable(tmp_path):
    """Its values are stored beside those of variables."""

    class Lookup(tf.Module):
        def __init__(self):
            super().__init__()
            self.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.float32, 0.0)
            self.table.insert(["a", "b"], [1.0, 2.0])
            self.scale = tf.Variable(3.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, words):
            return self.table.lookup(words) * self.scale

    tf.saved_model.save(Lookup(), str(tmp_path / "m"))
    assert sorted(checkpoint_values(tmp_path / "m")["table/.ATTRIBUTES/table-values"]) == [1, 2]
    parameters = describe_module(tmp_path / "m").parameters
    assert (parameters.total, parameters.trainable) == (1, 1)


def test_dtypes_have_tensorflows_names():
    """All dtypes of the installed TensorFlow, reference dtypes included."""
    numbers = [number for number in types_pb2.DataType.values() if number]
    assert len(numbers) > 40
    for number in numbers:
        assert dtype_name(number) == tf.dtypes.as_dtype(number).base_dtype.name


def test_changed_missing_and_added_files_are_found(copied):
    """Compared with digests of hashlib. Hidden files count, too."""
    manifest = json.loads((copied / "hubexport.json").read_text())
    data = copied / "variables" / "variables.data-00000-of-00001"
    assert manifest["sha256"][str(data.relative_to(copied))] == hashlib.sha256(data.read_bytes()).hexdigest()
    content = bytearray(data.read_bytes())
    content[1000] ^= 1
    data.write_bytes(content)
    (copied / "tfhub_module.pb").unlink()
    (copied / ".hidden\n").write_text("x")
    report = describe_module(copied)
    assert report.digest_problems == (
        r".hidden\n is not listed in hubexport.json",
        "tfhub_module.pb is missing",
        "variables/variables.data-00000-of-00001 has changed",
    )
    assert report.format == "TF1 Hub module"
    assert report.problems == ("tfhub_module.pb is missing, and hub.Module does not load modules without it",)
    assert report.manifest.handle == "google/imagenet/mobilenet_v2_035_96/feature_vector/2"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"sha256": None}, "sha256: Input should be a valid dictionary", id="no digests"),
        pytest.param({"sha256": {"x": 3}}, "sha256.x: Input should be a valid string", id="digest"),
        pytest.param({"version": "2"}, "version: Input should be a valid integer", id="version"),
        pytest.param({"handle": "\x1b[31m"}, "handle: Value error, control characters are", id="escape"),
        pytest.param({"handle": "\ud800"}, "handle: ", id="surrogate"),
        pytest.param({"num_features": 10**400}, "num_features: Input should be less than", id="number"),
        pytest.param({"checkpoint": []}, "checkpoint: Input should be", id="checkpoint"),
    ],
)
def test_a_manifest_with_wrong_values_is_a_problem(copied, changes, problem):
    """The rest of the report is complete."""
    manifest = json.loads((copied / "hubexport.json").read_text())
    (copied / "hubexport.json").write_text(json.dumps({**manifest, **changes}))
    report = describe_module(copied)
    assert report.manifest is None
    assert len(report.digest_problems) == 1
    assert report.digest_problems[0].startswith(f"hubexport.json: {problem}")
    assert report.parameters.total == 410_208


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"", "is not valid JSON", id="empty"),
        pytest.param(b"\xff\xfe{}", "is not valid JSON", id="no text"),
        pytest.param(b"[" * 100_000, "is not valid JSON", id="deep"),
        pytest.param(b'{"version": ' + b"9" * 5000 + b"}", "is not valid JSON", id="long number"),
        pytest.param(b"[]", ": Input should be a valid dictionary", id="list"),
        pytest.param(b" " * (1 << 20) + b"{}", " is not a file, or is larger than 1 MiB", id="huge"),
    ],
)
def test_a_manifest_that_is_not_json_or_too_large_is_a_problem(copied, content, problem):
    """It is named without an exception."""
    (copied / "hubexport.json").write_bytes(content)
    [found] = describe_module(copied).digest_problems
    assert found.startswith("hubexport.json")
    assert problem in found


def test_a_manifest_cannot_make_us_read_other_files(copied, tmp_path):
    """Only files in the directory are opened. Opening a pipe would wait forever."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    os.mkfifo(tmp_path / "pipe")
    digest = hashlib.sha256(b"x").hexdigest()
    names = ["../secret", str(secret), "../pipe", "variables/../../secret", "a\x00b"]
    manifest = json.loads((copied / "hubexport.json").read_text())
    manifest["sha256"] |= {name: digest for name in names}
    (copied / "hubexport.json").write_text(json.dumps(manifest))
    shown = [name.replace("\x00", r"\x00") for name in sorted(names)]
    assert describe_module(copied).digest_problems == tuple(f"{name} is missing" for name in shown)
    (copied / "hubexport.json").unlink()
    os.mkfifo(copied / "hubexport.json")
    assert "is not a file" in describe_module(copied).digest_problems[0]


def _truncate(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


@pytest.mark.parametrize(
    ("damage", "what", "why"),
    [
        pytest.param(shutil.rmtree, "no module in", "no file saved_model.pb", id="no directory"),
        pytest.param(lambda path: (path / "saved_model.pb").unlink(), "no module in", "no file", id="no graph"),
        pytest.param(
            lambda path: (path / "saved_model.pb").rename(path / "saved_model.pbtxt"),
            *("cannot read module", "the text form"),
            id="text",
        ),
        pytest.param(
            lambda path: _truncate(path / "saved_model.pb", 100_000), "cannot read", "cannot be decoded", id="truncated"
        ),
        pytest.param(lambda path: _truncate(path / "saved_model.pb", 0), "cannot read", "no graph", id="empty"),
        pytest.param(
            lambda path: (path / "saved_model.pb").write_bytes(b"\x12\x00"), "cannot read", "no graph", id="empty graph"
        ),
        pytest.param(
            lambda path: (path / "saved_model.pb").write_bytes(bytes(range(256)) * 100),
            *("cannot read", "cannot be decoded"),
            id="junk",
        ),
        pytest.param(
            lambda path: os.truncate(path / "saved_model.pb", 1 << 40), "cannot read", "larger than", id="huge"
        ),
        pytest.param(
            lambda path: (path / "saved_model.pb").write_bytes(b"\x12\x00" * 101),
            "cannot read",
            "100 graphs",
            id="many",
        ),
    ],
)
def test_an_unreadable_module_is_a_clean_error(copied, damage, what, why):
    """The error calls the module what the user called it."""
    damage(copied)
    with pytest.raises(ModuleError, match=f"^{what} .*shown") as caught:
        describe_module(copied, shown_as=Path("shown"))
    assert why in caught.value.why


def test_more_nodes_than_any_network_has_are_refused(copied, monkeypatch):
    """Describing them would take minutes."""
    monkeypatch.setattr(module_report, "_MAX_NODES", 900)
    with pytest.raises(ModuleError) as caught:
        describe_module(copied)
    assert "more than 100 graphs or 900 nodes" in caught.value.why


def test_a_file_that_cannot_be_read_is_a_clean_error(copied, monkeypatch):
    """The error is simulated: root may read everything."""

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ModuleError) as caught:
        describe_module(copied)
    assert caught.value.why == f"Permission denied: {copied / 'saved_model.pb'}"


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        pytest.param(lambda path: shutil.rmtree(path / "variables"), "variables.index is missing", id="none"),
        pytest.param(
            lambda path: _truncate(path / "variables" / "variables.index", 5000), "does not end like", id="index"
        ),
        pytest.param(lambda path: (path / "tfhub_module.pb").write_bytes(b"\x08\x02"), "say format 3", id="mark"),
    ],
)
def test_other_damage_is_a_problem(copied, damage, problem):
    """The rest of the report is complete."""
    damage(copied)
    report = describe_module(copied)
    [found] = report.problems
    assert problem in found
    assert (report.parameters is None) == ("variables" in found)
    assert report.compatibility.oldest == "1.7"
    assert report.digest_problems != ()


def test_values_that_are_cut_off_are_a_problem(copied):
    """The index still tells their number."""
    data = copied / "variables" / "variables.data-00000-of-00001"
    _truncate(data, 1000)
    report = describe_module(copied)
    assert report.problems == ("variables/: the values need 1640832 bytes, but their files have only 1000",)
    assert report.parameters.total == 410_208


@pytest.mark.parametrize("shape", [[-1, 4], [1 << 40, 1 << 40], [1 << 62] * 100_000], ids=["negative", "huge", "deep"])
def test_impossible_shapes_in_the_index_are_a_problem(copied, shape):
    """No time is spent on multiplying their dimensions."""
    entry = BundleEntryProto(dtype=1, shape={"dim": [{"size": length} for length in shape]}).SerializeToString()
    header = BundleHeaderProto(num_shards=1).SerializeToString()
    index = copied / "variables" / "variables.index"
    index.write_bytes(_table([(b"", header), (b"x", entry)]))
    report = describe_module(copied)
    assert report.parameters is None
    assert report.problems == ("variables/: variables.index: it has an impossible shape",)


def _table(entries: list[tuple[bytes, bytes]]) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hubexport.checkpoints.leveldb_table._MAX_BLOCK_BYTES", 1 << 30)
        return table_bytes(entries)


def test_names_cannot_give_orders_to_a_terminal(tmp_path):
    """Names of tags, signatures, tensors, ops and attributes are escaped."""
    saved_model = saved_model_pb2.SavedModel()
    meta_graph = saved_model.meta_graphs.add()
    evil = "\x1b[2J"
    meta_graph.meta_info_def.tags.append(evil)
    meta_graph.meta_info_def.tensorflow_version = evil
    meta_graph.graph_def.node.add(name="x", op="NoOp").attr[evil].b = True
    meta_graph.graph_def.node.add(name="y", op=evil)
    meta_graph.signature_def[evil].inputs[evil].dtype = 1
    meta_graph.signature_def[evil].outputs["default"].dtype = 1
    (tmp_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    report = describe_module(tmp_path)
    assert report.op_counts == {"NoOp": 1, r"\x1b[2J": 1}
    assert report.compatibility.custom_ops == (r"\x1b[2J",)
    assert "\\u001b" not in json.dumps(report.as_json())


def test_long_names_of_parts_do_not_multiply(tmp_path):
    """A key of a megabyte above a thousand results would take a gigabyte."""
    saved_model = saved_model_pb2.SavedModel()
    objects = saved_model.meta_graphs.add().object_graph_def
    objects.nodes.add().children.add(local_name="__call__", node_id=1)
    objects.nodes.add().function.concrete_functions.extend(["f"] * 1000)
    results = objects.concrete_functions["f"].output_signature.dict_value.fields["k" * 1_000_000]
    for _ in range(1000):
        results.list_value.values.add().tensor_spec_value.dtype = 1
    (tmp_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    assert sum(len(tensor.name) for tensor in describe_module(tmp_path).graph_versions[0].endpoints) <= 1_000_000


def _mutated(data: st.DataObject, content: bytes) -> bytes:
    changed = bytearray(content)
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=8)
    ):
        changed[position] = value
    return bytes(changed[: data.draw(st.integers(0, len(content))) if data.draw(st.booleans()) else None])


@pytest.fixture(scope="module")
def targets(tmp_path_factory) -> list[Path]:
    """A small module of each format, with a correct manifest, to be mutated."""
    folder = tmp_path_factory.mktemp("targets")
    write_tf1_saved_model(folder / "tf1")
    write_tf2_saved_model(folder / "tf2")
    write_hub_module(folder / "hub", resource_variables=True)
    paths = [folder / "tf1", folder / "tf2", folder / "hub"]
    for path in paths:
        digests = {
            str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in path.rglob("*")
            if file.is_file()
        }
        (path / "hubexport.json").write_text(json.dumps({"handle": "h", "version": 1, "sha256": digests}))
        assert describe_module(path).digest_problems == ()
    return paths


@settings(deadline=None, max_examples=500)
@given(data=st.data())
@pytest.mark.fuzz
def test_random_damage_gives_a_report_or_a_clean_error(targets, data):
    """The graph, the manifest or the index is damaged; JSON and terminals can show the report."""
    path = data.draw(st.sampled_from(targets))
    name = data.draw(st.sampled_from(["saved_model.pb", "hubexport.json", "variables/variables.index"]))
    content = (path / name).read_bytes()
    (path / name).write_bytes(_mutated(data, content))
    try:
        report = describe_module(path)
        assert name != "saved_model.pb" or report.digest_problems or (path / name).read_bytes() == content
        json.dumps(report.as_json(), ensure_ascii=False).encode()
        done = hubexport("inspect", path)
        done.stdout.encode()
        assert (done.returncode, done.stderr) == (int(report.has_problems), "")
    except HubexportError as error:
        assert name == "saved_model.pb"
        str(error).encode()
    finally:
        (path / name).write_bytes(content)


@settings(deadline=None, max_examples=300)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_graph_or_a_clean_error(tmp_path_factory, content):
    """Protocol buffers accept much that is not a message."""
    folder = tmp_path_factory.mktemp("any")
    (folder / "saved_model.pb").write_bytes(content)
    try:
        json.dumps(describe_module(folder).as_json())
    except ModuleError:
        pass
