"""Many modules in one run: variants one after another, or spread over processes, and an outcome for each module.

What one module's failure stops is that module alone. All modules of a variant are built together, so that they share
its checkpoint; if that fails, each is tried by itself.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
import os
from pathlib import Path
import time

from hubexport.build import build_modules
from hubexport.checkpoints.download_cache import Downloads
from hubexport.checkpoints.weights_choice import Weights, check_weights
from hubexport.errors import DownloadError, HubexportError, check_positive
from hubexport.progress import Progress
from hubexport.system.process_pool import in_processes
from hubexport.variants import ModuleSpec, Variant, check_variant, module_specs

# In `--checkpoint`, the name of the variant that is built.
VARIANT_PLACEHOLDER = "{variant}"


@dataclasses.dataclass(frozen=True, init=False)
class BuildOrder:
    """Modules of one variant to build.

    Args:
        variant: the variant.
        modules: kinds and versions, as `ModuleSpec` or as text like `feature_vector/2`. Defaults to the modules in the
            variant's config.
    Raises:
        UsageError: a kind or version does not exist, or `variant` is only a name.
    Attributes:
        variant: the variant.
        modules: each module once, in the order given.
    """

    variant: Variant
    modules: tuple[ModuleSpec, ...]

    def __init__(self, variant: Variant, modules: Sequence[ModuleSpec | str] = ()) -> None:
        check_variant(variant)
        # The class is frozen: its own __setattr__ refuses.
        object.__setattr__(self, "variant", variant)
        object.__setattr__(self, "modules", module_specs(modules) or variant.modules)


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """How all of them shall be built; see `hubexport.build.build_modules`.

    Attributes:
        checkpoint: `{variant}` in it stands for the name of each variant.
    Raises:
        UsageError: `weights` is neither `averaged` nor `raw`.
    """

    checkpoint: str | Path | None = None
    weights: Weights = "averaged"
    output_dir: str | Path = "modules"
    overwrite: bool = False
    downloads: Downloads = Downloads()

    def __post_init__(self) -> None:
        check_weights(self.weights)


@dataclasses.dataclass(frozen=True)
class BuildOutcome:
    """What became of one module.

    Attributes:
        handle: which.
        result: its directory, or why there is none.
        seconds: its share of the time that its variant took.
    """

    handle: str
    result: Path | HubexportError
    seconds: float


def build_batch(
    orders: Sequence[BuildOrder], options: BuildOptions, *, jobs: int = 1, progress: Progress | None = None
) -> list[BuildOutcome]:
    """Builds all modules that can be built.

    Args:
        orders: what to build; each variant once.
        options: how.
        jobs: how many processes share the work; 1 is this process alone. With more, a script that calls this needs the
            usual `if __name__ == "__main__":`.
        progress: hears of each step, or with several processes of each variant that is done.
    Returns:
        One outcome a module, in the order asked for.
    Raises:
        UsageError: `jobs` is not a whole number, or less than 1.
    """
    check_positive(jobs=jobs)
    progress = progress or Progress()
    if jobs > 1 and len(orders) > 1:
        return _build_in_processes(orders, options, min(jobs, len(orders)), progress)
    return [outcome for order in orders for outcome in _build(order, progress, options)]


def _build(order: BuildOrder, progress: Progress, options: BuildOptions) -> list[BuildOutcome]:
    start = time.monotonic()
    results = _results(order, options, progress)
    seconds = (time.monotonic() - start) / len(results)
    return [_outcome(order, spec, result, seconds) for spec, result in results]


def _outcome(order: BuildOrder, spec: ModuleSpec, result: Path | HubexportError, seconds: float = 0.0) -> BuildOutcome:
    return BuildOutcome(order.variant.handle(spec), result, seconds)


def _results(
    order: BuildOrder, options: BuildOptions, progress: Progress
) -> list[tuple[ModuleSpec, Path | HubexportError]]:
    variant = order.variant
    there_before = _standing(order, options)
    checkpoint = options.checkpoint and str(options.checkpoint).replace(VARIANT_PLACEHOLDER, variant.name)
    try:
        paths = build_modules(
            variant,
            order.modules,
            checkpoint=checkpoint,
            weights=options.weights,
            output_dir=options.output_dir,
            overwrite=options.overwrite,
            downloads=options.downloads,
            progress=progress,
        )
    except HubexportError as error:
        # What cannot be fetched for one cannot be fetched for another.
        if len(order.modules) == 1 or isinstance(error, DownloadError):
            return [(spec, error) for spec in order.modules]
        # Those that had come to their places before it failed are as good as any.
        results = dict(_new(order, options, there_before))
        for spec in order.modules:
            if spec not in results:
                results |= _results(dataclasses.replace(order, modules=(spec,)), options, progress)
        return [(spec, results[spec]) for spec in order.modules]
    return list(zip(order.modules, paths, strict=True))


def _standing(order: BuildOrder, options: BuildOptions) -> dict[ModuleSpec, Path]:
    """Returns the modules that stand in their places, whoever built them."""
    directories = {spec: Path(options.output_dir) / order.variant.handle(spec) for spec in order.modules}
    return {spec: path for spec, path in directories.items() if os.path.lexists(path)}


def _new(
    order: BuildOrder, options: BuildOptions, there_before: dict[ModuleSpec, Path]
) -> dict[ModuleSpec, Path | HubexportError]:
    """Returns the modules that have come to their places since."""
    return {spec: path for spec, path in _standing(order, options).items() if spec not in there_before}


def _build_in_processes(
    orders: Sequence[BuildOrder], options: BuildOptions, jobs: int, progress: Progress
) -> list[BuildOutcome]:
    done: dict[str, list[BuildOutcome]] = {}
    progress.step(f"building {len(orders)} variants in {jobs} processes")
    for order, outcomes in _finished(orders, options, jobs, progress):
        done[order.variant.name] = outcomes
        progress.step(f"{len(done)} of {len(orders)} variants done: {order.variant.name}")
    return [outcome for order in orders for outcome in done[order.variant.name]]


def _finished(
    orders: Sequence[BuildOrder], options: BuildOptions, jobs: int, progress: Progress
) -> Iterator[tuple[BuildOrder, list[BuildOutcome]]]:
    """Yields each order with its outcomes, in the order in which they come."""
    there_before = {order.variant.name: _standing(order, options) for order in orders}
    lost = []
    for order, outcomes in _attempted(orders, options, jobs, progress):
        if outcomes is None:
            lost.append(order)
        else:
            yield order, outcomes
    for order in lost:
        yield order, _build_again(order, options, there_before[order.variant.name], progress)


def _attempted(
    orders: Sequence[BuildOrder], options: BuildOptions, jobs: int, progress: Progress
) -> Iterator[tuple[BuildOrder, list[BuildOutcome] | None]]:
    """Yields each order with its outcomes, or with None where they were lost with a process."""
    return in_processes(functools.partial(_build, options=options), orders, jobs, progress)


def _build_again(
    order: BuildOrder, options: BuildOptions, there_before: dict[ModuleSpec, Path], progress: Progress
) -> list[BuildOutcome]:
    """Builds, in a process of its own, what had not come to its place when the pool was lost."""
    built = _new(order, options, there_before)
    outcomes = {spec: _outcome(order, spec, result) for spec, result in built.items()}
    if missing := tuple(spec for spec in order.modules if spec not in built):
        rest = dataclasses.replace(order, modules=missing)
        [(_, again)] = _attempted([rest], options, 1, progress)
        killed = [_outcome(order, spec, _killed(order.variant)) for spec in missing]
        outcomes |= zip(missing, again or killed, strict=True)
    return [outcomes[spec] for spec in order.modules]


def _killed(variant: Variant) -> HubexportError:
    return HubexportError(
        f"cannot build {variant.name}",
        why="its process was killed, perhaps because memory ran out",
        fix="free memory, or use --jobs 1",
    )
