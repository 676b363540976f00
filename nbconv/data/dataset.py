"""What data can be: a pair of arrays, or anything that gives its examples one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy as np

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
        self.data = data
        self.indices = np.asarray(indices, np.intp)
        if self.indices.ndim != 1:
            raise DataError(f"Subset: expected indices of shape (n,), got {self.indices.shape}")
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
    no_data_set = isinstance(data, np.ndarray | str | bytes | dict)
    if no_data_set or not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise DataError(f"{name}: expected (x, y) or a data set, got {type(data).__name__}")
    if not len(data):
        raise DataError(f"{name}: the data set is empty")
    return _Stacked(name, cast(Dataset, data))


class _Arrays:
    def __init__(self, name: str, x: Any, y: Any) -> None:
        # np.asanyarray keeps a memory-mapped file on disk.
        self._x, self._y = np.asanyarray(x), np.asanyarray(y)
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
        examples = [self._data[int(index)] for index in indices]
        inputs = [np.asarray(x) for x, _ in examples]
        first = inputs[0]
        for index, x in zip(indices, inputs, strict=True):
            if x.shape != first.shape:
                raise DataError(
                    f"{self._name}: examples {indices[0]} and {index} have the shapes {first.shape} and "
                    f"{x.shape}; a batch needs one shape (a size for the data set gives them one)"
                )
        targets = np.stack([np.asarray(y) for _, y in examples])
        if first.ndim != 3:
            return np.stack(inputs), targets
        rows = np.ascontiguousarray(np.stack([x.transpose(1, 2, 0) for x in inputs]))
        return rows.transpose(0, 3, 1, 2), targets
