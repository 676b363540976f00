"""Texts: TOML of options, lists of transforms, and the JSON of a run's folder."""

from __future__ import annotations

import functools
import json

from .damage import TEXTS, Mutation, Random, one_of

CONFIG = b"""# options of nbconv train
model = "lenet5"
epochs = 3
batch_size = 32
lr = 0.01
momentum = 0.9
nesterov = true
optimizer = "sgd"
schedule = "multistep"
milestones = [1, 2]
warmup = 1
gamma = 0.5
augment = "RandomCrop(padding=4), Cutout(8)"
label-smoothing = 0.1
clip_grad_norm = 1.0
early_stopping = 4
seed = 7
size = 28
quiet = true
"""

TRANSFORMS = (
    "none", "affine", "crop-flip", "RandomCrop(padding=4), RandomHorizontalFlip, Cutout(8)",
    "RandomAffine(15, translate=(0.1, 0.1), scale=(0.8, 1.2), shear=(-20, 20, -10, 10))", "Mixup(0.2)",
    "GaussianNoise((0.05, 0.3)), ColorJitter(0.5, 0.5, 0.5)", "RandomVerticalFlip(p=0.5)",
    "RandomErasing(1.0, value=0.5), RandomRotation(180)", "RandomShift(6), RandomRescale((0.6, 1.4))",
)  # fmt: skip


def toml_value(data: bytes, rng: Random) -> bytes:
    """Another value behind an equals sign."""
    lines = data.decode("utf-8", "replace").split("\n")
    at = int(rng.integers(len(lines)))
    lines[at] = lines[at].partition("=")[0] + "= " + one_of(rng, *_TOML)
    return "\n".join(lines).encode()


_TOML = (
    *TEXTS, '""', '"\\u0000"', '"""', "[]", "[1, [2, [3]]]", "{a = 1}", "true", "inf", "nan", "1979-05-27",
    "0x7f",
    *("[" * 5000, "[" * 300 + "]" * 300, "{a=" * 3000, '"lenet5"', '"é"', "[true, \"x\"]", "1e400",
    '"' + "x" * 9000),
)  # fmt: skip


def toml_key(data: bytes, rng: Random) -> bytes:
    """A line more."""
    key = one_of(
        rng, "resume", "config", "recipe", "help", "json", "a.b.c", "x", '""', "ema", "layer_lrs",
        "weight-decay",
        "workers", "resize", "data", "preprocess", "whiten", "accumulate", "find_lr", "freeze_base",
        ".".join("a" * 3000),
    )  # fmt: skip
    line = f"{key} = {one_of(rng, *_TOML)}".encode()
    at = int(rng.integers(len(data) + 1)) if rng.random() < 0.2 else data.rfind(b"\n") + 1
    return data[:at] + b"\n" + line + b"\n" + data[at:]


TOML: tuple[Mutation, ...] = (toml_value, toml_value, toml_key)


def transform(data: bytes, rng: Random) -> bytes:
    """Other words, brackets and numbers."""
    words = (
        data.decode("utf-8", "replace").replace("(", " ( ").replace(")", " ) ").replace(",", " , ").split(" ")
    )
    words[int(rng.integers(len(words)))] = one_of(rng, *_WORDS)
    return "".join(words).encode("utf-8", "surrogatepass")


_WORDS = (
    *TEXTS, "(", ")", ",", "[", "'", '"', "=", "**{}", "*[1]", "lambda: 0", "__import__('os')", "None",
    "True", "1j",
    *("RandomCrop", "Mixup", "Compose", "Transform", "x=1", "padding=-1", "p=2", "scale=(2,1)", "b'x'",
    "{1}", "...", "é"),
    *("(" * 500, "[" * 90 + "]" * 90, "-" * 5000 + "1", "not " * 3000, "1+" * 3000 + "1", "(1,(" * 60,
    "1<<9**9", "f'{1}'"),
    *("(" * 150 + "1" + ")" * 150, "a." * 3000 + "b", "{" * 80 + "}" * 80, "\x00", "\ud800", "#", "\n", "\\"),
)  # fmt: skip

AUGMENT: tuple[Mutation, ...] = (transform, transform, transform)


@functools.cache
def histories() -> list[bytes]:
    numbers = {
        "loss": [2.0, 1.0],
        "accuracy": [0.5, 0.75],
        "val_loss": [1.5, 1.2],
        "lr": [0.1, 0.05],
        "seconds": [1, 1],
    }
    return [json.dumps({"history": numbers, "interrupted": False}, indent=1).encode()]


@functools.cache
def settings() -> list[bytes]:
    told = {
        "command": "train",
        "data": "digits",
        "data_root": "data",
        "size": 28,
        "model": "lenet5",
        "seed": 0,
    }
    measured = {
        "epochs": 2,
        "test_accuracy": 0.5,
        "seconds": 1.5,
        "classes": list("0123456789"),
        "channels": 1,
    }
    return [json.dumps({**told, **measured}, indent=1).encode()]
