"""Both formats compute what an independent PyTorch implementation computed: the proof that every clone can repeat.

`tests/reference/pytorch_mobilenet_v2_050_96.npz` has three images and PyTorch's outputs for them with the weights of
`synthetic:1`. It is a cut of `reference/ref_0.5_96.npz` of the test data, where test_published.py has more.
"""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from hubexport import ModuleSpec, build_modules, load_variant
from tests.data import DATA, REPOSITORY, needs_data

_VARIANT = "mobilenet_v2_050_96"
_FILE = REPOSITORY / "tests" / "reference" / f"pytorch_{_VARIANT}.npz"
# Five times the float32 rounding of two implementations, as the file's makers measured it.
_TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def known():
    """The file's arrays."""
    with np.load(_FILE) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """A classification module of each format: TF1 Hub and TF2 SavedModel."""
    specs = [ModuleSpec.parse("classification/1"), ModuleSpec.parse("classification/5")]
    folder = tmp_path_factory.mktemp("modules")
    return dict(zip((1, 5), build_modules(load_variant(_VARIANT), specs, checkpoint="synthetic:1", output_dir=folder)))


def _images(known):
    return tf.constant(known["images_uint8"].astype(np.float32) / 255)


def _assert_equal(found, wanted):
    assert found.shape == wanted.shape
    assert np.abs(wanted).max() > 100 * _TOLERANCE, "the numbers must be large enough to tell"
    np.testing.assert_allclose(found, wanted, rtol=0, atol=_TOLERANCE)


@pytest.mark.parametrize(
    "signature", ["image_classification", pytest.param("image_feature_vector", marks=pytest.mark.slow)]
)
def test_tf1_format(modules, known, signature):
    """Through its signatures, which every TensorFlow 2 loads."""
    module = hub.load(str(modules[1]))
    _assert_equal(module.signatures[signature](images=_images(known))["default"].numpy(), known[signature])


def test_tf2_format(modules, known):
    """By a call; its features are an endpoint."""
    outputs = hub.load(str(modules[5]))(_images(known), return_endpoints=True)
    _assert_equal(outputs["default"].numpy(), known["image_classification"])
    _assert_equal(outputs["MobilenetV2/global_pool"].numpy()[:, 0, 0], known["image_feature_vector"])


@needs_data
def test_the_committed_file_is_a_cut_of_the_whole_one(known):
    """Bit for bit."""
    with np.load(DATA / "reference" / "ref_0.5_96.npz") as whole:
        for name, value in known.items():
            np.testing.assert_array_equal(value, whole[name][: len(value)])
