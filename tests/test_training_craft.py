"""Accumulation, loaders, averages, early stopping, logs, losses that are not finite, the rate test."""

import csv
import json
import math
import os
import signal
import struct
import threading

import numpy as np
import pytest

import nbconv as nb
from nbconv.callbacks import (
    EMA,
    ClipGradNorm,
    ClipGradValue,
    CSVLogger,
    EarlyStopping,
    JSONLinesLogger,
    TensorBoardLogger,
)
from nbconv.callbacks.base import TrainingState
from nbconv.callbacks.tensorboard import crc32c
from nbconv.errors import NonFiniteError

X = np.random.default_rng(0).normal(size=(45, 5)).astype(np.float32)
Y = np.arange(45) % 3


def model_of(dtype="float32", backend="reference"):
    return nb.Sequential(nb.Dense(5, 8), nb.Tanh(), nb.Dense(8, 3), backend=backend, seed=0, dtype=dtype)


def fit(callbacks=(), model=None, lr=0.1, x=X, y=Y, **arguments):
    model = model or model_of()
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), lr=lr))
    settings = {"epochs": 3, "batch_size": 10, "verbose": False, **arguments}
    return trainer.fit(x, y, callbacks=callbacks, **settings), model


def assert_close(one, other, rtol=1e-12):
    for key, value in one.state_dict().items():
        np.testing.assert_allclose(value, other.state_dict()[key], rtol=rtol, atol=1e-14)


# Accumulation


def test_accumulated_batches_are_one_large_batch():
    """45 examples: steps of 20, 20 and 5, or of 10 + 10, 10 + 10 and 5; then of 12, 12, 12 and 9 in fours."""
    for large, small, count in ((20, 10, 2), (12, 4, 3), (45, 7, 100)):
        _, whole = fit(model=model_of("float64"), batch_size=large)
        history, parts = fit(model=model_of("float64"), batch_size=small, accumulate=count)
        assert_close(whole, parts)
        assert history.epochs == 3


def test_callbacks_see_the_steps():
    seen = []

    class Watch(nb.Callback):
        def on_step_begin(self, state):
            seen.append(f"gradients of step {state.step}")

        def on_batch_end(self, state):
            seen.append((state.batch, state.step, state.stepped))

    fit([Watch()], epochs=1, accumulate=2)
    gradients = "gradients of step"
    assert seen == [
        *((0, 0, False), f"{gradients} 0", (1, 1, True)),
        *((2, 1, False), f"{gradients} 1", (3, 2, True)),
        *(f"{gradients} 2", (4, 3, True)),
    ]


@pytest.mark.parametrize("accumulate", [0, -1])
def test_accumulate_is_positive(accumulate):
    with pytest.raises(ValueError, match=f"accumulate of at least 1, got {accumulate}"):
        fit(accumulate=accumulate)


# Clipping


def test_steps_are_as_long_as_the_clipped_gradients():
    lengths = []

    class Watch(nb.Callback):
        def on_train_begin(self, state):
            self.before = state.model.state_dict()

        def on_batch_end(self, state):
            after = state.model.state_dict()
            lengths.append(math.sqrt(sum(((after[k] - self.before[k]) ** 2).sum() for k in after)))
            self.before = after

    fit([ClipGradNorm(0.01), Watch()], lr=0.5)
    np.testing.assert_allclose(lengths, 0.5 * 0.01, rtol=1e-3)
    before = model_of().state_dict()
    _, model = fit([ClipGradValue(1e-4)], lr=1.0, epochs=1, batch_size=45)
    for key, value in model.state_dict().items():
        assert np.abs(value - before[key]).max() <= 1.01e-4


