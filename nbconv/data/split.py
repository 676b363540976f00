"""Splitting a data set such that every class keeps its share."""

from __future__ import annotations

import numpy as np

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
