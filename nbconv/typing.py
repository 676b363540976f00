"""Names for the types that recur in nbconv's signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
DType = np.dtype[Any]
Pair = tuple[int, int]

Backprop = Callable[[Array], Array | None]
"""From the gradient of a layer's output to that of its input; adds to those of its parameters on the way."""