# Averages


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_average_is_its_formula(backend):
    weights = []

    class Watch(nb.Callback):
        def on_batch_end(self, state):
            weights.append(state.model[0].weight.numpy().copy())

    plain_history, plain = fit([], model=model_of(backend=backend))
    history, model = fit([Watch(), EMA(0.9)], model=model_of(backend=backend), validation_data=(X, Y))
    assert history["loss"] == plain_history["loss"]  # training takes no notice
    average = weights[0].astype(np.float64)
    for weight in weights[1:]:
        average = 0.9 * average + 0.1 * weight
    np.testing.assert_allclose(model[0].weight.numpy(), average, rtol=1e-5, atol=1e-7)
    assert not np.allclose(model[0].weight.numpy(), plain[0].weight.numpy())
    measured = nb.Trainer(model, nb.CrossEntropyLoss()).evaluate(X, Y, batch_size=10)
    assert history["val_loss"][-1] == measured["loss"]


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.9999])
def test_the_average_loses_no_digits(decay):
    """Single precision has weights of 0.9999 and 0.0001 that do not make 1, and sums that stand still."""
    model = nb.Sequential(nb.Dense(1, 100), nb.BatchNorm2d(100), backend="reference", seed=0)
    state = TrainingState(model, nb.SGD(model.parameters()), epochs=1, batches=1, examples=1, stepped=True)
    ema, rng = EMA(decay), np.random.default_rng(0)
    ema.on_train_begin(state)
    first = average = model[0].weight.data.copy() + 1
    for step in range(20_000 if decay > 0.9 else 200):
        model[0].weight.data = first + rng.normal(0, 0.01, first.shape).astype("f4")
        model[1].running_mean = model[0].weight.data[:, 0].copy()
        weight = model[0].weight.data.astype(np.float64)
        average = decay * average + (1 - decay) * weight if step else weight
        ema.on_batch_end(state)
    ema.on_epoch_trained(state)
    for averaged in (model[0].weight.data, model[1].running_mean[:, None]):
        np.testing.assert_allclose(averaged, average, rtol=2e-5 if decay > 0.9 else 1e-6)


def test_the_average_is_pytorchs():
    torch = pytest.importorskip("torch")
    utils = torch.optim.swa_utils
    module = torch.nn.Linear(5, 8)
    averaged = utils.AveragedModel(module, multi_avg_fn=utils.get_ema_multi_avg_fn(0.8))

    class Follow(nb.Callback):
        def on_batch_end(self, state):
            with torch.no_grad():
                module.weight.copy_(torch.tensor(state.model[0].weight.numpy()))
            averaged.update_parameters(module)

    _, model = fit([EMA(0.8), Follow()])
    expected = averaged.module.weight.detach().numpy()
    np.testing.assert_allclose(model[0].weight.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_running_statistics_are_averaged_alike():
    model = nb.Sequential(
        nb.Conv2d(5, 8, 1), nb.BatchNorm2d(8), nb.Flatten(), nb.Dense(8, 3), backend="reference", seed=0
    )
    seen = []

    class Watch(nb.Callback):
        def on_batch_end(self, state):
            seen.append(state.model[1].running_var.copy())

    fit([Watch(), EMA(0.5)], model=model, x=X[:, :, None, None])
    average = seen[0]
    for value in seen[1:]:
        average = 0.5 * average + 0.5 * value
    np.testing.assert_allclose(model[1].running_var, average, rtol=1e-5)
    assert model[1].running_var.dtype == np.float32


def test_frozen_parameters_are_not_averaged():
    model = nb.Sequential(nb.Dense(5, 8), nb.Dense(8, 3), backend="reference", seed=0)
    model[0].requires_grad_(False)
    before = model[0].weight.numpy().copy()
    fit([EMA(0.9)], model=model)
    np.testing.assert_array_equal(model[0].weight.numpy(), before)


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_decay_is_a_share(decay):
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\)"):
        EMA(decay)


# Early stopping


class Pretend(nb.Callback):
    """Says what was measured."""

    def __init__(self, values, name="val_loss"):
        self.values, self.name, self.weights = values, name, []

    def on_epoch_end(self, state):
        state.logs[self.name] = self.values[state.epoch]
        self.weights.append(state.model.state_dict())


@pytest.mark.parametrize(
    ("values", "name", "settings", "epochs", "best"),
    [
        ([5, 4, 4.5, 4.2, 3, 3], "val_loss", {"patience": 2}, 4, 1),
        ([5, 4, 4.5, 3, 3, 3], "val_loss", {"patience": 2}, 6, 3),
        ([5, 4.9, 4.8, 4.7], "val_loss", {"min_delta": 0.5, "patience": 3}, 4, 0),
        ([0.1, 0.3, 0.2, 0.4], "val_accuracy", {"monitor": "val_accuracy"}, 3, 1),
        ([5, float("nan"), 4], "val_loss", {}, 2, 0),
        ([1, 2, 1], "score", {"monitor": "score", "mode": "max"}, 3, 1),
    ],
)
@pytest.mark.parametrize("restore", [False, True])
def test_early_stopping(values, name, settings, epochs, best, restore):
    pretend, stopping = Pretend(values, name), EarlyStopping(restore_best_weights=restore, **settings)
    history, model = fit([pretend, stopping], epochs=len(values))
    assert history.epochs == epochs
    assert stopping.best_epoch == best
    expected = pretend.weights[best if restore else epochs - 1]
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, expected[key])


