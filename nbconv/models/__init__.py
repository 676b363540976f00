"""Networks of the lectures, one family a file."""

from __future__ import annotations

from collections.abc import Callable

from nbconv.models.lenet import lenet5
from nbconv.sequential import Sequential

__all__ = ["get", "lenet5", "names"]

_BUILDERS: dict[str, Callable[..., Sequential]] = {"lenet5": lenet5}


def names() -> list[str]:
    """The names that :func:`get` knows."""
    return sorted(_BUILDERS)


def get(name: str) -> Callable[..., Sequential]:
    """The function that builds the model of that name; it takes ``num_classes`` and ``in_channels``.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in _BUILDERS:
        raise ValueError(f"unknown model {name!r}; there are {', '.join(names())}")
    return _BUILDERS[name]
