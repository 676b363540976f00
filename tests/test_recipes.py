"""The recipes, one command each, on a few images in the format of the data they are for."""

import json

import numpy as np
import pytest
from data_files import write_cifar

import nbconv as nb
from nbconv.cli import main


def train(capsys, *arguments):
    assert main(["train", *map(str, arguments), "--quiet", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out.splitlines()[-1])


def test_airbench(capsys, tmp_path):
    write_cifar(tmp_path / "cifar", rows=4)
    output = tmp_path / "net.safetensors"
    recipe = ["--recipe", "airbench", "--data-root", tmp_path / "cifar", "--epochs", 1, "--batch-size", 10]
    result = train(capsys, *recipe, "--output", output)
    assert (result["data"], result["model"], result["size"]) == ("cifar10", "airbench", 32)
    assert 1 < result["train_loss"] < 100  # a few steps on noise: that it trains is not to be seen here
    model = nb.load(output)
    train_x, _ = nb.data.cifar10(tmp_path / "cifar").train
    whitened = model[0](train_x).transpose(0, 2, 3, 1).reshape(-1, 24)[:, :12]
    # Random pixels have a variance far above the eps that keeps the whitening from dividing by zero.
    np.testing.assert_allclose(np.cov(whitened, rowvar=False), np.eye(12), atol=0.05)


@pytest.mark.slow
def test_alexnet(capsys, tmp_path, monkeypatch):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for part, count in (("train", 2), ("test", 1)):
        for name in ("cat", "dog"):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                image.fromarray(rng.integers(0, 256, (240, 256, 3), np.uint8)).save(folder / f"{i}.png")
    crops = []
    change = nb.augment.Compose.__call__

    def watch(self, x, y, seed):
        made = change(self, x, y, seed)
        crops.append((x.shape, made[0].shape))
        return made

    monkeypatch.setattr(nb.augment.Compose, "__call__", watch)
    result = train(capsys, "--recipe", "alexnet", "--data", tmp_path / "photos", "--epochs", 1)
    assert crops == [((4, 3, 256, 256), (4, 3, 227, 227))]
    assert (result["model"], result["size"], result["epochs"]) == ("alexnet", 227, 1)
    assert result["preprocess"] == "standardize"
    assert 0.1 < result["train_loss"] < 10
