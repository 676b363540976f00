"""A run that was broken off and resumed ends in the same bits as one that never stopped."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import resumed_run

import nbconv as nb
from nbconv.callbacks import Checkpoint
from nbconv.callbacks.checkpoint import literal
from nbconv.errors import CheckpointError

SCRIPT = Path(resumed_run.__file__)


class StopAt(nb.Callback):
    """Breaks the run off behind a step, or within the callbacks behind it."""

    def __init__(self, moment, count, error=RuntimeError):
        self.order = 3  # behind the checkpoints
        self.left = count
        self.error = error
        setattr(self, moment, self.break_off)

    def break_off(self, state):
        self.left -= 1
        if not self.left:
            raise self.error("broken off")


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return resumed_run.run(tmp_path_factory.mktemp("straight"))[1]


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(actual[key], value, err_msg=key, strict=True)


@pytest.mark.parametrize(
    ("moment", "count"),
    [
        ("on_batch_end", 2),  # the first step
        ("on_batch_end", 5),  # between two batches of a step: the checkpoint is the step's before
        ("on_batch_end", 7),  # the last step of an epoch
        ("on_batch_end", 24),
        ("on_epoch_trained", 2),
        ("on_epoch_end", 1),
        ("on_epoch_end", 4),
        ("on_epoch_end", 6),  # the last: nothing is left to do
    ],
)
def test_a_run_broken_off_and_resumed_is_the_same_run(straight, tmp_path, moment, count):
    with pytest.raises(RuntimeError, match="broken off"):
        resumed_run.run(tmp_path, extra=[StopAt(moment, count)])
    _, ended = resumed_run.run(tmp_path, resume=tmp_path / "last.safetensors")
    assert_same(ended, straight)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p, lr: nb.SGD(p, lr, momentum=0.9),
        lambda p, lr: nb.RMSprop(p, lr, momentum=0.9, centered=True),
        nb.Adagrad,
        nb.Lion,
    ],
)
def test_every_optimizer_is_resumed(tmp_path, optimizer):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    _, expected = resumed_run.run(whole, optimizer=optimizer, backend="reference")
    with pytest.raises(RuntimeError, match="broken off"):
        resumed_run.run(broken, optimizer=optimizer, backend="reference", extra=[StopAt("on_batch_end", 11)])
    resume = broken / "last.safetensors"
    _, ended = resumed_run.run(broken, optimizer=optimizer, backend="reference", resume=resume)
    assert_same(ended, expected)
    assert logged(whole) == logged(broken)


def logged(folder):
    """The rows of the log without the columns of time."""
    lines = [line.split(",") for line in (folder / "log.csv").read_text().splitlines()]
    return [[v for name, v in zip(lines[0], row, strict=True) if "second" not in name] for row in lines]


def test_killed_and_resumed_twice(tmp_path):
    """A process that SIGKILL ends has no chance to save anything in its last moment."""

    def python(folder, *arguments):
        folder.mkdir(exist_ok=True)
        command = [sys.executable, str(SCRIPT), str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ})

    straight = python(tmp_path / "straight")
    assert straight.returncode == 0, straight.stderr
    killed = tmp_path / "killed"
    assert python(killed, "5").returncode == -signal.SIGKILL
    assert python(killed, "13", "--resume").returncode == -signal.SIGKILL
    assert not (killed / "ended.npz").exists()
    last = python(killed, "--resume")
    assert last.returncode == 0, last.stderr
    assert_same(dict(np.load(killed / "ended.npz")), dict(np.load(tmp_path / "straight" / "ended.npz")))
    assert logged(killed) == logged(tmp_path / "straight")


def test_ctrl_c_finishes_the_step_and_saves(straight, tmp_path):
    class CtrlC(nb.Callback):
        def on_step_begin(self, state):
            if state.step == 9:
                os.kill(os.getpid(), signal.SIGINT)

    history, _ = resumed_run.run(tmp_path, extra=[CtrlC()], every_steps=0)
    assert history.interrupted
    assert history.epochs == 2
    history, ended = resumed_run.run(tmp_path, resume=tmp_path / "last.safetensors", every_steps=0)
    assert not history.interrupted
    assert_same(ended, straight)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_in_validation_saves_the_epoch_before_it(straight, tmp_path):
    class CtrlC(nb.Callback):
        def on_epoch_trained(self, state):
            if state.epoch == 2:
                os.kill(os.getpid(), signal.SIGINT)

    history, _ = resumed_run.run(tmp_path, extra=[CtrlC()], every_steps=0)
    assert history.epochs == 2
    assert_same(resumed_run.run(tmp_path, resume=tmp_path / "last.safetensors")[1], straight)


def test_the_model_in_a_checkpoint_is_read_by_load(tmp_path):
    resumed_run.run(tmp_path)
    for name in ("last.safetensors", "best.safetensors"):
        model = nb.load(tmp_path / name)
        assert model.predict(resumed_run.data()[0]).shape == (resumed_run.EXAMPLES, 3)


def test_files_of_earlier_epochs_can_be_kept(tmp_path):
    network = resumed_run.model("reference")
    trainer = nb.Trainer(network, nb.CrossEntropyLoss(), nb.SGD(network.parameters(), lr=0.1))
    path = tmp_path / "run-{epoch}-{step}.safetensors"
    callbacks = [Checkpoint(path, every_epochs=2)]
    trainer.fit(*resumed_run.data(), epochs=5, batch_size=22, callbacks=callbacks, verbose=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "run-2-4.safetensors",
        "run-4-8.safetensors",
    ]
    assert nb.training.snapshot.load(tmp_path / "run-2-4.safetensors").run["epoch"] == 2


def fit_small(epochs, *callbacks):
    network = nb.Sequential(nb.Dense(3, 2), backend="reference", seed=0)
    trainer = nb.Trainer(network, nb.CrossEntropyLoss(), nb.SGD(network.parameters(), lr=0.01))
    x, y = np.eye(33, 3, dtype=np.float32), np.arange(33) % 2
    trainer.fit(x, y, epochs=epochs, batch_size=3, callbacks=callbacks, verbose=False)


class Measured(nb.Callback):
    """Replaces what was measured by numbers known beforehand."""

    def on_epoch_trained(self, state):
        state.logs["loss"] = 10.0**-state.epoch


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("w-{epoch:03d}", ["w-001", "w-002"]),
        ("w-{step:04d}-{epoch}", ["w-0011-1", "w-0022-2"]),
        ("{loss:.1f}-{{epoch}}", ["0.1-{epoch}", "1.0-{epoch}"]),
        ("{epoch:>3}{loss:.0%}", ["  1100%", "  210%"]),
    ],
)
def test_names_have_the_fields_of_format(tmp_path, name, files):
    fit_small(2, Measured(), Checkpoint(tmp_path / name))
    assert sorted(os.listdir(tmp_path)) == files


@pytest.mark.parametrize(
    "name",
    [
        "{epochs}",
        "{}",
        "{0}",
        "{ epoch}",
        "{val_f1:.2f}",
        "{epoch.__class__}",
        "{epoch[0]}",
        "{epoch!r}",
        "{epoch:{step}}",
        "{epoch:{step.__class__}}",
        "{epoch:x.2f}",
        "{loss:03d}",
        "{epoch",
        "epoch}",
    ],
)
def test_names_with_other_fields_are_refused_at_once(name):
    with pytest.raises(ValueError, match=r"^Checkpoint: the path .*Braces that belong to the name"):
        Checkpoint(name)
    Checkpoint(literal(name))


def test_measurements_in_names_are_those_that_there_will_be(tmp_path):
    with pytest.raises(ValueError, match=r"'val_loss' in .*: fit needs validation data"):
        fit_small(1, Checkpoint(tmp_path / "{val_loss}"))
    with pytest.raises(ValueError, match="not after every_steps"):
        Checkpoint("{loss}", every_steps=3)
    interrupt = nb.Callback()
    interrupt.on_batch_end = lambda state: signal.raise_signal(signal.SIGINT)
    fit_small(2, interrupt, Checkpoint(tmp_path / "{epoch}-{loss:.2f}"))  # before anything is measured
    assert os.listdir(tmp_path) == ["0-nan"]


def test_the_best_checkpoint_is_that_of_the_best_epoch(tmp_path):
    history, _ = resumed_run.run(tmp_path)
    saved = nb.training.snapshot.load(tmp_path / "best.safetensors").run
    assert saved["epoch"] - 1 == int(np.argmax(history["val_accuracy"]))


def resume_with(tmp_path, message, error=CheckpointError, *, network=None, rule=None, x=None, **arguments):
    network = network or resumed_run.model("reference")
    rule = (rule or nb.SGD)(network.parameters(), lr=0.1)
    inputs, y = resumed_run.data()
    x = inputs if x is None else x
    before = network.state_dict()
    given = {"batch_size": 11, "resume": tmp_path / "run.safetensors", "verbose": False, **arguments}
    with pytest.raises(error, match=message):
        nb.Trainer(network, nb.CrossEntropyLoss(), rule).fit(x, y[: len(x)], epochs=2, **given)
    for key, value in network.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


def test_another_run_is_not_resumed(tmp_path):
    network = resumed_run.model("reference")
    trainer = nb.Trainer(network, nb.CrossEntropyLoss(), nb.SGD(network.parameters(), lr=0.1))
    path = tmp_path / "run.safetensors"
    x, y = resumed_run.data()
    trainer.fit(x, y, batch_size=11, callbacks=[Checkpoint(path)], verbose=False)
    network.save(tmp_path / "model.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(path.read_bytes()[:-100])

    resume_with(tmp_path, "of a run with batch_size 11; this one has 4", batch_size=4)
    resume_with(tmp_path, "of a run with examples 44; this one has 20", x=x[:20])
    resume_with(tmp_path, "of a run with shuffle True; this one has False", shuffle=False)
    resume_with(tmp_path, "of a run with accumulate 1; this one has 2", accumulate=2)
    resume_with(tmp_path, "of a run with augment False; this one has True", augment=resumed_run.noise)
    resume_with(tmp_path, "of a run with seed 3; this one has 4", seed=4)
    resume_with(tmp_path, "of a run with SGD; this one has Adam", rule=nb.Adam)
    resume_with(tmp_path, "of another model", network=nb.Sequential(nb.Flatten(), nb.Dense(72, 3)))
    resume_with(tmp_path, "of a float32 model", network=resumed_run.model("reference").to(dtype="float64"))
    resume_with(
        tmp_path,
        "with the callbacks none; this one has EMA",
        callbacks=[nb.callbacks.EMA(), nb.callbacks.ClipGradNorm(1)],
    )
    resume_with(tmp_path, "no training run", resume=tmp_path / "model.safetensors")
    resume_with(tmp_path, "damaged", resume=tmp_path / "damaged.safetensors")
    resume_with(tmp_path, "absent", FileNotFoundError, resume=tmp_path / "absent.safetensors")


def test_a_resumed_run_can_be_longer(tmp_path):
    def train(epochs, resume=None):
        network = resumed_run.model("reference")
        trainer = nb.Trainer(network, nb.CrossEntropyLoss(), nb.Adam(network.parameters()))
        path = tmp_path / "run.safetensors"
        history = trainer.fit(
            *resumed_run.data(), epochs=epochs, callbacks=[Checkpoint(path)], resume=resume, verbose=False
        )
        return history["loss"], network.state_dict()

    losses, weights = train(3)
    train(2)
    again, resumed = train(3, tmp_path / "run.safetensors")
    assert again == losses
    for key, value in weights.items():
        np.testing.assert_array_equal(resumed[key], value)


def test_a_checkpoint_needs_a_folder_and_sense(tmp_path):
    network = resumed_run.model("reference")
    trainer = nb.Trainer(network, nb.CrossEntropyLoss(), nb.SGD(network.parameters()))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        trainer.fit(*resumed_run.data(), callbacks=[Checkpoint(tmp_path / "nowhere" / "x")], verbose=False)
    with pytest.raises(ValueError, match="every_epochs=-1"):
        Checkpoint("x", every_epochs=-1)
    with pytest.raises(ValueError, match="not after every_steps"):
        Checkpoint("x", monitor="loss", every_steps=3)


@pytest.mark.parametrize(
    "watcher",
    [
        lambda rule: Checkpoint("x", monitor="val_loss"),
        lambda rule: nb.callbacks.EarlyStopping(),
        lambda rule: nb.schedules.ReduceLROnPlateau(rule, "max"),
    ],
)
def test_what_watches_validation_without_any_fails_before_the_first_step(watcher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = resumed_run.model("reference")
    rule = nb.SGD(network.parameters(), lr=0.1)
    trainer, before = nb.Trainer(network, nb.CrossEntropyLoss(), rule), network.state_dict()
    with pytest.raises(ValueError, match=r"there will be no 'val_\w+'; fit needs validation data"):
        trainer.fit(*resumed_run.data(), callbacks=[watcher(rule)], verbose=False)
    for key, value in network.state_dict().items():
        np.testing.assert_array_equal(value, before[key])

    class Measures(nb.Callback):  # somebody else may do what fit does not
        def on_epoch_trained(self, state):
            state.logs["val_loss"] = state.logs["val_accuracy"] = 1.0

    history = trainer.fit(*resumed_run.data(), callbacks=[Measures(), watcher(rule)], verbose=False)
    assert history["val_loss"] == [1.0]


class Rates(nb.Callback):
    """The rate of every step, as the optimiser has it then."""

    def __init__(self):
        self.seen = []

    def on_step_begin(self, state):
        self.seen.append(state.optimizer.param_groups[0]["lr"])


def rates(tmp_path, schedule, epochs, lr=0.1, resume=False, stop=None, rule=nb.SGD, **settings):
    """Of each step of a run of 4 steps an epoch, which is saved behind each step."""
    network, seen = resumed_run.model("reference"), Rates()
    optimizer = rule(network.parameters(), lr=lr, **settings)
    path = tmp_path / "run.safetensors"
    callbacks = [schedule(optimizer), seen, Checkpoint(path, every_steps=1)]
    if stop:
        callbacks.append(StopAt("on_batch_end", stop))
    x, y = resumed_run.data()
    given = {"validation_data": (x, y), "resume": path if resume else None, "verbose": False, "seed": 1}
    trainer = nb.Trainer(network, nb.CrossEntropyLoss(), optimizer)
    if stop:
        with pytest.raises(RuntimeError, match="broken off"):
            trainer.fit(x, y, epochs, 11, callbacks=callbacks, **given)
    else:
        trainer.fit(x, y, epochs, 11, callbacks=callbacks, **given)
    return seen.seen, optimizer


def wave(step, total, base=0.1):
    return base * (1 + np.cos(np.pi * step / total)) / 2


PLAIN = nb.schedules.LambdaLR


@pytest.mark.parametrize(
    ("first", "then", "lr", "expected"),
    [  # two epochs of 4 steps have been made; what the next two train with
        (
            lambda o: nb.schedules.CosineAnnealingLR(o, T_max=2),
            lambda o: nb.schedules.CosineAnnealingLR(o, T_max=4),
            0.1,
            [wave(2, 4)] * 4 + [wave(3, 4)] * 4,
        ),
        (
            lambda o: nb.schedules.CosineAnnealingLR(o, T_max=4),
            lambda o: nb.schedules.CosineAnnealingLR(o, T_max=4),
            0.3,
            [wave(2, 4, 0.3)] * 4 + [wave(3, 4, 0.3)] * 4,
        ),
        (
            lambda o: nb.schedules.CosineAnnealingLR(o, T_max=8, per="step"),
            lambda o: nb.schedules.CosineAnnealingLR(o, T_max=16, per="step"),
            0.1,
            [wave(step, 16) for step in range(8, 16)],
        ),
        (lambda o: PLAIN(o, lambda e: 1), lambda o: PLAIN(o, lambda e: 1), 0.02, [0.02] * 8),
        (
            lambda o: PLAIN(o, lambda e: 1),
            lambda o: PLAIN(o, lambda e: 1 / (1 + e)),
            0.1,
            [0.1 / 3] * 4 + [0.1 / 4] * 4,
        ),
        (
            lambda o: nb.schedules.ReduceLROnPlateau(o, patience=9),
            lambda o: nb.schedules.ReduceLROnPlateau(o, patience=9),
            0.02,
            [0.02] * 8,
        ),
        (lambda o: nb.Callback(), lambda o: nb.Callback(), 0.02, [0.02] * 8),
        (
            lambda o: nb.LearningRate(),
            lambda o: nb.LearningRate(),
            0.02,
            [wave(2, 4, 0.02)] * 4 + [wave(3, 4, 0.02)] * 4,
        ),
        (lambda o: nb.LearningRate(), lambda o: nb.LearningRate(), 0.1, [wave(2, 4)] * 4 + [wave(3, 4)] * 4),
        (
            lambda o: nb.schedules.SequentialLR(
                o, [nb.schedules.LinearLR(o, 0.1, total_iters=1), nb.schedules.CosineAnnealingLR(o, 1)], [1]
            ),
            lambda o: nb.schedules.SequentialLR(
                o, [nb.schedules.LinearLR(o, 0.1, total_iters=1), nb.schedules.CosineAnnealingLR(o, 3)], [1]
            ),
            0.1,
            [wave(1, 3)] * 4 + [wave(2, 3)] * 4,
        ),
    ],
)  # fmt: skip
def test_a_run_goes_on_with_the_rates_of_its_new_schedule(tmp_path, first, then, lr, expected):
    rates(tmp_path, first, 2)
    found, _ = rates(tmp_path, then, 4, lr, resume=True)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("resumed_after", [3, 4, 6])
def test_one_cycle_of_more_steps(tmp_path, resumed_after):
    def schedule(total):
        return lambda optimizer: nb.schedules.OneCycleLR(optimizer, 0.2, total)

    whole, _ = rates(tmp_path, schedule(16), 4, momentum=0.9)
    rates(tmp_path, schedule(8), 2, stop=resumed_after, momentum=0.9)
    found, optimizer = rates(tmp_path, schedule(16), 4, resume=True, momentum=0.9)
    assert found == whole[resumed_after:]
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(0.95, abs=2e-3)  # the end of the cycle
    with pytest.raises(
        CheckpointError, match=r"the OneCycleLR of this run cannot go on: .* step 16 of a cycle of 8"
    ):
        rates(tmp_path, schedule(8), 5, resume=True, momentum=0.9)


def test_what_a_run_has_changed_itself_is_kept(tmp_path):
    def schedule(optimizer):  # a rate that no improvement is good enough for
        return nb.schedules.ReduceLROnPlateau(optimizer, patience=0, threshold=1e9, factor=0.5)

    whole, _ = rates(tmp_path, schedule, 4)
    rates(tmp_path, schedule, 2)
    found, _ = rates(tmp_path, schedule, 4, resume=True)
    assert found == whole[8:]
    assert found[0] < 0.1


@pytest.mark.parametrize(
    ("rule", "first", "then"),
    [
        (nb.SGD, {"momentum": 0.9}, {"momentum": 0.5, "nesterov": True, "weight_decay": 0.01}),
        (nb.SGD, {}, {"momentum": 0.5}),
        (nb.Adam, {}, {"betas": (0.5, 0.9), "amsgrad": True}),
        (nb.RMSprop, {}, {"momentum": 0.5, "centered": True}),
    ],
)
def test_another_setting_of_the_optimizer_takes_effect(tmp_path, rule, first, then):
    rates(tmp_path, lambda o: nb.Callback(), 1, rule=rule, **first)
    _, optimizer = rates(tmp_path, lambda o: nb.Callback(), 2, resume=True, rule=rule, **then)
    (group,) = optimizer.param_groups
    assert {name: group[name] for name in then} == then
    assert all(np.isfinite(value).all() for entry in optimizer.state.values() for value in entry.values())


def test_schedules_and_watchers_that_mean_something_else_are_refused(tmp_path):
    cosine = nb.schedules.CosineAnnealingLR
    rates(tmp_path, lambda o: cosine(o, 4), 1)
    with pytest.raises(CheckpointError, match="it stepped per epoch, this one per step"):
        rates(tmp_path, lambda o: cosine(o, 16, per="step"), 2, resume=True)
    for first, then in (
        (lambda o: nb.schedules.ReduceLROnPlateau(o), lambda o: nb.schedules.ReduceLROnPlateau(o, "max")),
        (lambda o: nb.callbacks.EarlyStopping(), lambda o: nb.callbacks.EarlyStopping("val_accuracy")),
        (
            lambda o: Checkpoint(tmp_path / "best", monitor="val_loss"),
            lambda o: Checkpoint(tmp_path / "best", monitor="loss"),
        ),
    ):
        rates(tmp_path, first, 1)
        with pytest.raises(
            CheckpointError, match=r"cannot go on: it watched 'val_loss' \('min'\), this one '"
        ):
            rates(tmp_path, then, 2, resume=True)


def test_a_loader_is_resumed(tmp_path):
    x, y = resumed_run.data()

    def train(extra=(), resume=None):
        network = resumed_run.model("reference")
        trainer = nb.Trainer(network, nb.CrossEntropyLoss(), nb.Adam(network.parameters()))
        loader = nb.data.DataLoader(
            (x, y), batch_size=8, shuffle=True, seed=5, transform=resumed_run.noise, drop_last=True
        )
        history = trainer.fit(
            loader,
            epochs=3,
            validation_data=nb.data.DataLoader((x, y), batch_size=20),
            callbacks=[Checkpoint(tmp_path / "run.safetensors", every_steps=1), *extra],
            resume=resume,
            verbose=False,
        )
        return history, network.state_dict()

    history, weights = train()
    with pytest.raises(RuntimeError, match="broken off"):
        train([StopAt("on_batch_end", 7)])
    resumed, again = train(resume=tmp_path / "run.safetensors")
    assert resumed["val_loss"] == history["val_loss"]
    for key, value in weights.items():
        np.testing.assert_array_equal(again[key], value)
