"""CIFAR-10 and CIFAR-100: 50,000 colour images of 32 x 32 to train on and 10,000 to test."""

from __future__ import annotations

import gzip
import io
import os
import reprlib
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from nbconv.data import stored
from nbconv.data.digits import Examples, Split
from nbconv.data.pickled import read_dict
from nbconv.data.stored import Download
from nbconv.errors import DataError
from nbconv.typing import Array, Shape

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
"""The names of CIFAR-10's classes."""

CIFAR100_CLASSES = tuple(
    (  # noqa: SIM905 - a list would be a hundred lines
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
        "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch "
        "crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo "
        "keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain "
        "mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain "
        "plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk "
        "skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone "
        "television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm "
    ).split()
)
"""The names of CIFAR-100's classes, the fine ones."""

_CHUNK = 1 << 20  # bytes
_MOST = 60_000 * 7_000
"""Bytes of all files together. Either data set has 60,000 images; one takes 3,104 bytes of a pickle, or about
twice as many where they are spelt as text."""
_SHAPE: Shape = (3, 32, 32)
_PIXELS = 3 * 32 * 32


# tarfile's own errors, and those that a header of nonsense, or of headers without end, ends in.
_DAMAGES = (
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    RecursionError,
)


class _Edition(NamedTuple):
    """One of the forms that a data set is published in."""

    folder: str
    archive: str
    suffix: str  # of the files' names


class _Published(NamedTuple):
    """One of the two data sets."""

    pickled: _Edition
    binary: _Edition
    download: Download
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: tuple[
        tuple[str, int], ...
    ]  # their names in the pickles and the numbers of classes, in file order


