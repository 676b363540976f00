"""The reference convolution against SciPy, the ONNX reference evaluator and finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import finite_differences, onnx_op, onnx_pads
from scipy.signal import correlate

from nbconv_kernels import reference as ops
from nbconv_kernels.geometry import resolve_padding, span

# x, weight, then the keyword arguments.
CASES = {
    "plain": ((2, 3, 7, 6), (4, 3, 3, 3), {}),
    "one by one": ((2, 3, 4, 5), (2, 3, 1, 1), {}),
    "strided": ((2, 3, 9, 8), (4, 3, 3, 3), {"stride": (2, 3)}),
    "stride over more than the kernel": ((1, 2, 9, 8), (2, 2, 2, 2), {"stride": 3}),
    "padded": ((2, 3, 5, 4), (4, 3, 3, 3), {"padding": (1, 2)}),
    "padded by more than the kernel": ((1, 2, 3, 3), (2, 2, 2, 2), {"padding": 4, "stride": 3}),
    "padded unevenly": ((2, 2, 5, 6), (3, 2, 3, 2), {"padding": ((1, 0), (0, 2)), "stride": (2, 1)}),
    "same": ((1, 2, 5, 6), (3, 2, 4, 3), {"padding": "same"}),
    "same, dilated": ((1, 2, 5, 6), (3, 2, 2, 3), {"padding": "same", "dilation": (3, 2)}),
    "valid": ((1, 2, 5, 6), (3, 2, 2, 3), {"padding": "valid"}),
    "dilated": ((2, 3, 9, 9), (4, 3, 3, 2), {"dilation": (2, 3), "padding": 1}),
    "rectangular": ((1, 2, 8, 3), (3, 2, 5, 1), {}),
    "as large as the input": ((2, 2, 4, 5), (3, 2, 4, 5), {}),
    "groups": ((2, 6, 5, 5), (4, 3, 3, 3), {"groups": 2, "padding": 1}),
    "depthwise": ((2, 3, 5, 5), (3, 1, 3, 3), {"groups": 3}),
    "depthwise, more outputs": (
        (1, 3, 6, 5),
        (6, 1, 3, 3),
        {"groups": 3, "stride": 2, "padding": 1},
    ),
    "all at once": (
        (2, 4, 9, 10),
        (6, 2, 3, 2),
        {"stride": (2, 1), "padding": ((1, 2), (0, 1)), "dilation": (2, 3), "groups": 2},
    ),
}
cases = pytest.mark.parametrize("case", CASES)


def operands(case):
    rng = np.random.default_rng(sum(map(ord, case)))
    x_shape, weight_shape, kwargs = CASES[case]
    return (
        rng.standard_normal(x_shape),
        rng.standard_normal(weight_shape),
        rng.standard_normal(weight_shape[0]),
        kwargs,
    )


@cases
def test_forward_agrees_with_onnx(case):
    x, weight, bias, kwargs = operands(case)
    stride, dilation = (np.broadcast_to(kwargs.get(name, 1), 2).tolist() for name in ("stride", "dilation"))
    pads = resolve_padding(kwargs.get("padding", 0), weight.shape[2:], stride, dilation)
    (expected,) = onnx_op(
        "Conv",
        x,
        weight,
        bias,
        strides=stride,
        dilations=dilation,
        pads=onnx_pads(pads),
        group=kwargs.get("groups", 1),
    )
    np.testing.assert_allclose(ops.conv2d(x, weight, bias, **kwargs), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 2])
def test_forward_agrees_with_scipy(stride, padding):
    rng = np.random.default_rng(5)
    x, weight = rng.standard_normal((2, 3, 8, 9)), rng.standard_normal((4, 3, 3, 4))
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    expected = [[correlate(image, kernel, "valid")[0] for kernel in weight] for image in padded]
    y = ops.conv2d(x, weight, stride=stride, padding=padding)
    np.testing.assert_allclose(y, np.array(expected)[:, :, ::stride, ::stride], rtol=1e-11, atol=1e-12)


@cases
def test_gradients_are_finite_differences(case):
    x, weight, bias, kwargs = operands(case)
    # Half the size: two evaluations for every element add up.
    x = x[:1]
    y = ops.conv2d(x, weight, bias, **kwargs)
    dy = np.random.default_rng(1).standard_normal(y.shape)

    def forward(*args):
        return ops.conv2d(*args, **kwargs)

    expected = [finite_differences(forward, [x, weight, bias], which, dy) for which in range(3)]
    dx = ops.conv2d_backward_input(dy, weight, x.shape, **kwargs)
    dweight = ops.conv2d_backward_weight(dy, x, weight.shape, **kwargs)
    np.testing.assert_allclose(dx, expected[0], rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(dweight, expected[1], rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(ops.conv2d_backward_bias(dy), expected[2], rtol=1e-7, atol=1e-7)


def test_lecture_example_of_two_channels():
    x = np.stack([np.arange(9.0).reshape(3, 3), np.arange(1.0, 10).reshape(3, 3)])[None]
    weight = np.array([[[[0.0, 1], [2, 3]], [[1, 2], [3, 4]]]])
    np.testing.assert_array_equal(ops.conv2d(x, weight)[0, 0], [[56, 72], [104, 120]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_layout_of_the_results(dtype):
    x, weight, bias = np.ones((2, 3, 5, 6), dtype), np.ones((4, 3, 3, 3), dtype), np.ones(4, dtype)
    y = ops.conv2d(x, weight, bias)
    dx = ops.conv2d_backward_input(y, weight, x.shape)
    dweight = ops.conv2d_backward_weight(y, x, weight.shape)
    dbias = ops.conv2d_backward_bias(y)
    assert {array.dtype for array in (y, dx, dweight, dbias)} == {np.dtype(dtype)}
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert dx.transpose(0, 2, 3, 1).flags.c_contiguous
    assert dweight.flags.c_contiguous


def test_any_strides_are_accepted():
    rng = np.random.default_rng(3)
    x, weight = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((4, 3, 2, 2))
    expected = ops.conv2d(x, weight)
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    reversed_rows = x[:, :, ::-1].copy()[:, :, ::-1]
    for view in (channels_last, reversed_rows, np.asfortranarray(x)):
        np.testing.assert_allclose(ops.conv2d(view, weight), expected, rtol=1e-12)


def test_an_empty_batch():
    x, weight = np.empty((0, 3, 5, 5)), np.ones((4, 3, 3, 3))
    y = ops.conv2d(x, weight, np.ones(4))
    assert y.shape == (0, 4, 3, 3)
    assert ops.conv2d_backward_input(y, weight, x.shape).shape == x.shape
    np.testing.assert_array_equal(ops.conv2d_backward_weight(y, x, weight.shape), np.zeros(weight.shape))
    np.testing.assert_array_equal(ops.conv2d_backward_bias(y), np.zeros(4))


def test_nan_and_infinity_go_where_the_windows_see_them():
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 0, 0], x[0, 0, 3, 3] = np.nan, np.inf
    y = ops.conv2d(x, np.ones((1, 1, 2, 2), np.float32))[0, 0]
    assert np.isnan(y[0, 0])
    assert y[2, 2] == np.inf
    assert np.count_nonzero(y) == 2


def test_what_is_wrong():
    x, weight = np.ones((1, 3, 5, 5)), np.ones((4, 3, 3, 3))
    with pytest.raises(ValueError, match=r"expected a bias of shape \(4,\), got shape \(3,\)"):
        ops.conv2d(x, weight, np.ones(3))
    with pytest.raises(ValueError, match="expected 3 input channels, got 2"):
        ops.conv2d(x[:, :2], weight)
    with pytest.raises(ValueError, match=r"expected dy of shape \(1, 4, 3, 3\), got shape \(1, 4, 5, 5\)"):
        ops.conv2d_backward_input(np.ones((1, 4, 5, 5)), weight, x.shape)
    with pytest.raises(ValueError, match=r"expected dy of shape \(1, 4, 3, 3\), got shape \(1, 5, 3, 3\)"):
        ops.conv2d_backward_weight(np.ones((1, 5, 3, 3)), x, weight.shape)
    with pytest.raises(ValueError, match=r"expected dy of shape \(N, C, P, Q\), got shape \(4, 3\)"):
        ops.conv2d_backward_bias(np.ones((4, 3)))
    with pytest.raises(TypeError, match="expected arrays of one dtype, got float64 and float32"):
        ops.conv2d(x, weight.astype(np.float32))
    with pytest.raises(TypeError, match="expected float32 or float64, got uint8"):
        ops.conv2d(x.astype(np.uint8), weight)
    with pytest.raises(TypeError, match="expected NumPy arrays, got list"):
        ops.conv2d(x, weight, [1.0] * 4)


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
pads = st.tuples(st.integers(0, 3), st.integers(0, 3))


@settings(max_examples=60)
@given(pairs, pairs, pairs, st.tuples(pads, pads), pairs, st.integers(1, 3), st.integers(0, 4))
def test_any_geometry_agrees_with_onnx(channels, kernel, stride, padding, dilation, groups, surplus):
    c, k = channels
    h, w = (
        max(1, span(r, d) - sum(pad)) + surplus for r, d, pad in zip(kernel, dilation, padding, strict=True)
    )
    rng = np.random.default_rng(h * w)
    x, weight = rng.standard_normal((2, c * groups, h, w)), rng.standard_normal((k * groups, c, *kernel))
    attributes = {"strides": stride, "dilations": dilation, "pads": onnx_pads(padding), "group": groups}
    (expected,) = onnx_op("Conv", x, weight, **attributes)
    y = ops.conv2d(x, weight, None, stride, padding, dilation, groups)
    np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)
