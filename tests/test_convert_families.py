"""Conversions that need no table keep every bit of every family's networks."""

import numpy as np
import pytest
import safetensors.numpy

from hubexport.checkpoints.v2_bundle import BundleReader
from hubexport.config_files import list_variants
from hubexport.conversion import convert
from hubexport.networks.registry import FAMILIES

# The published networks by number of values: small ones are quick, large ones have hundreds of megabytes.
_QUICK, _SLOW = 2_000_000, 12_000_000


def _cases():
    for family in FAMILIES.values():
        for parameters in family.published_parameters:
            size = sum(variable.size for variable in family.network(parameters, 224, 1001).variables)
            mark = [] if size < _QUICK else pytest.mark.slow if size < _SLOW else pytest.mark.prove
            name = "-".join(filter(None, (family.name, str(parameters))))
            yield pytest.param(family, parameters, id=name, marks=mark)


def _values(network):
    """Makes up values, among them some that arithmetic could change, and a variance as small as a trained one."""
    generator = np.random.default_rng(1)
    values = {one.name: generator.standard_normal(one.shape, np.float32) for one in network.variables}
    for one in network.variables:
        if one.role == "moving_variance":
            values[one.name] **= 2
            values[one.name][0] = 4e-35
        else:
            values[one.name].flat[:2] = [-0.0, 1e-42]
    return values


def _files(prefix):
    return {path.name.removeprefix(prefix.name): path.read_bytes() for path in prefix.parent.glob(f"{prefix.name}.*")}


@pytest.mark.parametrize(("family", "parameters"), [*_cases()])
def test_there_and_back_is_the_same_bit_for_bit(tmp_path, family, parameters):
    """From safetensors to TF-Slim's format, and from there to each and back; names and shapes tell the network."""
    values = _values(family.network(parameters, 224, 1001))
    safetensors.numpy.save_file(values, tmp_path / "source.safetensors")
    slim = convert(tmp_path / "source.safetensors", tmp_path / "slim", "slim")
    for to, name in (("safetensors", "c.safetensors"), ("tf2", "c")):
        converted = convert(slim, tmp_path / name, to, weights="raw")
        back = convert(converted, tmp_path / f"back-{to}", "slim")
        assert len(_files(back)) == 2
        assert _files(back) == _files(slim)
    stored = BundleReader(slim)
    by_safetensors = safetensors.numpy.load_file(tmp_path / "c.safetensors")
    assert stored.shapes.keys() == by_safetensors.keys() == values.keys()
    for name, value in values.items():
        for found in (stored.read(name), by_safetensors[name]):
            assert found.shape == value.shape and found.tobytes() == value.tobytes(), name


def test_the_networks_above_are_those_of_all_variants():
    """No variable depends on the size of the images, or on the version of a module."""
    for variant in list_variants():
        network = variant.family.network(variant.family_parameters, 224, variant.num_classes)
        assert variant.family_parameters in variant.family.published_parameters
        for version in variant.family.versions:
            assert variant.network_for("classification", version).variables == network.variables
