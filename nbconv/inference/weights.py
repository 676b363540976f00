"""Weights of a convolution as inference wants them, and when they may be used again.

Folding a batch normalisation into a convolution, and packing weights in the order kernels read them, depends
on the weights alone, so the result is kept. A user may change weights at any time, also in place, where
nothing tells. What is kept is therefore used again only if no change is possible:

* A parameter stamps each handing out of its array. If at the time of folding nobody held the array but the
  parameter (it counts the references), and none has been handed out since, it has its values still. This
  costs a comparison of two numbers. While somebody does hold the array, weights are prepared at each call, in
  the same way: the last bits of a result do not depend on who else holds the weights.
* Running statistics are plain arrays, small ones: they are compared with copies. On a device that would
  mean to wait for it, so there they count as the same as long as they are the same arrays: assign new ones
  instead of writing into them.

What neither sees: writing through a bare address, without holding the array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from nbconv import backends
from nbconv.layers.conv import Conv2d
from nbconv.layers.norm import BatchNorm2d
from nbconv.parameter import Parameter
from nbconv.typing import Array


class Weights(NamedTuple):
    """What a convolution computes with.

    Attributes:
        weight: with the normalisation's scale in it.
        bias: with its shift.
        kept: where the backend keeps what it makes of them; serves one call if they may change after it.
    """

    weight: Array
    bias: Array | None
    kept: dict[str, object]


class Snapshot:
    """What weights were read from, if nobody else could change it at that time."""

    def __init__(self, parameters: Sequence[Parameter], norms: Sequence[BatchNorm2d]) -> None:
        self._parameters = list(parameters)
        self._norms = list(norms)
        # Stamps first: who is handed an array while it is read changes the stamp.
        self._stamps = [parameter.stamp for parameter in self._parameters]
        self._statistics = [_statistics(norm) for norm in self._norms]

    @classmethod
    def of(cls, parameters: Sequence[Parameter], norms: Sequence[BatchNorm2d]) -> Self | None:
        """A snapshot, to be taken before reading; None while somebody holds an array."""
        for parameter in parameters:
            parameter.peek()  # draws it, if it is not drawn yet
        snapshot = cls(parameters, norms)
        return snapshot if all(parameter.is_unshared for parameter in parameters) else None

    @property
    def is_current(self) -> bool:
        """Whether all that was read is still so."""
        if self._stamps != [parameter.stamp for parameter in self._parameters]:
            return False
        return not self._norms or self._statistics == [_statistics(norm) for norm in self._norms]


class _Kept(NamedTuple):
    """Weights, and what they were made from: None if that may change at any time."""

    source: Snapshot | None
    folded: tuple[Array, Array] | None
    kept: dict[str, object]


class PreparedWeights:
    """The weights of a convolution and the normalisation behind it, if any, made when they are needed."""

    def __init__(self, conv: Conv2d, norm: BatchNorm2d | None = None) -> None:
        self.conv = conv
        self.norm = norm
        found = [conv.weight, conv.bias, *((norm.weight, norm.bias) if norm is not None else ())]
        self._parameters: list[Parameter] = [parameter for parameter in found if parameter is not None]
        self._current: _Kept | None = None

    @property
    def are_kept(self) -> bool:
        """Whether the last call has left weights that may be used again."""
        current = self._current
        return current is not None and current.source is not None and current.source.is_current

    def get(self) -> Weights:
        """The weights, from the last call if they cannot have changed since."""
        current = self._current
        if current is None or current.source is None or not current.source.is_current:
            current = self._current = self._make()
        if current.folded is not None:
            return Weights(*current.folded, current.kept)
        weight, bias = self.conv.weight, self.conv.bias
        return Weights(weight.peek(), None if bias is None else bias.peek(), current.kept)

    def _make(self) -> _Kept:
        source = Snapshot.of(self._parameters, [] if self.norm is None else [self.norm])
        folded = None if self.norm is None else _fold(self.conv, self.norm)
        return _Kept(source, folded, {})


def _statistics(norm: BatchNorm2d) -> list[bytes | _Same]:
    return [
        value.tobytes()
        if isinstance(value, np.ndarray)
        else _Same(value)
        if backends.is_on_device(value)
        else np.asarray(value).tobytes()
        for value in norm.statistics
    ]


class _Same:
    """Equal to what holds the very same array."""

    def __init__(self, array: Array | None) -> None:
        self._array = array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._array is other._array

    __hash__ = None  # type: ignore[assignment]


def _fold(conv: Conv2d, norm: BatchNorm2d) -> tuple[Array, Array]:
    """Weights and bias of the one convolution that does what the two layers do, computed in float64."""
    weight = _read(conv.weight)
    mean, var = (backends.to_numpy(value).astype(np.float64) for value in norm.statistics)
    with np.errstate(all="ignore"):  # as in kernels, infinity and NaN propagate without a warning
        scale = 1 / np.sqrt(var + norm.eps)
        if norm.weight is not None:
            scale = scale * _read(norm.weight)
        shift = -mean * scale if conv.bias is None else (_read(conv.bias) - mean) * scale
        if norm.bias is not None:
            shift = shift + _read(norm.bias)
        folded = weight * scale[:, None, None, None]
    dtype = conv.dtype
    return backends.to_backend(folded.astype(dtype), conv.backend), backends.to_backend(
        shift.astype(dtype), conv.backend
    )


def _read(parameter: Parameter) -> Array:
    return backends.to_numpy(parameter.peek())
