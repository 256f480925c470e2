"""Child processes: each gets its task, and its answer is read only if it is whole."""

import json
import sys

import pytest

from hubexport.system.child_process import ChildError, clean_environment, own_environment, read_answer, running_child


def _answer(folder, code, environment=None):
    (folder / "program.py").write_text(code)
    with running_child(
        sys.executable, folder / "program.py", {"a": 1}, folder, environment or clean_environment(), timeout_s=60
    ) as answer:
        return answer()


def test_a_program_that_is_ours_answers_with_a_function(tmp_path):
    """It finds this process's packages, and nothing else first."""
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    code = "from hubexport.system.child_program import answer_task\nanswer_task(lambda task: [task])\n"
    assert _answer(tmp_path, code, own_environment()) == [{"a": 1}]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        pytest.param("", "it left no valid answer: No such file or directory", id="none"),
        pytest.param("import sys; open(sys.argv[2], 'w').write('{')", "its answer is not JSON", id="no JSON"),
        pytest.param("import os, sys; os.mkfifo(sys.argv[2])", "it left no valid answer: it is a pipe", id="pipe"),
        pytest.param("raise SystemExit('no luck')", "it exited with status 1: no luck", id="status"),
    ],
)
def test_an_answer_that_is_not_whole_is_an_error(tmp_path, code, why):
    """Reading it never waits."""
    with pytest.raises(ChildError) as caught:
        _answer(tmp_path, code)
    assert str(caught.value).startswith(why)


def test_an_answer_has_a_bound(tmp_path):
    """However much the child wrote."""
    (tmp_path / "answer.json").write_text(json.dumps("x" * 100))
    assert len(read_answer(tmp_path, 0, 102)) == 102
    with pytest.raises(ChildError, match="larger"):
        read_answer(tmp_path, 0, 101)
