"""Models trained by compiled CUDA kernels, in the emulator and where there is one on a GPU, as on the CPU."""

import numpy as np
import pytest

import nbconv as nb
from nbconv import backends

pytest.importorskip("numba_cuda", reason="the CUDA kernels are compiled by numba-cuda")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((10, 2, 8, 8), dtype=np.float32)
Y = RNG.integers(0, 3, 10)


@pytest.fixture(params=["cuda-emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def there(request):
    """The backend that is compared with the CPU's."""
    return request.param


def tiny(backend, seed=1):
    """LeNet's kinds of layers, and those of later networks.

    No bias in front of a normalisation: its gradient is what rounding leaves, which Adam makes a step of.
    """
    return nb.Sequential(
        nb.Conv2d(2, 4, 3, padding=1, bias=False),
        nb.BatchNorm2d(4),
        nb.ReLU(),
        nb.MaxPool2d(2),
        nb.Dropout(0.25),
        nb.Flatten(),
        nb.Dense(64, 3),
        backend=backend,
        seed=seed,
    )


def trained(backend, epochs=1, **fit):
    model = tiny(backend)
    optimizer = nb.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), optimizer)
    return model, trainer.fit(X, Y, epochs, 4, verbose=False, **fit)


def assert_close(states, tolerance=2e-5):
    here, there = states
    assert here.keys() == there.keys()
    for key in here:
        np.testing.assert_allclose(there[key], here[key], rtol=tolerance, atol=tolerance, err_msg=key)


def test_one_step_agrees_with_the_cpu(there):
    results = []
    for backend in ("cpu", there):
        model = tiny(backend)
        optimizer = nb.Adam(model.parameters(), lr=0.01)
        y, backprop = model.forward(X, training=True)
        loss, dy = nb.CrossEntropyLoss(backend=backend)(y, Y)
        dx = backprop(dy)
        gradients = {name: backends.to_numpy(p.grad).copy() for name, p in model.named_parameters()}
        optimizer.step()
        passed = {"y": backends.to_numpy(y), "loss": loss, "dx": backends.to_numpy(dx)}
        results.append((passed, gradients, model.state_dict()))
    for part in zip(*results, strict=True):
        assert_close(part)


def test_a_run_agrees_with_the_cpu_and_repeats_its_bits(there):
    validated = {"epochs": 2, "validation_data": (X[:4], Y[:4]), "accumulate": 2}
    here, history = trained("cpu", **validated)
    model, history2 = trained(there, **validated)
    again, _ = trained(there, **validated)
    assert_close([here.state_dict(), model.state_dict()])
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        np.testing.assert_allclose(history2.history[name], history.history[name], rtol=1e-5)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, again.state_dict()[key], err_msg=key)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_labels_that_do_not_count_agree_with_the_cpu(there, accumulate):
    """Of the first batch none counts, of the second those of weight 0 alone."""
    labels = np.array([-100, -100, -100, -100, 2, 2, 2, 2, 0, 1])
    results = []
    for backend in ("cpu", there):
        model = tiny(backend)
        loss = nb.L2Regularization(nb.CrossEntropyLoss([1, 3, 0]), model.parameters(), 0.1)
        trainer = nb.Trainer(model, loss, nb.SGD(model.parameters(), lr=0.05))
        history = trainer.fit(X, labels, 2, 4, accumulate=accumulate, shuffle=False, verbose=False)
        results.append((model.state_dict(), np.array(history["loss"]), trainer.evaluate(X, labels, 4)))
    assert_close([results[0][0], results[1][0]])
    assert np.isfinite(results[0][1]).all()
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-5)
    np.testing.assert_allclose(results[1][2]["loss"], results[0][2]["loss"], rtol=1e-5)
    assert results[0][2]["accuracy"] == results[1][2]["accuracy"]


def test_a_model_moves_and_is_saved_between_backends(tmp_path, there):
    here, _ = trained("cpu")
    here.save(tmp_path / "model.safetensors")
    model = nb.load(tmp_path / "model.safetensors", backend=there)
    expected = here.predict(X)
    np.testing.assert_allclose(model.predict(X, 4), expected, rtol=1e-4, atol=1e-5)
    assert type(model(X[:2])) is np.ndarray
    model.save(tmp_path / "back.safetensors")
    np.testing.assert_array_equal(nb.load(tmp_path / "back.safetensors").predict(X), expected)
    np.testing.assert_array_equal(model.to("cpu").predict(X), expected)
    np.testing.assert_allclose(model.to(there)(X), expected, rtol=1e-4, atol=1e-5)


def test_a_network_with_paths_is_evaluated_as_on_the_cpu(there):
    model = nb.Sequential(
        nb.Conv2d(2, 4, 3, padding=1, bias=False),
        nb.BatchNorm2d(4),
        nb.ReLU6(),
        nb.Residual(nb.Sequential(nb.Conv2d(4, 4, 3, padding=1), nb.BatchNorm2d(4)), activation=nb.ReLU()),
        nb.Concat(nb.Conv2d(4, 3, 1), nb.Conv2d(4, 4, 3, padding=1, groups=4)),
        nb.GlobalAvgPool2d(),
        nb.Dense(7, 3),
        seed=2,
    )
    for _, layer in model.named_layers():
        if isinstance(layer, nb.BatchNorm2d):
            layer.running_mean = RNG.normal(0, 0.3, layer.num_features).astype(np.float32)
            layer.running_var = RNG.uniform(0.5, 2, layer.num_features).astype(np.float32)
    expected = model(X)
    model.to(there)
    np.testing.assert_allclose(model(X), expected, rtol=1e-4, atol=1e-5)
    model.fuses = False
    np.testing.assert_allclose(model(X), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (nb.CrossEntropyLoss([1, 2, 3]), Y),
        (nb.MultiMarginLoss(), Y),
        (nb.HingeLoss(), 2 * np.eye(3, dtype=np.float32)[Y] - 1),
        (nb.MSELoss(), np.eye(3, dtype=np.float32)[Y]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_loss_can_be_left_where_it_is(loss, targets):
    logits = RNG.standard_normal((10, 3), dtype=np.float32)
    loss = loss.placed("cuda-emulated")
    value, dy = loss(logits, targets)
    with backends.deferred("cuda-emulated"):
        unread, dy2 = loss(logits, targets)
    assert isinstance(value, float)
    assert isinstance(unread, np.ndarray)
    assert unread.shape == ()
    assert float(unread) == value
    np.testing.assert_array_equal(dy, dy2)
    penalised = nb.L2Regularization(loss, tiny("cuda-emulated").parameters(), 0.1, backend="cuda-emulated")
    with backends.deferred("cuda-emulated"):
        unread, _ = penalised(logits, targets)
    assert float(unread) == pytest.approx(value + penalised.penalty(), rel=1e-6)


def test_a_wrong_label_is_named_or_makes_the_loss_nan():
    loss = nb.CrossEntropyLoss(backend="cuda-emulated")
    logits, labels = np.zeros((4, 3), np.float32), np.array([0, 1, 7, 2])
    with pytest.raises(ValueError, match=r"label 7 at targets\[2\]"):
        loss(logits, labels)
    with backends.deferred("cuda-emulated"):
        assert np.isnan(loss(logits, labels)[0])


def test_it_is_said_what_float64_needs():
    with pytest.raises(ValueError, match="'cuda-emulated' computes in float32, got dtype float64"):
        nb.Sequential(nb.Dense(2, 2), backend="cuda-emulated", dtype="float64")
