"""Damages modules in all the ways of `tests/mutations.py`. Every check that is named there has to fail."""

import collections
import re
import shutil

import pytest

from hubexport.build import build_modules
from hubexport.config_files import load_variant
from hubexport.verify.checks.registry import CHECKS, DEPLOYMENT_CHECKS, select_checks
from hubexport.verify.highest_limits import highest_limit
from hubexport.verify.verify_module import verify_module
from tests.checkpoints import training_values, write_v2
from tests.data import REPOSITORY
from tests.mutations import MUTATIONS, edit_nodes, set_constant, update_digests
from tests.resnet_mutations import RESNET_MUTATIONS, pool_one_size
from tests.subtle_mutations import SUBTLE_MUTATIONS

# The checks that need photographs or a published archive.
_ONLY_WITH_MORE = {"numbers.photographs", "numbers.frozen_graph"}
# The checks that do not apply to a format.
_NOT_APPLICABLE = {
    "TF1": ("structure.objects", "numbers.serving"),
    "TF2": ("structure.collections", "structure.image_size"),
}

_CONFIG = """\
network: mobilenet_v2
depth_multiplier: 0.35
image_size: 96
num_classes: 7
dataset: made up
modules:
  - classification/3
  - classification/5
"""
_RESNET_CONFIG = _CONFIG.replace("mobilenet_v2", "resnet_v2_50").replace("depth_multiplier: 0.35\n", "")
_TABLES = ("| check | what", "| damage | formats", "| subtle damage | formats", "| damage of a ResNet | formats")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A training checkpoint whose raw and averaged values differ."""
    prefix = tmp_path_factory.mktemp("checkpoint") / "model.ckpt"
    write_v2(prefix, training_values())
    return str(prefix)


@pytest.fixture(scope="module")
def variant(tmp_path_factory):
    """A small variant with names of its classes."""
    folder = tmp_path_factory.mktemp("configs")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in "abcdefg"))
    (folder / "small.yaml").write_text(f"{_CONFIG}labels: labels.txt\n")
    return load_variant("small", folder)


@pytest.fixture(scope="module")
def modules(variant, checkpoint, tmp_path_factory):
    """A small module in each format."""
    built = build_modules(variant, checkpoint=checkpoint, output_dir=tmp_path_factory.mktemp("modules"))
    return dict(zip(("TF1", "TF2"), built, strict=True))


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A ResNet V2 50 for small images."""
    folder = tmp_path_factory.mktemp("resnet")
    (folder / "resnet.yaml").write_text(_RESNET_CONFIG)
    return load_variant("resnet", folder)


@pytest.fixture(scope="module")
def resnets(resnet, tmp_path_factory):
    """A ResNet V2 50 in each format."""
    built = build_modules(resnet, checkpoint="synthetic:1", output_dir=tmp_path_factory.mktemp("resnets"))
    return dict(zip(("TF1", "TF2"), built, strict=True))


# Among the quick tests, one in test_verify.py verifies an intact module.
@pytest.mark.slow
@pytest.mark.parametrize("format_", ["TF1", "TF2"])
def test_intact_modules_pass(modules, checkpoint, format_):
    """Otherwise the other tests would prove nothing. The check of a release takes no limit for a raised one."""
    import tensorflow as tf

    verification = verify_module(str(modules[format_]), checkpoint=checkpoint)
    assert verification.passed, verification.failed
    limited = [result for result in verification.results if result.limit is not None]
    assert not [result for result in limited if not result.limit <= highest_limit(result.check, result.unit)]
    # Nobody else's graphs go without TensorFlow's optimizer.
    assert not tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer")
    skipped = {result.check for result in verification.results if result.status == "not applicable"}
    assert skipped == {*_NOT_APPLICABLE[format_], *_ONLY_WITH_MORE, "numbers.sizes"}


def _expected(mutation, format_):
    """Returns the checks that a mutation names and that apply to the format."""
    return [name for name in mutation.caught_by if name not in _NOT_APPLICABLE[format_]]


