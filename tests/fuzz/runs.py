"""The training runs that are killed: of ``Trainer``, and of ``nbconv train``."""

from __future__ import annotations

import csv
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import resumed_run

import nbconv as nb
from nbconv import serialization

from .inputs import pictures
from .inputs.damage import one_of

_OPTIMIZERS = {
    "Adam": nb.Adam,
    "AdamW": nb.AdamW,
    "SGD": functools.partial(nb.SGD, momentum=0.9, nesterov=True),
    "RMSprop": functools.partial(nb.RMSprop, momentum=0.9, centered=True),
    "Adagrad": nb.Adagrad,
    "Lion": nb.Lion,
}


@dataclass(frozen=True)
class Run:
    """A run of ``Trainer`` that saves itself.

    Attributes:
        checkpoint: its file's name.
    """

    optimizer: str
    every_steps: int
    backend: str
    checkpoint: str = "last.safetensors"

    @property
    def counted(self) -> bool:
        """Whether its calls are counted: kernels that are compiled or loaded make too many."""
        return self.backend != "cpu"

    def run(self, folder: Path) -> None:
        """Train to the end, from the checkpoint if there is one."""
        saved = folder / self.checkpoint
        _, ended = resumed_run.run(
            folder,
            resume=saved if saved.exists() else None,
            backend=self.backend,
            optimizer=_OPTIMIZERS[self.optimizer],
            every_steps=self.every_steps,
            extra=[Saved(folder, self.every_steps)],
        )
        np.savez(folder / "ended.npz", **ended)

    def ended(self, folder: Path) -> dict[str, np.ndarray]:
        """All that it ended in."""
        with np.load(folder / "ended.npz") as arrays:
            return {**arrays, **_log(folder)}


class Saved(nb.Callback):
    """Notes each step that the checkpoint before it has saved."""

    order = 4  # behind the checkpoints

    def __init__(self, folder: Path, every_steps: int) -> None:
        self.path, self.every = folder / "saved.txt", every_steps

    def on_batch_end(self, state: Any) -> None:
        if state.stepped and state.step % self.every == 0:
            with self.path.open("a") as file:
                file.write(f"{state.step}\n")


@dataclass(frozen=True)
class Command:
    """A run of ``nbconv train`` on pictures.

    Attributes:
        options: beside those that all have.
    """

    options: tuple[str, ...]
    checkpoint: str = "run.safetensors"
    counted: bool = True

    def run(self, folder: Path) -> None:
        """Train to the end, from the checkpoint if there is one."""
        from nbconv.cli import main

        # Each child may make the pictures: they are always the same.
        _draw(folder.parent / "pictures")
        told = [
            "--data=../pictures",
            "--size=32",
            "--epochs=3",
            "--batch-size=4",
            "--backend=reference",
            "--quiet",
        ]
        files = [f"--checkpoint={self.checkpoint}", "--csv=log.csv", "--output=model.safetensors"]
        options = list(self.options)
        if (folder / self.checkpoint).exists():
            # What is read and written is given again; all else is the checkpoint's.
            told = [f"--resume={self.checkpoint}", "--data=../pictures"]
            files.remove(f"--checkpoint={self.checkpoint}")
            options = [option for option in options if option.startswith("--jsonl")]
        if (code := main(["train", *told, *files, *options])) != 0:
            raise RuntimeError(f"nbconv train ends with {code}")

    def ended(self, folder: Path) -> dict[str, np.ndarray]:
        """All that it ended in."""
        metadata, tensors = serialization.read(folder / "model.safetensors")
        texts = {name: np.array(text) for name, text in metadata.items()}
        return {**tensors, **texts, **_log(folder)}


def _draw(folder: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(14):
        place = folder / "ab"[number % 2] / f"{number}.png"
        image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8))
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            new = place.with_name(f"{os.getpid()}.new")
            image.save(new, "PNG")
            new.replace(place)


def _log(folder: Path) -> dict[str, np.ndarray]:
    """The table of epochs without the columns of time."""
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        f"log of {name}": np.array([row[name] for row in rows]) for name in rows[0] if "second" not in name
    }


def drawn(rng: np.random.Generator) -> Run | Command:
    """A random run."""
    every = int(one_of(rng, 1, 1, 2, 3))
    if pictures.pictures() and rng.random() < 0.4:
        options = [
            f"--checkpoint-every={every}",
            f"--optimizer={one_of(rng, 'sgd', 'adam', 'adamw', 'rmsprop', 'lion')}",
        ]
        options += [f"--schedule={one_of(rng, 'cosine', 'constant', 'one-cycle', 'plateau', 'exponential')}"]
        options += [f"--augment={one_of(rng, 'none', 'crop-flip', 'affine')}", f"--seed={rng.integers(100)}"]
        options += ["--ema=0.9"] if rng.random() < 0.3 else []
        options += ["--early-stopping=2"] if rng.random() < 0.3 else []
        options += [f"--accumulate={one_of(rng, 1, 2)}", "--jsonl=log.jsonl"]
        return Command(tuple(options))
    return Run(one_of(rng, *_OPTIMIZERS), every, "cpu" if rng.random() < 0.1 else "reference")
