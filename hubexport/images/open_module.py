"""Opens a module or deployment to run on images: a path, an address, or one that is already open."""

from collections.abc import Callable, Iterator
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from hubexport.checkpoints.archives import MODULE_FILE
from hubexport.deployments.registry import Deployment, deployment_at
from hubexport.engines import Engine, usable_engine
from hubexport.errors import UsageError
from hubexport.images.resizing import describe_resize
from hubexport.modules.deployment_interface import DeploymentInterface, check_unchanged, deployment_interface
from hubexport.modules.image_interface import ImageInterface
from hubexport.modules.interface_hints import InterfaceHints
from hubexport.modules.opening import is_address, opened_artifact_directory, unreadable_error
from hubexport.modules.saved_model_interface import SavedModelInterface, saved_model_interface
from hubexport.progress import Progress

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule


@contextlib.contextmanager
def opened_module(
    module: "ImageModule | str | Path",
    progress: Progress,
    hints: InterfaceHints = InterfaceHints(),
    engine: Engine | None = None,
    check: Callable[[ImageInterface], object] = lambda _: None,
) -> "Iterator[ImageModule]":
    """Opens a module or deployment for the duration of the context.

    Args:
        module: where it is, see `found_interface`. One that is already open stays open.
        progress: receives the download, the start of the engine, and a note on the size that images are resized to.
        hints: how to run a module that does not say it itself. An open module takes no hints.
        engine: what runs it, see `opened_interface`. An open module takes none.
        check: raises an error for a module that is of no use to the caller, before an engine starts.
    Raises:
        MissingExtraError: packages of the engine are missing.
        ModuleError: the module cannot be opened, or does not say how to run it.
        UsageError: a hint has a value that it cannot have, the engine does not run it, or there are hints or an engine
            for an open module.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(module, (str, Path)):
            interface = stack.enter_context(found_interface(module, progress, hints))
            check(interface)
            module = stack.enter_context(opened_interface(interface, progress, engine))
        elif hints != InterfaceHints() or engine:
            raise UsageError(
                "input_range, output_kind, image_size and engine are for modules that are yet to be opened",
                why="this module is open, and runs as it was opened",
                fix="pass them as hints=InterfaceHints(...) to opened_image_module",
            )
        height, width, _ = module.interface.image_shape
        progress.note(describe_resize(height, width))
        yield module


@contextlib.contextmanager
def found_interface(module: str | Path, progress: Progress, hints: InterfaceHints) -> Iterator[ImageInterface]:
    """Finds out how to run a module or deployment. It is where its interface says for the duration of the context.

    Args:
        module: the directory of a module or deployment, a gzipped tar of it, or its http or https address on a hub
            server; or a deployment's file.
        progress: receives the download.
        hints: how to run a module that does not say it itself.
    Raises:
        ModuleError: it cannot be opened, or does not say how to run it.
        UsageError: a hint has a value that it cannot have.
    """
    hints.check()
    with contextlib.ExitStack() as stack:
        path, shown_as = Path(module), module
        if is_address(module) or _deployment_at(path) is None:
            artifact = stack.enter_context(opened_artifact_directory(module, progress))
            path, shown_as = artifact.directory, artifact.shown_as
        if deployment := _deployment_at(path):
            format_, file = deployment
            check_unchanged(file, str(shown_as))
            yield deployment_interface(file, format_, hints, str(shown_as))
        else:
            yield saved_model_interface(path, shown_as, hints)


def _deployment_at(path: Path) -> tuple[Deployment, Path] | None:
    try:
        return None if (path / MODULE_FILE).is_file() else deployment_at(path)
    except OSError as error:
        raise unreadable_error(path, error) from error


@contextlib.contextmanager
def opened_interface(
    interface: ImageInterface, progress: Progress, engine: Engine | None = None
) -> "Iterator[ImageModule]":
    """Loads a module or deployment, for the duration of the context.

    Args:
        interface: how to run it.
        progress: receives the start of TensorFlow, and a note on the engine.
        engine: what runs a module. Defaults to TensorFlow, or to ONNX Runtime if TensorFlow is not installed.
            Deployments have an engine each.
    Raises:
        MissingExtraError: packages of the engine are missing.
        ModuleError: it is damaged, or the engine cannot run it.
        UsageError: the engine does not run deployments of this format.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(interface, DeploymentInterface):
            from hubexport.runtime.deployment_runners import RUNNERS, opened_deployment

            in_tensorflow = RUNNERS[interface.report.format].extra == "tensorflow"
            with progress.tensorflow_starting() if in_tensorflow else contextlib.nullcontext():
                module = stack.enter_context(opened_deployment(interface, engine))
        else:
            assert isinstance(interface, SavedModelInterface), "there are no others in files"
            module = stack.enter_context(_opened_saved_model(interface, progress, engine))
        progress.note(f"engine: {module.engine}")
        yield module


@contextlib.contextmanager
def _opened_saved_model(
    interface: SavedModelInterface, progress: Progress, engine: Engine | None
) -> "Iterator[ImageModule]":
    if usable_engine(engine, f"running {interface.shown_as}") == "onnx":
        from hubexport.runtime.module_on_onnx import opened_on_onnx

        with opened_on_onnx(interface) as module:
            yield module
        return
    with contextlib.ExitStack() as stack:
        with progress.tensorflow_starting():  # TensorFlow logs while it loads a model, too.
            from hubexport.runtime.image_module import opened

            module = stack.enter_context(opened(interface))
        yield module
