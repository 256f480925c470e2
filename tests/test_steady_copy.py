"""Copies of modules without chance, and functions that compute the same."""

import pytest

from hubexport.build import build_modules
from hubexport.modules.call_functions import computes_default_twice
from hubexport.protos import SavedModel
from hubexport.runtime.steady_copy import steady_copy
from hubexport.variants import ModuleSpec


def _saved_model(directory):
    return SavedModel.FromString((directory / "saved_model.pb").read_bytes())


def _nodes(saved_model):
    """Returns all nodes by graph version, function and name."""
    return {
        (number, scope, node.name): node
        for number, meta_graph in enumerate(saved_model.meta_graphs)
        for scope, nodes in [
            ("", meta_graph.graph_def.node),
            *((function.signature.name, function.node_def) for function in meta_graph.graph_def.library.function),
        ]
        for node in nodes
    }


def _built(small, tmp_path, spec):
    [path] = build_modules(small, [ModuleSpec.parse(spec)], checkpoint="synthetic:1", output_dir=tmp_path / "built")
    return path


@pytest.mark.parametrize("spec", ["classification/3", "classification/5"])
def test_a_steady_copy_differs_only_where_chance_was(small, tmp_path, spec):
    """Its values are those of the module, and the module stays as it is."""
    path = _built(small, tmp_path, spec)
    original, bytes_before = _saved_model(path), (path / "saved_model.pb").read_bytes()
    (tmp_path / "scratch").mkdir()
    copy = steady_copy(path, original, tmp_path / "scratch")
    assert copy == tmp_path / "scratch" and original.SerializeToString(deterministic=True) == bytes_before
    assert (copy / "variables" / "variables.index").read_bytes() == (path / "variables/variables.index").read_bytes()
    before, after = _nodes(original), _nodes(_saved_model(copy))
    changed = [key for key in after if before.get(key) != after[key]]
    assert {(before[key].op if key in before else None, after[key].op) for key in changed} == {
        ("RandomUniform", "Fill"),
        (None, "Const"),
    }


@pytest.mark.parametrize("spec", ["feature_vector/3", "feature_vector/5"])
def test_a_module_without_chance_needs_no_copy(small, tmp_path, spec):
    """A feature vector has no dropout."""
    path = _built(small, tmp_path, spec)
    (tmp_path / "scratch").mkdir()
    assert steady_copy(path, _saved_model(path), tmp_path / "scratch") == path
    assert not [*(tmp_path / "scratch").iterdir()]


def _edit_node(meta_graph, function):
    function.node_def[-1].input[0] = "inputs"


def _edit_result(meta_graph, function):
    function.ret["default"] = "inputs"


def _edit_effect(meta_graph, function):
    function.control_ret["more"] = "more"


def _edit_binding(meta_graph, function):
    bound = meta_graph.object_graph_def.concrete_functions[function.signature.name].bound_inputs
    bound[0], bound[1] = bound[1], bound[0]


def _edit_call(meta_graph, function):
    for child in meta_graph.object_graph_def.nodes[0].children:
        child.local_name = child.local_name.replace("__call__", "call")


@pytest.mark.parametrize("edit", [_edit_node, _edit_result, _edit_effect, _edit_binding, _edit_call])
def test_functions_are_tried_once_only_if_all_of_them_is_equal(small, tmp_path, edit):
    """The nodes, the default result, what has to run, and the variables."""
    [meta_graph] = _saved_model(_built(small, tmp_path, "classification/5")).meta_graphs
    assert computes_default_twice(meta_graph, True) and computes_default_twice(meta_graph, False)
    functions = {function.signature.name: function for function in meta_graph.graph_def.library.function}
    edit(meta_graph, functions["call_training_with_endpoints"])
    assert not computes_default_twice(meta_graph, True)
    assert computes_default_twice(meta_graph, False) == (edit is not _edit_call)
