import numpy as np
import pytest

from nbconv.data import k_fold, train_test_split
from nbconv.errors import DataError

LABELS = np.random.default_rng(0).choice(4, 103, p=[0.5, 0.3, 0.15, 0.05])


def test_train_test_split_keeps_every_class_share_and_loses_nothing():
    x = np.arange(103.0)[:, None]
    (x_train, y_train), (x_test, y_test) = train_test_split(x, LABELS, 0.2, seed=0)
    assert (len(x_train), len(x_test)) == (82, 21)
    np.testing.assert_array_equal(LABELS[x_train[:, 0].astype(int)], y_train)
    np.testing.assert_array_equal(LABELS[x_test[:, 0].astype(int)], y_test)
    assert sorted([*x_train[:, 0], *x_test[:, 0]]) == list(range(103))
    assert (np.abs(np.bincount(y_test) - 0.2 * np.bincount(LABELS)) < 1).all()


def test_train_test_split_follows_the_seed():
    x = np.arange(103.0)[:, None]
    first, again, other = (train_test_split(x, LABELS, seed=seed).test.x for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert len(first) == 26


@pytest.mark.parametrize("y", [np.linspace(0, 1, 103), np.zeros((103, 2), int), LABELS])
def test_train_test_split_of_any_targets(y):
    train, test = train_test_split(np.zeros((103, 3)), y, 0.1, stratify=False, seed=1)
    assert (len(train.y), len(test.y)) == (93, 10)
    assert test.y.dtype == y.dtype


def test_train_test_split_refuses():
    with pytest.raises(DataError, match="3 inputs but 4 targets"):
        train_test_split(np.zeros((3, 2)), np.zeros(4, int))
    with pytest.raises(DataError, match="one part empty"):
        train_test_split(np.zeros((1, 2)), np.zeros(1, int))


@pytest.mark.parametrize("k", [2, 5, 7, 103])
@pytest.mark.parametrize("stratify", [True, False])
def test_every_example_is_tested_once(k, stratify):
    folds = list(k_fold(LABELS, k, stratify=stratify, seed=0))
    assert len(folds) == k
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), np.arange(103))
    for train, test in folds:
        np.testing.assert_array_equal(np.sort([*train, *test]), np.arange(103))
        assert len(test) in (103 // k, -(-103 // k))
        assert (np.diff(test) > 0).all()


def test_folds_spread_every_class():
    per_class = np.array([np.bincount(LABELS[test], minlength=4) for _, test in k_fold(LABELS, 5, seed=2)])
    assert np.ptp(per_class, axis=0).max() <= 1
    mixed = [np.bincount(LABELS[test], minlength=4) for _, test in k_fold(LABELS, 5, stratify=False, seed=2)]
    assert np.ptp(mixed, axis=0).max() > 1


def test_folds_are_those_scikit_learn_calls_stratified():
    """Its bound on the numbers of a class in the folds holds for ours, on the same labels."""
    model_selection = pytest.importorskip("sklearn.model_selection")
    splitter = model_selection.StratifiedKFold(5, shuffle=True, random_state=0)
    theirs = [np.bincount(LABELS[test], minlength=4) for _, test in splitter.split(LABELS, LABELS)]
    ours = [np.bincount(LABELS[test], minlength=4) for _, test in k_fold(LABELS, 5, seed=0)]
    np.testing.assert_array_equal(np.sort(ours, axis=0), np.sort(theirs, axis=0))


def test_folds_follow_the_seed_and_mix():
    first, again, other = (next(k_fold(LABELS, 4, seed=seed))[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert len(np.setdiff1d(first, other))
    assert np.diff(first).max() > 4 + 3  # not every fourth


@pytest.mark.parametrize("k", [0, 1, 104])
def test_impossible_folds(k):
    with pytest.raises(DataError, match="k_fold: expected k of 2 to 103"):
        k_fold(LABELS, k)
    with pytest.raises(DataError, match="single number"):
        k_fold(np.array(3), 2)
