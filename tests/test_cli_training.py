"""``nbconv train``: how to train, from options, files and checkpoints."""

import argparse
import csv
import json
import os
import signal

import numpy as np
import pytest
from test_cli_data import write_folder

import nbconv as nb
from nbconv import data
from nbconv.cli import config, datasets, main, transforms
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
    again = "train --resume net.checkpoint.safetensors --output net.safetensors"
    assert f"go on with: nbconv {again}" in out.splitlines()

    monkeypatch.setattr(nb.Adam, "step", step)
    os.remove("net.safetensors")
    assert main(again.split()) == 0
    for key, value in nb.load("net.safetensors").state_dict().items():
        np.testing.assert_array_equal(value, expected[key])


def test_a_recipe_is_a_file_of_options(capsys):
    assert {"airbench", "alexnet"} <= set(config.recipes())
    settled = config.expand(["--recipe", "alexnet", "--epochs", "1"], _adder()).settled
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
        ("a = " + "[" * 30_000, "run.toml is no TOML"),
        ("a = " + "{a=" * 20_000, "run.toml is no TOML"),
        ("a" + ".a" * 30_000 + " = 1", "options have at most 65,536 letters and 1,000 dots"),
        ("#" * 70_000, "options have at most 65,536 letters"),
        ("epochs = " + "9" * 5000, "run.toml is no TOML"),
    ],
)
def test_what_is_wrong_in_a_file(capsys, tmp_path, text, message):
    (tmp_path / "run.toml").write_text(text)
    fails(capsys, ["--config", "run.toml"], message)


def test_a_file_may_begin_with_the_mark_of_windows(tmp_path):
    (tmp_path / "run.toml").write_text("epochs = 3", encoding="utf-8-sig")
    expanded = config.expand(["--config", str(tmp_path / "run.toml")], _adder())
    assert expanded[0] == ["--epochs=3"]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 900,
        "Cutout(" + "[" * 900 + "]" * 900 + ")",
        "Cutout(" + "-" * 1900 + "1)",
        "a" + ".a" * 900,
        "-" * 1900 + "Cutout(8)",
        "Cutout(8), " * 10_000,
        "RandomRotation(1" + "0" * 400 + ")",
        "Cutout({[]: 1})",
        "Cutout(8\0)",
    ],
)
def test_augmentation_that_means_nothing(text):
    with pytest.raises(argparse.ArgumentTypeError):
        transforms.checked(text)


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
    assert error.rstrip("\n").isprintable()
    assert error.count("\n") == 1


# Resuming: what is not believed, and what is given beside it

WRITTEN = {
    "--csv": "log.csv",
    "--jsonl": "log.jsonl",
    "--tensorboard": "board",
    "--output": "out.safetensors",
    "--plot": "curves.png",
    "--run": "run",
    "--checkpoint": "elsewhere.safetensors",
}


def saved(capsys, *arguments, name="run.safetensors"):
    """A checkpoint after one epoch."""
    train(capsys, "--epochs", "1", "--checkpoint", name, "--backend", "reference", *arguments)
    return name


def edited(path, *arguments):
    """The same checkpoint with other arguments in it, as somebody else may have written them."""
    from safetensors.numpy import load_file, save_file

    metadata = dict(nb.serialization.read_metadata(path))
    extra = json.loads(metadata["nbconv_extra"])
    extra["arguments"] += arguments
    arrays = load_file(path)
    save_file(arrays, path, {**metadata, "nbconv_extra": json.dumps(extra)})
    return path


def content(folder):
    return {str(path): path.is_file() and path.read_bytes() for path in sorted(folder.rglob("*"))}


