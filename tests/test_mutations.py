"""Damages modules in all the ways of `tests/mutations.py`. Every check that is named there has to fail."""

import re
import shutil

import pytest

from hubexport.build import build_modules
from hubexport.config_files import load_variant
from hubexport.verify.checks.registry import CHECKS, select_checks
from hubexport.verify.verify_module import verify_module
from tests.checkpoints import training_values, write_v2
from tests.data import REPOSITORY
from tests.mutations import MUTATIONS, update_digests

# The checks that do not apply to a format.
_NOT_APPLICABLE = {"TF1": ("structure.objects",), "TF2": ("structure.collections", "structure.image_size")}

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


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A training checkpoint whose raw and averaged values differ."""
    prefix = tmp_path_factory.mktemp("checkpoint") / "model.ckpt"
    write_v2(prefix, training_values())
    return str(prefix)


@pytest.fixture(scope="module")
def modules(checkpoint, tmp_path_factory):
    """A small module in each format."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "small.yaml").write_text(_CONFIG)
    built = build_modules(load_variant("small", folder), checkpoint=checkpoint, output_dir=folder / "built")
    return dict(zip(("TF1", "TF2"), built, strict=True))


# Among the quick tests, one in test_verify.py verifies an intact TF1 module.
@pytest.mark.parametrize("format_", [pytest.param("TF1", marks=pytest.mark.slow), "TF2"])
def test_intact_modules_pass(modules, checkpoint, format_):
    """Otherwise the other tests would prove nothing."""
    verification = verify_module(str(modules[format_]), checkpoint=checkpoint)
    assert verification.passed, verification.failed
    skipped = {result.check for result in verification.results if result.status == "not applicable"}
    assert skipped == {*_NOT_APPLICABLE[format_], "numbers.photographs", "numbers.frozen_graph"}


def _expected(mutation, format_):
    """Returns the checks that a mutation names and that apply to the format."""
    return [name for name in mutation.caught_by if name not in _NOT_APPLICABLE[format_]]


def _cases():
    """Returns all mutations in all their formats. `make test` runs at least one for each check."""
    tried, cases = set(), []
    for mutation in MUTATIONS:
        for format_ in mutation.formats:
            is_first = not tried.issuperset(_expected(mutation, format_))
            tried.update(_expected(mutation, format_))
            marks = [] if is_first else [pytest.mark.slow]
            cases.append(pytest.param(mutation, format_, id=f"{format_}: {mutation.name}", marks=marks))
    return cases


@pytest.mark.parametrize(("mutation", "format_"), _cases())
def test_each_damage_is_caught(modules, checkpoint, tmp_path, mutation, format_):
    """Every check that the mutation names fails."""
    damaged = tmp_path / "module"
    shutil.copytree(modules[format_], damaged)
    mutation.apply(damaged, format_)
    if not mutation.keeps_digests:
        update_digests(damaged)
    expected = _expected(mutation, format_)
    verification = verify_module(str(damaged), checkpoint=checkpoint, checks=select_checks(expected))
    assert [result.check for result in verification.failed] == [check.name for check in select_checks(expected)]
    assert not verification.passed and expected


def test_every_check_catches_some_damage():
    """Exceptions are checks that need more than a module, and one that finds what others find."""
    tried = {name for mutation in MUTATIONS for name in mutation.caught_by}
    untested = {"numbers.photographs", "numbers.frozen_graph", "consumers.installed_tensorflow"}
    assert {check.name for check in CHECKS} - tried == untested


def test_the_page_on_verification_lists_all_checks_and_mutations():
    """One table has each check with its promise, the other each mutation with the checks that catch it."""
    page = (REPOSITORY / "docs" / "verification.md").read_text()
    tables = [page[page.index(header) :].split("\n\n")[0] for header in ("| check | what", "| damage | formats")]
    rows = [row for table in tables for row in re.findall(r"^\| (.+) \|$", table, re.MULTILINE)[2:]]
    wanted = [f"`{check.name}` | {check.promise}" for check in CHECKS]
    for mutation in MUTATIONS:
        caught_by = ", ".join(f"`{name}`" for name in mutation.caught_by)
        wanted.append(f"{mutation.name} | {', '.join(mutation.formats)} | {caught_by}")
    assert rows == wanted
