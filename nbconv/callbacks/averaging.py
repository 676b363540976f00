"""Averages of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nbconv import backends
from nbconv.callbacks.base import Callback, TrainingState
from nbconv.parameter import Parameter
from nbconv.typing import Array

if TYPE_CHECKING:
    from nbconv.layers import Layer


class EMA(Callback):
    """Keeps an exponential moving average of the weights, which is often better than the weights themselves.

    After each step ``average = decay * average + (1 - decay) * weight``, beginning with the weights after the
    first one. Training goes on with the weights; the model holds the averages from the end of each epoch's
    training on (in validation, in other callbacks' ``on_epoch_end``, in checkpoints written there) until the
    next epoch begins, and after the run. Running means and variances are averaged alike: those of the last
    batches would not fit the averages of the weights.

    Args:
        decay: how much of the average is kept at each step.

    Raises:
        ValueError: unless 0 <= decay < 1.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; the first step
    is that of PyTorch's AveragedModel.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"EMA: decay must be in [0, 1), got {decay}")
        self.decay = decay
        self._parameters: dict[str, Parameter] = {}
        self._buffers: dict[str, tuple[Layer, str]] = {}
        self._average: dict[str, Array] = {}
        self._weights: dict[str, Array] = {}  # those to train on with, while the model holds the averages

    def on_train_begin(self, state: TrainingState) -> None:
        """Begin a new average of the parameters that are trained."""
        self._parameters = {
            name: parameter for name, parameter in state.model.named_parameters() if parameter.requires_grad
        }
        self._buffers = {
            f"{position}.{name}": (layer, name)
            for position, layer in state.model.named_layers()
            for name in layer.buffer_names
            if getattr(layer, name) is not None and getattr(layer, name).dtype.kind == "f"
        }
        self._average, self._weights = {}, {}

    def on_epoch_begin(self, state: TrainingState) -> None:
        """Put the weights back."""
        if self._weights:
            self._set(self._weights)
            self._weights = {}

    def on_batch_end(self, state: TrainingState) -> None:
        """Add the weights to the average."""
        if not state.stepped:
            return
        if not self._average:
            self._average = self._copies()
            return
        for name, parameter in self._parameters.items():
            self._follow(name, parameter.data)
        for key, (layer, name) in self._buffers.items():
            self._follow(key, getattr(layer, name))

    def on_epoch_trained(self, state: TrainingState) -> None:
        """Give the model the averages."""
        if self._average and not self._weights:
            self._weights = self._copies()
            self._set(self._average)

    def on_train_end(self, state: TrainingState) -> None:
        """Give the model the averages, if it has not got them yet."""
        if state.at_rest:
            self.on_epoch_trained(state)

    def state_dict(self) -> dict[str, Any]:
        """The average, and the weights behind it where the model does not hold them."""
        return {"decay": self.decay, "average": _numpy(self._average), "weights": _numpy(self._weights)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: if it averaged something else.
        """
        self._average = self._placed(state_dict["average"])
        self._weights = self._placed(state_dict["weights"])

    def _follow(self, key: str, value: Array) -> None:
        """Let an average follow a value.

        By the distance between them, of which rounding loses little: decay * average, rounded at each step,
        would lose what a thousandth of the value adds. With a decay near 0 it stays behind the value instead.
        """
        average = self._average[key]
        if self.decay >= 0.5:
            backends.get(self._backend(key)).add_scaled(average, value - average, 1 - self.decay)
        else:
            self._average[key] = value - self.decay * (value - average)

    def _copies(self) -> dict[str, Array]:
        return {name: array.copy() for name, array in self._here().items()}

    def _placed(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        here = self._here()
        placed = {}
        for name, array in arrays.items():
            if name not in here or np.shape(array) != here[name].shape:
                raise ValueError(f"it has an average of {name!r}, of shape {np.shape(array)}")
            placed[name] = backends.to_backend(np.array(array, here[name].dtype), self._backend(name))
        return placed

    def _here(self) -> dict[str, Array]:
        """What is averaged, as the model holds it."""
        parameters = {name: parameter.data for name, parameter in self._parameters.items()}
        return {**parameters, **{key: getattr(layer, name) for key, (layer, name) in self._buffers.items()}}

    def _backend(self, name: str) -> str:
        return self._parameters[name].backend if name in self._parameters else self._buffers[name][0].backend

    def _set(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            if name in self._parameters:
                self._parameters[name].data = array
            else:
                layer, buffer = self._buffers[name]
                setattr(layer, buffer, array.copy())


def _numpy(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: backends.to_numpy(array) for name, array in arrays.items()}
