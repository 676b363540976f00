"""What nbconv raises: every class is also the built-in exception that a caller would expect to catch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nbconv.typing import Shape


class NbconvError(Exception):
    """Base of all exceptions of nbconv."""


class BackendUnavailable(NbconvError, RuntimeError):  # noqa: N818 - a name of the published interface
    """The backend asked for cannot run here; the message says why and what would help."""


class PlacedError(NbconvError):
    """An error in a layer. Each container it passes through adds the layer's place in it.

    Attributes:
        message: what is wrong.
        layer: the class name of the layer, or "".
        position: the layer's place, as in the keys of a state dict ("3", "2.body.0"), or "".
    """

    def __init__(self, message: str, layer: str = "", position: str = "") -> None:
        super().__init__(message, layer, position)
        self.message = message
        self.layer = layer
        self.position = position

    def add_position(self, outer: str) -> None:
        """Say that the place known so far is inside the child ``outer`` of a container."""
        self.position = f"{outer}.{self.position}" if self.position else outer

    def __str__(self) -> str:
        if not self.layer:
            return self.message
        place = f" (layer {self.position})" if self.position else ""
        return f"{self.layer}{place}: {self.message}"


class LayerError(PlacedError, ValueError):
    """A layer was built with, or given, something it cannot work on."""


class DTypeError(PlacedError, TypeError):
    """A layer was given an array of a type of number it does not compute with."""


class NonFiniteError(PlacedError, ValueError):
    """NaN or infinity was found where finite numbers were asked for."""


class StateDictError(NbconvError, ValueError):
    """A state dict does not fit the model; nothing was loaded.

    Attributes:
        missing: keys of the model that the state dict lacks.
        unexpected: keys of the state dict that the model lacks.
        misshapen: for each tensor of a wrong shape, key -> (shape given, shape needed).
        unusable: key -> reason, for values that are no arrays of real numbers.
    """

    def __init__(
        self,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        misshapen: Mapping[str, tuple[Shape, Shape]] | None = None,
        unusable: Mapping[str, str] | None = None,
    ) -> None:
        self.missing = list(missing)
        self.unexpected = list(unexpected)
        self.misshapen = dict(misshapen or {})
        self.unusable = dict(unusable or {})
        lines = ["the state dict does not fit the model; nothing was loaded"]
        lines += [f"  missing: {key!r}" for key in self.missing]
        lines += [f"  unexpected: {key!r}" for key in self.unexpected]
        lines += [f"  misshapen: {key!r} is {a}, needs {b}" for key, (a, b) in self.misshapen.items()]
        lines += [f"  unusable: {key!r}: {reason}" for key, reason in self.unusable.items()]
        super().__init__("\n".join(lines))


class CheckpointError(NbconvError, ValueError):
    """A file is not a checkpoint that this version of nbconv can load; the message says why."""


class DataError(NbconvError, ValueError):
    """Arrays of examples and labels that cannot be trained on or evaluated."""
