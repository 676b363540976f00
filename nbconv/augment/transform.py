"""What every transform is, and the numbers its constructor accepts."""

from __future__ import annotations

import inspect
import math
from types import ModuleType

from nbconv.adjustable import Adjustable
from nbconv.augment.seeds import Draws
from nbconv.errors import DataError, DTypeError
from nbconv.typing import Array, Pair


class Transform(Adjustable):
    """A random change to a batch. Subclasses define ``change``."""

    def __call__(self, x: Array, y: Array, seed: int) -> tuple[Array, Array]:
        """(x, y) changed, each image by its own draws.

        Where pixels move, targets that are of pixels, (N, H, W) or (N, C, H, W), move with them: to the
        nearest pixel, nothing blended.

        Args:
            x: (N, C, H, W), float32 or float64; channels-last memory is fastest.
            y: targets, one along the first axis for each image.
            seed: an unsigned 64-bit number.

        Raises:
            DataError: when x is no batch of images, y does not go with it or cannot be moved with it, or the
                images do not suit the transform.
            DTypeError: when x is neither float32 nor float64.
            ValueError: when the seed is out of range.
        """
        from nbconv.augment.compose import Compose

        return Compose([self])(x, y, seed)

    def ignoring(self, ignore_index: int | None) -> Transform:
        """This transform, giving pixels from beyond the edge that label, unless it gives them one already."""
        from nbconv.augment.compose import Compose

        called_as_usual = type(self).__call__ is Transform.__call__
        return Compose([self], ignore_index=ignore_index) if called_as_usual else self

    def change(self, ops: ModuleType, x: Array, y: Array, draws: Draws) -> tuple[Array, Array]:
        """(x, y) changed, by the operations of a backend; neither array may be written to."""
        raise NotImplementedError

    def error(self, message: str) -> ValueError:
        """An exception about the transform's arguments."""
        return ValueError(f"{type(self).__name__}: {message}")

    def __repr__(self) -> str:
        arguments = inspect.signature(type(self)).parameters
        shown = [f"{name}={getattr(self, name)!r}" for name in arguments]
        return f"{type(self).__name__}({', '.join(shown)})"


class Geometric(Transform):
    """A transform that moves pixels, and the targets of pixels with them. Subclasses define ``move``.

    ``Compose`` multiplies the matrices of neighbours, so that images are sampled once and nothing is cut off
    in between. Neighbours that fill differently beyond the edge are sampled one after the other.

    Attributes:
        padding_mode: what lies beyond the edge, as in ``affine_sample``: "zeros" (then ``fill``), "border" or
            "reflection"; None for transforms that do not look there.
        fill: the value for "zeros".
    """

    padding_mode: str | None = None
    fill: float = 0.0

    def move(self, draws: Draws, size: Pair) -> tuple[Array, Pair]:
        """Where each pixel comes from: matrices, float64 (N, 2, 3), and the (height, width) of the result.

        They send (column, row), in pixels from the middle of the result, to the same in images of ``size``.
        """
        raise NotImplementedError

    def beyond(self, padding_mode: str, fill: float) -> None:
        """Set what lies beyond the edge.

        Raises:
            ValueError: for another mode.
        """
        modes = ("zeros", "border", "reflection")
        if padding_mode not in modes:
            raise self.error(
                f"padding_mode must be one of {', '.join(map(repr, modes))}, got {padding_mode!r}"
            )
        self.padding_mode = padding_mode
        self.fill = float(fill)


def check_images(x: Array, y: Array) -> None:
    """Raise as ``Transform.__call__`` does unless this is a batch."""
    if x.ndim != 4 or min(x.shape[1:], default=0) < 1:
        raise DataError(f"augment: expected images of shape (N, C, H, W), got shape {x.shape}")
    if x.dtype not in ("float32", "float64"):
        raise DTypeError(f"augment: expected float32 or float64 images, got {x.dtype}")
    if y.ndim < 1 or len(y) != len(x):
        raise DataError(f"augment: {len(x)} images but targets of shape {y.shape}")


def interval(owner: Transform, name: str, value: object, middle: float = 0.0) -> tuple[float, float]:
    """``value`` as (low, high): one number is a distance to both sides of ``middle``.

    Raises:
        ValueError: unless it is a number of at least 0 or two numbers in order, all finite.
    """
    pair = tuple(value) if isinstance(value, tuple | list) else (value,)
    if all(isinstance(number, int | float) and math.isfinite(number) for number in pair):
        if len(pair) == 1 and pair[0] >= 0:
            return middle - pair[0], middle + pair[0]
        if len(pair) == 2 and pair[0] <= pair[1]:
            return float(pair[0]), float(pair[1])
    raise owner.error(f"{name} must be a number of at least 0 or (low, high), got {value!r}")


def within(unit: Array, bounds: tuple[float, float]) -> Array:
    """Numbers in [0, 1) stretched to ``bounds``."""
    low, high = bounds
    stretched: Array = low + (high - low) * unit
    return stretched


def probability(owner: Transform, p: float) -> float:
    """``p``, if it is a probability.

    Raises:
        ValueError: if not.
    """
    if not 0.0 <= p <= 1.0:
        raise owner.error(f"p is a probability and must be in [0, 1], got {p!r}")
    return float(p)
