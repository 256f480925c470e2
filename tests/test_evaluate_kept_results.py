"""Results that are kept for an interrupted evaluation."""

import pytest

from hubexport.errors import OutputError, UsageError
from hubexport.evaluation.accuracy_counts import AccuracyCounts
from hubexport.evaluation.kept_results import opened_results

_COUNTS = AccuracyCounts(3, 1, 2, ("a.png: it is torn",))


@pytest.fixture
def folder(tmp_path):
    """A folder with the results of units 0 and 2."""
    folder = tmp_path / "deep" / "state"
    with opened_results(str(folder), "key") as state:
        state.keep(0, _COUNTS)
        state.keep(2, AccuracyCounts(1))
    return folder


def test_results_are_found_again(folder):
    """By the number of the unit."""
    with opened_results(str(folder), "key") as state:
        assert state.finished(4) == {0: _COUNTS, 2: AccuracyCounts(1)}


def test_results_of_another_evaluation_are_refused(folder):
    """And they stay."""
    before = sorted(folder.iterdir())
    with pytest.raises(UsageError, match="holds the results of another evaluation"), opened_results(
        str(folder), "other"
    ):
        pass
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("content", [b"", b'{"images": 3, "top', b"[]", b'{"images": 3}', b"\xff", b'{"images": {}}'])
def test_an_incomplete_result_is_ignored(folder, content):
    """A machine may crash before the file is on its disk."""
    (folder / "unit-000000.json").write_bytes(content)
    with opened_results(str(folder), "key") as state:
        assert state.finished(4) == {2: AccuracyCounts(1)}


def test_a_folder_with_other_things_is_refused(tmp_path):
    """Results must not land among photographs, for example."""
    (tmp_path / "a.png").touch()
    with pytest.raises(UsageError, match="it holds other files"), opened_results(str(tmp_path), "key"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_two_processes_cannot_have_it(folder):
    """The second one gets an error."""
    with opened_results(str(folder), "key"):
        with pytest.raises(UsageError, match="another process is running the same evaluation"):
            with opened_results(str(folder), "key"):
                pass
    with opened_results(str(folder), "key") as state:
        assert state.finished(1)


def test_nothing_is_left_after_removal(folder):
    """Not even unfinished files. Files of others stay."""
    with opened_results(str(folder), "key") as state:
        state.scratch_file().touch()
        state.remove()
    assert not folder.exists()
    with opened_results(str(folder), "key") as state:
        (folder / "note.txt").touch()
        state.remove()
    assert [path.name for path in folder.iterdir()] == ["note.txt"]


def test_an_evaluation_that_came_to_nothing_leaves_nothing(tmp_path):
    """Its data may have been wrong."""
    with pytest.raises(ZeroDivisionError), opened_results(str(tmp_path / "state"), "key") as state:
        assert sorted(path.name for path in state.folder.iterdir()) == [".hubexport.lock", "evaluation.json"]
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_results_that_cannot_be_kept_are_an_error(tmp_path):
    """A file is not a folder."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot keep results in"), opened_results(str(tmp_path / "file"), "key"):
        pass


def test_the_cache_has_a_place_for_each_evaluation(tmp_path, monkeypatch):
    """Unless --state names one."""
    monkeypatch.setenv("HUBEXPORT_CACHE_DIR", str(tmp_path))
    with opened_results(None, "a" * 64) as one, opened_results(None, "b" * 64) as other:
        assert {one.folder, other.folder} == {
            tmp_path / "evaluations" / ("a" * 16),
            tmp_path / "evaluations" / ("b" * 16),
        }
