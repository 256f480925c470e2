"""The checks that build a module again: what they accept, what they refuse, and in which words."""

import json
import subprocess
import sys
import tarfile

import pytest

from hubexport.build import build_modules
from hubexport.config_files import load_variant
from hubexport.formats.manifest import manifest_content
from hubexport.formats.revision import FORMAT_REVISION
from hubexport.protos import AttrValue, GraphDef, NodeDef
from hubexport.system.digests import file_sha256
from hubexport.verify.message_differences import message_differences
from hubexport.verify.verify_module import verify_module
from tests import mutations, subtle_mutations
from tests.checkpoints import training_values, write_v2
from tests.command import environment
from tests.mutations import update_digests
from tests.subtle_mutations import edit_manifest

_CONFIG = """\
network: mobilenet_v2
depth_multiplier: 0.35
image_size: 96
num_classes: 7
dataset: made up
labels: labels.txt
checkpoint:
  url: https://example.invalid/small.tgz
  sha256: "{sha256}"
  name: model.ckpt
modules:
  - classification/3
  - classification/5
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A published archive with a training checkpoint."""
    folder = tmp_path_factory.mktemp("archive")
    write_v2(folder / "model.ckpt", training_values())
    with tarfile.open(folder / "small.tgz", "w:gz") as tar:
        for path in sorted(folder.glob("model.ckpt.*")):
            tar.add(path, path.name)
    return folder / "small.tgz"


@pytest.fixture(scope="module")
def variant(archive):
    """A variant whose config names the archive, and the names of its classes."""
    (archive.parent / "labels.txt").write_text("".join(f"{name}\n" for name in "abcdefg"))
    (archive.parent / "small.yaml").write_text(_CONFIG.format(sha256=file_sha256(archive)))
    return load_variant("small", archive.parent)


@pytest.fixture(scope="module")
def built(variant, archive, tmp_path_factory):
    """A module in each format; tests must not change them."""
    return build_modules(variant, checkpoint=archive, output_dir=tmp_path_factory.mktemp("built"))


@pytest.fixture
def modules(variant, archive, tmp_path):
    """A module in each format."""
    return build_modules(variant, checkpoint=archive, output_dir=tmp_path / "modules")


def _rebuild(module, **arguments):
    """Returns the results of the checks."""
    return verify_module(module, checks=["rebuild"], **arguments).results


def _lines(results):
    """Returns all problems."""
    return [line for result in results if result.status == "fail" for line in result.details or [result.explanation]]


@pytest.mark.parametrize("format_", [0, 1], ids=["TF1", "TF2"])
def test_a_module_is_the_same_as_one_that_is_built_again(built, variant, archive, format_):
    """From its checkpoint or from its own values, whether or not a config describes its variant."""
    for arguments in ({}, {"variant": variant}, {"checkpoint": archive}, {"checkpoint": archive, "variant": variant}):
        files, manifest = _rebuild(built[format_], **arguments)
        assert (files.status, manifest.status) == ("pass", "pass"), arguments
        assert (files.proof, manifest.proof) == ("rebuild", "rebuild")
        assert ("the names of classes are its own" in files.explanation) == ("variant" not in arguments)
        assert ("no checkpoint was given" in manifest.explanation) == ("checkpoint" not in arguments)


