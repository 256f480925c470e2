"""Imports run downward only, never in a circle, and TensorFlow is imported only where it is needed."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.data import REPOSITORY

# From the ground up. A module may import from its own room and from the rooms on lower floors.
_FLOORS = [
    ["arrays", "errors", "progress", "protos", "readable_numbers", "version"],
    ["beam", "extras", "plots", "system"],
    ["engines", "labels", "networks", "yaml_lines"],
    ["deployments"],
    ["layouts", "reference", "variants"],
    ["config_files", "config_writing", "deployment_spec", "network_figures"],
    ["checkpoints"],
    ["formats"],
    ["build", "comparison", "conversion", "modules", "selection"],
    ["batch", "checkpoint_variant", "consumers", "deployment_comparison", "description", "runtime"],
    ["images"],
    ["evaluation", "verify"],
    ["release"],
    ["site"],
    ["serve"],
    ["cli"],
    # The package itself is the front door: it imports public names from all rooms, and no room imports it.
    ["hubexport", "__main__"],
]
_FLOOR = {room: floor for floor, rooms in enumerate(_FLOORS) for room in rooms}
_NEEDS_TENSORFLOW = {
    *(f"hubexport.reference.{path.stem}" for path in (REPOSITORY / "hubexport" / "reference").glob("[a-z]*.py")),
    "hubexport.consumers.hub_apis",
    "hubexport.runtime.frozen_graph",
    "hubexport.runtime.graph_optimizer",
    "hubexport.runtime.image_module",
    "hubexport.runtime.serving",
    "hubexport.runtime.tf1_graph",
    "hubexport.runtime.tf1_training",
    "hubexport.runtime.tf2_training",
    "hubexport.runtime.tfjs_graph",
    "hubexport.runtime.tfjs_runner",
    "hubexport.runtime.tflite_quantization",
    "hubexport.runtime.tflite_runner",
}


def _module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# Programs that run in other interpreters are data here.
_MODULES = {
    _module_name(path): path for path in (REPOSITORY / "hubexport").rglob("*.py") if path.parent.name != "programs"
}


def _imports(path: Path) -> set[str]:
    """Returns all modules that a file imports, at once, late, or for its type hints alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in _MODULES else str(node.module) for name in names}
    return found


def _room(module: str) -> str:
    return (module.split(".") + ["hubexport"])[1]


def _circles(imports: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Yields a path from a module back to itself for each module that has one."""
    for start in sorted(imports):
        paths, seen = [[start]], set()
        while paths:
            path = paths.pop()
            for imported in sorted(imports.get(path[-1], set())):
                if imported == start:
                    yield [*path, start]
                    paths = []
                    break
                if imported not in seen:
                    seen.add(imported)
                    paths.append([*path, imported])


@pytest.mark.parametrize("module", sorted(_MODULES))
def test_imports_run_downward(module):
    """In the order above."""
    for imported in _imports(_MODULES[module]):
        if imported.partition(".")[0] == "hubexport":
            below = _FLOOR[_room(imported)] < _FLOOR[_room(module)]
            assert below or _room(imported) == _room(module), f"{module} imports {imported}"


def test_no_modules_import_each_other():
    """Neither directly nor through others, nor within a room."""
    imports = {module: _imports(path) & set(_MODULES) for module, path in _MODULES.items()}
    assert [" -> ".join(circle) for circle in _circles(imports)] == []


def test_a_circle_of_any_length_is_found():
    """Otherwise the test above would prove nothing."""
    assert list(_circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == [
        ["a", "b", "c", "a"],
        ["b", "c", "a", "b"],
        ["c", "a", "b", "c"],
    ]
    assert not list(_circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}))


def test_only_the_modules_that_need_tensorflow_import_it():
    """tests/test_cli.py checks late imports of these modules."""
    importing = {
        module
        for module, path in _MODULES.items()
        if any(name.partition(".")[0] in ("tensorflow", "tf_slim", "tensorflow_hub") for name in _imports(path))
    }
    assert importing == _NEEDS_TENSORFLOW
