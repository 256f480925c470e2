"""Selects the variants and modules that a command works on.

A pattern skips variants without a checkpoint, and modules that a variant does not have. For a variant that is named,
both are errors.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
import dataclasses
from pathlib import Path

from hubexport.config_files import select_variants
from hubexport.errors import UsageError
from hubexport.variants import KINDS, ModuleSpec, Variant, module_spec

# Messages list this many names at most.
_MOST_NAMES = 4


@dataclasses.dataclass(frozen=True)
class Selection:
    """Variants with their modules, and what patterns left out.

    Attributes:
        modules: the selected variants, each once, with the selected modules.
        skipped: a line for users about each kind of variants or modules that patterns matched, but that are not there.
    """

    modules: tuple[tuple[Variant, tuple[ModuleSpec, ...]], ...]
    skipped: tuple[str, ...]


def select_modules(
    patterns: Sequence[str],
    requests: Sequence[str] = (),
    config_dir: str | Path | None = None,
    *,
    published_only: bool = True,
) -> Selection:
    """Selects variants and modules.

    Args:
        patterns: names of variants, patterns of names like `mobilenet_v2_*_96`, or `all`.
        requests: modules as `KIND/VERSION`, or as `KIND` for its versions in the configs. An empty list means all
            modules in the configs.
        config_dir: a folder of YAML files in addition to the built-in ones.
        published_only: skip variants without a published checkpoint, unless they are named.
    Raises:
        ConfigError: a pattern matches no name, or a matching file is not a valid config.
        UsageError: there is no such kind or version, a named variant does not have a module, or nothing is left of
            what a pattern matches.
    """
    for request in requests:
        if request not in KINDS:
            module_spec(request)
    selected: dict[str, tuple[Variant, tuple[ModuleSpec, ...]]] = {}
    unpublished: set[str] = set()
    lacking: dict[str, dict[str, UsageError]] = {request: {} for request in requests}
    matches = {pattern: select_variants([pattern], config_dir) for pattern in patterns}
    for pattern, variants in matches.items():
        for variant in variants:
            if variant.name in patterns:
                selected[variant.name] = variant, variant.select_modules(requests)
            elif published_only and variant.checkpoint is None:
                unpublished.add(variant.name)
            else:
                missing = {request: error for request in requests if (error := _problem(variant, request))}
                for request, error in missing.items():
                    lacking[request][variant.name] = error
                if not requests or len(missing) < len(requests):
                    there = [request for request in requests if request not in missing]
                    selected[variant.name] = variant, variant.select_modules(there)
        names = {variant.name for variant in variants}
        if not names & selected.keys():
            raise _nothing_left(pattern, names, unpublished, lacking)
    return Selection(tuple(selected.values()), tuple(_notes(unpublished, lacking)))


def _problem(variant: Variant, request: str) -> UsageError | None:
    """Returns why a variant does not have what is requested; None if it does."""
    try:
        variant.select_modules([request])
    except UsageError as error:
        return error
    return None


def _notes(unpublished: set[str], lacking: Mapping[str, Mapping[str, UsageError]]) -> Iterator[str]:
    if unpublished:
        yield f"skipping {_counted(unpublished)} without a published checkpoint: {_listed(unpublished)}"
    for request, by_name in lacking.items():
        if by_name:
            yield f"skipping {request} of {_counted(by_name)} that {_lack(by_name)} it: {_listed(by_name)}"


def _nothing_left(
    pattern: str, names: Set[str], unpublished: Set[str], lacking: Mapping[str, Mapping[str, UsageError]]
) -> UsageError:
    what, without = f"{pattern!r} leaves nothing to do", names & unpublished
    if without == names:
        return UsageError(
            what,
            why=f"it matches {_counted(names)} without a published checkpoint: {_listed(names)}",
            fix="pass your own checkpoint to `hubexport build` with --checkpoint",
        )
    *_, example = (error for by_name in lacking.values() for name, error in by_name.items() if name in names)
    no_checkpoint = f"{len(without)} without a published checkpoint, and " * bool(without)
    return UsageError(
        what,
        why=f"it matches {no_checkpoint}{_counted(names - without)} without a requested module: {example.what}; "
        f"{example.why}",
        fix=example.fix,
    )


def _counted(names: Collection[str]) -> str:
    return f"{len(names)} variant{'s' * (len(names) != 1)}"


def _lack(names: Collection[str]) -> str:
    return "lacks" if len(names) == 1 else "lack"


def _listed(names: Collection[str]) -> str:
    first, more = sorted(names)[:_MOST_NAMES], len(names) - _MOST_NAMES
    return ", ".join(first) + f" and {more} more" * (more > 0)
