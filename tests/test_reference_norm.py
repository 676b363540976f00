"""The reference batch normalisation against the ONNX reference evaluator, PyTorch and finite differences."""

import numpy as np
import pytest
from oracles import finite_differences, onnx_op

from nbconv_kernels import reference as ops

SHAPES = [(4, 3, 5, 6), (2, 1, 1, 1), (1, 4, 2, 3)]
shapes = pytest.mark.parametrize("shape", SHAPES)


def operands(shape, seed=0):
    rng = np.random.default_rng(seed)
    c = shape[1]
    x = rng.standard_normal(shape) * 3 + 1
    return x, rng.standard_normal(c), rng.uniform(0.5, 2, c), rng.standard_normal(c), rng.standard_normal(c)


@shapes
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_inference_agrees_with_onnx(shape, eps):
    x, mean, var, weight, bias = operands(shape)
    (expected,) = onnx_op("BatchNormalization", x, weight, bias, mean, var, epsilon=eps)
    # ONNX keeps epsilon in float32.
    np.testing.assert_allclose(
        ops.batch_norm2d(x, mean, var, weight, bias, eps), expected, rtol=1e-8, atol=1e-8
    )


@shapes
def test_statistics_are_those_of_numpy(shape):
    x = operands(shape)[0]
    mean, var = ops.batch_norm2d_statistics(x)
    np.testing.assert_allclose(mean, x.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(var, x.var(axis=(0, 2, 3)), rtol=1e-12, atol=1e-14)


def test_statistics_of_float32_survive_a_large_mean():
    x = (np.random.default_rng(0).standard_normal((8, 16, 16, 3)) + 10_000).astype(np.float32)
    x = x.transpose(0, 3, 1, 2)
    mean, var = ops.batch_norm2d_statistics(x)
    exact = x.astype(np.float64)
    assert mean.dtype == var.dtype == np.float32
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=1e-7)
    np.testing.assert_allclose(var, exact.var(axis=(0, 2, 3)), rtol=1e-6)


@shapes
def test_training_gradients_are_finite_differences(shape):
    x, _, _, weight, bias = operands(shape)
    dy = np.random.default_rng(1).standard_normal(shape)

    def forward(x, weight, bias):
        return ops.batch_norm2d(x, *ops.batch_norm2d_statistics(x), weight, bias, 0.1)

    gradients = ops.batch_norm2d_backward(dy, x, *ops.batch_norm2d_statistics(x), weight, 0.1)
    for which, gradient in enumerate(gradients):
        expected = finite_differences(forward, [x, weight, bias], which, dy)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@shapes
def test_inference_gradients_are_finite_differences(shape):
    x, mean, var, weight, bias = operands(shape)
    dy = np.random.default_rng(1).standard_normal(shape)

    def forward(x, weight, bias):
        return ops.batch_norm2d(x, mean, var, weight, bias, 0.1)

    gradients = ops.batch_norm2d_inference_backward(dy, x, mean, var, weight, 0.1)
    for which, gradient in enumerate(gradients):
        expected = finite_differences(forward, [x, weight, bias], which, dy)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_forward_and_gradients_agree_with_pytorch(affine, training):
    torch = pytest.importorskip("torch")
    x, mean, var, weight, bias = operands((4, 3, 5, 6))
    dy = np.random.default_rng(1).standard_normal(x.shape)
    t, scale, shift = (torch.tensor(array, requires_grad=True) for array in (x, weight, bias))
    expected = torch.nn.functional.batch_norm(
        t,
        torch.tensor(mean),
        torch.tensor(var),
        *((scale, shift) if affine else ()),
        training=training,
        eps=1e-3,
    )
    expected.backward(torch.tensor(dy))
    if training:
        mean, var = ops.batch_norm2d_statistics(x)
    parameters = (weight, bias) if affine else (None, None)
    y = ops.batch_norm2d(x, mean, var, *parameters, eps=1e-3)
    backward = ops.batch_norm2d_backward if training else ops.batch_norm2d_inference_backward
    dx, dweight, dbias = backward(dy, x, mean, var, parameters[0], eps=1e-3)
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dx, t.grad, rtol=1e-10, atol=1e-12)
    if affine:
        np.testing.assert_allclose(dweight, scale.grad, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(dbias, shift.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_layout_of_the_results(dtype):
    x = np.arange(2 * 3 * 4 * 5, dtype=dtype).reshape(2, 3, 4, 5)
    vector = np.ones(3, dtype)
    y = ops.batch_norm2d(x, vector, vector, vector, vector)
    for backward in (ops.batch_norm2d_backward, ops.batch_norm2d_inference_backward):
        dx, dweight, dbias = backward(y, x, vector, vector, vector)
        assert {array.dtype for array in (y, dx, dweight, dbias)} == {np.dtype(dtype)}
        assert y.transpose(0, 2, 3, 1).flags.c_contiguous
        assert dx.transpose(0, 2, 3, 1).flags.c_contiguous
        assert dweight.shape == dbias.shape == (3,)


def test_an_empty_batch():
    x, vector = np.empty((0, 3, 4, 5)), np.ones(3)
    assert all(np.isnan(moment).all() for moment in ops.batch_norm2d_statistics(x))
    assert ops.batch_norm2d(x, vector, vector).shape == x.shape
    for backward in (ops.batch_norm2d_backward, ops.batch_norm2d_inference_backward):
        dx, dweight, dbias = backward(x, x, vector, vector, vector)
        assert dx.shape == x.shape
        np.testing.assert_array_equal([dweight, dbias], np.zeros((2, 3)))


def test_nan_stays_in_its_channel():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    x[0, 1, 2, 3] = np.nan
    y = ops.batch_norm2d(x, *ops.batch_norm2d_statistics(x))
    assert np.isnan(y[:, 1]).all()
    assert np.isfinite(y[:, [0, 2]]).all()


def test_what_is_wrong():
    x, vector = np.ones((2, 3, 4, 5)), np.ones(3)
    with pytest.raises(ValueError, match=r"expected an input of shape \(N, C, H, W\), got shape \(2, 3\)"):
        ops.batch_norm2d_statistics(x[:, :, 0, 0])
    with pytest.raises(ValueError, match=r"expected mean of shape \(3,\), got shape \(2,\)"):
        ops.batch_norm2d(x, vector[:2], vector)
    with pytest.raises(ValueError, match=r"expected bias of shape \(3,\), got shape \(1,\)"):
        ops.batch_norm2d(x, vector, vector, vector, vector[:1])
    with pytest.raises(TypeError, match="expected arrays of one dtype, got float64 and float32"):
        ops.batch_norm2d(x, vector, vector.astype(np.float32))
    for backward in (ops.batch_norm2d_backward, ops.batch_norm2d_inference_backward):
        with pytest.raises(
            ValueError, match=r"expected dy of shape \(2, 3, 4, 5\), got shape \(1, 3, 4, 5\)"
        ):
            backward(x[:1], x, vector, vector)
        with pytest.raises(ValueError, match=r"expected weight of shape \(3,\), got shape \(4,\)"):
            backward(x, x, vector, vector, np.ones(4))
