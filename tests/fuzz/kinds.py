"""The kinds of damaged input, and who reads each: functions of nbconv and commands."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

import nbconv as nb
from nbconv.data.picture import read_picture
from nbconv.report import load_run
from nbconv.training import snapshot

from .guard import command
from .inputs import archives, arrays, models, pictures, texts, trees
from .inputs.damage import Mutation, Random, damaged, one_of

Reader = Callable[[Path], object]
"""Takes the damaged file, in a folder that is its own."""


class Kind(NamedTuple):
    """Files of one format.

    Attributes:
        place: of the file in its folder.
        bases: well-formed files.
        own: mutations that know the format.
        readers: all who read it.
    """

    place: str
    bases: Callable[[], list[bytes]]
    own: tuple[Mutation, ...]
    readers: tuple[Reader, ...]


class Call(NamedTuple):
    """What is not read from a file: makes arguments, and calls with them."""

    call: Callable[[Random], object]


# Models and checkpoints


def _weights(path: Path) -> None:
    nb.models.lenet5(weights=path, backend="reference")


def _resumed(path: Path) -> None:
    models.fit(nb.Adam, [], resume=path)


def _run_command(name: str, *arguments: str) -> Reader:
    """Runs a command; "{}" stands for the file, "{folder}" for its folder."""

    def read(path: Path) -> None:
        command(name, *(argument.format(path, folder=path.parent) for argument in arguments))

    read.__name__ = f"nbconv_{name}"
    return read


_BACKEND = "--backend=reference"
_MODEL_READERS: tuple[Reader, ...] = (
    *[functools.partial(nb.load, backend="reference")] * 4,
    nb.serialization.read_extra,
    _weights,
    functools.partial(load_run, backend="reference"),
    _run_command("evaluate", "{}", _BACKEND, "--json"),
    _run_command("predict", "{folder}/picture.png", "--model={}", _BACKEND),
    _run_command("report", "{}", _BACKEND),
    _run_command("train", "--weights={}", _BACKEND, "--quiet"),
)
_CHECKPOINT_READERS = (
    *[snapshot.load, _resumed] * 3,
    functools.partial(nb.load, backend="reference"),
    functools.partial(load_run, backend="reference"),
    _run_command("train", "--resume={}", _BACKEND, "--quiet"),
    _run_command("report", "{}", _BACKEND),
    _run_command("evaluate", "{}", _BACKEND),
)

# Data sets


def _cifar10(path: Path) -> None:
    nb.data.cifar10(path.parent, download=False)


def _cifar10_batch(path: Path) -> None:
    """One batch is damaged, the others are whole."""
    suffix = path.suffix
    bases = archives.binary_batches() if suffix else archives.pickles()
    for name in archives.BATCHES:
        if not (other := path.with_name(name + suffix)).exists():
            other.write_bytes(bases[0])
    _cifar10(path)


def _mnist(path: Path) -> None:
    images, labels = archives.idx_files()[:2]
    for name, content in (("images-idx3", images), ("labels-idx1", labels)):
        for part in ("train", "t10k"):
            if not (other := path.with_name(f"{part}-{name}-ubyte")).exists():
                other.write_bytes(content)
    nb.data.mnist(path.parent, download=False)


_MNIST_COMMAND = _run_command(
    "evaluate", "{folder}/model.safetensors", "--data=mnist", "--data-root={folder}", _BACKEND
)

# Pictures


def _image_folder(path: Path) -> None:
    for x, _ in nb.data.DataLoader(nb.data.ImageFolder(path.parent, 8), 4, num_workers=2):
        assert x.shape[1:] == (3, 8, 8)


def _as_class(path: Path) -> Path:
    """A folder of classes, one of them with the picture."""
    root = path.parent / "pictures"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / f"x{path.suffix}").write_bytes(path.read_bytes())
    return root


def _trained_on(path: Path) -> None:
    command("train", f"--data={_as_class(path)}", _BACKEND, "--quiet", "--size=32")


def _drawn(path: Path) -> None:
    command("augment", f"--data={_as_class(path)}", f"--output={path.parent}/drawn.png")


_PICTURE_READERS: tuple[Reader, ...] = (
    *(
        functools.partial(read_picture, channels=channels, size=size)
        for channels in (1, 3)
        for size in (None, (8, 8))
    ),
    *[functools.partial(nb.data.read_digit, size=28)] * 3,
    lambda path: _image_folder(_as_class(path) / "x"),
    _run_command("predict", "{}", "--model={folder}/model.safetensors", _BACKEND, "--json"),
    _trained_on,
    _drawn,
)

# Texts


def _augmented(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "replace")
    command("train", f"--augment={text}", "--quiet", _BACKEND, "--output=model.safetensors")


def _history(path: Path) -> None:
    (path.parent / "model.safetensors").write_bytes(models.models()[0])
    load_run(path.parent, "reference")


# Arrays


def _state_dict(rng: Random) -> None:
    given = arrays.state_dict(rng)
    try:
        models.small_network().load_state_dict(given, strict=bool(rng.random() < 0.7))
    except TypeError:  # said of what is no state dict at all
        if isinstance(given, Mapping):
            raise


def _fit(rng: Random) -> None:
    count = int(rng.integers(1, 6))
    x, y = arrays.inputs(count, rng), arrays.labels(count, rng)
    model = models.small_network()
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters()))
    with np.errstate(all="ignore"):
        match one_of(rng, "fit", "evaluate", "validate", "predict"):
            case "fit":
                trainer.fit(x, y, epochs=1, verbose=False)
            case "evaluate":
                trainer.evaluate(x, y)
            case "validate":
                good = np.zeros((4, 1, 28, 28), np.float32), np.arange(4)
                trainer.fit(*good, epochs=1, validation_data=(x, y), verbose=False)
            case "predict":
                model.predict(x)


KINDS: dict[str, Kind | Call] = {
    "model": Kind("model.safetensors", models.models, models.OWN, _MODEL_READERS),
    "checkpoint": Kind("run.safetensors", models.checkpoints, models.OWN, _CHECKPOINT_READERS),
    "idx": Kind(
        "t10k-images-idx3-ubyte.gz",
        archives.idx_files,
        archives.IDX,
        (nb.data.read_idx, _mnist, _MNIST_COMMAND),
    ),
    "pickle": Kind("data_batch_3", archives.pickles, archives.PICKLES, (_cifar10_batch,)),
    "binary batch": Kind("data_batch_3.bin", archives.binary_batches, (), (_cifar10_batch,)),
    "archive": Kind("cifar-10-python.tar.gz", archives.archives, archives.ARCHIVES, (_cifar10,)),
    **{
        suffix: Kind(
            f"picture.{suffix}", functools.partial(pictures.pictures().get, suffix), own, _PICTURE_READERS
        )
        for suffix, own in pictures.OWN.items()
        if suffix in pictures.pictures()
    },
    "toml": Kind(
        "options.toml",
        lambda: [texts.CONFIG],
        texts.TOML,
        (_run_command("train", "--config={}", _BACKEND, "--quiet", "--data=digits"),),
    ),
    "augment": Kind(
        "transforms.txt",
        lambda: [text.encode() for text in texts.TRANSFORMS],
        texts.AUGMENT,
        (_augmented,),
    ),
    "history": Kind(
        "history.json",
        texts.histories,
        (trees.in_json,) * 3,
        (_history, _run_command("report", "{folder}", _BACKEND)),
    ),
    "settings": Kind(
        "run.json",
        texts.settings,
        (trees.in_json,) * 3,
        (_history, _run_command("report", "{folder}", _BACKEND)),
    ),
    "state dict": Call(_state_dict),
    "examples and labels": Call(_fit),
}


def damaged_file(kind: Kind, rng: Random) -> bytes:
    return damaged(kind.bases(), kind.own, rng)
