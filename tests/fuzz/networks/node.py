"""A network as a description, from which the same one can be built many times, and smaller ones.

A description says nothing of the input's size: a layer is built when the shape that reaches it is known. So
what is left still fits together where the shrinker has taken something out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import nbconv as nb

Shape = tuple[int, ...]
Path = tuple["Node", ...]
Make = Callable[..., nb.Layer]


@dataclass(frozen=True)
class Node:
    """A layer: what makes it from the shape of its input, with which options, around which paths."""

    make: Make
    options: dict[str, Any] = field(default_factory=dict)
    paths: tuple[Path, ...] = ()

    def __str__(self) -> str:
        told = [f"{name}={value!r}" for name, value in self.options.items()]
        told += [f"[{', '.join(map(str, path))}]" for path in self.paths]
        return f"{self.make.__name__}({', '.join(told)})"


def build(path: Path, shape: Shape) -> tuple[list[nb.Layer], Shape]:
    """The layers of a path on an input of ``shape``, and the shape that they give.

    Raises:
        ValueError: if they do not fit.
    """
    layers: list[nb.Layer] = []
    for node in path:
        inside = [build(inner, shape)[0] for inner in node.paths]
        layer = node.make(shape, *(nb.Sequential(*parts) for parts in inside), **node.options)
        shape = layer.output_shape(shape)
        layers.append(layer)
    return layers, shape


def smaller(path: Path) -> Iterator[Path]:
    """Paths with something left out, the largest pieces first."""
    size = len(path)
    while size:
        for start in range(0, len(path) - size + 1, size):
            yield path[:start] + path[start + size :]
        size //= 2
    for place, node in enumerate(path):
        before, after = path[:place], path[place + 1 :]
        for inner in node.paths:
            yield before + inner + after
        for number, inner in enumerate(node.paths):
            for less in smaller(inner):
                paths = (*node.paths[:number], less, *node.paths[number + 1 :])
                yield (*before, replace(node, paths=paths), *after)
