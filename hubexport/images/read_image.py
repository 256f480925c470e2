"""Reads image files of any mode as RGB images.

Colour profiles are ignored, as in training: TensorFlow's own decoders ignore them too.
"""

import contextlib
from pathlib import Path
from typing import BinaryIO
import warnings

from PIL import ExifTags, Image, UnidentifiedImageError
import numpy as np

from hubexport.errors import ImageError

# Recognized by content, not by name. Pillow knows many more formats, and starts other programs for some.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")

# The ratio of 16 bit intensities to 8 bit ones: 65,535 / 255.
_LEVELS_PER_BYTE_LEVEL = 257
# Pillow gives the intensity that stands for transparency as a number, which is never this one.
_NO_LEVEL = -1

# The operation that turns an image upright, by EXIF orientation. `ImageOps.exif_transpose` also rewrites the EXIF data,
# and fails if the data is damaged.
_UPRIGHT_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns of images half as large as those it refuses, and of damaged metadata. Users can do nothing about either.
for _category in (Image.DecompressionBombWarning, UserWarning):
    warnings.filterwarnings("ignore", category=_category, module=r"PIL\.")


def read_image(
    path_or_file: Path | BinaryIO, shown_as: Path | str | None = None, *, upright: bool = True
) -> Image.Image:
    """Reads an image.

    An animation gives its first frame, and transparent areas become white. 16 bit intensities are scaled to 8 bits, and
    CMYK is converted to RGB by Pillow's formula, without a colour profile.

    Args:
        path_or_file: a JPEG, PNG, BMP, GIF or WebP file. An open file must be seekable.
        shown_as: what errors call the file. Defaults to its path.
        upright: rotate the image as its EXIF data says.
    Returns:
        The image in mode RGB.
    Raises:
        ImageError: the file cannot be read, has another format, is damaged or incomplete, or has more than 178 million
            pixels.
    """
    try:
        with Image.open(path_or_file, formats=FORMATS) as image:
            image.load()
            rgb = _as_rgb(image)
            turn = _UPRIGHT_BY_ORIENTATION.get(_orientation(image)) if upright else None
            return rgb if turn is None else rgb.transpose(turn)
    # Damaged files make Pillow's parsers raise all kinds of exceptions.
    except Exception as error:
        shown_as = shown_as or (path_or_file if isinstance(path_or_file, Path) else "image")
        raise ImageError(
            f"cannot read {shown_as}", why=_reason(error), fix="use an undamaged JPEG, PNG, BMP, GIF or WebP file"
        ) from error


def _as_rgb(image: Image.Image) -> Image.Image:
    # Before version 10.3, Pillow reads 16 bit grayscale in mode I.
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow's own conversion would clip these intensities, of up to 65,535, at 255.
        levels = np.asarray(image).astype(np.int32)
        gray = np.round(levels / _LEVELS_PER_BYTE_LEVEL).astype(np.uint8)
        gray[levels == image.info.get("transparency", _NO_LEVEL)] = 255
        return Image.fromarray(gray).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8; 0 if the image has none, or its EXIF data is damaged."""
    with contextlib.suppress(Exception):
        return image.getexif().get(ExifTags.Base.Orientation) or 0
    return 0


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not a JPEG, PNG, BMP, GIF or WebP file, or its first bytes are damaged"
    if isinstance(error, Image.DecompressionBombError):
        return "it has more than 178 million pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
