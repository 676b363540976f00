"""A checkpoint that somebody has edited is refused before anything is made of it."""

import json

import numpy as np
import pytest
import resumed_run
from safetensors.numpy import load_file, save_file

import nbconv as nb
from nbconv import serialization
from nbconv.callbacks import EMA, Checkpoint, CSVLogger
from nbconv.errors import CheckpointError

STEPS = 2  # of the four in an epoch that the saved run has made


class Stop(nb.Callback):
    order = 3  # behind the checkpoint

    def on_batch_end(self, state):
        if state.step == STEPS:
            raise RuntimeError("broken off")


def train(folder, resume=None, extra=()):
    network = resumed_run.model("reference")
    rule = nb.Adam(network.parameters(), lr=0.01)
    callbacks = [
        nb.schedules.CosineAnnealingLR(rule, T_max=4),
        EMA(0.9),
        CSVLogger(folder / "log.csv"),
        Checkpoint(folder / "run.safetensors", every_steps=1),
        *extra,
    ]
    trainer = nb.Trainer(network, nb.CrossEntropyLoss(), rule)
    return trainer.fit(*resumed_run.data(), 2, 11, callbacks=callbacks, resume=resume, seed=0, verbose=False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    with pytest.raises(RuntimeError, match="broken off"):
        train(folder, extra=[Stop()])
    return folder / "run.safetensors"


def edited(saved, path, edit, tensors=lambda arrays: None):
    """The checkpoint with another run in it."""
    metadata = dict(serialization.read_metadata(saved))
    description = json.loads(metadata["nbconv_training"])
    arrays = load_file(saved)
    edit(description["run"]["dict"])
    tensors(arrays)
    save_file(arrays, path, {**metadata, "nbconv_training": json.dumps(description)})
    return path


def put(name, value):
    def edit(pairs):
        for pair in pairs:
            if pair[0] == name:
                pair[1] = value

    return edit


def entry(pairs, *names):
    """The value behind some names, of which "#0" counts in a list."""
    for name in names:
        pairs = pairs[int(name[1:])] if name.startswith("#") else dict(pairs)[name]
        pairs = pairs["dict"] if isinstance(pairs, dict) and "dict" in pairs else pairs
    return pairs


def put_in(names, name, value):
    return lambda pairs: put(name, value)(entry(pairs, *names))


def add(names, name, value):
    return lambda pairs: entry(pairs, *names).append([name, value])


def table(**values):
    return {"dict": list(map(list, values.items()))}


def test_what_nobody_has_edited_goes_on(saved, tmp_path):
    assert train(tmp_path, edited(saved, tmp_path / "same", lambda pairs: None)).epochs == 2


GROUP = ("optimizer", "param_groups", "#0")
AVERAGE = ("callbacks", "#1", "#1", "average")


@pytest.mark.parametrize(
    "edit",
    [
        lambda pairs: pairs.clear(),
        put("epoch", -1),
        put("epoch", 1.5),
        put("epoch", "1"),
        put("epoch", True),
        put("epoch", 10**30),
        put("done", 99),
        put("done", None),
        put("step", [1]),
        put("seconds", float("nan")),
        put("seconds", "soon"),
        put("seed", -5),
        put("finished", "no"),
        put("settings", []),
        put("history", [1, 2]),
        put("history", table(loss=0.5)),
        put("history", table(loss=["0.5"])),
        put("history", table(loss=[0.5, 0.4, 0.3])),
        put("dropouts", []),
        put("dropouts", [[1, 2]]),
        put("dropouts", [[-1, 0], [1, 0]]),
        put("dropouts", [["a", 0], [1, 0]]),
        put("means", [1.0]),
        put("means", table(divisor="9")),
        put("means", table(batches=2.0)),
        put("means", table(labels=2.0)),
        put("means", table(elephants=2.0)),
        put("optimizer", table(**{"class": "Adam"})),
        put("optimizer", 5),
        put_in(("optimizer",), "param_groups", []),
        put_in(("optimizer",), "state", table(a=1)),
        put_in(GROUP, "lr", "0.1"),
        put_in(GROUP, "lr", -1.0),
        put_in(GROUP, "lr", None),
        put_in(GROUP, "betas", [0.9]),
        put_in(GROUP, "betas", "ab"),
        put_in(GROUP, "maximize", [0]),
        put_in(GROUP, "params", ["a", "b"]),
        put("callbacks", [["EMA"]]),
        put("callbacks", None),
        put("callbacks", []),
        put_in(("callbacks", "#0", "#1"), "last_epoch", "x"),
        lambda pairs: entry(pairs, "callbacks", "#0", "#1").clear(),
        lambda pairs: entry(pairs, "callbacks", "#1", "#1").clear(),
        add(AVERAGE, "nowhere", 1.0),
        put_in(("callbacks", "#1", "#1"), "average", 3),
        put_in(AVERAGE, "0.weight", 1.0),
        lambda pairs: entry(pairs, "optimizer", "state")[0][1]["dict"].pop(),
        put_in(("optimizer", "state", "#0", "#1"), "step", "x"),
        put_in(("optimizer", "state", "#0", "#1"), "exp_avg", "x"),
    ],
)  # fmt: skip
def test_an_edited_run_is_refused(saved, tmp_path, edit):
    path = edited(saved, tmp_path / "edited", edit)
    with pytest.raises(CheckpointError, match="edited"):
        train(tmp_path, path)


@pytest.mark.parametrize(
    "name",
    ["$(touch x)", "=1+1", "a,b", "loss\nrm", "\x1b[31m", "`x`", "", " loss", "<b>", "9", "a  b", "x" * 101],
)  # fmt: skip
def test_names_of_measurements_are_words(saved, tmp_path, name):
    with pytest.raises(CheckpointError, match="no name of a measurement"):
        train(tmp_path, edited(saved, tmp_path / "edited", add(("history",), name, [])))
    assert not (tmp_path / "log.csv").exists()


def test_names_that_people_give(saved, tmp_path):
    for name in ("val_loss", "top-5 accuracy", "val/f1", "mAP@0.5", "größe", "Präzision 2"):
        edit = add(("history",), name, [])
        assert train(tmp_path, edited(saved, tmp_path / "edited", edit)).epochs == 2


def test_an_average_of_another_shape_is_refused(saved, tmp_path):
    def wrong(arrays):
        for name, array in arrays.items():
            if name.startswith("nbconv/training/"):
                arrays[name] = np.zeros((*array.shape, 2), array.dtype)

    with pytest.raises(CheckpointError, match="edited"):
        train(tmp_path, edited(saved, tmp_path / "edited", lambda pairs: None, wrong))
