"""The reference losses against the ONNX reference evaluator, PyTorch and finite differences."""

import itertools
import math

import numpy as np
import pytest
from oracles import finite_differences, onnx_op

from nbconv_kernels import reference as ops

REDUCTIONS = ["mean", "sum", "none"]
SHAPES = [(6, 4), (2, 5, 3, 2)]
# Logits' shape, soft targets, class weights, ignore_index, label smoothing, reduction: every combination.
COMBINATIONS = [
    combination
    for combination in itertools.product(
        SHAPES, [False, True], [False, True], [-100, 2], [0.0, 0.2, 1.0], REDUCTIONS
    )
    if not (combination[1] and combination[3] >= 0)
]


def operands(shape, soft, weighted, ignore_index, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal(shape) * 3
    weight = rng.uniform(0.5, 2, shape[1]) if weighted else None
    if soft:
        targets = rng.dirichlet(np.ones(shape[1]), logits.size // shape[1])
        targets = np.moveaxis(targets.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
    else:
        targets = rng.integers(0, shape[1], (shape[0], *shape[2:]))
        # Some to ignore, some not.
        targets.flat[1], targets.flat[3], targets.flat[4] = ignore_index, ignore_index, 1
    return logits, targets, weight


@pytest.mark.parametrize(
    ("shape", "soft", "weighted", "ignore_index", "smoothing", "reduction"), COMBINATIONS
)
def test_cross_entropy_agrees_with_pytorch(shape, soft, weighted, ignore_index, smoothing, reduction):
    torch = pytest.importorskip("torch")
    logits, targets, weight = operands(shape, soft, weighted, ignore_index)
    t = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        t,
        torch.tensor(targets),
        None if weight is None else torch.tensor(weight),
        ignore_index=ignore_index,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    expected.sum().backward()
    loss, dlogits = ops.cross_entropy(logits, targets, weight, ignore_index, smoothing, reduction)
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(dlogits, t.grad, rtol=1e-10, atol=1e-13)
    assert isinstance(loss, np.ndarray if reduction == "none" else float)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore_index", [-100, 2])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_agrees_with_onnx(shape, weighted, ignore_index, reduction):
    logits, targets, weight = operands(shape, False, weighted, ignore_index)
    inputs = [logits, targets] + ([weight] if weighted else [])
    (expected,) = onnx_op("SoftmaxCrossEntropyLoss", *inputs, ignore_index=ignore_index, reduction=reduction)
    loss, _ = ops.cross_entropy(logits, targets, weight, ignore_index, reduction=reduction)
    np.testing.assert_allclose(loss, expected, rtol=1e-11)


@pytest.mark.parametrize(
    ("shape", "soft", "weighted", "ignore_index", "smoothing", "reduction"), COMBINATIONS[::5]
)
def test_cross_entropy_gradient_is_finite_differences(
    shape, soft, weighted, ignore_index, smoothing, reduction
):
    logits, targets, weight = operands(shape, soft, weighted, ignore_index)

    def loss(logits):
        return np.asarray(ops.cross_entropy(logits, targets, weight, ignore_index, smoothing, reduction)[0])

    expected = finite_differences(loss, [logits], 0, np.ones(()))
    dlogits = ops.cross_entropy(logits, targets, weight, ignore_index, smoothing, reduction)[1]
    np.testing.assert_allclose(dlogits, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8])
def test_labels_of_every_integer_type(dtype):
    logits, targets, _ = operands((6, 4), False, False, 2)
    expected = ops.cross_entropy(logits, targets)
    loss, dlogits = ops.cross_entropy(logits, targets.astype(dtype))
    assert loss == expected[0]
    np.testing.assert_array_equal(dlogits, expected[1])


def test_large_logits_do_not_overflow():
    logits = np.array([[1000.0, 0, -1000], [-1e30, 0, 1e30]], np.float32)
    loss, dlogits = ops.cross_entropy(logits, np.array([1, 2]), reduction="none")
    np.testing.assert_array_equal(loss, [1000, 0])
    np.testing.assert_array_equal(dlogits, [[1, -1, 0], [0, 0, 0]])


def test_logits_of_minus_infinity_mask_their_classes():
    logits = np.array([[1.0, -np.inf, 2.0]])
    loss, dlogits = ops.cross_entropy(logits, np.array([0]))
    assert loss == pytest.approx(math.log(1 + math.e))
    np.testing.assert_allclose(dlogits, [[-0.7310585786, 0, 0.7310585786]])
    # As in PyTorch: smoothing wants some probability there, and 0 * infinity is no number.
    assert ops.cross_entropy(logits, np.array([0]), label_smoothing=0.1)[0] == np.inf
    assert np.isnan(ops.cross_entropy(logits, np.array([[0.5, 0.0, 0.5]]))[0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("n", [0, 3])
def test_the_mean_over_nothing_is_nan(smoothing, n):
    logits, targets = np.zeros((n, 4)), np.full(n, -100)
    loss, dlogits = ops.cross_entropy(logits, targets, label_smoothing=smoothing)
    assert math.isnan(loss)
    np.testing.assert_array_equal(dlogits, np.zeros((n, 4)))
    assert ops.cross_entropy(logits, targets, reduction="sum")[0] == 0
    np.testing.assert_array_equal(ops.cross_entropy(logits, targets, reduction="none")[0], np.zeros(n))
    if n == 0:
        assert math.isnan(ops.cross_entropy(logits, logits)[0])


def test_an_ignored_sample_does_not_matter_even_if_nan():
    logits = np.array([[1.0, 2.0], [np.nan, 0.0]])
    loss, dlogits = ops.cross_entropy(logits, np.array([1, -100]))
    assert loss == pytest.approx(math.log(1 + math.exp(-1)))
    np.testing.assert_array_equal(dlogits[1], [0, 0])
    loss, dlogits = ops.cross_entropy(logits, np.array([1, 0]))
    assert math.isnan(loss)
    assert np.isnan(dlogits[1]).all()
    assert np.isfinite(dlogits[0]).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4, 5), (0, 3)])
def test_mse_agrees_with_pytorch(shape, reduction):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal(shape), rng.standard_normal(shape)
    t = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.mse_loss(t, torch.tensor(target), reduction=reduction)
    expected.sum().backward()
    loss, dx = ops.mse_loss(x, target, reduction)
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-12)
    np.testing.assert_allclose(dx, t.grad, rtol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_mse_gradient_is_finite_differences(reduction):
    x, target = np.random.default_rng(1).standard_normal((2, 3, 4))
    expected = finite_differences(
        lambda x: np.asarray(ops.mse_loss(x, target, reduction)[0]), [x], 0, np.ones(())
    )
    np.testing.assert_allclose(ops.mse_loss(x, target, reduction)[1], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_and_layout_of_the_results(dtype):
    logits, targets, weight = operands((2, 5, 3, 2), False, True, -100)
    losses, dlogits = ops.cross_entropy(
        logits.astype(dtype), targets, weight.astype(dtype), label_smoothing=0.1, reduction="none"
    )
    squares, dx = ops.mse_loss(logits.astype(dtype), logits.astype(dtype), "none")
    assert {array.dtype for array in (losses, dlogits, squares, dx)} == {np.dtype(dtype)}
    for array in (dlogits, squares, dx):
        assert array.transpose(0, 2, 3, 1).flags.c_contiguous
    dlogits = ops.cross_entropy(logits.astype(dtype), targets)[1]
    assert dlogits.dtype == dtype


def test_what_is_wrong():
    logits, labels = np.zeros((3, 4)), np.array([0, 3, 1])
    with pytest.raises(ValueError, match=r"label 4 at targets\[1\] is out of range for 4 classes"):
        ops.cross_entropy(logits, labels + np.array([0, 1, 0]))
    with pytest.raises(
        ValueError, match=r"label -1 at targets\[0\] is out of range .* not ignore_index=-100"
    ):
        ops.cross_entropy(logits, labels - 1)
    with pytest.raises(ValueError, match=r"label 9 at targets\[1, 0, 2\] is out of range for 4 classes"):
        ops.cross_entropy(np.zeros((2, 4, 1, 3)), np.array([[[0, 0, 0]], [[0, 0, 9]]]))
    with pytest.raises(
        ValueError, match=r"integer labels for logits \(3, 4\) of shape \(3,\), got shape \(2,\)"
    ):
        ops.cross_entropy(logits, labels[:2])
    with pytest.raises(ValueError, match=r"class probabilities .* of shape \(3, 4\), got shape \(3,\)"):
        ops.cross_entropy(logits, labels.astype(float))
    with pytest.raises(ValueError, match="ignore_index=1 goes with integer labels"):
        ops.cross_entropy(logits, logits, ignore_index=1)
    with pytest.raises(ValueError, match=r"expected logits \(N, C\) or \(N, C, H, W\), got shape \(4,\)"):
        ops.cross_entropy(logits[0], labels)
    with pytest.raises(ValueError, match=r"expected a weight of shape \(4,\), got shape \(3,\)"):
        ops.cross_entropy(logits, labels, np.ones(3))
    with pytest.raises(ValueError, match=r"label_smoothing must be between 0 and 1, got 1\.5"):
        ops.cross_entropy(logits, labels, label_smoothing=1.5)
    with pytest.raises(ValueError, match='reduction must be "mean", "sum" or "none", got \'avg\''):
        ops.cross_entropy(logits, labels, reduction="avg")
    with pytest.raises(TypeError, match="expected integer labels or float probabilities, got bool"):
        ops.cross_entropy(logits, labels > 1)
    with pytest.raises(TypeError, match="expected targets in a NumPy array, got list"):
        ops.cross_entropy(logits, [0, 3, 1])
    with pytest.raises(TypeError, match="expected float32 or float64, got int64"):
        ops.cross_entropy(labels[:, None], labels)
    with pytest.raises(ValueError, match=r"expected a target of shape \(3, 4\), got shape \(3,\)"):
        ops.mse_loss(logits, np.zeros(3))
    with pytest.raises(ValueError, match=r"reduction must be .* got 'avg'"):
        ops.mse_loss(logits, logits, "avg")
    with pytest.raises(TypeError, match="expected arrays of one dtype, got float64 and float32"):
        ops.mse_loss(logits, logits.astype(np.float32))
