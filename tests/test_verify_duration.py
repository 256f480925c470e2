"""Users hear of a proof that takes over ten minutes before it begins."""

from pathlib import Path

import pytest

from hubexport.build import build_modules
from hubexport.config_files import load_variant
from hubexport.consumers.registry import CONSUMERS
from hubexport.modules.identity import ModuleIdentity
from hubexport.variants import ModuleSpec
from hubexport.verify.duration import warning_of_length
from hubexport.verify.verify_module import verify_module
from tests.ear import Ear


def _identity(name, text):
    variant, spec = load_variant(name), ModuleSpec.parse(text)
    return ModuleIdentity(Path("m"), "m", None, variant, spec, variant.network_for(spec.kind, spec.version))


@pytest.mark.parametrize(
    ("name", "module", "consumers", "said"),
    [
        ("mobilenet_v2_035_96", "classification/3", (), None),
        ("mobilenet_v2_035_96", "classification/3", CONSUMERS[:2], None),
        ("nasnet_large", "feature_vector/5", (), None),
        ("nasnet_mobile", "feature_vector/1", CONSUMERS, "in 8 TensorFlows"),
        ("nasnet_large", "feature_vector/5", CONSUMERS[:1], None),  # It loads no TF2 SavedModels.
        ("nasnet_large", "feature_vector/5", CONSUMERS, "in 4 TensorFlows"),
    ],
)
def test_a_long_proof_is_said_to_be_long(name, module, consumers, said):
    """Large networks in many TensorFlows take long; those that cannot load the module take nothing."""
    line = warning_of_length(_identity(name, module), consumers)
    assert (line is None) == (said is None)
    assert line is None or (said in line and "--consumers" in line and "--checks rebuild" in line)


def test_the_checks_themselves_may_be_long(monkeypatch):
    """Then there are no TensorFlows to leave out."""
    monkeypatch.setattr("hubexport.verify.duration._LONG_S", 100.0)
    line = warning_of_length(_identity("nasnet_large", "feature_vector/5"), ())
    assert "--checks rebuild" in line and "TensorFlows" not in line


def test_only_a_proof_with_tensorflow_is_announced(small, tmp_path, monkeypatch):
    """Checks of files take seconds, but other TensorFlows do not, whatever checks there are beside them."""
    monkeypatch.setattr("hubexport.verify.duration._LONG_S", 0.0)
    [path] = build_modules(small, [ModuleSpec.parse("feature_vector/3")], checkpoint="synthetic:1", output_dir=tmp_path)
    # The first consumer cannot load the module, so it takes no time here.
    for check, consumers, lines in (("structure", (), 0), ("numbers.sizes", (), 1), ("structure", CONSUMERS[:1], 1)):
        progress = Ear()
        verify_module(path, checks=[check], consumers=consumers, progress=progress)
        assert len([note for note in progress.notes if note.startswith("proving ")]) == lines
