"""A second network that only a test knows: what is written for one network must not be silently true of MobileNet V2.

It has what MobileNet V2 lacks: plain ReLUs, explicit padding, a biased convolution in the middle, images of any size.
"""

import numpy as np
import pytest
import tensorflow as tf

from hubexport.build import build_modules
from hubexport.checkpoints.recognize import recognize
from hubexport.checkpoints.synthetic import synthetic_value
from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.config_files import load_variant
from hubexport.conversion import convert
from hubexport.errors import UsageError
from hubexport.layouts.registry import KNOWN_LAYOUTS
from hubexport.networks.builder import Builder, Defaults
from hubexport.networks.family import DepthMultiplier, Family, Paper
from hubexport.networks.numpy_forward import Forward
from hubexport.networks.registry import FAMILIES
from hubexport.verify.checks.registry import select_checks
from hubexport.verify.verify_module import verify_module
from tests.checkpoints import Shapes
from tests.graphs import checkpoint_values, imported, read_saved_model
from tests.toys import registered

_CONFIG = """\
network: toy
depth_multiplier: 0.5
image_size: 33
num_classes: 5
dataset: made up
modules: [feature_vector/3, classification/3, feature_vector/5, classification/5]
"""
_DEFAULTS = Defaults(activation="relu", batch_norm_epsilon=1e-4, weight_decay=1e-3)
_RELUS = 4


def _toy(parameters, image_size, num_classes):
    b = Builder("Toy", image_size, _DEFAULTS)
    net = b.conv("Conv", b.images, round(16 * parameters.depth_multiplier), kernel=3, stride=2, padding="explicit")
    first = b.endpoint("Toy/Conv", net)
    net = b.depthwise_conv("depthwise", net, kernel=3)
    net = b.conv("biased", net, b.channels(first), batch_norm=False)
    net = b.batch_norm("norm", b.add("add", net, first))
    pooled = b.endpoint("Toy/pool", b.mean("pool", net))
    features = b.features(pooled)
    logits = None
    if num_classes is not None:
        net = b.conv("Logits", b.dropout("Dropout", pooled, 0.9), num_classes, batch_norm=False, activation=None)
        logits = b.endpoint("Toy/Logits", b.squeeze("Squeeze", net))
    return b.network(features=features, logits=logits, input_range=(-2.0, 5.0))


_FAMILY = Family(
    name="toy",
    title="Toy",
    page_tag="toy",
    about="Toys are small.",
    paper=Paper(title="Toys", authors="A. Child", year=2001, url="https://example.invalid/"),
    pretrained=None,
    lay_out=_toy,
    telling_variable="Toy/Conv/weights",
    momentum=0.9,
    parameters=DepthMultiplier,
    published_parameters=(DepthMultiplier(depth_multiplier=1.0), DepthMultiplier(depth_multiplier=0.5)),
)


@pytest.fixture(autouse=True)
def toy():
    """Registers the family, before all others."""
    with registered(_FAMILY):
        yield


@pytest.fixture
def variant(tmp_path):
    """A variant of the toy, with five classes."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "toy_050_33.yaml").write_text(_CONFIG)
    return load_variant("toy_050_33", folder)


@pytest.fixture
def modules(tmp_path, variant):
    """Its four modules, by kind and version."""
    built = build_modules(variant, checkpoint="synthetic:1", output_dir=tmp_path / "modules")
    return dict(zip(map(str, variant.modules), built, strict=True))


def test_modules_compute_what_the_ops_say(modules, variant):
    """In both formats, for images of another size, too: plain ReLUs, and the toy's own input range."""
    network = variant.network_for("classification", 3)
    images = np.random.default_rng(1).random((2, 20, 41, 3), np.float32)
    values = {one.name: synthetic_value(one, 1) for one in network.variables}
    wanted = Forward(network, values, images).run()
    assert max(value.max() for value in wanted.values()) > 6, "or ReLU6 would compute the same"
    saved = (modules["classification/3"] / "saved_model.pb").read_bytes()
    with imported(read_saved_model(saved)[()], checkpoint_values(modules["classification/3"])) as graph:
        found = graph.run("image_classification", images)
        found["features"] = graph.run("image_feature_vector", images)["default"]
        kinds = [node.op for node in graph.meta_graph.graph_def.node]
    # The signatures for features and for classes share one network.
    assert (kinds.count("Relu"), kinds.count("Relu6")) == (_RELUS, 0)
    loaded = tf.saved_model.load(str(modules["classification/5"]))
    others = {key: value.numpy() for key, value in loaded(images, return_endpoints=True).items()}
    others["features"] = tf.saved_model.load(str(modules["feature_vector/5"]))(images).numpy()
    for outputs in (found, others):
        for key, name in {"default": network.logits, "features": network.features, **network.endpoints}.items():
            np.testing.assert_allclose(outputs[key], wanted[name], rtol=1e-5, atol=1e-5, err_msg=key)


