"""Images: which files are found, how every mode is read, and which files are refused."""

import io
import os
import struct
import threading
import time
import zlib

from PIL import Image
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from hubexport.errors import ImageError, ModuleError
from hubexport.images import image_batches
from hubexport.images.image_batches import apply_to_files
from hubexport.images.image_files import find_images
from hubexport.images.read_image import read_image
from hubexport.images.resizing import resized, to_array
from hubexport.progress import Progress

_NOISE = np.random.RandomState(0).randint(0, 256, [6, 9, 3]).astype(np.uint8)


class _Ear(Progress):
    def __init__(self):
        self.counts = []

    def count(self, done, total):
        self.counts.append((done, total))


def _touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def _found(folder, *inputs):
    return [str(path.relative_to(folder)) for path in find_images([str(folder / one) for one in inputs])]


def test_a_folder_stands_for_its_images_and_those_of_its_subfolders(tmp_path):
    """Sorted, with all suffixes in any case, without hidden files."""
    _touch(tmp_path, "b.PNG", "a.jpg", "c/e.webp", "c/d.Jpeg", "f.gif", "g.bmp", "notes.txt", ".h.jpg", ".i/j.jpg")
    assert _found(tmp_path, "") == ["a.jpg", "b.PNG", "f.gif", "g.bmp", "c/d.Jpeg", "c/e.webp"]


def test_patterns_match_images_at_any_depth(tmp_path):
    """But no files with other suffixes."""
    _touch(tmp_path, "b.jpg", "a.jpg", "c/d/e.jpg", "c/notes.txt", "c/f.png")
    assert _found(tmp_path, "*") == ["a.jpg", "b.jpg"]
    assert _found(tmp_path, "**/*") == ["a.jpg", "b.jpg", "c/d/e.jpg", "c/f.png"]
    assert _found(tmp_path, "c/**/*.jpg") == ["c/d/e.jpg"]


def test_a_file_stands_for_itself_whatever_its_name(tmp_path):
    """Even if its name looks like a pattern, or has no suffix."""
    _touch(tmp_path, "photo[1].jpg", "photo1.jpg", "scan")
    assert _found(tmp_path, "photo[1].jpg", "scan") == ["photo[1].jpg", "scan"]


def test_each_file_is_found_once_in_the_order_of_the_inputs(tmp_path, monkeypatch):
    """Even if several inputs name it, in different ways."""
    _touch(tmp_path, "a.jpg", "b.jpg")
    monkeypatch.chdir(tmp_path)
    assert [str(path) for path in find_images(["b.jpg", "*.jpg", ".", str(tmp_path / "a.jpg")])] == ["b.jpg", "a.jpg"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        pytest.param("missing.jpg", "cannot find ", id="file"),
        pytest.param("*.png", "no images match ", id="pattern"),
        pytest.param("empty", "no images in ", id="folder"),
        pytest.param("pipe", "pipe is not an image", id="pipe"),
        pytest.param("long" * 100, "cannot look for images at ", id="name-too-long"),
    ],
)
def test_an_input_that_stands_for_nothing_is_refused(tmp_path, text, what):
    """Even if the other inputs match images."""
    _touch(tmp_path, "a.jpg", "empty/notes.txt")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match=what):
        find_images([str(tmp_path / "a.jpg"), str(tmp_path / text)])


def _saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return file


def _png(width, height, bits, colour_type, rows, **chunks):
    """Writes a PNG file by hand, because Pillow cannot write every kind that it reads."""

    def chunk(name, content):
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">2I5B", width, height, bits, colour_type, 0, 0, 0)
    extra = b"".join(chunk(name.encode(), content) for name, content in chunks.items())
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def _read(file):
    picture = read_image(file)
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def _gray(levels):
    return np.repeat(np.asarray(levels)[..., np.newaxis], 3, axis=-1)


def _on_white(colours, alphas):
    opacity = np.asarray(alphas)[..., np.newaxis] / 255
    return np.asarray(colours) * opacity + 255 * (1 - opacity)


@pytest.mark.parametrize("format", ["PNG", "BMP", "WEBP"])
def test_rgb_is_read_as_it_is(format):
    """In all lossless formats."""
    file = _saved(Image.fromarray(_NOISE), format, **({"lossless": True} if format == "WEBP" else {}))
    np.testing.assert_array_equal(_read(file), _NOISE)


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF"])
def test_grayscale_becomes_gray(format):
    """Each intensity is repeated three times."""
    np.testing.assert_array_equal(_read(_saved(Image.fromarray(_NOISE[..., 0]), format)), _gray(_NOISE[..., 0]))


