"""Work on the GPU recorded once and replayed with one call, for steps that the host is too slow to ask for.

    step = capture(train_step, x, t)      # nothing is computed yet
    loss = step(x, t)                     # computed; again with the next batch

What is recorded are kernels with their addresses and numbers. So the work must do the same each time but for
the contents of arrays: shapes, learning rates and counters that it passes as numbers stay what they were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import cupy

from nbconv_kernels.cuda.memory import Array

__all__ = ["Graph", "capture"]


class Graph:
    """Recorded work.

    Attributes:
        inputs: arrays that the work reads; a call copies its arguments into them.
        result: what the work returned: arrays that each call fills anew.
    """

    def __init__(self, graph: Any, inputs: tuple[Array, ...], result: Any, memory: Any) -> None:
        self.inputs = inputs
        self.result = result
        self._graph = graph
        self._memory = memory  # where the recorded kernels write: nothing else may come to lie there

    def __call__(self, *inputs: Array) -> Any:
        """Do the work on these inputs, on the current stream.

        Raises:
            ValueError: if they are not as many, or not of the shapes and dtypes, as when it was recorded.
        """
        if len(inputs) != len(self.inputs):
            raise ValueError(f"graph: expected {len(self.inputs)} inputs, got {len(inputs)}")
        for i, (own, given) in enumerate(zip(self.inputs, inputs, strict=True)):
            if (own.shape, own.dtype) != (given.shape, given.dtype):
                wanted = f"{own.dtype} of shape {own.shape}"
                raise ValueError(
                    f"graph: input {i} was recorded as {wanted}, got {given.dtype} of shape {given.shape}"
                )
            if own is not given:
                own[...] = given
        self._graph.launch(cupy.cuda.get_current_stream())
        return self.result


def capture(work: Callable[..., Any], *inputs: Array) -> Graph:
    """Record what ``work(*inputs)`` asks of the GPU, without doing it.

    The work must have run before, so that its kernels are compiled and loaded; it may not wait for the GPU
    (as ``float`` of an array does), and arrays that it finds elsewhere, such as weights, must stay where
    they are as long as the graph is used.

    Raises:
        Exception: whatever the work raises; nothing is recorded then.
    """
    kept = tuple(array.copy(order="K") for array in inputs)
    memory = cupy.cuda.MemoryPool()
    stream = cupy.cuda.Stream(non_blocking=True)
    with cupy.cuda.using_allocator(memory.malloc), stream:
        stream.begin_capture()
        try:
            result = work(*kept)
        except BaseException:
            _abandon(stream)
            raise
        graph = stream.end_capture()
    return Graph(graph, kept, result, memory)


def _abandon(stream: Any) -> None:
    """End a recording of which nothing is kept; the driver may have ended it for its part already."""
    with contextlib.suppress(cupy.cuda.runtime.CUDARuntimeError):
        stream.end_capture()
