"""The reference poolings against the ONNX reference evaluator, PyTorch and finite differences."""

import numpy as np
import pytest
from oracles import distinct, finite_differences, onnx_op, onnx_pads

from nbconv_kernels import cpu
from nbconv_kernels import reference as ops
from nbconv_kernels.geometry import resolve_padding

# The input's shape, the kernel, and the keyword arguments that both poolings take.
CASES = {
    "halves": ((2, 3, 6, 8), 2, {}),
    "rectangular": ((2, 3, 7, 8), (3, 2), {"stride": (1, 3)}),
    "overlapping": ((2, 3, 7, 7), 3, {"stride": 2}),
    "every position": ((1, 2, 5, 5), 3, {"stride": 1}),
    "gaps": ((1, 2, 9, 9), 2, {"stride": 4}),
    "padded": ((2, 3, 7, 6), 3, {"stride": 2, "padding": 1}),
    "padded by half": ((1, 2, 4, 4), 2, {"stride": 1, "padding": 1}),
    "padded unevenly": ((1, 2, 5, 6), (3, 4), {"stride": 2, "padding": ((0, 1), (2, 1))}),
    "whole": ((2, 3, 4, 5), (4, 5), {}),
    "ceil": ((2, 3, 6, 8), 3, {"stride": 2, "ceil_mode": True}),
    "ceil, padded": ((2, 2, 7, 8), 3, {"stride": 3, "padding": 1, "ceil_mode": True}),
    "ceil, last window in the padding": (
        (1, 2, 4, 4),
        2,
        {"stride": 3, "padding": 1, "ceil_mode": True},
    ),
    "ceil, kernel larger than the input": ((1, 1, 2, 2), 3, {"stride": 2, "ceil_mode": True}),
    "ceil that changes nothing": ((1, 2, 6, 6), 2, {"ceil_mode": True}),
}
cases = pytest.mark.parametrize("case", CASES)
DILATED = {
    "dilated": ((2, 3, 9, 8), 3, {"stride": 1, "dilation": 2}),
    "dilated, strided, padded": ((2, 2, 9, 9), (3, 2), {"stride": 2, "padding": 1, "dilation": (2, 3)}),
    "dilated, ceil": ((1, 2, 9, 8), 2, {"stride": 3, "dilation": 2, "ceil_mode": True}),
}


def onnx_attributes(kernel, kwargs):
    def two(value):
        return np.broadcast_to(value, 2).tolist()

    return {
        "kernel_shape": two(kernel),
        "strides": two(kwargs.get("stride", kernel)),
        "pads": onnx_pads(resolve_padding(kwargs.get("padding", 0), kernel)),
        "dilations": two(kwargs.get("dilation", 1)),
        "ceil_mode": int(kwargs.get("ceil_mode", False)),
    }


@pytest.mark.parametrize("case", [*CASES, *DILATED])
def test_max_pool_agrees_with_onnx(case):
    shape, kernel, kwargs = (CASES | DILATED)[case]
    x = distinct(shape)
    attributes = onnx_attributes(kernel, kwargs)
    expected, places = onnx_op("MaxPool", x, outputs=2, **attributes)
    y, indices = ops.max_pool2d(x, kernel, **kwargs)
    np.testing.assert_array_equal(y, expected)
    # No element is there twice, so each maximum tells its place.
    n, c, h, w = shape
    chosen = np.take_along_axis(x.reshape(n, c, -1), indices.reshape(n, c, -1).astype(int), axis=2)
    np.testing.assert_array_equal(chosen.reshape(y.shape), y)
    if max(attributes["strides"] + attributes["dilations"]) > 1:
        # ONNX counts through the whole tensor (and its evaluator, at stride 1, through the padding).
        np.testing.assert_array_equal(indices, places - np.arange(n * c).reshape(n, c, 1, 1) * h * w)


@cases
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_avg_pool_agrees_with_onnx(case, count_include_pad):
    shape, kernel, kwargs = CASES[case]
    x = distinct(shape)
    attributes = onnx_attributes(kernel, kwargs)
    (expected,) = onnx_op("AveragePool", x, count_include_pad=int(count_include_pad), **attributes)
    y = ops.avg_pool2d(x, kernel, **kwargs, count_include_pad=count_include_pad)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", [*CASES, *DILATED])
