"""Everything but the ops works on arrays that NumPy cannot touch: no conversion hides anywhere.

The backend of ``device_double`` stands for a GPU's. Its ops are the CPU backend's, so results are equal.
"""

import copy

import device_double
import numpy as np
import pytest
from device_double import DeviceArray

import nbconv as nb
from nbconv import backends

RNG = np.random.default_rng(0)
X = RNG.standard_normal((22, 2, 12, 12), dtype=np.float32)
Y = RNG.integers(0, 5, 22)


LAYERS = [
    nb.GroupNorm(2, 4),
    nb.LayerNorm((4, 6, 6)),
    nb.SubtractiveNorm(3),
    nb.LocalResponseNorm(3),
    nb.ContrastNorm(3),
    nb.PReLU(4),
    nb.Maxout(2),
    nb.ConvTranspose2d(4, 3, 2, stride=2),
    nb.Upsample(scale_factor=2),
    nb.AvgPool2d(2),
    nb.AdaptiveAvgPool2d(2),
    nb.GlobalAvgPool2d(),
    nb.Conv2d(4, 2, 3, padding=1, padding_mode="reflect"),
    nb.Dropout2d(0.5),
    nb.GELU(),
    nb.DenseBlock(nb.Conv2d(4, 2, 1), nb.Conv2d(6, 2, 1)),
    nb.preprocess.Standardize.fit(X[:, [0, 1, 0, 1], :6, :6]),
    nb.preprocess.Standardize.fit(X[:, [0, 1, 0, 1], :6, :6], per="pixel"),
    nb.preprocess.PCAWhitening.fit(X[:, [0, 1, 0, 1], :6, :6], 7),
]


@pytest.fixture(autouse=True)
def device(monkeypatch):
    monkeypatch.setitem(backends._MODULES, "device", "device_double")
    monkeypatch.setitem(backends._ARRAYS_OF, "device_double", "device")
    monkeypatch.setattr(backends, "_FLOAT32_ONLY", backends._FLOAT32_ONLY | {"device"})
    device_double.reads.clear()
    device_double.graphs.clear()
    threads = nb.get_num_threads()
    nb.set_num_threads(1)  # arrays are small
    yield
    nb.set_num_threads(threads)
    backends.get.cache_clear()


def small(backend="device", **options):
    return nb.Sequential(
        nb.Conv2d(2, 4, 3, padding=1, bias=False),
        nb.BatchNorm2d(4),
        nb.ReLU(),
        nb.MaxPool2d(2),
        nb.Residual(nb.Sequential(nb.Conv2d(4, 4, 3, padding=1), nb.BatchNorm2d(4, momentum=None))),
        nb.Concat(nb.Conv2d(4, 3, 1), nb.Sequential(nb.Conv2d(4, 3, 1), nb.ReLU6())),
        nb.Dropout(0.3),
        nb.Flatten(),
        nb.Dense(216, 5),
        backend=backend,
        seed=3,
        **options,
    )


def trained(backend, x=X, y=Y, optimizer=nb.SGD, loss=None, callbacks=(), epochs=2, **fit):
    model = small(backend)
    settings = {"momentum": 0.9} if optimizer is nb.SGD else {}
    trainer = nb.Trainer(
        model,
        loss or nb.CrossEntropyLoss(label_smoothing=0.1),
        optimizer(model.parameters(), lr=0.01, **settings),
        callbacks,
    )
    history = trainer.fit(x, y, epochs, 8, verbose=False, **fit)
    return model, trainer, history


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert type(b[key]) is np.ndarray
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def numbers(history):
    return {k: v for k, v in history.history.items() if k not in ("seconds", "images_per_second")}


# The double itself


@pytest.mark.parametrize(
    "act",
    [
        np.asarray,
        np.exp,
        lambda a: np.concatenate([a, a]),
        lambda a: a + np.ones((2, 3), np.float32),
        lambda a: np.ones((2, 3), np.float32) * a,
        lambda a: device_double.relu(np.ones((2, 3), np.float32)),
        lambda a: device_double.add(a, np.ones((2, 3), np.float32)),
    ],
)
def test_the_double_refuses_what_cupy_refuses(act):
    with pytest.raises((TypeError, AssertionError)):
        act(device_double.asarray(np.ones((2, 3), np.float32)))


# Models


