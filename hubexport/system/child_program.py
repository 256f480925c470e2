"""For programs that `hubexport.system.child_process` starts: limits their resources, and answers their task."""

from collections.abc import Callable, Mapping
import json
from pathlib import Path
import resource
import sys
from typing import Any


def answer_task(work: Callable[[dict[str, Any]], Any]) -> None:
    """Reads the task, does the work, and writes the answer, whole or not at all.

    Args:
        work: takes the task, and returns a value for `json.dumps`, without NaN or infinite numbers.
    """
    task_file, answer_file = map(Path, sys.argv[1:])
    answer = json.dumps(work(json.loads(task_file.read_text(encoding="utf-8"))), allow_nan=False)
    answer_file.write_text(answer, encoding="utf-8")


def limit_resources(limits: Mapping[int, int]) -> None:
    """Limits what this process may use from now on. It cannot raise these limits again.

    Args:
        limits: the limit of each kind of resource, like `resource.RLIMIT_CPU`.
    """
    for kind, most in limits.items():
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
