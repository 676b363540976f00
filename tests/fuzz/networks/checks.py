"""What a network must hold, looked at one after the other until something does not."""

from __future__ import annotations

import copy
import os
import pickle
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import nbconv as nb
from fuzz.places import in_memory

from . import changes, pytorch, scale, slopes
from .passes import Array, Found, examples, model_of, passes
from .poison import poison

if TYPE_CHECKING:
    from .case import Case

Check = Callable[["Case", "Right"], str | None]


class Right(NamedTuple):
    """The right results of a case, and by how much others may differ from them."""

    found: Found
    allowed: dict[str, float]


def run(case: Case) -> str | None:
    """The first thing that does not hold, in words that begin with its kind; None if all does."""
    before = nb.get_precision()
    nb.set_precision(case.precision)
    try:
        with np.errstate(all="ignore"):
            found = scale.exact(case)
            right = Right(found, scale.tolerances(case, found))
            for check in CHECKS:
                if wrong := check(case, right):
                    return f"{check.__name__}: {wrong}"
    finally:
        nb.set_precision(before)
    return None


def agrees_with_the_reference(case: Case, right: Right) -> str | None:
    poison()
    x = examples(case, case.dtype)
    before = x.copy()
    found = passes(model_of(case, "cpu", case.dtype), x, case)
    if not np.array_equal(x, before, equal_nan=True):
        return "the input was written to"
    return off(case, found, right)


def off(case: Case, found: Found, right: Right) -> str | None:
    """Where results lie further from the right ones than is allowed."""
    if found.keys() != right.found.keys():
        return f"there is {sorted(found.keys() ^ right.found.keys())} on one side only"
    for name, value in found.items():
        exact = right.found[name]
        if value.shape != exact.shape:
            return f"{name} has the shape {value.shape}, not {exact.shape}"
        if value.size and value.dtype.kind == "f" and value.dtype != case.dtype:
            return f"{name} is {value.dtype}"
        if not _is_undefined(case, name) and (strange := _strange(value, exact)) is not None:
            return f"{name} {strange}"
        apart, allowed = scale.distance(found, right.found, name), right.allowed[name]
        if apart > allowed and not scale.jumps(case, right.found, name, apart):
            return f"{name} is off by {apart:.3g}, where {allowed:.3g} may come of rounding"
    return None


def _is_undefined(case: Case, name: str) -> bool:
    """Whether NaN is anybody's guess: NaN times the zero of a padding that is not stored may be either."""
    of_weights = name.startswith("gradient of ") and name != "gradient of the input"
    return of_weights and case.special is not None and not np.isfinite(case.special)


def _strange(value: Array, exact: Array) -> str | None:
    """Where numbers are finite on one side only."""
    wrong = np.isfinite(value) != np.isfinite(exact)
    if not wrong.any():
        return None
    place = tuple(int(index) for index in np.argwhere(wrong)[0])
    return f"holds {value[place]} for {exact[place]} at {place}, and {int(wrong.sum())} such in all"


def computes_the_same_bits_again(case: Case, right: Right) -> str | None:
    model, x = model_of(case, "cpu", case.dtype), examples(case, case.dtype)
    y = np.array(model(x))
    held = y.copy()
    poison()
    for other in (x, np.ascontiguousarray(x), np.asfortranarray(x)):
        if (again := _differs(model(other), y)) is not None:
            return f"again, it {again}"
    if (later := _differs(y, held)) is not None:
        return f"a result that was kept {later}"
    first, second = (passes(model_of(case, "cpu", case.dtype), x, case) for _ in range(2))
    for name in first:
        if (again := _differs(second[name], first[name])) is not None:
            return f"{name} again {again}"
    return None


def _differs(value: Array, expected: Array) -> str | None:
    if value.dtype != expected.dtype or value.shape != expected.shape:
        return f"is {value.dtype} {value.shape}, not {expected.dtype} {expected.shape}"
    if np.array_equal(value, expected, equal_nan=True):
        return None
    apart = np.abs(np.subtract(value, expected, dtype=np.float64))
    return f"differs, by up to {np.nanmax(apart, initial=0.0):.3g}"


