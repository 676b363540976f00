"""Geometry against windows counted one by one, and against the shapes that PyTorch gives."""

from itertools import pairwise

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from nbconv_kernels.geometry import (
    adaptive_output_size,
    adaptive_window,
    conv2d_geometry,
    nchw,
    output_size,
    pair,
    pool2d_geometry,
    receptive_field,
    resolve_padding,
    span,
)

small = st.integers(1, 6)
padding = st.tuples(st.integers(0, 4), st.integers(0, 4))


def count_windows(size, kernel, stride, padding, dilation, ceil_mode):
    """Slide a window over the padded input and count."""
    before, after = padding
    starts = []
    start = -before
    # With ceil_mode a window may hang over the end, by less than the stride.
    while start + (kernel - 1) * dilation < size + after + (stride - 1 if ceil_mode else 0):
        starts.append(start)
        start += stride
    if ceil_mode and starts and starts[-1] >= size:
        starts.pop()
    return len(starts)


@settings(max_examples=300)
@given(st.integers(1, 20), small, small, padding, small, st.booleans())
@example(2, 3, 2, (0, 0), 1, True)
@example(7, 3, 3, (0, 0), 1, False)
def test_output_size_counts_the_windows(size, kernel, stride, pads, dilation, ceil_mode):
    count = count_windows(size, kernel, stride, pads, dilation, ceil_mode)
    if count == 0:
        with pytest.raises(ValueError, match=r"kernel of size .* is larger than the padded input of size"):
            output_size(size, kernel, stride, pads, dilation, ceil_mode)
    else:
        assert output_size(size, kernel, stride, pads, dilation, ceil_mode) == count


@settings(max_examples=100)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 14), st.integers(1, 14)),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    st.tuples(small, small),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 3),
)
def test_convolution_has_the_output_shape_of_pytorch(shape, kernel, stride, pads, dilation, groups):
    torch = pytest.importorskip("torch")
    n, c, h, w = shape
    k, r, s = kernel
    assume(span(r, dilation[0]) <= h + 2 * pads[0])
    assume(span(s, dilation[1]) <= w + 2 * pads[1])
    weight = torch.empty(k * groups, c, r, s, device="meta")
    expected = torch.nn.functional.conv2d(
        torch.empty(n, c * groups, h, w, device="meta"), weight, None, stride, pads, dilation, groups
    )
    g = conv2d_geometry((n, c * groups, h, w), weight.shape, stride, pads, dilation, groups)
    assert g.output_shape == tuple(expected.shape)
    assert g.input_shape == (n, c * groups, h, w)
    assert g.weight_shape == tuple(weight.shape)
    assert g.macs == expected.numel() * c * r * s