def test_a_checkpoint_decides_on_no_other_file(capsys, tmp_path):
    path = edited(saved(capsys), "--epochs", "2", *[word for pair in WRITTEN.items() for word in pair])
    before = content(tmp_path)
    assert main(["train", "--resume", path]) == 0
    captured = capsys.readouterr()
    after = content(tmp_path)
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == [str(tmp_path / path)]
    assert "a checkpoint decides on no other files" in captured.err
    for option, name in WRITTEN.items():
        assert f"{option} {name}" in captured.err
    assert captured.err.count("\n") == 1
    assert nb.training.snapshot.load(path).run["epoch"] == 2

    assert main(["train", "--resume", path, "--epochs", "3", "--csv", "log.csv"]) == 0
    assert capsys.readouterr().err == ""  # given, or never there
    assert len(rates()) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cs", "log.csv"],
        ["--csv=log.csv"],
        ["--config", "absent.toml"],
        ["--recipe", "absent"],
        ["--resume", "absent.safetensors"],
        ["--weights", "absent.safetensors"],
        ["--data-root", "chosen"],
        ["--find-lr"],
        ["--workers", "1000000"],
        ["--quiet", "--json"],
        ["/etc/passwd"],
    ],
)
def test_what_else_somebody_may_have_written_is_passed_over(capsys, tmp_path, arguments):
    path = edited(saved(capsys), "--epochs", "2", *arguments)
    before = content(tmp_path)
    assert main(["train", "--resume", path]) == 0
    assert content(tmp_path).keys() == before.keys()
    assert "epoch 2/2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "argument --epochs: expected at least 1"),
        (["--augment", "__import__('os')"], "argument --augment: "),
        (["--model", "/etc/passwd"], "argument --model: invalid choice"),
        (["--csv"], "argument --csv: expected one argument"),
        (["--data", "mnist", "--data-root", "chosen"], "so say it: --data mnist --data-root chosen"),
        (["--data", "\x1b]0;x\x07"], r"is of a run on '\x1b]0;x\x07'"),
        (["--whiten", "--preprocess", "none"], "'0.weight'"),
    ],
)
def test_what_somebody_may_have_written_wrongly_is_told(capsys, tmp_path, arguments, message):
    path = edited(saved(capsys), *arguments)
    before = content(tmp_path)
    fails(capsys, ["--resume", path], message)
    assert content(tmp_path) == before


def test_a_folder_of_pictures_is_named_again(capsys, tmp_path):
    pytest.importorskip("PIL")
    write_folder(tmp_path / "pictures", count=5)
    write_folder(tmp_path / "others", count=5)
    (tmp_path / "others" / "red").rename(tmp_path / "others" / "green")
    path = saved(capsys, "--data", "pictures")
    fails(capsys, ["--resume", path], "is of a run on 'pictures'; where data are is not taken from a file")
    fails(capsys, ["--resume", path, "--data", "digits"], "--data digits cannot take effect")
    fails(capsys, ["--resume", path, "--data", "others"], "is of a run on classes blue, red")
    (tmp_path / "pictures").rename(tmp_path / "moved")
    train(capsys, "--resume", path, "--data", "moved", "--epochs", "2", "--batch-size", "16")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [  # of a run with the recipe's rate of 0.003 and a cosine of one epoch
        (["--epochs", "4"], [0.003, 0.003 * (1 + np.cos(np.pi / 4)) / 2, 0.0015]),
        (["--epochs", "2", "--lr", "0.01"], [0.003, 0.005]),
    ],
)
def test_more_epochs_and_another_rate_take_effect(capsys, arguments, expected):
    path = saved(capsys)
    assert main(["train", "--resume", path, *arguments, "--csv", "log.csv"]) == 0
    np.testing.assert_allclose(rates()[: len(expected)], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("begun", "arguments", "expected"),
    [
        (["constant"], ["--lr", "0.0001"], [0.003, 0.0001, 0.0001]),
        (["plateau"], ["--lr", "0.0001"], [0.003, 0.0001, 0.0001]),
        (["step", "--step-size", "9"], ["--step-size", "1"], [0.003, 0.0003, 0.00003]),
        (["multistep", "--milestones", "9"], ["--milestones", "1,2"], [0.003, 0.0003, 0.00003]),
        (["exponential"], ["--gamma", "0.5"], [0.003, 0.0015, 0.00075]),
        (
            ["constant", "--optimizer", "sgd", "--layer-lrs", "0.01,0.02"],
            ["--layer-lrs", "0.03,0.04"],
            [0.01, 0.03, 0.03],
        ),
    ],
)  # fmt: skip
def test_what_belongs_to_a_schedule_takes_effect(capsys, begun, arguments, expected):
    path = saved(capsys, "--schedule", *begun)
    assert main(["train", "--resume", path, "--epochs", "3", *arguments, "--csv", "log.csv"]) == 0
    np.testing.assert_allclose(rates(), expected, rtol=1e-12)


