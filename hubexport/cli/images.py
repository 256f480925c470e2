"""What the commands that run a module on images share."""

import argparse
from collections.abc import Iterator
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from hubexport.cli.arguments import positive
from hubexport.errors import ImageError, printable
from hubexport.images.files import none_readable
from hubexport.progress import Progress

if TYPE_CHECKING:
    from hubexport.running.image_module import ImageModule


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares which module is to run on which images."""
    parser.add_argument(
        "module",
        metavar="MODULE",
        help="a module: a directory, a .tar.gz, or an http or https address on a hub server",
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="JPEG, PNG, BMP, GIF or WebP files, folders of them (with all subfolders), or patterns like "
        "'photos/**/*.jpg'",
    )
    parser.add_argument(
        "--batch_size", type=positive, default=32, metavar="N", help="how many images to process at once (default: 32)"
    )


def counted(images: int) -> str:
    """Returns how many images there are.

    Example:
        >>> counted(1), counted(1200)
        ('1 image', '1,200 images')
    """
    return f"{images:,} image{'s' * (images != 1)}"


@contextlib.contextmanager
def opened_module(text: str, progress: Progress) -> "Iterator[tuple[ImageModule, Path]]":
    """Opens a module, with its directory, and says to which size it wants images resized.

    Raises:
        ModuleError: it cannot be opened.
    """
    from hubexport.images.preprocessing import describe_resize
    from hubexport.inspection.artifact import opened_artifact

    with opened_artifact(text, progress) as artifact:
        with progress.tensorflow_starting():
            from hubexport.running.image_module import opened_image_module
        with opened_image_module(artifact.directory, artifact.shown_as) as module:
            height, width, _ = module.image_shape
            progress.note(describe_resize(height, width))
            yield module, artifact.directory


class Skipped:
    """Says which images cannot be read, and counts them.

    Attributes:
        reasons: why, by path.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.reasons: dict[Path, str] = {}

    def __call__(self, path: Path, error: ImageError) -> None:
        """Hears of one."""
        self.reasons[path] = error.why
        self._progress.warn(printable(f"skipped {path}: {error.why}"))

    def as_json(self) -> list[dict[str, str]]:
        """Returns them as `json.dumps` takes them."""
        return [{"file": str(path), "why": why} for path, why in self.reasons.items()]

    def sum_up(self, total: int) -> None:
        """Says how many there were, of all images.

        Raises:
            ImageError: all of them.
        """
        if len(self.reasons) == total:
            raise none_readable(total)
        if self.reasons:
            self._progress.warn(f"{len(self.reasons):,} of {counted(total)} skipped")
