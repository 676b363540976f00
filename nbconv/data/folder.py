"""A folder of pictures as a data set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from nbconv.data.picture import read_picture
from nbconv.errors import DataError
from nbconv.typing import Array, Pair

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class ImageFolder:
    """The pictures in a folder that has a folder for each class; each is decoded when it is asked for.

    ``folder[i]`` is (x, y): x uint8 (channels, H, W), y the number of the class. Pictures in folders inside a
    class's folder count too; names that begin with a dot do not. A :class:`DataLoader` makes float32 batches
    of them.

    Args:
        root: of the folder.
        size: height and width to give all pictures, by resizing until they cover it and cutting the middle
            out; None leaves them as they are.
        resize: pixels to bring the shorter side to before the middle is cut out, such as 256 for a size of
            224; None shrinks as far as the size allows.
        channels: 3, or 1 for greyscale.

    Attributes:
        classes: their names, sorted: those of the folders.
        paths: of the pictures, class by class, sorted in each.
        targets: int64 (N,), the class of each.

    Raises:
        DataError: when there are no class folders, or one has no pictures.
        ValueError: for an impossible argument.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        size: int | Pair | None = None,
        *,
        resize: int | None = None,
        channels: int = 3,
    ) -> None:
        self.root = Path(root)
        self.size = (size, size) if isinstance(size, int) else size
        self.resize = resize
        self.channels = channels
        if channels not in (1, 3):
            raise ValueError(f"ImageFolder: expected channels of 1 or 3, got {channels}")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"ImageFolder: expected a size of at least 1 x 1, got {self.size}")
        if resize is not None and (self.size is None or resize < max(self.size)):
            raise ValueError(f"ImageFolder: a resize of {resize} does not hold a size of {self.size}")
        if not self.root.is_dir():
            raise DataError(f"ImageFolder: there is no folder {self.root}")
        folders = [entry for entry in self.root.iterdir() if entry.is_dir() and entry.name[0] != "."]
        self.classes = sorted(folder.name for folder in folders)
        if not self.classes:
            raise DataError(f"ImageFolder: {self.root} has no folders, one for each class")
        self.paths: list[Path] = []
        targets: list[int] = []
        for number, name in enumerate(self.classes):
            found = pictures_in(self.root / name)
            if not found:
                raise DataError(f"ImageFolder: there are no pictures in {self.root / name}")
            self.paths += found
            targets += [number] * len(found)
        self.targets = np.array(targets, np.int64)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> tuple[Array, int]:
        picture = read_picture(self.paths[index], self.channels, self.size, self.resize)
        return picture, int(self.targets[index])


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder and those inside it, sorted; to open a pipe would be to wait for ever."""
    found, folders = [], [os.fspath(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name[0] == ".":
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif Path(entry.name).suffix.lower() in _SUFFIXES and _may_be_file(entry):
                    found.append(Path(entry.path))
    return sorted(found)


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    """Whether something is a file, or a link to nothing, which is an error when it is read."""
    return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
