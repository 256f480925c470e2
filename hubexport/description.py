"""Describes what is at a path: a module or a checkpoint, packed or not, or a deployment."""

from pathlib import Path

from hubexport.checkpoints.checkpoint_report import CheckpointReport, describe_checkpoint
from hubexport.checkpoints.open_checkpoint import open_checkpoint
from hubexport.checkpoints.sources import read_failures_reported, resolve_source
from hubexport.deployments.registry import deployment_at
from hubexport.deployments.report import DeploymentReport
from hubexport.modules.module_report import ModuleReport, describe_module
from hubexport.modules.opening import holds_module, is_address, opened_module_directory
from hubexport.progress import Progress


def describe(
    path: str | Path, *, progress: Progress | None = None
) -> ModuleReport | CheckpointReport | DeploymentReport:
    """Describes a module, a checkpoint, or a deployment like an ONNX model.

    Args:
        path: a module, as a directory, an archive or an address; a checkpoint, see `hubexport.checkpoints.sources`; or
            a deployment's file or folder.
        progress: is told of each step.
    Raises:
        CheckpointError: the path is none of these, or the checkpoint is damaged.
        ModuleError: the module or deployment is damaged, or the module cannot be downloaded.
    """
    progress = progress or Progress()
    with read_failures_reported(Path(path)):
        is_module = is_address(path) or holds_module(Path(path))
        deployment = None if is_module else deployment_at(Path(path))
    if is_module:
        with opened_module_directory(path, progress) as artifact:
            return describe_module(artifact.directory, artifact.shown_as)
    if deployment:
        format_, file = deployment
        progress.step(f"reading {file}")
        return format_.report(file)
    source = resolve_source(path, None, progress)
    source.check_stored("inspected", fix="build or convert them with --variant, and inspect the result")
    with open_checkpoint(source, progress, accept_problems=True, accept_several=True) as opened:
        return describe_checkpoint(opened)
