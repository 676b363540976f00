"""What several batches measure, and the gradients they accumulate, are those of one large batch."""

import copy
import math

import numpy as np
import pytest

import nbconv as nb
from nbconv.errors import NonFiniteError
from nbconv.models import AuxiliaryHead, AuxiliaryLoss, DeeplySupervised

BACKENDS = ["reference", "cpu"]
RNG = np.random.default_rng(0)
N, CLASSES = 23, 4
X = RNG.standard_normal((N, 3, 2, 3))
LABELS = RNG.integers(0, CLASSES, N)
SOME = np.where(
    RNG.random(N) < 0.4, -100, LABELS
)  # the first eight are ignored: the first batch of some sizes
SOME[:8] = -100
PIXELS = RNG.integers(0, CLASSES, (N, 2, 3))
PIXELS[RNG.random((N, 2, 3)) < 0.5] = 3
PIXELS[:5] = 3
WEIGHTS = [1.0, 5.0, 0.2, 3.0]
NUMBERS = RNG.standard_normal((N, CLASSES))
CHANCES = RNG.dirichlet(np.ones(CLASSES), N)
SIGNS = np.where(NUMBERS > 0, 1, -1)
ELEMENTS = RNG.random((N, CLASSES, 2, 3))

LOSSES = {
    "cross entropy": (nb.CrossEntropyLoss(), LABELS),
    "ignoring": (nb.CrossEntropyLoss(), SOME),
    "weighted": (nb.CrossEntropyLoss(WEIGHTS), LABELS),
    "weighted, ignoring, smoothed": (nb.CrossEntropyLoss(WEIGHTS, label_smoothing=0.2), SOME),
    "weight 0": (nb.CrossEntropyLoss([0, 5, 1, 0]), np.sort(LABELS)),
    "8-bit labels": (
        nb.CrossEntropyLoss(WEIGHTS, ignore_index=255),
        np.where(SOME < 0, 255, SOME).astype("u1"),
    ),
    "pixels": (nb.CrossEntropyLoss(ignore_index=3), PIXELS),
    "weighted pixels": (nb.CrossEntropyLoss(WEIGHTS, ignore_index=3), PIXELS),
    "probabilities": (nb.CrossEntropyLoss(WEIGHTS), CHANCES),
    "pixels' probabilities": (nb.CrossEntropyLoss(label_smoothing=0.1), ELEMENTS),
    "squares": (nb.MSELoss(), NUMBERS),
    "distances": (nb.L1Loss(), NUMBERS),
    "smooth": (nb.SmoothL1Loss(), NUMBERS),
    "Huber": (nb.HuberLoss(delta=0.5), ELEMENTS),
    "binary": (nb.BCEWithLogitsLoss([1, 2, 0, 1], pos_weight=WEIGHTS), CHANCES),
    "hinge": (nb.HingeLoss(), SIGNS),
    "classes' hinge": (nb.MultiClassHingeLoss(), LABELS),
    "margin": (nb.MultiMarginLoss(2, 1.5, WEIGHTS), LABELS),
}
every = pytest.mark.parametrize("name", LOSSES)
both = pytest.mark.parametrize("reduction", ["mean", "sum"])
on = pytest.mark.parametrize("backend", BACKENDS)


def case(name, reduction):
    loss, targets = LOSSES[name]
    loss = copy.copy(loss)
    loss.reduction = reduction
    return loss, targets


def model_for(targets, backend="reference"):
    """Logits of images or, where targets are, of pixels."""
    head = [] if targets.shape[-2:] == (2, 3) else [nb.Flatten(), nb.Dense(24, CLASSES)]
    return nb.Sequential(nb.Conv2d(3, CLASSES, 1), *head, backend=backend, dtype="float64", seed=0)


def whole(model, loss, targets):
    """Value and gradients of one batch of everything."""
    for parameter in model.parameters():
        parameter.grad = None
    outputs, backprop = model.forward(X, training=True)
    value, dy = loss.placed(model.backend)(outputs, targets)
    backprop(dy)
    return value, [parameter.grad.copy() for parameter in model.parameters()]


def fitted(model, loss, targets, batch_size, accumulate, lr=1.0):
    """The history of an epoch in parts, and the steps that the parameters have made."""
    before = [parameter.numpy().copy() for parameter in model.parameters()]
    trainer = nb.Trainer(model, loss, nb.SGD(model.parameters(), lr=lr))
    history = trainer.fit(
        X, targets, batch_size=batch_size, accumulate=accumulate, shuffle=False, verbose=False
    )
    return history, [a - p.numpy() for a, p in zip(before, model.parameters(), strict=True)]


