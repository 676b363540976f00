"""Commands that know a model's images and classes: ``predict``, ``evaluate`` and ``report``, on any data."""

import importlib
import json
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
from data_files import write_cifar, write_mnist
from test_cli_data import write_folder

import nbconv as nb
from nbconv.cli import feeding, main
from nbconv.cli.recorded import recorded

image = pytest.importorskip("PIL.Image")
RATE = ["--optimizer", "adam", "--lr", "0.003", "--batch-size", "4"]
FAST = ["--batch-size", "8", "--quiet", "--json"]


def run(capsys, *arguments, status=0):
    """The result of a command that ends with a status, and what it printed; its errors where it fails."""
    assert main([str(argument) for argument in arguments]) == status
    captured = capsys.readouterr()
    if status:
        return captured.err
    assert captured.err == ""
    return json.loads(captured.out.splitlines()[-1]), captured.out


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A folder of pictures in two colours, and models and a run that were trained on them."""
    place = tmp_path_factory.mktemp("learned")
    write_folder(place / "pictures", count=10)
    files = ["--output", "model.safetensors", "--run", "run", "--checkpoint", "saved.safetensors"]
    files = [word if word.startswith("--") else str(place / word) for word in files]
    assert main(["train", "--data", str(place / "pictures"), "--epochs", "8", *FAST, *RATE, *files]) == 0
    return place


@pytest.mark.parametrize("source", ["model.safetensors", "saved.safetensors", "run"])
def test_pictures_get_the_names_of_their_folders(capsys, learned, source):
    both = [learned / "pictures" / name / "3.png" for name in ("blue", "red")]
    result, out = run(capsys, "predict", *both, "--model", learned / source, "--json")
    assert [told["class"] for told in result["pictures"]] == ["blue", "red"]
    assert [told["prediction"] for told in result["pictures"]] == [0, 1]
    assert out.splitlines()[0].startswith(f"{both[0]}: blue  ")
    folder = nb.data.ImageFolder(learned / "pictures", 32)
    x = np.stack([folder[folder.paths.index(path)][0] for path in both]) / np.float32(255)
    model = nb.load(learned / "run" / "model.safetensors")
    logits = model.predict(x).astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = [told["probabilities"] for told in result["pictures"]]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_one_picture_and_a_folder_of_them(capsys, learned):
    model = ["--model", learned / "model.safetensors", "--json"]
    red = learned / "pictures" / "red"
    result, out = run(capsys, "predict", red / "0.png", *model)
    assert (result["class"], result["prediction"]) == ("red", 1)
    assert out.splitlines()[0] == f"{red / '0.png'}: red"
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["red", "blue"]
    result, _ = run(capsys, "predict", red, *model)
    assert [told["image"] for told in result["pictures"]] == sorted(str(path) for path in red.iterdir())


def test_evaluate_reads_the_folder_that_is_named(capsys, learned):
    for source in ("model.safetensors", "saved.safetensors", "run"):
        told = run(capsys, "evaluate", learned / source, "--json", status=1)
        assert "where data are is not taken from a file" in told
        assert told.endswith(f"which to take: --data {learned / 'pictures'}\n")
        result, _ = run(capsys, "evaluate", learned / source, "--data", learned / "pictures", "--json")
        assert result["data"] == str(learned / "pictures")
        assert result["images"] == 4
        assert result["test_accuracy"] == 1


def test_a_checkpoint_is_reported_with_its_curves(capsys, learned, tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.html"
    data = ["--data", learned / "pictures", "--images", 1, "--json"]
    run(capsys, "report", learned / "saved.safetensors", "--output", page, *data)
    text = page.read_text()
    for expected in ("Learning curves", "8 epochs", "blue", "red", "Adam", "Run saved.safetensors"):
        assert expected in text
    run(capsys, "report", learned / "model.safetensors", "--output", page, *data)
    assert "Learning curves" not in page.read_text()
    history = nb.report.load_run(learned / "saved.safetensors").history
    assert history.history == nb.report.load_run(learned / "run").history.history


def test_data_that_have_gone_are_told(capsys, learned, tmp_path):
    shutil.copytree(learned / "pictures", tmp_path / "moved")
    model = nb.load(learned / "model.safetensors")
    model.save(tmp_path / "m.safetensors", extra={"data": str(tmp_path / "gone"), "size": 32})
    error = run(capsys, "evaluate", tmp_path / "m.safetensors", status=1)
    assert f"the model is of the data set {str(tmp_path / 'gone')!r}; where data are is not taken" in error
    result, _ = run(capsys, "evaluate", tmp_path / "m.safetensors", "--data", tmp_path / "moved", "--json")
    assert result["test_accuracy"] == 1


def test_a_model_of_ones_own_with_names(capsys, tmp_path):
    """Saved by a program: sizes and names as it says; without them, what fits, and numbers."""
    model = nb.Sequential(nb.Flatten(), nb.Dense(3 * 28 * 28, 2), seed=0)
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    image.fromarray(pixels).save(tmp_path / "x.png")
    x = pixels.transpose(2, 0, 1)[None] / np.float32(255)
    best = int(model.predict(x).argmax())
    path = tmp_path / "m.safetensors"
    for extra, name in ((None, str(best)), ({"classes": ["cat", "dog"]}, ["cat", "dog"][best])):
        model.save(path, extra=extra)
        result, _ = run(capsys, "predict", tmp_path / "x.png", "--model", path, "--json")
        assert (result["prediction"], result["class"]) == (best, name)
    for extra in (
        "words",
        {"classes": 3, "size": "large", "data": None},
        {"classes": ["too", "many", "names"]},
    ):
        model.save(path, extra=extra)
        assert run(capsys, "predict", tmp_path / "x.png", "--model", path, "--json")[0]["class"] == str(best)
    grey = nb.Sequential(nb.Conv2d(1, 2, 3), nb.GlobalAvgPool2d(), nb.Flatten())
    grey.save(path)
    run(capsys, "predict", tmp_path / "x.png", "--model", path, "--json")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_a_test_image_as_a_file_is_told_as_the_image_is(capsys, tmp_path, name):
    write = {"cifar10": write_cifar, "cifar100": lambda root: write_cifar(root, 100)}.get(name, write_mnist)
    write(tmp_path)
    model = tmp_path / "model.safetensors"
    run(capsys, "train", "--data", name, "--data-root", tmp_path, "--epochs", 1, "--output", model, *FAST)
    grey = "mnist" in name
    (x, _) = getattr(nb.data, name)(tmp_path, dtype="uint8").test
    pixels = x[0].transpose(1, 2, 0)
    image.fromarray(pixels[:, :, 0] if grey else pixels).save(tmp_path / "x.png")
    # Random pixels have a border of any brightness.
    result, _ = run(capsys, "predict", tmp_path / "x.png", "--model", model, "--no-invert", "--json")
    loaded = nb.load(model)
    seen = np.pad(x[:1], ((0, 0), (0, 0), (2, 2), (2, 2))) if grey else x[:1]
    logits = loaded.predict(seen / np.float32(255))[0].astype(np.float64)
    np.testing.assert_allclose(result["probabilities"], np.exp(logits) / np.exp(logits).sum(), rtol=1e-4)
    assert result["class"] == recorded(model).classes[result["prediction"]]
    digit = {"mnist": 10, "fashion_mnist": 10, "cifar10": 10, "cifar100": 100}[name]
    assert len(recorded(model).classes) == digit


def test_ink_on_paper_is_turned_for_models_of_mnist(capsys, tmp_path):
    nb.models.lenet5(seed=0).save(tmp_path / "m.safetensors", extra={"data": "mnist", "size": 32})
    ink = np.zeros((28, 28), np.uint8)
    ink[5:20, 12:15] = 255
    image.fromarray(ink).save(tmp_path / "dark.png")
    image.fromarray(255 - ink).save(tmp_path / "bright.png")
    told = [
        run(capsys, "predict", tmp_path / name, "--model", tmp_path / "m.safetensors", "--json")[0]
        for name in ("dark.png", "bright.png")
    ]
    assert told[0]["probabilities"] == told[1]["probabilities"]
    options = ["--model", tmp_path / "m.safetensors", "--no-invert", "--json"]
    plain = run(capsys, "predict", tmp_path / "bright.png", *options)[0]
    assert plain["probabilities"] != told[1]["probabilities"]


def test_what_is_wrong_with_pictures(capsys, learned, tmp_path):
    model = ["--model", learned / "model.safetensors"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for given, message in (
        ([tmp_path / "empty", *model], "there are no pictures in"),
        ([tmp_path / "bad.png", *model], "bad.png: not an image that Pillow can read"),
        ([tmp_path / "none.png", *model], "none.png: No such file or directory"),
        (
            [tmp_path / "bad.png", *model, "--data", "imagenet"],
            "unknown data set 'imagenet'; there are digits",
        ),
        ([tmp_path / "bad.png", "--model", tmp_path], "model.safetensors: No such file or directory"),
        ([tmp_path / "bad.png", *model, "--data", "mnist"], "does not fit the data set 'mnist'"),
    ):
        error = run(capsys, "predict", *given, status=1)
        assert error.startswith("nbconv predict: ")
        assert message in error
        assert error.count("\n") == 1


def test_a_model_that_gives_nan_tells_nothing(capsys, learned, tmp_path):
    model = nb.load(learned / "model.safetensors")
    list(model.parameters())[-1].data = np.full(2, np.nan, np.float32)
    model.save(tmp_path / "m.safetensors", extra=nb.serialization.read_extra(learned / "model.safetensors"))
    picture = learned / "pictures" / "red" / "0.png"
    error = run(capsys, "predict", picture, "--model", tmp_path / "m.safetensors", status=1)
    assert "the model gives no finite logits" in error


def test_pictures_without_room_in_memory_train_to_the_same_bits(capsys, learned, tmp_path, monkeypatch):
    options = ["--data", learned / "pictures", "--epochs", 2, "--augment", "affine", "--whiten", *FAST]
    options += ["--model", "airbench", "--preprocess", "none"]
    states, losses = [], []
    for room in (1 << 30, 150_000):  # 16 pictures of 12 kB, or 12 at most
        monkeypatch.setattr(feeding, "ROOM", room)
        # Whitening by one picture, the same one.
        monkeypatch.setattr(importlib.import_module("nbconv.models.airbench"), "_PATCHES", 1)
        path = tmp_path / f"{room}.safetensors"
        result, _ = run(capsys, "train", *options, "--output", path)
        states.append(nb.load(path).state_dict())
        losses.append(result["test_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for key, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][key], err_msg=key)
    monkeypatch.setattr(feeding, "ROOM", 0)
    data = ["--data", learned / "pictures", "--json"]
    result, _ = run(capsys, "evaluate", tmp_path / "150000.safetensors", *data)
    assert result["test_loss"] == pytest.approx(losses[0], rel=1e-5)


def test_preprocessing_is_fitted_on_pictures_without_room(capsys, learned, tmp_path, monkeypatch):
    means = []
    for room in (1 << 30, 0):
        monkeypatch.setattr(feeding, "ROOM", room)
        options = ["--data", learned / "pictures", "--epochs", 1, "--preprocess", "channel-mean", *FAST]
        run(capsys, "train", *options, "--output", tmp_path / "m.safetensors")
        means.append(nb.load(tmp_path / "m.safetensors")[0].mean)
    np.testing.assert_allclose(means[0], means[1], rtol=1e-6)


def test_larger_pictures_are_cropped_at_random_and_in_the_middle(capsys, learned, tmp_path):
    options = ["--data", learned / "pictures", "--size", 32, "--resize", 40, "--epochs", 1, *FAST]
    path = tmp_path / "m.safetensors"
    result, _ = run(capsys, "train", *options, "--augment", "RandomCrop(32)", "--output", path)
    assert result["size"] == 32
    assert (recorded(path).size, recorded(path).resize) == (32, 40)
    measured, _ = run(capsys, "evaluate", path, "--data", learned / "pictures", "--json")
    assert measured["test_loss"] == pytest.approx(result["test_loss"], rel=1e-6)
    assert "resized to 20 hold none of 32 x 32" in run(capsys, "train", *options, "--resize", 20, status=1)
    assert "only pictures in a folder are resized" in run(
        capsys, "train", "--data", "digits", "--resize", 40, status=1
    )


def test_the_names_of_cifar100_are_those_of_its_files():
    """As fine_label_names has them: a hundred, in the order of the alphabet."""
    names = nb.data.CIFAR100_CLASSES
    assert (len(set(names)), list(names)) == (100, sorted(names))
    assert (names[0], names[3], names[50], names[99]) == ("apple", "bear", "mouse", "worm")


def test_what_pillow_logs_of_a_picture_is_no_second_line(tmp_path):
    picture, model = tmp_path / "a.tif", tmp_path / "m.safetensors"
    image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
    content = picture.read_bytes()
    samples = content.index(struct.pack("<HH", 277, 3))  # SamplesPerPixel, of which there are 12 now
    picture.write_bytes(content[: samples + 8] + struct.pack("<H", 12) + content[samples + 10 :])
    nb.models.lenet5(seed=0).save(model)
    done = subprocess.run(
        [sys.executable, "-m", "nbconv.cli", "predict", str(picture), "--model", str(model)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert str(picture) in done.stderr
