"""Clipping of gradients before each step."""

from __future__ import annotations

from nbconv.callbacks.base import Callback, TrainingState
from nbconv.optim.clip import clip_grad_norm_, clip_grad_value_
from nbconv.parameter import Parameter


class ClipGradNorm(Callback):
    """Before each step, scales the gradients such that their norm is at most ``max_norm``.

    Attributes:
        norm: of the last step's gradients, before.

    Raises:
        ValueError: for a negative max_norm.
    """

    def __init__(self, max_norm: float) -> None:
        clip_grad_norm_([], max_norm)
        self.max_norm = max_norm
        self.norm = 0.0

    def on_step_begin(self, state: TrainingState) -> None:
        """Scale them."""
        self.norm = clip_grad_norm_(_parameters(state), self.max_norm)


class ClipGradValue(Callback):
    """Before each step, brings every element of the gradients into [-clip_value, clip_value].

    Raises:
        ValueError: for a negative clip_value.
    """

    def __init__(self, clip_value: float) -> None:
        clip_grad_value_([], clip_value)
        self.clip_value = clip_value

    def on_step_begin(self, state: TrainingState) -> None:
        """Clip them."""
        clip_grad_value_(_parameters(state), self.clip_value)


def _parameters(state: TrainingState) -> list[Parameter]:
    return [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
