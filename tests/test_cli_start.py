"""``nbconv train``: finding a learning rate, transforms by name, beginning with what was learned before."""

import json
import os

import numpy as np
import pytest
from test_cli_data import write_folder

import nbconv as nb
from nbconv import augment, data
from nbconv.cli import datasets, main, transforms
from nbconv.data.digits import Examples, Split

SHORT = ["train", "--epochs", "1", "--batch-size", "16", "--quiet", "--json"]


@pytest.fixture(autouse=True)
def few_digits(monkeypatch, tmp_path):
    def some(size, root):
        train, test = data.digits(size)
        return Split(Examples(train.x[:48], train.y[:48]), Examples(test.x[:20], test.y[:20]))

    monkeypatch.setitem(datasets.DATA_SETS, "digits", some)
    monkeypatch.chdir(tmp_path)


def train(capsys, *arguments, status=0):
    """The result of a command and its other output; its one line of errors where it fails."""
    assert main([*SHORT, *map(str, arguments)]) == status
    captured = capsys.readouterr()
    if status:
        assert captured.err.startswith("nbconv train: ")
        assert captured.err.count("\n") == 1
        return captured.err
    return json.loads(captured.out.splitlines()[-1]), captured.out


# The rate test


def test_the_rate_test_tells_what_the_library_finds(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    files = ["--plot", "rates.png", "--output", "net.safetensors", "--run", "run", "--csv", "log.csv"]
    monkeypatch.setattr("nbconv.cli.finding._STEPS", 30)
    options = ["--optimizer", "adam", "--seed", 3, "--backend", "reference"]
    result, out = train(capsys, "--find-lr", *options, *files)
    train_x, train_y = datasets.DATA_SETS["digits"](32, None).train
    model = nb.models.lenet5(seed=3, backend="reference")
    optimizer = nb.Adam(model.parameters(), weight_decay=5e-4)
    model.insert(0, nb.preprocess.Standardize.fit(train_x))
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(label_smoothing=0.1), optimizer)
    light = augment.RECIPES["affine"]()
    expected = nb.find_learning_rate(trainer, train_x, train_y, 16, augment=light, steps=30, seed=3)
    assert (result["rates"], result["losses"]) == (expected.rates, expected.losses)
    assert result["suggested_lr"] == expected.suggestion
    assert f"suggested: --lr {expected.suggestion:.2g}, " in out
    with pytest.importorskip("PIL.Image").open("rates.png") as picture:
        assert picture.width > picture.height > 300
    assert [path.name for path in tmp_path.iterdir()] == ["rates.png"]  # nothing was trained


def test_a_rate_test_that_finds_nothing_says_so(capsys, monkeypatch):
    monkeypatch.setattr("nbconv.cli.finding._START", 9.0)
    monkeypatch.setattr("nbconv.cli.finding._END", 1e6)
    assert "no learning rate to suggest" in train(capsys, "--find-lr", status=1)
    assert "--find-lr and --resume do not go together" in (
        train(capsys, "--find-lr", "--resume", _checkpoint(), status=1)
    )


def _checkpoint():
    assert main([*SHORT, "--checkpoint", "run.safetensors"]) == 0
    return "run.safetensors"


def test_the_help_tells_of_all_of_it(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for option in ("--find-lr", "--weights FILE", "--freeze-base", "--layer-lrs A,B,...", "--augment LIST"):
        assert option in text
    assert "try rising learning rates, and suggest one" in text


# Transforms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", None),
        ("affine", augment.RECIPES["affine"]()),
        ("RandomHorizontalFlip", augment.RandomHorizontalFlip()),
        ("Cutout(8, 0.5)", augment.Cutout(8, 0.5)),
        ("RandomAffine(20, translate=(0.1, 0.2))", augment.RandomAffine(20, (0.1, 0.2))),
        ("RandomShift(2),GaussianNoise", augment.Compose([augment.RandomShift(2), augment.GaussianNoise()])),
        ("Mixup", augment.Mixup(num_classes=7)),
        ("Mixup(0.2, 9)", augment.Mixup(0.2, 9)),
    ],
)
def test_transforms_by_name(text, expected):
    assert repr(transforms.parsed(text, 7)) == repr(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "afine",
        "Compose([RandomHorizontalFlip()])",
        "Transform",
        "Cutout(",
        "Cutout(8) + Cutout(8)",
        "Cutout(open('x'))",
        "__import__('os').system('true')",
        "nb.augment.Cutout(8)",
        "Cutout(*[8])",
        "size=8",
        "RandomHorizontalFlip(p=2)",
        "Cutout()",
        "Cutout(depth=3)",
    ],
)
def test_what_is_no_list_of_transforms(capsys, text):
    with pytest.raises(SystemExit) as stopped:
        main([*SHORT, f"--augment={text}"])
    assert stopped.value.code == 2
    assert "argument --augment: " in capsys.readouterr().err


