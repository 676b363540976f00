import math

import numpy as np
import pytest

import nbconv as nb

BACKENDS = ["reference", "cpu"]


def logits(shape=(6, 4), dtype=np.float64):
    return (np.random.default_rng(0).standard_normal(shape) * 3).astype(dtype)


LABELS = np.array([0, 3, 2, 1, 3, 0])
WEIGHT = [0.5, 1.0, 2.0, 0.25]


@pytest.mark.parametrize("backend", BACKENDS)
def test_cross_entropy_by_hand(backend):
    y = np.log(np.array([[0.2, 0.8], [0.5, 0.5]], np.float32))
    loss, dy = nb.CrossEntropyLoss(backend=backend)(y, [1, 0])
    assert isinstance(loss, float)
    assert loss == pytest.approx(-(math.log(0.8) + math.log(0.5)) / 2)
    assert dy.dtype == np.float32
    np.testing.assert_allclose(dy, [[0.1, -0.1], [-0.25, 0.25]], rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_cross_entropy_of_huge_logits_is_exact(backend):
    y = np.array([[1e4, -1e4], [1e4, -1e4]], np.float32)
    loss, dy = nb.CrossEntropyLoss(backend=backend, reduction="none")(y, [0, 1])
    np.testing.assert_array_equal(loss, [0, 2e4])
    np.testing.assert_array_equal(dy, [[0, 0], [1, -1]])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("kind", ["labels", "ignoring", "pixels", "probabilities", "pixel-probabilities"])
def test_cross_entropy_is_pytorchs(backend, reduction, smoothing, weight, kind):
    torch = pytest.importorskip("torch")
    pixels = kind.startswith("pixel")
    y = logits((2, 4, 3, 2) if pixels else (6, 4))
    settings = {"reduction": reduction, "label_smoothing": smoothing}
    if kind in ("labels", "ignoring"):
        targets = LABELS
        settings |= {"ignore_index": 3} if kind == "ignoring" else {}
    elif kind == "pixels":
        targets = np.arange(12).reshape(2, 3, 2) % 4
    else:
        targets = np.random.default_rng(1).random(y.shape)
        targets /= targets.sum(axis=1, keepdims=True)
    ours, dy = nb.CrossEntropyLoss(weight, backend=backend, **settings)(y, targets)
    tensor = torch.tensor(y, requires_grad=True)
    weights = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    theirs = torch.nn.CrossEntropyLoss(weights, **settings)(tensor, torch.tensor(targets))
    theirs.sum().backward()
    np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dy, tensor.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_but_ignored_labels_has_no_mean(backend):
    loss, dy = nb.CrossEntropyLoss(backend=backend)(logits(), np.full(6, -100))
    assert math.isnan(loss)
    assert (dy == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_is_pytorchs(backend, reduction):
    torch = pytest.importorskip("torch")
    x, target = logits((3, 2, 4, 5)), logits((3, 2, 4, 5)) ** 2
    ours, dx = nb.MSELoss(reduction, backend=backend)(x, target)
    tensor = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.MSELoss(reduction=reduction)(tensor, torch.tensor(target))
    theirs.sum().backward()
    np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-12)
    np.testing.assert_allclose(dx, tensor.grad, rtol=1e-12)


def test_mse_takes_targets_of_any_number_type():
    loss, dx = nb.MSELoss(backend="reference")(np.zeros((2, 2), np.float32), [[1, 2], [3, 4]])
    assert loss == 7.5
    assert dx.dtype == np.float32


def test_reprs():
    assert repr(nb.MSELoss("sum")) == "MSELoss(reduction='sum')"
    assert "label_smoothing=0.1" in repr(nb.CrossEntropyLoss(label_smoothing=0.1))
