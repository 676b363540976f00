"""The losses beside cross entropy and squared error."""

import numpy as np
import pytest

import nbconv as nb

BACKENDS = ["reference", "cpu"]
REDUCTIONS = ["mean", "sum", "none"]
LABELS = np.array([0, 3, 2, 1, 3, 0])


def scores(shape=(6, 4), seed=0):
    return np.random.default_rng(seed).standard_normal(shape) * 1.5


def signs(shape):
    return np.where(np.random.default_rng(2).random(shape) < 0.5, -1, 1)


# Loss, outputs, targets; PyTorch's loss of the same name and arguments where it has one.
CASES = {
    "bce": (lambda n, r: n.BCEWithLogitsLoss(reduction=r), scores(), scores(seed=1) > 0),
    "bce, probabilities": (
        lambda n, r: n.BCEWithLogitsLoss(reduction=r),
        scores((2, 3, 4, 5)),
        np.random.default_rng(1).random((2, 3, 4, 5)),
    ),
    "bce, weights": (
        lambda n, r: n.BCEWithLogitsLoss(
            weight=_vector(n, [1.0, 0.5, 2.0, 3.0]), reduction=r, pos_weight=_vector(n, [2.0, 0.1, 1.0, 5.0])
        ),
        scores(),
        scores(seed=1) > 0,
    ),
    "l1": (lambda n, r: n.L1Loss(reduction=r), scores(), scores(seed=1)),
    "smooth l1": (lambda n, r: n.SmoothL1Loss(reduction=r), scores((2, 3, 4, 5)), scores((2, 3, 4, 5), 1)),
    "smooth l1, beta": (lambda n, r: n.SmoothL1Loss(reduction=r, beta=0.3), scores(), scores(seed=1)),
    "smooth l1, beta 0": (lambda n, r: n.SmoothL1Loss(reduction=r, beta=0.0), scores(), scores(seed=1)),
    "huber": (lambda n, r: n.HuberLoss(reduction=r), scores(), scores(seed=1)),
    "huber, delta": (lambda n, r: n.HuberLoss(reduction=r, delta=0.3), scores(), scores(seed=1)),
    "multi margin": (lambda n, r: n.MultiMarginLoss(reduction=r), scores(), LABELS),
    "multi margin, squares": (
        lambda n, r: n.MultiMarginLoss(2, 0.7, _vector(n, [1.0, 0.5, 2.0, 3.0]), reduction=r),
        scores(),
        LABELS,
    ),
    "hinge": (lambda n, r: n.HingeLoss(reduction=r), scores(), signs((6, 4))),
    "multi-class hinge": (lambda n, r: n.MultiClassHingeLoss(reduction=r), scores(), LABELS),
}


def _vector(namespace, values):
    if namespace is nb:
        return values
    import torch

    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", [case for case in CASES if "hinge" not in case])
def test_losses_are_pytorchs(case, reduction, backend):
    torch = pytest.importorskip("torch")
    make, y, targets = CASES[case]
    loss = make(nb, reduction)
    loss.backend = backend
    ours, dy = loss(y, targets)
    assert isinstance(ours, float if reduction != "none" else np.ndarray)
    tensor = torch.tensor(y, requires_grad=True)
    wanted = torch.tensor(targets) if targets.dtype.kind in "iu" else torch.tensor(targets.astype(float))
    theirs = make(torch.nn, reduction)(tensor, wanted)
    theirs.sum().backward()
    np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dy, tensor.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", CASES)
