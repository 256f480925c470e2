"""The oldest TensorFlow that can load a module: the table agrees with the TensorFlows themselves."""

from pathlib import Path
import shutil
from typing import Any

import pytest
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from hubexport import ModuleSpec, build_modules
from hubexport.modules.op_versions import known_tensorflows, oldest_tensorflow
from hubexport.protos import SavedModel
from hubexport.variants import KINDS, TF1_VERSIONS, VERSIONS
from tests.environments import CONSUMERS, cases, python_or_skip, run_consumer
from tests.foreign import write_hub_module, write_keras_model, write_tf1_saved_model, write_tf2_saved_model

_VERSIONS = ("1.7", "1.13", "1.15", "2.4", "2.10", "2.15", "2.21")
_SPECS = [ModuleSpec(kind=kind, version=version) for kind in KINDS for version in VERSIONS]


def _read(path: Path) -> Any:
    return saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())


def _oldest(saved_model: Any, *, is_hub_module: bool = True) -> Any:
    return oldest_tensorflow(
        SavedModel.FromString(saved_model.SerializeToString()).meta_graphs, is_hub_module=is_hub_module
    )


def _graph(*ops: str) -> Any:
    """Returns a TF1 SavedModel with a node of each of these ops."""
    saved_model = saved_model_pb2.SavedModel()
    meta_graph = saved_model.meta_graphs.add()
    for number, op in enumerate(ops):
        meta_graph.graph_def.node.add(name=f"node_{number}", op=op)
    return saved_model


def _function(saved_model: Any, op: str) -> Any:
    """Adds a function with one node, and returns the node."""
    function = saved_model.meta_graphs[0].graph_def.library.function.add()
    function.signature.name = "function"
    return function.node_def.add(name="node", op=op)


def _list_op(saved_model: Any, name: str, attribute: str) -> Any:
    """Adds an op to the writer's list of ops, and returns the definition of its attribute."""
    op = saved_model.meta_graphs[0].meta_info_def.stripped_op_list.op.add(name=name)
    return op.attr.add(name=attribute)


def test_the_table_is_in_order():
    """The releases are sorted, and a few ops and attributes of known history are right."""
    known = known_tensorflows()
    assert tuple(one.version for one in known) == _VERSIONS
    assert [one.graph_def_version for one in known] == sorted(one.graph_def_version for one in known)
    assert [one.ignores_unknown_attributes for one in known] == [False] * 4 + [True] * 3
    for op, since in [("Conv2D", "1.7"), ("AddV2", "1.7"), ("SelectV2", "1.15"), ("DisableCopyOnRead", "2.10")]:
        assert [one.version for one in known if op in one.ops][0] == since
    assert "explicit_paddings" not in known[1].ops["Conv2D"]
    assert known[2].ops["Conv2D"] - known[1].ops["Conv2D"] == {"explicit_paddings"}
    assert "CompareAndBitpack" in known[3].ops
    assert "CompareAndBitpack" not in known[4].ops


@pytest.mark.parametrize("spec", _SPECS, ids=str)
def test_our_modules_load_in_all_promised_tensorflows(small, tmp_path, spec):
    """TF1 Hub modules from 1.7 on, version 3 with tensorflow-hub 0.2.0; TF2 SavedModels from 2.4 on."""
    [path] = build_modules(small, [spec], checkpoint="synthetic:1", output_dir=tmp_path)
    is_tf1 = spec.version in TF1_VERSIONS
    found = _oldest(_read(path), is_hub_module=is_tf1)
    assert (found.oldest, found.next_older, found.obstacles) == ("1.7" if is_tf1 else "2.4", None, ())
    assert found.custom_ops == ()
    assert found.tried == _VERSIONS if is_tf1 else _VERSIONS[3:]
    assert found.oldest_hub == {1: "0.1.0", 2: "0.1.0", 3: "0.2.0"}.get(spec.version)


