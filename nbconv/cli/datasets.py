"""The data sets that commands know by name, and folders of pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from nbconv import data
from nbconv.data.digits import Examples, Split
from nbconv.errors import DataError

_TEST_FOLDERS = ("test", "val", "valid", "validation")
_FRACTION, _SEED = 0.2, 0  # held out of a folder that has no test part; always the same pictures


Part = Examples | data.Dataset
"""Arrays, or pictures that are decoded when they are asked for."""


class Parts(NamedTuple):
    """What to train on, and what is held out."""

    train: Part
    test: Part


class DataSet(NamedTuple):
    """A data set as commands need it.

    Attributes:
        labels: the names of the classes.
        sizes: heights and widths to offer a model, the usual one first.
        load: from one of these to the examples.
    """

    name: str
    labels: tuple[str, ...]
    channels: int
    sizes: tuple[int, ...]
    load: Callable[[int], Parts]

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.labels)


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
_DIGITS = tuple("0123456789")
_LABELS = {
    "fashion_mnist": data.FASHION_CLASSES,
    "cifar10": data.CIFAR10_CLASSES,
    "cifar100": data.CIFAR100_CLASSES,
}
_CHANNELS = {"cifar10": 3, "cifar100": 3}
_SIZES = {"digits": (32, 28, 8)}


def known(text: str) -> str:
    """The name of a data set, or a folder, for argparse."""
    if text not in DATA_SETS and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"expected {', '.join(DATA_SETS)} or a folder, got {text!r}")
    return text


def find(name: str, root: Path | str = "data", size: int | None = None, resize: int | None = None) -> DataSet:
    """The data set of a name, or the pictures in a folder.

    A folder has either a folder for each class, of which a fifth of the pictures is then held out, or such
    folders in ``train`` and in ``test`` (or ``val``, ``valid``, ``validation``).

    Args:
        name: one of DATA_SETS, or a folder.
        root: where the files of the published data sets are.
        size: height and width of the images; None leaves them to the model.
        resize: pixels to bring the shorter side of a folder's pictures to: those to train on are then squares
            of that size, to be cropped at random, the others are cut from the middle.

    Raises:
        DataError: when there is no such data set, or the folder has no such folders.
    """
    if name not in DATA_SETS:
        return _folder(Path(name), (32, 28, 64, 224) if size is None else (size,), resize)
    if resize is not None:
        raise DataError(f"the images of {name} have their size: only pictures in a folder are resized before")
    sizes = _SIZES.get(name, (32, 28)) if size is None else (size,)
    return DataSet(
        name,
        _LABELS.get(name, _DIGITS),
        _CHANNELS.get(name, 1),
        sizes,
        lambda size: Parts(*DATA_SETS[name](size, Path(root))),
    )


def _folder(path: Path, sizes: tuple[int, ...], resize: int | None) -> DataSet:
    train = path / "train"
    tests = [path / name for name in _TEST_FOLDERS if (path / name).is_dir()]
    if not (train.is_dir() and tests):
        labels = tuple(data.ImageFolder(path).classes)
        return DataSet(str(path), labels, 3, sizes, lambda size: _divided(path, size, resize))
    names = [data.ImageFolder(part).classes for part in (train, tests[0])]
    if names[0] != names[1]:
        differing = sorted(set(names[0]) ^ set(names[1]))
        raise DataError(f"{train} and {tests[0]} differ in the classes: {', '.join(differing[:5])}")
    return DataSet(
        str(path),
        tuple(names[0]),
        3,
        sizes,
        lambda size: Parts(
            _to_train_on(train, size, resize), data.ImageFolder(tests[0], size, resize=resize)
        ),
    )


def _to_train_on(path: Path, size: int, resize: int | None) -> data.ImageFolder:
    """Pictures of the size, or larger ones to crop."""
    if resize is not None and resize < size:
        raise DataError(f"pictures resized to {resize} hold none of {size} x {size}")
    return data.ImageFolder(path, resize or size)


def _divided(path: Path, size: int, resize: int | None) -> Parts:
    folder, held_out = _to_train_on(path, size, resize), data.ImageFolder(path, size, resize=resize)
    train, test = data.stratified_split(folder.targets, _FRACTION, _SEED)
    return Parts(data.Subset(folder, train), data.Subset(held_out, test))