def test_settings_that_may_change_do(capsys, monkeypatch):
    path = saved(capsys, "--optimizer", "sgd", "--lr", "0.01", "--ema", "0.9", "--augment", "affine")
    made = []
    fit = nb.Trainer.fit

    def watched(self, **options):
        history = fit(self, **options)
        made.append((self, options, history))
        return history

    monkeypatch.setattr(nb.Trainer, "fit", watched)
    arguments = ["--momentum", "0.5", "--nesterov", "--weight-decay", "0.25", "--label-smoothing", "0.2"]
    arguments += ["--ema", "0.5", "--augment", "Cutout(2)", "--clip-grad-norm", "0.125", "--epochs", "2"]
    assert main(["train", "--resume", path, *arguments]) == 0
    ((trainer, options, history),) = made
    (group,) = trainer.optimizer.param_groups
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.5, True, 0.25)
    assert trainer.loss.label_smoothing == 0.2
    assert isinstance(options["augment"], nb.augment.Cutout)
    kinds = {type(callback).__name__: callback for callback in options["callbacks"]}
    assert (kinds["EMA"].decay, kinds["ClipGradNorm"].max_norm) == (0.5, 0.125)
    assert history.epochs == 2


@pytest.mark.parametrize(
    ("arguments", "has"),
    [
        (["--model", "vgg11"], "lenet5"),
        (["--batch-size", "8"], "16"),
        (["--accumulate", "2"], "1"),
        (["--seed", "1"], "0"),
        (["--size", "28"], "32"),
        (["--optimizer", "adam"], "adamw"),
        (["--schedule", "constant"], "cosine"),
        (["--warmup", "1"], "0"),
        (["--augment", "none"], "affine"),
        (["--ema", "0.5"], "None"),
        (["--early-stopping", "3"], "None"),
        (["--preprocess", "zca"], "standardize"),
        (["--whiten"], "False"),
        (["--weights", "net.safetensors"], "None"),
        (["--freeze-base"], "False"),
        (["--layer-lrs", "0.1,0.2"], "None"),
        (["--gamma", "0.5"], "--schedule cosine"),
        (["--step-size", "3"], "--schedule cosine"),
        (["--milestones", "3"], "--schedule cosine"),
        (["--patience", "3"], "--schedule cosine"),
        (["--momentum", "0.5"], "--optimizer adamw"),
        (["--recipe", "digits", "--batch-size", "8"], "16"),
    ],
)
def test_what_would_be_another_run_is_refused_by_name(capsys, arguments, has):
    path = saved(capsys)
    message = f"{' '.join(arguments[-2:])} cannot take effect on the run in {path}, which has {has}"
    fails(capsys, ["--resume", path, "--epochs", "2", *arguments], message)


def test_fewer_epochs_and_a_run_that_has_stopped_are_refused(capsys):
    path = saved(capsys, "--early-stopping", "1", "--lr", "0", "--epochs", "3")
    fails(capsys, ["--resume", path, "--epochs", "1"], "--epochs 1 cannot take effect")
    fails(capsys, ["--resume", path, "--epochs", "9"], "which has stopped early, after 2 epochs")
    assert main(["train", "--resume", path]) == 0  # nothing is left to do


def test_the_whole_command_may_be_given_again(capsys):
    whole = ["--epochs", "3", "--lr", "0.002", "--batch-size", "16", "--seed", "0", "--model", "lenet5"]
    train(capsys, *whole, "--output", "whole.safetensors")
    path = saved(capsys, "--lr", "0.002")
    train(capsys, "--resume", path, *whole, "--output", "parts.safetensors")
    assert (
        nb.load("parts.safetensors").state_dict().keys() == nb.load("whole.safetensors").state_dict().keys()
    )


def test_a_checkpoint_of_another_program_is_not_resumed_here(capsys):
    model = nb.models.lenet5(seed=0)
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters()))
    x, y = data.digits(32).test
    checkpoint = nb.callbacks.Checkpoint("other.safetensors")
    trainer.fit(x[:4], y[:4], callbacks=[checkpoint], verbose=False)
    fails(capsys, ["--resume", "other.safetensors"], "a run that nbconv train has not started")
