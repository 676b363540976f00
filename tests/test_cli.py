import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

import nbconv as nb
from nbconv.cli import main

TRAIN = ["train", "--data", "digits", "--model", "lenet5", "--backend", "reference", "--batch-size", "64"]


def run(capsys, *arguments):
    """The exit status and the two outputs of a command."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def last_json(out):
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the files of a short training run."""
    folder = tmp_path_factory.mktemp("trained")
    files = ["--output", str(folder / "lenet.safetensors"), "--plot", str(folder / "curves.png")]
    assert main([*TRAIN, "--epochs", "2", "--optimizer", "adam", "--lr", "0.003", "--quiet", *files]) == 0
    return folder


def test_train_reports_progress_and_accuracy(capsys):
    status, out, err = run(capsys, *TRAIN, "--epochs", 1, "--json")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "lenet5 on digits: 1,438 images of 32 x 32 to train on, 359 held out"
    assert lines[1].startswith("epoch 1/1 loss ")
    result = last_json(out)
    assert f"held-out accuracy {100 * result['test_accuracy']:.2f} % of 359 images" in lines
    assert result["epochs"] == 1
    assert not result["interrupted"]
    assert 0 < result["train_seconds"] < result["seconds"]
    assert {"test_loss", "train_loss", "train_accuracy", "images_per_second", "seed", "backend"} <= set(
        result
    )


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_resnet18_reaches_its_accuracy(capsys):
    accuracies = []
    for seed in range(3):
        _, out, _ = run(
            capsys, "train", "--model", "resnet18", "--epochs", 6, "--seed", seed, "--quiet", "--json"
        )
        accuracies.append(last_json(out)["test_accuracy"])
        if sum(accuracy >= 0.985 for accuracy in accuracies) == 2:
            return  # the median of the three is no less, whatever the third
    pytest.fail(f"the median is below 98.5 %: {accuracies}")


def test_training_twice_gives_the_same_model(capsys, tmp_path):
    states = []
    for name in ("a.safetensors", "b.safetensors"):
        assert run(capsys, *TRAIN, "--epochs", 1, "--quiet", "--output", tmp_path / name)[0] == 0
        states.append(nb.load(tmp_path / name).state_dict())
    for key, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][key], strict=True)


def test_train_writes_the_picture(trained):
    with pytest.importorskip("PIL.Image").open(trained / "curves.png") as picture:
        assert picture.width > picture.height > 300


def test_evaluate_measures_what_train_saved(capsys, trained):
    status, out, _ = run(
        capsys,
        "evaluate",
        trained / "lenet.safetensors",
        "--data",
        "digits",
        "--backend",
        "reference",
        "--json",
    )
    assert status == 0
    model = nb.load(trained / "lenet.safetensors", backend="reference")
    x, y = nb.data.digits(32).test
    expected = (model.predict(x).argmax(axis=1) == y).mean()
    assert last_json(out)["test_accuracy"] == pytest.approx(expected)
    assert expected > 0.5


@pytest.mark.parametrize("invert", [[], ["--invert"]])
def test_predict_tells_the_digit(capsys, trained, tmp_path, invert):
    image = pytest.importorskip("PIL.Image")
    model = nb.load(trained / "lenet.safetensors", backend="reference")
    x, _ = nb.data.digits().test
    expected = int(model.predict(nb.data.digits(32).test.x[:1]).argmax())
    ink = np.repeat(np.repeat((x[0, 0] * 255).astype(np.uint8), 8, axis=0), 8, axis=1)
    image.fromarray(255 - ink).save(tmp_path / "digit.png")
    status, out, _ = run(
        capsys,
        *("predict", tmp_path / "digit.png", "--model", trained / "lenet.safetensors"),
        *("--backend", "reference", "--json", *invert),
    )
    assert status == 0
    result = last_json(out)
    assert result["prediction"] == expected == int(np.argmax(result["probabilities"]))
    assert sum(result["probabilities"]) == pytest.approx(1)
    assert out.splitlines()[0] == f"{tmp_path / 'digit.png'}: {expected}"


