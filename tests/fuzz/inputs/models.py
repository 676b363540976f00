"""Models and checkpoints: safetensors files, whose header and the JSON in whose metadata are damaged."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import nbconv as nb
from nbconv.callbacks import EMA, Checkpoint, CSVLogger, EarlyStopping

from . import trees
from .damage import Mutation, Random, one_of


@functools.cache
def models() -> list[bytes]:
    """Saved models: one for digits, and one with layers and containers of many kinds."""
    extra = {"data": "digits", "data_root": "data", "size": 28, "channels": 1, "classes": list("0123456789")}
    return [_saved(small_network(), extra), _saved(_many_layers(), {"classes": ["cat", "dog"]}), _weights()]


def small_network() -> nb.Sequential:
    """Takes the embedded digits at 28 x 28."""
    return nb.Sequential(
        nb.AvgPool2d(4), nb.Conv2d(1, 4, 3), nb.BatchNorm2d(4), nb.ReLU(), nb.Dropout(0.2), nb.Flatten(),
        nb.Dense(100, 10), backend="reference", seed=0,
    )  # fmt: skip


def _many_layers() -> nb.Sequential:
    body = nb.Sequential(nb.Conv2d(4, 4, 3, padding=1), nb.GroupNorm(2, 4), nb.PReLU(4))
    return nb.Sequential(
        nb.preprocess.Standardize(3), nb.Conv2d(3, 4, 3, padding="same", padding_mode="reflect"), nb.ReLU6(),
        nb.Residual(body), nb.Concat(nb.Conv2d(4, 2, 1), nb.MaxPool2d(3, 1, 1)), nb.Pad2d(1),
        nb.DenseBlock(nb.Sequential(nb.Conv2d(6, 2, 3, padding=1))), nb.ConvTranspose2d(8, 4, 2, 2),
        nb.Upsample(scale_factor=0.5), nb.LocalResponseNorm(3), nb.ContrastNorm(3), nb.LeakyReLU(0.1),
        nb.BatchNorm2d(4, momentum=None), nb.AdaptiveAvgPool2d((2, None)), nb.GlobalAvgPool2d(),
        nb.LayerNorm(4), nb.Maxout(2), nb.Dense(2, 2), nb.LogSoftmax(), backend="reference", seed=0,
    )  # fmt: skip


def _saved(model: nb.Sequential, extra: Any) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path, extra)
        return in_order(path.read_bytes())


def _weights() -> bytes:
    """Weights alone, of types that other programs save."""
    header: dict[str, Any] = {}
    start = 0
    for name, dtype, size in (
        ("0.weight", "BF16", 2),
        ("0.bias", "F16", 2),
        ("f8", "F8_E4M3", 1),
        ("b", "BOOL", 1),
    ):
        header[name] = {"dtype": dtype, "shape": [2, 3], "data_offsets": [start, start + 6 * size]}
        start += 6 * size
    return joined(json.dumps(header), bytes(start))


@functools.cache
def checkpoints() -> list[bytes]:
    """A run that stopped in an epoch, with all that has state."""
    arguments = ["--backend=reference", "--quiet", "--epochs=2", "--size=28", "--model=lenet5"]
    found = []
    for optimizer, extra in ((nb.Adam, {"arguments": arguments}), (nb.SGD, None)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.safetensors"
            fit(
                optimizer,
                [Checkpoint(path, every_epochs=0, every_steps=3, extra=extra), CSVLogger(Path(folder) / "l")],
            )
            found.append(in_order(path.read_bytes()))
    return found


def fit(optimizer: type[nb.Optimizer], callbacks: list[nb.Callback], resume: Path | None = None) -> None:
    """Train the small network for four steps of two epochs."""
    model = small_network()
    rule = optimizer(model.parameters(), lr=0.01)
    schedule = nb.schedules.CosineAnnealingLR(rule, T_max=4)
    plateau = nb.schedules.ReduceLROnPlateau(rule, patience=1, monitor="loss")
    stopping = EarlyStopping("loss", patience=3, restore_best_weights=True)
    rng = np.random.default_rng(0)
    x, y = rng.random((8, 1, 28, 28), np.float32), np.arange(8) % 10
    nb.Trainer(model, nb.CrossEntropyLoss(), rule).fit(
        x, y, epochs=2, batch_size=4, seed=0, verbose=False, resume=resume,
        callbacks=[schedule, plateau, EMA(0.9), stopping, *callbacks],
    )  # fmt: skip


# The format: the header's length in eight bytes, the header as JSON, the tensors' bytes.


def joined(header: str, tensors: bytes) -> bytes:
    written = header.encode("utf-8", "surrogatepass")
    return len(written).to_bytes(8, "little") + written + tensors


def parted(data: bytes) -> tuple[Any, bytes]:
    """The header and the rest.

    Raises:
        ValueError: if there is no header.
    """
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    if not isinstance(header, dict):
        raise ValueError("no header")
    return header, data[8 + size :]


def in_order(data: bytes) -> bytes:
    """The same file with its metadata in alphabetical order, which the writer leaves to chance."""
    header, rest = parted(data)
    return joined(json.dumps(header, sort_keys=True), rest)


def damage_header(data: bytes, rng: Random) -> bytes:
    try:
        header, rest = parted(data)
        return joined(trees.text(trees.mutated(header, rng)), rest)
    except (ValueError, RecursionError):
        return data


def damage_description(data: bytes, rng: Random) -> bytes:
    """One of the texts in the metadata, which is JSON again."""
    try:
        header, rest = parted(data)
        metadata = header["__metadata__"]
        name = one_of(rng, *sorted(metadata))
        metadata[name] = trees.changed_text(metadata[name], rng)
        return joined(json.dumps(header), rest)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return data


def swell(data: bytes, rng: Random) -> bytes:
    """A tensor that is said to be large, of one byte or of none."""
    try:
        header, rest = parted(data)
        name = one_of(rng, *(key for key in sorted(header) if key != "__metadata__"))
        header[name]["shape"] = one_of(rng, [1 << 40], [1 << 20, 1 << 20], [0, 1 << 62], [1 << 63], [-1], [])
        return joined(json.dumps(header), rest)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return data


OWN: tuple[Mutation, ...] = (damage_header, damage_description, damage_description, damage_description, swell)