@pytest.mark.parametrize("format", ["PNG", "BMP"])
def test_one_bit_becomes_black_and_white(format):
    """As 0 and 255."""
    bits = _NOISE[..., 0] > 127
    np.testing.assert_array_equal(_read(_saved(Image.fromarray(bits), format)), _gray(bits * 255))


def test_16_bit_grayscale_is_scaled():
    """65,535 becomes 255. Pillow's own conversion would clip."""
    levels = [0, 1, 128, 129, 255, 256, 20000, 32768, 65534, 65535]
    png = _png(10, 1, 16, 0, [struct.pack(">10H", *levels)])
    np.testing.assert_array_equal(_read(png)[0], _gray([round(level / 65535 * 255) for level in levels]))


def test_16_bit_colours_are_scaled():
    """To within one level."""
    colours = np.random.RandomState(1).randint(0, 65536, [5, 3])
    png = _png(5, 1, 16, 2, [colours.astype(">u2").tobytes()])
    np.testing.assert_allclose(_read(png)[0], colours / 65535 * 255, atol=1)


def test_16_bit_transparency_becomes_white():
    """Only the intensity that stands for transparency becomes white, and not its neighbours."""
    png = _png(3, 1, 16, 0, [struct.pack(">3H", 999, 1000, 1001)], tRNS=struct.pack(">H", 1000))
    np.testing.assert_array_equal(_read(png)[0], _gray([4, 255, 4]))


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_alpha_is_mixed_with_white(format):
    """In proportion to alpha."""
    alphas = np.array([[0, 1, 100, 128, 200, 255]], np.uint8)
    colours = _NOISE[:1, :6]
    image = Image.fromarray(np.dstack([colours, alphas]))
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    np.testing.assert_allclose(_read(_saved(image, format, **options)), _on_white(colours, alphas), atol=1)


def test_gray_alpha_is_mixed_with_white():
    """Like colours."""
    alphas = np.array([[0, 100, 255]], np.uint8)
    image = Image.fromarray(np.dstack([_NOISE[:1, :3, 0], alphas]), "LA")
    np.testing.assert_allclose(_read(_saved(image, "PNG")), _on_white(_gray(_NOISE[:1, :3, 0]), alphas), atol=1)


_PALETTE = bytes([10, 20, 30, 200, 100, 50, 7, 7, 7])


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF"])
def test_palettes_are_looked_up(format):
    """Each number becomes its colour."""
    image = Image.fromarray(np.array([[0, 1, 2, 1]], np.uint8), "P")
    image.putpalette(_PALETTE)
    colours = np.frombuffer(_PALETTE, np.uint8).reshape(3, 3)
    np.testing.assert_array_equal(_read(_saved(image, format))[0], colours[[0, 1, 2, 1]])


def test_transparent_palettes_are_mixed_with_white():
    """Each entry has its alpha. Entries beyond the list of alphas are opaque."""
    png = _png(3, 1, 8, 3, [bytes([0, 1, 2])], PLTE=_PALETTE, tRNS=bytes([0, 100]))
    colours = np.frombuffer(_PALETTE, np.uint8).reshape(3, 3)
    np.testing.assert_allclose(_read(png)[0], _on_white(colours, [0, 100, 255]), atol=1)


def test_a_transparent_colour_becomes_white():
    """And no other colour does."""
    png = _png(2, 1, 8, 2, [bytes([1, 2, 3, 1, 2, 4])], tRNS=struct.pack(">3H", 1, 2, 3))
    np.testing.assert_array_equal(_read(png)[0], [[255, 255, 255], [1, 2, 4]])


@pytest.mark.parametrize("transparent", [False, True])
def test_an_animation_gives_its_first_frame(transparent):
    """Whatever the other frames show."""
    frames = [Image.new("RGBA", (4, 4), colour) for colour in ("#ff0000", "#00ff00")]
    if transparent:
        frames[0].putpixel((1, 2), (0, 0, 0, 0))
    found = _read(_saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    wanted = np.full([4, 4, 3], [255, 0, 0])
    wanted[2, 1] = 255 if transparent else [255, 0, 0]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("ink", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 100, 40), (0, 0, 0, 255)])