def assert_gradients(steps, gradients):
    for step, gradient in zip(steps, gradients, strict=True):
        np.testing.assert_allclose(step, gradient, rtol=1e-10, atol=1e-13)


@every
@both
@on
@pytest.mark.parametrize("batch_size", [1, 7, 8])
def test_an_accumulated_step_is_that_of_one_large_batch(name, reduction, backend, batch_size):
    loss, targets = case(name, reduction)
    model = model_for(targets, backend)
    value, gradients = whole(model, loss, targets)
    history, steps = fitted(model, loss, targets, batch_size, accumulate=N)
    assert history["loss"][0] == pytest.approx(value, rel=1e-12)
    assert_gradients(steps, gradients)


@every
@both
@pytest.mark.parametrize("batch_size", [1, 7, 8, N])
def test_evaluation_does_not_depend_on_the_batch_size(name, reduction, batch_size):
    loss, targets = case(name, reduction)
    model = model_for(targets)
    value, _ = loss.placed("reference")(model(X), targets)
    measured = nb.Trainer(model, loss).evaluate(X, targets, batch_size)
    assert measured["loss"] == pytest.approx(value, rel=1e-12)
    if "accuracy" in measured:
        counts = targets != getattr(loss, "ignore_index", -100)
        right = (model(X).argmax(axis=1) == targets)[counts]
        assert measured["accuracy"] == right.mean()


@both
@on
def test_a_penalty_on_weights_counts_once(reduction, backend):
    plain, targets = case("weighted, ignoring, smoothed", reduction)
    model = model_for(targets, backend)
    penalised = nb.L2Regularization(
        nb.L2Regularization(plain, model.parameters()[:1], 0.3), model.parameters(), 0.5
    )
    value, gradients = whole(model, penalised, targets)
    trainer = nb.Trainer(model, penalised)
    assert trainer.evaluate(X, targets, 5)["loss"] == pytest.approx(value, rel=1e-12)
    history, steps = fitted(model, penalised, targets, 5, accumulate=N)
    assert history["loss"][0] == pytest.approx(value, rel=1e-12)
    assert_gradients(steps, gradients)


@both
def test_losses_of_auxiliary_heads(reduction):
    plain, targets = case("weighted, ignoring, smoothed", reduction)
    head = AuxiliaryHead(nb.Sequential(nb.Flatten(), nb.Dense(24, CLASSES)))
    layers = nb.Conv2d(3, 4, 1), head, nb.ReLU(), nb.Flatten(), nb.Dense(24, CLASSES)
    model = DeeplySupervised(*layers, backend="reference", dtype="float64", seed=0)
    loss = AuxiliaryLoss(nb.L2Regularization(plain, model.parameters(), 0.5), 0.3)
    outputs, _ = model.forward(X, training=True)
    parts = [plain.placed("reference")(output, targets)[0] for output in outputs]
    squares = sum((parameter.numpy() ** 2).sum() for parameter in model.parameters())
    value, gradients = whole(model, loss, targets)
    assert value == pytest.approx(parts[0] + 0.3 * parts[1] + 0.25 * squares, rel=1e-12)
    assert loss.value(outputs, targets) == pytest.approx(value, rel=1e-12)
    history, steps = fitted(model, loss, targets, 5, accumulate=N)
    assert history["loss"][0] == pytest.approx(value, rel=1e-12)
    assert_gradients(steps, gradients)
    for parameter in model.parameters():
        parameter.grad = None
    nb.Trainer(model, loss).evaluate(X, targets, 5)
    loss.value(outputs, targets)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_groups_of_batches_that_do_not_come_out_even(accumulate):
    """Five batches in steps of two: the last step has one batch, and its own divisor."""
    loss, targets = case("weighted, ignoring, smoothed", "mean")
    model, expected = model_for(targets), model_for(targets)
    fitted(model, loss, targets, 5, accumulate, lr=0.1)
    optimizer = nb.SGD(expected.parameters(), lr=0.1)
    for start in range(0, N, 5 * accumulate):
        part = slice(start, start + 5 * accumulate)
        optimizer.zero_grad()
        outputs, backprop = expected.forward(X[part], training=True)
        backprop(loss.placed("reference")(outputs, targets[part])[1])
        optimizer.step()
    for key, value in expected.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[key], value, rtol=1e-10, atol=1e-13)


