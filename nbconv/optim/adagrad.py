"""Adagrad."""

from __future__ import annotations

from types import ModuleType

from nbconv.optim.base import Group, Optimizer, ParametersLike, data, gradients, require_not_negative, zeros
from nbconv.parameter import Parameter


class Adagrad(Optimizer):
    """Adagrad: steps divided by the root of the sum of all squared gradients so far.

    Args:
        params: parameters, or groups of them: [{"params": ..., "lr": ...}, ...].
        lr: learning rate.
        lr_decay: step t is divided by 1 + (t - 1) * lr_decay.
        weight_decay: this times the parameter is added to the gradient (L2 regularisation).
        initial_accumulator_value: what the sums start from.
        eps: added to the root.
        maximize: ascend instead.

    Raises:
        ValueError: for arguments out of range.

    Source: Duchi et al., "Adaptive subgradient methods for online learning and stochastic optimization",
    2011.
    """

    kept = ("step", "sum")

    def __init__(
        self,
        params: ParametersLike,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "eps": eps,
                "maximize": maximize,
            },
        )

    def _validate(self, group: Group) -> None:
        require_not_negative(group, "lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def _update(self, group: Group, parameters: list[Parameter], ops: ModuleType) -> None:
        by_step: dict[int, list[Parameter]] = {}
        for parameter in parameters:
            entry = self.state.get(parameter)
            if entry is None:
                sums = zeros(parameter, ops)
                sums += group["initial_accumulator_value"]
                entry = self.state[parameter] = {"step": 0, "sum": sums}
            entry["step"] += 1
            by_step.setdefault(entry["step"], []).append(parameter)
        settings = {key: group[key] for key in ("lr", "lr_decay", "eps", "weight_decay", "maximize")}
        for step, some in by_step.items():
            sums_of_squares = [self.state[parameter]["sum"] for parameter in some]
            ops.adagrad_step(data(some), gradients(some), sums_of_squares, step=step, **settings)
