"""Optimisers: names, arguments, defaults and arithmetic are PyTorch's."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from nbconv.optimizer import Group, Optimizer, ParametersLike
from nbconv.parameter import Parameter
from nbconv.typing import Array

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


class SGD(Optimizer):
    """Stochastic gradient descent: ``v = momentum v + gradient``, ``parameter -= lr v``.

    Args:
        params: parameters, or groups of them: [{"params": ..., "lr": ...}, ...].
        lr: learning rate.
        momentum: how much of the last step's direction is kept.
        dampening: how much of the gradient is left out of ``v``, but for the first step.
        weight_decay: this times the parameter is added to the gradient (L2 regularisation).
        nesterov: look ahead by the momentum.
        maximize: ascend instead.

    Raises:
        ValueError: for arguments out of range.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """

    def __init__(
        self,
        params: ParametersLike,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def _validate(self, group: Group) -> None:
        _require_not_negative(group, "lr", "momentum", "weight_decay")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                f"nesterov needs a momentum and no dampening, got momentum={group['momentum']}, "
                f"dampening={group['dampening']}"
            )

    def _update(self, group: Group, parameters: list[Parameter], ops: ModuleType) -> None:
        settings = {key: value for key, value in group.items() if key != "params"}
        if group["momentum"] == 0:
            ops.sgd_step(_data(parameters), _gradients(parameters), None, **settings)
            return
        starting = [p for p in parameters if "momentum_buffer" not in self.state.get(p, ())]
        going = [p for p in parameters if "momentum_buffer" in self.state.get(p, ())]
        for parameter in starting:
            self.state[parameter] = {"momentum_buffer": _zeros(parameter, ops)}
        for some, first in ((starting, True), (going, False)):
            if some:
                buffers = [self.state[p]["momentum_buffer"] for p in some]
                ops.sgd_step(_data(some), _gradients(some), buffers, **settings, first_step=first)


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
        _require_not_negative(group, "lr", "eps", "weight_decay")
        betas = group["betas"]
        if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}")

    def _update(self, group: Group, parameters: list[Parameter], ops: ModuleType) -> None:
        # Parameters that have been frozen for a while are behind in their count.
        by_step: dict[int, list[Parameter]] = {}
        for parameter in parameters:
            entry = self.state.get(parameter)
            if entry is None:
                entry = {"step": 0, "exp_avg": _zeros(parameter, ops), "exp_avg_sq": _zeros(parameter, ops)}
                self.state[parameter] = entry
            if group["amsgrad"] and "max_exp_avg_sq" not in entry:
                entry["max_exp_avg_sq"] = _zeros(parameter, ops)
            entry["step"] += 1
            by_step.setdefault(entry["step"], []).append(parameter)
        for step, some in by_step.items():
            entries = [self.state[parameter] for parameter in some]
            ops.adam_step(
                _data(some),
                _gradients(some),
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


def _require_not_negative(group: Group, *names: str) -> None:
    for name in names:
        if not group[name] >= 0.0:
            raise ValueError(f"{name} must not be negative, got {group[name]}")


def _data(parameters: list[Parameter]) -> list[Array]:
    return [parameter.data for parameter in parameters]


def _gradients(parameters: list[Parameter]) -> list[Array]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _zeros(parameter: Parameter, ops: ModuleType) -> Array:
    zeros: Array = ops.asarray(np.zeros(parameter.shape, parameter.dtype))
    return zeros
