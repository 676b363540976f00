"""Splitting a data set such that every class keeps its share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nbconv import backends
from nbconv.data.digits import Examples, Split
from nbconv.errors import DataError
from nbconv.typing import Array


def stratified_split(labels: Array, fraction: float, seed: int | None = None) -> tuple[Array, Array]:
    """Indices (kept, held_out) of a random split that holds out ``fraction`` of every class.

    Both are sorted, so the order of the data survives. Each class gives its rounded-down share; what is then
    missing of the rounded whole comes from the classes that lost most in rounding. The same seed gives the
    same split.

    Args:
        labels: one integer an example, shape (N,).
        fraction: of the examples to hold out, between 0 and 1 exclusively.
        seed: of the random choice; None for a different one each time.

    Raises:
        DataError: when labels are not a 1-D integer array, or either part would be empty.
    """
    labels = backends.to_numpy(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"stratified_split: expected integer labels of shape (N,), got {labels.dtype} {labels.shape}"
        )
    if not 0 < fraction < 1:
        raise DataError(f"stratified_split: expected a fraction between 0 and 1, got {fraction}")
    wanted = round(fraction * len(labels))
    if not 0 < wanted < len(labels):
        raise DataError(f"stratified_split: {fraction} of {len(labels)} examples leaves one part empty")

    _, label_class, counts = np.unique(labels, return_inverse=True, return_counts=True)
    exact = fraction * counts
    share = np.floor(exact).astype(np.intp)
    most_lost = np.argsort(share - exact, kind="stable")
    share[most_lost[: wanted - share.sum()]] += 1

    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), bool)
    for index, count in enumerate(share):
        held_out[rng.permutation(np.flatnonzero(label_class == index))[:count]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def train_test_split(
    x: Array, y: Array, test_size: float = 0.25, *, stratify: bool = True, seed: int | None = None
) -> Split:
    """(x_train, y_train), (x_test, y_test): a random part of the examples held out, each in its old order.

    Args:
        x: inputs (N, ...).
        y: targets (N, ...).
        test_size: the fraction to hold out, between 0 and 1 exclusively.
        stratify: hold out that fraction of every class, where targets are class labels, integer (N,).
        seed: of the choice; None for a different one each time.

    Raises:
        DataError: when x and y differ in length, or either part would be empty.

    Source: CS4670, train and test data.
    """
    x, y = backends.to_numpy(x), backends.to_numpy(y)
    if not x.ndim or not y.ndim:
        raise DataError(
            f"train_test_split: expected inputs and targets (N, ...), got {x.shape} and {y.shape}"
        )
    if len(x) != len(y):
        raise DataError(f"train_test_split: {len(x)} inputs but {len(y)} targets")
    train, test = stratified_split(_classes(y, stratify), test_size, seed)
    return Split(Examples(x[train], y[train]), Examples(x[test], y[test]))


def k_fold(
    labels: Array, k: int = 5, *, stratify: bool = True, seed: int | None = None
) -> Iterator[tuple[Array, Array]]:
    """For each of ``k`` folds the sorted indices (train, test): every example is in one test part.

    Args:
        labels: targets (N, ...).
        k: the number of folds; their sizes differ by one at most.
        stratify: spread every class evenly, where targets are class labels, integer (N,): its numbers in the
            folds differ by one at most.
        seed: of the random choice; None for a different one each time.

    Raises:
        DataError: unless k is at least 2 and at most the number of examples.

    Source: CS4670, k-fold cross-validation.
    """
    labels = backends.to_numpy(labels)
    if labels.ndim < 1:
        raise DataError("k_fold: expected targets of shape (N, ...), got a single number")
    if not 2 <= k <= len(labels):
        raise DataError(f"k_fold: expected k of 2 to {len(labels)}, the number of examples, got {k}")
    classes = _classes(labels, stratify)
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    # Dealt out like cards, sorted by class.
    dealt = shuffled[np.argsort(classes[shuffled], kind="stable")]
    fold = np.empty(len(classes), np.intp)
    fold[dealt] = np.arange(len(classes)) % k
    return ((np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k))


def _classes(y: Array, stratify: bool) -> Array:
    """The class of each example; all one class where they are not told apart."""
    if stratify and y.ndim == 1 and np.issubdtype(y.dtype, np.integer):
        return y
    return np.zeros(len(y), np.int64)
