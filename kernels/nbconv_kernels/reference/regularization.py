"""What L2 regularisation needs of the weights W: their squares for the loss, themselves for the gradient.

penalty = weight / 2 * sum of W^2        its gradient = weight * W
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, quiet


@quiet
def sum_of_squares(arrays: Sequence[Array]) -> float:
    """The sum of the squares of all elements of all arrays, added up in float64.

    Raises:
        TypeError: if the arrays are not all float32 or all float64.
    """
    arrays = list(arrays)
    check_float("sum_of_squares", *arrays)
    return float(sum(np.sum(np.square(x, dtype=np.float64)) for x in arrays))


@quiet
def add_scaled(into: Array, value: Array, scale: float) -> None:
    """``into += scale * value`` in place, for arrays of one shape.

    Raises:
        ValueError: if the shapes differ or ``into`` is read-only.
        TypeError: if they are not both float32 or both float64.
    """
    check_float("add_scaled", into, value)
    if into.shape != value.shape:
        raise ValueError(f"add_scaled: expected arrays of one shape, got {into.shape} and {value.shape}")
    into += float(scale) * value
