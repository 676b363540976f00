"""Group normalisation (Wu and He 2018): each image's channels are normalised in groups of consecutive ones.

    y = (x - mean) / sqrt(var + eps) * weight + bias        mean, var: of one group of one image

With M elements in a group, s = 1 / sqrt(var + eps) and g = dy * weight, sums over the group:

    dx = s g - s / M * sum of g - s^3 / M * (x - mean) * sum of g (x - mean)
    dweight = sum of dy * (x - mean) * s        dbias = sum of dy             over images and positions

The sweeps over x are those of ``normalising``: what each image's channels give is combined here, a warp for
each group, and written for each of its channels.

Limit: memory bandwidth; the output reads x twice, the gradient x three times and dy twice.
"""

from __future__ import annotations

import math
import operator

from nbconv_kernels.cuda import normalising
from nbconv_kernels.cuda.build import blocks, kernel
from nbconv_kernels.cuda.channels import Sweep, sweep
from nbconv_kernels.cuda.intrinsics import thread_index
from nbconv_kernels.cuda.memory import Array, check_float, check_same_shape, empty, empty_as, namespace, whole
from nbconv_kernels.cuda.moments import moments
from nbconv_kernels.cuda.reduction import fold, team_sum
from nbconv_kernels.cuda.target import f32, f32s, float32, u32, uint32

__all__ = ["group_norm", "group_norm_backward"]

_BLOCK = 128
_WARP = 5  # binary logarithm of the lanes that a group has


@kernel(block=_BLOCK)
def _join_moments(mean: f32s, var: f32s, groups: u32, size: u32):
    """Put each group's mean and variance in place of its channels', which have as many elements each."""
    group, lane = uint32(thread_index() >> uint32(_WARP)), uint32(thread_index() & uint32(31))
    exists = group < groups
    base = uint32(group * size) if exists else uint32(0)
    centre, total = mean[base] if exists else float32(0), float32(0)
    c = lane
    while exists and c < size:
        total += mean[uint32(base + c)] - centre
        c = uint32(c + uint32(32))
    middle = centre + team_sum(total, uint32(_WARP)) / float32(size)
    total, c = float32(0), lane
    while exists and c < size:
        deviation = mean[uint32(base + c)] - middle
        total += var[uint32(base + c)] + deviation * deviation
        c = uint32(c + uint32(32))
    variance = team_sum(total, uint32(_WARP)) / float32(size)
    c = lane
    while exists and c < size:
        mean[uint32(base + c)], var[uint32(base + c)] = middle, variance
        c = uint32(c + uint32(32))


def _statistics(x: Sweep, groups: int, size: int) -> tuple[Array, Array]:
    """The mean and the variance of each group, (images, C): for each of its channels."""
    mean, var = moments(x)
    if size > 1:
        _join_moments[blocks(groups << _WARP, _BLOCK)](mean, var, groups, size)
    return mean, var


def group_norm(
    x: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> Array:
    """Normalise each group of channels of each image of (N, C, H, W); scale and shift by channel (C,).

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: for shapes that do not go together, or channels that are no multiple of ``num_groups``.
    """
    check_float("group_norm", x, weight, bias)
    n, _, channels, groups = _shape("group_norm", x, num_groups, weight=weight, bias=bias)
    y = empty_as(x)
    if y.size:
        over = sweep(x, n, channels)
        statistics = _statistics(over, n * groups, channels // groups)
        parameters = (None if vector is None else whole(vector) for vector in (weight, bias))
        normalising.normalise(over, *statistics, *parameters, eps, False, y)
    return y


@kernel(block=_BLOCK)
def _join_sums(
    sums: f32s,
    var: f32s,
    weight: f32s,
    joint: f32s,
    channels: u32,
    per_image: u32,
    groups: u32,
    size: u32,
    eps: f32,
    weighted: u32,
):
    """Write each group's sums of dy * weight and of dy * weight * (x - mean) for each of its channels.

    The sums given, (images, 2, C), become each channel's share of dbias and dweight.
    """
    group, lane = uint32(thread_index() >> uint32(_WARP)), uint32(thread_index() & uint32(31))
    exists = group < groups
    group = group if exists else uint32(0)
    image = uint32(group // per_image)
    first = uint32(uint32(group - uint32(image * per_image)) * size)
    plain = uint32(uint32(uint32(image * uint32(2)) * channels) + first)
    products = uint32(plain + channels)
    scale = float32(1) / math.sqrt(var[uint32(uint32(image * channels) + first)] + eps)
    total, product, c = float32(0), float32(0), lane
    while exists and c < size:
        factor = weight[uint32(first + c)] if weighted != uint32(0) else float32(1)
        total += factor * sums[uint32(plain + c)]
        product += factor * sums[uint32(products + c)]
        c = uint32(c + uint32(32))
    total, product = team_sum(total, uint32(_WARP)), team_sum(product, uint32(_WARP))
    c = lane
    while exists and c < size:
        joint[uint32(plain + c)], joint[uint32(products + c)] = total, product
        sums[uint32(products + c)] *= scale
        c = uint32(c + uint32(32))


def group_norm_backward(
    dy: Array, x: Array, num_groups: int, weight: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """The gradients of ``group_norm``.

    Returns:
        (dx of the shape of ``x``, dweight (C,), dbias (C,)).

    Raises:
        TypeError: for dtypes other than float32.
        ValueError: for shapes that do not go together, or channels that are no multiple of ``num_groups``.
    """
    check_float("group_norm_backward", dy, x, weight)
    n, pixels, channels, groups = _shape("group_norm_backward", x, num_groups, weight=weight)
    check_same_shape("group_norm_backward", dy=dy, x=x)
    dx = empty_as(x)
    if not dx.size:
        dweight, dbias = namespace(x).zeros((2, channels), x.dtype)
        return dx, dweight, dbias
    over, dy, size = sweep(x, n, channels), whole(dy), channels // groups
    weight = None if weight is None else whole(weight)
    mean, var = _statistics(over, n * groups, size)
    sums = normalising.gradient_sums(dy, over, mean, var)
    joint = empty(x, sums.shape)
    settings = (channels, groups, n * groups, size, eps, weight is not None)
    _join_sums[blocks(n * groups << _WARP, _BLOCK)](sums, var, weight, joint, *settings)
    normalising.gradient(dy, over, mean, var, weight, None, joint, eps, size * pixels, dx)
    dbias, dweight = fold(sums.reshape(1, n, 2, channels))[0]
    return dx, dweight, dbias


def _shape(op: str, x: Array, num_groups: int, **vectors: Array | None) -> tuple[int, int, int, int]:
    """(images, pixels, channels, groups)."""
    groups = operator.index(num_groups)
    if x.ndim != 4 or 0 in x.shape[1:] or groups < 1 or x.shape[1] % groups:
        raise ValueError(
            f"{op}: expected x of shape (N, C, H, W), C a multiple of num_groups={num_groups}, got {x.shape}"
        )
    n, c, h, w = x.shape
    for name, vector in vectors.items():
        if vector is not None and vector.shape != (c,):
            raise ValueError(f"{op}: expected {name} of shape {(c,)}, got {vector.shape}")
    return n, h * w, c, groups
