"""Opens image modules for callers who name them by path or address."""

from collections.abc import Iterator
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from hubexport.errors import UsageError
from hubexport.images.preprocessing import describe_resize
from hubexport.modules.image_interface import InterfaceHints, image_interface
from hubexport.modules.opening import opened_module_directory
from hubexport.progress import Progress

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule


@contextlib.contextmanager
def opened_module(
    module: "ImageModule | str | Path", progress: Progress, told: InterfaceHints = InterfaceHints()
) -> "Iterator[ImageModule]":
    """Opens a module for as long as the context lasts, and notes the size to which images are resized.

    Args:
        module: a module's directory, a gzipped tar of one, its http or https address on a hub server, or a module that
            is open, which stays open.
        progress: hears of the download, of TensorFlow's start and of the size.
        told: what the caller says of the module; nothing of one that is open, which knows it.
    Raises:
        ModuleError: the module cannot be opened, or does not tell how to run it.
        UsageError: what the caller says cannot be, or is said of a module that is open.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(module, (str, Path)):
            told.check()
            artifact = stack.enter_context(opened_module_directory(module, progress))
            interface = image_interface(artifact.directory, artifact.shown_as, told)
            with progress.tensorflow_starting():
                from hubexport.runtime.image_module import opened
            module = stack.enter_context(opened(interface))
        elif told != InterfaceHints():
            raise UsageError(
                "input_range and output_kind are for modules that are yet to be opened",
                why="this module is open, and runs as it was opened",
                fix="pass them as hints=InterfaceHints(...) to opened_image_module",
            )
        height, width, _ = module.interface.image_shape
        progress.note(describe_resize(height, width))
        yield module