@pytest.mark.parametrize(
    ("ops", "oldest", "obstacles"),
    [
        pytest.param(["Add", "Relu"], "1.7", [], id="old ops"),
        pytest.param(["Add", "StatefulPartitionedCall"], "1.13", ["op StatefulPartitionedCall"], id="1.13"),
        pytest.param(["SelectV2", "StatelessWhile"], "1.15", ["op SelectV2"], id="1.15"),
        pytest.param(["DisableCopyOnRead"], "2.10", ["op DisableCopyOnRead"], id="2.10"),
        pytest.param(["Add", "MyOp"], None, ["op MyOp"], id="custom"),
        pytest.param(["CompareAndBitpack", "DisableCopyOnRead"], None, ["op CompareAndBitpack"], id="dropped"),
    ],
)
def test_ops_that_old_tensorflows_do_not_know(ops, oldest, obstacles):
    """In a graph and in a function alike. The obstacles are those of the next older TensorFlow."""
    in_function = _graph()
    for op in ops:
        _function(in_function, op)
    for saved_model in (_graph(*ops), in_function):
        found = _oldest(saved_model)
        assert (found.oldest, list(found.obstacles)) == (oldest, obstacles)
        assert found.custom_ops == (("MyOp",) if "MyOp" in ops else ())
        assert found.next_older == (_VERSIONS[_VERSIONS.index(oldest or "2.21") - bool(oldest)] if obstacles else None)


def test_a_functions_name_is_not_an_op():
    """Nodes of a TF1 graph name the function that they call as their op."""
    saved_model = _graph("function")
    _function(saved_model, "function")
    assert _oldest(saved_model).custom_ops == ()


def test_unknown_attributes_are_refused_before_2_10():
    """In graphs and functions, unless the name begins with `_`."""
    saved_model = _graph("VarHandleOp")
    attributes = saved_model.meta_graphs[0].graph_def.node[0].attr
    attributes["_class"].s = attributes["shared_name"].s = b"x"
    assert _oldest(saved_model).oldest == "1.7"
    attributes["debug_name"].s = b"x"
    found = _oldest(saved_model)
    assert (found.oldest, found.next_older) == ("2.10", "2.4")
    assert found.obstacles == ("attribute debug_name of VarHandleOp",)
    saved_model = _graph()
    _function(saved_model, "Conv2D").attr["explicit_paddings"].list.i.append(1)
    assert _oldest(saved_model).obstacles == ("attribute explicit_paddings of Conv2D",)
    assert _oldest(saved_model).oldest == "1.15"


def test_attributes_at_a_default_that_the_writer_lists_do_not_count():
    """They do in functions, with another value, and without the writer's list."""
    saved_model = _graph("Conv2D")
    value = saved_model.meta_graphs[0].graph_def.node[0].attr["explicit_paddings"]
    value.list.SetInParent()
    assert _oldest(saved_model).oldest == "1.15"
    attribute = _list_op(saved_model, "Conv2D", "explicit_paddings")
    assert _oldest(saved_model).oldest == "1.15"
    value.Clear()
    assert _oldest(saved_model).oldest == "1.15", "no value is not the default, where there is none"
    value.list.SetInParent()
    attribute.default_value.list.SetInParent()
    assert _oldest(saved_model).oldest == "1.7"
    attribute.default_value.list.i.append(1)
    assert _oldest(saved_model).oldest == "1.15"
    attribute.default_value.list.ClearField("i")
    _function(saved_model, "Conv2D").attr["explicit_paddings"].list.SetInParent()
    assert _oldest(saved_model).oldest == "1.15"


def test_ops_that_are_only_listed_count_for_hub_module():
    """Where there is no `hub.load` yet. Other SavedModels are not judged by their writer's list."""
    saved_model = _graph("Add")
    _list_op(saved_model, "SelectV2", "T")
    assert _oldest(saved_model).oldest == "1.15"
    assert _oldest(saved_model).obstacles == ("op SelectV2",)
    assert _oldest(saved_model, is_hub_module=False).oldest == "1.7"


@pytest.mark.parametrize(
    ("min_consumer", "oldest"), [(0, "1.7"), (26, "1.7"), (27, "1.13"), (1000, "2.10"), (9999, None)]
)
def test_the_oldest_consumer_that_a_graph_admits_counts(min_consumer, oldest):
    """It may stand in any MetaGraph."""
    saved_model = _graph("Add")
    saved_model.meta_graphs.add().graph_def.versions.min_consumer = min_consumer
    found = _oldest(saved_model)
    assert found.oldest == oldest
    assert found.obstacles == (() if oldest == "1.7" else (f"GraphDef version {min_consumer}",))


