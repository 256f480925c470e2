"""The graphs of all modules keep their digests, which programs may compare."""

import hashlib

import pytest

from hubexport import ModuleSpec, list_variants
from hubexport.formats import tf1_hub, tf2_saved_model
from hubexport.variants import KINDS, TF1_VERSIONS, VERSIONS
from tests.data import DATA, needs_data

_LIST = DATA / "networks" / "mobilenet_v2_saved_model.sha256"


def _listed():
    lines = (line.split() for line in _LIST.read_text(encoding="utf-8").splitlines())
    return {path: digest for digest, path in lines}


@needs_data
@pytest.mark.parametrize("variant", list_variants(), ids=lambda variant: variant.name)
def test_saved_models_have_the_listed_digests(variant):
    """For both kinds, in all versions."""
    found = {}
    for kind in KINDS:
        network = variant.network_for(kind)
        for version in VERSIONS:
            spec = ModuleSpec(kind=kind, version=version)
            graph = (tf1_hub if version in TF1_VERSIONS else tf2_saved_model).saved_model_bytes(spec, network)
            found[f"{variant.name}/{spec}/saved_model.pb"] = hashlib.sha256(graph).hexdigest()
    assert found == {path: digest for path, digest in _listed().items() if path.startswith(f"{variant.name}/")}
    assert len(found) == 10
