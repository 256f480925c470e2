"""Writes `hubexport/modules/op_versions.json` from the TensorFlows themselves.

    python -m scripts.op_versions

It sets up the environments of the consumer tests where they are not there yet. A TensorFlow is written as what it has
beyond the one before: new ops with their attributes, old ops with those attributes that are new, and ops that are gone.
The attributes are left out where unknown ones do no harm.
"""

from collections.abc import Mapping
import json
from pathlib import Path
import tempfile
from typing import Any

from hubexport.consumers.environments import Environment
from hubexport.modules.op_versions import TABLE
from tests.environments import CONSUMERS, python_of, run_consumer

# Environments that differ from others in more than their TensorFlow's version.
LEFT_OUT = ("tf1.7-hub0.2",)

Ops = Mapping[str, list[str]]


def main() -> None:
    """Asks each TensorFlow, oldest first, and writes the differences."""
    entries: list[dict[str, Any]] = []
    before: Ops = {}
    for environment in CONSUMERS:
        if environment.name not in LEFT_OUT:
            seen = look_into(environment)
            entries.append(entry(seen, before))
            before = seen["ops"]
            print(f"{seen['tensorflow']:8}{len(before)} ops", flush=True)
    TABLE.write_text(json.dumps({"tensorflows": entries}, indent=0) + "\n")
    print(f"wrote {TABLE}, {TABLE.stat().st_size:,} bytes")


def look_into(environment: Environment) -> dict[str, Any]:
    """Returns what `list_ops.py` sees in an environment."""
    with tempfile.TemporaryDirectory() as folder:
        return run_consumer(python_of(environment), "list_ops.py", [], Path(folder))


def entry(seen: Mapping[str, Any], before: Ops) -> dict[str, Any]:
    """Returns what the table says of one TensorFlow, given the ops of the one before it."""
    ops: Ops = seen["ops"]
    matter = not seen["ignores_unknown_attributes"]
    beyond = {name: sorted(set(ops[name]) - set(before.get(name, []))) if matter else [] for name in sorted(ops)}
    return {
        "version": ".".join(seen["tensorflow"].split(".")[:2]),
        "graph_def_version": seen["graph_def_version"],
        "ignores_unknown_attributes": seen["ignores_unknown_attributes"],
        "new": {name: " ".join(new) for name, new in beyond.items() if new or name not in before},
        "gone": sorted(set(before) - set(ops)),
    }


if __name__ == "__main__":
    main()
