"""A training run between two steps, whole: from it a run goes on as if it had never stopped.

It is a file that ``nb.load`` reads as well, as the model that is in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbconv import serialization
from nbconv.callbacks.base import Callback, TrainingState
from nbconv.errors import CheckpointError
from nbconv.layers import state as layer_state
from nbconv.training import saved_run
from nbconv.training.means import Means
from nbconv.training.nonfinite import dropouts_of
from nbconv.training.packing import pack, unpack
from nbconv.typing import Array

if TYPE_CHECKING:
    from nbconv.optim import Optimizer

VERSION = 2
_KEY = "nbconv_training"
_PREFIX = serialization.EXTRA_PREFIX + "training/"
# What a file of another make may end in wherever its numbers are taken: ValueError is StateDictError as well.
_STRANGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


@dataclass
class Snapshot:
    """A run as it was saved.

    Attributes:
        run: all but the model: where the run stood, optimiser, schedules, random state.
        extra: whatever was given to the ``Checkpoint`` to keep.
    """

    path: str
    architecture: Any
    dtype: str
    weights: dict[str, Array]
    run: dict[str, Any]
    extra: Any

    @property
    def seed(self) -> int:
        """Of the order of the examples, and of augmentation."""
        return int(self.run["seed"])


def save(state: TrainingState, path: str | os.PathLike[str], extra: Any = None) -> None:
    """Write a run to a file, which appears whole or not at all.

    Raises:
        OSError: if it cannot be written.
        TypeError: if a layer or a callback has something that cannot be saved.
    """
    model = state.model
    tensors: dict[str, Array] = {}
    run = {
        "epoch": state.epoch + 1 if state.epoch_over else state.epoch,
        "done": 0 if state.epoch_over else state.done,
        "seen": 0 if state.epoch_over else state.seen,
        "seconds": 0.0 if state.epoch_over else state.seconds,
        "step": state.step,
        "seed": state.seed,
        "finished": state.stop,
        "settings": state.settings,
        "begun": state.begun,
        "history": state.history.history,
        "means": state.means.state_dict(),
        "dropouts": [[dropout.seed, dropout.offset] for dropout in dropouts_of(model)],
        "optimizer": {"class": type(state.optimizer).__name__, **state.optimizer.state_dict()},
        "callbacks": [[name, saved] for name, _, saved in _with_state(state.callbacks)],
    }
    description = {"version": VERSION, "run": pack(run, tensors, _PREFIX)}
    serialization.write(path, model, tensors, {_KEY: json.dumps(description)}, extra)


def is_one(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds a training run beside its model.

    Raises:
        CheckpointError: if it is no safetensors file, or damaged.
        OSError: if it cannot be read.
    """
    return _KEY in serialization.read_metadata(path)


def load(path: str | os.PathLike[str]) -> Snapshot:
    """Read what :func:`save` wrote.

    Raises:
        CheckpointError: if the file holds no run, or is damaged.
        OSError: if it cannot be read.
    """
    where = os.fspath(path)
    metadata, tensors = serialization.read(path)
    header = serialization.header_of(metadata, where)
    if _KEY not in metadata:
        raise CheckpointError(f"{where} holds a model but no training run that could be resumed")
    try:
        description = json.loads(metadata[_KEY])
        if description["version"] != VERSION:
            raise CheckpointError(
                f"{where} has training version {description['version']!r}; this nbconv reads {VERSION}"
            )
        run = unpack(description["run"], tensors)
        saved_run.check(run)
        weights = {k: v for k, v in tensors.items() if not k.startswith(serialization.EXTRA_PREFIX)}
        extra = serialization.extra_of(metadata)
        return Snapshot(where, header["architecture"], header["dtype"], weights, run, extra)
    except _STRANGE as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{where}: the training run in it cannot be read: {error}") from error