def test_passes_agree_with_the_cpu_and_stay_on_the_device():
    here, there = small("cpu"), small()
    y, backprop = here.forward(X, training=True)
    y2, backprop2 = there.forward(X, training=True)
    assert isinstance(y2, DeviceArray)
    np.testing.assert_array_equal(y, device_double.to_numpy(y2))
    dy = RNG.standard_normal(y.shape, dtype=np.float32)
    dx, dx2 = backprop(dy), backprop2(dy)
    np.testing.assert_array_equal(dx, device_double.to_numpy(dx2))
    for (name, p), q in zip(here.named_parameters(), there.parameters(), strict=True):
        assert isinstance(q.grad, DeviceArray), name
        np.testing.assert_array_equal(p.grad, device_double.to_numpy(q.grad), err_msg=name)
    assert_same(here.state_dict(), there.state_dict())
    np.testing.assert_array_equal(here(X), there(X))


def test_numpy_gives_numpy_and_device_arrays_stay():
    model = small()
    x = device_double.asarray(X)
    assert type(model(X)) is np.ndarray
    assert type(model(X.tolist())) is np.ndarray
    assert type(model.predict(X, 5)) is np.ndarray
    model(x)
    device_double.reads.clear()
    outputs = model(x), model.predict(x, 5)
    assert not device_double.reads
    assert all(isinstance(y, DeviceArray) for y in outputs)
    np.testing.assert_array_equal(model.predict(X, 5), device_double.to_numpy(outputs[1]))
    assert model.prepare(x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)).shape == X.shape
    assert small("cpu")(x).shape == (22, 5)  # brought to where the model is


@pytest.mark.parametrize("fuses", [True, False])
def test_evaluation_is_the_same_fused_or_not(fuses):
    here, _, _ = trained("cpu", epochs=1)
    there = copy.deepcopy(here).to("device")
    here.fuses = there.fuses = fuses
    np.testing.assert_array_equal(here.predict(X), there.predict(X))
    norm = next(layer for _, layer in there.named_layers() if isinstance(layer, nb.BatchNorm2d))
    before = there.predict(X)
    norm.running_mean = norm.running_mean + 1
    assert np.abs(there.predict(X) - before).max() > 0.01  # folded weights are not used for ever


@pytest.mark.parametrize(
    "layer",
    LAYERS,
    ids=lambda layer: type(layer).__name__,
)
def test_every_kind_of_layer_passes_there_and_back(layer):
    x = X[:, [0, 1, 0, 1], :6, :6]
    here = nb.Sequential(copy.deepcopy(layer), seed=0)
    there = copy.deepcopy(here).to("device")
    for training in (False, True):
        y, backprop = here.forward(x, training)
        y2, backprop2 = there.forward(x, training)
        np.testing.assert_array_equal(y, device_double.to_numpy(y2))
        np.testing.assert_array_equal(backprop(y), device_double.to_numpy(backprop2(y2)))
    np.testing.assert_array_equal(here(x), there(x))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v1", "googlenet", "densenet121"])
def test_networks_of_the_zoo_pass(name):
    options = {"small": True} if name == "resnet18" else {}
    size = 32 if name == "resnet18" else 64
    model = getattr(nb.models, name)(3, seed=0, **options).to("device")
    x = RNG.standard_normal((2, 3, size, size), dtype=np.float32)
    assert np.isfinite(model(x)).all()


def test_moving_there_and_back_changes_nothing():
    model = small("cpu")
    y, backprop = model.forward(X, training=True)
    backprop(y)
    before, gradients = model.state_dict(), [p.grad.copy() for p in model.parameters()]
    model.to("device")
    assert all(
        isinstance(p.data, DeviceArray) and isinstance(p.grad, DeviceArray) for p in model.parameters()
    )
    assert_same(before, model.state_dict())
    model.to("cpu")
    assert all(type(p.data) is np.ndarray for p in model.parameters())
    assert_same(before, model.state_dict())
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        np.testing.assert_array_equal(gradient, parameter.grad)


@pytest.mark.parametrize("name", ["device", "cuda", "cuda-emulated"])
def test_double_precision_is_refused_in_words(name, monkeypatch):
    monkeypatch.setattr(backends, "_state", lambda name: True)
    with pytest.raises(ValueError, match=f"backend '{name}' computes in float32, got dtype float64"):
        nb.Sequential(nb.Dense(2, 2), dtype="float64", backend=name)
    model = nb.Sequential(nb.Dense(2, 2), dtype="float64")
    with pytest.raises(ValueError, match="float64"):
        model.to(name)
    assert model.backend == "cpu"
    assert model.to("device", dtype="float32")(np.ones((1, 2))).dtype == np.float32


