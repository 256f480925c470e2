"""Modules in the real hub.Module and hub.KerasLayer, compared with numbers from other programs."""

import tarfile

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from hubexport import ModuleSpec, build_modules, load_variant
from tests.data import DATA, REAL_ARCHIVE, needs_data, photographs, reference_outputs

hub = pytest.importorskip("tensorflow_hub")
keras = pytest.importorskip("tensorflow").keras
pytestmark = [
    needs_data,
    pytest.mark.skipif(not hasattr(hub, "Module"), reason="tensorflow-hub 0.15 is the last with hub.Module"),
]


def _predict(path, images, signature):
    with tf.Graph().as_default(), tf.Session() as session:
        output = hub.Module(str(path))(tf.constant(images), signature=signature)
        session.run(tf.global_variables_initializer())
        return session.run(output)


def _built(variant, module, checkpoint, output_dir, weights="averaged"):
    spec = ModuleSpec.parse(module)
    [path] = build_modules(
        load_variant(variant), [spec], checkpoint=str(checkpoint), output_dir=output_dir, weights=weights
    )
    return path


@pytest.mark.parametrize(
    ("variant", "module", "signatures"),
    [
        ("mobilenet_v2_075_192", "feature_vector/2", ["image_feature_vector"]),
        ("mobilenet_v2_050_96", "classification/1", ["image_feature_vector", "image_classification"]),
        *(
            pytest.param(*case, marks=pytest.mark.prove)
            for case in [
                ("mobilenet_v2_075_192", "classification/2", ["image_feature_vector", "image_classification"]),
                ("mobilenet_v2_050_96", "feature_vector/1", ["image_feature_vector"]),
            ]
        ),
    ],
)
@pytest.mark.slow
def test_seed_modules_compute_what_an_independent_pytorch_network_computed(tmp_path, variant, module, signatures):
    """Each signature, on nine images."""
    path = _built(variant, module, "synthetic:1", tmp_path)
    wanted = reference_outputs(variant)
    for signature in signatures:
        found = _predict(path, wanted["images"], signature)
        assert found.shape == wanted[signature].shape
        np.testing.assert_allclose(found, wanted[signature], rtol=0, atol=5e-5, err_msg=signature)
    default = _predict(path, wanted["images"], None)
    np.testing.assert_array_equal(default, _predict(path, wanted["images"], signatures[-1]))


def test_real_weights_classify_all_photographs_right(tmp_path):
    """The top-1 class of each of the eight photographs is right."""
    images, labels = photographs(224)
    path = _built("mobilenet_v2_100_224", "classification/2", REAL_ARCHIVE, tmp_path)
    assert _predict(path, images, "image_classification").argmax(axis=1).tolist() == labels
    assert len(labels) == len(list((DATA / "images").glob("*.jpg"))) == 8


@pytest.mark.slow
def test_raw_weights_classify_the_photographs_wrong(tmp_path):
    """This checkpoint's raw weights are deliberately noisy, so that using them by mistake shows."""
    images, labels = photographs(224)
    path = _built("mobilenet_v2_100_224", "classification/2", REAL_ARCHIVE, tmp_path, weights="raw")
    predicted = _predict(path, images, "image_classification").argmax(axis=1)
    assert all(found != label for found, label in zip(predicted, labels, strict=True))


@pytest.mark.slow
def test_real_weights_classify_all_photographs_right_in_keras(tmp_path):
    """hub.KerasLayer gives the logits of the TF1 module."""
    images, labels = photographs(224)
    tf1 = _built("mobilenet_v2_100_224", "classification/3", REAL_ARCHIVE, tmp_path)
    tf2 = _built("mobilenet_v2_100_224", "classification/5", REAL_ARCHIVE, tmp_path)
    model = keras.Sequential([hub.KerasLayer(str(tf2))])
    logits = model.predict(images, verbose=0)
    assert logits.argmax(axis=1).tolist() == labels
    np.testing.assert_allclose(logits, _predict(tf1, images, "image_classification"), rtol=0, atol=1e-5)


@pytest.mark.prove
def test_fine_tuning_real_weights_in_keras_learns_the_photographs(tmp_path):
    """Eight classes of one photograph each.

    Batch norm's stored statistics are made up in this checkpoint, so that its features vanish in training mode, and
    have to be learned anew: the loss begins at ln 8 and the weight decay.
    """
    images, _ = photographs(224)
    labels = np.arange(len(images))
    path = _built("mobilenet_v2_100_224", "feature_vector/5", REAL_ARCHIVE, tmp_path)
    layer = hub.KerasLayer(str(path), trainable=True, arguments={"batch_norm_momentum": 0.5})
    model = keras.Sequential([layer, keras.layers.Dense(len(labels), kernel_initializer="zeros")])
    model.compile(
        optimizer=keras.optimizers.Adam(0.003),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    losses = model.fit(images, labels, batch_size=len(labels), epochs=20, verbose=0).history["loss"]
    weight_decay = losses[0] - np.log(len(labels))
    assert losses[-1] - weight_decay < 0.6 * np.log(len(labels)), losses
    # Not in training mode any more: the averages have moved along.
    assert model.evaluate(images, labels, verbose=0, return_dict=True)["accuracy"] >= 0.5


@pytest.mark.slow
def test_probabilities_are_those_of_the_publishers_frozen_graph(tmp_path):
    """Another program froze the graph that the archive contains."""
    images, _ = photographs(224)
    path = _built("mobilenet_v2_100_224", "classification/2", REAL_ARCHIVE, tmp_path)
    with tarfile.open(REAL_ARCHIVE) as archive:
        frozen = tf.GraphDef.FromString(archive.extractfile("./mobilenet_v2_1.0_224_frozen.pb").read())
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(frozen, name="")
        wanted = session.run("MobilenetV2/Predictions/Reshape_1:0", {"input:0": images * 2 - 1})
    with tf.Graph().as_default(), tf.Session() as session:
        outputs = hub.Module(str(path))(tf.constant(images), as_dict=True)
        session.run(tf.global_variables_initializer())
        found = session.run(outputs["MobilenetV2/Predictions"])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
