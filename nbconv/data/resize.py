"""Bilinear resizing of images."""

from __future__ import annotations

import numpy as np

from nbconv import backends
from nbconv.typing import Array


def resize_bilinear(images: Array, size: int | tuple[int, int]) -> Array:
    """Resize the last two axes of ``images`` (..., H, W) to ``size``, a side or (height, width).

    Pixel centres lie at half-integers, so output row i reads the input at (i + 0.5) * H / height - 0.5,
    clamped to the image, as PyTorch's ``interpolate(mode="bilinear", align_corners=False)`` does. Nothing is
    smoothed before shrinking. Floats keep their dtype; other types become float32.

    Raises:
        ValueError: when there are fewer than two axes, or a side is less than 1.
    """
    images = backends.to_numpy(images)
    height, width = (size, size) if isinstance(size, int) else size
    if images.ndim < 2 or 0 in images.shape[-2:]:
        raise ValueError(f"resize_bilinear: expected images of shape (..., H, W), got {images.shape}")
    if height < 1 or width < 1:
        raise ValueError(f"resize_bilinear: expected a size of at least 1 x 1, got {height} x {width}")
    if not np.issubdtype(images.dtype, np.floating):
        images = images.astype(np.float32)
    return _resize_axis(_resize_axis(images, -2, height), -1, width)


def _resize_axis(images: Array, axis: int, length: int) -> Array:
    old = images.shape[axis]
    if old == length:
        return images
    position = np.clip((np.arange(length) + 0.5) * (old / length) - 0.5, 0, old - 1)
    low = np.floor(position).astype(np.intp)
    high = np.minimum(low + 1, old - 1)
    share = (position - low).astype(images.dtype).reshape((-1,) + (1,) * (-1 - axis))
    resized: Array = images.take(low, axis) * (1 - share) + images.take(high, axis) * share
    return resized
