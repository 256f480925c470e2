"""Opens image modules for callers who name them by path or address."""

from collections.abc import Iterator
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from hubexport.images.preprocessing import describe_resize
from hubexport.inspection.artifact import opened_artifact
from hubexport.progress import Progress

if TYPE_CHECKING:
    from hubexport.running.image_module import ImageModule


@contextlib.contextmanager
def opened_module(module: "ImageModule | str | Path", progress: Progress) -> "Iterator[ImageModule]":
    """Opens a module for as long as the context lasts, and notes the size to which images are resized.

    Args:
        module: a module's directory, a gzipped tar of one, its http or https address on a hub server, or a module that
            is open, which stays open.
        progress: hears of the download, of TensorFlow's start and of the size.
    Raises:
        ModuleError: the module cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(module, (str, Path)):
            artifact = stack.enter_context(opened_artifact(module, progress))
            with progress.tensorflow_starting():
                from hubexport.running.image_module import opened_image_module
            module = stack.enter_context(opened_image_module(artifact.directory, artifact.shown_as))
        height, width, _ = module.image_shape
        progress.note(describe_resize(height, width))
        yield module
