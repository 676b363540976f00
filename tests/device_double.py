"""A backend whose arrays refuse to become NumPy arrays by themselves, as those on a GPU do.

Its ops are the CPU backend's. Whatever handles arrays without asking a backend fails on it: NumPy's
functions, arithmetic of an array here with one there, ops called with NumPy arrays. ``reads`` counts what
waits for a device: copies to the host and numbers made of arrays.
"""

import contextlib
import functools
import operator
import types
from collections import Counter

import numpy as np

from nbconv_kernels import cpu

name = "device"
reads = Counter()
conv = types.SimpleNamespace()
_deferring = []

# Constants that a layer or a transform keeps on the host, which a kernel would bring over by itself.
TAKE_HOST_ARRAYS = {
    "subtractive_norm",
    "subtractive_norm_backward",
    "divisive_norm",
    "divisive_norm_backward",
    "affine_sample",
    "color_jitter",
    "erase_boxes",
    "gaussian_noise",
    "mix_images",
}


class DeviceArray:
    """What CuPy's arrays can do, as far as nbconv needs it, and nothing that they cannot."""

    __array_ufunc__ = None
    __hash__ = None

    def __init__(self, memory, base=None):
        assert isinstance(memory, np.ndarray)
        self._memory, self.base = memory, base

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_function__(self, function, *args):
        raise TypeError(f"numpy.{function.__name__} was given an array on a device")

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self._memory.ctypes.data)

    def __getattr__(self, attribute):
        if attribute in ("shape", "dtype", "ndim", "size", "strides", "itemsize", "nbytes"):
            return getattr(self._memory, attribute)
        if attribute in ("argmax", "sum", "mean", "max", "min", "all", "any", "clip", "astype", "copy"):
            return functools.partial(self._call, attribute)
        if attribute in ("reshape", "transpose", "ravel"):
            return functools.partial(self._view, attribute)
        raise AttributeError(attribute)

    @property
    def flags(self):
        flags = self._memory.flags
        return types.SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous)

    @property
    def T(self):
        return self._view("transpose")

    def _call(self, method, *args, **kwargs):
        def act(memory, **kwargs):
            return getattr(memory, method)(*args, **kwargs)

        return done(act, self, writes="out" in kwargs, **kwargs)

    def _view(self, method, *args, **kwargs):
        act = operator.methodcaller(method, *args, **kwargs)
        view = act(self._memory)
        return DeviceArray(view, self) if np.shares_memory(view, self._memory) else done(act, self)

    def item(self):
        waited()
        reads["item"] += 1
        return self._memory.item()

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        return operator.index(self.item())

    def __bool__(self):
        return bool(self.item())

    def __len__(self):
        return len(self._memory)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        return DeviceArray(np.asarray(self._memory[unwrapped(index)]), self)

    def __setitem__(self, index, value):
        done(operator.setitem, self, index, value, writes=True)

    def __repr__(self):
        return f"DeviceArray({self._memory!r})"


def unwrapped(value):
    """The memory of an array of this backend; an array of the host has no business here."""
    if isinstance(value, np.ndarray):
        raise TypeError(f"an array of shape {value.shape} on the host where one on a device was expected")
    if isinstance(value, DeviceArray):
        return value._memory
    if type(value) in (tuple, list):
        return type(value)(map(unwrapped, value))
    return value


@contextlib.contextmanager
def deferred():
    """Numbers stay on the device."""
    _deferring.append(True)
    try:
        yield
    finally:
        _deferring.pop()


def wrapped(value):
    if isinstance(value, float) and _deferring:
        return DeviceArray(np.asarray(value))
    if isinstance(value, np.ndarray | np.generic):
        return DeviceArray(np.asarray(value))
    if type(value) in (tuple, list):
        return type(value)(map(wrapped, value))
    return value


_tape = None


def done(function, *args, writes=False, take=unwrapped, **kwargs):
    """The result of a function of arrays; while a graph is recorded, what it writes to is not written yet."""

    def call():
        return function(*map(take, args), **{key: take(value) for key, value in kwargs.items()})

    if _tape is None:
        return wrapped(call())
    result = None if writes else wrapped(call())
    _tape.append((call, result))
    return result


def waited():
    if _tape is not None:
        raise RuntimeError("a graph that is recorded cannot be waited for")


class Graph:
    """Functions to be called again, on the same memory."""

    def __init__(self, inputs, result, tape):
        self.inputs, self.result, self.tape = inputs, result, tape
        self.launches = 0

    def __call__(self, *inputs):
        self.launches += 1
        for own, given in zip(self.inputs, inputs, strict=True):
            assert (own.shape, own.dtype) == (given.shape, given.dtype)
            own[...] = given
        for call, result in self.tape:
            fill(result, call())
        return self.result


def fill(result, value):
    if type(result) in (tuple, list):
        for own, new in zip(result, value, strict=True):
            fill(own, new)
    elif result is not None:
        result._memory[...] = value


graphs = []


def capture(work, *inputs):
    """As ``nbconv_kernels.cuda.graph.capture``."""
    global _tape
    kept = [DeviceArray(array._memory.copy(order="K")) for array in inputs]
    _tape = tape = []
    try:
        result = work(*kept)
    finally:
        _tape = None
    graphs.append(Graph(kept, result, tape))
    return graphs[-1]


def _operator(symbol):
    function = getattr(operator, symbol)
    return lambda self, other: done(function, self, other)


def _reflected(symbol):
    function = getattr(operator, symbol)
    return lambda self, other: done(lambda a, b: function(b, a), self, other)


def _in_place(symbol):
    function = getattr(operator, symbol)

    def change(self, other):
        done(function, self, other, writes=True)
        return self

    return change


for symbol in ("add", "sub", "mul", "truediv"):
    setattr(DeviceArray, f"__{symbol}__", _operator(symbol))
    setattr(DeviceArray, f"__r{symbol}__", _reflected(symbol))
    setattr(DeviceArray, f"__i{symbol}__", _in_place(f"i{symbol}"))
for symbol in ("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_"):
    setattr(DeviceArray, f"__{symbol.rstrip('_')}__", _operator(symbol))
DeviceArray.__neg__ = lambda self: done(operator.neg, self)


def asarray(x, dtype=None):
    if isinstance(x, DeviceArray):
        return x if dtype is None or x.dtype == dtype else x.astype(dtype)
    waited()
    return DeviceArray(np.array(x, dtype))


def upload(x, dtype):
    """As ``asarray``, the array to be had by a call."""
    array = asarray(x, dtype)
    return lambda: array


def to_numpy(x):
    assert isinstance(x, DeviceArray), "there is nothing to copy"
    waited()
    reads["copy"] += 1
    return x._memory.copy()


def _op(op):
    function = getattr(cpu, op)
    take = (lambda v: v._memory if isinstance(v, DeviceArray) else v) if op in TAKE_HOST_ARRAYS else unwrapped

    def checked(*args, **kwargs):
        given = [a for a in (*args, *kwargs.values()) if isinstance(a, np.ndarray)]
        assert all(a.dtype != np.float64 for a in given) or op in TAKE_HOST_ARRAYS, f"{op}: float64"
        return function(*args, **kwargs)

    writes = op.startswith(("accumulate", "put_", "add_scaled")) or op.endswith(("_onto", "_step"))
    return functools.partial(done, checked, take=take, writes=writes)


globals().update({op: _op(op) for op in cpu.__all__ if op not in ("name", "asarray", "to_numpy")})
