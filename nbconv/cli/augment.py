"""Draw what augmentation does to the images of a data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nbconv import augment
from nbconv.augment import picture, recipes
from nbconv.cli import common, feeding
from nbconv.terminal import say

_SIZE = 32
_SHOWN = 24  # images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    common.add_data(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", required=True, help="where to draw (.png, .svg, .pdf)"
    )
    parser.add_argument("--draws", type=common.positive, default=8, help="of each transform (%(default)s)")
    parser.add_argument("--seed", type=common.natural, default=0, help="of the draws (%(default)s)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Draw, and return what was drawn."""
    train = feeding.some(common.data_set(options).load(options.size or _SIZE).train, options.workers, _SHOWN)
    transforms = gallery()
    picture.draw(transforms, train.x, options.output, draws=options.draws, seed=options.seed)
    say(f"wrote {options.output}")
    return {
        "command": "augment",
        "data": options.data,
        "seed": options.seed,
        "transforms": {name: repr(transform) for name, transform in transforms.items()},
    }


def gallery() -> dict[str, augment.Transform]:
    """Each transform, with arguments whose effect shows."""
    crop, flip = augment.RandomCrop(padding=4), augment.RandomHorizontalFlip()
    return {
        "crop": crop,
        "horizontal flip": flip,
        "vertical flip": augment.RandomVerticalFlip(),
        "rotation": augment.RandomRotation(180),
        "shift": augment.RandomShift(6),
        "rescale": augment.RandomRescale((0.6, 1.4)),
        "affine": augment.RandomAffine(20, (0.1, 0.1), (0.8, 1.2), 20),
        "noise": augment.GaussianNoise((0.05, 0.3)),
        "colours": augment.ColorJitter(0.5, 0.5, 0.5),
        "cutout": augment.Cutout(10, 0.5),
        "erasing": augment.RandomErasing(1.0, value=0.5),
        "mixup": augment.Mixup(),
        "handwriting": recipes.handwriting(),
        "all of these": augment.Compose(
            [crop, flip, augment.RandomAffine(20, shear=10), augment.GaussianNoise()]
        ),
    }
