"""Stochastic gradient descent."""

from __future__ import annotations

from types import ModuleType

from nbconv.optim.base import Group, Optimizer, ParametersLike, data, gradients, require_not_negative, zeros
from nbconv.parameter import Parameter


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
        require_not_negative(group, "lr", "momentum", "weight_decay")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                f"nesterov needs a momentum and no dampening, got momentum={group['momentum']}, "
                f"dampening={group['dampening']}"
            )

    def _update(self, group: Group, parameters: list[Parameter], ops: ModuleType) -> None:
        settings = {key: group[key] for key in self.defaults}
        if group["momentum"] == 0:
            ops.sgd_step(data(parameters), gradients(parameters), None, **settings)
            return
        starting = [p for p in parameters if "momentum_buffer" not in self.state.get(p, ())]
        going = [p for p in parameters if "momentum_buffer" in self.state.get(p, ())]
        for parameter in starting:
            self.state[parameter] = {"momentum_buffer": zeros(parameter, ops)}
        for some, first in ((starting, True), (going, False)):
            if some:
                buffers = [self.state[p]["momentum_buffer"] for p in some]
                ops.sgd_step(data(some), gradients(some), buffers, **settings, first_step=first)
