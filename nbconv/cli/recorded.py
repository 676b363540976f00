"""What ``nbconv train`` keeps with a model for other commands: what its images were, and their classes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbconv import serialization
from nbconv.report.run import MODEL


@dataclass
class Recorded:
    """What is known of the images that a model was trained on; None where nothing is.

    Attributes:
        data: a name, or a folder.
        data_root: where the files of a published data set were.
        size: height and width.
        resize: what a folder's pictures were resized to before.
        channels: 1 or 3.
        classes: their names.
    """

    data: str | None = None
    data_root: str | None = None
    size: int | None = None
    resize: int | None = None
    channels: int | None = None
    classes: tuple[str, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """The same, as a file holds it."""
        return asdict(self)


def model_file(path: str | os.PathLike[str]) -> Path:
    """The file of a model, which may be given by the folder of its run."""
    return Path(path) / MODEL if Path(path).is_dir() else Path(path)


def recorded(path: str | os.PathLike[str]) -> Recorded:
    """What a model's file, or the folder of a run, tells. What is of another program is passed over.

    Raises:
        CheckpointError: if it is no safetensors file.
        OSError: if it cannot be read.
    """
    extra = serialization.read_extra(model_file(path))
    return read(extra) if isinstance(extra, Mapping) else Recorded()


def read(entries: Mapping[str, Any]) -> Recorded:
    """What some entries tell, each only if it can be true."""
    texts = {key: entries[key] for key in ("data", "data_root") if isinstance(entries.get(key), str)}
    numbers = {
        key: entries[key]
        for key in ("size", "resize", "channels")
        if isinstance(entries.get(key), int) and entries[key] > 0
    }
    classes = entries.get("classes")
    names = tuple(map(str, classes)) if isinstance(classes, list | tuple) else None
    return Recorded(**texts, **numbers, classes=names)
