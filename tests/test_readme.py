"""What README.md shows is run, on few images and for one epoch."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from data_files import write_cifar
from test_cli_data import write_folder

import nbconv as nb
from nbconv import data
from nbconv.cli import _parser as parser
from nbconv.cli import datasets, main
from nbconv.data.digits import Examples, Split

TEXT = (Path(__file__).parent.parent / "README.md").read_text()
LARGE = "nb.models.resnet18(num_classes=10, small=True)"  # minutes of training, when others use the machine
SLOW = ("bench", "warmup")  # have tests of their own


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with what the text speaks of."""
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    write_cifar(tmp_path / "data", rows=6)
    write_folder(tmp_path / "pictures", count=5)
    image.fromarray(np.full((20, 20), 255, np.uint8)).save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def few_digits(size, root=None):
    train, test = data.digits(size)
    return Split(Examples(train.x[:32], train.y[:32]), Examples(test.x[:16], test.y[:16]))


def test_every_block_is_of_a_kind_that_is_run():
    kinds = re.findall(r"^```(\w*)$", TEXT, re.MULTILINE)
    assert set(kinds[::2]) <= {"sh", "python", "py", ""}
    plain = [
        block
        for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
        if not kind
    ]
    assert len(plain) == 1  # the layout of the folders
    assert plain[0].startswith("nbconv/ ")


def test_the_library_does_what_is_shown(place, capsys):
    """The blocks in their order, in one program."""
    assert LARGE in "".join(blocks("py"))
    names = {"nb": nb}
    x, y = few_digits(32).train
    lenet = nb.models.lenet5(seed=0)
    steps = nb.SGD(lenet.parameters(), lr=0.01)
    for block in blocks("py"):
        code = re.sub(r"epochs=\d+", lambda found: f"epochs={2 if found[0] == 'epochs=20' else 1}", block)
        code = code.replace(LARGE, "nb.models.lenet5(in_channels=3, seed=0)")
        # Behind the data: the digits and LeNet-5 of the ten lines.
        if "x, y" in code or "x[" in code or "features(model, x)" in code:
            names |= {"x": x, "y": y, "model": lenet}
            names["trainer"] = nb.Trainer(lenet, nb.CrossEntropyLoss(), steps)
        exec(code, names)
    for made in ("cifar.safetensors", "log.csv", "run.safetensors", "rates.png", "saliency.png"):
        assert (place / made).exists(), made
    assert nb.training.snapshot.load("run.safetensors").run["epoch"] in (1, 2)


def test_the_commands_do_what_is_shown(place, capsys, monkeypatch):
    monkeypatch.setitem(datasets.DATA_SETS, "digits", few_digits)
    shown = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("nbconv ")]
    assert len(shown) >= 10
    ran = set()
    for line in shown:
        words = shlex.split(line, comments=True)[1:]
        if words[0] == "train":
            words += ["--epochs", "1", "--quiet"]
        if words[0] in SLOW:
            parser().parse_args(words)
            continue
        assert main(words) == 0, line
        ran.add(words[0])
    assert {"train", "evaluate", "predict", "info"} <= ran
    for made in ("lenet.safetensors", "pictures.safetensors", "rates.png"):
        assert (place / made).exists(), made
