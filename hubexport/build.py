"""Builds modules: the trained values of a checkpoint go into networks, and these into module directories."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
import contextlib
from contextlib import AbstractContextManager
import dataclasses
from pathlib import Path
import time
from typing import Any

from hubexport.arrays import FLOAT_BYTES, Value
from hubexport.checkpoints.download_cache import Downloads
from hubexport.checkpoints.restore import open_and_restore
from hubexport.checkpoints.sources import Source, resolve_source
from hubexport.checkpoints.weights_choice import Weights, check_weights
from hubexport.deployment_spec import DeploymentSpec
from hubexport.deployments.inference_model import inference_model
from hubexport.errors import CheckpointError
from hubexport.extras import require_extras
from hubexport.formats.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    ManifestError,
    listed_files,
    parse_manifest,
    write_manifest,
)
from hubexport.formats.tf1_hub import write_tf1_module
from hubexport.formats.tf2_saved_model import write_tf2_module
from hubexport.labels import MODULE_LABELS, labels_content
from hubexport.networks.network import Network
from hubexport.progress import Progress
from hubexport.system.atomic_output import publish_directory, scratch_directory, write_failures_reported
from hubexport.system.destinations import check_destination, check_sources_kept
from hubexport.system.free_space import check_free_space
from hubexport.variants import TF1_VERSIONS, ModuleSpec, Variant, check_variant, module_specs

_OTHERWISE = "choose another --output-dir"


@dataclasses.dataclass(frozen=True, init=False)
class BuildOrder:
    """Modules of one variant to build, each once and in the order given.

    Args:
        variant: the variant.
        modules: kinds and versions, as `ModuleSpec` or as text like `feature_vector/2`. Defaults to the modules in the
            variant's config.
    Raises:
        UsageError: a kind or version does not exist, the network's family lacks the version, or `variant` is only a
            name.
    """

    variant: Variant
    modules: tuple[ModuleSpec, ...]

    def __init__(self, variant: Variant, modules: Sequence[ModuleSpec | str] = ()) -> None:
        check_variant(variant)
        # The class is frozen: its own __setattr__ refuses.
        object.__setattr__(self, "variant", variant)
        object.__setattr__(self, "modules", module_specs(modules) or variant.modules)
        variant.check_modules(self.modules)


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """How to build modules; see `build_modules`.

    Attributes:
        checkpoint: `build_batch` takes what stands for the sources of all variants, see
            `hubexport.checkpoints.checkpoint_choice.checkpoint_for`.
    Raises:
        UsageError: `weights` is none of `auto`, `averaged` and `raw`.
    """

    checkpoint: str | Path | None = None
    weights: Weights = "auto"
    output_dir: str | Path = "modules"
    overwrite: bool = False
    downloads: Downloads = Downloads()
    scope: str | None = None

    def __post_init__(self) -> None:
        check_weights(self.weights)


@dataclasses.dataclass(frozen=True)
class BuiltModule:
    """A module that was built.

    Attributes:
        spec: its kind and version.
        directory: where it is.
        seconds: how long it took to write it, without the checkpoint, which is read once for all modules of an order.
    """

    spec: ModuleSpec
    directory: Path
    seconds: float


def build_modules(
    variant: Variant,
    modules: Sequence[ModuleSpec | str] = (),
    *,
    checkpoint: str | Path | None = None,
    weights: Weights = "auto",
    scope: str | None = None,
    output_dir: str | Path = "modules",
    overwrite: bool = False,
    downloads: Downloads = Downloads(),
    progress: Progress | None = None,
) -> list[Path]:
    """Builds modules of one variant: all of them, or none if the checkpoint cannot be used.

    Args:
        variant: what to build.
        modules: kinds and versions, as `ModuleSpec` or as text like `feature_vector/2`; each is built once. Defaults to
            the modules in the variant's config.
        checkpoint: the source of the values, see `hubexport.checkpoints.sources`. Defaults to the published checkpoint
            in the variant's config, which is downloaded.
        weights: `auto`, `averaged` or `raw`, see `hubexport.checkpoints.restore`. Ignored if the source stores one
            value per variable.
        scope: what the names of the network's variables begin with in the checkpoint, like `module/MobilenetV2`.
            Defaults to TF-Slim's own root scope, or else to the only one that holds all variables of a network.
        output_dir: the folder of all modules; each goes into a subfolder that is named like its handle.
        overwrite: replace existing modules. Directories that hold any other file are never replaced.
        downloads: where published checkpoints are cached, and where they are downloaded from.
        progress: is told of each step.
    Returns:
        The module directories, in the order of `modules`.
    Raises:
        UsageError: a kind, version or `weights` does not exist, or `variant` is only a name.
        CheckpointError: the checkpoint cannot be found or read, or does not fit the network.
        OutputError: a module's directory exists already, or cannot be written; or its disk has no room for all modules.
    Example:
        >>> variant = hubexport.load_variant("mobilenet_v2_035_96")
        >>> modules = ["feature_vector/5", "classification/5"]
        >>> for path in hubexport.build_modules(variant, modules, checkpoint="synthetic"):
        ...     print(path)
        modules/google/imagenet/mobilenet_v2_035_96/feature_vector/5
        modules/google/imagenet/mobilenet_v2_035_96/classification/5
    """
    order = BuildOrder(variant, modules)
    options = BuildOptions(checkpoint, weights, output_dir, overwrite, downloads, scope)
    return [built.directory for built in build_order(order, options, progress or Progress())]


def module_directories(order: BuildOrder, options: BuildOptions) -> dict[ModuleSpec, Path]:
    """Returns where each module of an order goes."""
    return {spec: Path(options.output_dir) / order.variant.handle(spec) for spec in order.modules}


def build_order(order: BuildOrder, options: BuildOptions, progress: Progress) -> list[BuiltModule]:
    """Builds the modules of one order, and returns them in its order; see `build_modules` for errors."""
    variant, directories = order.variant, module_directories(order, options)
    for spec in order.modules:
        if isinstance(spec, DeploymentSpec) and spec.deployment.extra:
            require_extras(f"building {spec.deployment.title}", spec.deployment.extra)
    with _write_failures_reported(options):
        for directory in directories.values():
            check_destination(directory, overwrite=options.overwrite, written=listed_files)
    check_modules_fit(options, needed_bytes(order))

    source = resolve_source(options.checkpoint, variant, progress, options.downloads, options.scope)
    for directory in directories.values():
        check_sources_kept(directory, [directory], source.paths)
    seconds = dict.fromkeys(order.modules, 0.0)
    variables = {v.name: v for spec in order.modules for v in variant.network_for(spec.kind).variables}
    with open_and_restore(source, list(variables.values()), options.weights, variant, progress) as restored:
        provenance = provenance_fields(source, in_module=restored.in_module)
        with _write_failures_reported(options), scratch_directory(Path(options.output_dir)) as scratch:
            staged = {spec: scratch / str(spec).replace("/", "-") for spec in order.modules}
            for spec in order.modules:
                progress.step(f"writing {variant.handle(spec)}")
                with _timed(seconds, spec):
                    network = variant.network_for(spec.kind, spec.version)
                    write_module(staged[spec], variant, spec, network, restored.values, progress)
                    restored.check_finite()  # The source may have changed since it was checked.
                    weights = restored.weights(network.variables)
                    write_manifest(staged[spec], variant, spec, network, {**provenance, "weights": weights})
            for spec, directory in directories.items():
                with _timed(seconds, spec):
                    publish_directory(staged[spec], directory, overwrite=options.overwrite)
    if provenance["values"] == "synthetic":
        progress.warn(
            f"SYNTHETIC weights: {variant.name} is UNTRAINED; its modules run, but their outputs mean nothing"
        )
    return [BuiltModule(spec, directory, seconds[spec]) for spec, directory in directories.items()]


@contextlib.contextmanager
def _timed(seconds: dict[ModuleSpec, float], spec: ModuleSpec) -> Iterator[None]:
    """Adds the time that the context takes to what a module took before."""
    started = time.monotonic()
    yield
    seconds[spec] += time.monotonic() - started


def needed_bytes(order: BuildOrder) -> int:
    """Returns how many bytes the values take in the modules of an order together; all else in them is small."""
    kinds = Counter(spec.kind for spec in order.modules)
    sizes = {kind: sum(variable.size for variable in order.variant.network_for(kind).variables) for kind in kinds}
    return FLOAT_BYTES * sum(count * sizes[kind] for kind, count in kinds.items())


def check_modules_fit(options: BuildOptions, needed: int) -> None:
    """Checks that the disk has room for modules.

    Raises:
        OutputError: it has less room than `needed` bytes.
    """
    check_free_space(Path(options.output_dir), needed, _what(options), _OTHERWISE)


def provenance_fields(source: Source, *, in_module: bool) -> dict[str, Any]:
    """Returns the fields of a manifest that describe the source of the values, with `weights` left empty.

    Args:
        source: the source.
        in_module: whether a module holds the values. If it was built with made-up ones, they are made up, too.
    Raises:
        CheckpointError: a file cannot be read, or the manifest of the module that holds the values is damaged.
    """
    # Looking for the manifest in an archive that has no module would unpack all of it again.
    content = source.read_in_module(MANIFEST, MAX_MANIFEST_BYTES) if in_module else None
    try:
        made_up = source.made_up or content is not None and parse_manifest(content).values == "synthetic"
    except ManifestError as error:
        raise CheckpointError(
            f"cannot tell whether the values of {source.shown_as} are trained",
            why=str(error),
            fix="use the module as hubexport built it",
        ) from error
    return {"values": "synthetic" if made_up else "trained", "weights": "", "checkpoint": source.provenance()}


def write_module(
    directory: Path,
    variant: Variant,
    spec: ModuleSpec,
    network: Network,
    values: Mapping[str, Value],
    progress: Progress = Progress(),
) -> None:
    """Writes a module into a new directory, all but its manifest.

    Args:
        directory: the module's directory, which must not exist.
        variant: the variant. Its labels go into classification modules.
        spec: the module's kind and version.
        network: the network of that kind and version.
        values: float32, by variable name, for all variables of the network; others are ignored.
        progress: receives what a writer reports of long work.
    Raises:
        OSError: a file cannot be written.
        UsageError: the variant's file of labels cannot be read.
    """
    if isinstance(spec, DeploymentSpec):
        _write_deployment(directory, variant, spec, network, values, progress)
        return
    directory.mkdir()
    write = write_tf1_module if spec.version in TF1_VERSIONS else write_tf2_module
    write(directory, spec, network, values)
    if spec.kind == "classification" and (names := variant.class_names()):
        (directory / MODULE_LABELS.parent).mkdir()
        (directory / MODULE_LABELS).write_bytes(labels_content(names))


def _write_deployment(
    directory: Path,
    variant: Variant,
    spec: DeploymentSpec,
    network: Network,
    values: Mapping[str, Value],
    progress: Progress,
) -> None:
    names = variant.class_names() if spec.kind == "classification" else None
    needed = {variable.name: values[variable.name] for variable in network.variables}
    model = inference_model(variant.name, network, needed, spec.options, class_names=names, endpoints=spec.endpoints)
    if spec.deployment.suffix is None:
        spec.deployment.write(directory, model, spec.options, progress)
    else:
        directory.mkdir()
        spec.deployment.write(directory / spec.deployment.file, model, spec.options, progress)


def _what(options: BuildOptions) -> str:
    return f"cannot write modules to {options.output_dir}"


def _write_failures_reported(options: BuildOptions) -> AbstractContextManager[None]:
    return write_failures_reported(_what(options), Path(options.output_dir), _OTHERWISE)