def test_max_pool_agrees_with_pytorch_on_ties(case):
    torch = pytest.importorskip("torch")
    shape, kernel, kwargs = (CASES | DILATED)[case]
    if np.ndim(kwargs.get("padding", 0)):
        pytest.skip("PyTorch pads evenly")
    x = np.random.default_rng(1).integers(0, 3, shape).astype(np.float64)
    t = torch.tensor(x, requires_grad=True)
    expected, places = torch.nn.functional.max_pool2d(t, kernel, **kwargs, return_indices=True)
    y, indices = ops.max_pool2d(x, kernel, **kwargs)
    np.testing.assert_array_equal(y, expected.detach())
    np.testing.assert_array_equal(indices, places)
    dy = np.random.default_rng(2).standard_normal(y.shape)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(ops.max_pool2d_backward(dy, indices, x.shape), t.grad, rtol=1e-12)


def test_max_pool_treats_nan_and_infinity_as_pytorch_does():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    x = rng.choice([np.nan, -np.inf, np.inf, 0.0, 1.0], (2, 3, 9, 9))
    x[0, 0] = -np.inf
    t = torch.tensor(x)
    expected, places = torch.nn.functional.max_pool2d(t, 3, 2, 1, return_indices=True)
    y, indices = ops.max_pool2d(x, 3, 2, 1)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, places)


@cases
@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize("divisor_override", [None, 3])
def test_avg_pool_agrees_with_pytorch(case, count_include_pad, divisor_override):
    torch = pytest.importorskip("torch")
    shape, kernel, kwargs = CASES[case]
    if np.ndim(kwargs.get("padding", 0)):
        pytest.skip("PyTorch pads evenly")
    x = distinct(shape)
    t = torch.tensor(x, requires_grad=True)
    kwargs = {**kwargs, "count_include_pad": count_include_pad, "divisor_override": divisor_override}
    expected = torch.nn.functional.avg_pool2d(t, kernel, **kwargs)
    y = ops.avg_pool2d(x, kernel, **kwargs)
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-12, atol=1e-14)
    dy = np.random.default_rng(2).standard_normal(y.shape)
    expected.backward(torch.tensor(dy))
    dx = ops.avg_pool2d_backward(dy, x.shape, kernel, **kwargs)
    np.testing.assert_allclose(dx, t.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", [*CASES, *DILATED])
def test_max_pool_gradient_is_finite_differences(case):
    shape, kernel, kwargs = (CASES | DILATED)[case]
    x = distinct((1, 1, *shape[2:]))
    y, indices = ops.max_pool2d(x, kernel, **kwargs)
    dy = np.random.default_rng(4).standard_normal(y.shape)
    expected = finite_differences(lambda x: ops.max_pool2d(x, kernel, **kwargs)[0], [x], 0, dy)
    np.testing.assert_allclose(ops.max_pool2d_backward(dy, indices, x.shape), expected, rtol=1e-7, atol=1e-8)


@cases
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_avg_pool_gradient_is_finite_differences(case, count_include_pad):
    shape, kernel, kwargs = CASES[case]
    kwargs = {**kwargs, "count_include_pad": count_include_pad}
    x = distinct((1, 1, *shape[2:]))
    dy = np.random.default_rng(4).standard_normal(ops.avg_pool2d(x, kernel, **kwargs).shape)
    expected = finite_differences(lambda x: ops.avg_pool2d(x, kernel, **kwargs), [x], 0, dy)
    dx = ops.avg_pool2d_backward(dy, x.shape, kernel, **kwargs)
    np.testing.assert_allclose(dx, expected, rtol=1e-7, atol=1e-8)


ADAPTIVE = [((2, 3, 8, 8), 4), ((2, 3, 7, 5), (3, 2)), ((1, 2, 5, 6), (7, 9)), ((2, 2, 7, 5), (None, 1))]


@pytest.mark.parametrize(("shape", "size"), ADAPTIVE)
def test_adaptive_avg_pool_agrees_with_pytorch(shape, size):
    torch = pytest.importorskip("torch")
    x = distinct(shape)
    t = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.adaptive_avg_pool2d(t, size)
    y = ops.adaptive_avg_pool2d(x, size)
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-12, atol=1e-14)
    dy = np.random.default_rng(5).standard_normal(y.shape)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(ops.adaptive_avg_pool2d_backward(dy, shape), t.grad, rtol=1e-12)


@pytest.mark.parametrize(("shape", "size"), ADAPTIVE)
def test_adaptive_avg_pool_gradient_is_finite_differences(shape, size):
    x = distinct((1, 1, *shape[2:]))
    dy = np.random.default_rng(5).standard_normal(ops.adaptive_avg_pool2d(x, size).shape)
    expected = finite_differences(lambda x: ops.adaptive_avg_pool2d(x, size), [x], 0, dy)
    np.testing.assert_allclose(ops.adaptive_avg_pool2d_backward(dy, x.shape), expected, rtol=1e-7, atol=1e-8)


