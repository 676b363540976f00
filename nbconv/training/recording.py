"""The passes of a training step, recorded on the GPU and replayed there with one call.

To ask a GPU for the hundred kernels of a small network's step takes the host longer than the GPU needs to
run them. Once a step of some shape has been made twice, forward pass, loss and backward pass are therefore
recorded as one piece of work; the optimiser's step stays what it is.

What is recorded are kernels with their addresses and numbers. So it is done only where nothing but the
contents of arrays changes from step to step: not with dropout, whose counter is a number, nor with layers or
losses of users' own, which may do anything. Where something has been exchanged since (a weight's array, a
setting of a layer), the passes are recorded anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from nbconv import backends, layers
from nbconv.layers import BatchNorm2d, Layer
from nbconv.typing import Array
from nbconv_kernels.precision import get_precision

if TYPE_CHECKING:
    from nbconv.losses import Loss
    from nbconv.sequential import Sequential

Results = tuple[Any, Any, Any]
"""A loss, the penalty on weights that belongs to it, and how many of the labels were right.

The last is None where there are no labels; a penalty of none at all is a number.
"""
Passes = Callable[[Array, Array], Results]

_SEEN_BEFORE = 2  # steps of a shape until it is recorded: by then kernels are compiled, memory is at hand
_WORTH_IT = 3  # replays
_PATIENCE = 3  # recordings that were not worth it before it is left alone
_KINDS = frozenset(
    {
        layers.AdaptiveAvgPool2d,
        layers.AvgPool2d,
        layers.BatchNorm2d,
        layers.Concat,
        layers.Conv2d,
        layers.Dense,
        layers.DenseBlock,
        layers.ELU,
        layers.Flatten,
        layers.GELU,
        layers.GlobalAvgPool2d,
        layers.Hardswish,
        layers.LeakyReLU,
        layers.MaxPool2d,
        layers.ReLU,
        layers.ReLU6,
        layers.Residual,
        layers.SELU,
        layers.SiLU,
        layers.Sigmoid,
        layers.Softplus,
        layers.Tanh,
    }
)


class RecordedPasses:
    """What a model's passes are replaced by where that is safe.

    Args:
        model: to be trained.
        loss: of a batch.
        passes: forward, loss and backward; adds to the parameters' gradients, which are None before.
    """

    def __init__(self, model: Sequential, loss: Loss, passes: Passes) -> None:
        from nbconv.sequential import Sequential

        self._passes, self._loss = passes, loss
        self._capture = getattr(backends.get(model.backend), "capture", None)
        if not _is_own(loss):
            self._capture = None
        self._layers = [layer for _, layer in model.named_layers()]
        self._lists = [layer.layers for layer in self._layers if isinstance(layer, Sequential)]
        self._norms = [layer for layer in self._layers if isinstance(layer, BatchNorm2d)]
        self._others = [layer for layer in self._layers if not isinstance(layer, BatchNorm2d)]
        self._parameters = model.parameters()
        self._seen: dict[Any, int] = {}
        self._graph: Any = None
        self._shape: Any = None
        self._made_for: Any = None
        self._gradients: list[Array | None] = []
        self._statistics: list[_Statistics] = []
        self._replays = 0
        self._wasted = 0

    def run(self, inputs: Array, targets: Array) -> Results:
        """The passes of a batch: replayed, or made as usual."""
        shape = inputs.shape, inputs.dtype, targets.shape, targets.dtype
        if not self._is_ready(shape, inputs, targets):
            results = self._passes(inputs, targets)
            self._put_back()
            return results
        results = self._graph(inputs, targets)
        self._replays += 1
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        for norm in self._norms:  # who has made something of the running statistics shall do so again
            norm.running_mean = norm.running_mean
        # The next replay writes to the same memory.
        loss, penalty, right = (part.copy() if backends.is_array(part) else part for part in results)
        return loss, penalty, right

    def _is_ready(self, shape: Any, inputs: Array, targets: Array) -> bool:
        """Whether there is a graph for such a batch, recorded now if need be."""
        if self._capture is None or any(parameter.grad is not None for parameter in self._parameters):
            return False
        if self._graph is not None and shape != self._shape:
            return False
        if self._graph is not None:
            if self._made_for == self._circumstances():
                return True
            # A step as usual comes first: what is new may have to be compiled or brought to the GPU.
            self._wasted += self._replays < _WORTH_IT
            self._graph, self._statistics, self._seen[shape] = None, [], _SEEN_BEFORE - 1
        self._seen[shape] = self._seen.get(shape, 0) + 1
        return self._seen[shape] > _SEEN_BEFORE and self._record(shape, inputs, targets)

    def _record(self, shape: Any, inputs: Array, targets: Array) -> bool:
        """Record the passes, if that can be done."""
        self._shape, self._replays = shape, 0
        if self._wasted > _PATIENCE or not all(map(_is_safe, self._layers)):
            self._capture = None
            return False
        self._statistics = [_Statistics(norm) for norm in self._norms]

        def work(x: Array, t: Array) -> Results:
            results = self._passes(x, t)
            if not backends.is_array(results[0]):
                raise TypeError("the loss has been waited for")
            self._put_back()
            return results

        assert self._capture is not None
        try:
            self._graph = self._capture(work, inputs, targets)
            self._gradients = [parameter.grad for parameter in self._parameters]
            self._made_for = self._circumstances()
        except BaseException as error:
            self._capture = None
            for kept in self._statistics:
                kept.restore()
            self._statistics = []
            if not isinstance(error, Exception):
                raise
            # What cannot be recorded can still be made as usual.
            warnings.warn(f"training steps are not recorded: {error}", RuntimeWarning, stacklevel=2)
        finally:
            for parameter in self._parameters:
                parameter.grad = None
        return self._graph is not None

    def _put_back(self) -> None:
        """Move the running statistics, which passes put into new arrays, to where the graph looks."""
        for kept in self._statistics:
            kept.put_back()

    def _circumstances(self) -> Any:
        """What must be as it was when a graph was recorded."""
        return (
            [(_address(parameter.peek()), parameter.requires_grad) for parameter in self._parameters],
            get_precision(),
            _settings(self._loss),
            [layer.revision for layer in self._others],
            [list(layers) for layers in self._lists],
            [
                (norm.eps, norm.momentum, norm.frozen, *map(id, (norm.weight, norm.bias, *norm.statistics)))
                for norm in self._norms
            ],
        )


class _Statistics:
    """The arrays of a normalisation's running statistics when a graph was recorded."""

    def __init__(self, norm: BatchNorm2d) -> None:
        self._norm, (self._mean, self._var) = norm, norm.statistics

    def put_back(self) -> None:
        """Copy those that the layer has now into them."""
        mean, var = self._norm.statistics
        if self._mean is not None and self._var is not None and not (mean is self._mean and var is self._var):
            self._mean[...], self._var[...] = mean, var
            self.restore()

    def restore(self) -> None:
        """Let the layer have them."""
        self._norm.running_mean, self._norm.running_var = self._mean, self._var


def _settings(loss: Any) -> list[Any]:
    """What a loss computes with, class weights by their values."""
    found = []
    for name, value in vars(loss).items():
        if isinstance(value, np.ndarray):
            value = value.tobytes()
        elif name == "loss":
            value = _settings(value)
        if not name.startswith("_"):
            found.append((name, value))
    return found


def _address(array: Any) -> int:
    return int(array.data.ptr)


def _is_own(loss: object) -> bool:
    """Whether a loss and those in it are nbconv's own, which are known to keep nothing from step to step."""
    own = type(loss).__module__.startswith("nbconv.")
    return own and (not hasattr(loss, "loss") or _is_own(loss.loss))


def _is_safe(layer: Layer) -> bool:
    from nbconv.sequential import Sequential

    if type(layer) is layers.Dropout or type(layer) is layers.Dropout2d:
        return layer.p == 0.0 or layer.frozen
    if isinstance(layer, BatchNorm2d) and layer.momentum is None and not layer.frozen:
        return False
    known = type(layer) in _KINDS or type(layer) is Sequential
    return known and not {"forward", "infer"} & vars(layer).keys()
