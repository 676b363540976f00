"""The parity table's rows for augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
from parity_table import Call, Rng, call, case

from nbconv_kernels.augmentation import AFFINE_PADDINGS

# Input shape, output size.
SAMPLED: dict[str, tuple[tuple[int, ...], Any]] = {
    "one pixel": ((1, 1, 1, 1), None),
    "grey": ((3, 1, 9, 8), None),
    "colour": ((2, 3, 7, 11), None),
    "many channels": ((2, 37, 5, 4), None),
    "larger": ((2, 3, 4, 5), (9, 8)),
    "smaller": ((2, 2, 9, 6), (3, 5)),
    "one row": ((2, 3, 1, 6), None),
    "several threads": ((5, 3, 50, 60), None),
    "empty batch": ((0, 3, 5, 5), None),
}
IMAGES = ((2, 3, 5, 4), (3, 1, 7, 7), (1, 3, 1, 1), (7, 3, 40, 50), (0, 3, 4, 4))


def fill() -> None:
    """Put the rows into the table."""
    for name, (shape, size) in SAMPLED.items():
        for mode in AFFINE_PADDINGS:

            def random(rng: Rng, shape=shape, size=size, mode=mode) -> Call:
                maps = rng.normal(size=(shape[0], 2, 3))
                maps[:, :, 2] *= 3
                return call(rng.normal(size=shape), maps, size, mode, 0.5 if mode == "zeros" else 0.0)

            # A place's rounding error grows with the image, and a pixel's value with its place.
            case("affine_sample", f"{name}, {mode}", random, (shape[2] + shape[3]) ** 2)

    def exact(rng: Rng) -> Call:
        maps = [
            [[1, 0, 0], [0, 1, 0]],
            [[-1, 0, 0], [0, 1, 0]],
            [[1, 0, 2], [0, -1, -1]],
            [[0, 1, 0], [-1, 0, 0]],
        ]
        return call(rng.normal(size=(4, 3, 6, 6)), np.array(maps, np.float64))

    case("affine_sample", "mirrored and moved by whole pixels", exact, 4)
    case(
        "affine_sample",
        "far away",
        lambda rng: call(
            rng.normal(size=(1, 2, 4, 4)), np.array([[[1e30, 0, 1e29], [0, 1e30, -1e29]]]), None, "border"
        ),
        4,
    )
    for shape in IMAGES:
        n, _, h, w = shape
        name = str(shape)

        def noise(rng: Rng, shape=shape) -> Call:
            return call(rng.normal(size=shape), rng.uniform(0, 2, shape[0]), 12345678901, 2**63 + 7)

        def colors(rng: Rng, shape=shape) -> Call:
            return call(rng.uniform(0, 1, shape), *rng.uniform(0.5, 1.5, (3, shape[0])))

        def boxes(rng: Rng, n=n, h=h, w=w, shape=shape) -> Call:
            top, left = rng.integers(0, h + 1, n), rng.integers(0, w + 1, n)
            corners = [top, left, rng.integers(top, h + 1, n), rng.integers(left, w + 1, n)]
            return call(rng.normal(size=shape), np.stack(corners, axis=1), 0.25)

        def mixed(rng: Rng, n=n, shape=shape) -> Call:
            return call(rng.normal(size=shape), rng.integers(0, max(n, 1), n), rng.uniform(0, 1, n))

        case("gaussian_noise", name, noise, 4)
        case("color_jitter", name, colors, max(h * w, 1))
        case("erase_boxes", name, boxes)
        case("mix_images", name, mixed, 2)
    for name, factors in {"brightness": (0, 1, 1), "contrast": (1, 0, 1), "saturation": (1, 1, 0)}.items():

        def without(rng: Rng, factors=factors) -> Call:
            return call(rng.uniform(0, 1, (2, 3, 5, 4)), *np.full((2, 3), factors, np.float64).T, 0.1, 0.7)

        case("color_jitter", f"no {name}, narrow bounds", without, 20)
