"""Looking at examples before a model is trained on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbconv import backends
from nbconv.data.split import stratified_split
from nbconv.errors import DataError, LayerError, NonFiniteError
from nbconv.sequential import Sequential
from nbconv.typing import Array

_LOADER = "a data set becomes batches by nb.data.DataLoader(data_set)"


def are_labels(targets: Array) -> bool:
    """Whether targets are class labels."""
    return np.issubdtype(targets.dtype, np.integer)


def checked(
    name: str,
    model: Sequential,
    loss: Any,
    x: Array,
    y: Array,
    batch_size: int,
    check_finite: bool,
    augmented: bool = False,
) -> tuple[Array, Array]:
    """``x`` and ``y`` as arrays that a pass over the model can use.

    What does not fit the model may do so when it is ``augmented``, such as a crop of a larger image.

    Raises:
        DataError: when there are no examples, their number is not that of the targets, or a label is none of
            the model's classes.
        NonFiniteError: when x holds NaN or infinity, where that is looked for.
        LayerError: when x does not fit the model.
        ValueError: when batch_size is less than 1.
    """
    x, y = _arrays(name, x, y)
    if batch_size < 1:
        raise ValueError(f"Trainer.{name}: expected a batch_size of at least 1, got {batch_size}")
    if x.ndim < 2 or y.ndim < 1:
        raise DataError(
            f"Trainer.{name}: expected inputs of shape (N, ...) and targets of shape (N,) or (N, ...), "
            f"got {x.shape} and {y.shape}"
        )
    if y.dtype.kind not in "biuf":
        raise DataError(
            f"Trainer.{name}: expected numbers as targets, got {y.dtype}; "
            "names become labels by np.unique(y, return_inverse=True)"
        )
    if len(x) != len(y):
        raise DataError(f"Trainer.{name}: {len(x)} inputs but {len(y)} targets")
    if not len(x):
        raise DataError(f"Trainer.{name}: the data set is empty: inputs of shape {x.shape}")
    if check_finite:
        _check_finite(name, x)
    try:
        output_shape = model.output_shape((1, *x.shape[1:]))
    except LayerError:
        if not augmented:
            raise
        return x, y
    if are_labels(y) and len(output_shape) == y.ndim + 1:
        _check_labels(name, y, output_shape[1], getattr(loss, "ignore_index", None))
    return x, y


def pair_of(name: str, data: Any) -> tuple[Array, Array]:
    """Inputs and targets that were given as one.

    Raises:
        DataError: if they are no pair.
    """
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise DataError(f"Trainer.{name}: expected (x, y) or a loader, got {type(data).__name__}; {_LOADER}")
    return data[0], data[1]


def _arrays(name: str, x: Any, y: Any) -> tuple[Array, Array]:
    if y is None:
        kind = type(x).__name__
        raise DataError(f"Trainer.{name}: expected targets y beside x, which is a {kind}; {_LOADER}")
    try:
        return backends.array_of(x), backends.array_of(y)
    except (ValueError, TypeError):
        kinds = f"{type(x).__name__} and {type(y).__name__}"
        raise DataError(f"Trainer.{name}: expected arrays x and y, got {kinds}; {_LOADER}") from None


def hold_out(y: Array, fraction: float, seed: int) -> tuple[Array, Array]:
    """Indices to train on and to hold out: stratified for class labels, any for other targets."""
    labels = backends.to_numpy(y) if are_labels(y) and y.ndim == 1 else np.zeros(len(y), np.int64)
    return stratified_split(labels, fraction, seed)


def _check_labels(name: str, labels: Array, classes: int, ignored: int | None) -> None:
    labels = backends.to_numpy(labels)
    wrong = (labels < 0) | (labels >= classes)
    if ignored is not None:
        wrong &= labels != ignored
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        where = place[0] if len(place) == 1 else place
        raise DataError(
            f"Trainer.{name}: label {labels[place]} at position {where} is none of the model's "
            f"{classes} classes, 0 to {classes - 1}"
        )


def _check_finite(name: str, x: Array) -> None:
    if x.dtype.kind != "f":
        return
    # One at a time: no mask as large as the data.
    for i, example in enumerate(np.asarray(backends.to_numpy(example)) for example in x):
        if not np.isfinite(example).all():
            place = tuple(int(j) for j in np.argwhere(~np.isfinite(example))[0])
            raise NonFiniteError(f"Trainer.{name}: the inputs hold {example[place]} at {(i, *place)}")