_TEN = _Published(
    _Edition("cifar-10-batches-py", "cifar-10-python.tar.gz", ""),
    _Edition("cifar-10-batches-bin", "cifar-10-binary.tar.gz", ".bin"),
    Download("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
    tuple(f"data_batch_{i}" for i in range(1, 6)),
    ("test_batch",),
    (("labels", 10),),
)
_HUNDRED = _Published(
    _Edition("cifar-100-python", "cifar-100-python.tar.gz", ""),
    _Edition("cifar-100-binary", "cifar-100-binary.tar.gz", ".bin"),
    Download("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
    ("train",),
    ("test",),
    (("coarse_labels", 20), ("fine_labels", 100)),
)


def cifar10(
    root: str | os.PathLike[str], *, dtype: npt.DTypeLike = np.float32, download: bool = True
) -> Split:
    """CIFAR-10 as (x_train, y_train), (x_test, y_test); ``CIFAR10_CLASSES`` names the classes.

    Images are (N, 3, 32, 32), red, green and blue, channels-last in memory; labels are int64, 0 to 9. The
    Python edition or the binary one, packed or unpacked, is looked for in ``root``; otherwise the former is
    fetched into it. Archives are read in place, and no code in the pickles is run.

    Args:
        root: the folder of the data.
        dtype: float32 or float64 for [0, 1], uint8 for the 0 to 255 of the files, a quarter of the memory,
            which a :class:`DataLoader` turns into float32 batches.
        download: whether the archive may be fetched, by pooch, with a checksum, when it is not there.

    Raises:
        DataError: when the archive cannot be fetched, or a file is damaged.
        ValueError: for an impossible argument.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
    """
    return _load(Path(root), _TEN, "labels", dtype, download)


def cifar100(
    root: str | os.PathLike[str],
    *,
    coarse: bool = False,
    dtype: npt.DTypeLike = np.float32,
    download: bool = True,
) -> Split:
    """CIFAR-100, as :func:`cifar10` gives CIFAR-10.

    Args:
        root: the folder of the data.
        coarse: whether labels are the 20 superclasses instead of the 100 classes.
        dtype: as of ``cifar10``.
        download: as of ``cifar10``.

    Raises:
        DataError: when the archive cannot be fetched, or a file is damaged.
        ValueError: for an impossible argument.
    """
    return _load(Path(root), _HUNDRED, "coarse_labels" if coarse else "fine_labels", dtype, download)


def _load(root: Path, published: _Published, labels: str, dtype: npt.DTypeLike, download: bool) -> Split:
    place, edition = _place(root, published, download)
    names = [name + edition.suffix for name in published.train + published.test]
    files = _read_folder(place, names) if place.is_dir() else _read_archive(place, edition.folder, names)
    read = _read_binary if edition.suffix else _read_pickle
    parts = [read(files[name], f"{place}: {name}", published, labels) for name in names]
    test = parts.pop()
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Split(Examples(stored.as_images(x, dtype), y), Examples(stored.as_images(test[0], dtype), test[1]))


def _place(root: Path, published: _Published, download: bool) -> tuple[Path, _Edition]:
    """The folder or the archive of the data set, and the edition that is in it."""
    for edition in (published.pickled, published.binary):
        if (root / edition.folder).is_dir():
            return root / edition.folder, edition
        if (root / edition.archive).is_file():
            return root / edition.archive, edition
        if all((root / (name + edition.suffix)).is_file() for name in published.train + published.test):
            return root, edition
    return stored.fetch(published.download, root, download), published.pickled


def _read_folder(folder: Path, names: list[str]) -> dict[str, bytes]:
    for name in names:
        if not (folder / name).is_file():
            raise DataError(f"{folder} holds no {name}")
    size = sum((folder / name).stat().st_size for name in names)
    if size > _MOST:
        raise DataError(f"{folder}: {size:,} bytes in {', '.join(names)} are more than CIFAR has")
    return {name: (folder / name).read_bytes() for name in names}


def _read_archive(path: Path, folder: str, names: list[str]) -> dict[str, bytes]:
    """The named files of a tar archive, read without unpacking it."""
    found: dict[str, bytes] = {}
    claimed = 0  # a sparse file has more bytes than the archive spends on it
    try:
        with gzip.open(path) as unzipped:
            limited = _Limited(unzipped)
            with tarfile.open(fileobj=cast(IO[bytes], limited), mode="r|", bufsize=_CHUNK) as archive:
                for member in archive:
                    directory, _, name = member.name.rpartition("/")
                    if directory.removeprefix("./") == folder and name in names and member.isfile():
                        claimed += member.size
                        if claimed > _MOST:
                            raise tarfile.ReadError(f"{name} claims to have {member.size:,} bytes")
                        content = archive.extractfile(member)
                        assert content is not None
                        whole = io.BytesIO()  # which grows in place, where read() would join a list
                        shutil.copyfileobj(content, whole, _CHUNK)
                        found[name] = whole.getvalue()
            while limited.read(_CHUNK):
                pass  # to the end, where the checksum is
    except _DAMAGES as error:
        raise DataError(f"{path}: a damaged archive: {error}") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise DataError(f"{path} holds no {folder}/{missing[0]}")
    return found


class _Limited:
    """An unzipped archive that has an end: a few bytes can unzip to a thousand times as many."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file, self._left = file, _MOST + _CHUNK

    def read(self, size: int) -> bytes:
        """Up to so many bytes.

        Raises:
            ReadError: where they are more than a data set has.
        """
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise tarfile.ReadError(f"it unzips to more than {_MOST:,} bytes")
        return content


def _read_pickle(content: bytes, where: str, published: _Published, labels: str) -> tuple[Array, Array]:
    batch = read_dict(content, where)
    data = batch.get("data")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (_PIXELS,):
        keys = reprlib.repr(sorted(batch))
        raise DataError(f"{where}: expected data, uint8 (N, {_PIXELS}), in the dictionary of {keys}")
    classes = dict(published.labels)[labels]
    return data.reshape(-1, *_SHAPE), stored.as_labels(batch.get(labels), len(data), classes, where)


def _read_binary(content: bytes, where: str, published: _Published, labels: str) -> tuple[Array, Array]:
    """Rows of a byte for each kind of label and the pixels."""
    kinds = [name for name, _ in published.labels]
    size = len(kinds) + _PIXELS
    if not content or len(content) % size:
        raise DataError(f"{where}: {len(content):,} bytes are no whole number of rows of {size:,}")
    rows = np.frombuffer(content, np.uint8).reshape(-1, size)
    y = stored.as_labels(rows[:, kinds.index(labels)], len(rows), dict(published.labels)[labels], where)
    return rows[:, len(kinds) :].reshape(-1, *_SHAPE), y
