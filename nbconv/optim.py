"""Optimisers: names, arguments, defaults and arithmetic are PyTorch's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from nbconv import backends
from nbconv.parameter import Parameter
from nbconv.typing import Array

Group = dict[str, Any]
ParametersLike = Iterable[Parameter] | Iterable[Mapping[str, Any]]


class Optimizer:
    """Base of optimisers: parameter groups, state and its saving.

    Attributes:
        param_groups: dicts of "params" and the settings that hold for them, which may be changed at any time.
        state: what is kept for each parameter that has been updated.
    """

    def __init__(self, params: ParametersLike, defaults: Group) -> None:
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self.state: dict[Parameter, dict[str, Any]] = {}
        if isinstance(params, Parameter | Mapping):
            raise TypeError(f"expected a list of parameters or of groups, got one {type(params).__name__}")
        given = list(params)
        if not given:
            raise ValueError("an optimizer needs parameters, got none")
        groups: list[Any] = given if isinstance(given[0], Mapping) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Let the optimiser update more parameters: {"params": [...]} and any settings of their own.

        Raises:
            ValueError: for a setting that is unknown or out of range, or a parameter that some group has.
            TypeError: if "params" holds anything but parameters.
        """
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f'a group is a dict with the key "params", got {group!r}')
        params = group["params"]
        params = [params] if isinstance(params, Parameter) else list(params)
        known = {id(p) for other in self.param_groups for p in other["params"]}
        for parameter in params:
            if not isinstance(parameter, Parameter):
                raise TypeError(f"an optimizer updates parameters, got {type(parameter).__name__}")
            if id(parameter) in known:
                raise ValueError(f"{parameter!r} is given to the optimizer twice")
            known.add(id(parameter))
        unknown = sorted(set(group) - set(self.defaults) - {"params"})
        if unknown:
            raise ValueError(f"unknown settings {unknown}; there are {sorted(self.defaults)}")
        complete = {**self.defaults, **group, "params": params}
        self._validate(complete)
        self.param_groups.append(complete)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient.

        Raises:
            ValueError: if a gradient has not the shape of its parameter.
        """
        for group in self.param_groups:
            active = [parameter for parameter in group["params"] if parameter.grad is not None]
            if active:
                self._update(group, active, backends.get(active[0].backend))

    def state_dict(self) -> dict[str, Any]:
        """Settings and state as PyTorch lays them out, parameters by number; the arrays are copies."""
        numbers = {id(p): number for number, p in enumerate(self._parameters())}
        groups = [
            {**group, "params": [numbers[id(parameter)] for parameter in group["params"]]}
            for group in self.param_groups
        ]
        state = {
            numbers[id(parameter)]: {
                key: _numpy(parameter, value) if _is_array(value) else value for key, value in entry.items()
            }
            for parameter, entry in self.state.items()
        }
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on exactly where another optimiser of the same parameters stood.

        Raises:
            ValueError: if groups or shapes differ; nothing is loaded then.
        """
        given = state_dict["param_groups"]
        sizes = [len(group["params"]) for group in given], [len(g["params"]) for g in self.param_groups]
        if sizes[0] != sizes[1]:
            raise ValueError(f"the state has groups of {sizes[0]} parameters, the optimizer of {sizes[1]}")
        numbers = [number for group in given for number in group["params"]]
        parameters = dict(zip(numbers, self._parameters(), strict=True))
        groups = []
        for new, old in zip(given, self.param_groups, strict=True):
            # A setting that this optimiser does not know is another library's (PyTorch's "foreach").
            settings = {key: value for key, value in new.items() if key in self.defaults}
            group = {**old, **settings, "params": old["params"]}
            self._validate(group)
            groups.append(group)
        state: dict[Parameter, dict[str, Any]] = {}
        for number, entry in state_dict["state"].items():
            if number not in parameters:
                raise ValueError(f"the state is for a parameter {number}, which no group has")
            state[parameters[number]] = _restored(parameters[number], entry, number)
        self.param_groups, self.state = groups, state

    def __repr__(self) -> str:
        groups = [
            f"{len(group['params'])} parameters: "
            + ", ".join(f"{key}={value}" for key, value in group.items() if key != "params")
            for group in self.param_groups
        ]
        return f"{type(self).__name__}({'; '.join(groups)})"

    def _validate(self, group: Group) -> None:
        """Raise ValueError for settings out of range."""
        raise NotImplementedError

    def _update(self, group: Group, parameters: list[Parameter], ops: ModuleType) -> None:
        """Step the parameters of one group; all have gradients."""
        raise NotImplementedError

    def _parameters(self) -> list[Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]


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


def _is_array(value: object) -> bool:
    return hasattr(value, "shape")


def _numpy(parameter: Parameter, array: Array) -> Array:
    return np.array(backends.get(parameter.backend).to_numpy(array))


def _restored(parameter: Parameter, entry: Mapping[str, Any], number: int) -> dict[str, Any]:
    """One parameter's state as this optimiser keeps it: copied, of the right dtype, on the right backend."""
    restored: dict[str, Any] = {}
    for key, value in entry.items():
        if key == "step":
            restored[key] = int(value)
        elif _is_array(value):
            array = np.array(np.asarray(value), parameter.dtype, order="C")
            if array.shape != parameter.shape:
                raise ValueError(
                    f"{key} of parameter {number} has shape {array.shape}, needs {parameter.shape}"
                )
            restored[key] = backends.get(parameter.backend).asarray(array)
        elif value is not None:
            restored[key] = value
    return restored
