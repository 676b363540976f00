"""The one-cycle policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from nbconv.optim import Optimizer
from nbconv.optim.base import Group
from nbconv.schedules.base import Schedule


class _Phase(NamedTuple):
    """From one learning rate, and one momentum, to another, at step ``end``."""

    end: float
    lr: tuple[str, str]
    momentum: tuple[str, str]


class OneCycleLR(Schedule):
    """Up to ``max_lr`` and down to almost nothing in one run, the momentum going the other way.

    Args:
        optimizer: whose rates to set; what it has now does not matter.
        max_lr: the peak, one number or one a group.
        total_steps: in the cycle; or give the next two.
        epochs: times ``steps_per_epoch`` are the steps in the cycle.
        steps_per_epoch: of the optimiser.
        pct_start: the share of the steps that go up.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: whether momentum (of Adam and Lion: the first beta) goes the other way.
        base_momentum: where the rate is highest.
        max_momentum: where it is lowest.
        div_factor: the start is max_lr divided by this.
        final_div_factor: the end is the start divided by this.
        three_phase: go down to the start as fast as up, and only then to the end.
        per: what to step after: "step" of the optimiser, or "epoch".

    Raises:
        ValueError: for arguments out of range; from ``step`` behind the end of the cycle.

    Source: Smith and Topin, "Super-convergence: very fast training of neural networks using large learning
    rates", 2018; the defaults are PyTorch's.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        *,
        per: str = "step",
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: needs total_steps, or epochs and steps_per_epoch")
            total_steps = epochs * steps_per_epoch
        if total_steps < 1:
            raise ValueError(f"OneCycleLR: expected at least one step, got {total_steps}")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: pct_start must be in [0, 1], got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                f'OneCycleLR: anneal_strategy must be "cos" or "linear", got {anneal_strategy!r}'
            )
        groups = optimizer.param_groups
        self.max_lrs = [float(max_lr)] * len(groups) if isinstance(max_lr, int | float) else list(max_lr)
        if len(self.max_lrs) != len(groups):
            raise ValueError(f"OneCycleLR: {len(groups)} groups, but {len(self.max_lrs)} of max_lr")
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self.base_momentum, self.max_momentum = base_momentum, max_momentum
        self.div_factor, self.final_div_factor = div_factor, final_div_factor
        if cycle_momentum and not {"momentum", "betas"} & set(optimizer.defaults):
            raise ValueError(f"OneCycleLR: {type(optimizer).__name__} has no momentum to cycle")
        top = pct_start * total_steps - 1
        up = _Phase(top, ("start", "max"), ("max", "base"))
        if three_phase:
            down = _Phase(2 * top, ("max", "start"), ("base", "max"))
            self._phases = [up, down, _Phase(total_steps - 1, ("start", "end"), ("max", "max"))]
        else:
            self._phases = [up, _Phase(total_steps - 1, ("max", "end"), ("base", "max"))]
        for group, peak in zip(groups, self.max_lrs, strict=True):
            group["initial_lr"] = peak / div_factor
        super().__init__(optimizer, per)

    def _rates(self) -> list[Any]:
        """Rate and momentum of each group; no momentum where it is not cycled."""
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(f"OneCycleLR: step {step} of a cycle of {self.total_steps}")
        phase, share = self._phase(step)
        momentums = {"max": self.max_momentum, "base": self.base_momentum}
        first, last = phase.momentum
        momentum = self._between(momentums[first], momentums[last], share) if self.cycle_momentum else None
        found: list[Any] = []
        for peak in self.max_lrs:
            start = peak / self.div_factor
            rates = {"start": start, "max": peak, "end": start / self.final_div_factor}
            found.append([self._between(rates[phase.lr[0]], rates[phase.lr[1]], share), momentum])
        return found

    def _set_rates(self) -> None:
        for group, (rate, momentum) in zip(self.optimizer.param_groups, self._rates(), strict=True):
            group["lr"] = rate
            if momentum is not None:
                _set_momentum(group, momentum)

    def _phase(self, step: int) -> tuple[_Phase, float]:
        """The phase that a step is in, and how much of it is over."""
        start = 0.0
        for phase in self._phases[:-1]:
            if step <= phase.end:
                break
            start = phase.end
        else:
            phase = self._phases[-1]
        length = phase.end - start
        return phase, (step - start) / length if length else 1.0

    def _between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return start + (end - start) * share
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def _set_momentum(group: Group, momentum: float) -> None:
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    else:
        group["momentum"] = momentum
