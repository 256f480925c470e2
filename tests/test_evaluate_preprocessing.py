"""The preprocessing of evaluations, compared with TensorFlow's own operations."""

import argparse

from PIL import Image
import numpy as np
import pytest
import tensorflow as tf

from hubexport.cli import evaluate
from hubexport.evaluation.evaluation_preprocessing import (
    PREPROCESSINGS,
    central_crop,
    preprocess_for_eval,
    resize_bilinear,
)

_SIZES = [(375, 500), (500, 375), (331, 499), (224, 224), (1, 1), (1, 9), (2, 3), (7, 8), (8, 7), (15, 17), (97, 31)]


def _picture(height, width):
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _as_tf_slim(pixels, height, width):
    """The lines of TF-Slim's `inception_preprocessing.preprocess_for_eval`, without the step to [-1, 1]."""
    image = tf.image.convert_image_dtype(tf.constant(pixels), dtype=tf.float32)
    image = tf.image.central_crop(image, central_fraction=0.875)
    image = tf.expand_dims(image, 0)
    image = tf.compat.v1.image.resize_bilinear(image, [height, width], align_corners=False)
    return tf.squeeze(image, [0]).numpy()


@pytest.mark.parametrize(("height", "width"), _SIZES)
def test_central_crop_is_tensorflows(height, width):
    """Odd and tiny sizes are rounded as TensorFlow does."""
    pixels = _picture(height, width)
    np.testing.assert_array_equal(central_crop(pixels), tf.image.central_crop(pixels, 0.875).numpy())


@pytest.mark.parametrize(("height", "width"), [(224, 224), (96, 96), (192, 160), (1, 1), (7, 513)])
@pytest.mark.parametrize(("before_height", "before_width"), _SIZES)
def test_preprocessing_is_tf_slims(before_height, before_width, height, width):
    """Smaller, larger and equal sizes, bit for bit."""
    pixels = _picture(before_height, before_width)
    prepared = preprocess_for_eval(Image.fromarray(pixels), height, width)
    assert prepared.dtype == np.float32
    np.testing.assert_array_equal(prepared, _as_tf_slim(pixels, height, width))


def test_the_command_offers_each_preprocessing():
    """The choices come from a module that imports nothing heavy."""
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    [choices] = [action.choices for action in parser._actions if action.dest == "preprocessing"]
    assert choices == tuple(PREPROCESSINGS)


def test_resize_has_no_half_pixel_centers():
    """Two pixels become four, computed by hand. TensorFlow 2's resize would give 0, 0.25, 0.75, 1."""
    pixels = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    assert resize_bilinear(pixels, 1, 4)[0, :, 0].tolist() == [0.0, 0.5, 1.0, 1.0]


def test_the_whole_picture_is_resized_with_antialiasing():
    """By Pillow, as in `hubexport classify`. TensorFlow's antialiasing agrees up to rounding to 8 bits."""
    pixels = _picture(301, 203)
    prepared = PREPROCESSINGS["whole"].apply(Image.fromarray(pixels), 96, 64)
    resized = tf.image.resize(pixels.astype(np.float32) / 255, [96, 64], antialias=True).numpy()
    np.testing.assert_allclose(prepared, resized, rtol=0, atol=1.01 / 255)
