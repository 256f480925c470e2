"""What a program does that `hubexport.system.child_process` starts: it limits itself, reads its task, and answers."""

from collections.abc import Callable, Mapping
import json
from pathlib import Path
import resource
import sys
from typing import Any


def answer_task(work: Callable[[dict[str, Any]], Any]) -> None:
    """Reads the task, does the work, and writes the answer, whole or not at all.

    Args:
        work: takes the task, and returns what `json.dumps` takes; NaN fails.
    """
    task_file, answer_file = map(Path, sys.argv[1:])
    answer = json.dumps(work(json.loads(task_file.read_text(encoding="utf-8"))), allow_nan=False)
    answer_file.write_text(answer, encoding="utf-8")


def limit_resources(limits: Mapping[int, int]) -> None:
    """Limits what this process may use from now on; nothing can raise these limits again.

    Args:
        limits: by kind, like `resource.RLIMIT_CPU`.
    """
    for kind, most in limits.items():
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
