"""The same network in PyTorch, where that is installed and has all of its layers."""

from __future__ import annotations

import functools
import warnings
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

import nbconv as nb
from nbconv.models import AuxiliaryHead

from .passes import Found, examples, model_of

if TYPE_CHECKING:
    from .case import Case


@functools.cache
def _installed() -> tuple[ModuleType, ModuleType] | None:
    try:
        import torch
        import torch_twin
    except ImportError:
        return None
    torch.set_num_threads(1)
    return torch, torch_twin


def passes(case: Case, right: Found) -> Found | None:
    """Output and gradients in training as float64, by our names; None where there is nothing to compare."""
    modules = _installed()
    if modules is None or case.frozen is not None or "training" not in right:
        return None
    torch, torch_twin = modules
    model = model_of(case, "reference", "float64")
    if any(_is_ours_alone(layer) for _, layer in model.named_layers()):
        return None
    try:
        twin = torch_twin.twin(model).double()
        missing = twin.load_state_dict(
            {name: torch.tensor(value) for name, value in model.state_dict().items()}, strict=False
        )
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None  # PyTorch has no such layer, or not with these arguments
    if any(
        not name.endswith("num_batches_tracked") for name in missing.missing_keys + missing.unexpected_keys
    ):
        return None
    x = torch.tensor(np.ascontiguousarray(examples(case, "float64")), requires_grad=True)
    try:
        with warnings.catch_warnings(action="ignore"):
            y = twin.train()(x)
        rng = np.random.default_rng([case.seed, 4])
        y.backward(torch.tensor(rng.standard_normal(tuple(y.shape)).astype(np.float32).astype(np.float64)))
    except (ValueError, RuntimeError):
        return None  # such as empty batches, which not all of its layers take
    found = {"training": y.detach().numpy()}
    if x.grad is not None:
        found["gradient of the input"] = x.grad.numpy()
    for name, parameter in twin.named_parameters():
        if parameter.grad is not None and f"gradient of {name}" in right:
            found[f"gradient of {name}"] = parameter.grad.numpy()
    if case.special is None and not all(np.isfinite(value).all() for value in found.values()):
        return None  # the root in a twin has no slope at 0
    return found


def _is_ours_alone(layer: nb.Layer) -> bool:
    """Whether it draws from another stream than PyTorch's, or its twin would be another layer."""
    if isinstance(layer, nb.Dropout):
        return layer.p > 0
    if isinstance(layer, AuxiliaryHead):
        return True
    return isinstance(layer, nb.GlobalAvgPool2d) and layer.keepdims
