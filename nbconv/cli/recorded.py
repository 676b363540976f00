"""What ``nbconv train`` keeps with a model for other commands: what its images were, and their classes.

Whoever gave the file away wrote this as well. So it tells of sizes and names, and never of where to read:
only the digits, which come with nbconv, are taken because a file says so.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbconv import serialization
from nbconv.report.run import MODEL

_LARGEST = 1024  # pixels: what is larger is asked for on the command line, for it costs memory


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
    numbers = {key: entries[key] for key in ("size", "resize", "channels") if _can_be(key, entries.get(key))}
    classes = entries.get("classes")
    are_names = isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes)
    return Recorded(**texts, **numbers, classes=tuple(classes or ()) if are_names else None)


def _can_be(key: str, value: Any) -> bool:
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return value in (1, 3) if key == "channels" else 0 < value <= _LARGEST
