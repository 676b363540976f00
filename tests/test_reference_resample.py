"""The reference resampling against PyTorch, the ONNX reference evaluator and finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import distinct, finite_differences, onnx_op

from nbconv_kernels import reference as ops
from nbconv_kernels.sampling import nearest_sources

# The input's shape, the output's size, and the keyword arguments.
CASES = {
    "nearest, doubled": ((2, 3, 3, 4), (6, 8), {}),
    "nearest, three and a half": ((1, 2, 2, 4), (6, 6), {}),
    "nearest, smaller": ((1, 2, 7, 5), (3, 2), {}),
    "nearest, scaled": ((1, 2, 5, 4), (8, 10), {"scale_factor": (1.7, 2.6)}),
    "bilinear, doubled": ((2, 3, 3, 4), (6, 8), {"mode": "bilinear"}),
    "bilinear, odd": ((1, 2, 4, 3), (7, 10), {"mode": "bilinear"}),
    "bilinear, smaller": ((1, 2, 7, 5), (3, 2), {"mode": "bilinear"}),
    "bilinear, from one": ((1, 2, 1, 3), (4, 3), {"mode": "bilinear"}),
    "bilinear, the same": ((1, 2, 3, 5), (3, 5), {"mode": "bilinear"}),
    "bilinear, scaled": ((1, 2, 5, 4), (8, 10), {"mode": "bilinear", "scale_factor": (1.7, 2.6)}),
    "bilinear, scaled to the same": ((1, 2, 3, 3), (3, 3), {"mode": "bilinear", "scale_factor": 1.2}),
    "corners aligned": ((2, 3, 3, 4), (7, 8), {"mode": "bilinear", "align_corners": True}),
    "corners aligned, to one": ((1, 2, 4, 3), (1, 2), {"mode": "bilinear", "align_corners": True}),
}
cases = pytest.mark.parametrize("case", CASES)


@cases
def test_forward_and_gradient_agree_with_pytorch(case):
    torch = pytest.importorskip("torch")
    shape, size, kwargs = CASES[case]
    x = distinct(shape)
    t = torch.tensor(x, requires_grad=True)
    how = {"mode": kwargs.get("mode", "nearest")}
    if how["mode"] == "bilinear":
        how["align_corners"] = kwargs.get("align_corners", False)
    if "scale_factor" in kwargs:
        how["scale_factor"] = kwargs["scale_factor"]
    else:
        how["size"] = size
    expected = torch.nn.functional.interpolate(t, **how)
    y = ops.upsample2d(x, size, **kwargs)
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-11, atol=1e-13)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(ops.upsample2d_backward(dy, shape, **kwargs), t.grad, rtol=1e-11, atol=1e-13)


@cases
def test_gradient_is_finite_differences(case):
    shape, size, kwargs = CASES[case]
    x = distinct((1, 1, *shape[2:]))
    dy = np.random.default_rng(0).standard_normal((1, 1, *size))
    expected = finite_differences(lambda x: ops.upsample2d(x, size, **kwargs), [x], 0, dy)
    np.testing.assert_allclose(ops.upsample2d_backward(dy, x.shape, **kwargs), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("kwargs", "attributes"),
    [
        ({}, {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}),
        ({"mode": "bilinear"}, {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}),
        (
            {"mode": "bilinear", "align_corners": True},
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        ),
    ],
)
def test_forward_agrees_with_onnx(kwargs, attributes):
    x = distinct((1, 2, 3, 4))
    sizes = np.array([1, 2, 5, 12])
    (expected,) = onnx_op(
        "Resize", x, np.array([], np.float32), np.array([], np.float32), sizes, **attributes
    )
    np.testing.assert_allclose(ops.upsample2d(x, (5, 12), **kwargs), expected, rtol=1e-6)


@settings(max_examples=300)
@given(st.integers(1, 400), st.integers(1, 900))
def test_nearest_reads_what_pytorch_reads(size, output):
    torch = pytest.importorskip("torch")
    x = torch.arange(size, dtype=torch.float32).reshape(1, 1, 1, size)
    expected = torch.nn.functional.interpolate(x, size=(1, output), mode="nearest")
    np.testing.assert_array_equal(nearest_sources(size, output), expected.numpy().reshape(-1))


@pytest.mark.parametrize("kwargs", [{}, {"mode": "bilinear"}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 2])
def test_dtype_and_layout_of_the_results(kwargs, dtype, n):
    x = np.ones((n, 3, 4, 5), dtype)
    y = ops.upsample2d(x, (7, 10), **kwargs)
    dx = ops.upsample2d_backward(y, x.shape, **kwargs)
    assert y.shape == (n, 3, 7, 10)
    assert dx.shape == x.shape
    for array in (y, dx):
        assert array.dtype == dtype
        assert array.transpose(0, 2, 3, 1).flags.c_contiguous


def test_what_is_wrong():
    x = np.ones((1, 2, 3, 4))
    with pytest.raises(ValueError, match="mode must be one of 'nearest', 'bilinear', got 'cubic'"):
        ops.upsample2d(x, 4, "cubic")
    with pytest.raises(ValueError, match="output_size must be positive, got 0"):
        ops.upsample2d(x, 0)
    with pytest.raises(ValueError, match='align_corners goes with mode "bilinear"'):
        ops.upsample2d(x, 4, align_corners=True)
    with pytest.raises(ValueError, match=r"scale_factor must be a positive number or two, got \(1.0, -2.0\)"):
        ops.upsample2d(x, 4, scale_factor=(1.0, -2.0))
    with pytest.raises(ValueError, match=r"an input of shape \(N, C, H, W\), got shape \(2, 3, 4\)"):
        ops.upsample2d(x[0], 4)
    with pytest.raises(ValueError, match=r"expected dy of shape \(1, 3, 3, 4\), got shape \(1, 2, 3, 4\)"):
        ops.upsample2d_backward(x, (1, 3, 6, 8))
    with pytest.raises(TypeError, match="expected float32 or float64, got int64"):
        ops.upsample2d(np.ones((1, 2, 3, 4), np.int64), 6)
