"""Sizes, paddings and windows of convolution and pooling: one definition for every backend.

A window of ``kernel`` taps, ``dilation`` apart, spans ``dilation * (kernel - 1) + 1`` elements. It starts at
``-pad_before`` and moves by ``stride`` as long as it fits into the padded input, so that along one axis

    output = floor((size + pad_before + pad_after - span) / stride) + 1

Output element ``p`` reads the input at ``p * stride - pad_before + tap * dilation``.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
Shape = tuple[int, int, int, int]
PairLike = int | Sequence[int]
PaddingLike = int | str | Sequence[int] | Sequence[Sequence[int]]


class Conv2dGeometry(NamedTuple):
    """Every number that a convolution, its input gradient and its weight gradient need."""

    n: int
    c: int
    h: int
    w: int
    k: int
    r: int
    s: int
    p: int
    q: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_bottom: int
    pad_left: int
    pad_right: int
    dilation_h: int
    dilation_w: int
    groups: int

    @property
    def input_shape(self) -> Shape:
        """(N, C, H, W)."""
        return self.n, self.c, self.h, self.w

    @property
    def weight_shape(self) -> Shape:
        """(out channels, input channels of one group, kernel height, kernel width)."""
        return self.k, self.c // self.groups, self.r, self.s

    @property
    def output_shape(self) -> Shape:
        """(N, out channels, output height, output width)."""
        return self.n, self.k, self.p, self.q

    @property
    def macs(self) -> int:
        """Multiply-adds of one forward pass, those with padding included."""
        return self.n * self.k * self.p * self.q * (self.c // self.groups) * self.r * self.s


class Pool2dGeometry(NamedTuple):
    """Every number that a pooling and its gradient need."""

    n: int
    c: int
    h: int
    w: int
    r: int
    s: int
    p: int
    q: int
    stride_h: int
    stride_w: int
    pad_top: int
    pad_bottom: int
    pad_left: int
    pad_right: int
    dilation_h: int
    dilation_w: int

    @property
    def input_shape(self) -> Shape:
        """(N, C, H, W)."""
        return self.n, self.c, self.h, self.w

    @property
    def output_shape(self) -> Shape:
        """(N, C, output height, output width)."""
        return self.n, self.c, self.p, self.q


def pair(value: object, name: str) -> Pair:
    """``value`` as (height, width): an integer counts for both.

    Raises:
        ValueError: for anything but one or two integers.
    """
    try:
        height, width = value if isinstance(value, tuple | list) else (value, value)
        return _integer(height), _integer(width)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an integer or a pair of integers, got {value!r}") from None


def nchw(shape: Sequence[int]) -> Shape:
    """``shape`` as the (N, C, H, W) of an input: N may be 0.

    Raises:
        ValueError: for a wrong rank or a size that is not positive.
    """
    return _shape4(shape, "an input", "(N, C, H, W)")


def span(kernel: int, dilation: int = 1) -> int:
    """Input elements from the first to the last tap of a kernel: dilation * (kernel - 1) + 1."""
    return dilation * (kernel - 1) + 1


def resolve_padding(
    padding: PaddingLike, kernel_size: PairLike, stride: PairLike = 1, dilation: PairLike = 1
) -> Padding:
    """Padding as ((top, bottom), (left, right)).

    An integer pads all four sides, a pair pads (rows, columns), "valid" pads nothing. "same" keeps the input
    size, which stride 1 alone allows; an odd surplus goes to the bottom and the right, as in PyTorch.

    Raises:
        ValueError: for any other padding, a negative one, or "same" with another stride.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding != "same":
            raise ValueError(f'padding must be "same", "valid" or integers, got {padding!r}')
        if pair(stride, "stride") != (1, 1):
            raise ValueError(f'padding="same" needs stride 1, got stride={stride!r}')
        kernel_h, kernel_w = pair(kernel_size, "kernel_size")
        dilation_h, dilation_w = pair(dilation, "dilation")
        return _halves(span(kernel_h, dilation_h) - 1), _halves(span(kernel_w, dilation_w) - 1)
    try:
        vertical, horizontal = padding if isinstance(padding, tuple | list) else (padding, padding)
        (top, bottom), (left, right) = pair(vertical, "padding"), pair(horizontal, "padding")
    except ValueError:
        raise ValueError(
            f"padding must be an integer, (height, width) or ((top, bottom), (left, right)), got {padding!r}"
        ) from None
    if min(top, bottom, left, right) < 0:
        raise ValueError(f"padding must not be negative, got {padding!r}")
    return (top, bottom), (left, right)


