"""Looking for NaN and infinity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nbconv import backends
from nbconv.errors import NonFiniteError


def check_finite(values: npt.ArrayLike, name: str = "the array") -> None:
    """Raise NonFiniteError if ``values`` hold NaN or infinity, saying how many and where the first is."""
    array = backends.to_numpy(values)
    finite = np.isfinite(array)
    if finite.all():
        return
    first = tuple(int(i) for i in np.unravel_index(np.argmin(finite), array.shape))
    count = array.size - int(np.count_nonzero(finite))
    raise NonFiniteError(
        f"{count} of {array.size} values of {name} are not finite, the first is {array[first]} at {first}"
    )
