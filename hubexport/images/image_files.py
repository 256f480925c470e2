"""Finds the image files that files, folders and patterns stand for."""

from collections.abc import Iterable, Iterator
import glob
import os
from pathlib import Path

from hubexport.errors import ImageError

# The image files in folders and among the matches of patterns, in any case.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def find_images(inputs: str | Path | Iterable[str | Path]) -> list[Path]:
    """Returns the files that inputs stand for, each once, in the order of the inputs.

    Args:
        inputs: one or more of: files with any suffix; folders, which stand for the files in them and their subfolders
            that end in `SUFFIXES`; patterns like `photos/**/*.jpg`, which stand for the matching files that end in
            `SUFFIXES`. The files of a folder or pattern are sorted, without hidden files and folders.
    Raises:
        ImageError: an input stands for no file, or a folder cannot be read.
    """
    found: dict[str, Path] = {}
    try:
        for text in [inputs] if isinstance(inputs, (str, Path)) else inputs:
            for path in _files(str(text)):
                found.setdefault(os.path.abspath(path), path)
    except OSError as error:
        _unreadable(error)
    return list(found.values())


def image_count_text(images: int) -> str:
    """Returns a number of images in words.

    Example:
        >>> image_count_text(1), image_count_text(1200)
        ('1 image', '1,200 images')
    """
    return f"{images:,} image{'s' * (images != 1)}"


def no_readable_image(count: int) -> ImageError:
    """Returns the error for `count` files if none of them can be read."""
    return ImageError(
        "no image can be read",
        why=f"every file is damaged or of an unknown format; files tried: {count:,}",
        fix="use JPEG, PNG, BMP, GIF or WebP files",
    )


def _files(text: str) -> list[Path]:
    path = Path(text)
    if path.is_file():
        return [path]
    if path.is_dir():
        if images := list(_in_folder(path)):
            return images
        what, why = f"no images in {text}", f"no file in it ends in {', '.join(SUFFIXES)}"
    elif path.exists():
        what, why = f"{text} is not an image", "it is neither a file nor a folder"
    elif not glob.has_magic(text):
        what, why = f"cannot find {text}", "no such file or folder"
    else:
        matched = map(Path, sorted(glob.glob(text, recursive=True)))
        if images := [path for path in matched if _has_suffix(path.name) and path.is_file()]:
            return images
        what, why = f"no images match {text}", f"no file that ends in {', '.join(SUFFIXES)} matches it"
    raise ImageError(what, why=why, fix="use image files, folders of them, or patterns like 'photos/**/*.jpg'")


def _in_folder(folder: Path) -> Iterator[Path]:
    for parent, subfolders, names in os.walk(folder, onerror=_unreadable):
        # os.walk visits the subfolders that stay in this list, in its order.
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if _has_suffix(name) and not name.startswith(".") and path.is_file():
                yield path


def _has_suffix(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _unreadable(error: OSError) -> None:
    raise ImageError(
        f"cannot look for images at {error.filename}",
        why=error.strerror or str(error),
        fix="use files and folders that you may read",
    ) from error