def test_no_tensorflow_is_imported(built, archive):
    """Neither by the checks of files and weights."""
    code = (
        "import sys; from hubexport.verify.verify_module import verify_module as verify\n"
        f"found = verify({str(built[0])!r}, checkpoint={str(archive)!r}, checks=['rebuild', 'structure', 'weights'])\n"
        "assert found.passed and 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


_EXPAND_9, _EXPAND_10 = (f"MobilenetV2/expanded_conv_{number}/expansion_output:0" for number in (7, 8))


@pytest.mark.parametrize(
    ("damage", "format_", "line"),
    [
        (
            subtle_mutations.forget_the_last_six,
            "TF1",
            "graph [train]: MobilenetV2/Conv_1/Relu6 is Relu, not Relu6",
        ),
        (
            subtle_mutations.change_the_last_epsilon,
            "TF1",
            "graph [train]: MobilenetV2/Conv_1/BatchNorm/FusedBatchNorm: epsilon is 1e-05, not 0.001",
        ),
        (
            mutations.change_stride,
            "TF1",
            "graph []: MobilenetV2/expanded_conv_13/depthwise/depthwise: strides is [1, 1, 1, 1], not [1, 2, 2, 1]",
        ),
        (
            subtle_mutations.swap_endpoints_in_training,
            "TF1",
            "graph [train]: signature default: output MobilenetV2/layer_9/expansion_output: name is "
            f"{_EXPAND_10}, not {_EXPAND_9}",
        ),
        (
            subtle_mutations.swap_serving_inputs,
            "TF2",
            "graph [serve]: StatefulPartitionedCall: input 2 is MobilenetV2/Conv/BatchNorm/gamma, not "
            "MobilenetV2/Conv/BatchNorm/beta",
        ),
        (
            subtle_mutations.ignore_momentum_once,
            "TF2",
            "graph [serve]: function call_training_with_endpoints: ignored (Const) should not be there",
        ),
        (
            subtle_mutations.reverse_collections,
            "TF1",
            "graph []: collection variables: the elements are in another order",
        ),
        (
            mutations.drop_an_update_op,
            "TF1",
            "graph [train]: collection update_ops: "
            "MobilenetV2/expanded_conv_5/expand/BatchNorm/moving_mean/AssignMovingAvg is missing",
        ),
        (
            subtle_mutations.aggregate_nothing,
            "TF2",
            "graph [serve]: object variables.3 (MobilenetV2/Conv/BatchNorm/moving_mean): variable: aggregation is 0, "
            "not 2",
        ),
        (subtle_mutations.demand_a_consumer, "TF2", "graph [serve]: versions: min consumer is 1000, not 12"),
        (
            subtle_mutations.pin_to_a_device,
            "TF1",
            "graph []: MobilenetV2/Conv_1/Conv2D: device is /device:GPU:7, not empty",
        ),
        (
            mutations.leave_a_slot,
            "TF1",
            "variables: MobilenetV2/expanded_conv_5/expand/weights/RMSProp should not be there",
        ),
        (subtle_mutations.swap_labels, "TF2", "assets/labels.txt: class 1 is 'c', not 'b'"),
        (subtle_mutations.drop_a_label, "TF1", "assets/labels.txt names 6 classes, not 7"),
        (mutations.change_facts, "TF1", "hubexport.json: num_features is 1281, not 1280"),
    ],
)
def test_a_difference_is_told_in_words(modules, variant, damage, format_, line):
    """It names the graph or function, and in it the node, collection, signature or object."""
    module = modules[("TF1", "TF2").index(format_)]
    damage(module, format_)
    update_digests(module)
    assert line in _lines(_rebuild(module, variant=variant))


def test_many_differences_are_counted(modules, variant):
    """Twenty are shown."""
    mutations.forget_the_six(modules[1], "TF2")
    [result] = (result for result in _rebuild(modules[1], variant=variant) if result.status == "fail")
    assert len(result.details) == 21 and result.details[-1] == f"and {int(result.measured) - 20} more"
    assert result.explanation.endswith(f"and {int(result.measured) - 1} more")


def test_nodes_in_another_order_differ():
    """Their names are the same."""
    first, second = (NodeDef(name=name, op="NoOp") for name in "ab")
    found, wanted = GraphDef(node=[second, first]), GraphDef(node=[first, second])
    assert [*message_differences(found, wanted, "graph []")] == ["graph []: node: the elements are in another order"]
    found.node.append(first)
    assert [*message_differences(found, wanted, "graph []")] == [
        "graph []: a (number 2 of this name) (NoOp) should not be there"
    ]


def _say_the_same(module):
    """Moves the schema version, two bytes, to the end of the graph, which says the same then."""
    path = module / "saved_model.pb"
    content = path.read_bytes()
    assert content.startswith(b"\x08\x01")
    path.write_bytes(content[2:] + content[:2])
    update_digests(module)


def test_other_bytes_that_say_the_same_are_refused_of_this_revision_alone(modules, variant):
    """A module from before there were revisions has none. Its content has to be the same."""
    _say_the_same(modules[0])
    assert _lines(_rebuild(modules[0], variant=variant)) == ["saved_model.pb says the same in other bytes"]
    manifest = json.loads((modules[0] / "hubexport.json").read_text())
    assert manifest.pop("format_revision") == FORMAT_REVISION
    (modules[0] / "hubexport.json").write_bytes(manifest_content(manifest))
    files, manifest = _rebuild(modules[0], variant=variant)
    assert (files.status, manifest.status) == ("pass", "pass")
    assert "it has format revision 0, not 1" in files.explanation
    subtle_mutations.forget_the_last_six(modules[0], "TF1")
    assert _lines(_rebuild(modules[0], variant=variant)) == [
        "graph [train]: MobilenetV2/Conv_1/Relu6 is Relu, not Relu6"
    ]


def test_what_claims_to_be_trained_while_made_up_values_fit_is_refused(variant, archive, tmp_path):
    """Also where everything in hubexport.json but its claims is right."""
    module = build_modules(variant, checkpoint="synthetic", output_dir=tmp_path)[0]
    assert not _lines(_rebuild(module, checkpoint="synthetic", variant=variant))
    origin = {"source": "small.tgz", "sha256": file_sha256(archive), "published": True}
    edit_manifest(module, values="trained", weights="averaged", checkpoint=origin)
    assert _lines(_rebuild(module, checkpoint="synthetic", variant=variant)) == [
        "hubexport.json: values is trained, not synthetic",
        "hubexport.json: weights is averaged, not only",
        "hubexport.json: checkpoint source is small.tgz, not synthetic:0",
        f"hubexport.json: checkpoint sha256 is {origin['sha256']}, but should not be there",
        "hubexport.json: checkpoint published is True, but should not be there",
    ]


def test_a_seed_among_trained_values_is_refused_without_a_checkpoint(built, tmp_path, modules):
    """What hubexport.json says of the values has to fit together."""
    edit_manifest(modules[0], checkpoint={"source": "synthetic:3"})
    assert _lines(_rebuild(modules[0])) == [
        "hubexport.json: values is trained, not synthetic",
        "hubexport.json: weights is averaged, not only",
    ]


def test_whether_a_checkpoint_is_the_published_one_is_told_by_the_config(modules, variant, archive):
    """With the archive's SHA-256, whether the archive is given or not."""
    manifest = json.loads((modules[0] / "hubexport.json").read_text())
    assert manifest["checkpoint"]["published"] is True
    edit_manifest(modules[0], checkpoint={**manifest["checkpoint"], "published": False})
    for arguments in ({"checkpoint": archive}, {}):
        assert _lines(_rebuild(modules[0], variant=variant, **arguments)) == [
            "hubexport.json: checkpoint published is False, not True"
        ]
    edit_manifest(modules[0], checkpoint={**manifest["checkpoint"], "sha256": "0" * 64})
    assert _lines(_rebuild(modules[0], variant=variant)) == ["hubexport.json: checkpoint published is True, not False"]


def test_the_built_in_config_of_the_same_name_names_the_classes(tmp_path):
    """Nobody has to give the variant of a module that a built-in config describes."""
    builtin = load_variant("mobilenet_v2_035_96")
    [module] = build_modules(builtin, ["classification/3"], checkpoint="synthetic", output_dir=tmp_path)
    files, manifest = _rebuild(module)
    assert (files.status, manifest.status) == ("pass", "pass") and files.explanation.endswith("is the same")
    subtle_mutations.swap_labels(module, "TF1")
    edit_manifest(module, dataset="made up")
    assert _lines(_rebuild(module)) == [
        "assets/labels.txt: class 1 is 'goldfish, Carassius auratus', not 'tench, Tinca tinca'",
        "assets/labels.txt: class 2 is 'tench, Tinca tinca', not 'goldfish, Carassius auratus'",
        "hubexport.json: dataset is made up, not ILSVRC-2012-CLS (ImageNet)",
    ]


def test_names_of_classes_that_no_config_knows_are_counted(modules):
    """The number has to be right."""
    subtle_mutations.drop_a_label(modules[1], "TF2")
    assert _lines(_rebuild(modules[1])) == ["assets/labels.txt names 6 classes, not 7"]


def test_a_module_that_hubexport_did_not_build_is_left_to_the_other_checks(modules, variant):
    """There is nothing to compare with a build."""
    (modules[0] / "hubexport.json").unlink()
    for result in _rebuild(modules[0], variant=variant, spec="classification/3"):
        assert result.status == "not applicable"
        assert result.explanation == "hubexport did not build it: there is no hubexport.json"


def test_a_module_of_another_kind_than_promised_differs(modules, variant):
    """The caller's word counts."""
    lines = _lines(_rebuild(modules[0], variant=variant, spec="classification/2"))
    assert "hubexport.json: version is 3, not 2" in lines
    assert "graph []: signature image_classification_with_bn_hparams should not be there" in lines


def test_names_that_differ_in_spaces_alone_differ():
    """An attribute beside the right one is not taken for it."""
    wanted = NodeDef(name="a", attr={"T": AttrValue(type=1)})
    found = NodeDef(name="a", attr={"T": AttrValue(type=1), "T ": AttrValue(type=2)})
    assert [*message_differences(found, wanted, "a")] == ["a: T  should not be there"]
