"""Image files of any mode, as RGB pictures.

Colour profiles are not applied, as they were not in training: TensorFlow's own decoders ignore them too.
"""

import contextlib
from pathlib import Path
from typing import BinaryIO
import warnings

from PIL import ExifTags, Image, UnidentifiedImageError
import numpy as np

from hubexport.errors import ImageError

# By their content, whatever their names say. Pillow knows many more, and starts other programs for some.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")

# From 8 bit intensities to 16 bit ones: 65,535 / 255.
_FINENESS = 257
# Pillow tells the intensity that stands for transparency by its number; none has this one.
_NO_LEVEL = -1

# What undoes each way in which EXIF says a camera was held. `ImageOps.exif_transpose` also rewrites the EXIF data, and
# fails where those are damaged.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Of pictures half as large as it refuses, and of damage beside a picture: nothing that its reader could act upon.
for _category in (Image.DecompressionBombWarning, UserWarning):
    warnings.filterwarnings("ignore", category=_category, module=r"PIL\.")


def read_image(
    path_or_file: Path | BinaryIO, shown_as: Path | str | None = None, *, upright: bool = True
) -> Image.Image:
    """Reads a picture.

    Of an animation it is the first frame. What is transparent lies on white. 16 bit
    intensities are scaled to 8 bits, CMYK is taken to RGB by the plain formula.

    Args:
        path_or_file: a JPEG, PNG, BMP, GIF or WebP file; one that is open must be seekable.
        shown_as: what errors call it; None means its path.
        upright: turn it as its EXIF data say.
    Returns:
        The picture in mode RGB.
    Raises:
        ImageError: it cannot be read, is none of these, is damaged, incomplete, or has more than 178 million pixels.
    """
    try:
        with Image.open(path_or_file, formats=FORMATS) as image:
            image.load()
            return _upright(_as_rgb(image), _orientation(image) if upright else None)
    # Of a damaged file Pillow raises whatever its parsers run into.
    except Exception as error:
        shown_as = shown_as or (path_or_file if isinstance(path_or_file, Path) else "image")
        raise ImageError(
            f"cannot read {shown_as}", why=_reason(error), fix="use an undamaged JPEG, PNG, BMP, GIF or WebP file"
        ) from error


def _as_rgb(image: Image.Image) -> Image.Image:
    # Pillow before 10.3 gives 16 bit grayscale as I.
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Scales intensities from 0 to 65,535, which Pillow's own conversion would clip at 255."""
    levels = np.asarray(image).astype(np.int32)
    gray = np.round(levels / _FINENESS).astype(np.uint8)
    gray[levels == image.info.get("transparency", _NO_LEVEL)] = 255
    return Image.fromarray(gray).convert("RGB")


def _orientation(image: Image.Image) -> int | None:
    # Many a program writes damaged EXIF data beside a picture that is none the worse for it.
    with contextlib.suppress(Exception):
        return image.getexif().get(ExifTags.Base.Orientation)
    return None


def _upright(picture: Image.Image, orientation: int | None) -> Image.Image:
    turn = _TURNS.get(orientation or 0)
    return picture if turn is None else picture.transpose(turn)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not a JPEG, PNG, BMP, GIF or WebP file, or its first bytes are damaged"
    if isinstance(error, Image.DecompressionBombError):
        return "it has more than 178 million pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