def test_cmyk_is_converted(ink):
    """By the simple formula. The files store inverted values, a convention of Adobe's."""
    file = _saved(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100)
    assert b"Adobe" in file.getvalue()
    *colours, black = 1 - np.array(ink) / 255
    np.testing.assert_allclose(_read(file)[8, 8], np.array(colours) * black * 255, atol=2)


# How to turn a stored image upright, by EXIF orientation.
_SHOWN = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored),
}


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", _SHOWN)
def test_images_are_turned_upright(orientation, format):
    """For all eight EXIF orientations."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    file = _saved(Image.fromarray(_NOISE), format, exif=exif, **options)
    np.testing.assert_array_equal(_read(file), _SHOWN[orientation](_NOISE))


def test_jpegs_are_turned_upright():
    """As phones store them: the bright half is left in the file, and on top after the turn."""
    stored = np.zeros([16, 32, 3], np.uint8)
    stored[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    found = _read(_saved(Image.fromarray(stored), "JPEG", exif=exif))
    assert found.shape == (32, 16, 3)
    assert found[:12].min() > 200 and found[20:].max() < 50


def test_an_image_may_be_read_without_a_turn():
    """TensorFlow's decoder ignores EXIF data, too."""
    stored = _NOISE[:, ::-1]
    exif = Image.Exif()
    exif[0x0112] = 2
    file = _saved(Image.fromarray(stored), "PNG", exif=exif)
    np.testing.assert_array_equal(np.asarray(read_image(file, upright=False)), stored)
    file.seek(0)
    np.testing.assert_array_equal(np.asarray(read_image(file)), _NOISE)


@pytest.mark.parametrize("exif", [{"tEXt": b"Raw profile type exif\0\nexif\n2\nno digits\n"}, {"eXIf": b"rubbish"}])
def test_exif_data_that_cannot_be_read_do_no_harm(exif):
    """Other programs ignore them, too."""
    np.testing.assert_array_equal(_read(_png(2, 1, 8, 0, [bytes([7, 8])], **exif))[0], _gray([7, 8]))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_damaged_exif_data_do_no_harm(exif):
    """The image is read without a turn."""
    assert _read(_saved(Image.fromarray(_NOISE), "JPEG", exif=exif)).shape == (6, 9, 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
def test_an_incomplete_file_is_refused(tmp_path, format):
    """Although Pillow could read its upper half."""
    noise = np.random.RandomState(2).randint(0, 256, [64, 64, 3]).astype(np.uint8)
    whole = _saved(Image.fromarray(noise), format).getvalue()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=f"cannot read {tmp_path}/half"):
        read_image(tmp_path / "half")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"", "not a JPEG", id="empty"),
        pytest.param(b"<html>", "not a JPEG", id="HTML"),
        pytest.param(_saved(Image.fromarray(_NOISE), "TIFF").getvalue(), "not a JPEG", id="TIFF"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a JPEG", id="EPS"),
        pytest.param(_png(20000, 20000, 8, 0, []).getvalue(), "178 million", id="bomb"),
        pytest.param(_png(0, 0, 8, 0, []).getvalue(), "", id="no-pixels"),
    ],
)
def test_files_that_are_not_images_are_refused(content, why):
    """The error gives the reason, and the caller's name for the file."""
    with pytest.raises(ImageError, match="cannot read upload 7") as raised:
        read_image(io.BytesIO(content), "upload 7")
    assert why in raised.value.why


def test_files_that_cannot_be_opened_are_refused(tmp_path):
    """The error has the system's message."""
    for path, why in [(tmp_path / "missing.jpg", "No such file"), (tmp_path, "Is a directory")]:
        with pytest.raises(ImageError) as raised:
            read_image(path)
        assert why in raised.value.why


_WHOLE = [
    _saved(Image.fromarray(_NOISE), "JPEG").getvalue(),
    _saved(Image.fromarray(_NOISE), "PNG").getvalue(),
    _saved(Image.fromarray(_NOISE), "BMP").getvalue(),
    _saved(Image.fromarray(_NOISE), "GIF").getvalue(),
    _saved(Image.fromarray(_NOISE), "WEBP").getvalue(),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(_WHOLE), st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=4))
def test_damaged_files_are_read_or_refused(whole, damage):
    """Nothing else happens."""
    damaged = bytearray(whole)
    for place, value in damage:
        damaged[place % len(damaged)] = value
    try:
        assert read_image(io.BytesIO(bytes(damaged))).mode == "RGB"
    except ImageError:
        assert bytes(damaged) != whole