def test_no_node_of_a_module_is_a_relu6(modules):
    """In training neither: the toy's activation is ReLU."""
    for path in modules.values():
        saved = (path / "saved_model.pb").read_bytes()
        assert b"Relu6" not in saved and b"Relu" in saved


def test_modules_have_the_right_structure_and_weights(modules):
    """As `verify` judges it; it has no reference network to compare numbers with."""
    checks = select_checks(["structure", "weights"])
    for spec, path in modules.items():
        verification = verify_module(str(path), checkpoint="synthetic:1", checks=checks)
        assert verification.passed, (spec, verification.failed)


@pytest.mark.parametrize("classes", [5, None])
def test_its_checkpoints_are_recognized(classes):
    """Its biased convolution is not taken for the classifier."""
    for parameters in _FAMILY.published_parameters:
        shapes = {one.name: one.shape for one in _FAMILY.network(parameters, 33, classes).variables}
        found = recognize(Shapes(shapes))
        assert (found.family, found.parameters, found.num_classes, found.further) == (_FAMILY, parameters, classes, ())
        assert found.classifier == (("Toy/Logits/weights", "Toy/Logits/biases") if classes else ())
        assert getattr(found.network().classifier, "name", None) == ("Toy/Logits" if classes else None)


@pytest.mark.parametrize("layout", KNOWN_LAYOUTS)
def test_other_families_are_recognized_beside_it(layout):
    """In Keras's and Hugging Face's layouts, which have no table for the toy."""
    for family in FAMILIES.values():
        if KNOWN_LAYOUTS[layout].has(family.name):
            network = family.network(family.published_parameters[0], max(96, family.smallest_size), 5)
            shapes = {entry.name: entry.shape for entry in KNOWN_LAYOUTS[layout].of(network)}
            # Of two networks with the same variables, a mean beside them tells which it is.
            unused = {one.pattern.replace("*", "Conv2d/weights"): (3,) for one in family.unused_variables}
            found = recognize(Shapes(shapes | unused))
            assert (found.layout, found.family, found.num_classes) == (layout, family, 5)


@pytest.mark.parametrize(("to", "name"), [("slim", "c.ckpt"), ("safetensors", "c.safetensors"), ("tf2", "c")])
def test_it_converts_there_and_back_bit_for_bit(tmp_path, variant, to, name):
    """No format without a table needs to know it, and its own names tell what it is."""
    values = {one.name: synthetic_value(one, 1) for one in variant.network_for("classification").variables}
    there = convert("synthetic:1", tmp_path / name, to, variant=variant)
    back = BundleReader(convert(there, tmp_path / "back", "slim", weights="raw"))
    assert {name: back.read(name).tobytes() for name in back.shapes} == {
        name: value.tobytes() for name, value in values.items()
    }


@pytest.mark.parametrize(("to", "name"), [("keras", "c.h5"), ("huggingface", "c")])
def test_frameworks_that_lack_it_are_refused(tmp_path, variant, to, name):
    """With the families that they have."""
    with pytest.raises(UsageError, match="toy") as caught:
        convert("synthetic:1", tmp_path / name, to, variant=variant)
    assert "mobilenet_v2" in caught.value.why
    assert not (tmp_path / name).exists()
