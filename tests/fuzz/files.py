"""Damaged files: each a well-formed one, damaged as its seed says, and read by one of its readers."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

import nbconv as nb

from . import guard
from .inputs import models, pictures
from .kinds import KINDS, Call, damaged_file
from .places import in_memory


def run(seed: int, keep: Path | None = None) -> str | None:
    """What is wrong with the case of a seed, whose file is then kept; None if nothing is."""
    name = list(KINDS)[seed % len(KINDS)]
    kind = KINDS[name]
    rng = np.random.default_rng([seed, 6])
    if isinstance(kind, Call):
        with computing_left_out():
            found = guard.attempt(functools.partial(kind.call, rng), 0)
        return None if found is None else f"{name}: {found}"
    data = damaged_file(kind, rng)
    reader = kind.readers[rng.integers(len(kind.readers))]
    if keep is not None:  # before it is read, which may be the end of this process
        kept = keep / f"files-{seed}" / kind.place
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(data)
    with (
        tempfile.TemporaryDirectory(dir=in_memory()) as folder,
        contextlib.chdir(folder),
        computing_left_out(),
    ):
        path = Path(folder) / kind.place
        _put_beside(path.parent)
        path.write_bytes(data)
        found = guard.attempt(functools.partial(reader, path), len(data))
    if keep is not None and found is None:
        kept.unlink()
        kept.parent.rmdir()
    called = getattr(reader, "__name__", None) or getattr(getattr(reader, "func", None), "__name__", "reader")
    return None if found is None else f"{name} by {called}: {found}"


def _put_beside(folder: Path) -> None:
    """What commands need beside the damaged file."""
    (folder / "model.safetensors").write_bytes(models.models()[0])
    if pictures.pictures():
        (folder / "picture.png").write_bytes(pictures.pictures()["png"][0])


@contextlib.contextmanager
def computing_left_out() -> Iterator[None]:
    """Stop where all input is read and computing would begin; and fetch nothing from the net."""

    def reached(*_: object, **__: object) -> None:
        raise guard.Reached

    def no_net(*_: object, **__: object) -> None:
        raise OSError(101, "no net here")

    with contextlib.ExitStack() as stack:
        for owner, name in (
            (nb.training.loop.Loop, "run"),
            (nb.training.finder, "find_learning_rate"),
            (nb.Trainer, "evaluate"),
            (nb.report, "report"),
        ):
            stack.enter_context(mock.patch.object(owner, name, reached))
        with contextlib.suppress(ImportError):
            stack.enter_context(mock.patch("pooch.retrieve", no_net))
        yield