def test_early_stopping_needs_sense():
    with pytest.raises(ValueError, match="patience must be at least 1"):
        EarlyStopping(patience=0)
    with pytest.raises(ValueError, match=r"mode must be .* for 'score', got None"):
        EarlyStopping("score")


# Logs


def test_csv_and_json_lines_hold_the_history(tmp_path):
    loggers = [CSVLogger(tmp_path / "log.csv"), JSONLinesLogger(tmp_path / "log.jsonl")]
    history, _ = fit([Pretend([1.0, float("nan"), 3.0], "odd"), *loggers], validation_data=(X, Y))
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [int(row["epoch"]) for row in rows] == [line["epoch"] for line in lines] == [1, 2, 3]
    for name in ("loss", "accuracy", "val_loss", "lr", "seconds"):
        assert [float(row[name]) for row in rows] == [line[name] for line in lines] == history[name]
    assert lines[1]["odd"] is None
    with pytest.raises(FileNotFoundError, match="nowhere"):
        fit([CSVLogger(tmp_path / "nowhere" / "log.csv")])


def test_crc32c_of_the_standard():
    """RFC 3720, appendix B.4, and the check value of the catalogues."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43


def test_tensorboard_reads_the_scalars(tmp_path):
    protobuf = pytest.importorskip("google.protobuf")
    history, _ = fit([TensorBoardLogger(tmp_path / "board")], validation_data=(X, Y))
    (path,) = (tmp_path / "board").iterdir()
    assert ".tfevents." in path.name
    event_class = event_message(protobuf)
    events = [event_class.FromString(record) for record in records(path.read_bytes())]
    assert events[0].file_version == "brain.Event:2"
    assert [event.step for event in events] == [0, 1, 2, 3]
    for epoch, event in enumerate(events[1:]):
        values = {value.tag: value.simple_value for value in event.summary.value}
        assert values.keys() == history.history.keys()
        for name, value in values.items():
            assert value == np.float32(history[name][epoch])
        assert event.wall_time > 1.7e9


def records(data):
    """The records of an event file, their checksums compared."""

    def masked(part):
        crc = crc32c(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF)

    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert masked(data[:8]) == data[8:12]
        assert masked(data[12 : 12 + length]) == data[12 + length : 16 + length]
        yield data[12 : 12 + length]
        data = data[16 + length :]


def event_message(protobuf):
    """The message Event of TensorFlow's event.proto, as far as it is needed, for protobuf's own parser."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="t", syntax="proto3")
    for message, fields in {
        "Value": [("tag", 1, kinds.TYPE_STRING, ""), ("simple_value", 2, kinds.TYPE_FLOAT, "")],
        "Summary": [("value", 1, kinds.TYPE_MESSAGE, ".t.Value")],
        "Event": [
            ("wall_time", 1, kinds.TYPE_DOUBLE, ""),
            ("step", 2, kinds.TYPE_INT64, ""),
            ("file_version", 3, kinds.TYPE_STRING, ""),
            ("summary", 5, kinds.TYPE_MESSAGE, ".t.Summary"),
        ],
    }.items():
        made = file.message_type.add(name=message)
        for name, number, kind, type_name in fields:
            repeated = kinds.LABEL_REPEATED if name == "value" else kinds.LABEL_OPTIONAL
            made.field.add(name=name, number=number, type=kind, label=repeated, type_name=type_name or None)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Event"))


# Losses that are not finite


class Spoil(nb.ReLU):
    """Passes on NaN from its third training pass."""

    def __init__(self):
        super().__init__()
        self.passes = 0

    def forward(self, x, training=False, *, input_grad=True):
        y, backprop = super().forward(x, training, input_grad=input_grad)
        self.passes += training
        return (y * np.float32(np.nan) if self.passes >= 3 else y), backprop


