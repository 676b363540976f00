import numpy as np
import pytest

import nbconv as nb

BACKENDS = ["reference", "cpu"]


def model(backend="reference"):
    layers = nb.Conv2d(2, 3, 3), nb.ReLU(), nb.Flatten(), nb.Dense(12, 4)
    return nb.Sequential(*layers, backend=backend, dtype="float64", seed=0)


X = np.random.default_rng(0).standard_normal((5, 2, 4, 4))
LABELS = np.array([0, 1, 2, 3, 0])


def step(network, loss):
    for parameter in network.parameters():
        parameter.grad = None
    y, backprop = network.forward(X, training=True)
    value, dy = loss(y, LABELS)
    backprop(dy)
    return value, [None if p.grad is None else p.grad.copy() for p in network.parameters()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_loss_and_its_gradient(backend):
    """T8: L = L_data + lambda / 2 * norm(W)^2."""
    network = model(backend)
    data_loss = nb.CrossEntropyLoss(backend=backend)
    loss = nb.L2Regularization(data_loss, network.parameters(), 0.3)
    plain, gradients = step(network, data_loss)
    value, regularized = step(network, loss)
    squares = sum(np.sum(p.data**2) for p in network.parameters())
    assert isinstance(value, float)
    assert value == pytest.approx(plain + 0.15 * squares, rel=1e-12)
    assert loss.penalty() == pytest.approx(0.15 * squares, rel=1e-12)
    for parameter, gradient, more in zip(network.parameters(), gradients, regularized, strict=True):
        np.testing.assert_allclose(more, gradient + 0.3 * parameter.data, rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_add_up(backend):
    network = model(backend)
    loss = nb.L2Regularization(nb.CrossEntropyLoss(backend=backend), network.parameters(), 0.3)
    _, once = step(network, loss)
    y, backprop = network.forward(X, training=True)
    backprop(loss(y, LABELS)[1])
    for parameter, gradient in zip(network.parameters(), once, strict=True):
        np.testing.assert_allclose(parameter.grad, 2 * gradient, rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_are_those_of_weight_decay(backend):
    trained = []
    for decay, weight in ((0.1, 0.0), (0.0, 0.1)):
        network = model(backend)
        loss = nb.L2Regularization(nb.CrossEntropyLoss(), network.parameters(), weight)
        optimizer = nb.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=decay)
        trainer = nb.Trainer(network, loss, optimizer)
        trainer.fit(X, LABELS, epochs=3, batch_size=2, validation_data=(X, LABELS), verbose=False)
        trained.append(network.state_dict())
    for one, other in zip(*(state.values() for state in trained), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_evaluation_reports_the_penalty_and_leaves_gradients_alone():
    network = model()
    data_loss = nb.CrossEntropyLoss()
    loss = nb.L2Regularization(data_loss, network.parameters(), 0.3)
    plain = nb.Trainer(network, data_loss).evaluate(X, LABELS, batch_size=2)
    measured = nb.Trainer(network, loss).evaluate(X, LABELS, batch_size=2)
    assert measured["loss"] == pytest.approx(plain["loss"] + loss.penalty(), rel=1e-12)
    assert measured["accuracy"] == plain["accuracy"]
    assert all(parameter.grad is None for parameter in network.parameters())


def test_frozen_parameters_count_but_get_no_gradient():
    network = model()
    network[0].requires_grad_(False)
    weights = [parameter for name, parameter in network.named_parameters() if name.endswith("weight")]
    loss = nb.L2Regularization(nb.CrossEntropyLoss(), weights, 2.0)
    assert loss.penalty() == pytest.approx(sum(np.sum(p.data**2) for p in weights), rel=1e-12)
    _, gradients = step(network, loss)
    assert [gradient is None for gradient in gradients] == [True, True, False, False]


def test_labels_to_ignore_are_those_of_the_loss():
    parameters = model().parameters()
    assert nb.L2Regularization(nb.CrossEntropyLoss(ignore_index=7), parameters, 1.0).ignore_index == 7
    assert nb.L2Regularization(nb.MSELoss(), parameters, 1.0).ignore_index is None


def test_what_cannot_be():
    parameters = model().parameters()
    for message, make in {
        "weight must not be negative, got -1": lambda: nb.L2Regularization(nb.MSELoss(), parameters, -1),
        "expected at least one parameter": lambda: nb.L2Regularization(nb.MSELoss(), [], 1),
        'reductions "mean" and "sum", not "none"': (
            lambda: nb.L2Regularization(nb.MSELoss("none"), parameters, 1)
        ),
    }.items():
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="expected parameters, got"):
        nb.L2Regularization(nb.MSELoss(), [np.ones(3)], 1)


def test_repr():
    loss = nb.L2Regularization(nb.MSELoss(), model().parameters(), 5e-4)
    assert repr(loss) == "L2Regularization(MSELoss(reduction='mean'), 4 parameters, 0.0005)"
