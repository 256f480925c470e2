"""The main job: a variant and a checkpoint become module directories."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
import shutil

from hubexport.checkpoints.download_cache import Downloads
from hubexport.checkpoints.open_checkpoint import read_values
from hubexport.checkpoints.sources import SyntheticSource, Weights, check_weights, resolve_source
from hubexport.formats.manifest import listed_files, write_manifest
from hubexport.formats.tf1_hub import write_tf1_module
from hubexport.formats.tf2_saved_model import write_tf2_module
from hubexport.progress import Progress
from hubexport.system.atomic_output import publish_directory, scratch_directory, write_failures_reported
from hubexport.system.destinations import check_destination, check_sources_kept
from hubexport.variants import TF1_VERSIONS, ModuleSpec, Variant, check_variant, module_specs

_LABELS = "labels.txt"


def build_modules(
    variant: Variant,
    modules: Sequence[ModuleSpec | str] = (),
    *,
    checkpoint: str | Path | None = None,
    weights: Weights = "averaged",
    output_dir: str | Path = "modules",
    overwrite: bool = False,
    downloads: Downloads = Downloads(),
    progress: Progress | None = None,
) -> list[Path]:
    """Builds modules of one variant: all of them, or, if anything is wrong with the checkpoint, none.

    Args:
        variant: what to build.
        modules: kinds and versions, as `ModuleSpec` or as text like `feature_vector/2`; each is built once. Defaults to
            the modules in the variant's config.
        checkpoint: where the values come from, see `hubexport.checkpoints.sources`; None downloads the published one.
        weights: `averaged` or `raw`, see `hubexport.checkpoints.restore`. Ignored if the source stores one value per
            variable.
        output_dir: a module goes to the folder below that is named like its handle.
        overwrite: replace modules that stand there; a directory with anything else in it stays.
        downloads: where a published checkpoint is looked for, and fetched from.
        progress: hears of each step.
    Returns:
        The module directories, in the order of `modules`.
    Raises:
        UsageError: a kind, version or `weights` does not exist, or `variant` is only a name.
        CheckpointError: the checkpoint cannot be found, read or fitted to the network.
        OutputError: a module, or something else, stands there already, or a module cannot be written.
    Example:
        >>> variant = hubexport.load_variant("mobilenet_v2_035_96")
        >>> modules = ["feature_vector/5", "classification/5"]
        >>> for path in hubexport.build_modules(variant, modules, checkpoint="synthetic"):
        ...     print(path)
        modules/google/imagenet/mobilenet_v2_035_96/feature_vector/5
        modules/google/imagenet/mobilenet_v2_035_96/classification/5
    """
    check_variant(variant)
    check_weights(weights)
    progress = progress or Progress()
    output_dir = Path(output_dir)
    directories = {spec: output_dir / variant.handle(spec) for spec in module_specs(modules) or variant.modules}
    with _write_failures_reported(output_dir):
        for directory in directories.values():
            check_destination(directory, overwrite=overwrite, written=listed_files)

    source = resolve_source(checkpoint, variant, progress, downloads)
    for directory in directories.values():
        check_sources_kept(directory, [directory], source.paths)
    networks = {spec: variant.network_for(spec.kind) for spec in directories}
    variables = {variable.name: variable for network in networks.values() for variable in network.variables}
    restored = read_values(source, list(variables.values()), weights, variant, progress)
    synthetic = isinstance(source, SyntheticSource)
    checkpoint_provenance = source.provenance()

    with _write_failures_reported(output_dir), scratch_directory(output_dir) as scratch:
        staged = {spec: scratch / f"{spec.kind}-{spec.version}" for spec in directories}
        for spec, network in networks.items():
            progress.step(f"writing {variant.handle(spec)}")
            staged[spec].mkdir()
            write_module = write_tf1_module if spec.version in TF1_VERSIONS else write_tf2_module
            write_module(staged[spec], spec, network, restored.values)
            if variant.labels and spec.kind == "classification":
                _copy_labels(variant.labels, staged[spec])
            provenance = {
                "values": "synthetic" if synthetic else "trained",
                "weights": restored.weights(network.variables),
                "checkpoint": checkpoint_provenance,
            }
            write_manifest(staged[spec], variant, spec, network, provenance)
        for spec, directory in directories.items():
            publish_directory(staged[spec], directory, overwrite=overwrite)
    if synthetic:
        progress.warn(
            f"SYNTHETIC weights: {variant.name} is UNTRAINED; its modules run, but their outputs mean nothing"
        )
    return list(directories.values())


def _copy_labels(labels: str, directory: Path) -> None:
    assets = directory / "assets"
    assets.mkdir()
    shutil.copyfile(labels, assets / _LABELS)


def _write_failures_reported(output_dir: Path) -> AbstractContextManager[None]:
    return write_failures_reported(f"cannot write modules to {output_dir}", output_dir, "choose another --output_dir")