@settings(max_examples=150)
@given(
    st.tuples(st.just(1), st.just(2), st.integers(1, 14), st.integers(1, 14)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.none() | st.tuples(small, small),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.booleans(),
)
def test_pooling_has_the_output_shape_of_pytorch(shape, kernel, stride, pads, dilation, ceil_mode):
    torch = pytest.importorskip("torch")
    assume(pads[0] <= kernel[0] // 2)
    assume(pads[1] <= kernel[1] // 2)
    try:
        g = pool2d_geometry(shape, kernel, stride, pads, dilation, ceil_mode)
    except ValueError as error:
        if "holds no element" in str(error):
            # PyTorch reads outside the input here: there is nothing to compare with.
            return
        with pytest.raises(RuntimeError, match="Output size is too small"):
            torch.nn.functional.max_pool2d(torch.zeros(shape), kernel, stride, pads, dilation, ceil_mode)
    else:
        y = torch.nn.functional.max_pool2d(torch.zeros(shape), kernel, stride, pads, dilation, ceil_mode)
        assert g.output_shape == tuple(y.shape)


@settings(max_examples=100)
@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 3))
def test_same_keeps_the_size_and_puts_the_surplus_last(size, kernel, dilation):
    pads = resolve_padding("same", (kernel, 1), 1, (dilation, 1))
    assert pads[1] == (0, 0)
    before, after = pads[0]
    assert after - before in (0, 1)
    assert output_size(size, kernel, 1, pads[0], dilation) == size


@settings(max_examples=100)
@given(st.integers(1, 30), st.integers(1, 30))
def test_adaptive_windows_cover_everything(size, output):
    windows = [adaptive_window(i, size, output) for i in range(output)]
    assert windows[0][0] == 0
    assert windows[-1][1] == size
    assert all(start < stop for start, stop in windows)
    assert all(later[0] <= earlier[1] for earlier, later in pairwise(windows))


def test_forms_of_padding():
    assert resolve_padding(2, 3) == ((2, 2), (2, 2))
    assert resolve_padding((1, 2), 3) == ((1, 1), (2, 2))
    assert resolve_padding([[1, 2], [3, 4]], 3) == ((1, 2), (3, 4))
    assert resolve_padding((1, (3, 4)), 3) == ((1, 1), (3, 4))
    assert resolve_padding("valid", 3, stride=2) == ((0, 0), (0, 0))
    assert resolve_padding("same", (4, 3)) == ((1, 2), (1, 1))


def test_one_field_of_the_convolution_each():
    g = conv2d_geometry((2, 6, 11, 9), (8, 3, 3, 2), (2, 1), ((1, 0), (2, 3)), (2, 3), 2)
    assert g == (2, 6, 11, 9, 8, 3, 2, 4, 11, 2, 1, 1, 0, 2, 3, 2, 3, 2)
    assert (g.pad_top, g.pad_bottom, g.pad_left, g.pad_right) == (1, 0, 2, 3)
    assert g.output_shape == (2, 8, 4, 11)
    assert g is conv2d_geometry([2, 6, 11, 9], [8, 3, 3, 2], [2, 1], [[1, 0], [2, 3]], [2, 3], 2)


def test_one_field_of_the_pooling_each():
    g = pool2d_geometry((2, 6, 11, 9), (3, 2), (2, 1), ((1, 0), (0, 1)), (2, 3), True)
    assert g == (2, 6, 11, 9, 3, 2, 5, 7, 2, 1, 1, 0, 0, 1, 2, 3)
    assert pool2d_geometry((1, 1, 6, 6), 3).output_shape == (1, 1, 2, 2)


def test_an_empty_batch_is_a_batch():
    assert conv2d_geometry((0, 1, 4, 4), (2, 1, 3, 3)).output_shape == (0, 2, 2, 2)
    assert pool2d_geometry((0, 1, 4, 4), 2).output_shape == (0, 1, 2, 2)
    assert conv2d_geometry((0, 1, 4, 4), (2, 1, 3, 3)).macs == 0


def test_receptive_fields():
    assert receptive_field([]) == 1
    assert receptive_field([(3, 1, 1)] * 2) == 5
    assert receptive_field([(3, 1, 1)] * 3) == 7
    assert receptive_field([(3, 1, 4)]) == span(3, 4) == 9
    assert receptive_field([(7, 2, 1), (3, 2, 1), (3, 1, 1)]) == 19


CONV_ERRORS = {
    "rank of the input": (((6, 8, 8), (4, 6, 3, 3)), r"input of shape \(N, C, H, W\), got shape \(6, 8, 8\)"),
    "rank of the weight": (
        ((1, 6, 8, 8), (4, 6, 3)),
        r"weight of shape \(out, in / groups, .*got shape \(4, 6, 3\)",
    ),
    "channels": (
        ((128, 6, 14, 14), (4, 16, 3, 3)),
        r"expected 16 input channels, got 6 in an input of shape \(128, 6, 14, 14\)",
    ),
    "channels in groups": (
        ((1, 6, 8, 8), (4, 1, 3, 3), 1, 0, 1, 4),
        "expected 4 input channels in 4 groups, got 6 in an input",
    ),
    "output channels in groups": (
        ((1, 6, 8, 8), (5, 3, 3, 3), 1, 0, 1, 2),
        "5 output channels are not divisible by groups=2",
    ),
    "no groups": (((1, 6, 8, 8), (4, 6, 3, 3), 1, 0, 1, 0), "groups must be positive, got 0"),
    "half a group": (((1, 6, 8, 8), (4, 6, 3, 3), 1, 0, 1, 1.5), "groups must be an integer, got 1.5"),
    "no outputs": (((1, 6, 8, 8), (0, 6, 3, 3)), r"weight of shape \(0, 6, 3, 3\) has no output channels"),
    "no kernel": (((1, 6, 8, 8), (4, 6, 0, 3)), r"positive sizes, got shape \(4, 6, 0, 3\)"),
    "no rows": (((1, 6, 0, 8), (4, 6, 3, 3)), r"positive sizes, got shape \(1, 6, 0, 8\)"),
    "negative batch": (((-1, 6, 8, 8), (4, 6, 3, 3)), r"positive sizes, got shape \(-1, 6, 8, 8\)"),
    "fractional size": (((1, 6, 8.0, 8), (4, 6, 3, 3)), r"shape \(N, C, H, W\), got \(1, 6, 8.0, 8\)"),
    "stride 0": (((1, 6, 8, 8), (4, 6, 3, 3), 0), "stride must be positive, got 0"),
    "stride (1, -2)": (((1, 6, 8, 8), (4, 6, 3, 3), (1, -2)), r"stride must be positive, got \(1, -2\)"),
    "stride of three": (((1, 6, 8, 8), (4, 6, 3, 3), (1, 2, 3)), r"pair of integers, got \(1, 2, 3\)"),
    "stride True": (((1, 6, 8, 8), (4, 6, 3, 3), True), "stride must be an integer or a pair of .*got True"),
    "dilation 0": (((1, 6, 8, 8), (4, 6, 3, 3), 1, 0, 0), "dilation must be positive, got 0"),
    "padding -1": (((1, 6, 8, 8), (4, 6, 3, 3), 1, -1), "padding must not be negative, got -1"),
    "padding 1.5": (((1, 6, 8, 8), (4, 6, 3, 3), 1, 1.5), "padding must be an integer, .*got 1.5"),
    "padding None": (((1, 6, 8, 8), (4, 6, 3, 3), 1, None), "padding must be an integer, .*got None"),
    "padding full": (((1, 6, 8, 8), (4, 6, 3, 3), 1, "full"), '"same", "valid" or integers, got \'full\''),
    "same, strided": (
        ((1, 6, 8, 8), (4, 6, 3, 3), 2, "same"),
        r"needs stride 1, got stride=\(2, 2\)",
    ),
    "kernel too large": (
        ((1, 6, 4, 8), (4, 6, 7, 3), 1, 1),
        r"kernel of size \(7, 3\) is larger than the padded input of size \(6, 10\)",
    ),
    "dilated kernel too large": (
        ((1, 6, 4, 8), (4, 6, 3, 3), 1, 0, 2),
        r"kernel of size \(3, 3\) \(spanning \(5, 5\) with dilation \(2, 2\)\) is larger than the padded",
    ),
}


@pytest.mark.parametrize("case", CONV_ERRORS)
def test_what_is_wrong_with_a_convolution(case):
    args, message = CONV_ERRORS[case]
    with pytest.raises(ValueError, match=message):
        conv2d_geometry(*args)


POOL_ERRORS = {
    "rank": (((8, 8), 2), r"input of shape \(N, C, H, W\), got shape \(8, 8\)"),
    "kernel 0": (((1, 1, 8, 8), 0), "kernel_size must be positive, got 0"),
    "kernel of text": (
        ((1, 1, 8, 8), "22"),
        "kernel_size must be an integer or a pair of integers, got '22'",
    ),
    "stride 0": (((1, 1, 8, 8), 2, 0), "stride must be positive, got 0"),
    "wide padding": (((1, 1, 8, 8), 3, 1, 2), "padding must be at most half the kernel: got padding=2"),
    "padding by name": (((1, 1, 8, 8), 3, 1, "same"), "padding of a pooling must be integers, got 'same'"),
    "kernel too large": (((1, 1, 8, 8), 9), "is larger than the padded input of size"),
    "kernel far too large to hang over": (
        ((1, 1, 2, 2), 4, 1, 0, 1, True),
        "is larger than the padded input",
    ),
    "taps that jump over the input": (((1, 1, 2, 2), 2, 1, 1, 3), "window of output row 0 holds no element"),
}


@pytest.mark.parametrize("case", POOL_ERRORS)
def test_what_is_wrong_with_a_pooling(case):
    args, message = POOL_ERRORS[case]
    with pytest.raises(ValueError, match=message):
        pool2d_geometry(*args)


def test_what_is_wrong_with_sizes():
    with pytest.raises(ValueError, match="size must be a positive integer, got 0"):
        output_size(0, 1)
    with pytest.raises(ValueError, match=r"stride must be a positive integer, got 1\.5"):
        output_size(4, 1, stride=1.5)
    with pytest.raises(ValueError, match="padding must not be negative"):
        output_size(4, 1, padding=(-1, 0))
    with pytest.raises(
        ValueError, match=r"kernel of size 3 \(spanning 5 with dilation 2\) is larger .* size 4"
    ):
        output_size(4, 3, dilation=2)
    with pytest.raises(ValueError, match=r"stride must be an integer or a pair of integers, got \(1, 2.5\)"):
        pair((1, 2.5), "stride")
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        nchw((1, 2, 3))


def test_adaptive_sizes():
    assert adaptive_output_size((2, 3, 8, 9), 4) == (4, 4)
    assert adaptive_output_size((2, 3, 8, 9), (None, 5)) == (8, 5)
    assert adaptive_output_size((2, 3, 8, 9), None) == (8, 9)
    for wrong, message in (
        (0, "output_size must be positive, got 0"),
        ((1, 2, 3), r"a pair of integers, got \(1, 2, 3\)"),
        (1.5, "a pair of integers"),
    ):
        with pytest.raises(ValueError, match=message):
            adaptive_output_size((2, 3, 8, 9), wrong)
