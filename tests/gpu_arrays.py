"""NumPy arrays brought to a GPU as they lie in memory, and back, so that tests need not know of it."""

import ctypes

import numpy as np
from device_double import TAKE_HOST_ARRAYS
from parity_table import Call

from nbconv import backends


def image_of(array):
    """(bytes, where in them the first element is): the memory of an array and of what it is a view of."""
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    first, last = np.lib.array_utils.byte_bounds(owner)
    size = last - first
    raw = np.frombuffer((ctypes.c_uint8 * size).from_address(first), np.uint8) if size else np.empty(0, "u1")
    return raw.copy(), array.__array_interface__["data"][0] - first


def on_gpu(array):
    """A copy with the same strides, so that kernels meet the same layout."""
    import cupy

    raw, offset = image_of(array)
    memory = cupy.asarray(raw) if raw.size else cupy.empty(16, cupy.uint8)
    return cupy.ndarray(array.shape, array.dtype, memory.data + offset, array.strides)


def fetched(value):
    """``value``, all arrays in it on the host."""
    if isinstance(value, Call):
        return Call(fetched(value.args), {key: fetched(item) for key, item in value.kwargs.items()})
    if isinstance(value, list | tuple):
        return type(value)(map(fetched, value))
    return backends.to_numpy(value) if backends.is_array(value) else value


def changed(value, function):
    """``value`` with ``function`` applied to the NumPy arrays in it."""
    if isinstance(value, np.ndarray):
        return function(value)
    if isinstance(value, Call):
        return Call(changed(value.args, function), {k: changed(v, function) for k, v in value.kwargs.items()})
    if isinstance(value, list | tuple):
        return type(value)(changed(item, function) for item in value)
    return value


class OnGpu:
    """The ops of the GPU for NumPy arrays: results, and what is written to, come to the host."""

    def __getattr__(self, op):
        function = getattr(backends.get("cuda"), op)

        def call(*args, **kwargs):
            pairs = []

            def place(array):
                if op in TAKE_HOST_ARRAYS and array.ndim != 4:
                    return array
                pairs.append((array, on_gpu(array)))
                return pairs[-1][1]

            placed = changed(Call(args, kwargs), place)
            result = fetched(function(*placed.args, **placed.kwargs))
            for array, there in pairs:
                if array.flags.writeable:
                    array[...] = backends.to_numpy(there)
            return result

        return call


def ops_of(backend):
    """The ops of a backend, to be called with NumPy arrays."""
    return OnGpu() if backend == "cuda" else backends.get(backend)
