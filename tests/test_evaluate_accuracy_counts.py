"""Counts of right classifications, compared with sorting in NumPy and with random draws."""

import numpy as np
import pytest

from hubexport.evaluation.accuracy_counts import AccuracyCounts, count_correct, percent, standard_error_percent


def _sorted_ranks(scores, labels):
    order = np.argsort(-scores, axis=1, kind="stable")
    return [row.tolist().index(label) for row, label in zip(order, labels)]


@pytest.mark.parametrize("classes", [3, 5, 6, 1001])
def test_counts_are_those_of_a_sort(classes):
    """For few and many classes, with many equal scores."""
    random = np.random.default_rng(classes)
    scores = random.integers(0, classes, (400, classes)).astype(np.float32)
    labels = random.integers(0, classes, 400).tolist()
    ranks = _sorted_ranks(scores, labels)
    found = count_correct(scores, labels)
    assert found == AccuracyCounts(400, sum(rank < 1 for rank in ranks), sum(rank < 5 for rank in ranks))
    assert found.top1, "or nothing was right"


@pytest.mark.parametrize(
    ("scores", "right"),
    [
        pytest.param([np.nan, 1.0, 0.0], 0, id="the right one"),
        pytest.param([1.0, np.nan, 0.0], 0, id="another"),
        pytest.param([np.nan, np.nan, np.nan], 0, id="all"),
    ],
)
def test_nan_makes_nothing_right(scores, right):
    """Although NaN compares with nothing."""
    assert count_correct(np.array([scores], np.float32), [right]).top1 == 0


def test_counts_add_up():
    """Skipped images are sorted, in whatever order they come."""
    one, other = AccuracyCounts(3, 1, 2, ("b",)), AccuracyCounts(5, 0, 4, ("c", "a"))
    assert one + other == other + one == AccuracyCounts(8, 1, 6, ("a", "b", "c"))
    assert AccuracyCounts.from_json(one.as_json()) == one


def test_the_standard_error_is_that_of_random_draws():
    """It equals the spread of 20,000 evaluations of 400 images, of which 70% are right."""
    drawn = np.random.default_rng(0).binomial(400, 0.7, 20_000) / 400 * 100
    assert standard_error_percent(280, 400) == pytest.approx(drawn.std(), rel=0.02)
    assert percent(280, 400) == 70


@pytest.mark.parametrize(("right", "images"), [(0, 0), (0, 8), (8, 8)])
def test_there_is_no_standard_error_of_all_or_nothing(right, images):
    """The formula would give 0."""
    assert standard_error_percent(right, images) is None


def test_there_is_no_accuracy_without_images():
    """All images may have been skipped."""
    assert percent(0, 0) is None
