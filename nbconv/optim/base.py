"""What every optimiser is: groups of parameters with settings, and state that can be saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, ClassVar

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
            A schedule adds "initial_lr", the rate that it started from.
        state: what is kept for each parameter that has been updated.
        kept: the names of what is always kept of one.
    """

    kept: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: ParametersLike, defaults: Group) -> None:
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self.state: dict[Parameter, dict[str, Any]] = {}
        self._place: tuple[str, Any] | None = None
        if isinstance(params, Parameter | Mapping):
            raise TypeError(f"expected a list of parameters or of groups, got one {type(params).__name__}")
        given = list(params)
        if not given:
            raise ValueError("an optimizer needs parameters, got none")
        groups: list[Any] = given if isinstance(given[0], Mapping) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self).get("defaults", ()):
            raise AttributeError(
                f"{type(self).__name__}: {name} is a setting of each group of parameters: set "
                f'param_groups[0]["{name}"], and so on'
            )
        object.__setattr__(self, name, value)

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
                place = active[0].backend, active[0].dtype
                if place != self._place:
                    _follow(self.state, self._parameters())
                    self._place = place
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
                key: _numpy(value) if _is_array(value) else value for key, value in entry.items()
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
            known = {*self.defaults, "initial_lr"}
            settings = {key: value for key, value in new.items() if key in known}
            group = {**old, **settings, "params": old["params"]}
            self._validate(group)
            groups.append(group)
        state: dict[Parameter, dict[str, Any]] = {}
        for number, entry in state_dict["state"].items():
            if number not in parameters:
                raise ValueError(f"the state is for a parameter {number}, which no group has")
            restored = _restored(parameters[number], entry, number)
            missing = [name for name in self.kept if name not in restored]
            if restored and missing:
                raise ValueError(f"the state of parameter {number} has no {', '.join(missing)}")
            if restored:
                state[parameters[number]] = restored
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


def _is_array(value: object) -> bool:
    return hasattr(value, "shape")


def _numpy(array: Array) -> Array:
    return np.array(backends.to_numpy(array))


def _restored(parameter: Parameter, entry: Mapping[str, Any], number: int) -> dict[str, Any]:
    """One parameter's state as this optimiser keeps it: copied, of the right dtype, on the right backend."""
    restored: dict[str, Any] = {}
    for key, value in entry.items():
        if key == "step":
            restored[key] = int(value)
            if restored[key] < 0:
                raise ValueError(f"parameter {number} has made {value} steps")
        elif _is_array(value):
            array = np.array(backends.to_numpy(value), parameter.dtype, order="C")
            if array.shape != parameter.shape:
                raise ValueError(
                    f"{key} of parameter {number} has shape {array.shape}, needs {parameter.shape}"
                )
            restored[key] = backends.to_backend(array, parameter.backend)
        elif value is not None:
            raise ValueError(f"{key} of parameter {number} is no array, but {value!r}")
    return restored


def require_not_negative(group: Group, *names: str) -> None:
    """Raise ValueError if one of these settings is negative or NaN."""
    for name in names:
        if not group[name] >= 0.0:
            raise ValueError(f"{name} must not be negative, got {group[name]}")


def require_betas(group: Group) -> None:
    """Raise ValueError unless "betas" are two numbers in [0, 1)."""
    betas = group["betas"]
    if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
        raise ValueError(f"betas must be two numbers in [0, 1), got {betas!r}")


def data(parameters: list[Parameter]) -> list[Array]:
    """The values of parameters."""
    return [parameter.data for parameter in parameters]


def gradients(parameters: list[Parameter]) -> list[Array]:
    """The gradients of parameters, which all have one."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def zeros(parameter: Parameter, ops: ModuleType) -> Array:
    """Zeros like a parameter, where it lives."""
    zeros: Array = ops.asarray(np.zeros(parameter.shape, parameter.dtype))
    return zeros


def _follow(state: dict[Parameter, dict[str, Any]], parameters: list[Parameter]) -> None:
    """Bring the state of parameters that a model has taken to another backend or dtype there as well."""
    for number, parameter in enumerate(parameters):
        entry = state.get(parameter)
        if entry is None:
            continue
        data = parameter.peek()
        strange = any(
            _is_array(value) and (type(value) is not type(data) or value.dtype != data.dtype)
            for value in entry.values()
        )
        if strange:
            entry.update(_restored(parameter, entry, number))
