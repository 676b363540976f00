"""MNIST and Fashion-MNIST: 60,000 images of 28 x 28 to train on and 10,000 to test, of ten classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nbconv.data import stored
from nbconv.data.digits import Examples, Split
from nbconv.data.idx import read_idx
from nbconv.data.stored import Download
from nbconv.errors import DataError

FASHION_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
"""The names of Fashion-MNIST's classes."""

_SIDE = 28
_MOST = 60_000 * _SIDE * _SIDE  # bytes in the largest of the files
_NAMES = {  # of the files, and how the labels begin in MNIST and in Fashion-MNIST: the names are the same
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "5041921314", "9003027255"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "7210414959", "9211614657"),
}
_MNIST = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
_FASHION = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}


def mnist(
    root: str | os.PathLike[str],
    *,
    padding: int = 0,
    dtype: npt.DTypeLike = np.float32,
    download: bool = True,
) -> Split:
    """MNIST's handwritten digits as (x_train, y_train), (x_test, y_test).

    Images are (N, 1, 28, 28), ink 1 on paper 0; labels are int64, 0 to 9. The four IDX files, gzipped or not,
    are looked for in ``root``/mnist, ``root``/MNIST/raw and ``root``, and fetched into the first otherwise.

    Args:
        root: the folder of the data.
        padding: rows and columns of paper to add on every side; 2 gives the 32 x 32 that LeNet-5 takes.
        dtype: float32 or float64 for [0, 1], uint8 for the 0 to 255 of the files.
        download: whether files that are not there may be fetched, by pooch, with checksums.

    Raises:
        DataError: when a file cannot be fetched, is damaged, or is Fashion-MNIST's.
        ValueError: for an impossible argument.

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
    1998.
    """
    site = "https://ossci-datasets.s3.amazonaws.com/mnist"
    return _load(Path(root), ("mnist", "MNIST/raw", "."), site, _MNIST, padding, dtype, download)


def fashion_mnist(
    root: str | os.PathLike[str],
    *,
    padding: int = 0,
    dtype: npt.DTypeLike = np.float32,
    download: bool = True,
) -> Split:
    """Fashion-MNIST's pictures of clothes, as :func:`mnist` gives its digits; ``FASHION_CLASSES`` names them.

    The files are looked for in ``root``/fashion-mnist, ``root``/FashionMNIST/raw and ``root``.

    Raises:
        DataError: when a file cannot be fetched, is damaged, or is MNIST's.
        ValueError: for an impossible argument.

    Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST", 2017.
    """
    site = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
    folders = ("fashion-mnist", "FashionMNIST/raw", ".")
    return _load(Path(root), folders, site, _FASHION, padding, dtype, download)


def _load(
    root: Path,
    folders: tuple[str, ...],
    site: str,
    sums: dict[str, str],
    padding: int,
    dtype: npt.DTypeLike,
    download: bool,
) -> Split:
    if padding < 0:
        raise ValueError(f"expected a padding of at least 0, got {padding}")
    parts = []
    for images_name, labels_name, *openings in _NAMES.values():
        images_path, labels_path = (
            stored.find(root, folders, (name, f"{name}.gz"))
            or stored.fetch(Download(f"{site}/{name}.gz", sums[name]), root / folders[0], download)
            for name in (images_name, labels_name)
        )
        images, labels = (read_idx(path, limit=_MOST) for path in (images_path, labels_path))
        if images.dtype != np.uint8 or images.shape[1:] != (_SIDE, _SIDE):
            got = f"{images.dtype} {images.shape}"
            raise DataError(f"{images_path}: expected uint8 images (N, {_SIDE}, {_SIDE}), got {got}")
        y = stored.as_labels(labels, len(images), 10, labels_path)
        if "".join(map(str, y[:10])) == openings[sums is _MNIST]:
            raise DataError(f"{labels_path} is {'Fashion-MNIST' if sums is _MNIST else 'MNIST'}'s")
        around = (padding, padding)
        pixels = np.pad(images, ((0, 0), around, around))[:, np.newaxis]
        parts.append(Examples(stored.as_images(pixels, dtype), y))
    return Split(*parts)
