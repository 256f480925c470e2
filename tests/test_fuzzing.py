"""Damaged inputs of every reader are read or refused, in bounded time.

`python -m tests.fuzzing` tries thousands.
"""

import pytest

from tests.fuzzing.inputs import INPUTS, make_all
from tests.fuzzing.trial import trials

pytestmark = pytest.mark.fuzz

_MUTATIONS = 25


@pytest.mark.parametrize("name", INPUTS)
def test_damaged_inputs_are_read_or_refused(tmp_path, name):
    """They raise nothing but a HubexportError, and leave nothing behind."""
    make_all(tmp_path, [name])
    tried = list(trials(tmp_path / name, name, "0", _MUTATIONS))
    assert [trial for trial in tried if trial.outcome == "finding"] == []
    assert any(trial.outcome == "refused" for trial in tried)  # Otherwise nothing was damaged.
