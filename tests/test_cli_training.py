"""``nbconv train``: how to train, from options, files and checkpoints."""

import csv
import json
import os
import signal

import numpy as np
import pytest

import nbconv as nb
from nbconv import data
from nbconv.cli import config, datasets, main
from nbconv.data.digits import Examples, Split

SHORT = ["train", "--epochs", "3", "--batch-size", "16", "--quiet", "--json"]


@pytest.fixture(autouse=True)
def few_digits(monkeypatch, tmp_path):
    def some(size, root):
        train, test = data.digits(size)
        return Split(Examples(train.x[:48], train.y[:48]), Examples(test.x[:20], test.y[:20]))

    monkeypatch.setitem(datasets.DATA_SETS, "digits", some)
    monkeypatch.chdir(tmp_path)


def train(capsys, *arguments, status=0):
    """The result of a command that ends with a status, and its other output."""
    assert main([*SHORT, *map(str, arguments)]) == status
    captured = capsys.readouterr()
    return json.loads(captured.out.splitlines()[-1]), captured.out


def rates(path="log.csv"):
    with open(path, newline="") as file:
        return [float(row["lr"]) for row in csv.DictReader(file)]


def falling(step):
    """One cycle of three steps, of which 0.3 * 3 go up, to 0.1; as PyTorch counts them, from -1."""
    share = (step - (0.3 * 3 - 1)) / (2 - (0.3 * 3 - 1))
    end = 0.1 / 25 / 1e4
    return end + (0.1 - end) / 2 * (1 + np.cos(np.pi * share))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--schedule", "constant"], [0.1, 0.1, 0.1]),
        (["--schedule", "cosine"], [0.1, 0.075, 0.025]),
        (["--schedule", "step", "--step-size", "2"], [0.1, 0.1, 0.01]),
        (["--schedule", "multistep", "--milestones", "1,2", "--gamma", "0.5"], [0.1, 0.05, 0.025]),
        (["--schedule", "exponential"], [0.1, 0.095, 0.09025]),
        (["--schedule", "constant", "--warmup", "2"], [0.01, 0.055, 0.1]),
        (["--schedule", "plateau", "--lr", "0", "--patience", "0"], [0, 0, 0]),
        (["--schedule", "one-cycle", "--batch-size", "48"], [falling(step) for step in (1, 2, 3)]),
    ],
)
def test_schedules(capsys, arguments, expected):
    train(capsys, "--lr", "0.1", *arguments, "--csv", "log.csv")
    np.testing.assert_allclose(rates(), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "adagrad", "lion"])
def test_optimizers(capsys, name):
    assert np.isfinite(train(capsys, "--optimizer", name, "--epochs", "1")[0]["train_loss"])


def test_everything_at_once(capsys):
    result, _ = train(
        capsys,
        *("--nesterov", "--accumulate", "2", "--label-smoothing", "0.1", "--clip-grad-norm", "1"),
        *("--clip-grad-value", "0.5", "--ema", "0.9", "--augment", "affine", "--early-stopping", "1"),
        *("--jsonl", "log.jsonl", "--tensorboard", "board", "--checkpoint", "run.safetensors"),
    )
    assert 1 <= result["epochs"] <= 3
    with open("log.jsonl") as file:
        assert len(file.readlines()) == result["epochs"]
    assert len(os.listdir("board")) == 1
    assert nb.load("run.safetensors").output_shape((1, 1, 32, 32)) == (1, 10)


def test_a_file_gives_the_options_and_the_command_line_has_the_last_word(capsys, tmp_path):
    (tmp_path / "run.toml").write_text(
        'epochs = 2\nschedule = "multistep"\nmilestones = [1]\nlr = 0.5\nnesterov = true\nema = 0.5\n'
        'csv = "log.csv"\nwhiten = false\n'
    )
    result, _ = train(capsys, "--config", "run.toml", "--lr", "0.25")
    assert result["epochs"] == 3  # that of SHORT
    assert rates() == [0.25, 0.025, 0.025]


INTERRUPTED = ["--optimizer", "adam", "--ema", "0.9", "--augment", "affine", "--output", "net.safetensors"]


