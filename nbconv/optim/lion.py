"""Lion."""

from __future__ import annotations

from types import ModuleType

from nbconv.optim.base import (
    Group,
    Optimizer,
    ParametersLike,
    data,
    gradients,
    require_betas,
    require_not_negative,
    zeros,
)
from nbconv.parameter import Parameter


class Lion(Optimizer):
    """Lion: steps of one size, along the sign of a mean of the gradient and its past.

    Every element moves by ``lr``, so a good rate is 3 to 10 times smaller than AdamW's, and the weight decay
    as much larger.

    Args:
        params: parameters, or groups of them: [{"params": ..., "lr": ...}, ...].
        lr: learning rate.
        betas: how much of the past is in the step, and how much of it is kept.
        weight_decay: each step shrinks the parameter by ``lr`` times this.
        maximize: ascend instead.

    Raises:
        ValueError: for arguments out of range.

    Source: Chen et al., "Symbolic discovery of optimization algorithms", 2023.
    """

    kept = ("exp_avg",)

    def __init__(
        self,
        params: ParametersLike,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        )

    def _validate(self, group: Group) -> None:
        require_not_negative(group, "lr", "weight_decay")
        require_betas(group)

    def _update(self, group: Group, parameters: list[Parameter], ops: ModuleType) -> None:
        for parameter in parameters:
            if parameter not in self.state:
                self.state[parameter] = {"exp_avg": zeros(parameter, ops)}
        ops.lion_step(
            data(parameters),
            gradients(parameters),
            [self.state[parameter]["exp_avg"] for parameter in parameters],
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            maximize=group["maximize"],
        )
