"""The reference's margin, regression and binary losses against PyTorch and finite differences."""

import math

import numpy as np
import pytest
from oracles import finite_differences

from nbconv_kernels import reference as ops

REDUCTIONS = ["mean", "sum", "none"]
reductions = pytest.mark.parametrize("reduction", REDUCTIONS)


def check_gradient(loss, x, dx):
    expected = finite_differences(lambda x: np.asarray(loss(x)[0]), [x], 0, np.ones(()))
    np.testing.assert_allclose(dx, expected, rtol=1e-6, atol=1e-8)


def check_against_pytorch(name, x, result, *args, **kwargs):
    """Value and gradient of a function of torch.nn.functional; arrays among the arguments become tensors."""
    torch = pytest.importorskip("torch")
    t = torch.tensor(x, requires_grad=True)
    args = [torch.tensor(arg) for arg in args]
    kwargs = {
        key: torch.tensor(value) if isinstance(value, np.ndarray) else value for key, value in kwargs.items()
    }
    expected = getattr(torch.nn.functional, name)(t, *args, **kwargs)
    expected.sum().backward()
    loss, dx = result
    np.testing.assert_allclose(loss, expected.detach(), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(dx, t.grad, rtol=1e-10, atol=1e-13)
    assert isinstance(loss, np.ndarray if kwargs["reduction"] == "none" else float)


REGRESSION = {
    "l1": (ops.l1_loss, {}),
    "smooth l1": (ops.smooth_l1_loss, {}),
    "smooth l1, 0.3": (ops.smooth_l1_loss, {"beta": 0.3}),
    "smooth l1, 0": (ops.smooth_l1_loss, {"beta": 0.0}),
    "huber": (ops.huber_loss, {}),
    "huber, 0.3": (ops.huber_loss, {"delta": 0.3}),
}


@pytest.mark.parametrize("case", REGRESSION)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4, 5), (0, 3)])
@reductions
def test_regression_losses(case, shape, reduction):
    op, kwargs = REGRESSION[case]
    x, target = np.random.default_rng(0).standard_normal((2, *shape))
    result = op(x, target, reduction, **kwargs)
    check_gradient(lambda x: op(x, target, reduction, **kwargs), x, result[1])
    check_against_pytorch(op.__name__, x, result, target, reduction=reduction, **kwargs)


def test_smooth_l1_of_the_lecture():
    x = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])
    losses, _ = ops.smooth_l1_loss(x, np.zeros(7), "none")
    np.testing.assert_array_equal(losses, np.where(abs(x) < 1, 0.5 * x**2, abs(x) - 0.5))