def test_what_hub_load_does_not_read_does_not_count():
    """In a TF2 SavedModel: the nodes for sessions, and `min_consumer`."""
    saved_model = _graph("MyOp")
    saved_model.meta_graphs[0].graph_def.versions.min_consumer = 9999
    saved_model.meta_graphs[0].object_graph_def.nodes.add()
    found = _oldest(saved_model, is_hub_module=False)
    assert (found.oldest, found.custom_ops, found.oldest_hub) == ("2.4", (), None)
    _function(saved_model, "MyOp")
    assert _oldest(saved_model, is_hub_module=False).oldest is None


def _convolution(graph_version: Any) -> Any:
    [node] = [node for node in graph_version.graph_def.node if node.op == "Conv2D"]
    return node


def _name_a_default(graph_version: Any) -> None:
    _convolution(graph_version).attr["explicit_paddings"].list.SetInParent()


def _name_an_unlisted_default(graph_version: Any) -> None:
    _name_a_default(graph_version)
    graph_version.meta_info_def.ClearField("stripped_op_list")


def _name_a_default_in_a_function(graph_version: Any) -> None:
    """Replaces the convolution by a call of a function that contains it."""
    _name_a_default(graph_version)
    node = _convolution(graph_version)
    function = graph_version.graph_def.library.function.add()
    function.signature.name = "function"
    for name in ("images", "weights"):
        function.signature.input_arg.add(name=name, type=1)
    function.signature.output_arg.add(name="result", type=1)
    function.ret["result"] = "convolution:output:0"
    inner = function.node_def.add(name="convolution", op="Conv2D", input=["images", "weights"])
    for name in ("T", "strides", "padding", "explicit_paddings"):
        inner.attr[name].CopyFrom(node.attr[name])
    node.op = "function"
    node.ClearField("attr")


def _name_an_attribute_of_the_future(graph_version: Any) -> None:
    _convolution(graph_version).attr["never_heard_of"].b = True


def _list_an_op_that_no_node_has(graph_version: Any) -> None:
    graph_version.meta_info_def.stripped_op_list.op.add(name="NeverHeardOf")


def _ask_for_a_newer_consumer(graph_version: Any) -> None:
    graph_version.graph_def.versions.min_consumer = 27


def _spoil_what_only_sessions_read(graph_version: Any) -> None:
    graph_version.graph_def.versions.min_consumer = graph_version.graph_def.versions.producer = 9999
    graph_version.graph_def.node.add(name="new", op="NeverHeardOf")


