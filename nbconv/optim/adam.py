"""Adam and AdamW."""

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


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    Args:
        params: parameters, or groups of them: [{"params": ..., "lr": ...}, ...].
        lr: learning rate.
        betas: how much of the two running means is kept at each step.
        eps: added to the root of the mean square.
        weight_decay: this times the parameter is added to the gradient (L2 regularisation).
        amsgrad: divide by the largest mean square so far.
        maximize: ascend instead.

    Raises:
        ValueError: for arguments out of range.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization", 2015; AMSGrad: Reddi et al., 2018.
    """

    _decoupled = False

    kept = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: ParametersLike,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
            },
        )

    def _validate(self, group: Group) -> None:
        require_not_negative(group, "lr", "eps", "weight_decay")
        require_betas(group)

    def _update(self, group: Group, parameters: list[Parameter], ops: ModuleType) -> None:
        # Parameters that have been frozen for a while are behind in their count.
        by_step: dict[int, list[Parameter]] = {}
        for parameter in parameters:
            entry = self.state.get(parameter)
            if entry is None:
                entry = {"step": 0, "exp_avg": zeros(parameter, ops), "exp_avg_sq": zeros(parameter, ops)}
                self.state[parameter] = entry
            if group["amsgrad"] and "max_exp_avg_sq" not in entry:
                entry["max_exp_avg_sq"] = zeros(parameter, ops)
            entry["step"] += 1
            by_step.setdefault(entry["step"], []).append(parameter)
        for step, some in by_step.items():
            entries = [self.state[parameter] for parameter in some]
            ops.adam_step(
                data(some),
                gradients(some),
                [entry["exp_avg"] for entry in entries],
                [entry["exp_avg_sq"] for entry in entries],
                step=step,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                decoupled=self._decoupled,
                maximize=group["maximize"],
                max_exp_avg_sqs=[entry["max_exp_avg_sq"] for entry in entries] if group["amsgrad"] else None,
            )


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameter itself, by ``lr * weight_decay``, not its gradient.

    Arguments as for :class:`Adam`, but for the default of ``weight_decay``.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """

    _decoupled = True

    def __init__(
        self,
        params: ParametersLike,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
