"""The recipe with which ``nbconv train`` trains LeNet-5 on the digits, and what it reaches."""

import json

import numpy as np
import pytest

import nbconv as nb
from nbconv.augment import recipes
from nbconv.cli import config, main, train


def options(*arguments):
    """What ``nbconv train`` is told when it is given these arguments."""
    return config.expand(arguments, train.add_arguments)[0]


def last(expanded, name):
    """The last word on an option."""
    found = [word.partition("=")[2] for word in expanded if word.startswith(f"{name}=")]
    return found[-1] if found else None


def test_lenet5_on_the_digits_has_a_recipe_of_its_own():
    for arguments in ((), ("--model", "lenet5"), ("--data=digits", "--epochs", "3")):
        expanded = options(*arguments)
        assert last(expanded, "--augment") == "affine"
        assert last(expanded, "--preprocess") == "standardize"
        assert last(expanded, "--optimizer") == "adamw"
        assert float(last(expanded, "--lr")) == 0.003


@pytest.mark.parametrize(
    "arguments",
    [("--model", "resnet18"), ("--data", "mnist"), ("--model=vgg11",), ("--recipe", "airbench")],
)
def test_others_do_not_have_it(arguments):
    expanded = options(*arguments)
    assert last(expanded, "--preprocess") is None


def test_what_is_given_has_the_last_word():
    given = ["--epochs", "2", "--augment", "none"]
    expanded = options(*given)
    assert expanded[-4:] == given
    expanded = options("--optimizer", "adam")
    assert last(expanded, "--lr") is None
    assert last(expanded, "--optimizer") is None
    assert last(expanded, "--augment") == "affine"
    expanded = options("--optimizer", "adamw")
    assert float(last(expanded, "--lr")) == 0.003
    assert float(last(expanded, "--weight-decay")) == 0.2


def test_a_wrong_command_line_is_still_told(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--model"])
    assert "--model: expected one argument" in capsys.readouterr().err


def test_augmentation_of_recipes_keeps_images_in_shape():
    x, y = nb.data.digits(32).train
    for make in recipes.RECIPES.values():
        if make is not None:
            changed, labels = make()(x[:16], y[:16], 0)
            assert changed.shape == x[:16].shape
            assert labels is not x
            assert (changed != x[:16]).any(axis=(1, 2, 3)).sum() > 10


def accuracy(capsys, *arguments):
    assert main(["train", "--quiet", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])["test_accuracy"]


def test_three_epochs_learn_most_of_it(capsys):
    assert accuracy(capsys, "--epochs", "3") > 0.9


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_recipe_reaches_its_accuracy(capsys):
    reached = [accuracy(capsys, "--seed", str(seed)) for seed in range(5)]
    assert np.median(reached) >= 0.994, reached