_CONV2D = ("attribute explicit_paddings of Conv2D",)
_DEBUG_NAME = ("attribute debug_name of VarHandleOp",)
_COPY = ("op DisableCopyOnRead",)
# Module, what is done to the graph version with these tags (None: the only one), the oldest TensorFlow for that, and
# what an older one does not know. The TensorFlow of these tests, 2.15, writes the modules.
_PARTS = {
    "hub": ("hub-reference", None, [], "1.7", ()),
    "hub-train": ("hub-reference", None, ["train"], "1.15", ("op SelectV2",)),
    "resources": ("hub-resource", None, [], "2.10", _DEBUG_NAME),
    "resources-train": ("hub-resource", None, ["train"], "2.10", _DEBUG_NAME),
    "default": ("hub-reference", _name_a_default, [], "1.7", ()),
    "unlisted-default": ("hub-reference", _name_an_unlisted_default, [], "1.15", _CONV2D),
    "default-in-function": ("hub-reference", _name_a_default_in_a_function, [], "1.15", _CONV2D),
    "future": ("hub-reference", _name_an_attribute_of_the_future, [], "2.10", ("attribute never_heard_of of Conv2D",)),
    "listed": ("hub-reference", _list_an_op_that_no_node_has, [], "1.15", ("op NeverHeardOf",)),
    "consumer": ("hub-reference", _ask_for_a_newer_consumer, [], "1.13", ("GraphDef version 27",)),
    "tf2": ("tf2", None, None, "2.10", _COPY),
    "tf2-session": ("tf2", _spoil_what_only_sessions_read, None, "2.10", _COPY),
    "keras": ("keras", None, None, "2.10", ("attribute validate_shape of AssignVariableOp", *_COPY)),
}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> dict[str, Path]:
    """Modules that TensorFlow wrote, and edited copies of them."""
    folder = tmp_path_factory.mktemp("foreign")
    write_hub_module(folder / "hub-reference", resource_variables=False)
    write_hub_module(folder / "hub-resource", resource_variables=True)
    write_tf2_saved_model(folder / "tf2")
    write_keras_model(folder / "keras")
    for name, (written, change, *_) in _PARTS.items():
        shutil.copytree(folder / written, folder / "parts" / name)
        if change:
            saved_model = _read(folder / written)
            change(saved_model.meta_graphs[0])
            (folder / "parts" / name / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    return {name: folder / "parts" / name for name in _PARTS}


def _part(saved_model: Any, tags: list[str] | None) -> Any:
    """Returns a SavedModel with only the graph version of these tags; None means the only one."""
    [part] = [one for one in saved_model.meta_graphs if tags in (None, list(one.meta_info_def.tags))]
    return saved_model_pb2.SavedModel(meta_graphs=[part])


@pytest.mark.parametrize("name", _PARTS)
def test_modules_that_tensorflow_wrote_have_the_listed_obstacles(foreign, name):
    """Such modules do not load in all the TensorFlows that ours load in."""
    *_, tags, oldest, obstacles = _PARTS[name]
    found = _oldest(_part(_read(foreign[name]), tags), is_hub_module=tags is not None)
    assert (found.oldest, found.obstacles) == (oldest, obstacles)


def test_a_tf1_saved_model_that_is_not_a_hub_module(tmp_path):
    """It is loaded in a session, without tensorflow_hub. Its global step is a resource variable."""
    write_tf1_saved_model(tmp_path / "m")
    found = _oldest(_read(tmp_path / "m"), is_hub_module=False)
    assert (found.oldest, found.oldest_hub, found.tried) == ("2.10", None, _VERSIONS)
    # Those of MatMul came after TensorFlow 2.15.
    attributes = {attribute.name for attribute in op_def_registry.get("MatMul").attr}
    newer = [f"attribute {name} of MatMul" for name in ("grad_a", "grad_b") if name in attributes]
    assert found.obstacles == (*newer, "attribute debug_name of VarHandleOp")


@pytest.fixture(scope="module", params=cases(CONSUMERS))
def consumer(request) -> Any:
    """The Python of an environment, and the table's entry for its TensorFlow."""
    version = request.param.name.removeprefix("tf").partition("-")[0]
    [tensorflow] = [one for one in known_tensorflows() if one.version == version]
    return python_or_skip(request.param), tensorflow


@pytest.mark.consumers
@pytest.mark.timeout(1800)
def test_the_table_says_what_the_tensorflows_say(consumer, tmp_path):
    """Each op, each attribute where they matter, and the versions."""
    python, tensorflow = consumer
    seen = run_consumer(python, "list_ops.py", [], tmp_path)
    assert seen["tensorflow"].startswith(f"{tensorflow.version}.")
    assert seen["graph_def_version"] == tensorflow.graph_def_version
    assert seen["ignores_unknown_attributes"] == tensorflow.ignores_unknown_attributes
    assert sorted(seen["ops"]) == sorted(tensorflow.ops)
    if not tensorflow.ignores_unknown_attributes:
        assert {op: set(attributes) for op, attributes in seen["ops"].items()} == tensorflow.ops


@pytest.mark.consumers
@pytest.mark.timeout(1800)
def test_modules_load_from_the_version_on_that_the_table_names(consumer, foreign, tmp_path):
    """The next older TensorFlow fails for the reason that is given."""
    python, tensorflow = consumer
    age = _VERSIONS.index(tensorflow.version)
    names = [name for name, (*_, tags, _, _) in _PARTS.items() if tags is not None or age >= _VERSIONS.index("2.4")]
    tasks = [{"path": str(foreign[name]), "tags": _PARTS[name][2]} for name in names]
    seen = run_consumer(python, "load_modules.py", tasks, tmp_path)
    for name, facts in zip(names, seen["modules"], strict=True):
        *_, oldest, obstacles = _PARTS[name]
        if age >= _VERSIONS.index(oldest):
            assert facts["error"] is None, name
        else:
            assert facts["error"], f"{name} loads"
        if age == _VERSIONS.index(oldest) - 1:
            words = [obstacle.split(" ")[-3 if "attribute" in obstacle else -1] for obstacle in obstacles]
            assert any(word in facts["error"] for word in words), f"{name}: {facts['error']}"
