"""Schedules that are a formula of the step."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from nbconv.optim import Optimizer
from nbconv.schedules.base import Schedule


class StepLR(Schedule):
    """``base * gamma ** (step // step_size)``: divided by 10, or multiplied by ``gamma``, every so often.

    Raises:
        ValueError: if step_size is less than 1.
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, *, per: str = "epoch"
    ) -> None:
        if step_size < 1:
            raise ValueError(f"StepLR: step_size must be at least 1, got {step_size}")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, per)

    def rate(self, base: float, step: int) -> float:
        """``base * gamma ** (step // step_size)``."""
        return float(base * self.gamma ** (step // self.step_size))


class MultiStepLR(Schedule):
    """Multiplied by ``gamma`` at each of the milestones."""

    def __init__(
        self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, *, per: str = "epoch"
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, per)

    def rate(self, base: float, step: int) -> float:
        """``base * gamma ** (milestones up to step)``."""
        return float(base * self.gamma ** bisect_right(self.milestones, step))


class ExponentialLR(Schedule):
    """Multiplied by ``gamma`` at each step: ``base * gamma ** step``."""

    def __init__(self, optimizer: Optimizer, gamma: float, *, per: str = "epoch") -> None:
        self.gamma = gamma
        super().__init__(optimizer, per)

    def rate(self, base: float, step: int) -> float:
        """``base * gamma ** step``."""
        return float(base * self.gamma**step)


class CosineAnnealingLR(Schedule):
    """Half a cosine wave from the rate of the start down to ``eta_min`` after ``T_max`` steps, then up again.

    Raises:
        ValueError: if T_max is less than 1.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, without
    restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, *, per: str = "epoch") -> None:
        if T_max < 1:
            raise ValueError(f"CosineAnnealingLR: T_max must be at least 1, got {T_max}")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, per)

    def rate(self, base: float, step: int) -> float:
        """``eta_min + (base - eta_min) * (1 + cos(pi * step / T_max)) / 2``."""
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * step / self.T_max)) / 2


class LinearLR(Schedule):
    """A warm-up: from ``start_factor`` to ``end_factor`` times the rate, in ``total_iters`` equal steps.

    Raises:
        ValueError: if total_iters is less than 1, or a factor is not in [0, 1], or the first is 0.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        *,
        per: str = "epoch",
    ) -> None:
        if not (0 < start_factor <= 1 and 0 <= end_factor <= 1):
            raise ValueError(f"LinearLR: factors must be in [0, 1], got {start_factor} and {end_factor}")
        if total_iters < 1:
            raise ValueError(f"LinearLR: total_iters must be at least 1, got {total_iters}")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, per)

    def rate(self, base: float, step: int) -> float:
        """``base`` times a factor on the line between the two."""
        share = min(step, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * share)


class LambdaLR(Schedule):
    """``base * lr_lambda(step)``; the function is not saved in checkpoints."""

    def __init__(
        self, optimizer: Optimizer, lr_lambda: Callable[[int], float], *, per: str = "epoch"
    ) -> None:
        self.lr_lambda = lr_lambda
        super().__init__(optimizer, per)

    def rate(self, base: float, step: int) -> float:
        """``base * lr_lambda(step)``."""
        return base * self.lr_lambda(step)


class SequentialLR(Schedule):
    """One schedule after another, such as a warm-up and what follows; each counts steps from its own start.

        warmup = nb.schedules.LinearLR(optimizer, 0.1, total_iters=5)
        rest = nb.schedules.CosineAnnealingLR(optimizer, T_max=25)
        schedule = nb.schedules.SequentialLR(optimizer, [warmup, rest], milestones=[5])

    Args:
        optimizer: the one that all schedules were made for.
        schedulers: of the formulas above; they need not be given to ``fit``.
        milestones: the steps at which the second, the third ... begins.
        per: what to step after: "epoch", or "step" of the optimiser.

    Raises:
        ValueError: if their numbers or optimisers do not fit, or milestones do not rise.
        TypeError: for a schedule that is no formula of the step.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[Schedule],
        milestones: Sequence[int],
        *,
        per: str = "epoch",
    ) -> None:
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        if len(self.milestones) != len(self.schedulers) - 1 or self.milestones != sorted(
            set(self.milestones)
        ):
            raise ValueError(
                f"SequentialLR: {len(self.schedulers)} schedules need {len(self.schedulers) - 1} rising "
                f"milestones, got {self.milestones}"
            )
        for schedule in self.schedulers:
            if type(schedule).rate is Schedule.rate:
                raise TypeError(f"SequentialLR: {type(schedule).__name__} is no formula of the step")
            if schedule.optimizer is not optimizer:
                raise ValueError("SequentialLR: the schedules are made for different optimizers")
        super().__init__(optimizer, per)

    def rate(self, base: float, step: int) -> float:
        """The rate of the schedule whose turn it is."""
        index = bisect_right(self.milestones, step)
        start = self.milestones[index - 1] if index else 0
        return self.schedulers[index].rate(base, step - start)
