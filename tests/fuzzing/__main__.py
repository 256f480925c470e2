"""Damages the inputs of every reader at random, and counts the outcomes.

python -m tests.fuzzing [--mutations 5000] [--seed 0] [--only INPUT…] [--findings FOLDER]

A damaged input is read, because the damage is harmless or undetectable, or refused with a HubexportError. Anything else
is a finding: another exception, a process that dies or takes more than a minute, a file that is left behind. The inputs
of all findings are kept, and the exit status is 1. The same seed does the same damage.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
import concurrent.futures
import os
from pathlib import Path
import shutil
import sys
import tempfile

from tests.fuzzing.inputs import INPUTS, make_all
from tests.fuzzing.trial import Trial, trials, write_damaged

_OUTCOMES = ("read", "refused", "finding")


def main() -> int:
    """Runs all trials, prints a table, and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mutations", type=int, default=5000, help="total number (default: 5000)")
    parser.add_argument("--seed", default="0", help="seed of the damage (default: 0)")
    parser.add_argument("--only", nargs="+", default=list(INPUTS), choices=list(INPUTS), help="inputs (default: all)")
    parser.add_argument("--findings", type=Path, default=Path("build/fuzzing"), help="where findings are kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"making {len(args.only)} inputs", flush=True)
        make_all(Path(folder), args.only)
        return _run(Path(folder), args.only, args.mutations, args.seed, args.findings)


def _run(folder: Path, names: Sequence[str], mutations: int, seed: str, findings: Path) -> int:
    each = -(-mutations // len(names))
    kinds: Counter[str] = Counter()
    total: list[Trial] = []
    print(f"{'input':22}{'tried':>7}" + "".join(f"{outcome:>10}" for outcome in _OUTCOMES) + f"{'slowest':>11}")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = {name: pool.submit(lambda one: list(trials(folder / one, one, seed, each)), name) for name in names}
        for name, result in results.items():
            tried = result.result()
            _print_row(name, tried)
            total += tried
            for trial in tried:
                if trial.outcome == "finding":
                    kinds[f"{name}: {trial.why}"] += 1
                    _keep(folder / name, name, seed, trial, findings)
    _print_row("all", total)
    for kind, count in kinds.most_common():
        print(f"{count:5}  {kind}")
    if kinds:
        print(f"the inputs are in {findings}")
    return 1 if kinds else 0


def _print_row(name: str, tried: Sequence[Trial]) -> None:
    counts = Counter(trial.outcome for trial in tried)
    figures = "".join(f"{counts[outcome]:>10}" for outcome in _OUTCOMES)
    print(f"{name:22}{len(tried):>7}{figures}{max(trial.seconds for trial in tried):>9.1f} s", flush=True)


def _keep(folder: Path, name: str, seed: str, trial: Trial, findings: Path) -> None:
    kept = findings / f"{name} {trial.number}".replace(" ", "_")
    shutil.rmtree(kept, ignore_errors=True)
    write_damaged(folder, name, seed, trial.number, kept)
    (kept / "why.txt").write_text(f"{name}, seed {seed}, number {trial.number}\n{trial.why}\n")


if __name__ == "__main__":
    sys.exit(main())
