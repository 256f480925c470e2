"""`hubexport verify` of a network whose training drops paths at random: chance makes no check fail."""

import pytest

from hubexport.build import build_modules
from hubexport.config_files import load_variant
from hubexport.consumers.registry import select_consumers
from hubexport.networks.builder import Builder, Defaults
from hubexport.networks.family import Family, Paper
from hubexport.verify.verify_module import verify_module
from tests.environments import python_or_skip
from tests.toys import registered

_CONFIG = """\
network: dropping
image_size: 20
num_classes: 5
dataset: made up
modules: [classification/3, classification/5]
"""
_DEFAULTS = Defaults(activation="relu", batch_norm_epsilon=1e-3, weight_decay=1e-3)
# Of so many, one is dropped for all images in six of seven steps.
_PATHS = 30


def _dropping(parameters, image_size, num_classes):
    b = Builder("Dropping", image_size, _DEFAULTS)
    stem = b.conv("stem", b.images, 4, kernel=3, stride=10)
    paths = [b.drop_path(f"drop_{n}", b.conv(f"path_{n}", stem, 2, activation=None), 0.5) for n in range(_PATHS)]
    pooled = b.endpoint(
        "Dropping/pool", b.mean("pool", b.batch_norm("last", b.concat("joined", paths), activation=None))
    )
    features = b.features(pooled)
    logits = None
    if num_classes is not None:
        net = b.conv("Logits", pooled, num_classes, batch_norm=False, activation=None)
        logits = b.endpoint("Dropping/Logits", b.squeeze("Squeeze", net))
    return b.network(features=features, logits=logits)


_FAMILY = Family(
    name="dropping",
    title="Dropping",
    page_tag="dropping",
    about="Paths come and go.",
    paper=Paper(title="Paths", authors="A. Walker", year=2001, url="https://example.invalid/"),
    pretrained=None,
    lay_out=_dropping,
    telling_variable="Dropping/stem/weights",
    momentum=_DEFAULTS.batch_norm_momentum,
)


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Its modules, by kind and version."""
    folder = tmp_path_factory.mktemp("dropping")
    (folder / "dropping.yaml").write_text(_CONFIG)
    with registered(_FAMILY):
        variant = load_variant("dropping", folder)
        paths = build_modules(variant, checkpoint="synthetic:1", output_dir=folder / "modules")
        yield dict(zip(map(str, variant.modules), paths, strict=True))


@pytest.mark.parametrize("spec", [pytest.param("classification/3", marks=pytest.mark.prove), "classification/5"])
@pytest.mark.slow
def test_dropped_paths_make_no_check_fail(modules, spec):
    """Training is compared in a copy that drops no path, and there all of it is."""
    checks = ["behaviour"]
    verification = verify_module(modules[spec], checkpoint="synthetic:1", checks=checks)
    results = {result.check: result for result in verification.results}
    assert {name: one.explanation for name, one in results.items() if one.status == "fail"} == {}
    not_applicable = [name for name, one in results.items() if one.status == "not applicable"]
    assert not_applicable == ["behaviour.dropout"]
    assert "Dropping/drop_0 comes before them" in results["behaviour.dropout"].explanation


@pytest.mark.prove
@pytest.mark.consumers
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("spec", "consumer"),
    [("classification/3", "tf1.15"), ("classification/5", "tf2.21")],
)
def test_dropped_paths_make_no_consumer_fail(modules, spec, consumer):
    """It trains until each path was kept, and compares the averages of replicas before anything is dropped."""
    python_or_skip(select_consumers([consumer])[0].environment)
    verification = verify_module(
        modules[spec], checkpoint="synthetic:1", checks=["structure"], consumers=select_consumers([consumer])
    )
    assert {result.check: result.explanation for result in verification.results if result.status == "fail"} == {}
    assert verification.results[-1].check == f"consumers.{consumer}"
