"""Which elements padding and resampling read along one axis: one definition for every backend.

Padding by reflection and its like, and nearest resampling, copy one input element to each output element.
Linear resampling blends two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from nbconv_kernels.geometry import Padding, PaddingLike, Pair, nchw, pair, resolve_padding

PAD_MODES = ("constant", "reflect", "replicate", "symmetric", "circular")
RESAMPLE_MODES = ("nearest", "bilinear")
OUTSIDE = -1
"""In place of an input element: the output element is a constant."""


def pad2d_sides(input_shape: Sequence[int], padding: PaddingLike, mode: str) -> Padding:
    """The ((top, bottom), (left, right)) by which an input (N, C, H, W) is padded, if it can be.

    Raises:
        ValueError: for another mode, a wrong shape or padding, or one that the mode cannot fill: a reflection
            needs a padding smaller than the input, the other copies at most one as large.
    """
    if mode not in PAD_MODES:
        raise ValueError(f"mode must be one of {', '.join(map(repr, PAD_MODES))}, got {mode!r}")
    size = nchw(input_shape)[2:]
    if isinstance(padding, str):
        raise ValueError(f"padding must be integers, got {padding!r}")
    sides = resolve_padding(padding, 1)
    if mode in ("reflect", "symmetric", "circular"):
        for length, side in zip(size, sides, strict=True):
            most = length - 1 if mode == "reflect" else length
            if max(side) > most:
                raise ValueError(
                    f'mode "{mode}" fills at most {most} elements beside {length}, got padding={padding!r} '
                    f"for an input of shape {tuple(input_shape)}"
                )
    return sides


@lru_cache(maxsize=1024)
def padding_sources(size: int, before: int, after: int, mode: str) -> tuple[int, ...]:
    """The input element that each element of an axis padded by (before, after) repeats, or ``OUTSIDE``.

    For ``abcd`` padded by two on each side: "reflect" gives ``cb abcd cb``, "symmetric" ``ba abcd dc``,
    "replicate" ``aa abcd dd``, "circular" ``cd abcd ab``.
    """
    sources = []
    for place in range(-before, size + after):
        if 0 <= place < size:
            source = place
        elif mode == "constant":
            source = OUTSIDE
        elif mode == "replicate":
            source = 0 if place < 0 else size - 1
        elif mode == "circular":
            source = place % size
        else:
            edge = 1 if mode == "symmetric" else 0  # whether the outermost element is repeated itself
            source = -place - edge if place < 0 else 2 * (size - 1) - place + edge
        sources.append(source)
    return tuple(sources)


def upsample2d_size(input_shape: Sequence[int], output_size: object, mode: str, align_corners: bool) -> Pair:
    """The (height, width) that (N, C, H, W) is resampled to, if it can be.

    Raises:
        ValueError: for a wrong shape, a size that is not positive, another mode, or aligned corners without
            interpolation.
    """
    nchw(input_shape)
    if mode not in RESAMPLE_MODES:
        raise ValueError(f"mode must be one of {', '.join(map(repr, RESAMPLE_MODES))}, got {mode!r}")
    if align_corners and mode == "nearest":
        raise ValueError('align_corners goes with mode "bilinear", not "nearest"')
    size = pair(output_size, "output_size")
    if min(size) < 1:
        raise ValueError(f"output_size must be positive, got {output_size!r}")
    return size


def scale_factors(scale_factor: float | Sequence[float] | None) -> tuple[float | None, float | None]:
    """``scale_factor`` as (vertical, horizontal).

    Raises:
        ValueError: if one is not a positive number.
    """
    if scale_factor is None:
        return None, None
    given = tuple(scale_factor) if isinstance(scale_factor, tuple | list) else (scale_factor,) * 2
    if len(given) != 2 or not all(math.isfinite(factor) and factor > 0 for factor in given):
        raise ValueError(f"scale_factor must be a positive number or two, got {scale_factor!r}")
    return float(given[0]), float(given[1])


@lru_cache(maxsize=1024)
def nearest_sources(size: int, output: int, scale_factor: float | None = None) -> tuple[int, ...]:
    """The input element that each of ``output`` elements repeats: floor(place * size / output).

    As in PyTorch, ``scale_factor`` takes the place of output / size, and the product is rounded to float32
    before it is cut, except where sizes are equal or doubled.
    """
    if output == size:
        return tuple(range(size))
    if output == 2 * size:
        return tuple(place // 2 for place in range(output))
    step = np.float32(size) / np.float32(output) if scale_factor is None else np.float32(1 / scale_factor)
    places = np.floor(np.arange(output, dtype=np.float32) * step)
    return tuple(np.minimum(places.astype(np.int64), size - 1).tolist())


@lru_cache(maxsize=1024)
def linear_sources(
    size: int, output: int, align_corners: bool = False, scale_factor: float | None = None
) -> tuple[tuple[int, int, float], ...]:
    """(first, second, weight of the second) of the input elements that each of ``output`` elements blends.

    Elements are squares side by side: the middle of output element i lies at (i + 0.5) * size / output of the
    input, whose element j has its middle at j + 0.5; outside of the first and last middle nothing is blended.
    With ``align_corners`` they are points, of which first and last coincide. As in PyTorch, ``scale_factor``
    takes the place of output / size where corners are not aligned and the sizes differ.
    """
    if output == size:
        return tuple((place, place, 0.0) for place in range(size))
    if align_corners:
        step = (size - 1) / (output - 1) if output > 1 else 0.0
    else:
        step = size / output if scale_factor is None else 1 / scale_factor
    sources = []
    for place in range(output):
        at = place * step if align_corners else max((place + 0.5) * step - 0.5, 0.0)
        first = min(int(at), size - 1)
        sources.append((first, min(first + 1, size - 1), min(at - first, 1.0)))
    return tuple(sources)