@pytest.mark.parametrize("nested", [False, True])
def test_a_nan_stops_the_run_and_names_layer_and_step(nested):
    spoil = nb.Sequential(nb.Dense(8, 8), Spoil()) if nested else Spoil()
    model = nb.Sequential(nb.Dense(5, 8), nb.Dropout(0.5), spoil, nb.Dense(8, 3), backend="reference", seed=0)
    where = "2.1" if nested else "2"
    with pytest.raises(NonFiniteError) as caught:
        fit(model=model, epochs=2)
    text = str(caught.value)
    assert text.startswith(f"Spoil (layer {where}): the loss is nan in epoch 1, batch 3 (step 3): ")
    assert "values of the output are not finite" in text
    assert "forward" not in vars(model[0])
    model.predict(X)


def test_outputs_and_losses_that_ran_away_are_named():
    model = nb.Sequential(nb.Dense(5, 8), nb.ReLU(), nb.Dense(8, 3), backend="reference", seed=0)
    with pytest.raises(
        NonFiniteError, match=r"Dense \(layer 2\): the loss is .* \(step 2\): .* of the output"
    ):
        fit(model=model, lr=1e25)
    with pytest.raises(NonFiniteError, match=r"loss is inf .* outputs are finite, the largest \S+e\+38:"):
        fit(lr=1e38)


def test_weights_that_are_not_finite_are_named():
    class Spoiler(nb.Callback):
        def on_step_begin(self, state):
            state.model[2].bias.grad[1] = np.inf

    with pytest.raises(NonFiniteError, match=r"Dense \(layer 2\): .*step 2\): 1 of 3 values of the bias"):
        fit([Spoiler()])


def test_an_input_that_is_not_finite_is_named():
    x = X.copy()
    x[7, 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"batch 1 \(step 1\): 1 of 50 values of the input .* \(7, 2\)"):
        fit(x=x, shuffle=False)


def test_a_loss_that_overflows_by_itself_is_said_to():
    model = nb.Sequential(nb.Dense(5, 3), backend="reference", seed=0)
    trainer = nb.Trainer(model, nb.MSELoss(), nb.SGD(model.parameters()))
    with pytest.raises(NonFiniteError, match=r"the loss is inf in epoch 1, batch 1 .* targets not fit"):
        trainer.fit(X, np.full((45, 3), 1e38, np.float32), verbose=False)


def test_a_validation_loss_that_is_not_finite_stops_the_run():
    x = X.copy()
    x[3] = np.nan
    with pytest.raises(NonFiniteError, match="validation loss is nan after epoch 1: 5 of 50 values of the"):
        fit(validation_data=(x, Y))


def test_a_layer_that_fails_in_validation_is_named():
    class SpoilInference(nb.ReLU):
        def forward(self, x, training=False, *, input_grad=True):
            return x, lambda dy: dy

        def infer(self, x):
            return x + np.float32(np.inf)

    model = nb.Sequential(
        nb.Sequential(nb.Dense(5, 8), SpoilInference()), nb.Dense(8, 3), backend="reference", seed=0
    )
    with pytest.raises(NonFiniteError, match=r"^SpoilInference \(layer 0.1\): the validation loss is nan"):
        fit(model=model, validation_data=(X, Y))


# Loaders


def test_a_loader_trains_as_its_arrays_do():
    arrays, one = fit(seed=5)
    loader = nb.data.DataLoader((X, Y), batch_size=10, shuffle=True, seed=5)
    history, other = fit(x=loader, y=None, validation_data=nb.data.DataLoader((X, Y), batch_size=45))
    assert history["loss"] == arrays["loss"]
    assert_close(one, other, rtol=0)
    trainer = nb.Trainer(other, nb.CrossEntropyLoss())
    assert history["val_loss"][-1] == trainer.evaluate(X, Y)["loss"]
    assert trainer.evaluate(nb.data.DataLoader((X, Y), batch_size=45)) == trainer.evaluate(X, Y)


def test_a_loader_needs_no_targets():
    loader = nb.data.DataLoader((X, Y))
    with pytest.raises(ValueError, match="a loader gives the targets"):
        fit(x=loader, y=Y)
    with pytest.raises(ValueError, match="validation_split needs arrays"):
        fit(x=loader, y=None, validation_split=0.1)