def test_files_know_no_backend(tmp_path):
    model, _, _ = trained("device", epochs=1)
    model.save(tmp_path / "model.safetensors")
    here, there = nb.load(tmp_path / "model.safetensors"), nb.load(tmp_path / "model.safetensors", "device")
    assert_same(model.state_dict(), here.state_dict())
    assert_same(model.state_dict(), there.state_dict())
    there.load_state_dict({key: value + 1 for key, value in here.state_dict().items()})
    assert isinstance(there.parameters()[0].data, DeviceArray)
    parameter = there.parameters()[0]
    parameter.data = here.parameters()[0].data
    parameter.data = parameter.data * 2
    np.testing.assert_array_equal(parameter.numpy(), 2 * here.parameters()[0].numpy())


# Training


@pytest.mark.parametrize(
    "optimizer", [nb.SGD, nb.Adam, nb.AdamW, nb.RMSprop, nb.Adagrad, nb.Lion], ids=lambda o: o.__name__
)
def test_training_agrees_with_the_cpu(optimizer):
    here, _, history = trained("cpu", optimizer=optimizer, validation_split=0.2)
    there, _, history2 = trained("device", optimizer=optimizer, validation_split=0.2)
    assert numbers(history) == numbers(history2)
    assert_same(here.state_dict(), there.state_dict())


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (nb.CrossEntropyLoss(weight=[1, 2, 3, 4, 5], ignore_index=2), Y),
        (nb.BCEWithLogitsLoss(pos_weight=np.full(5, 2.0)), np.eye(5)[Y]),
        (nb.MSELoss(), np.eye(5)[Y]),
        (nb.SmoothL1Loss(), np.eye(5, dtype=np.float32)[Y]),
        (nb.HingeLoss(), 2 * np.eye(5, dtype=np.float32)[Y] - 1),
        (nb.MultiClassHingeLoss(), Y),
        (nb.MultiMarginLoss(weight=[1, 2, 3, 4, 5]), Y),
    ],
    ids=lambda value: type(value).__name__,
)
def test_losses_agree_with_the_cpu(loss, targets):
    _, here, history = trained("cpu", y=targets, loss=loss)
    _, there, history2 = trained("device", y=targets, loss=loss)
    assert numbers(history) == numbers(history2)
    assert here.evaluate(X, targets) == there.evaluate(X, targets)


def test_a_penalty_agrees_with_the_cpu():
    results = []
    for backend in ("cpu", "device"):
        model = small(backend)
        loss = nb.L2Regularization(nb.CrossEntropyLoss(), model.parameters(), 0.01)
        history = nb.Trainer(model, loss, nb.SGD(model.parameters(), lr=0.01)).fit(X, Y, 2, 8, verbose=False)
        results.append((numbers(history), model.state_dict()))
    assert results[0][0] == results[1][0]
    assert_same(results[0][1], results[1][1])


def test_examples_on_the_device_stay_there():
    _, _, history = trained("cpu")
    _, trainer, history2 = trained("device", device_double.asarray(X), device_double.asarray(Y))
    assert numbers(history) == numbers(history2)
    assert trainer.evaluate(device_double.asarray(X), device_double.asarray(Y)) == trainer.evaluate(X, Y)


@pytest.mark.parametrize("weight", [None, [1, 2, 0, 4, 5]])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_labels_that_do_not_count_are_told_on_the_device(weight, accumulate):
    """Of the first step nothing counts, of one batch of the last neither."""
    y = np.where(np.arange(22) < 8 * accumulate, -100, Y)
    loss = nb.CrossEntropyLoss(weight)
    settings = {"loss": loss, "accumulate": accumulate, "shuffle": False, "validation_data": (X, y)}
    here, _, history = trained("cpu", y=y, **settings)
    on_device = device_double.asarray(X), device_double.asarray(y)
    there, trainer, history2 = trained("device", *on_device, **settings | {"validation_data": on_device})
    assert np.isfinite(history["loss"]).all()
    for name, values in numbers(history).items():
        np.testing.assert_allclose(numbers(history2)[name], values, rtol=1e-6)
    for key, value in here.state_dict().items():
        np.testing.assert_allclose(there.state_dict()[key], value, rtol=1e-5, atol=1e-7)
    device_double.reads.clear()
    trainer.fit(*on_device, 1, 8, accumulate=accumulate, shuffle=False, verbose=False)
    assert device_double.reads["item"] == 4 * 3  # loss, divisor, labels right and counted of 3 batches