def restore(state: TrainingState, snapshot: Snapshot) -> None:
    """Bring a new run to where the saved one stood, but for its callbacks: see :func:`restore_callbacks`.

    What the caller has changed since, by giving the optimiser another setting, takes effect from here on.

    Raises:
        CheckpointError: if the run is another one; it is then unchanged.
    """
    where, run, model = snapshot.path, snapshot.run, state.model
    if json.loads(json.dumps(serialization.encode(model))) != snapshot.architecture:
        raise CheckpointError(f"{where} is of another model than the one to be trained")
    if snapshot.dtype != str(model.dtype):
        raise CheckpointError(f"{where} is of a {snapshot.dtype} model, not of a {model.dtype} one")
    for name, value in state.settings.items():
        saved = run["settings"].get(name)
        if saved != value:
            raise CheckpointError(f"{where} is of a run with {name} {saved!r}; this one has {value!r}")
    kind = type(state.optimizer).__name__
    if run["optimizer"]["class"] != kind:
        raise CheckpointError(f"{where} is of a run with {run['optimizer']['class']}; this one has {kind}")
    if len(run["dropouts"]) != len(dropouts_of(model)) or run["done"] > state.batches:
        raise CheckpointError(f"{where}: the training run in it is of another model or data set")
    _pairs(state.callbacks, snapshot)
    before, means = layer_state.tensors(model), Means()
    try:
        if run["done"]:
            means.load_state_dict(run["means"])
            means.logs()  # fails unless the sums go together
        for group, own in zip(run["optimizer"]["param_groups"], state.optimizer.param_groups, strict=True):
            saved_run.check_settings(group, own)
        changed = _changed(state, run.get("begun"))
        model.load_state_dict(snapshot.weights)
        state.optimizer.load_state_dict(run["optimizer"])
    except _STRANGE as error:
        model.load_state_dict(before)
        raise CheckpointError(f"{where}: {error}") from error
    for group, settings in zip(state.optimizer.param_groups, changed, strict=True):
        group.update(settings)
    for dropout, (seed, offset) in zip(dropouts_of(model), run["dropouts"], strict=True):
        dropout.draws = dropout.draws._replace(seed=seed, offset=offset)
    state.epoch, state.done, state.seen = run["epoch"], run["done"], run["seen"]
    state.step, state.seconds, state.stop = run["step"], run["seconds"], run["finished"]
    state.history.history = {name: list(values) for name, values in run["history"].items()}
    if state.done:
        state.means, state.logs = means, means.logs()


def restore_callbacks(callbacks: tuple[Callback, ...], snapshot: Snapshot) -> None:
    """Give callbacks the state that they had.

    Raises:
        CheckpointError: if they are others.
    """
    for callback, saved in _pairs(callbacks, snapshot):
        try:
            callback.load_state_dict(saved)
        except _STRANGE as error:
            name = type(callback).__name__
            raise CheckpointError(f"{snapshot.path}: the {name} of this run cannot go on: {error}") from error


def settings_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The settings of an optimiser's groups."""
    return [
        {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
    ]


def _changed(state: TrainingState, begun: Any) -> list[dict[str, Any]]:
    """Of each group the settings that are others now than when the saved run began.

    The rest may have been changed by the run itself, and stand in its file. A schedule decides on its rates.
    """
    if not isinstance(begun, list) or len(begun) != len(state.begun):
        return [{} for _ in state.begun]
    changed = []
    for now, then in zip(state.begun, begun, strict=True):
        plain = json.loads(json.dumps(now, default=float))
        names = [name for name in now if name not in then or then[name] != plain[name]]
        changed.append({name: now[name] for name in names if name != "lr" or "initial_lr" not in now})
    return changed


def _pairs(callbacks: tuple[Callback, ...], snapshot: Snapshot) -> list[tuple[Callback, Mapping[str, Any]]]:
    """Each callback that has state, with what was saved of it."""
    here, saved = _with_state(callbacks), snapshot.run["callbacks"]
    names = [name for name, *_ in here], [name for name, _ in saved]
    if names[0] != names[1]:
        raise CheckpointError(
            f"{snapshot.path} is of a run with the callbacks {', '.join(names[1]) or 'none'}; "
            f"this one has {', '.join(names[0]) or 'none'} (of those that remember something)"
        )
    return [(callback, state) for (_, callback, _), (_, state) in zip(here, saved, strict=True)]


def _with_state(callbacks: tuple[Callback, ...]) -> list[tuple[str, Callback, dict[str, Any]]]:
    """The callbacks that remember something: class names, callbacks and what it is."""
    found = [(type(callback).__name__, callback, callback.state_dict()) for callback in callbacks]
    return [entry for entry in found if entry[2]]
