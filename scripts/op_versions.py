"""Writes `hubexport/modules/op_versions.json`, from the op definitions of each TensorFlow.

    python -m scripts.op_versions

It sets up missing environments of consumers. Each entry is the difference from the TensorFlow before it: new ops with
their attributes, old ops with their new attributes, and removed ops. Attributes are left out for TensorFlows that
ignore unknown ones.
"""

from collections.abc import Mapping
import json
from pathlib import Path
import tempfile
from typing import Any

from hubexport.consumers.environments import Environment, create
from hubexport.modules.op_versions import TABLE
from hubexport.progress import Progress
from tests.environments import CONSUMERS, run_consumer

# Has the same TensorFlow as another consumer.
LEFT_OUT = ("tf1.7-hub0.2",)

Ops = Mapping[str, list[str]]


def main() -> None:
    """Runs each TensorFlow, oldest first, and writes the differences."""
    entries: list[dict[str, Any]] = []
    before: Ops = {}
    for environment in CONSUMERS:
        if environment.name not in LEFT_OUT:
            facts = list_ops(environment)
            entries.append(difference(facts, before))
            before = facts["ops"]
            print(f"{facts['tensorflow']:8}{len(before)} ops", flush=True)
    TABLE.write_text(json.dumps({"tensorflows": entries}, indent=0) + "\n")
    print(f"wrote {TABLE}, {TABLE.stat().st_size:,} bytes")


def list_ops(environment: Environment) -> dict[str, Any]:
    """Runs `list_ops.py` in an environment."""
    with tempfile.TemporaryDirectory() as folder:
        return run_consumer(create(environment, Progress()), "list_ops.py", [], Path(folder))


def difference(facts: Mapping[str, Any], before: Ops) -> dict[str, Any]:
    """Returns the entry of a TensorFlow, given the ops of the one before it."""
    ops: Ops = facts["ops"]
    matter = not facts["ignores_unknown_attributes"]
    new = {name: sorted(set(ops[name]) - set(before.get(name, []))) if matter else [] for name in sorted(ops)}
    return {
        "version": ".".join(facts["tensorflow"].split(".")[:2]),
        "graph_def_version": facts["graph_def_version"],
        "ignores_unknown_attributes": facts["ignores_unknown_attributes"],
        "new": {name: " ".join(attributes) for name, attributes in new.items() if attributes or name not in before},
        "gone": sorted(set(before) - set(ops)),
    }


if __name__ == "__main__":
    main()
