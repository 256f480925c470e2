"""Imports run downward only, and TensorFlow is imported where it is needed alone."""

import ast
from pathlib import Path

import pytest

from tests.data import REPOSITORY

# From the ground up; a module may import from its own floor and from those below.
_FLOORS = [
    [
        "hubexport",
        "errors",
        "arrays",
        "beam",
        "extras",
        "labels",
        "processes",
        "progress",
        "protos",
        "regular_files",
        "yaml_lines",
    ],
    ["locks", "places"],
    ["output"],
    ["temporary"],
    ["networks", "images"],
    ["mappings"],
    ["variants", "config_files"],
    ["checkpoints"],
    ["formats", "reference", "manifest"],
    ["inspection"],
    ["build", "comparison", "conversion", "running", "consumers"],
    ["batch", "classification", "feature_extraction"],
    ["evaluation", "verify"],
    ["release"],
    ["site"],
    ["serve"],
    ["cli"],
    ["__main__"],
]
_FLOOR = {room: floor for floor, rooms in enumerate(_FLOORS) for room in rooms}
_NEEDS_TENSORFLOW = {
    "hubexport.reference.mobilenet_v2",
    "hubexport.reference.run",
    "hubexport.reference.slim",
    "hubexport.running.frozen_graph",
    "hubexport.running.image_module",
    "hubexport.running.tf1",
    "hubexport.running.tf1_training",
    "hubexport.running.tf2",
    "hubexport.running.tf2_training",
}
# The public names, which are imported when they are asked for.
_LAZY = {"hubexport"}


def _module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# What runs in other interpreters is data here.
_MODULES = {
    _module_name(path): path for path in (REPOSITORY / "hubexport").rglob("*.py") if path.parent.name != "programs"
}


def _imports(path: Path) -> set[str]:
    """All modules that a file imports, late or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
    return found


def _room(module: str) -> str:
    return (module.split(".") + ["hubexport"])[1]


@pytest.mark.parametrize("module", sorted(set(_MODULES) - _LAZY))
def test_imports_run_downward(module):
    """See the order above."""
    for imported in _imports(_MODULES[module]):
        if imported.partition(".")[0] == "hubexport":
            assert _FLOOR[_room(imported)] <= _FLOOR[_room(module)], f"{module} imports {imported}"


def test_only_the_rooms_that_need_tensorflow_import_it():
    """Late imports of those modules are another matter: test_cli sees to them."""
    importing = {
        module
        for module, path in _MODULES.items()
        if any(name.partition(".")[0] in ("tensorflow", "tf_slim", "tensorflow_hub") for name in _imports(path))
    }
    assert importing == _NEEDS_TENSORFLOW
