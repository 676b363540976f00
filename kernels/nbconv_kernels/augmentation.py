"""What the operations of augmentation accept: one definition for every backend."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from nbconv_kernels.geometry import Pair, nchw, pair

AFFINE_PADDINGS = ("zeros", "border", "reflection")
GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey of a pixel (ITU-R BT.601)."""


def affine_size(input_shape: Any, matrices: Any, output_size: object, padding_mode: str) -> Pair:
    """The (height, width) that ``affine_sample`` gives; its arguments are checked.

    Raises:
        ValueError: for a wrong shape, size or mode, or matrices that are not finite.
        TypeError: for matrices that are not floats.
    """
    n, _, h, w = nchw(input_shape)
    if padding_mode not in AFFINE_PADDINGS:
        raise ValueError(
            f"affine_sample: padding_mode must be one of {', '.join(map(repr, AFFINE_PADDINGS))}, "
            f"got {padding_mode!r}"
        )
    per_image("affine_sample", "matrices", matrices, (n, 2, 3))
    size = (h, w) if output_size is None else pair(output_size, "output_size")
    if min(size) < 1:
        raise ValueError(f"affine_sample: output_size must be positive, got {output_size!r}")
    return size


def per_image(op: str, name: str, values: Any, shape: tuple[int, ...]) -> None:
    """Check numbers that go with the images of a batch.

    Raises:
        ValueError: for another shape, NaN or infinity.
        TypeError: for anything but an array of floats.
    """
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        raise TypeError(f"{op}: expected {name} as an array of floats, got {_kind(values)}")
    if values.shape != shape:
        raise ValueError(f"{op}: expected {name} of shape {shape}, got {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{op}: {name} must be finite")


def check_noise(input_shape: Any, std: Any, seed: int, offset: int) -> None:
    """Check the arguments of ``gaussian_noise``.

    Raises:
        ValueError: for a wrong shape, a std that is not finite, or a seed or offset out of range.
        TypeError: for a std that is no array of floats.
    """
    per_image("gaussian_noise", "std", std, nchw(input_shape)[:1])
    for name, value in (("seed", seed), ("offset", offset)):
        if not 0 <= operator.index(value) < 1 << 64:
            raise ValueError(f"gaussian_noise: {name} must be an unsigned 64-bit number, got {value}")


def check_colors(input_shape: Any, low: float, high: float) -> None:
    """Raise a ValueError unless these are grey or RGB images and the bounds are in order."""
    channels = nchw(input_shape)[1]
    if channels not in (1, 3):
        raise ValueError(f"color_jitter: expected 1 channel (grey) or 3 (red, green, blue), got {channels}")
    if not low <= high:
        raise ValueError(f"color_jitter: expected low <= high, got {low} and {high}")


def check_boxes(input_shape: Any, boxes: Any) -> None:
    """Check the boxes (top, left, bottom, right) of ``erase_boxes``.

    Raises:
        ValueError: for another shape, or a box that is not in its image.
        TypeError: for anything but an array of integers.
    """
    n, _, h, w = nchw(input_shape)
    if not isinstance(boxes, np.ndarray) or boxes.dtype.kind not in "iu":
        raise TypeError(f"erase_boxes: expected boxes as an array of integers, got {_kind(boxes)}")
    if boxes.shape != (n, 4):
        raise ValueError(f"erase_boxes: expected boxes of shape {(n, 4)}, got {boxes.shape}")
    top, left, bottom, right = boxes.T
    wrong = (top < 0) | (top > bottom) | (bottom > h) | (left < 0) | (left > right) | (right > w)
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"erase_boxes: box {boxes[i].tolist()} of image {i} is not (top, left, bottom, right) within "
            f"{h} x {w} pixels"
        )


def check_partners(input_shape: Any, partners: Any) -> None:
    """Check the partners of ``mix_images``.

    Raises:
        ValueError: for another shape, or a partner that is none of the batch.
        TypeError: for anything but an array of integers.
    """
    n = nchw(input_shape)[0]
    if not isinstance(partners, np.ndarray) or partners.dtype.kind not in "iu":
        raise TypeError(f"mix_images: expected partners as an array of integers, got {_kind(partners)}")
    if partners.shape != (n,):
        raise ValueError(f"mix_images: expected partners of shape {(n,)}, got {partners.shape}")
    wrong = (partners < 0) | (partners >= n)
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(f"mix_images: partner {partners[i]} of image {i} is none of the {n} images")


def _kind(value: Any) -> str:
    return str(value.dtype) if isinstance(value, np.ndarray) else type(value).__name__
