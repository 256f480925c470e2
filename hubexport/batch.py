"""Builds modules of many variants in one run, one after another or in several processes.

The failure of one module stops no other. All modules of a variant are built together, so that its checkpoint is read
once; if that fails, each is built by itself.
"""

from collections.abc import Collection, Iterator, Sequence
import dataclasses
import functools
import os
from pathlib import Path
import time

from hubexport.build import BuildOptions, BuildOrder, build_order, check_modules_fit, module_directories, needed_bytes
from hubexport.checkpoints.checkpoint_choice import checkpoint_for
from hubexport.errors import CheckpointError, DownloadError, HubexportError, check_positive
from hubexport.progress import Progress
from hubexport.system.process_pool import in_processes
from hubexport.variants import ModuleSpec


@dataclasses.dataclass(frozen=True)
class BuildOutcome:
    """The result for one module.

    Attributes:
        handle: the module's handle.
        result: its directory, or the error that kept it from being built.
        seconds: how long it took to write the module, without the checkpoint, which is read once for all modules of a
            variant; or how long it took to fail. 0 if that is not known, as after a process was killed.
    """

    handle: str
    result: Path | HubexportError
    seconds: float


def build_batch(
    orders: Sequence[BuildOrder], options: BuildOptions, *, jobs: int = 1, progress: Progress | None = None
) -> list[BuildOutcome]:
    """Builds all modules that can be built.

    Args:
        orders: what to build, at most one order per variant.
        options: how to build it.
        jobs: the number of processes; 1 means this process alone. With more, a script that calls this needs the usual
            `if __name__ == "__main__":`.
        progress: is told of each step, or with several processes of each finished variant.
    Returns:
        One outcome per module, in the order of `orders`.
    Raises:
        UsageError: `jobs` is not a whole number, or less than 1.
        OutputError: the disk has no room for all modules together; none is built.
    """
    check_positive(jobs=jobs)
    if len(orders) > 1:  # Each order is checked by itself anyway.
        _check_free_space(orders, options)
    progress = progress or Progress()
    jobs = min(jobs, len(orders))
    if jobs <= 1:
        return [outcome for order in orders for outcome in _build(order, progress, options)]
    progress.step(f"building {len(orders)} variants in {jobs} processes")
    finished: dict[str, list[BuildOutcome]] = {}
    for order, outcomes in _build_in_processes(orders, options, jobs, progress):
        finished[order.variant.name] = outcomes
        progress.step(f"{len(finished)} of {len(orders)} variants done: {order.variant.name}")
    return [outcome for order in orders for outcome in finished[order.variant.name]]


def _check_free_space(orders: Sequence[BuildOrder], options: BuildOptions) -> None:
    """Checks the room for all modules together. Those that exist are left out: they are kept, or make room."""
    needed = 0
    for order in orders:
        existing = _published(order, options)
        if missing := tuple(spec for spec in order.modules if spec not in existing):
            needed += needed_bytes(dataclasses.replace(order, modules=missing))
    check_modules_fit(options, needed)


def _build(order: BuildOrder, progress: Progress, options: BuildOptions) -> list[BuildOutcome]:
    try:
        checkpoint = checkpoint_for(order.variant, options.checkpoint)
    except CheckpointError as error:
        return [BuildOutcome(order.variant.handle(spec), error, 0.0) for spec in order.modules]
    return _outcomes(order, dataclasses.replace(options, checkpoint=checkpoint), progress)


def _outcomes(order: BuildOrder, options: BuildOptions, progress: Progress) -> list[BuildOutcome]:
    handle, existing, started = order.variant.handle, _published(order, options), time.monotonic()
    try:
        built = build_order(order, options, progress)
        return [BuildOutcome(handle(one.spec), one.directory, one.seconds) for one in built]
    except HubexportError as error:
        # What cannot be downloaded for one module cannot be downloaded for another.
        if len(order.modules) == 1 or isinstance(error, DownloadError):
            seconds = time.monotonic() - started
            return [BuildOutcome(handle(spec), error, seconds) for spec in order.modules]
    outcomes: list[BuildOutcome] = []
    # Modules that were in their places before the failure are complete.
    published = _published(order, options, but=existing)
    for spec in order.modules:
        if spec in published:
            outcomes.append(BuildOutcome(handle(spec), published[spec], 0.0))
        else:
            outcomes += _outcomes(dataclasses.replace(order, modules=(spec,)), options, progress)
    return outcomes


def _published(order: BuildOrder, options: BuildOptions, but: Collection[ModuleSpec] = ()) -> dict[ModuleSpec, Path]:
    """Returns the directories that exist of an order's modules, except those in `but`."""
    directories = module_directories(order, options)
    return {spec: path for spec, path in directories.items() if os.path.lexists(path) and spec not in but}


def _build_in_processes(
    orders: Sequence[BuildOrder], options: BuildOptions, jobs: int, progress: Progress
) -> Iterator[tuple[BuildOrder, list[BuildOutcome]]]:
    """Yields each order with its outcomes as soon as it is finished."""
    existing = {order.variant.name: _published(order, options) for order in orders}
    build = functools.partial(_build, options=options)
    lost = []
    for order, outcomes in in_processes(build, orders, jobs, progress):
        if outcomes is None:
            lost.append(order)
        else:
            yield order, outcomes
    # A process that is killed takes the outcomes of others with it. Modules that are not in place are built again, each
    # variant in a process of its own.
    for order in lost:
        published = _published(order, options, but=existing[order.variant.name])
        results = {spec: BuildOutcome(order.variant.handle(spec), path, 0.0) for spec, path in published.items()}
        if missing := tuple(spec for spec in order.modules if spec not in published):
            rest = dataclasses.replace(order, modules=missing)
            [(_, outcomes)] = in_processes(build, [rest], 1, progress)
            results |= zip(missing, outcomes or _killed(rest), strict=True)
        yield order, [results[spec] for spec in order.modules]


def _killed(order: BuildOrder) -> list[BuildOutcome]:
    error = HubexportError(
        f"cannot build {order.variant.name}",
        why="its process was killed, perhaps because memory ran out",
        fix="free memory, or use --jobs 1",
    )
    return [BuildOutcome(order.variant.handle(spec), error, 0.0) for spec in order.modules]