def test_info_says_what_is_here(capsys):
    status, out, _ = run(capsys, "info", "--json")
    assert status == 0
    result = last_json(out)
    assert result["versions"]["nbconv"] == nb.__version__
    assert result["backends"] == nb.backends.available()
    assert result["cpu"]["simd"] in ("avx512", "avx2", "portable")
    assert result["cpu"]["threading_layer"] == "nbconv"
    assert 1 <= result["cpu"]["available_cpus"] <= result["cpu"]["logical_cpus"]
    assert result["cpu"]["threads"] >= 1
    assert result["cpu"]["cache_directory"]
    assert result["cpu"]["cache_state"] == "in use"
    for part in ("numba", "threading layer", "cache directory", "cuda"):
        assert part in out


def test_ctrl_c_saves_what_there_is(capsys, tmp_path, monkeypatch):
    step, steps = nb.AdamW.step, []

    def interrupted(self):
        steps.append(1)
        if len(steps) == 30:  # in the second of the epochs of 23 steps
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(nb.AdamW, "step", interrupted)
    status, out, _ = run(capsys, *TRAIN, "--epochs", 9, "--json", "--output", tmp_path / "m.safetensors")
    assert status == 130
    assert "stopped after 1 of 9 epochs" in out
    assert last_json(out)["interrupted"]
    assert (tmp_path / "m.safetensors").exists()


def test_ctrl_c_in_the_last_evaluation_loses_no_model(capsys, tmp_path, monkeypatch):
    evaluate = nb.Trainer.evaluate

    def interrupted(self, *arguments):
        raise KeyboardInterrupt

    def fit(self, *arguments, **options):
        history = plain_fit(self, *arguments, **options)
        monkeypatch.setattr(nb.Trainer, "evaluate", interrupted)
        return history

    plain_fit = nb.Trainer.fit
    monkeypatch.setattr(nb.Trainer, "fit", fit)
    status, _, _ = run(capsys, *TRAIN, "--epochs", 1, "--output", tmp_path / "m.safetensors")
    assert status == 130
    monkeypatch.setattr(nb.Trainer, "evaluate", evaluate)
    assert run(capsys, "evaluate", tmp_path / "m.safetensors")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*TRAIN, "--backend", "cuda"], "backend 'cuda' is not available"),
        ([*TRAIN, "--backend", "abacus"], "unknown backend 'abacus'"),
        ([*TRAIN, "--lr", "-1"], "lr must not be negative"),
        ([*TRAIN, "--output", "nowhere/m.safetensors"], "nowhere/m.safetensors: there is no directory "),
        ([*TRAIN, "--plot", "curves.docx"], "cannot draw curves.docx: its suffix must be one of "),
        ([*TRAIN, "--epochs=--"], "--epochs=--: '--' is no value"),
        (["evaluate", "absent.safetensors", "--backend=--"], "--backend=--: '--' is no value"),
        (["evaluate", "absent.safetensors"], "absent.safetensors: No such file or directory"),
        (["evaluate", "damaged.safetensors"], "damaged.safetensors"),
        (["evaluate", "other.safetensors", "--backend", "reference"], "does not fit the data set 'digits'"),
        (["predict", "absent.png"], "lenet.safetensors: No such file or directory"),
        (
            ["predict", "damaged.safetensors", "--model", "fits.safetensors"],
            "not an image that Pillow can read",
        ),
        (["predict", "absent.png", "--model", "fits.safetensors"], "absent.png: No such file or directory"),
    ],
)
def test_failures_are_one_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    nb.Sequential(nb.Dense(5, 3)).save("other.safetensors")
    nb.Sequential(nb.Flatten(), nb.Dense(64, 10)).save("fits.safetensors")
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    assert message in err
    assert err.startswith(f"nbconv {arguments[0]}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["train", "--epochs", "0"],
        ["train", "--batch-size", "x"],
        ["train", "--seed", "-1"],
        ["train", "--seed", "9" * 30],
        ["augment", "--output", "x.png", "--draws", "9" * 30],
        ["evaluate", "m.safetensors", "--batch", "3"],  # an option by half its name
        ["predict"],
    ],
)
def test_wrong_arguments_are_explained(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: nbconv" in capsys.readouterr().err


def test_help_comes_fast_and_without_the_compiler():
    code = "import sys; from nbconv.cli import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 5  # a hang, not a benchmark
    assert "train" in done.stdout
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"numba", "llvmlite", "rich", "matplotlib", "PIL", "torch"}


def test_a_reader_that_leaves_is_no_failure_to_report():
    command = f"{sys.executable} -m nbconv.cli info | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert done.stdout == "versions:\n"
    assert done.stderr == ""
