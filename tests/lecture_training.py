"""Rows T: rules of training."""

import numpy as np
import pytest
from lecture_rows import row

import nbconv as nb


def parameter(*values):
    result = nb.Parameter((len(values),), nb.initializers.zeros())
    result.data = values
    return result


@row("T1")
def activations(backend):
    x = np.array([[-3.0, -0.5, 0.0, 0.5, 2.0]], np.float32)
    negative = np.minimum(x, 0)
    alpha = 1.3
    for layer, expected in (
        (nb.Sigmoid(), 1 / (1 + np.exp(-x))),
        (nb.Tanh(), (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1)),
        (nb.ReLU(), np.maximum(0, x)),
        (nb.LeakyReLU(0.1), np.maximum(0.1 * x, x)),
        (nb.ELU(alpha), np.maximum(x, 0) + alpha * (np.exp(negative) - 1)),
    ):
        np.testing.assert_allclose(layer.to(backend)(x), expected, rtol=1e-6, atol=1e-7)

    w1, w2 = np.random.default_rng(1).standard_normal((2, 3, 5)).astype(np.float32)
    b1, b2 = np.array([[0.1, 0.2, 0.3], [-0.3, 0.0, 0.5]], np.float32)
    maxout = nb.Sequential(nb.Dense(5, 6), nb.Maxout(2), backend=backend)
    maxout[0].weight.data = np.stack([w1, w2], axis=1).reshape(6, 5)
    maxout[0].bias.data = np.stack([b1, b2], axis=1).ravel()
    expected = np.maximum(x @ w1.T + b1, x @ w2.T + b2)
    np.testing.assert_allclose(maxout(x), expected, rtol=1e-5, atol=1e-6)


@row("T2")
def losses(backend):
    scores = np.array([[2.0, -1.0, 0.5], [0.3, 0.1, 0.2]], np.float32)
    labels = np.array([0, 2])
    true = scores[[0, 1], labels]
    wrong = np.array([scores[0, 1:].max(), scores[1, :2].max()])
    y, t = np.array([[0.4, -2.0, 3.0]], np.float32), np.array([[1.0, 1.0, -1.0]], np.float32)
    x = y - t
    for loss, outputs, targets, each in (
        (nb.CrossEntropyLoss, scores, labels, -np.log(np.exp(true) / np.exp(scores).sum(axis=1))),
        (nb.HingeLoss, y, t, np.maximum(0, 1 - t * y)),
        (nb.MultiClassHingeLoss, scores, labels, np.maximum(0, 1 + wrong - true)),
        (nb.L1Loss, y, t, np.abs(x)),
        (nb.MSELoss, y, t, x**2),
        (nb.SmoothL1Loss, y, t, np.where(np.abs(x) < 1, 0.5 * x**2, np.abs(x) - 0.5)),
    ):
        for reduction, reduce in (("none", np.asarray), ("sum", np.sum), ("mean", np.mean)):
            value, _ = loss(reduction=reduction, backend=backend)(outputs, targets)
            np.testing.assert_allclose(value, reduce(each), rtol=1e-5)


@row("T3")
def momentum(backend):
    gamma, eta = 0.9, 0.1
    p = parameter(1.0, -2.0)
    p.to(backend, p.dtype)
    optimizer = nb.SGD([p], lr=eta, momentum=gamma)
    theta, v = np.array([1.0, -2.0]), np.zeros(2)
    for _ in range(5):
        gradient = 2 * theta + 1
        v = gamma * v + eta * gradient
        theta = theta - v
        p.grad = (2 * p.data + 1).astype(np.float32)
        optimizer.step()
        np.testing.assert_allclose(p.data, theta, rtol=1e-5)


@row("T4")
def adam(backend):
    eta, b1, b2, eps = 0.1, 0.9, 0.999, 1e-8
    p = parameter(1.0, -2.0)
    p.to(backend, p.dtype)
    optimizer = nb.Adam([p], lr=eta)
    assert optimizer.param_groups[0]["betas"] == (b1, b2)
    assert optimizer.param_groups[0]["eps"] == eps
    theta, m, v = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for t in range(1, 6):
        g = 2 * theta + 1
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        theta = theta - eta * m_hat / (np.sqrt(v_hat) + eps)
        p.grad = (2 * p.data + 1).astype(np.float32)
        optimizer.step()
        np.testing.assert_allclose(p.data, theta, rtol=1e-5)


