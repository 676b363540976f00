"""What a network is asked for: its output in evaluation and in training, and all gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import nbconv as nb

from .node import build

if TYPE_CHECKING:
    from .case import Case

Array = np.ndarray[Any, np.dtype[Any]]
Found = dict[str, Array]
"""By name, all that came out; "refused" is there if training was."""


def model_of(case: Case, backend: str, dtype: str) -> nb.Sequential:
    """The network with its state, the same numbers whatever the backend and the dtype."""
    layers, _ = build(case.path, (max(case.shape[0], 1), *case.shape[1:]))
    model = nb.Sequential(*layers, backend=backend, seed=case.seed, dtype=dtype)
    model.load_state_dict(state(case))
    if case.frozen is not None:
        model.freeze(case.frozen)
    return model


def plain(model: nb.Sequential) -> nb.Sequential:
    """The same model, in which nothing is fused."""
    for _, layer in model.named_layers():
        if isinstance(layer, nb.Sequential):
            layer.fuses = False
    return model


def state(case: Case) -> Found:
    """Parameters and buffers that float32 holds: as they are drawn at first, but where that is all alike."""
    layers, _ = build(case.path, (max(case.shape[0], 1), *case.shape[1:]))
    rng = np.random.default_rng([case.seed, 2])
    found = nb.Sequential(*layers, seed=case.seed).state_dict()
    for key, value in found.items():
        name = key.rpartition(".")[2]
        if name in ("running_var", "std", "variances"):
            found[key] = rng.uniform(0.5, 2.0, value.shape)
        elif name in ("running_mean", "mean"):
            found[key] = rng.normal(0, 0.3, value.shape)
        elif name == "num_batches_tracked":
            found[key] = np.array(3)
        elif not value.any():  # the bias of a normalisation, the matrix of a preprocessing
            found[key] = rng.normal(0, 1 / np.sqrt(value.shape[-1]), value.shape)
        elif (value == value.flat[0]).all():
            found[key] = value + rng.normal(0, 0.2, value.shape)
        found[key] = found[key].astype(value.dtype)
    return found


def examples(case: Case, dtype: str) -> Array:
    """The input, which float32 holds as well, laid out as the case says."""
    rng = np.random.default_rng([case.seed, 3])
    x = rng.standard_normal(case.shape).astype(np.float32).astype(dtype)
    if case.special is not None and x.size:
        for place in rng.integers(x.size, size=rng.integers(1, 3)):
            x.flat[place] = case.special
    match case.layout:
        case "pixels" if x.ndim == 4:
            x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        case "fortran":
            x = np.asfortranarray(x)
        case "strided":
            wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, dtype)
            wide[..., ::2] = x
            x = wide[..., ::2]
        case "reversed":
            x = np.ascontiguousarray(x[..., ::-1])[..., ::-1]
        case "read-only":
            x.flags.writeable = False
    return x


def passes(model: nb.Sequential, x: Array, case: Case) -> Found:
    """Everything, as copies."""
    found = {"evaluation": np.array(model(x))}
    try:
        y, backprop = model.forward(x, training=True)
    except nb.LayerError:
        return {**found, "refused": np.zeros(0)}
    found["training"] = np.array(y)
    rng = np.random.default_rng([case.seed, 4])
    dx = backprop(rng.standard_normal(y.shape).astype(np.float32).astype(y.dtype))
    assert dx is not None
    found["gradient of the input"] = np.array(dx)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[f"gradient of {name}"] = np.array(parameter.grad)
    for key, value in model.state_dict().items():
        found[f"{key} after training"] = value
    found["evaluation after training"] = np.array(model(x))
    return found
