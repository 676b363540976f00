"""``nbconv train --model NAME --data digits`` for every model that has a form for small images."""

import json

import pytest

from nbconv import data, models
from nbconv.cli import datasets, main
from nbconv.data.digits import Examples, Split


@pytest.fixture
def four_digits(monkeypatch):
    """So few images that a step of the published widths is all there is to train."""

    def some(size, root):
        train, test = data.digits(size)
        return Split(Examples(train.x[:4], train.y[:4]), Examples(test.x[:2], test.y[:2]))

    monkeypatch.setitem(datasets.DATA_SETS, "digits", some)


@pytest.mark.parametrize("name", models.names(small=True))
def test_it_trains_from_the_command_line(name, four_digits, capsys):
    status = main(["train", "--model", name, "--data", "digits", "--epochs", "1", "--quiet", "--json"])
    captured = capsys.readouterr()
    assert (status, captured.err) == (0, "")
    result = json.loads(captured.out.splitlines()[-1])
    assert result["model"] == name
    assert 0 < result["train_loss"] < 100