def test_adaptive_avg_pool_to_one_is_onnx_global_average():
    x = distinct((2, 3, 5, 4))
    np.testing.assert_allclose(ops.adaptive_avg_pool2d(x, 1), onnx_op("GlobalAveragePool", x)[0], rtol=1e-12)
    np.testing.assert_array_equal(ops.adaptive_avg_pool2d(x, None), x)


def test_lecture_example():
    x = np.array([[1.0, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 1, 3, 4]])[None, None]
    np.testing.assert_array_equal(ops.avg_pool2d(x, 2)[0, 0], [[3.25, 5.25], [1.75, 2.0]])
    np.testing.assert_array_equal(ops.max_pool2d(x, 2)[0][0, 0], [[6, 8], [3, 4]])
    assert ops.max_pool2d(np.ones((1, 1, 7, 7)), 3, 2)[0].shape == (1, 1, 3, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 2])
def test_dtype_and_layout_of_the_results(dtype, n):
    x = np.ones((n, 3, 6, 6), dtype)
    y, indices = ops.max_pool2d(x, 2)
    average, adaptive = ops.avg_pool2d(x, 2), ops.adaptive_avg_pool2d(x, 3)
    assert indices.dtype == np.int32
    assert indices.transpose(0, 2, 3, 1).flags.c_contiguous
    results = (
        y,
        average,
        adaptive,
        ops.max_pool2d_backward(y, indices, x.shape),
        ops.avg_pool2d_backward(average, x.shape, 2),
        ops.adaptive_avg_pool2d_backward(adaptive, x.shape),
    )
    for array in results:
        assert array.dtype == dtype
        assert array.shape in ((n, 3, 3, 3), x.shape)
        assert array.transpose(0, 2, 3, 1).flags.c_contiguous


def test_what_is_wrong():
    x, y = np.ones((1, 2, 6, 6)), np.ones((1, 2, 3, 3))
    indices = np.zeros(y.shape, np.int32)
    with pytest.raises(ValueError, match="padding must be at most half the kernel"):
        ops.max_pool2d(x, 2, padding=2)
    with pytest.raises(ValueError, match="is larger than the padded input"):
        ops.avg_pool2d(x, 7)
    with pytest.raises(ValueError, match="divisor_override must not be 0"):
        ops.avg_pool2d(x, 2, divisor_override=0)
    with pytest.raises(ValueError, match=r"expected indices of shape \(1, 2, 3, 3\), got shape \(1, 2, 9\)"):
        ops.max_pool2d_backward(y, indices.reshape(1, 2, 9), x.shape)
    with pytest.raises(ValueError, match=r"expected dy of shape \(2, 2, 3, 3\), got shape \(1, 2, 3, 3\)"):
        ops.max_pool2d_backward(y, indices, (2, 2, 6, 6))
    with pytest.raises(ValueError, match="indices from 36 to 36 do not lie in an input of 6 x 6"):
        ops.max_pool2d_backward(y, indices + 36, x.shape)
    with pytest.raises(ValueError, match="indices from -1 to -1 do not lie in an input of 6 x 6"):
        ops.max_pool2d_backward(y, indices - 1, x.shape)
    with pytest.raises(ValueError, match=r"input of shape \(N, C, H, W\), got shape \(6, 6\)"):
        ops.max_pool2d_backward(y, indices, (6, 6))
    with pytest.raises(TypeError, match="expected an array of integer indices, got float64"):
        ops.max_pool2d_backward(y, y, x.shape)
    with pytest.raises(ValueError, match=r"expected dy of shape \(1, 2, 2, 2\), got shape \(1, 2, 3, 3\)"):
        ops.avg_pool2d_backward(y, x.shape, 3)
    with pytest.raises(ValueError, match=r"expected dy of shape \(1, 4, 3, 3\), got shape \(1, 2, 3, 3\)"):
        ops.adaptive_avg_pool2d_backward(y, (1, 4, 6, 6))
    with pytest.raises(ValueError, match="output_size must be positive, got 0"):
        ops.adaptive_avg_pool2d(x, 0)
    with pytest.raises(TypeError, match="expected float32 or float64, got int32"):
        ops.max_pool2d(indices, 2)


def test_places_that_are_no_int32_are_refused():
    """Of a view, as such an image takes 8 GB."""
    x = np.broadcast_to(np.float32(0), (1, 1, 1 << 16, (1 << 15) + 1))
    for max_pool2d in (ops.max_pool2d, cpu.max_pool2d):
        with pytest.raises(ValueError, match=r"65536 x 32769 .* int32"):
            max_pool2d(x, 2)