def test_gradients(case, reduction, backend):
    make, y, targets = CASES[case]
    loss = make(nb, reduction)
    loss.backend = backend
    dy = loss(y, targets)[1]
    assert dy.shape == y.shape
    for place in list(np.ndindex(y.shape))[:12]:
        above, below = y.copy(), y.copy()
        above[place] += 1e-6
        below[place] -= 1e-6
        difference = np.sum(loss.value(above, targets)) - np.sum(loss.value(below, targets))
        assert dy[place] == pytest.approx(difference / 2e-6, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_float32_stays_float32(case, backend):
    make, y, targets = CASES[case]
    for reduction in REDUCTIONS:
        loss = make(nb, reduction)
        loss.backend = backend
        value, dy = loss(y.astype(np.float32), targets)
        exact, exact_dy = loss(y, targets)
        assert dy.dtype == np.float32
        np.testing.assert_allclose(value, exact, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(dy, exact_dy, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_lectures_losses_by_hand(backend):
    """T2."""
    y = np.array([[2.0, -0.5, 0.25], [1.0, 1.5, -1.0]])
    value, dy = nb.HingeLoss("none", backend=backend)(y, [[1, 1, -1], [1, -1, -1]])
    np.testing.assert_allclose(value, [[0, 1.5, 1.25], [0, 2.5, 0]])
    np.testing.assert_array_equal(dy, [[0, -1, 1], [0, 1, 0]])
    value, dy = nb.MultiClassHingeLoss("none", backend=backend)(y, [0, 0])
    np.testing.assert_allclose(value, [0, 1.5])  # 1 + .25 - 2 < 0; 1 + 1.5 - 1
    np.testing.assert_array_equal(dy, [[0, 0, 0], [-1, 1, 0]])
    difference, zero = np.array([[0.5, -0.5, 2.0, -3.0]]), np.zeros((1, 4))
    np.testing.assert_allclose(nb.L1Loss("none", backend=backend)(difference, zero)[0], [[0.5, 0.5, 2, 3]])
    value, dy = nb.SmoothL1Loss("none", backend=backend)(difference, zero)
    np.testing.assert_allclose(value, [[0.125, 0.125, 1.5, 2.5]])
    np.testing.assert_allclose(dy, [[0.5, -0.5, 1, -1]])
    np.testing.assert_allclose(nb.HuberLoss("none", 1.0, backend=backend)(difference, zero)[0], value)
    value, _ = nb.BCEWithLogitsLoss(backend=backend)(np.log([[1.0, 3.0]]), [[0, 1]])
    assert value == pytest.approx((np.log(2) + np.log(4 / 3)) / 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_huge_logits_are_exact(backend):
    y = np.array([[1e4, -1e4, 1e4, -1e4]], np.float32)
    value, dy = nb.BCEWithLogitsLoss(reduction="none", backend=backend)(y, [[1, 0, 0, 1]])
    np.testing.assert_array_equal(value, [[0, 0, 1e4, 1e4]])
    np.testing.assert_array_equal(dy, [[0, 0, 1, -1]])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("loss", "targets", "error", "message"),
    [
        (nb.BCEWithLogitsLoss(), LABELS, ValueError, r"\(6,\)"),
        (nb.BCEWithLogitsLoss(weight=[1, 2, 3]), scores(), ValueError, r"weight of shape \(3,\) does not"),
        (nb.L1Loss(), scores((6, 1)), ValueError, r"\(6, 1\)"),
        (nb.HingeLoss(), np.zeros((6, 4)), ValueError, r"targets are -1 or 1, got 0\.0 at target\[0, 0\]"),
        (nb.HingeLoss(), LABELS, ValueError, r"\(6,\)"),
        (nb.MultiClassHingeLoss(), LABELS + 1, ValueError, r"label 4 at target\[1\] is out of range"),
        (nb.MultiMarginLoss(), LABELS - 1, ValueError, r"label -1 at target\[0\] is out of range"),
        (nb.MultiMarginLoss(), LABELS * 1.0, TypeError, "integer labels, got float64"),
        (nb.MultiMarginLoss(weight=[1, 2]), LABELS, ValueError, r"\(2,\)"),
    ],
)
def test_targets_that_do_not_fit(loss, targets, error, message, backend):
    with pytest.raises(error, match=message):
        loss.placed(backend)(scores(), targets)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nb.SmoothL1Loss(beta=-1), "beta must not be negative, got -1"),
        (lambda: nb.HuberLoss(delta=0), "delta must be positive, got 0"),
        (lambda: nb.MultiMarginLoss(p=3), "p must be 1 or 2, got 3"),
        (lambda: nb.MultiMarginLoss(weight=[[1.0]]), "one number for each class"),
        (lambda: nb.L1Loss("max"), "reduction must be one of"),
        (lambda: nb.HingeLoss(backend="tpu"), "unknown backend"),
    ],
)
def test_arguments_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_loss_is_placed_unless_it_has_a_place():
    free, placed = nb.L1Loss(), nb.L1Loss(backend="reference")
    assert free.placed("reference").backend == "reference"
    assert free.backend is None
    assert placed.placed("cpu") is placed
    assert free.placed(None) is free


def test_reprs():
    assert repr(nb.HuberLoss("sum", 2)) == "HuberLoss(reduction='sum', delta=2.0)"
    assert repr(nb.MultiMarginLoss(2)) == "MultiMarginLoss(reduction='mean', p=2, margin=1.0)"


@pytest.mark.parametrize(
    ("loss", "outputs", "targets"),
    [
        (nb.HingeLoss(), 1, lambda labels: np.where(labels == 0, -1, 1)[:, None]),
        (nb.BCEWithLogitsLoss(), 1, lambda labels: (labels > 0)[:, None]),
        (nb.MultiClassHingeLoss(), 3, lambda labels: labels),
        (nb.MultiMarginLoss(2), 3, lambda labels: labels),
        (nb.SmoothL1Loss(), 3, lambda labels: np.eye(3)[labels]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_classifier_learns_with_each(loss, outputs, targets):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    x = np.array([[2.0, 0], [-1, 2], [-1, -2]])[labels] + rng.normal(size=(60, 2)) * 0.3
    model = nb.Sequential(nb.Dense(2, 16), nb.ReLU(), nb.Dense(16, outputs), backend="reference", seed=0)
    trainer = nb.Trainer(model, loss, nb.Adam(model.parameters(), lr=0.05))
    history = trainer.fit(x, targets(labels), epochs=30, batch_size=20, verbose=False, seed=0)
    y = model(x)
    if outputs == 1:
        assert ((y[:, 0] > 0) == (labels > 0)).all()
    else:
        assert (y.argmax(axis=1) == labels).all()
    assert history["loss"][-1] < 0.3 * history["loss"][0]