@pytest.mark.parametrize("shape", [(6,), (5, 4), (2, 3, 4, 2), (0, 3)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("positive", [False, True])
@reductions
def test_binary_cross_entropy_with_logits(shape, weighted, positive, reduction):
    rng = np.random.default_rng(1)
    x, target = rng.standard_normal(shape) * 3, rng.uniform(0, 1, shape)
    channels = (shape[1], 1, 1) if len(shape) == 4 else shape[1:]
    weight = rng.uniform(0.5, 2, shape) if weighted else None
    pos_weight = rng.uniform(0.5, 2, channels) if positive else None
    op = ops.binary_cross_entropy_with_logits
    result = op(x, target, weight, pos_weight, reduction)
    check_gradient(lambda x: op(x, target, weight, pos_weight, reduction), x, result[1])
    kwargs = {"weight": weight, "pos_weight": pos_weight, "reduction": reduction}
    check_against_pytorch(op.__name__, x, result, target, **kwargs)


def test_large_logits_do_not_overflow():
    x, target = np.array([1000.0, -1000.0, 1000.0, -1000.0], np.float32), np.array([0, 1, 1, 0], np.float32)
    losses, dx = ops.binary_cross_entropy_with_logits(x, target, reduction="none")
    np.testing.assert_array_equal(losses, [1000, 1000, 0, 0])
    np.testing.assert_array_equal(dx, [1, -1, 0, 0])


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("margin", [1.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@reductions
def test_multi_margin_loss(p, margin, weighted, reduction):
    rng = np.random.default_rng(2)
    x, target = rng.standard_normal((6, 5)), rng.integers(0, 5, 6)
    weight = rng.uniform(0.5, 2, 5) if weighted else None
    result = ops.multi_margin_loss(x, target, p, margin, weight, reduction)
    check_gradient(lambda x: ops.multi_margin_loss(x, target, p, margin, weight, reduction), x, result[1])
    kwargs = {"p": p, "margin": margin, "weight": weight, "reduction": reduction}
    check_against_pytorch("multi_margin_loss", x, result, target, **kwargs)


@reductions
def test_multiclass_hinge_loss(reduction):
    x, target = np.random.default_rng(3).standard_normal((8, 5)), np.arange(8) % 5
    result = ops.multiclass_hinge_loss(x, target, reduction)
    rivals = np.array([max(np.delete(row, label)) for row, label in zip(x, target, strict=True)])
    losses = np.maximum(0, 1 + rivals - x[np.arange(8), target])
    expected = losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()
    np.testing.assert_allclose(result[0], expected)
    check_gradient(lambda x: ops.multiclass_hinge_loss(x, target, reduction), x, result[1])


def test_multiclass_hinge_of_the_first_of_equals_and_of_a_margin_just_met():
    x = np.array([[2.0, 2.0, 0.5], [3.0, 2.0, 1.0]])
    losses, dx = ops.multiclass_hinge_loss(x, np.array([2, 0]), "none")
    np.testing.assert_array_equal(losses, [2.5, 0])
    np.testing.assert_array_equal(dx, [[1, 0, -1], [0, 0, 0]])
    alone = np.array([[0.0, -np.inf, -np.inf]])
    assert ops.multiclass_hinge_loss(alone, np.array([0]))[0] == 0


@reductions
@pytest.mark.parametrize("integers", [False, True])
def test_hinge_loss(reduction, integers):
    rng = np.random.default_rng(4)
    x, target = rng.standard_normal((4, 3)) * 2, rng.choice([-1, 1], (4, 3))
    target = target if integers else target.astype(np.float64)
    losses = np.maximum(0, 1 - target * x)
    loss, dx = ops.hinge_loss(x, target, reduction)
    expected = losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()
    np.testing.assert_allclose(loss, expected)
    check_gradient(lambda x: ops.hinge_loss(x, target, reduction), x, dx)


NAN_LOSSES = {
    "l1": lambda x: ops.l1_loss(x, np.zeros_like(x)),
    "huber": lambda x: ops.huber_loss(x, np.zeros_like(x)),
    "binary": lambda x: ops.binary_cross_entropy_with_logits(x, np.zeros_like(x)),
    "hinge": lambda x: ops.hinge_loss(x, np.ones(x.shape)),
    "multi-margin": lambda x: ops.multi_margin_loss(x, np.zeros(len(x), int)),
    "multi-class": lambda x: ops.multiclass_hinge_loss(x, np.zeros(len(x), int)),
}


@pytest.mark.parametrize("case", NAN_LOSSES)
def test_nan_is_not_lost_and_the_mean_over_nothing_is_nan(case):
    for place in (0, 2):
        x = np.zeros((2, 3))
        x[1, place] = np.nan
        assert math.isnan(NAN_LOSSES[case](x)[0])
    loss, dx = NAN_LOSSES[case](np.zeros((0, 3)))
    assert math.isnan(loss)
    assert dx.shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@reductions
def test_dtype_and_layout_of_the_results(dtype, reduction):
    x = np.ones((2, 3, 4, 5), dtype)
    results = [
        ops.l1_loss(x, x, reduction),
        ops.smooth_l1_loss(x, x, reduction),
        ops.huber_loss(x, x, reduction),
        ops.binary_cross_entropy_with_logits(x, x, x, x, reduction),
        ops.hinge_loss(x, x, reduction),
    ]
    for loss, dx in results:
        for array in (dx, loss) if reduction == "none" else (dx,):
            assert array.shape == x.shape
            assert array.transpose(0, 2, 3, 1).flags.c_contiguous
            assert array.dtype == dtype
    scores, labels = np.ones((4, 3), dtype), np.zeros(4, np.int32)
    for loss, dx in (
        ops.multi_margin_loss(scores, labels, weight=scores[0], reduction=reduction),
        ops.multiclass_hinge_loss(scores, labels, reduction),
    ):
        assert dx.shape == scores.shape
        assert dx.dtype == dtype
        assert reduction != "none" or (loss.shape == (4,) and loss.dtype == dtype)


def test_what_is_wrong():
    x, labels = np.zeros((3, 4)), np.array([0, 3, 1])
    losses = (ops.l1_loss, ops.smooth_l1_loss, ops.huber_loss, ops.binary_cross_entropy_with_logits)
    for op in losses:
        with pytest.raises(ValueError, match=r"expected a target of shape \(3, 4\), got shape \(4,\)"):
            op(x, x[0])
        with pytest.raises(ValueError, match='reduction must be "mean", "sum" or "none", got \'max\''):
            op(x, x, reduction="max")
    with pytest.raises(ValueError, match="beta must not be negative, got -1"):
        ops.smooth_l1_loss(x, x, beta=-1)
    with pytest.raises(ValueError, match="delta must be positive, got 0"):
        ops.huber_loss(x, x, delta=0)
    with pytest.raises(ValueError, match=r"a weight of shape \(3,\) does not broadcast to \(3, 4\)"):
        ops.binary_cross_entropy_with_logits(x, x, np.ones(3))
    with pytest.raises(ValueError, match=r"targets are -1 or 1, got 0\.0 at target\[0, 0\]"):
        ops.hinge_loss(x, x)
    with pytest.raises(ValueError, match=r"expected a target of shape \(3, 4\), got shape \(3,\)"):
        ops.hinge_loss(x, labels)
    for op in (ops.multi_margin_loss, ops.multiclass_hinge_loss):
        with pytest.raises(ValueError, match=r"label 4 at target\[1\] is out of range for 4 classes"):
            op(x, labels + np.array([0, 1, 0]))
        with pytest.raises(ValueError, match=r"label -1 at target\[0\] is out of range"):
            op(x, labels - 1)
        with pytest.raises(ValueError, match=r"expected labels of shape \(3,\), got shape \(2,\)"):
            op(x, labels[:2])
        with pytest.raises(TypeError, match="expected an array of integer labels, got float64"):
            op(x, labels.astype(float))
        with pytest.raises(ValueError, match=r"expected scores of shape \(N, C\), got shape \(4,\)"):
            op(x[0], labels)
    with pytest.raises(ValueError, match="p must be 1 or 2, got 3"):
        ops.multi_margin_loss(x, labels, 3)
    with pytest.raises(ValueError, match=r"expected a weight of shape \(4,\), got shape \(3,\)"):
        ops.multi_margin_loss(x, labels, weight=np.ones(3))
    with pytest.raises(ValueError, match=r"of 2 classes or more, got shape \(3, 1\)"):
        ops.multiclass_hinge_loss(x[:, :1], labels)