def _triangle(source, target):
    """Returns bilinear weights along an axis, [target, source]. The filter is wider where the axis shrinks."""
    scale = source / target
    centers = (np.arange(target)[:, np.newaxis] + 0.5) * scale
    distances = np.abs(np.arange(source) + 0.5 - centers) / max(scale, 1)
    weights = np.maximum(0, 1 - distances)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("height", "width"), [(3, 4), (12, 5), (20, 30), (6, 9)])
def test_the_whole_image_is_resized_bilinearly(height, width):
    """Smaller, larger, and one of each: equal to a computation by hand, up to rounding to 8 bits."""
    found = resized(Image.fromarray(_NOISE), height, width)
    wanted = np.einsum("hy,wx,yxc->hwc", _triangle(6, height), _triangle(9, width), _NOISE / 255)
    assert (found.dtype, found.shape) == (np.float32, (height, width, 3))
    np.testing.assert_allclose(found, wanted, atol=1.1 / 255)


def test_intensities_become_fractions():
    """0 becomes 0, and 255 becomes 1."""
    found = to_array(Image.fromarray(np.array([[[0, 51, 255]]], np.uint8)))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[[0, 0.2, 1]]], np.float32))


def _write_levels(folder, count, unreadable=()):
    """Writes images whose intensity is their number."""
    paths = [folder / f"{number:02}.png" for number in range(count)]
    for number, path in enumerate(paths):
        if number in unreadable:
            path.write_bytes(b"no image")
        else:
            Image.new("L", (4, 4), number).save(path)
    return paths


def _levels(pictures):
    return np.round(pictures[:, 0, 0] * 255)[:, :1]


def test_files_are_computed_in_batches_without_those_that_cannot_be_read(tmp_path):
    """In order, with full batches first. Progress counts every file."""
    paths = _write_levels(tmp_path, 8, unreadable=(0, 4, 7))
    skipped, ear = [], _Ear()
    found = list(
        apply_to_files(
            _levels, paths, 2, 2, batch_size=2, progress=ear, unreadable=lambda path, error: skipped.append(path)
        )
    )
    assert [batch.numbers.ravel().tolist() for batch in found] == [[1, 2], [3, 5], [6]]
    assert [batch.paths for batch in found] == [(paths[1], paths[2]), (paths[3], paths[5]), (paths[6],)]
    assert skipped == [paths[0], paths[4], paths[7]]
    assert ear.counts[0] == (0, 8) and ear.counts[-1] == (8, 8)


def test_only_a_few_batches_are_read_ahead(tmp_path, monkeypatch):
    """So that memory does not grow with the number of files. Reading stops when the caller stops."""
    paths = _write_levels(tmp_path, 60)
    seen = []

    def read_slowly(path):
        seen.append(path)
        time.sleep(0.03)
        return read_image(path)

    monkeypatch.setattr(image_batches, "read_image", read_slowly)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    running = apply_to_files(_levels, paths, 2, 2, batch_size=4, progress=Progress(), unreadable=pytest.fail)
    next(running)
    ahead = len(seen)
    running.close()
    stopped = len(seen)
    time.sleep(0.2)
    assert 4 < ahead and len(seen) == stopped < 2 * 4 + 2 * 3
    running = apply_to_files(_levels, paths, 2, 2, batch_size=4, progress=Progress(), unreadable=pytest.fail)
    seen.clear()
    next(running)
    time.sleep(0.3)
    assert len(seen) == 2 * 4 + 2 * 3
    running.close()


def test_files_are_read_by_several_threads_at_once(tmp_path, monkeypatch):
    """Each thread waits for another one. A single thread would wait forever."""
    meeting = threading.Barrier(2)
    monkeypatch.setattr(image_batches, "read_image", lambda path: meeting.wait(10) and None or read_image(path))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    paths = _write_levels(tmp_path, 4)
    found = list(apply_to_files(_levels, paths, 2, 2, batch_size=9, progress=Progress(), unreadable=pytest.fail))
    assert [batch.numbers.ravel().tolist() for batch in found] == [[0, 1, 2, 3]]


def test_a_module_that_outputs_nan_is_broken(tmp_path):
    """Instead of NaN in the results."""
    paths = _write_levels(tmp_path, 3)

    def break_one(pictures):
        return np.where(_levels(pictures) == 1, np.nan, 0)

    running = apply_to_files(break_one, paths, 2, 2, batch_size=3, progress=Progress(), unreadable=pytest.fail)
    with pytest.raises(ModuleError) as raised:
        list(running)
    assert "01.png" in raised.value.why