@row("T5")
def dropout(backend):
    alpha = 0.7
    layer = nb.Sequential(nb.Dropout(1 - alpha), seed=0, backend=backend)
    x = np.full((100, 1000), 3.0, np.float32)
    y, _ = layer.forward(x, training=True)
    kept = y != 0
    assert kept.mean() == pytest.approx(alpha, abs=0.005)
    np.testing.assert_allclose(y[kept], 3 / alpha, rtol=1e-6)
    assert y.mean() == pytest.approx(3, rel=0.01)
    np.testing.assert_array_equal(layer(x), x)


@row("T8")
def regularization(backend):
    weight = 0.1
    model = nb.Sequential(nb.Dense(3, 2), backend=backend, seed=0)
    x, labels = np.array([[1.0, 2.0, 3.0]], np.float32), np.array([1])
    y, backprop = model.forward(x, training=True)
    data_loss, dy = nb.CrossEntropyLoss(backend=backend)(y, labels)
    backprop(dy)
    of_data = [p.grad.copy() for p in model.parameters()]
    squares = sum(float((p.data.astype(np.float64) ** 2).sum()) for p in model.parameters())

    # As a term of the loss that is reported, ...
    loss = nb.L2Regularization(nb.CrossEntropyLoss(), model.parameters(), weight, backend=backend)
    optimizer = nb.SGD(model.parameters(), lr=0.5)
    optimizer.zero_grad()
    y, backprop = model.forward(x, training=True)
    value, dy = loss(y, labels)
    backprop(dy)
    assert value == pytest.approx(data_loss + weight / 2 * squares, rel=1e-5)
    for p, gradient in zip(model.parameters(), of_data, strict=True):
        np.testing.assert_allclose(p.grad, gradient + weight * p.data, rtol=1e-5, atol=1e-7)

    # ... or as weight decay: the step is the same.
    decayed = nb.Sequential(nb.Dense(3, 2), backend=backend, seed=0)
    for p, gradient in zip(decayed.parameters(), of_data, strict=True):
        p.grad = gradient
    nb.SGD(decayed.parameters(), lr=0.5, weight_decay=weight).step()
    optimizer.step()
    for a, b in zip(model.parameters(), decayed.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-5, atol=1e-7)


@row("T13")
def normalisation(backend):
    norms = [layer for layer in nb.models.alexnet() if isinstance(layer, nb.LocalResponseNorm)]
    assert len(norms) == 2
    x = np.random.default_rng(13).standard_normal((1, 9, 2, 3)).astype(np.float32) * 20
    y = norms[0].to(backend)(x)
    for c in range(9):  # n = 5, alpha = 1e-4, beta = 0.75, k = 2
        energy = (x[:, max(0, c - 2) : c + 3].astype(np.float64) ** 2).sum(axis=1)
        np.testing.assert_allclose(y[:, c], x[:, c] / (2 + 1e-4 * energy) ** 0.75, rtol=1e-5)

    norms = [layer for layer in nb.models.zfnet() if isinstance(layer, nb.ContrastNorm)]
    assert len(norms) == 2
    # An image's brightness and contrast are gone, and so are local means; local deviations become 1 at most.
    image = np.random.default_rng(13).standard_normal((1, 3, 24, 24)).astype(np.float32)
    image[..., 12:] *= 3
    y = norms[0].to(backend)(image)
    np.testing.assert_allclose(norms[0](5 * image + 40), y, atol=1e-4)
    assert abs(y.mean()) < 0.05
    assert image[..., 14:].std() > 2.5
    assert y[..., 14:].std() == pytest.approx(1, abs=0.1)
    assert y[..., :10].std() < 1


@row("T14")
def mini_batch_loop(backend):
    (x, labels), _ = nb.data.digits()
    model = nb.Sequential(
        nb.Flatten(), nb.Dense(64, 32), nb.ReLU(), nb.Dense(32, 10), backend=backend, seed=0
    )
    loss = nb.CrossEntropyLoss(backend=backend)
    optimizer = nb.SGD(model.parameters(), lr=0.1, momentum=0.9)
    rng = np.random.default_rng(0)
    before = loss(model(x), labels)[0]
    for _ in range(50):
        batch = rng.choice(len(x), 100, replace=False)
        optimizer.zero_grad()
        y, backprop = model.forward(x[batch], training=True, input_grad=False)
        value, dy = loss(y, labels[batch])
        singly = [loss(y[i : i + 1], labels[batch[i : i + 1]])[0] for i in range(100)]
        assert value == pytest.approx(np.mean(singly), rel=1e-4)
        backprop(dy)
        old = [p.data.copy() for p in model.parameters()]
        optimizer.step()
        assert all((p.data != was).any() for p, was in zip(model.parameters(), old, strict=True))
    assert loss(model(x), labels)[0] < before / 3
    assert (model.predict(x).argmax(axis=1) == labels).mean() > 0.85
