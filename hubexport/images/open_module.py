"""Opens a module to run on images: a path, an address, or a module that is already open."""

from collections.abc import Iterator
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from hubexport.errors import UsageError
from hubexport.images.resizing import describe_resize
from hubexport.modules.image_interface import image_interface
from hubexport.modules.interface_hints import InterfaceHints
from hubexport.modules.opening import opened_module_directory
from hubexport.progress import Progress

if TYPE_CHECKING:
    from hubexport.runtime.image_module import ImageModule


@contextlib.contextmanager
def opened_module(
    module: "ImageModule | str | Path", progress: Progress, hints: InterfaceHints = InterfaceHints()
) -> "Iterator[ImageModule]":
    """Opens a module for the duration of the context.

    Args:
        module: the module's directory, a gzipped tar of it, or its http or https address on a hub server. A module that
            is already open stays open.
        progress: receives the download, the start of TensorFlow, and a note on the size that images are resized to.
        hints: how to run a module that does not say it itself. An open module takes no hints.
    Raises:
        ModuleError: the module cannot be opened, or does not say how to run it.
        UsageError: a hint has a value that it cannot have, or there are hints for an open module.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(module, (str, Path)):
            hints.check()
            artifact = stack.enter_context(opened_module_directory(module, progress))
            interface = image_interface(artifact.directory, artifact.shown_as, hints)
            with progress.tensorflow_starting():
                from hubexport.runtime.image_module import opened
            module = stack.enter_context(opened(interface))
        elif hints != InterfaceHints():
            raise UsageError(
                "input_range, output_kind and image_size are for modules that are yet to be opened",
                why="this module is open, and runs as it was opened",
                fix="pass them as hints=InterfaceHints(...) to opened_image_module",
            )
        height, width, _ = module.interface.image_shape
        progress.note(describe_resize(height, width))
        yield module