def test_transforms_are_applied_and_may_come_from_a_file(capsys, tmp_path, monkeypatch):
    seen = []
    change = augment.Compose.__call__
    monkeypatch.setattr(
        augment.Compose, "__call__", lambda self, *given: seen.append(self) or change(self, *given)
    )
    (tmp_path / "run.toml").write_text('augment = ["RandomCrop(padding=2)", "Mixup(alpha=0.4)"]')
    result, _ = train(capsys, "--config", "run.toml")
    assert len(seen) == 3
    assert repr(seen[0]) == repr(
        augment.Compose([augment.RandomCrop(padding=2), augment.Mixup(0.4, num_classes=10)])
    )
    assert result["train_accuracy"] is None  # targets are shares
    assert 1 < result["train_loss"] < 10


# What was learned before


@pytest.fixture
def learned(capsys, tmp_path):
    """A model that knows digits."""
    train(capsys, "--output", "known.safetensors", "--lr", "0.02")
    return tmp_path / "known.safetensors"


def test_a_new_head_on_a_frozen_base(capsys, tmp_path, learned):
    pytest.importorskip("PIL")
    nb.models.resnet18(num_classes=10, small=True, seed=0).save("colour.safetensors")
    write_folder(tmp_path / "pictures", count=5)
    options = ["--data", "pictures", "--weights", "colour.safetensors", "--output", "new.safetensors"]
    result, _ = train(capsys, *options, "--freeze-base", "--lr", "0.01")
    assert result["model"] == "colour.safetensors"
    before, after = (nb.load(f"{name}.safetensors").state_dict() for name in ("colour", "new"))
    changed = {key for key in before if not np.array_equal(before[key], after[key])}
    head = [key for key in before if before[key].shape[:1] == (10,)]
    assert changed == set(head)
    assert [after[key].shape[0] for key in head] == [2, 2]
    assert nb.serialization.read_extra("new.safetensors")["classes"] == ["blue", "red"]


def test_the_same_classes_keep_their_head(capsys, learned):
    train(capsys, "--weights", learned, "--lr", "0", "--output", "same.safetensors")
    before, after = (nb.load(path).state_dict() for path in (learned, "same.safetensors"))
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)
    train(capsys, "--weights", learned, "--lr", "0.01", "--freeze-base", "--output", "head.safetensors")
    after = nb.load("head.safetensors").state_dict()
    changed = {key for key in before if not np.array_equal(before[key], after[key])}
    (last,) = {key.rpartition(".")[0] for key in list(before)[-1:]}
    assert changed == {f"{last}.weight", f"{last}.bias"}


def test_rates_by_depth(capsys, learned, monkeypatch):
    groups = []
    make = nb.SGD.__init__
    monkeypatch.setattr(
        nb.SGD,
        "__init__",
        lambda self, given, *rest, **more: (
            groups.extend(map(dict, given)) or make(self, given, *rest, **more)
        ),
    )
    train(capsys, "--weights", learned, "--layer-lrs", "0.001,0.003,0.01")
    assert [group["lr"] for group in groups] == [0.001, 0.003, 0.01]
    model = nb.load(learned)
    expected = [[p.shape for p in group["params"]] for group in nb.layer_groups(model, [1, 2, 3])]
    assert [[p.shape for p in group["params"]] for group in groups] == expected


