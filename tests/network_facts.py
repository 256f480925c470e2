"""What `shared/data/networks` has of TF-Slim's networks: made-up values, and what TF-Slim computed with them."""

import functools
import importlib.util
import re

import numpy as np

from tests.data import DATA

FACTS = DATA / "networks"
NAMES = sorted(path.stem for path in (FACTS / "reference").glob("*.npz"))


@functools.cache
def _checkpoints():
    specification = importlib.util.spec_from_file_location("made_up", FACTS / "make_network_checkpoint.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def values(name, averages="none"):
    """Returns the value of each variable of a checkpoint, by name; averaged twins may be the `same` or `differ`."""
    facts, shapes, moving = _checkpoints().read_network(FACTS / "networks" / f"{name}.npz")
    return _checkpoints().checkpoint_tensors(facts, shapes, moving, facts["seed"], averages)


def listed(name):
    """Returns the arrays of a file in `reference/`, whose keys REFERENCE.md explains."""
    with np.load(FACTS / "reference" / f"{name}.npz") as arrays:
        return dict(arrays)


def has_another_size(name):
    """Tells whether a file in `reference/` has outputs for 256 x 192 pixels."""
    with np.load(FACTS / "reference" / f"{name}.npz") as arrays:
        return "features_256x192" in arrays.files


def photographs(size, count):
    """Returns the first photographs, float64 [count, size, size, 3] in [0, 1]; a size may be `256x192`."""
    with np.load(FACTS / "images" / f"photos_{size}.npz") as arrays:
        return arrays["images"][:count] / np.float64(255)


def tolerances(name, *, training=False):
    """Returns what REFERENCE.md allows for features and logits in float32. In float64 half of it is allowed."""
    text = (FACTS / "REFERENCE.md").read_text(encoding="utf-8")
    [row] = re.findall(rf"^\| `{name}` \|(.*) \|$", text, re.MULTILINE)
    cells = row.replace("*", "").split(" | ")
    return [float(cell) for cell in (cells[-3:-1] if training else cells[-7:-5])]
