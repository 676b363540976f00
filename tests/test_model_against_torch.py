"""Whole models beside PyTorch's, with the same weights: outputs, loss, every gradient, and training."""

import numpy as np
import pytest

import nbconv as nb

torch = pytest.importorskip("torch")

# Said once a process, about the memory of an asymmetric padding.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")

BACKENDS = ["reference", "cpu"]


def _lenet():
    t = torch.nn
    theirs = t.Sequential(
        t.Conv2d(1, 6, 5),
        t.ReLU(),
        t.MaxPool2d(2),
        t.Conv2d(6, 16, 5),
        t.ReLU(),
        t.MaxPool2d(2),
        t.Flatten(),
        t.Linear(400, 120),
        t.ReLU(),
        t.Linear(120, 84),
        t.ReLU(),
        t.Linear(84, 10),
    )
    return nb.models.lenet5(), theirs, (4, 1, 32, 32)


def _everything():
    """Every layer with a deterministic result, with arguments that differ from the defaults."""

    def layers(t, dense):
        return (
            t.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            t.BatchNorm2d(8, eps=1e-3, momentum=0.3),
            t.LeakyReLU(0.2),
            t.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
            t.Conv2d(8, 8, (3, 2), padding="same", groups=8),
            t.ELU(0.7),
            t.Conv2d(8, 6, 3, padding=2, dilation=2, groups=2),
            t.BatchNorm2d(6, affine=False),
            t.Tanh(),
            t.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
            t.Sequential(t.Conv2d(6, 10, 1), t.Sigmoid()),
            t.AdaptiveAvgPool2d((2, 1)),
            t.Dropout(0.0),
            t.Flatten(),
            dense(20, 10),
            t.ReLU(),
            dense(10, 5, bias=False),
        )

    ours = nb.Sequential(*layers(nb, nb.Dense))
    theirs = torch.nn.Sequential(*layers(torch.nn, torch.nn.Linear))
    return ours, theirs, (4, 3, 20, 18)


MODELS = {"lenet": _lenet, "everything": _everything}


def _pair(name, backend, dtype):
    """A model, PyTorch's with the same weights, an input and labels."""
    torch.manual_seed(0)
    ours, theirs, shape = MODELS[name]()
    theirs.to(getattr(torch, dtype))
    ours.to(backend, dtype=dtype).load_state_dict(theirs.state_dict())
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    return ours, theirs, x, np.arange(len(x)) % 5


def _close(a, b, dtype):
    exactness = {"rtol": 1e-9, "atol": 1e-11} if dtype == "float64" else {"rtol": 1e-3, "atol": 2e-5}
    np.testing.assert_allclose(a, b.detach(), **exactness)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_loss_and_every_gradient(name, backend, dtype, training):
    ours, theirs, x, labels = _pair(name, backend, dtype)
    theirs.train(training)
    tensor = torch.tensor(x, requires_grad=True)
    logits = theirs(tensor)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), label_smoothing=0.1)
    expected.backward()

    y, backprop = ours.forward(x, training=training)
    loss, dy = nb.CrossEntropyLoss(label_smoothing=0.1, backend=backend)(y, labels)
    dx = backprop(dy)

    _close(y, logits, dtype)
    assert loss == pytest.approx(expected.item(), rel=1e-9 if dtype == "float64" else 1e-5)
    _close(dx, tensor.grad, dtype)
    gradients = {key: p.grad for key, p in theirs.named_parameters()}
    named = dict(ours.named_parameters())
    assert named.keys() == gradients.keys()
    for key, parameter in named.items():
        _close(parameter.grad, gradients[key], dtype)
    for key, value in theirs.state_dict().items():  # running statistics among them
        if "num_batches" not in key:
            _close(ours.state_dict()[key], value, dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MODELS)
def test_evaluation(name, backend):
    ours, theirs, x, _ = _pair(name, backend, "float32")
    expected = theirs.eval()(torch.tensor(x))
    _close(ours(x), expected, "float32")
    _close(ours.predict(x, batch_size=3), expected, "float32")


@pytest.mark.parametrize("backend", BACKENDS)
def test_ten_steps_of_training(backend):
    ours, theirs, x, labels = _pair("everything", backend, "float64")
    optimizer = nb.SGD(ours.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    oracle = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    cross_entropy = nb.CrossEntropyLoss(backend=backend)
    for _ in range(10):
        optimizer.zero_grad()
        y, backprop = ours.forward(x, training=True)
        loss, dy = cross_entropy(y, labels)
        backprop(dy)
        optimizer.step()
        oracle.zero_grad()
        expected = torch.nn.functional.cross_entropy(theirs(torch.tensor(x)), torch.tensor(labels))
        expected.backward()
        oracle.step()
        assert loss == pytest.approx(expected.item(), rel=1e-8)
    for key, value in theirs.state_dict().items():
        if "num_batches" not in key:
            np.testing.assert_allclose(ours.state_dict()[key], value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_state_dicts_go_both_ways(name):
    ours, theirs, x, _ = _pair(name, "reference", "float32")
    ours.forward(x, training=True)
    state = {key: torch.tensor(value) for key, value in ours.state_dict().items()}
    theirs.load_state_dict(state)
    for key, value in theirs.state_dict().items():
        if "num_batches" not in key:
            np.testing.assert_array_equal(value, ours.state_dict()[key])


def test_parameters_of_a_live_model_can_be_loaded():
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 2))
    ours = nb.Sequential(nb.Dense(3, 2), backend="reference")
    ours.load_state_dict(dict(theirs.named_parameters()))
    np.testing.assert_array_equal(ours[0].weight.data, theirs[0].weight.detach())


def test_nan_and_infinity_go_where_they_go_in_pytorch():
    ours, theirs, x, _ = _pair("lenet", "reference", "float32")
    x[1, 0, 4, 4] = np.nan
    x[2, 0, 9, 9] = np.inf
    expected = theirs(torch.tensor(x)).detach().numpy()
    assert np.isnan(expected[1]).all()
    np.testing.assert_array_equal(np.isnan(ours(x)), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(ours(x)), np.isinf(expected))
