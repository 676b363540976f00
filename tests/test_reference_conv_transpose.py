"""The reference transposed convolution against the ONNX evaluator, PyTorch and finite differences."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import finite_differences, onnx_op, onnx_pads

from nbconv_kernels import reference as ops
from nbconv_kernels.geometry import conv_transpose2d_geometry, resolve_padding, span

# x, weight, then the keyword arguments.
CASES = {
    "plain": ((2, 3, 4, 5), (3, 2, 3, 3), {}),
    "one by one": ((2, 3, 4, 5), (3, 4, 1, 1), {}),
    "doubling": ((2, 3, 4, 3), (3, 2, 2, 2), {"stride": 2}),
    "doubling, smoothly": ((1, 2, 4, 5), (2, 3, 4, 4), {"stride": 2, "padding": 1}),
    "gaps": ((1, 2, 3, 4), (2, 3, 2, 2), {"stride": (3, 4)}),
    "output padding": ((2, 2, 4, 3), (2, 3, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    "output padding, one way": ((1, 2, 3, 4), (2, 2, 3, 2), {"stride": (3, 2), "output_padding": (2, 0)}),
    "output padding beyond the stride": (
        (1, 2, 4, 5),
        (2, 2, 2, 3),
        {"dilation": (3, 2), "output_padding": (2, 1)},
    ),
    "padded unevenly": ((2, 2, 5, 4), (2, 3, 3, 2), {"padding": ((1, 0), (0, 2)), "stride": (2, 3)}),
    "padded by more than the kernel": ((1, 2, 5, 5), (2, 2, 2, 2), {"padding": 3, "stride": 2}),
    "dilated": ((2, 3, 4, 5), (3, 2, 3, 2), {"dilation": (2, 3), "padding": 1}),
    "groups": ((2, 6, 4, 3), (6, 2, 3, 3), {"groups": 2, "padding": 1, "stride": 2}),
    "depthwise": ((2, 3, 4, 4), (3, 1, 3, 3), {"groups": 3, "stride": 2}),
    "all at once": (
        (2, 4, 5, 4),
        (4, 3, 3, 2),
        {"stride": (3, 2), "padding": (1, 2), "output_padding": (1, 2), "dilation": (2, 3), "groups": 2},
    ),
}
cases = pytest.mark.parametrize("case", CASES)


def operands(case):
    rng = np.random.default_rng(sum(map(ord, case)))
    x_shape, weight_shape, kwargs = CASES[case]
    out = weight_shape[1] * kwargs.get("groups", 1)
    return rng.standard_normal(x_shape), rng.standard_normal(weight_shape), rng.standard_normal(out), kwargs


@cases
def test_forward_agrees_with_onnx(case):
    x, weight, bias, kwargs = operands(case)

    def two(name, default):
        return np.broadcast_to(kwargs.get(name, default), 2).tolist()

    stride, dilation, surplus = two("stride", 1), two("dilation", 1), two("output_padding", 0)
    if max(np.subtract(surplus, stride)) >= 0 or kwargs.get("groups", 1) > 1:
        pytest.skip("more than the evaluator can do")
    (expected,) = onnx_op(
        "ConvTranspose",
        x,
        weight,
        bias,
        strides=stride,
        dilations=dilation,
        output_padding=surplus,
        pads=onnx_pads(resolve_padding(kwargs.get("padding", 0), 1)),
        group=kwargs.get("groups", 1),
    )
    y = ops.conv_transpose2d(x, weight, bias, **kwargs)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-12)


@cases
def test_gradients_are_finite_differences(case):
    x, weight, bias, kwargs = operands(case)
    x = x[:1]
    y = ops.conv_transpose2d(x, weight, bias, **kwargs)
    dy = np.random.default_rng(1).standard_normal(y.shape)

    def forward(*args):
        return ops.conv_transpose2d(*args, **kwargs)

    expected = [finite_differences(forward, [x, weight, bias], which, dy) for which in range(3)]
    dx = ops.conv_transpose2d_backward_input(dy, weight, x.shape, **kwargs)
    dweight = ops.conv_transpose2d_backward_weight(dy, x, weight.shape, **kwargs)
    np.testing.assert_allclose(dx, expected[0], rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(dweight, expected[1], rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(ops.conv2d_backward_bias(dy), expected[2], rtol=1e-7, atol=1e-7)


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=60)
@given(pairs, pairs, pairs, pairs, pairs, pairs, pairs, st.integers(1, 2))
def test_any_geometry_agrees_with_pytorch(channels, size, kernel, stride, padding, surplus, dilation, groups):
    torch = pytest.importorskip("torch")
    padding, surplus = (tuple(value - 1 for value in pair) for pair in (padding, surplus))
    assume(all(a < max(b, c) for a, b, c in zip(surplus, stride, dilation, strict=True)))
    for axis in range(2):
        spread = (size[axis] - 1) * stride[axis] + span(kernel[axis], dilation[axis]) + surplus[axis]
        assume(spread > 2 * padding[axis])
    rng = np.random.default_rng(sum(size))
    x = rng.standard_normal((2, channels[0] * groups, *size))
    weight = rng.standard_normal((channels[0] * groups, channels[1], *kernel))
    tx, tw = torch.tensor(x, requires_grad=True), torch.tensor(weight, requires_grad=True)
    arguments = (stride, padding, surplus, groups, dilation)
    expected = torch.nn.functional.conv_transpose2d(tx, tw, None, *arguments)
    y = ops.conv_transpose2d(x, weight, None, *arguments)
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-10, atol=1e-12)
    dy = rng.standard_normal(y.shape)
    expected.backward(torch.tensor(dy))
    dx = ops.conv_transpose2d_backward_input(dy, weight, x.shape, *arguments)
    dweight = ops.conv_transpose2d_backward_weight(dy, x, weight.shape, *arguments)
    np.testing.assert_allclose(dx, tx.grad, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dweight, tw.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 2])
def test_dtype_and_layout_of_the_results(dtype, n):
    x, weight, bias = np.ones((n, 3, 4, 5), dtype), np.ones((3, 2, 3, 3), dtype), np.ones(2, dtype)
    y = ops.conv_transpose2d(x, weight, bias, stride=2)
    dx = ops.conv_transpose2d_backward_input(y, weight, x.shape, stride=2)
    dweight = ops.conv_transpose2d_backward_weight(y, x, weight.shape, stride=2)
    assert y.shape == (n, 2, 9, 11)
    assert dx.shape == x.shape
    assert {array.dtype for array in (y, dx, dweight)} == {np.dtype(dtype)}
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert dx.transpose(0, 2, 3, 1).flags.c_contiguous
    assert dweight.flags.c_contiguous


def test_geometry_is_that_of_the_convolution_it_turns_around():
    g = conv_transpose2d_geometry((2, 4, 5, 6), (4, 3, 3, 3), 2, 1, 1, 1, 1)
    assert g.output_shape == (2, 4, 5, 6)
    assert g.input_shape == (2, 3, 10, 12)
    assert g.weight_shape == (4, 3, 3, 3)
    assert g.macs == 2 * 4 * 5 * 6 * 3 * 3 * 3


def test_what_is_wrong():
    x, weight = np.ones((1, 3, 5, 5)), np.ones((3, 4, 3, 3))
    y = np.ones((1, 4, 7, 7))
    with pytest.raises(ValueError, match=r"expected a bias of shape \(4,\), got shape \(3,\)"):
        ops.conv_transpose2d(x, weight, np.ones(3))
    with pytest.raises(ValueError, match="expected 3 input channels, got 2"):
        ops.conv_transpose2d(x[:, :2], weight)
    with pytest.raises(ValueError, match=r"output_padding must .* be smaller than stride or dilation"):
        ops.conv_transpose2d(x, weight, output_padding=1)
    with pytest.raises(ValueError, match="output_padding must not be negative"):
        ops.conv_transpose2d(x, weight, output_padding=-1)
    with pytest.raises(ValueError, match=r"leaves nothing of the output: .* gives \(-1, -1\)"):
        ops.conv_transpose2d(x, weight, padding=4)
    with pytest.raises(ValueError, match="padding of a transposed convolution must be integers, got 'same'"):
        ops.conv_transpose2d(x, weight, padding="same")
    with pytest.raises(ValueError, match="stride must be positive, got 0"):
        ops.conv_transpose2d(x, weight, stride=0)
    with pytest.raises(ValueError, match="3 input channels are not divisible by groups=2"):
        ops.conv_transpose2d(x, weight, groups=2)
    with pytest.raises(ValueError, match=r"expected dy of shape \(1, 4, 7, 7\), got shape \(1, 3, 5, 5\)"):
        ops.conv_transpose2d_backward_input(x, weight, x.shape)
    with pytest.raises(ValueError, match=r"expected dy of shape \(1, 4, 7, 7\), got shape \(1, 4, 6, 7\)"):
        ops.conv_transpose2d_backward_weight(y[:, :, 1:], x, weight.shape)
    with pytest.raises(TypeError, match="expected arrays of one dtype, got float64 and float32"):
        ops.conv_transpose2d(x, weight.astype(np.float32))
