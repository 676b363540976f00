"""Where the paths of a residual block meet: the sum and its ReLU in one sweep.

    add_relu(a, b) = max(0, a + b)

The gradient of both summands is ``relu_backward(dy, y)``.
"""

from __future__ import annotations

import numpy as np

from nbconv_kernels.reference.memory import Array, check_float, laid_out, quiet


@quiet
def add_relu(a: Array, b: Array) -> Array:
    """max(0, a + b), and NaN where the sum is NaN, for arrays of one shape.

    Raises:
        ValueError: if the shapes differ.
        TypeError: if they are not both float32 or both float64.
    """
    check_float("add_relu", a, b)
    if a.shape != b.shape:
        raise ValueError(f"add_relu: expected a and b of one shape, got {a.shape} and {b.shape}")
    return laid_out(np.maximum(a + b, 0))


def accumulate_relu(into: Array, value: Array) -> None:
    """``into = max(0, into + value)`` in place, for arrays of one shape.

    Raises:
        ValueError: if the shapes differ or ``into`` is read-only.
        TypeError: if they are not both float32 or both float64.
    """
    check_float("accumulate_relu", into, value)
    if into.shape != value.shape:
        raise ValueError(
            f"accumulate_relu: expected into and value of one shape, got {into.shape} and {value.shape}"
        )
    into[...] = add_relu(into, value)
