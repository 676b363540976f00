"""What data can be: a pair of arrays, or anything that gives its examples one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np

from nbconv import backends
from nbconv.errors import DataError
from nbconv.typing import Array


class Dataset(Protocol):
    """Examples that are made when they are asked for, perhaps by several threads at once."""

    def __len__(self) -> int:
        """The number of examples."""
        ...

    def __getitem__(self, index: int, /) -> tuple[Array, Any]:
        """One example: the input, without a batch axis, and its target."""
        ...


class Subset:
    """Some examples of a data set, in a given order.

    Args:
        data: the data set.
        indices: integer (n,), of its examples.

    Raises:
        DataError: when an index is none of the data set's.
    """

    def __init__(self, data: Dataset, indices: Sequence[int] | Array) -> None:
        if not hasattr(data, "__len__"):
            raise DataError(f"Subset: expected a data set, got {type(data).__name__}")
        self.data = data
        chosen = backends.to_numpy(indices)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            raise DataError(
                f"Subset: expected integer indices of shape (n,), got {chosen.dtype} {chosen.shape}"
            )
        self.indices = chosen.astype(np.intp)
        wrong = (self.indices < 0) | (self.indices >= len(data))
        if wrong.any():
            raise DataError(f"Subset: there is no example {self.indices[wrong][0]} in {len(data)}")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> tuple[Array, Any]:
        return self.data[int(self.indices[index])]


class Batches(Protocol):
    """A data set that can give several examples at once."""

    def __len__(self) -> int: ...

    def take(self, indices: Array) -> tuple[Array, Array]:
        """The inputs (n, ...) and the targets (n, ...) of some examples, in new memory."""
        ...


def batches_of(data: Dataset | Sequence[Any], name: str) -> Batches:
    """``data``, a pair of arrays or a data set, as one that gives batches.

    Raises:
        DataError: when it is neither, is empty, or the arrays differ in length; the message begins with
            ``name``.
    """
    if isinstance(data, tuple | list):
        if len(data) != 2:
            kind = type(data).__name__
            raise DataError(f"{name}: expected (x, y) or a data set, got a {kind} of {len(data)}")
        return _Arrays(name, *data)
    no_data_set = isinstance(data, np.ndarray | str | bytes | bytearray | memoryview | dict)
    if no_data_set or not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise DataError(f"{name}: expected (x, y) or a data set, got {type(data).__name__}")
    if not len(data):
        raise DataError(f"{name}: the data set is empty")
    return _Stacked(name, cast(Dataset, data))


class _Arrays:
    def __init__(self, name: str, x: Any, y: Any) -> None:
        # An array stays what it is, such as a file that is mapped into memory.
        self._x, self._y = backends.to_numpy(x), backends.to_numpy(y)
        if self._x.ndim < 2 or self._y.ndim < 1:
            raise DataError(
                f"{name}: expected inputs of shape (N, ...) and targets of shape (N,) or (N, ...), "
                f"got {self._x.shape} and {self._y.shape}"
            )
        if len(self._x) != len(self._y):
            raise DataError(f"{name}: {len(self._x)} inputs but {len(self._y)} targets")
        if not len(self._x):
            raise DataError(f"{name}: the data set is empty: inputs of shape {self._x.shape}")

    def __len__(self) -> int:
        return len(self._x)

    def take(self, indices: Array) -> tuple[Array, Array]:
        if self._x.ndim != 4:
            return np.asarray(self._x[indices]), np.asarray(self._y[indices])
        # Gathered as memory lies in the model, channels last, whatever it is in the data set.
        rows = self._x.transpose(0, 2, 3, 1)[indices]
        return np.ascontiguousarray(rows).transpose(0, 3, 1, 2), np.asarray(self._y[indices])


class _Stacked:
    def __init__(self, name: str, data: Dataset) -> None:
        self._name, self._data = name, data

    def __len__(self) -> int:
        return len(self._data)

    def take(self, indices: Array) -> tuple[Array, Array]:
        examples = [self._example(int(index)) for index in indices]
        inputs = [x for x, _ in examples]
        first = inputs[0]
        for index, x in zip(indices, inputs, strict=True):
            if x.shape != first.shape:
                raise DataError(
                    f"{self._name}: examples {indices[0]} and {index} have the shapes {first.shape} and "
                    f"{x.shape}; a batch needs one shape (a size for the data set gives them one)"
                )
        shapes = {y.shape for _, y in examples}
        if len(shapes) > 1:
            raise DataError(f"{self._name}: the targets in a batch have the shapes {sorted(shapes)}")
        targets = np.stack([y for _, y in examples])
        if first.ndim != 3:
            return np.stack(inputs), targets
        rows = np.ascontiguousarray(np.stack([x.transpose(1, 2, 0) for x in inputs]))
        return rows.transpose(0, 3, 1, 2), targets

    def _example(self, index: int) -> tuple[Array, Array]:
        example: Any = self._data[index]
        if not isinstance(example, tuple | list) or len(example) != 2:
            kind = type(example).__name__
            raise DataError(f"{self._name}: expected (x, y) as example {index}, got {kind}")
        return backends.to_numpy(example[0]), backends.to_numpy(example[1])
