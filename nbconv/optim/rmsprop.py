"""RMSprop."""

from __future__ import annotations

from types import ModuleType

from nbconv.optim.base import Group, Optimizer, ParametersLike, data, gradients, require_not_negative, zeros
from nbconv.parameter import Parameter


class RMSprop(Optimizer):
    """RMSprop: steps divided by the root of a running mean of the squared gradient.

    Args:
        params: parameters, or groups of them: [{"params": ..., "lr": ...}, ...].
        lr: learning rate.
        alpha: how much of the running mean is kept at each step.
        eps: added to the root.
        weight_decay: this times the parameter is added to the gradient (L2 regularisation).
        momentum: how much of the last step is kept.
        centered: divide by the standard deviation of the gradient instead.
        maximize: ascend instead.

    Raises:
        ValueError: for arguments out of range.

    Source: Hinton, "Neural networks for machine learning", lecture 6, 2012; centered: Graves, "Generating
    sequences with recurrent neural networks", 2013.
    """

    def __init__(
        self,
        params: ParametersLike,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
                "maximize": maximize,
            },
        )

    def _validate(self, group: Group) -> None:
        require_not_negative(group, "lr", "eps", "weight_decay", "momentum")
        if not 0.0 <= group["alpha"] < 1.0:
            raise ValueError(f"alpha must be in [0, 1), got {group['alpha']!r}")

    def _update(self, group: Group, parameters: list[Parameter], ops: ModuleType) -> None:
        names = {"square_avgs": "square_avg"}
        if group["centered"]:
            names["grad_avgs"] = "grad_avg"
        if group["momentum"] > 0:
            names["momentum_buffers"] = "momentum_buffer"
        for parameter in parameters:
            entry = self.state.setdefault(parameter, {})
            for name in names.values():
                if name not in entry:
                    entry[name] = zeros(parameter, ops)
        states = {plural: [self.state[p][name] for p in parameters] for plural, name in names.items()}
        settings = {key: group[key] for key in self.defaults if key != "centered"}
        ops.rmsprop_step(data(parameters), gradients(parameters), **states, **settings)