def _cases():
    """Returns all mutations in all their formats.

    `make test` runs at least one for each check, `make test-long` the others in one format, and `make prove` all.
    """
    tried, cases = set(), []
    for number, mutation in enumerate(MUTATIONS):
        for format_ in mutation.formats:
            is_first = not tried.issuperset(_expected(mutation, format_))
            tried.update(_expected(mutation, format_))
            in_turn = format_ == mutation.formats[number % len(mutation.formats)]
            marks = [] if is_first else [pytest.mark.slow if in_turn else pytest.mark.prove]
            cases.append(pytest.param(mutation, format_, id=f"{format_}: {mutation.name}", marks=marks))
    return cases


def _all_cases(mutations):
    """Returns all of these mutations in all their formats. `make test` runs one of the formats."""
    return [
        pytest.param(
            mutation,
            format_,
            id=f"{format_}: {mutation.name}",
            marks=[] if format_ == mutation.formats[number % len(mutation.formats)] else pytest.mark.slow,
        )
        for number, mutation in enumerate(mutations)
        for format_ in mutation.formats
    ]


@pytest.mark.parametrize(("mutation", "format_"), _cases())
def test_each_damage_is_caught(modules, variant, checkpoint, tmp_path, mutation, format_):
    """Every check that the mutation names fails."""
    damaged = _damaged(mutation, format_, modules[format_], tmp_path / "module")
    _assert_caught(mutation, format_, damaged, checkpoint, variant)


@pytest.mark.parametrize(("mutation", "format_"), _all_cases(SUBTLE_MUTATIONS))
def test_each_subtle_damage_is_caught(modules, variant, checkpoint, tmp_path, mutation, format_):
    """The same for what a look at some outputs misses. This test runs the checks that do without TensorFlow."""
    damaged = _damaged(mutation, format_, modules[format_], tmp_path / "module")
    checks = [check for check in select_checks(_expected(mutation, format_)) if not check.needs_runtime]
    _assert_fails(damaged, checks, checkpoint, variant)


def _run_cases():
    """Returns the subtle mutations that checks catch by running the module: for each check, two before `make prove`."""
    tried, cases = collections.Counter(), []
    for number, mutation in enumerate(SUBTLE_MUTATIONS):
        for format_ in mutation.formats:
            checks = [check.name for check in select_checks(_expected(mutation, format_)) if check.needs_runtime]
            if not checks:
                continue
            in_turn = format_ == mutation.formats[number % len(mutation.formats)]
            is_long = in_turn and any(tried[name] < 2 for name in checks)
            tried.update(checks if is_long else ())
            marks = pytest.mark.slow if is_long else pytest.mark.prove
            cases.append(pytest.param(mutation, format_, id=f"{format_}: {mutation.name}", marks=marks))
    return cases


@pytest.mark.parametrize(("mutation", "format_"), _run_cases())
def test_running_the_module_catches_subtle_damage(modules, variant, checkpoint, tmp_path, mutation, format_):
    """Each check that is named finds it without building the module again."""
    damaged = _damaged(mutation, format_, modules[format_], tmp_path / "module")
    checks = [check for check in select_checks(_expected(mutation, format_)) if check.needs_runtime]
    _assert_fails(damaged, checks, checkpoint, variant)


@pytest.mark.slow
@pytest.mark.parametrize(("mutation", "format_"), _all_cases(MUTATIONS))
def test_a_rebuild_catches_each_damage(modules, variant, checkpoint, tmp_path, mutation, format_):
    """Whatever the other checks find, a rebuild finds first, and says it in words."""
    damaged = _damaged(mutation, format_, modules[format_], tmp_path / "module")
    verification = verify_module(damaged, checkpoint=checkpoint, variant=variant, checks=["rebuild"])
    assert verification.failed
    lines = [line for result in verification.failed for line in (result.explanation, *result.details)]
    assert not any("other bytes" in line for line in lines), lines


@pytest.mark.prove
@pytest.mark.parametrize("format_", ["TF1", "TF2"])
def test_an_intact_resnet_passes(resnets, format_):
    """It takes images of any size, unlike the MobileNet V2."""
    verification = verify_module(str(resnets[format_]), checkpoint="synthetic:1")
    assert verification.passed, verification.failed
    skipped = {result.check for result in verification.results if result.status == "not applicable"}
    assert skipped == {*_NOT_APPLICABLE[format_], *_ONLY_WITH_MORE}