def output_size(
    size: int,
    kernel: int,
    stride: int = 1,
    padding: PairLike = (0, 0),
    dilation: int = 1,
    ceil_mode: bool = False,
) -> int:
    """Windows along one axis of ``size`` elements padded by (before, after).

    ``ceil_mode`` admits one more window that reaches over the end of the padded input, if it starts inside
    the input or the padding before it (PyTorch's rule).

    Raises:
        ValueError: if a number is out of range or no window fits.
    """
    before, after = pair(padding, "padding")
    for name, value in (("size", size), ("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        if isinstance(value, float) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value}")
    if before < 0 or after < 0:
        raise ValueError(f"padding must not be negative, got {padding!r}")
    padded = size + before + after
    spare = padded - span(kernel, dilation)
    count = (spare + (stride - 1 if ceil_mode else 0)) // stride + 1
    if count < 1:
        wide = f" (spanning {span(kernel, dilation)} with dilation {dilation})" if dilation > 1 else ""
        raise ValueError(f"kernel of size {kernel}{wide} is larger than the padded input of size {padded}")
    if ceil_mode and (count - 1) * stride >= size + before:
        count -= 1
    return count


def conv2d_geometry(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    groups: int = 1,
) -> Conv2dGeometry:
    """The geometry of a convolution of (N, C, H, W) with weights (out, C / groups, kh, kw).

    Raises:
        ValueError: if the shapes and arguments do not go together, saying what came and what was needed.
    """
    return _conv2d_geometry(
        tuple(input_shape),
        tuple(weight_shape),
        _hashable(stride),
        _hashable(padding),
        _hashable(dilation),
        groups,
    )


def conv_transpose2d_geometry(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    output_padding: PairLike = 0,
    groups: int = 1,
    dilation: PairLike = 1,
) -> Conv2dGeometry:
    """The geometry of the convolution whose input gradient is the transposed convolution of (N, C, H, W).

    The roles are that convolution's: its ``input_shape`` is the transposed convolution's output, its
    ``output_shape`` what goes in. With weights (C, out / groups, kh, kw), along one axis,

        output = (size - 1) * stride - pad_before - pad_after + span + output_padding

    ``output_padding`` tells apart the sizes that a stride rounds down to the same one; it is smaller than the
    stride or the dilation.

    Raises:
        ValueError: if the shapes and arguments do not go together, saying what came and what was needed.
    """
    return _conv_transpose2d_geometry(
        tuple(input_shape),
        tuple(weight_shape),
        _hashable(stride),
        _hashable(padding),
        _hashable(output_padding),
        groups,
        _hashable(dilation),
    )


def pool2d_geometry(
    input_shape: Sequence[int],
    kernel_size: PairLike,
    stride: PairLike | None = None,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    ceil_mode: bool = False,
) -> Pool2dGeometry:
    """The geometry of a pooling over (N, C, H, W). ``stride`` is the kernel's size unless given.

    Every window holds at least one element of the input: the padding may not exceed half the kernel.

    Raises:
        ValueError: if the shape and arguments do not go together, saying what came and what was needed.
    """
    return _pool2d_geometry(
        tuple(input_shape),
        _hashable(kernel_size),
        _hashable(stride),
        _hashable(padding),
        _hashable(dilation),
        bool(ceil_mode),
    )


def require_int32_places(op: str, geometry: Pool2dGeometry) -> None:
    """Raise ValueError unless ``h * W + w`` of every pixel is an int32, as the places of maxima are."""
    if geometry.h * geometry.w > 1 << 31:
        raise ValueError(
            f"{op}: images of {geometry.h} x {geometry.w} have more pixels than int32 indices tell apart"
        )


def adaptive_output_size(input_shape: Sequence[int], output_size: int | Sequence[int | None] | None) -> Pair:
    """The (height, width) an adaptive pooling of (N, C, H, W) gives; None keeps the input's.

    Raises:
        ValueError: for a wrong rank or a size that is not positive.
    """
    _, _, h, w = nchw(input_shape)
    given = tuple(output_size) if isinstance(output_size, tuple | list) else (output_size,) * 2
    if len(given) == 2:
        given = tuple(size if wanted is None else wanted for size, wanted in zip((h, w), given, strict=True))
    sizes = pair(given, "output_size")
    _positive("output_size", sizes)
    return sizes


def adaptive_window(index: int, size: int, output: int) -> Pair:
    """(start, stop) of window ``index`` when ``size`` elements are pooled to ``output``; they overlap."""
    return index * size // output, -(-(index + 1) * size // output)


def receptive_field(layers: Iterable[tuple[int, int, int]]) -> int:
    """Input elements along one axis that an output sees through layers of (kernel, stride, dilation)."""
    field, step = 1, 1
    for kernel, stride, dilation in layers:
        field += (span(kernel, dilation) - 1) * step
        step *= stride
    return field


@lru_cache(maxsize=1024, typed=True)
def _conv2d_geometry(
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: PairLike,
    padding: PaddingLike,
    dilation: PairLike,
    groups: int,
) -> Conv2dGeometry:
    n, c, h, w = nchw(input_shape)
    k, c_group, r, s = _shape4(weight_shape, "a weight", "(out, in / groups, kernel height, kernel width)")
    groups = _group_count(groups)
    if k < 1:
        raise ValueError(f"a weight of shape {weight_shape} has no output channels")
    if c != c_group * groups:
        among = f" in {groups} groups" if groups > 1 else ""
        raise ValueError(
            f"expected {c_group * groups} input channels{among}, got {c} in an input of shape {input_shape}"
        )
    if k % groups:
        raise ValueError(f"{k} output channels are not divisible by groups={groups}")
    window = _window((h, w), (r, s), stride, padding, dilation, ceil_mode=False)
    (p, q), stride2, ((top, bottom), (left, right)), dilation2 = window
    return Conv2dGeometry(n, c, h, w, k, r, s, p, q, *stride2, top, bottom, left, right, *dilation2, groups)


@lru_cache(maxsize=1024, typed=True)
def _conv_transpose2d_geometry(
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: PairLike,
    padding: PaddingLike,
    output_padding: PairLike,
    groups: int,
    dilation: PairLike,
) -> Conv2dGeometry:
    n, c, h, w = nchw(input_shape)
    weight_layout = "(in, out / groups, kernel height, kernel width)"
    k, c_group, r, s = _shape4(weight_shape, "a weight", weight_layout)
    groups = _group_count(groups)
    if c != k:
        raise ValueError(f"expected {k} input channels, got {c} in an input of shape {input_shape}")
    if k % groups:
        raise ValueError(f"{k} input channels are not divisible by groups={groups}")
    if isinstance(padding, str):
        raise ValueError(f"padding of a transposed convolution must be integers, got {padding!r}")
    stride, dilation = pair(stride, "stride"), pair(dilation, "dilation")
    surplus = pair(output_padding, "output_padding")
    for name, value in (("stride", stride), ("dilation", dilation)):
        _positive(name, value)
    if any(not 0 <= more < max(steps) for more, *steps in zip(surplus, stride, dilation, strict=True)):
        raise ValueError(
            f"output_padding must not be negative and be smaller than stride or dilation: got "
            f"output_padding={output_padding!r}, stride={stride}, dilation={dilation}"
        )
    sides = resolve_padding(padding, (r, s))
    height, width = (
        (size - 1) * step - sum(side) + span(kernel, gap) + more
        for size, step, side, kernel, gap, more in zip(
            (h, w), stride, sides, (r, s), dilation, surplus, strict=True
        )
    )
    if min(height, width) < 1:
        raise ValueError(
            f"padding {padding!r} leaves nothing of the output: kernel of size {(r, s)} over an input of "
            f"shape {input_shape} with stride {stride} gives {(height, width)}"
        )
    g = _conv2d_geometry(
        (n, c_group * groups, height, width), weight_shape, stride, padding, dilation, groups
    )
    # A surplus as large as the stride holds more windows than there are inputs.
    return g._replace(p=h, q=w)


@lru_cache(maxsize=1024, typed=True)
def _pool2d_geometry(
    input_shape: tuple[int, ...],
    kernel_size: PairLike,
    stride: PairLike | None,
    padding: PaddingLike,
    dilation: PairLike,
    ceil_mode: bool,
) -> Pool2dGeometry:
    n, c, h, w = nchw(input_shape)
    kernel = pair(kernel_size, "kernel_size")
    if isinstance(padding, str):
        raise ValueError(f"padding of a pooling must be integers, got {padding!r}")
    _positive("kernel_size", kernel)
    sides = resolve_padding(padding, kernel)
    if any(max(side) > size // 2 for side, size in zip(sides, kernel, strict=True)):
        raise ValueError(
            f"padding must be at most half the kernel: got padding={padding!r}, kernel_size={kernel}"
        )
    window = _window((h, w), kernel, kernel if stride is None else stride, padding, dilation, ceil_mode)
    outputs, stride2, sides, dilation2 = window
    for name, length, count, step, (before, _), gap in zip(
        ("row", "column"), (h, w), outputs, stride2, sides, dilation2, strict=True
    ):
        # Taps more than one apart can step over a small input, from the padding before it to that after it.
        for index in range(min(count, -(-before // step))):
            if (index * step - before) % gap >= length:
                raise ValueError(
                    f"the window of output {name} {index} holds no element of the input {input_shape}: "
                    f"kernel_size={kernel}, stride={stride2}, padding={padding!r}, dilation={dilation2}"
                )
    (top, bottom), (left, right) = sides
    return Pool2dGeometry(n, c, h, w, *kernel, *outputs, *stride2, top, bottom, left, right, *dilation2)


def _window(
    size: Pair, kernel: Pair, stride: PairLike, padding: PaddingLike, dilation: PairLike, ceil_mode: bool
) -> tuple[Pair, Pair, Padding, Pair]:
    """Output sizes, stride, padding and dilation of a sliding window, all checked."""
    stride, dilation = pair(stride, "stride"), pair(dilation, "dilation")
    for name, value in (("kernel_size", kernel), ("stride", stride), ("dilation", dilation)):
        _positive(name, value)
    sides = resolve_padding(padding, kernel, stride, dilation)
    spans = tuple(map(span, kernel, dilation))
    padded = tuple(length + sum(side) for length, side in zip(size, sides, strict=True))
    try:
        outputs = tuple(map(output_size, size, kernel, stride, sides, dilation, (ceil_mode,) * 2))
    except ValueError:
        wide = f" (spanning {spans} with dilation {dilation})" if dilation != (1, 1) else ""
        raise ValueError(
            f"kernel of size {kernel}{wide} is larger than the padded input of size {padded}"
        ) from None
    return (outputs[0], outputs[1]), stride, sides, dilation


def _shape4(shape: Sequence[int], what: str, layout: str) -> Shape:
    """Four integers: the first may be zero (an empty batch; the weights' caller says no), the others not."""
    if len(shape) != 4:
        raise ValueError(f"expected {what} of shape {layout}, got shape {tuple(shape)}")
    try:
        first, second, third, fourth = map(_integer, shape)
    except TypeError:
        raise ValueError(f"expected {what} of shape {layout}, got {tuple(shape)}") from None
    if first < 0 or min(second, third, fourth) < 1:
        raise ValueError(f"expected {what} of shape {layout} with positive sizes, got shape {tuple(shape)}")
    return first, second, third, fourth


def _group_count(groups: int) -> int:
    try:
        groups = _integer(groups)
    except TypeError:
        raise ValueError(f"groups must be an integer, got {groups!r}") from None
    if groups < 1:
        raise ValueError(f"groups must be positive, got {groups}")
    return groups


def _positive(name: str, values: Pair) -> None:
    if min(values) < 1:
        raise ValueError(f"{name} must be positive, got {values[0] if values[0] == values[1] else values}")


def _halves(total: int) -> Pair:
    return total // 2, total - total // 2


def _integer(value: object) -> int:
    if isinstance(value, bool):
        raise TypeError("a bool is not a size")
    return operator.index(value)  # type: ignore[arg-type]


def _hashable(value: Any) -> Any:
    """``value`` as a cache's key: itself, unless it is a list or holds one."""
    try:
        hash(value)
    except TypeError:
        return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value
    return value
