"""The reference dense layer against the ONNX reference evaluator and finite differences."""

import numpy as np
import pytest
from oracles import finite_differences, onnx_op

from nbconv_kernels import reference as ops

rng = np.random.default_rng(0)


@pytest.mark.parametrize(("n", "inputs", "outputs"), [(4, 5, 3), (1, 1, 1), (0, 5, 3), (7, 2, 9)])
def test_forward_agrees_with_onnx(n, inputs, outputs):
    x, weight, bias = (
        rng.standard_normal((n, inputs)),
        rng.standard_normal((outputs, inputs)),
        np.ones(outputs),
    )
    (expected,) = onnx_op("Gemm", x, weight, bias, transB=1)
    np.testing.assert_allclose(ops.dense(x, weight, bias), expected, rtol=1e-12)
    np.testing.assert_allclose(ops.dense(x, weight), expected - 1, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ops.matmul(x, weight.T), expected - 1, rtol=1e-9, atol=1e-12)


def test_gradients_are_finite_differences():
    x, weight, bias = rng.standard_normal((4, 5)), rng.standard_normal((3, 5)), rng.standard_normal(3)
    dy = rng.standard_normal((4, 3))
    gradients = (
        ops.dense_backward_input(dy, weight),
        ops.dense_backward_weight(dy, x),
        ops.dense_backward_bias(dy),
    )
    for which, gradient in enumerate(gradients):
        expected = finite_differences(ops.dense, [x, weight, bias], which, dy)
        np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_layout_of_the_results(dtype):
    x, weight = np.ones((5, 8), dtype).T[:, :4], np.ones((4, 3), dtype).T
    y = ops.dense(x, weight, np.ones(3, dtype))
    results = (
        y,
        ops.matmul(x, weight.T),
        ops.dense_backward_input(y, weight),
        ops.dense_backward_weight(y, x),
        ops.dense_backward_bias(y),
    )
    assert all(array.dtype == dtype and array.flags.c_contiguous for array in results)


def test_what_is_wrong():
    x, weight = np.ones((2, 5)), np.ones((3, 5))
    with pytest.raises(ValueError, match=r"expected 5 features, got 4 in an input of shape \(2, 4\)"):
        ops.dense(x[:, :4], weight)
    with pytest.raises(ValueError, match=r"expected an input of shape \(N, in\), got shape \(2, 5, 1, 1\)"):
        ops.dense(x[:, :, None, None], weight)
    with pytest.raises(ValueError, match=r"expected a weight of shape \(out, in\), got shape \(5,\)"):
        ops.dense(x, weight[0])
    with pytest.raises(ValueError, match=r"expected a bias of shape \(3,\), got shape \(2,\)"):
        ops.dense(x, weight, np.ones(2))
    with pytest.raises(ValueError, match=r"cannot multiply shapes \(2, 5\) and \(3, 5\)"):
        ops.matmul(x, weight)
    with pytest.raises(ValueError, match=r"expected dy of shape \(2, 3\), got shape \(2, 5\)"):
        ops.dense_backward_input(x, weight)
    with pytest.raises(ValueError, match=r"expected dy of shape \(2, 3\), got shape \(4, 3\)"):
        ops.dense_backward_weight(np.ones((4, 3)), x)
    with pytest.raises(ValueError, match=r"expected dy of shape \(N, out\), got shape \(4,\)"):
        ops.dense_backward_bias(np.ones(4))
    with pytest.raises(TypeError, match="expected arrays of one dtype, got float64 and float32"):
        ops.dense(x, weight.astype(np.float32))
    with pytest.raises(TypeError, match="expected float32 or float64, got int64"):
        ops.matmul(x.astype(np.int64), weight)
