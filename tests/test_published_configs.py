"""The built-in configs agree with the published facts of `shared/data/networks/imagenet_models.csv`."""

import pytest

from hubexport import list_variants
from hubexport.variants import KINDS
from tests.data import needs_data, network_table

_UNKNOWN = ("", "unknown")
_PUBLIC_HOST = ("http://download.tensorflow.org/", "https://storage.googleapis.com/download.tensorflow.org/")


def _has_config(row):
    """Quantized models have none, and MobileNet V2 has a table of its own."""
    return not any(part in row["variant"] for part in ("quantops", "mobilenet_v2"))


def _number(text):
    return float(text) if text else None


def _multipliers(row):
    """Returns the depth multiplier among the arguments of TF-Slim's function, if it is one."""
    arguments = dict(argument.split(" ")[0].partition("=")[::2] for argument in row["arguments"].split("; "))
    return {name: float(value) for name, value in arguments.items() if name == "depth_multiplier"}


@needs_data
def test_every_published_model_has_a_config():
    """And every config is of a published model."""
    names = {variant.name for variant in list_variants() if variant.network != "mobilenet_v2"}
    assert names == {name for name, row in network_table().items() if _has_config(row)}


@needs_data
@pytest.mark.parametrize("variant", [v for v in list_variants() if v.network != "mobilenet_v2"], ids=lambda v: v.name)
def test_a_config_has_the_published_facts(variant):
    """Sizes, checkpoint, figures and versions; what the facts do not know, the config leaves out."""
    row = network_table()[variant.name]
    network = variant.network_for("feature_vector")
    assert (variant.image_size, variant.num_classes) == (int(row["image_size"]), int(row["num_classes"]))
    assert network.num_features == int(row["num_features"])
    scope = "" if row["slim_scope"].startswith("(none") else f"{row['slim_scope']}/"
    assert next(iter(network.variables)).name.startswith(scope or "conv0/")
    assert dict(variant.family_parameters) == _multipliers(row)
    assert variant.handle("classification/5") == f"google/imagenet/{row['variant']}/classification/5"
    if row["batch_norm_decay"] != "none":
        assert variant.family.momentum == network.momentum == float(row["batch_norm_decay"])
    member = row["checkpoint_name_in_archive"].rpartition("/")[2]
    if member in _UNKNOWN:
        assert variant.checkpoint is None
    else:
        found = variant.checkpoint
        assert (found.url, found.name) == (row["archive_url"].replace(*_PUBLIC_HOST), member)
        assert found.sha256 == (row["sha256"] or None)
        # The raw values lie beside the averages, and have the same step in their name.
        has_two = "pristine" in row["has_averaged_values"] or row["has_averaged_values"] == "yes, as above"
        assert found.raw_name == (member.replace("model-", "model.ckpt-") if has_two else None)
    versions = {int(one.partition("=")[0]) for one in row["tfhub_feature_vector_versions"].split(";") if one}
    assert set(variant.family.versions) == (versions or {3, 5})
    built = [f"{kind}/{version}" for version in (3, 5) if version in variant.family.versions for kind in KINDS]
    assert list(map(str, variant.modules)) == built
    if versions:
        open_from = row["tfhub_variable_input_size_from"].replace("never (fixed)", "")
        assert variant.family.open_from_version == (int(open_from) if open_from else None)


@needs_data
@pytest.mark.parametrize("variant", [v for v in list_variants() if v.network != "mobilenet_v2"], ids=lambda v: v.name)
def test_a_config_has_the_published_figures(variant):
    """The accuracy of MobileNet EdgeTPU is that of another model, of 8 bits."""
    row = network_table()[variant.name]
    columns = {"top1_percent": "top1", "top5_percent": "top5"} if variant.network != "mobilenet_edgetpu" else {}
    columns |= {"parameters_millions": "params_millions", "macs_millions": "multiply_adds_millions"}
    figures = variant.published.model_dump() if variant.published else dict.fromkeys(columns)
    assert {key: figures[key] for key in columns} == {key: _number(row[column]) for key, column in columns.items()}