def test_callbacks_and_accumulation_agree_with_the_cpu():
    def callbacks():
        return [
            nb.callbacks.EMA(0.8),
            nb.callbacks.ClipGradNorm(0.5),
            nb.callbacks.ClipGradValue(0.01),
            nb.LearningRate(),
            nb.callbacks.EarlyStopping("loss", patience=5),
        ]

    here, _, history = trained("cpu", callbacks=callbacks(), accumulate=2, validation_split=0.2, epochs=3)
    there, _, history2 = trained(
        "device", callbacks=callbacks(), accumulate=2, validation_split=0.2, epochs=3
    )
    assert numbers(history) == numbers(history2)
    assert_same(here.state_dict(), there.state_dict())


@pytest.mark.parametrize("first", ["cpu", "device"])
def test_a_run_goes_on_elsewhere(tmp_path, first):
    whole, _, history = trained("cpu", callbacks=[nb.callbacks.EMA(0.8)], epochs=3, optimizer=nb.Adam)
    path = tmp_path / "run.safetensors"
    trained(
        first, callbacks=[nb.callbacks.EMA(0.8), nb.callbacks.Checkpoint(path)], epochs=2, optimizer=nb.Adam
    )
    second = "device" if first == "cpu" else "cpu"
    resumed, _, history2 = trained(
        second, callbacks=[nb.callbacks.EMA(0.8)], epochs=3, optimizer=nb.Adam, resume=path
    )
    assert numbers(history) == numbers(history2)
    assert_same(whole.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("optimizer", [nb.SGD, nb.Adam], ids=lambda o: o.__name__)
def test_an_optimiser_follows_its_model(optimizer):
    results = []
    for middle in ("cpu", "device"):
        model, trainer, _ = trained("cpu", optimizer=optimizer, epochs=1)
        model.to(middle)
        trainer.fit(X, Y, 1, 8, verbose=False)
        model.to("cpu")
        trainer.fit(X, Y, 1, 8, verbose=False)
        results.append(model.state_dict())
    assert_same(*results)


def test_loaders_and_augmentation_agree_with_the_cpu():
    augment = nb.augment.Compose([nb.augment.RandomCrop(12, padding=2), nb.augment.Mixup(0.5, num_classes=5)])
    results = []
    for backend in ("cpu", "device"):
        loader = nb.data.DataLoader((X, Y), 8, shuffle=True)
        model, _, history = trained(backend, loader, None, augment=augment)
        results.append((numbers(history), model.state_dict()))
    assert results[0][0] == results[1][0]
    assert_same(results[0][1], results[1][1])


def test_augmentation_can_run_on_the_device():
    augment = nb.augment.Compose(
        [nb.augment.RandomRotation(20), nb.augment.Cutout(4), nb.augment.Mixup(0.5, num_classes=5)]
    )
    x, y = augment(X, Y, 5)
    x2, y2 = augment(device_double.asarray(X), device_double.asarray(Y), 5)
    np.testing.assert_array_equal(x, device_double.to_numpy(x2))
    np.testing.assert_array_equal(y, y2)
    augment = nb.augment.Compose([nb.augment.RandomRotation(20)], backend="device")
    assert isinstance(augment(X, Y, 5)[0], DeviceArray)
    _, _, history = trained("device", augment=augment)
    assert np.isfinite(history.history["loss"]).all()


def test_nothing_is_read_before_the_epoch_is_over():
    read = []

    class Watch(nb.Callback):
        def on_batch_end(self, state):
            read.append(sum(device_double.reads.values()))

    net = nb.Sequential(nb.Conv2d(2, 4, 3), nb.BatchNorm2d(4), nb.ReLU(), nb.Flatten(), nb.Dense(400, 5))
    trainer = nb.Trainer(net.to("device"), nb.CrossEntropyLoss(), nb.Adam(net.parameters()), [Watch()])
    device_double.reads.clear()
    trainer.fit(X, Y, 1, 4, verbose=False)
    assert read == [0] * 6
    assert 0 < sum(device_double.reads.values()) <= 12  # two numbers a batch


# Recorded steps


def plain(backend):
    return nb.Sequential(
        nb.Conv2d(2, 4, 3, padding=1, bias=False),
        nb.BatchNorm2d(4),
        nb.ReLU(),
        nb.Residual(nb.Sequential(nb.Conv2d(4, 4, 3, padding=1), nb.BatchNorm2d(4)), activation=nb.ReLU()),
        nb.Concat(nb.Conv2d(4, 3, 1), nb.Sequential(nb.Conv2d(4, 3, 1), nb.ReLU6())),
        nb.DenseBlock(nb.Conv2d(6, 2, 3, padding=1)),
        nb.MaxPool2d(2),
        nb.Flatten(),
        nb.Dense(288, 5),
        backend=backend,
        seed=3,
    )


def run(model, *callbacks, epochs=3, **fit):
    loss = nb.CrossEntropyLoss([1, 2, 3, 4, 5], label_smoothing=0.1)
    optimizer = nb.Adam(model.parameters(), lr=0.01)
    history = nb.Trainer(model, loss, optimizer, callbacks).fit(X, Y, epochs, 4, verbose=False, **fit)
    return numbers(history), model.state_dict()


def test_a_recorded_step_gives_the_bits_of_one_that_is_not():
    def callbacks():
        return [nb.LearningRate(), nb.callbacks.EMA(0.7), nb.callbacks.ClipGradNorm(0.5)]

    here = run(plain("cpu"), *callbacks(), validation_data=(X, Y))
    assert not device_double.graphs
    there = run(plain("device"), *callbacks(), validation_data=(X, Y))
    # An epoch has five batches of four examples, of which two come before the first recording. The averages
    # that the model holds in validation are other arrays, so each epoch records anew, at its second batch.
    assert [graph.launches for graph in device_double.graphs] == [3, 4, 4]
    device_double.graphs.clear()
    without = run(plain("device"), *callbacks(), validation_data=(X, Y), record=False)
    assert not device_double.graphs
    for other in (there, without):
        assert here[0] == other[0]
        assert_same(here[1], other[1])


def test_one_recording_serves_all_epochs():
    here, there = run(plain("cpu")), run(plain("device"))
    assert [graph.launches for graph in device_double.graphs] == [13]
    assert here[0] == there[0]
    assert_same(here[1], there[1])


def test_evaluation_between_replays_sees_the_running_statistics():
    class Look(nb.Callback):
        def __init__(self):
            self.seen = []

        def on_batch_end(self, state):
            self.seen.append(state.model.predict(X[:2]))

    seen = []
    for backend in ("cpu", "device"):
        look = Look()
        run(plain(backend), look, epochs=2)
        seen.append(look.seen)
    assert device_double.graphs
    np.testing.assert_array_equal(*seen)


class Changing(nb.Callback):
    """Does something to the model after some batch."""

    def __init__(self, batch, change):
        self.batch, self.change, self.count = batch, change, 0

    def on_batch_end(self, state):
        self.count += 1
        if self.count == self.batch:
            self.change(state.model)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.freeze("1"),
        lambda model: model.freeze("0.weight"),
        lambda model: setattr(model[1], "momentum", 0.5),
        lambda model: setattr(model.parameters()[0], "data", model.parameters()[0].numpy() / 2),
        lambda model: setattr(model[1], "running_mean", model[1].running_mean + 1),
    ],
)
def test_what_is_changed_between_steps_is_seen(change):
    here, there = (run(plain(backend), Changing(8, change)) for backend in ("cpu", "device"))
    assert len(device_double.graphs) == 2
    assert here[0] == there[0]
    assert_same(here[1], there[1])


