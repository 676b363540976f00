"""Tell what pictures show."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nbconv.cli import common, datasets, pictures
from nbconv.cli.recorded import Recorded, model_file, recorded
from nbconv.errors import DataError, LayerError, NonFiniteError
from nbconv.terminal import say
from nbconv.typing import Array

if TYPE_CHECKING:
    from nbconv.sequential import Sequential

_SHOWN = 3  # of the classes, the likeliest
_AT_ONCE = 64  # pictures
_SIZES = (32, 28, 64, 96, 128, 224, 227, 256)  # to try where nobody knows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help="a picture in a format Pillow reads, or a folder of them",
    )
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("lenet.safetensors"),
        help="a model or checkpoint of nbconv train, or a RUN (%(default)s)",
    )
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="the data set whose images the pictures are to be like, where the model's file does not tell: "
        f"{', '.join(datasets.DATA_SETS)}, or folder for pictures of any kind",
    )
    common.add_backend(parser)
    parser.add_argument(
        "--invert",
        action=argparse.BooleanOptionalAction,
        help="swap dark and bright first, or not; without either, a picture with a bright border is inverted "
        "for a model of digits or Fashion-MNIST, which are bright on dark",
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Predict, and return the classes and the probabilities."""
    import nbconv as nb

    path = model_file(options.model)
    model = nb.load(path, backend=options.backend)
    record = recorded(path)
    images = _images(model, record, options.data)
    found = []
    files = pictures.files(options.images)
    for start in range(0, len(files), _AT_ONCE):
        some = files[start : start + _AT_ONCE]
        x = np.concatenate([pictures.read(file, images, options.invert) for file in some])
        for file, shares in zip(some, _probabilities(model, x), strict=True):
            found.append(_told(file, shares, _names(record, images, len(shares)), len(files) == 1))
    return {"command": "predict", **(found[0] if len(found) == 1 else {}), "pictures": found}


def _told(file: Path, shares: Array, names: tuple[str, ...], alone: bool) -> dict[str, Any]:
    """Print what one picture shows, and return it."""
    likeliest = np.argsort(-shares, kind="stable")
    best = int(likeliest[0])
    if alone:
        width = max(len(names[index]) for index in likeliest[:_SHOWN])
        say(f"{file}: {names[best]}")
        for index in likeliest[:_SHOWN]:
            say(f"  {names[index]:{width}}  {common.percent(shares[index]):>8}")
    else:
        say(f"{file}: {names[best]}  {common.percent(shares[best])}")
    return {
        "image": str(file),
        "prediction": best,
        "class": names[best],
        "probabilities": shares.tolist(),
    }


def _probabilities(model: Sequential, x: Array) -> Array:
    logits = model.predict(x).astype(np.float64)
    if logits.ndim != 2 or not np.isfinite(logits).all():
        raise NonFiniteError(f"the model gives no finite logits, but an array of shape {logits.shape}")
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _names(record: Recorded, images: pictures.Images, classes: int) -> tuple[str, ...]:
    """Of the classes: as the model's file tells them, else those of the data set, else numbers."""
    told = record.classes
    if told is None and images.data in datasets.DATA_SETS:
        told = datasets.find(images.data).labels
    return told if told is not None and len(told) == classes else tuple(map(str, range(classes)))


def _images(model: Sequential, record: Recorded, data: str | None) -> pictures.Images:
    """What images the model takes: as it is asked for, else as its file tells, else as fits.

    Raises:
        DataError: for an unknown data set, or a model that takes no images of its size.
    """
    if data is not None:
        if data not in datasets.DATA_SETS and data != "folder":
            raise DataError(
                f"unknown data set {data!r}; there are {', '.join(datasets.DATA_SETS)} and folder"
            )
        record = Recorded(data=data, size=record.size, channels=record.channels, resize=record.resize)
    if record.data in datasets.DATA_SETS:
        data_set = datasets.find(record.data, size=record.size)
        return pictures.Images(data_set.name, data_set.channels, common.input_size(model, data_set))
    if record.data is None and record.size is None:
        try:
            return pictures.Images("digits", 1, common.input_size(model, datasets.find("digits")))
        except DataError:
            pass
    sizes = _SIZES if record.size is None else (record.size,)
    for channels in (3, 1) if record.channels is None else (record.channels,):
        for size in sizes:
            try:
                model.output_shape((1, channels, size, size))
            except LayerError:
                continue
            return pictures.Images("folder", channels, size, record.resize)
    raise DataError("the model takes no images of 1 or 3 channels and a usual size: say which by --data")
