"""Transforms one after the other."""

# ``__call__`` and ``ignoring`` are described in transform.py.
# ruff: noqa: D102

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from nbconv import backends
from nbconv.augment.seeds import Draws
from nbconv.augment.targets import follow_pixels, nearest_sample
from nbconv.augment.transform import Geometric, Transform, check_images
from nbconv.typing import Array, Pair


class Compose(Transform):
    """Transforms one after the other; runs of geometric ones become one bilinear sampling.

    Args:
        transforms: the first to act is the first; a ``Compose`` among them stands for its own.
        backend: where to compute; None for where the images are.
        ignore_index: label of pixels that come from beyond an image's edge, where targets are labels of
            pixels, (N, H, W): that which the loss ignores. ``Trainer.fit`` takes the loss's for None.

    Raises:
        ValueError: when something among them is no transform, or the backend is unknown.
        BackendUnavailable: when the backend cannot run here.
    """

    def __init__(
        self,
        transforms: Sequence[Transform],
        *,
        backend: str | None = None,
        ignore_index: int | None = None,
    ) -> None:
        self.transforms = tuple(transforms)
        for transform in self.transforms:
            if not isinstance(transform, Transform):
                raise self.error(f"expected transforms, got {transform!r}")
        if backend is not None:
            backends.check(backend)
        self.backend = backend
        self.ignore_index = None if ignore_index is None else int(ignore_index)
        self._steps = tuple(_flat(self.transforms))

    def __call__(self, x: Array, y: Array, seed: int) -> tuple[Array, Array]:
        x, y = backends.array_of(x), backends.to_numpy(y)
        check_images(x, y)
        name = self.backend or backends.of_array(x)
        ops, x = backends.get(name), backends.to_backend(x, name)
        motion: _Motion | None = None
        for place, step in enumerate(self._steps):
            draws = Draws(seed, place, len(x))
            if motion is not None and not motion.goes_with(step):
                x, y, motion = *motion.sample(ops, x, y, self.ignore_index), None
            if isinstance(step, Geometric):
                motion = (motion or _Motion(x.shape[2:])).then(step, draws)
            else:
                x, y = step.change(ops, x, y, draws)
        return (x, y) if motion is None else motion.sample(ops, x, y, self.ignore_index)

    def ignoring(self, ignore_index: int | None) -> Compose:
        if self.ignore_index is not None:
            return self
        ignoring = copy.copy(self)
        ignoring.ignore_index = ignore_index
        return ignoring

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"


def _flat(transforms: Sequence[Transform]) -> list[Transform]:
    steps: list[Transform] = []
    for transform in transforms:
        steps += _flat(transform.transforms) if isinstance(transform, Compose) else [transform]
    return steps


@dataclass(frozen=True)
class _Motion:
    """Geometric transforms that were not carried out yet, as one: matrices None stand for none."""

    size: Pair
    matrices: Array | None = None
    padding_mode: str | None = None
    fill: float = 0.0

    def goes_with(self, step: Transform) -> bool:
        """Whether ``step`` can be carried out in the same sampling."""
        if not isinstance(step, Geometric):
            return False
        if self.padding_mode is None or step.padding_mode is None:
            return True
        return (self.padding_mode, self.fill) == (step.padding_mode, step.fill)

    def then(self, step: Geometric, draws: Draws) -> _Motion:
        """These transforms, followed by ``step``."""
        matrices, size = step.move(draws, self.size)
        if self.matrices is not None:
            turned = self.matrices[:, :, :2] @ matrices
            turned[:, :, 2] += self.matrices[:, :, 2]
            matrices = turned
        if step.padding_mode is None:
            return _Motion(size, matrices, self.padding_mode, self.fill)
        return _Motion(size, matrices, step.padding_mode, step.fill)

    def sample(self, ops: ModuleType, x: Array, y: Array, ignore_index: int | None) -> tuple[Array, Array]:
        """Images, and their targets if those are of pixels, with the transforms carried out."""
        assert self.matrices is not None
        mode = self.padding_mode or "zeros"
        if follow_pixels(y, x.shape[2:]):
            y = nearest_sample(y, self.matrices, self.size, mode, ignore_index)
        return ops.affine_sample(x, self.matrices, self.size, mode, self.fill), y