def test_a_loss_or_a_precision_that_is_changed_is_seen():
    losses, results = [], []
    for backend in ("cpu", "device"):
        loss = nb.CrossEntropyLoss(np.ones(5), backend=backend)
        losses.append(loss)

        def change(model, loss=loss):
            loss.weight[1] = 5
            loss.label_smoothing = 0.2

        model = plain(backend)
        trainer = nb.Trainer(model, loss, nb.SGD(model.parameters(), lr=0.01), [Changing(8, change)])
        results.append((numbers(trainer.fit(X, Y, 3, 4, verbose=False)), model.state_dict()))
    assert len(device_double.graphs) == 2
    assert results[0][0] == results[1][0]
    assert_same(results[0][1], results[1][1])

    before, precisions = nb.get_precision(), []
    device_double.graphs.clear()
    try:
        run(plain("device"), Changing(8, lambda model: precisions.append(nb.set_precision("highest"))))
    finally:
        nb.set_precision(before)
    assert len(device_double.graphs) == 2


class Doubled(nb.ReLU):
    """A layer of a user's own."""


@pytest.mark.parametrize(
    ("position", "layer"),
    [(2, nb.Dropout(0.5)), (2, nb.BatchNorm2d(4, momentum=None)), (2, Doubled()), (2, nb.ContrastNorm(3))],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_recorded_is_made_as_usual(position, layer):
    results = []
    for backend in ("cpu", "device"):
        model = plain("cpu")
        model.insert(position, copy.deepcopy(layer))
        results.append(run(model.to(backend)))
    assert not device_double.graphs
    assert results[0][0] == results[1][0]
    assert_same(results[0][1], results[1][1])


def test_a_recording_that_fails_changes_nothing(monkeypatch):
    calls = []

    capture = device_double.capture

    def refuse(work, *inputs):
        calls.append(capture(work, *inputs))
        raise RuntimeError("the driver refuses")

    monkeypatch.setattr(device_double, "capture", refuse)
    here = run(plain("cpu"))
    with pytest.warns(RuntimeWarning, match="steps are not recorded: the driver refuses"):
        there = run(plain("device"))
    assert len(calls) == 1
    assert here[0] == there[0]
    assert_same(here[1], there[1])


def test_a_callback_may_look_at_every_batch():
    class Watch(nb.Callback):
        def __init__(self):
            self.seen = []

        def on_batch_end(self, state):
            self.seen.append((state.loss, dict(state.logs)))

    seen = []
    for backend in ("cpu", "device"):
        watch = Watch()
        trained(backend, callbacks=[watch])
        seen.append(watch.seen)
    assert seen[0] == seen[1]
    assert all(type(loss) is float for loss, _ in seen[1])


def test_a_loss_that_is_not_finite_is_explained():
    model = small()
    model.parameters()[0].data = np.full(model.parameters()[0].shape, np.nan)
    with pytest.raises(nb.NonFiniteError, match=r"Conv2d.*epoch 1, batch 1, noticed after batch 1: .*weight"):
        nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), lr=0.1)).fit(X, Y, verbose=False)
    with pytest.raises(
        nb.NonFiniteError, match=r"loss is (nan|inf) in epoch \d+, batch 2, noticed after batch 3"
    ):
        trained(
            "device",
            y=np.where(np.arange(110).reshape(22, 5) // 5 == 11, np.nan, 1.0),
            loss=nb.MSELoss(),
            shuffle=False,
        )
    bad_y = np.ones((22, 5), np.float32)
    bad_y[13] = np.nan
    with pytest.raises(
        nb.NonFiniteError, match="the validation loss is nan after epoch 1, though all outputs"
    ):
        trained("device", y=np.ones((22, 5)), loss=nb.MSELoss(), validation_data=(X, bad_y))
    bad = X.copy()
    bad[3, 1, 2, 4] = np.inf
    with pytest.raises(nb.NonFiniteError, match=r"\(3, 1, 2, 4\)"):
        trained("device", device_double.asarray(bad), check_finite=True)
    with pytest.raises(nb.NonFiniteError):
        small().predict(bad, check_finite=True)


def test_a_learning_rate_is_found_there_too():
    model = small()
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), lr=0.1))
    before = model.state_dict()
    assert len(nb.find_learning_rate(trainer, X, Y, 8, steps=6).rates) == 6
    assert_same(before, model.state_dict())


# Views of a model


def test_views_agree_with_the_cpu():
    here, _, _ = trained("cpu", epochs=1)
    there = copy.deepcopy(here).to("device")
    x = X[:3]
    for look in (
        lambda m: nb.inspect.saliency(m, x),
        lambda m: nb.inspect.smooth_grad(m, x, samples=2),
        lambda m: nb.inspect.occlusion(m, x, window=6, stride=6),
        lambda m: nb.inspect.deconvolution(m, x, 0),
        lambda m: nb.inspect.activations(m, x)["0"],
        lambda m: nb.inspect.worst_mistakes(m, X, Y).losses,
        lambda m: nb.transfer.features(m, x, 8),
        lambda m: nb.inspect.filters(m, "0"),
    ):
        np.testing.assert_array_equal(look(here), look(there))
    maps = nb.inspect.grad_cam(here, x), nb.inspect.grad_cam(there, x)  # NumPy's sums depend on the layout
    np.testing.assert_allclose(*maps, rtol=1e-4, atol=1e-7)
    assert str(here.summary((2, 12, 12))) == str(there.summary((2, 12, 12)))
    nb.inspect.saliency(there, device_double.asarray(x), device_double.asarray(Y[:3]))