@pytest.mark.prove
@pytest.mark.parametrize(("mutation", "format_"), _all_cases(RESNET_MUTATIONS))
def test_each_damage_of_a_resnet_is_caught(resnets, resnet, tmp_path, mutation, format_):
    """The same for a network that pads explicitly, adds biases, activates first, and has no dropout."""
    damaged = _damaged(mutation, format_, resnets[format_], tmp_path / "module")
    _assert_caught(mutation, format_, damaged, "synthetic:1", resnet)
    assert verify_module(damaged, checkpoint="synthetic:1", variant=resnet, checks=["rebuild"]).failed


@pytest.mark.slow
def test_what_mobilenet_v2_cannot_show_is_caught_in_mobilenet_v1(tmp_path):
    """Version 1 has the momentum of its own family; version 3 takes images of another size than its default."""
    (tmp_path / "small.yaml").write_text(
        _CONFIG.replace("v2", "v1").replace("0.35", "0.25").replace("classification/5", "feature_vector/1")
    )
    opened, fixed = build_modules(
        load_variant("small", tmp_path), checkpoint="synthetic:1", output_dir=tmp_path / "built"
    )

    def result(module, check):
        [result] = verify_module(module, checks=[check]).results
        return result

    assert "at 72 x 49 pixels" in result(opened, "numbers.sizes").explanation
    assert result(fixed, "numbers.sizes").status == "not applicable"
    assert result(fixed, "behaviour.moving_averages").explanation.startswith("momentum 0.9997;")
    pool_one_size(opened, "TF1", "MobilenetV1/Logits/global_pool")
    edit_nodes(fixed, "batch_norm_momentum", set_constant(0.997))
    assert result(opened, "numbers.layers").status == "pass"
    assert result(opened, "numbers.sizes").status == "fail"
    assert result(fixed, "behaviour.moving_averages").status == "fail"


def _damaged(mutation, format_, module, directory):
    """Returns a damaged copy of a module."""
    shutil.copytree(module, directory)
    mutation.apply(directory, format_)
    if not mutation.keeps_digests:
        update_digests(directory)
    return directory


def _assert_caught(mutation, format_, damaged, checkpoint, variant):
    expected = _expected(mutation, format_)
    assert expected
    _assert_fails(damaged, select_checks(expected), checkpoint, variant)


def _assert_fails(damaged, checks, checkpoint, variant):
    """Asserts that each of these checks fails."""
    verification = verify_module(damaged, checkpoint=checkpoint, variant=variant, checks=checks)
    assert [result.check for result in verification.failed] == [check.name for check in checks]
    assert not verification.passed


def test_every_check_catches_some_damage():
    """Exceptions are checks that need more than a module, and one that finds what others find."""
    tried = {name for mutation in (*MUTATIONS, *SUBTLE_MUTATIONS, *RESNET_MUTATIONS) for name in mutation.caught_by}
    assert {check.name for check in CHECKS} - tried == {*_ONLY_WITH_MORE, "consumers.installed_tensorflow"}


def test_the_page_on_verification_lists_all_checks_and_mutations():
    """One table has each check with its promise, three have each mutation with the checks that catch it."""
    page = (REPOSITORY / "docs" / "verification.md").read_text()
    tables = [page[page.index(header) :].split("\n\n")[0] for header in _TABLES]
    rows = [row for table in tables for row in re.findall(r"^\| (.+) \|$", table, re.MULTILINE)[2:]]
    wanted = [f"`{check.name}` | {check.promise}" for check in CHECKS]
    for mutation in (*MUTATIONS, *SUBTLE_MUTATIONS, *RESNET_MUTATIONS):
        caught_by = ", ".join(f"`{name}`" for name in mutation.caught_by)
        wanted.append(f"{mutation.name} | {', '.join(mutation.formats)} | {caught_by}")
    assert rows == wanted
    table = page[page.index("| check | what holds of a deployment that passes |") :].split("\n\n")[0]
    rows = re.findall(r"^\| (.+) \|$", table, re.MULTILINE)[2:]
    assert rows == [f"`{check.name}` | {check.promise} | `{check.counterpart}`" for check in DEPLOYMENT_CHECKS]