@on
@pytest.mark.parametrize("name", ["ignoring", "weight 0", "pixels", "8-bit labels"])
def test_a_batch_in_which_nothing_counts_teaches_nothing(backend, name):
    loss, targets = LOSSES[name]
    model, never_saw = model_for(targets, backend), model_for(targets, backend)
    history, _ = fitted(model, loss, targets, 1, 1, lr=0.1)
    counting = np.array([float(loss.divisor(targets[i : i + 1])) > 0 for i in range(N)])
    assert not counting.all()
    trainer = nb.Trainer(never_saw, loss, nb.SGD(never_saw.parameters(), lr=0.1))
    expected = trainer.fit(X[counting], targets[counting], batch_size=1, shuffle=False, verbose=False)
    assert history["loss"] == pytest.approx(expected["loss"], rel=1e-12)
    for key, value in never_saw.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[key], value)


def test_where_nothing_counts_at_all_there_is_no_mean():
    model = model_for(LABELS)
    before = model.state_dict()
    ignored = np.full(N, -100)
    history, _ = fitted(model, nb.CrossEntropyLoss(), ignored, 5, 2)
    assert math.isnan(history["loss"][0])
    assert math.isnan(history["accuracy"][0])
    assert all(
        math.isnan(v) for v in nb.Trainer(model, nb.CrossEntropyLoss()).evaluate(X, ignored, 5).values()
    )
    for key, value in before.items():
        np.testing.assert_array_equal(model.state_dict()[key], value)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_loss_that_is_not_finite_is_still_told(accumulate):
    x = X.copy()
    x[12, 0, 0, 0] = np.nan  # in the third batch; the labels of the first are all ignored
    model = model_for(LABELS)
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), lr=0.1))
    labels = np.r_[SOME[:8], LABELS[8:]]
    with pytest.raises(NonFiniteError, match="epoch 1, batch 3"):
        trainer.fit(x, labels, batch_size=5, accumulate=accumulate, shuffle=False, verbose=False)
    with pytest.raises(NonFiniteError, match="the validation loss is nan after epoch 1"):
        trainer.fit(X[8:], LABELS[8:], batch_size=5, validation_data=(x, labels), verbose=False)


def test_an_ignored_label_that_is_a_class_is_never_right():
    model = model_for(LABELS)
    predicted = model(X).argmax(axis=1)
    labels = np.where(np.arange(N) < 10, predicted, (predicted + 1) % CLASSES)
    ignored = int(predicted[0])
    counts = labels != ignored
    measured = nb.Trainer(model, nb.CrossEntropyLoss(ignore_index=ignored)).evaluate(X, labels, 4)
    assert measured["accuracy"] == (predicted == labels)[counts].mean()


def squares_of_examples(outputs, targets):
    """A mean over examples, by a function that says nothing about itself."""
    difference = outputs - targets
    return (difference**2).sum() / len(targets), 2 * difference / len(targets)


class MaskedSquares(nb.losses.Loss):
    """A mean over what is not NaN among the targets."""

    def __call__(self, y, targets):
        known = ~np.isnan(targets)
        difference = np.where(known, y - np.where(known, targets, 0), 0)
        with np.errstate(invalid="ignore"):
            value = np.divide((difference**2).sum(), known.sum())
        return float(value), 2 * difference / max(known.sum(), 1)

    def divisor(self, targets):
        return (~np.isnan(targets)).sum()


@pytest.mark.parametrize("loss", [squares_of_examples, MaskedSquares()])
def test_losses_of_ones_own(loss):
    targets = NUMBERS.copy()
    if loss is not squares_of_examples:
        targets[RNG.random(targets.shape) < 0.3] = np.nan
        targets[:5] = np.nan
    model = model_for(targets)
    outputs, backprop = model.forward(X, training=True)
    value, dy = loss(outputs, targets)
    backprop(dy)
    gradients = [parameter.grad.copy() for parameter in model.parameters()]
    assert nb.Trainer(model, loss).evaluate(X, targets, 5)["loss"] == pytest.approx(value, rel=1e-12)
    history, steps = fitted(model, loss, targets, 5, accumulate=N)
    assert history["loss"][0] == pytest.approx(value, rel=1e-12)
    assert_gradients(steps, gradients)


def test_a_loss_of_each_example_cannot_be_reported():
    with pytest.raises(ValueError, match='reduction "mean" or "sum", got "none"'):
        nb.Trainer(model_for(LABELS), nb.CrossEntropyLoss(reduction="none")).evaluate(X, LABELS)


def test_a_rate_is_found_past_batches_in_which_nothing_counts():
    model = model_for(LABELS)
    labels = LABELS.copy()
    labels[::3] = -100
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), lr=0.1))
    found = nb.find_learning_rate(trainer, X, labels, 1, steps=40, seed=0)
    assert 20 < len(found.losses) < 40
    assert np.isfinite(found.losses).all()