# Ctrl-C


def test_a_second_ctrl_c_ends_the_run_at_once():
    steps = []

    class CtrlC(nb.Callback):
        def on_step_begin(self, state):
            steps.append(state.step)
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    history, model = fit([CtrlC()])
    assert history.interrupted
    assert steps == [0]
    assert_close(model, model_of(), rtol=0)  # the step was not made
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_training_in_a_thread_leaves_signals_alone():
    done = []
    thread = threading.Thread(target=lambda: done.append(fit()))
    thread.start()
    thread.join()
    assert done[0][0].epochs == 3


# The rate test


def test_the_rate_test_finds_where_the_loss_falls_and_changes_nothing():
    model = model_of()
    rule = nb.SGD(model.parameters(), lr=0.123, momentum=0.9)
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), rule)
    trainer.fit(X, Y, verbose=False)
    before, state = model.state_dict(), rule.state_dict()
    target = (X[:, 0] > 0).astype(int)
    found = nb.find_learning_rate(trainer, X, target, 15, start=1e-5, end=100.0, steps=60, seed=0)
    np.testing.assert_allclose(np.diff(np.log(found.rates)), math.log(1e7) / 59, rtol=1e-9)
    assert found.rates[0] == 1e-5
    assert 1e-3 < found.suggestion < 10
    assert found.suggestion * 10 == pytest.approx(found.rates[int(np.argmin(found.losses))])
    assert found.losses[-1] > min(found.losses)
    for key, value in before.items():
        np.testing.assert_array_equal(model.state_dict()[key], value)
    assert rule.param_groups[0]["lr"] == 0.123
    for number, entry in state["state"].items():
        np.testing.assert_array_equal(
            rule.state_dict()["state"][number]["momentum_buffer"], entry["momentum_buffer"]
        )


def test_the_rate_test_survives_a_loss_that_runs_away():
    model = nb.Sequential(nb.Dense(5, 3), backend="reference", seed=0)
    trainer = nb.Trainer(model, nb.MSELoss(), nb.SGD(model.parameters()))
    found = nb.find_learning_rate(
        trainer, X, np.ones((45, 3), np.float32), start=1.0, end=1e30, steps=20, diverged=math.inf
    )
    assert 2 <= len(found.rates) < 20
    assert all(np.isfinite(parameter.data).all() for parameter in model.parameters())


def test_a_loss_that_comes_down_from_a_peak_is_no_reason_for_a_rate():
    rates = [10.0**power for power in range(-5, 3)]
    assert nb.RateTest(rates, [2.3, 2.3, 2.0, 1.8, 5.4, 4.0, 3.0, 9.0]).suggestion == pytest.approx(1e-3)


def test_the_rate_test_tries_augmented_batches():
    seen = []

    def augment(x, y, seed):
        seen.append(seed)
        return x, y

    model = model_of()
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters()))
    nb.find_learning_rate(trainer, X, Y, 15, steps=7, augment=augment, seed=4)
    assert seen == [nb.augment.batch_seed(4, number // 3, number % 3) for number in range(7)]


def test_ctrl_c_ends_the_rate_test_and_changes_nothing():
    model = model_of()
    before = model.state_dict()
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters()))

    def augment(x, y, seed):
        os.kill(os.getpid(), signal.SIGINT)
        return x, y

    with pytest.raises(KeyboardInterrupt):
        nb.find_learning_rate(trainer, X, Y, 15, augment=augment)
    for key, value in before.items():
        np.testing.assert_array_equal(model.state_dict()[key], value)


def test_the_rate_test_needs_sense():
    trainer = nb.Trainer(model_of(), nb.CrossEntropyLoss())
    with pytest.raises(ValueError, match=r"0 < start < end, got 1.0, 0.1"):
        nb.find_learning_rate(trainer, X, Y, start=1.0, end=0.1)
    with pytest.raises(ValueError, match="needs an optimizer"):
        nb.find_learning_rate(trainer, X, Y)
    with pytest.raises(ValueError, match="after 2 steps"):
        _ = nb.RateTest([0.1, 0.2], [1.0, 0.5]).suggestion
    with pytest.raises(ValueError, match="never fallen"):
        _ = nb.RateTest([0.1, 0.2, 0.3], [1.0, 1.5, 2.0]).suggestion
