"""Commands on the published data sets and on folders of pictures, in small files of the same formats."""

import json

import numpy as np
import pytest
from data_files import write_cifar, write_mnist

import nbconv as nb
from nbconv.cli import datasets, feeding, main

FAST = ["--backend", "reference", "--epochs", "1", "--batch-size", "8", "--quiet", "--json"]


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def result_of(capsys, *arguments):
    status, out, err = run(capsys, *arguments)
    assert (status, err) == (0, "")
    return json.loads(out.splitlines()[-1])


def write_folder(root, parts=("",), count=10, side=12):
    """Pictures of two classes that the colour tells apart."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for part in parts:
        for channel, name in enumerate(["blue", "red"]):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 60, (side + number % 3, side, 3), np.uint8)
                pixels[:, :, 2 - 2 * channel] += 180
                image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.mark.parametrize("preprocessing", ["none", "standardize"])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist(capsys, tmp_path, name, preprocessing):
    write_mnist(tmp_path)
    found = result_of(
        capsys,
        *("train", "--data", name, "--data-root", tmp_path, "--preprocess", preprocessing),
        *("--output", tmp_path / "model.safetensors", *FAST),
    )
    assert (found["data"], found["size"]) == (name, 32)
    model = nb.load(tmp_path / "model.safetensors", backend="reference")
    x, y = nb.data.mnist(tmp_path, padding=2).test
    assert found["test_accuracy"] == pytest.approx((model.predict(x).argmax(axis=1) == y).mean())
    measured = result_of(
        capsys,
        *("evaluate", tmp_path / "model.safetensors", "--data", name, "--data-root", tmp_path),
        *("--backend", "reference", "--json"),
    )
    assert measured["test_loss"] == pytest.approx(found["test_loss"])


@pytest.mark.parametrize("classes", [10, 100])
def test_cifar_with_preprocessing_that_travels_with_the_model(capsys, tmp_path, classes):
    write_cifar(tmp_path, classes)
    found = result_of(
        capsys,
        *("train", "--data", f"cifar{classes}", "--data-root", tmp_path, "--preprocess", "channel-mean"),
        *("--output", tmp_path / "model.safetensors", *FAST),
    )
    assert found["preprocess"] == "channel-mean"
    model = nb.load(tmp_path / "model.safetensors")
    train = (nb.data.cifar10 if classes == 10 else nb.data.cifar100)(tmp_path).train
    np.testing.assert_allclose(model[0].mean, train.x.mean(axis=(0, 2, 3)), rtol=1e-5)
    measured = result_of(
        capsys,
        *("evaluate", tmp_path / "model.safetensors", "--data", f"cifar{classes}", "--data-root", tmp_path),
        *("--backend", "reference", "--json"),
    )
    assert measured["test_loss"] == pytest.approx(found["test_loss"], rel=1e-5)


@pytest.mark.parametrize("parts", [("",), ("train", "test"), ("train", "val")])
def test_a_folder_of_pictures_is_learned(capsys, tmp_path, parts):
    write_folder(tmp_path, parts)
    found = result_of(
        capsys,
        *("train", "--data", tmp_path, "--backend", "reference", "--epochs", 4, "--batch-size", 4),
        *("--lr", 0.01, "--quiet", "--json"),
    )
    assert found["data"] == str(tmp_path)
    assert found["test_accuracy"] == 1
    data_set = datasets.find(str(tmp_path))
    train, test = (feeding.held(part, 2) for part in data_set.load(32))
    assert (len(train.x), len(test.x)) == ((16, 4) if parts == ("",) else (20, 20))
    assert (data_set.classes, train.x.shape[1:], train.x.dtype) == (2, (3, 32, 32), np.float32)
    assert set(np.bincount(test.y)) == {len(test.y) // 2}


def test_a_report_says_which_data_it_needs(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    write_folder(tmp_path / "pictures")
    result_of(capsys, "train", "--data", tmp_path / "pictures", "--run", tmp_path / "run", *FAST)
    options = ["--backend", "reference", "--images", 1, "--json"]
    status, _, err = run(capsys, "report", tmp_path / "run", *options)
    assert status == 1
    assert f"say by --data which to take: --data {tmp_path / 'pictures'}\n" in err
    found = result_of(capsys, "report", tmp_path / "run", "--data", tmp_path / "pictures", *options)
    assert found["images"] == 4
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [("mnist", 20, (1, 20, 20)), ("mnist", 31, (1, 31, 31)), ("mnist", 40, (1, 40, 40))],
)
def test_any_size_can_be_had(tmp_path, name, size, shape):
    write_mnist(tmp_path)
    assert datasets.find(name, tmp_path, size).load(size).train.x.shape == (20, *shape)


def test_failures_say_what_is_wrong(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    status, _, err = run(capsys, "train", "--data", tmp_path / "empty", *FAST)
    assert status == 1
    assert err == f"nbconv train: ImageFolder: {tmp_path / 'empty'} has no folders, one for each class\n"
    write_folder(tmp_path / "both", ("train", "test"), 1)
    (tmp_path / "both" / "test" / "red").rename(tmp_path / "both" / "test" / "green")
    status, _, err = run(capsys, "train", "--data", tmp_path / "both", *FAST)
    assert status == 1
    assert err.endswith("differ in the classes: green, red\n")
    write_cifar(tmp_path)
    nb.Sequential(nb.Flatten(), nb.Dense(1024, 10)).save(tmp_path / "grey.safetensors")
    status, _, err = run(
        capsys, "evaluate", tmp_path / "grey.safetensors", "--data", "cifar10", "--data-root", tmp_path
    )
    assert status == 1
    assert "the model does not fit the data set 'cifar10'" in err
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    status, _, err = run(capsys, "train", "--data", "cifar10", "--data-root", tmp_path, *FAST)
    assert status == 1
    assert "cifar-10-python.tar.gz: a damaged archive" in err
    assert err.count("\n") == 1


def test_a_data_set_that_is_none(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--data", "mnits"])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert "expected digits, mnist, fashion_mnist, cifar10, cifar100 or a folder, got 'mnits'" in err
