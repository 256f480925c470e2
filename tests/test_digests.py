"""The graphs of MobileNet V2's modules keep their digests, which programs may compare."""

import hashlib
from pathlib import Path

import pytest

from hubexport import ModuleSpec, list_variants, load_variant
from hubexport.formats import tf1_hub, tf2_saved_model
from hubexport.formats.revision import FORMAT_REVISION
from hubexport.system.digests import file_sha256
from hubexport.variants import KINDS, TF1_VERSIONS, VERSIONS
from tests.data import DATA, needs_data

# The digests of three variants' modules, and those of all variants.
_SOME = Path(__file__).with_name("reference") / "saved_model.sha256"
_ALL = DATA / "networks" / "mobilenet_v2_saved_model.sha256"
# The digest of the first list, by format revision.
_REVISIONS = {1: "9da8af34993df6322312609c09888f8489e55c9dbd93217869ba0cd25abfa592"}


def _listed(path):
    """Returns the digests in a file, by variant and module."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    digests = {}
    for digest, name in lines:
        variant, kind, version, _ = name.split("/")
        digests.setdefault(variant, {})[f"{kind}/{version}"] = digest
    return digests


def _digests(name):
    """Returns the digests of all of a variant's modules, by module."""
    variant = load_variant(name)
    found = {}
    for kind in KINDS:
        for version in VERSIONS:
            spec = ModuleSpec(kind=kind, version=version)
            network = variant.network_for(kind, version)
            graph = (tf1_hub if version in TF1_VERSIONS else tf2_saved_model).saved_model_bytes(spec, network)
            found[str(spec)] = hashlib.sha256(graph).hexdigest()
    return found


@pytest.mark.parametrize("name", _listed(_SOME))
def test_saved_models_have_the_listed_digests(name):
    """For both kinds, in all versions: the smallest variant, one in between, and the largest."""
    assert _digests(name) == _listed(_SOME)[name]


def test_other_graphs_are_another_format_revision():
    """`hubexport verify` expects the same bytes of modules of the same revision."""
    assert _REVISIONS[FORMAT_REVISION] == file_sha256(_SOME), "raise FORMAT_REVISION, and add a line to _REVISIONS"
    assert max(_REVISIONS) == FORMAT_REVISION and len({*_REVISIONS.values()}) == len(_REVISIONS)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", [variant.name for variant in list_variants() if variant.network == "mobilenet_v2"])
def test_all_saved_models_have_the_listed_digests(name):
    """The same for every variant."""
    assert _digests(name) == _listed(_ALL)[name]


@needs_data
def test_the_lists_are_whole():
    """Of 22 variants, two kinds and five versions; what is listed here is listed there."""
    everything, some = _listed(_ALL), _listed(_SOME)
    assert set(everything) == {variant.name for variant in list_variants() if variant.network == "mobilenet_v2"}
    assert sum(map(len, everything.values())) == 220
    assert {name: everything[name] for name in some} == some
    assert len(some) == 3
