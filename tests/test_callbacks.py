import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

import nbconv as nb
from nbconv.callbacks import Callback, LearningRate, ProgressBar, TrainingState, cosine

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
Y = np.arange(40) % 3


def fit(callbacks=(), verbose=False, epochs=4, **arguments):
    model = nb.Sequential(nb.Dense(5, 3), backend="reference", seed=0)
    optimizer = nb.SGD(
        [{"params": [model[0].weight], "lr": 0.1}, {"params": [model[0].bias], "lr": 0.01}], lr=1.0
    )
    history = nb.Trainer(model, nb.CrossEntropyLoss(), optimizer).fit(
        X, Y, epochs=epochs, batch_size=16, callbacks=callbacks, verbose=verbose, **arguments
    )
    return history, optimizer


def test_a_callback_does_nothing_of_itself():
    history, _ = fit([Callback()])
    plain, _ = fit()
    assert history["loss"] == plain["loss"]


def test_cosine_falls_from_one_to_nearly_nothing():
    factors = [cosine(epoch, 4) for epoch in range(4)]
    np.testing.assert_allclose(factors, [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])


def test_learning_rate_scales_every_group_and_puts_it_back():
    seen = []

    class Watch(Callback):
        def on_batch_end(self, state: TrainingState) -> None:
            seen.append([group["lr"] for group in state.optimizer.param_groups])

    history, optimizer = fit([LearningRate(lambda epoch, epochs: 1 - epoch / epochs), Watch()])
    np.testing.assert_allclose(seen[::3], [[0.1, 0.01], [0.075, 0.0075], [0.05, 0.005], [0.025, 0.0025]])
    np.testing.assert_allclose(history["lr"], [0.1, 0.075, 0.05, 0.025])
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01]


def test_progress_prints_a_line_an_epoch_where_there_is_no_terminal(capsys):
    fit(verbose=True, validation_data=(X, Y))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for number, line in enumerate(lines, 1):
        assert line.startswith(f"epoch {number}/4 loss ")
        for part in ("accuracy ", "val_loss ", "val_accuracy ", " images/s"):
            assert part in line


def test_no_progress_when_not_verbose(capsys):
    fit(verbose=False)
    assert capsys.readouterr().out == ""


def test_progress_bar_lives_in_a_terminal(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(
        "rich.console.Console",
        lambda **_: Console(file=screen, force_terminal=True, width=100, color_system=None),
    )
    monkeypatch.setattr(ProgressBar, "_INTERVAL", 0.0)
    fit(verbose=True)
    shown = screen.getvalue()
    assert "epoch 1/4" in shown
    assert "loss" in shown
    assert "accuracy" in shown
    assert "images/s" in shown
    assert "left" in shown
    assert "━" in shown
    text = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", shown)
    lines = [line for line in text.splitlines() if line and "left" not in line]
    assert [line[:14] for line in lines] == [f"epoch {number}/4 loss" for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_progress_gives_the_terminal_back_when_training_breaks(monkeypatch, error):
    screen = io.StringIO()
    monkeypatch.setattr("rich.console.Console", lambda **_: Console(file=screen, force_terminal=True))

    class Break(Callback):
        def on_batch_end(self, state: TrainingState) -> None:
            raise error

    if error is RuntimeError:
        with pytest.raises(RuntimeError):
            fit([Break()], verbose=True)
    else:
        assert fit([Break()], verbose=True)[0].interrupted
    assert screen.getvalue().count("\x1b[?25h") == screen.getvalue().count("\x1b[?25l") == 1


# What a run tells of itself does not end it.


@pytest.mark.parametrize("kind", [nb.callbacks.CSVLogger, nb.callbacks.JSONLinesLogger])
def test_a_full_disk_does_not_end_a_run_and_is_told_once(tmp_path, caplog, full_disk, kind):
    path = tmp_path / "log"
    with full_disk():
        history, _ = fit([kind(path)], epochs=40)
    assert history.epochs == 40
    assert path.stat().st_size == 1000
    (told,) = caplog.messages
    assert told == f"nbconv: cannot write to {path}: File too large; training goes on"


class Room(Callback):
    """Lets a disk be full in some epochs."""

    def __init__(self, full_disk, first, last):
        self._context, self._first, self._last = full_disk(), first, last

    def on_epoch_begin(self, state):
        if state.epoch == self._first:
            self._context.__enter__()
        if state.epoch == self._last:
            self._context.__exit__(None, None, None)


def test_lines_are_written_when_there_is_room_again(tmp_path, full_disk):
    path = tmp_path / "log"
    fit([Room(full_disk, 3, 20), nb.callbacks.JSONLinesLogger(path)], epochs=24)
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == list(range(1, 25))


def test_tensorboard_survives_a_full_disk_and_a_removed_folder(tmp_path, caplog, full_disk):
    class Remove(Callback):
        def on_epoch_begin(self, state):
            if state.epoch == 5:
                for file in (tmp_path / "logs").iterdir():
                    file.unlink()
                (tmp_path / "logs").rmdir()

    with full_disk():
        history, _ = fit([nb.callbacks.TensorBoardLogger(tmp_path / "logs"), Remove()], epochs=20)
    assert history.epochs == 20
    assert len(caplog.messages) == 1


def test_tensorboard_takes_numbers_that_are_too_large_for_it(tmp_path):
    class Huge(Callback):
        def on_epoch_end(self, state):
            state.logs["loss"], state.logs["accuracy"] = 1e300, -1e300

    fit([Huge(), nb.callbacks.TensorBoardLogger(tmp_path)], epochs=1)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    assert b"loss\x15\x00\x00\x80\x7f" in content
    assert b"accuracy\x15\x00\x00\x80\xff" in content


PIPED = """
import numpy as np, nbconv as nb, sys
model = nb.Sequential(nb.Dense(4, 2), backend="reference", seed=0)
trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), lr=0.1))
history = trainer.fit(np.ones((8, 4), np.float32), np.arange(8) % 2, epochs=5)
print(history.epochs, file=sys.stderr)
"""


@pytest.mark.parametrize("how", ["a pipe without a reader", "closed"])
def test_training_goes_on_when_nobody_reads_its_progress(how):
    reading, writing = os.pipe()
    os.close(reading)
    code = PIPED if how != "closed" else PIPED.replace("history =", "sys.stdout.close()\nhistory =")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert done.stderr.splitlines()[0].startswith("nbconv: cannot write to the standard output: ")
    assert done.stderr.splitlines()[1] == "5"
