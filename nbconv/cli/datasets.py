"""The data sets that commands know by name, and folders of pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nbconv import data
from nbconv.data.digits import Examples, Split
from nbconv.errors import DataError

_TEST_FOLDERS = ("test", "val", "valid", "validation")
_FRACTION, _SEED = 0.2, 0  # held out of a folder that has no test part; always the same pictures


class DataSet(NamedTuple):
    """A data set as commands need it.

    Attributes:
        sizes: heights and widths to offer a model, the usual one first.
        load: from one of these to the examples.
    """

    name: str
    classes: int
    channels: int
    sizes: tuple[int, ...]
    load: Callable[[int], Split]


def _resized(split: Split, size: int) -> Split:
    train, test = (Examples(data.resize_bilinear(part.x, size), part.y) for part in split)
    return Split(train, test)


def _digits(size: int, root: Path) -> Split:
    return data.digits(size)


def _mnist(load: Callable[..., Split], size: int, root: Path) -> Split:
    margin = size - 28
    if margin >= 0 and margin % 2 == 0:
        return load(root, padding=margin // 2)  # as LeNet-5 had them
    return _resized(load(root), size)


DATA_SETS: dict[str, Callable[[int, Path], Split]] = {
    "digits": _digits,
    "mnist": lambda size, root: _mnist(data.mnist, size, root),
    "fashion_mnist": lambda size, root: _mnist(data.fashion_mnist, size, root),
    "cifar10": lambda size, root: _resized(data.cifar10(root), size),
    "cifar100": lambda size, root: _resized(data.cifar100(root), size),
}
_CLASSES = {"cifar100": 100}
_CHANNELS = {"cifar10": 3, "cifar100": 3}
_SIZES = {"digits": (32, 28, 8)}


def known(text: str) -> str:
    """The name of a data set, or a folder, for argparse."""
    if text not in DATA_SETS and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"expected {', '.join(DATA_SETS)} or a folder, got {text!r}")
    return text


def find(name: str, root: Path | str = "data", size: int | None = None) -> DataSet:
    """The data set of a name, or the pictures in a folder.

    A folder has either a folder for each class, of which a fifth of the pictures is then held out, or such
    folders in ``train`` and in ``test`` (or ``val``, ``valid``, ``validation``).

    Args:
        name: one of DATA_SETS, or a folder.
        root: where the files of the published data sets are.
        size: height and width of the images; None leaves them to the model.

    Raises:
        DataError: when there is no such data set, or the folder has no such folders.
    """
    if name not in DATA_SETS:
        return _folder(Path(name), (32, 28, 64, 224) if size is None else (size,))
    sizes = _SIZES.get(name, (32, 28)) if size is None else (size,)
    return DataSet(
        name,
        _CLASSES.get(name, 10),
        _CHANNELS.get(name, 1),
        sizes,
        lambda size: DATA_SETS[name](size, Path(root)),
    )


def _folder(path: Path, sizes: tuple[int, ...]) -> DataSet:
    train = path / "train"
    tests = [path / name for name in _TEST_FOLDERS if (path / name).is_dir()]
    if not (train.is_dir() and tests):
        classes = len(data.ImageFolder(path).classes)
        return DataSet(str(path), classes, 3, sizes, lambda size: _divided(path, size))
    names = [data.ImageFolder(part).classes for part in (train, tests[0])]
    if names[0] != names[1]:
        differing = sorted(set(names[0]) ^ set(names[1]))
        raise DataError(f"{train} and {tests[0]} differ in the classes: {', '.join(differing[:5])}")
    return DataSet(
        str(path),
        len(names[0]),
        3,
        sizes,
        lambda size: Split(*(_decoded(data.ImageFolder(part, size)) for part in (train, tests[0]))),
    )


def _divided(path: Path, size: int) -> Split:
    folder = data.ImageFolder(path, size)
    train, test = data.stratified_split(folder.targets, _FRACTION, _SEED)
    return Split(_decoded(data.Subset(folder, train)), _decoded(data.Subset(folder, test)))


def _decoded(pictures: data.Dataset) -> Examples:
    """All pictures at once: at the sizes that commands train on they are few bytes, and read once."""
    batches = list(data.DataLoader(pictures, 64, num_workers=2))
    rows = np.concatenate([x.transpose(0, 2, 3, 1) for x, _ in batches])
    return Examples(rows.transpose(0, 3, 1, 2), np.concatenate([y for _, y in batches]))
