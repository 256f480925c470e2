"""The ops, devices and versions that `structure.graphs` refuses, in graphs of any writer."""

import pytest

from hubexport.build import build_modules
from hubexport.formats.nodes import _OUTPUT_NAMES
from hubexport.modules.op_versions import known_tensorflows
from hubexport.protos import MetaGraphDef, SavedModel
from hubexport.variants import ModuleSpec
from hubexport.verify.graph_problems import _COMPUTING, graph_problems

_OLDEST = {release.version: release for release in known_tensorflows()}["2.4"]


def _problems(meta_graph):
    return [*graph_problems(meta_graph, _OLDEST)]


@pytest.fixture
def saved():
    """A graph as TensorFlow saves it: its saver saves by a function, on a CPU; `y` is what programs run."""
    meta_graph = MetaGraphDef()
    graph = meta_graph.graph_def
    graph.node.add(name="x", op="Placeholder")
    graph.node.add(name="y", op="Relu", input=["x"])
    graph.node.add(name="save", op="StatefulPartitionedCall", input=["x"]).attr["f"].func.name = "save"
    function = graph.library.function.add()
    function.signature.name = "save"
    function.node_def.add(name="write", op="SaveV2", device="/device:CPU:0")
    meta_graph.saver_def.save_tensor_name = "save:0"
    meta_graph.signature_def["serving_default"].outputs["y"].name = "y:0"
    return meta_graph


def test_a_saver_may_write_files(saved):
    """But nothing else may, not even by calling the saver."""
    assert _problems(saved) == []
    nodes = saved.graph_def.node
    nodes[1].input.append("^save")
    assert _problems(saved) == [
        "save: write is SaveV2, which is not known to do nothing but compute",
        "save: write is pinned to /device:CPU:0",
    ]
    del nodes[1].input[1]
    saved.object_graph_def.concrete_functions["save"].SetInParent()
    assert len(_problems(saved)) == 2


@pytest.mark.parametrize("op", ["WriteFile", "ReadFile", "PyFunc", "EagerPyFunc", "Print", "PrintV2", "Assert", "MyOp"])
def test_ops_that_do_more_than_compute_are_refused(saved, op):
    """Wherever they are, even where no program is known to run them."""
    saved.graph_def.node.add(name="it", op=op)
    function = saved.graph_def.library.function.add()
    function.signature.name = "unused"
    function.node_def.add(name="it", op=op)
    problem = f"it is {op}, which is not known to do nothing but compute"
    assert _problems(saved) == [problem, f"unused: {problem}"]


def test_devices_and_versions_are_refused_if_they_shut_anybody_out(saved):
    """Versions before the oldest TensorFlow that should load it may be shut out."""
    saved.graph_def.versions.min_consumer = _OLDEST.graph_def_version
    saved.graph_def.versions.bad_consumers.append(_OLDEST.graph_def_version - 1)
    assert _problems(saved) == []
    saved.graph_def.versions.min_consumer += 1
    saved.graph_def.versions.bad_consumers.append(2000)
    saved.graph_def.node[1].device = "/device:GPU:7"
    assert _problems(saved) == [
        "y is pinned to /device:GPU:7",
        f"min_consumer {_OLDEST.graph_def_version + 1} shuts TensorFlow 2.4 out",
        "bad_consumers shuts the TensorFlow of GraphDef version 2000 out",
    ]


def test_all_ops_that_hubexport_writes_only_compute(small, tmp_path):
    """Those of the saver aside, which only version 4 and later have."""
    assert _COMPUTING >= _OUTPUT_NAMES.keys()
    specs = [ModuleSpec.parse(text) for text in ("classification/3", "classification/5")]
    for path in build_modules(small, specs, checkpoint="synthetic:1", output_dir=tmp_path):
        for meta_graph in SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs:
            assert [*graph_problems(meta_graph, known_tensorflows()[0])] == []