def survives_being_saved_and_copied(case: Case, right: Right) -> str | None:
    model, x = model_of(case, "cpu", case.dtype), examples(case, case.dtype)
    y = np.array(model(x))
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        model.save(os.path.join(folder, "model.safetensors"))
        loaded = nb.load(os.path.join(folder, "model.safetensors"))
    others = {"loaded": loaded, "copied": copy.deepcopy(model), "pickled": pickle.loads(pickle.dumps(model))}
    for how, other in others.items():
        if repr(other) != repr(model):
            return f"{how}, it is {other!r}, not {model!r}"
        if (wrong := _differs(other(x), y)) is not None:
            return f"{how}, its output {wrong}"
        ours, theirs = model.state_dict(), other.state_dict()
        if ours.keys() != theirs.keys():
            return f"{how}, it has the state {sorted(theirs)}, not {sorted(ours)}"
        for key in ours:
            if (wrong := _differs(theirs[key], ours[key])) is not None:
                return f"{how}, its {key} {wrong}"
    return None


def is_its_parts_one_after_the_other(case: Case, right: Right) -> str | None:
    model, x = model_of(case, "cpu", case.dtype), examples(case, case.dtype)
    cut = case.seed % (len(model) + 1)
    base, head = model.split(cut)
    evaluation = Right({"evaluation": right.found["evaluation"]}, right.allowed)
    one_by_one = x
    for layer in model:
        one_by_one = layer(one_by_one)
    ways = {
        "a slice and the rest": lambda: model[cut:](model[:cut](x)),
        "base and head": lambda: head(base(x)),
        "layer by layer": lambda: one_by_one,
        "one example at a time": lambda: model.predict(x, batch_size=1),
    }
    for how, way in ways.items():
        # Behind a look at their own batch's statistics, examples are not each by themselves.
        if how == "one example at a time" and _looks_at_the_batch(model):
            continue
        if (wrong := off(case, {"evaluation": np.array(way())}, evaluation)) is not None:
            return f"{how}: {wrong}"
    return None


def _looks_at_the_batch(model: nb.Sequential) -> bool:
    norms = [layer for _, layer in model.named_layers() if isinstance(layer, nb.BatchNorm2d)]
    return any(not norm.track_running_stats for norm in norms)


def needs_no_gradient_of_its_input(case: Case, right: Right) -> str | None:
    """Without the gradient of the input, those of the parameters are the same."""
    if "training" not in right.found or case.special is not None:
        return None
    x, grads = examples(case, case.dtype), []
    for input_grad in (True, False):
        model = model_of(case, "cpu", case.dtype)
        y, backprop = model.forward(x, training=True, input_grad=input_grad)
        dx = backprop(np.ones(y.shape, y.dtype))
        if (dx is None) == input_grad:
            return f"with input_grad={input_grad} the gradient of the input is {dx}"
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    with_it, without = grads
    if with_it.keys() != without.keys():
        return f"there is {sorted(with_it.keys() ^ without.keys())} on one side only"
    for name, grad in with_it.items():
        if (wrong := _differs(without[name], grad)) is not None:
            return f"without it, the gradient of {name} {wrong}"
    return None


def agrees_with_pytorch(case: Case, right: Right) -> str | None:
    theirs = pytorch.passes(case, right.found)
    if theirs is None:
        return None
    if case.special is not None and not np.isfinite(case.special):
        theirs = {"training": theirs["training"]}  # which gradient NaN has, each library decides
    exact = {name: right.found[name] for name in theirs}
    # Both are float64; the tolerances are those of float32 or of float64, by the case.
    factor = 2.0**-29 if case.dtype == "float32" else 1.0
    for name, value in theirs.items():
        if value.shape != exact[name].shape:
            return f"{name} has the shape {exact[name].shape}, PyTorch's {value.shape}"
        if (strange := _strange(exact[name], value)) is not None:
            return f"{name} {strange}"
        apart = scale.distance(theirs, exact, name)
        if apart > factor * right.allowed[name] and not scale.jumps(case, right.found, name, apart):
            return f"{name} of the reference is off PyTorch's by {apart:.3g}"
    return None


def has_the_slopes_for_gradients(case: Case, right: Right) -> str | None:
    return slopes.wrong(case) if "training" in right.found else None


def hears_of_attributes_that_are_set(case: Case, right: Right) -> str | None:
    found = changes.made_and_changed(case, case.seed)
    if found is None:
        return None
    told, made, changed = found
    for name, value in made.items():
        wrong = "is not there" if name not in changed else _differs(changed[name], value)
        if wrong is not None:
            return f"{told}: {name} {wrong}"
    return None


CHECKS: list[Check] = [
    agrees_with_the_reference,
    computes_the_same_bits_again,
    survives_being_saved_and_copied,
    is_its_parts_one_after_the_other,
    needs_no_gradient_of_its_input,
    agrees_with_pytorch,
    has_the_slopes_for_gradients,
    hears_of_attributes_that_are_set,
]
