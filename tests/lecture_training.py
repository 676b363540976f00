"""Rows T: rules of training."""

import numpy as np
import pytest
from lecture_rows import row

import nbconv as nb


def parameter(*values):
    result = nb.Parameter((len(values),), nb.initializers.zeros())
    result.data = values
    return result


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