@pytest.mark.parametrize(
    "begin",
    [
        ["--weights", "known.safetensors", "--freeze-base"],
        ["--weights", "other.safetensors", "--freeze-base"],  # of other classes: it gets a new head
        ["--model", "airbench", "--whiten", "--preprocess", "none"],
    ],
    ids=["head", "new head", "whitened"],
)
def test_what_is_frozen_stays_frozen_in_a_resumed_run(capsys, learned, begin):
    nb.models.lenet5(num_classes=4, seed=2).save("other.safetensors")
    begin = [*begin, "--lr", "0.01", "--augment", "none", "--schedule", "constant", "--backend", "reference"]
    train(capsys, *begin, "--epochs", 2, "--output", "whole.safetensors")
    train(capsys, *begin, "--checkpoint", "run.safetensors")
    for name in ("known", "other"):
        os.remove(f"{name}.safetensors")  # what a run began with is in its checkpoint
    assert (
        main(["train", "--resume", "run.safetensors", "--epochs", "2", "--output", "parts.safetensors"]) == 0
    )
    whole, parts = (nb.load(path).state_dict() for path in ("whole.safetensors", "parts.safetensors"))
    for key, value in whole.items():
        np.testing.assert_array_equal(parts[key], value)


def test_training_that_begins_with_weights_is_repeatable_and_resumed(capsys, learned):
    begin = ["--weights", learned, "--lr", "0.01", "--augment", "affine", "--schedule", "constant"]
    train(capsys, *begin, "--epochs", 2, "--output", "whole.safetensors")
    train(capsys, *begin, "--checkpoint", "run.safetensors")
    assert (
        main(["train", "--resume", "run.safetensors", "--epochs", "2", "--output", "parts.safetensors"]) == 0
    )
    whole, parts = (nb.load(path).state_dict() for path in ("whole.safetensors", "parts.safetensors"))
    for key, value in whole.items():
        np.testing.assert_array_equal(parts[key], value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gamma", "nan"], "--gamma: expected a factor above 0 and at most 1, got nan"),
        (["--gamma", "-1"], "--gamma: expected a factor above 0"),
        (["--layer-lrs", "x"], "--layer-lrs: expected learning rates of at least 0 between commas, got 'x'"),
        (["--layer-lrs", "0.1,inf"], "--layer-lrs: expected learning rates of at least 0"),
        (["--milestones", "a,3"], "--milestones: expected whole numbers between commas, got 'a,3'"),
    ],
)
def test_numbers_out_of_range(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main([*SHORT, *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--output", "--plot"])
def test_what_cannot_be_written_is_told_before_training(capsys, tmp_path, monkeypatch, option):
    monkeypatch.setattr(nb.Trainer, "fit", None)
    (tmp_path / "folder.png").mkdir()
    assert "folder.png: Is a directory" in train(capsys, option, "folder.png", status=1)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "nothing may be written to" in train(capsys, option, "file.png", status=1)


def test_a_config_in_another_encoding_is_named(capsys, tmp_path):
    (tmp_path / "run.toml").write_bytes(b"\xff\xfe")
    assert "run.toml is no TOML: 'utf-8' codec can't decode" in train(
        capsys, "--config", "run.toml", status=1
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--freeze-base"], "--freeze-base needs --weights"),
        (["--weights", "known.safetensors", "--whiten"], "do not go with --weights"),
        (["--weights", "absent.safetensors"], "absent.safetensors: No such file or directory"),
        (["--layer-lrs", "0.1,0.2", "--lr", "0.1"], "--lr and --layer-lrs do not go together"),
        (
            ["--layer-lrs", "1,1,1,1,1,1,1,1", "--optimizer", "adam"],
            "8 learning rates, but 5 layers with weights",
        ),
        (
            ["--weights", "known.safetensors", "--freeze-base", "--layer-lrs", "0.1,0.2"],
            "a rate would be that of frozen layers alone",
        ),
        (["--weights", "known.safetensors", "--size", "64"], "the model does not fit the data set 'digits'"),
    ],
)
def test_what_does_not_go_together(capsys, learned, arguments, message):
    assert message in train(capsys, *arguments, status=1)
