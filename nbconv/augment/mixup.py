"""Mixup."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from nbconv.augment.seeds import Draws
from nbconv.augment.transform import Transform
from nbconv.errors import DataError
from nbconv.typing import Array


class Mixup(Transform):
    """Mix each image, and its target, with a random one of the batch.

    Targets become class probabilities, (N, num_classes), which ``CrossEntropyLoss`` takes.

    Args:
        alpha: shares are drawn from Beta(alpha, alpha); the smaller, the nearer to 0 or 1.
        num_classes: of integer labels; targets that are class probabilities need none.

    Raises:
        ValueError: for arguments that are not positive; DataError for other targets than these.

    Source: Zhang et al., "mixup: beyond empirical risk minimization", 2017.
    """

    def __init__(self, alpha: float = 1.0, num_classes: int | None = None) -> None:
        if not 0 < alpha < np.inf:
            raise self.error(f"alpha must be positive, got {alpha!r}")
        if num_classes is not None and num_classes < 1:
            raise self.error(f"num_classes must be positive, got {num_classes!r}")
        self.alpha = float(alpha)
        self.num_classes = num_classes

    def change(self, ops: ModuleType, x: Array, y: Array, draws: Draws) -> tuple[Array, Array]:
        """(x, y) mixed."""
        targets = self._probabilities(y, x.dtype)
        shares = draws.beta(self.alpha)
        partners = (draws.uniform(1)[0] * draws.images).astype(np.int64)
        share = shares.astype(targets.dtype)[:, None]
        mixed = share * targets + (1 - share) * targets[partners]
        return ops.mix_images(x, partners, shares), mixed

    def _probabilities(self, y: Array, dtype: np.dtype[np.generic]) -> Array:
        if np.issubdtype(y.dtype, np.floating) and y.ndim == 2:
            return y
        if not np.issubdtype(y.dtype, np.integer) or y.ndim != 1 or self.num_classes is None:
            raise DataError(
                "Mixup: expected class probabilities (N, classes), or integer labels (N,) and num_classes, "
                f"got targets of {y.dtype} {y.shape} and num_classes={self.num_classes}"
            )
        wrong = (y < 0) | (y >= self.num_classes)
        if wrong.any():
            i = int(wrong.argmax())
            raise DataError(f"Mixup: label {y[i]} of image {i} is none of {self.num_classes} classes")
        return np.eye(self.num_classes, dtype=dtype)[y]
