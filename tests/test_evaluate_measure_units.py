"""Units are turned into counts, here by a stand-in for a module."""

import io
from types import SimpleNamespace

from PIL import Image
import numpy as np

from hubexport.evaluation.accuracy_counts import AccuracyCounts
from hubexport.evaluation.dataset_units import Sample
from hubexport.evaluation.evaluation_options import EvaluationOptions
from hubexport.evaluation.measure_units import measure_units


class _Brightest:
    """A module that finds the brightest channel of each image, and records how many images were read ahead."""

    interface = SimpleNamespace(image_shape=(4, 4, 3), output_shape=(3,), output_kind="logits")

    def __init__(self):
        self.read = 0
        self.done = 0
        self.ahead = []

    def run(self, images):
        self.ahead.append(self.read - self.done)
        self.done += len(images)
        return {"default": images.mean(axis=(1, 2))}


class _Unit:
    """Twenty plain images, each labelled with its brightest channel, and one record that is not an image."""

    size = 21

    def __init__(self, module):
        self._module = module

    def samples(self):
        for number in range(20):
            file = io.BytesIO()
            Image.new("RGB", (9, 7), tuple(200 * (channel == number % 3) for channel in range(3))).save(file, "png")
            self._module.read += 1
            yield Sample(str(number), number % 3, file.getvalue())
        yield Sample("none", 0, b"no picture")


def test_images_are_not_read_further_ahead_than_needed():
    """At most three batches and one image, so memory does not grow with the data. Reading goes on across units."""
    module = _Brightest()
    counts = list(measure_units([_Unit(module), _Unit(module)], module, EvaluationOptions(batch_size=4, threads=2)))
    unreadable = "none: it is not a JPEG, PNG, BMP, GIF or WebP file, or its first bytes are damaged"
    assert counts == [AccuracyCounts(20, 20, 20, (unreadable,))] * 2
    assert max(module.ahead) <= 3 * 4 + 1
    assert module.ahead[5] > 4, "nothing of the next unit was read ahead"


def test_images_are_right_only_if_the_label_says_so():
    """With other labels, the same module is wrong."""
    module = _Brightest()
    unit = _Unit(module)
    wrong = SimpleNamespace(
        samples=lambda: (Sample(one.name, (one.label + 1) % 3, one.source) for one in unit.samples())
    )
    [counts] = measure_units([wrong], module, EvaluationOptions(batch_size=7))
    assert (counts.images, counts.top1, counts.top5) == (20, 0, 20)


def test_images_are_prepared_as_the_options_say():
    """Only the middle of an image, or all of it."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[1:-1, 1:-1] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    darkest = {}
    for preprocessing in ("central_crop", "whole"):
        module = _Brightest()
        module.run = lambda images: darkest.update({preprocessing: images.min()}) or {"default": images[:, 0, 0]}
        unit = SimpleNamespace(samples=lambda: iter([Sample("a", 0, file.getvalue())]))
        list(measure_units([unit], module, EvaluationOptions(preprocessing)))
    assert darkest["central_crop"] == 1
    assert darkest["whole"] < 1


def test_images_are_turned_only_if_the_preprocessing_says_so():
    """The left half of the stored image is bright, and the right half of the turned one."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 2
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", exif=exif)
    brightness = {}
    for preprocessing in ("central_crop", "whole"):
        module = _Brightest()
        module.run = lambda images: brightness.update({preprocessing: images[0, 0, 0, 0]}) or {
            "default": images[:, 0, 0]
        }
        unit = SimpleNamespace(samples=lambda: iter([Sample("a", 0, file.getvalue())]))
        list(measure_units([unit], module, EvaluationOptions(preprocessing)))
    assert brightness == {"central_crop": 1, "whole": 0}