def test_ctrl_c_saves_the_run_and_says_how_to_go_on(capsys, monkeypatch):
    train(capsys, *INTERRUPTED)
    expected = nb.load("net.safetensors").state_dict()
    os.remove("net.safetensors")
    step = nb.Adam.step

    def interrupted(self):
        if self.state and next(iter(self.state.values()))["step"] == 4:
            os.kill(os.getpid(), signal.SIGINT)
        step(self)

    monkeypatch.setattr(nb.Adam, "step", interrupted)
    result, out = train(capsys, *INTERRUPTED, status=130)
    assert result["interrupted"]
    assert result["epochs"] == 1
    assert "stopped after 1 of 3 epochs" in out
    assert "go on with: nbconv train --resume net.checkpoint.safetensors" in out.splitlines()

    monkeypatch.setattr(nb.Adam, "step", step)
    assert main(["train", "--resume", "net.checkpoint.safetensors"]) == 0
    for key, value in nb.load("net.safetensors").state_dict().items():
        np.testing.assert_array_equal(value, expected[key])


def test_a_recipe_is_a_file_of_options(capsys):
    assert {"airbench", "alexnet"} <= set(config.recipes())
    _, settled = config.expand(["--recipe", "alexnet", "--epochs", "1"], _adder())
    assert settled[-2:] == ["--epochs", "1"]
    assert {"--model=alexnet", "--lr=0.01", "--momentum=0.9", "--batch-size=128"} <= set(settled)


def _adder():
    from nbconv.cli import train

    return train.add_arguments


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "there is no option 'epoch'"),
        ("epochs = 0", "argument --epochs: expected at least 1, got 0"),
        ('optimizer = "sgdm"', "argument --optimizer: invalid choice: 'sgdm'"),
        ("epochs = [", "run.toml is no TOML"),
        ("[epochs]\nmany = 3", "'epochs' must be a number, a text or a list"),
        ('resume = "x"', "'resume' belongs on the command line"),
        ("quiet = 3", "argument --quiet: ignored explicit argument '3'"),
    ],
)
def test_what_is_wrong_in_a_file(capsys, tmp_path, text, message):
    (tmp_path / "run.toml").write_text(text)
    fails(capsys, ["--config", "run.toml"], message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "absent.toml"], "absent.toml: No such file or directory"),
        (["--recipe", "bread"], "there is no recipe 'bread'; there are airbench, alexnet"),
        (["--resume", "absent"], "absent: No such file or directory"),
        (["--schedule", "one-cycle", "--warmup", "1"], "--warmup does not go with --schedule one-cycle"),
        (["--warmup", "30"], "--warmup 30 leaves nothing of --epochs 30"),
        (["--schedule", "multistep"], "--schedule multistep needs --milestones"),
        (["--ema", "1.5"], "decay must be in [0, 1), got 1.5"),
        (["--clip-grad-norm", "-1"], "max_norm must not be negative"),
        (["--label-smoothing", "2"], "label_smoothing must be in [0, 1]"),
        (["--csv", "nowhere/log.csv"], "nowhere/log.csv: No such file or directory"),
        (["--checkpoint", "nowhere/run"], "nowhere: no such directory for checkpoints"),
        (["--model", "resnet18", "--whiten"], "whiten: the first layer must be a plain convolution"),
        (["--lr", "1e30", "--quiet", "--batch-size", "16"], "in epoch 1, batch 2 (step 2): "),
    ],
)
def test_what_is_wrong(capsys, arguments, message):
    fails(capsys, arguments, message)


def fails(capsys, arguments, message):
    assert main(["train", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("nbconv train: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_checkpoint_of_another_program_is_not_resumed_here(capsys):
    model = nb.models.lenet5(seed=0)
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters()))
    x, y = data.digits(32).test
    checkpoint = nb.callbacks.Checkpoint("other.safetensors")
    trainer.fit(x[:4], y[:4], callbacks=[checkpoint], verbose=False)
    fails(capsys, ["--resume", "other.safetensors"], "a run that nbconv train has not started")
