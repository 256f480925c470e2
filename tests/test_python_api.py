"""The Python interface: what it shows, what it takes, and how it refuses the rest."""

import pickle

import pytest

from hubexport import ModuleSpec, Order, build_modules, verify_module
from hubexport.errors import UsageError

_SPECS = (ModuleSpec(kind="feature_vector", version=2), ModuleSpec(kind="classification", version=5))
_TEXTS = ["feature_vector/2", "classification/5"]


def test_text_is_taken_where_a_module_spec_is(small, tmp_path):
    """By building, by orders, by handles and by verification."""
    assert (Order(small, _TEXTS), Order(small, _SPECS).modules) == (Order(small, list(_SPECS)), _SPECS)
    assert Order(small, [*_TEXTS, _SPECS[0]]).modules == _SPECS
    assert pickle.loads(pickle.dumps(Order(small, _TEXTS))) == Order(small, _SPECS)
    assert small.handle(_TEXTS[0]) == small.handle(_SPECS[0]) == "google/imagenet/small/feature_vector/2"
    paths = build_modules(small, [_TEXTS[0], _SPECS[1], _SPECS[0]], checkpoint="synthetic", output_dir=tmp_path)
    assert paths == [tmp_path / small.handle(spec) for spec in _SPECS]
    options = {"variant": small, "checks": (), "checkpoint": "synthetic"}
    (paths[0] / "hubexport.json").unlink()
    assert verify_module(paths[0], spec=_TEXTS[0], **options).path == str(paths[0])


def test_an_order_without_modules_is_for_those_of_the_config(small):
    """As `build_modules` takes it."""
    assert Order(small).modules == Order(small, []).modules == small.modules


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("feature/2", "a kind of feature_vector or classification"),
        ("feature_vectors/2", "(did you mean 'feature_vector'?)"),
        ("feature_vector/6", "a version of 1, 2, 3, 4 or 5"),
        ("feature_vector", "a version of 1, 2, 3, 4 or 5"),
        (None, "a kind of feature_vector or classification"),
    ],
)
def test_a_module_that_does_not_exist_is_refused_at_once(small, tmp_path, module, why):
    """Before anything is read or written, and with what is allowed."""
    calls = [
        lambda: Order(small, ["feature_vector/2", module]),
        lambda: small.handle(module),
        lambda: build_modules(small, [module], checkpoint="nowhere", output_dir=tmp_path),
    ]
    if module is not None:  # There, None is the default.
        calls.append(lambda: verify_module(tmp_path / "nowhere", spec=module))
    for call in calls:
        with pytest.raises(UsageError) as raised:
            call()
        assert raised.value.what == f"no module {module!r}"
        assert raised.value.why.startswith("allowed is KIND/VERSION with") and why in raised.value.why
        assert raised.value.fix == "name one like feature_vector/3"


def test_one_string_is_not_taken_for_a_list_of_its_letters(small, tmp_path):
    """The error shows the list that is wanted."""
    for call in (Order, build_modules):
        with pytest.raises(UsageError) as raised:
            call(small, "feature_vector/2")
        assert raised.value.fix == "pass ['feature_vector/2']"
