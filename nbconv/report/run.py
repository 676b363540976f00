"""A training run as a folder: the model, what every epoch measured, and what the run was.

model.safetensors    what nbconv.load reads
history.json         the numbers of each epoch, by name
run.json             settings and results, by name
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbconv.errors import CheckpointError
from nbconv.files import whole_file
from nbconv.history import History
from nbconv.serialization import load
from nbconv.training import saved_run, snapshot

if TYPE_CHECKING:
    from nbconv.sequential import Sequential

MODEL, HISTORY, SETTINGS = "model.safetensors", "history.json", "run.json"


@dataclass
class Run:
    """What is known of a training run.

    Attributes:
        model: as it was at the end.
        history: None where nothing was kept of it.
        settings: and results, by name.
        name: of the folder or file.
    """

    model: Sequential
    history: History | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    name: str = "model"


def save_run(
    folder: str | os.PathLike[str],
    model: Sequential,
    history: History,
    settings: Mapping[str, Any] | None = None,
    extra: Any = None,
) -> None:
    """Write a run to a folder, which is made if need be; files of an earlier run there are replaced.

    Args:
        folder: where to.
        model: as it is at the end.
        history: what :meth:`nbconv.Trainer.fit` returned.
        settings: and results; values that JSON can hold.
        extra: kept in the model's file, see :meth:`nbconv.Sequential.save`.

    Raises:
        OSError: if it cannot be written.
        TypeError: for settings that JSON cannot hold.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    described = json.dumps(dict(settings or {}), indent=1)
    model.save(path / MODEL, extra)
    measured = {"history": history.history, "interrupted": history.interrupted}
    write_text(path / HISTORY, json.dumps(measured, indent=1) + "\n")
    write_text(path / SETTINGS, described + "\n")


def load_run(path: str | os.PathLike[str], backend: str = "cpu") -> Run:
    """The run in a folder that :func:`save_run` wrote, or what a checkpoint or a saved model alone tells.

    Args:
        path: of the folder, or of a model's file.
        backend: where the model shall compute.

    Raises:
        CheckpointError: if a file is damaged, or no model is there.
        BackendUnavailable: if the backend cannot run here.
        OSError: if a file cannot be read.
    """
    place = Path(path)
    if not place.is_dir():
        return _of_file(place, backend)
    if not (place / MODEL).exists():
        raise CheckpointError(f"{place} is no folder of a run: there is no {MODEL} in it")
    run = Run(load(place / MODEL, backend), name=place.resolve().name)
    if (place / HISTORY).exists():
        measured = _read(place / HISTORY)
        numbers: Any = measured.get("history")
        try:
            saved_run.check_history(numbers)
        except ValueError as error:
            raise CheckpointError(f"{place / HISTORY} holds no history: {error}") from None
        run.history = History(numbers, bool(measured.get("interrupted")))
    if (place / SETTINGS).exists():
        run.settings = _read(place / SETTINGS)
    return run


def _of_file(path: Path, backend: str) -> Run:
    """What a model's file tells: a checkpoint knows of its run."""
    run = Run(load(path, backend), name=path.name)
    if snapshot.is_one(path):
        saved = snapshot.load(path).run
        run.history = History({name: list(values) for name, values in saved["history"].items()})
        run.settings = {
            "epochs": saved["epoch"],
            "steps": saved["step"],
            "optimizer": saved["optimizer"]["class"],
            **{name: value for name, value in saved["settings"].items() if value is not None},
        }
    return run


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    with whole_file(path) as stream:
        stream.write(text.encode(errors="backslashreplace"))  # names of files may be any bytes


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds no table of names and values")
    return found
