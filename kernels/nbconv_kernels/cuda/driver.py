"""Launches on the GPU: machine code in the driver's hands, raw pointers, and no more than that.

Numba's own launch takes tens of microseconds of Python a call. Here the machine code is loaded once, and a
call writes pointers and numbers into memory that was laid out when the kernel was first used, and tells the
driver. The code runs in the context that CuPy uses, on CuPy's current stream of the calling thread.

All GPUs that one process uses must have one compute capability.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import threading
from typing import TYPE_CHECKING, Any

import cupy
from cuda.bindings import driver

from nbconv_kernels.cuda import arguments as kernel_arguments

if TYPE_CHECKING:
    from nbconv_kernels.cuda.build import Kernel

__all__ = ["LaunchError", "run"]

_STATIC_SHARED = 48 * 1024
_SUCCESS = driver.CUresult.CUDA_SUCCESS

_launch = driver.cuLaunchKernel
_current_stream = cupy.cuda.get_current_stream

_local = threading.local()
_loading = threading.Lock()


class LaunchError(RuntimeError):
    """The driver has refused something; its name for that is in the message."""


class _Ready:
    """A kernel that a thread can start at once: the driver's handle, and memory for the arguments."""

    def __init__(self, kernel: Kernel, function: Any) -> None:
        self.function = function
        layout = kernel_arguments.layout(kernel)
        self.memory = ctypes.create_string_buffer(layout.size)
        self.pack = layout.pack_into
        base = ctypes.addressof(self.memory)
        places = [base + offset for offset in kernel_arguments.offsets(kernel)]
        self._table = (ctypes.c_void_p * len(places))(*places)
        self.parameters = ctypes.addressof(self._table)
        self.pointers = [(i, kernel_arguments.pointee(kernel.argument_types[i])) for i in kernel.pointers]


def run(kernel: Kernel, grid: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
    """Start all blocks of ``kernel`` on CuPy's current stream; it may be at work when this returns.

    Raises:
        LaunchError: if the driver refuses.
        TypeError, ValueError: if the arguments do not fit the kernel.
    """
    try:
        ready = _local.ready[kernel]
    except (AttributeError, KeyError):
        ready = _prepare(kernel)
    values = list(arguments)
    try:
        for i, dtype in ready.pointers:
            array = values[i]
            if array is None:
                values[i] = 0
            elif array.dtype is dtype or kernel_arguments.accepts(dtype, array.dtype):
                values[i] = array.data.ptr
            else:
                raise TypeError
        ready.pack(ready.memory, 0, *values)
    except (AttributeError, IndexError, OverflowError, TypeError, struct.error):
        kernel_arguments.check(kernel, grid, arguments, on_gpu=True)
        raise
    x, y, z = (*grid, 1, 1)[:3]
    stream = _current_stream().ptr
    (status,) = _launch(
        ready.function, x, y, z, kernel.block, 1, 1, kernel.shared_bytes, stream, ready.parameters, 0
    )
    if status is not _SUCCESS and status != _SUCCESS:
        kernel_arguments.check(kernel, grid, arguments, on_gpu=True)
        raise LaunchError(f"{kernel.name}: {_said(status)}; grid {grid}, block {kernel.block}")


def _prepare(kernel: Kernel) -> _Ready:
    """The kernel for this thread, in whose name CuPy may not have spoken to the GPU yet."""
    cupy.cuda.Device().use()
    ready: dict[Kernel, _Ready] = _local.__dict__.setdefault("ready", {})
    ready[kernel] = _Ready(kernel, _function(kernel))
    return ready[kernel]


def _function(kernel: Kernel) -> Any:
    with _loading:
        return _loaded(kernel)


@functools.cache
def _loaded(kernel: Kernel) -> Any:
    """The driver's handle of a kernel. It is valid in every context, and stays for the process's life."""
    capability = _capability(cupy.cuda.runtime.getDevice())
    library = _asked(kernel, driver.cuLibraryLoadData(kernel.cubin(capability), None, None, 0, None, None, 0))
    function = _asked(kernel, driver.cuLibraryGetKernel(library, kernel.entry.encode()))
    if kernel.shared_bytes > _STATIC_SHARED:
        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        for device in range(cupy.cuda.runtime.getDeviceCount()):
            if _capability(device) == capability:
                _asked(kernel, driver.cuKernelSetAttribute(attribute, kernel.shared_bytes, function, device))
    return driver.CUfunction(int(function))  # what the launch takes without looking twice


def _capability(device: int) -> tuple[int, int]:
    digits = cupy.cuda.Device(device).compute_capability
    return int(digits[:-1]), int(digits[-1])


def _asked(kernel: Kernel, answer: tuple[Any, ...]) -> Any:
    status, *results = answer
    if status != _SUCCESS:
        raise LaunchError(f"{kernel.name} could not be loaded: {_said(status)}")
    return results[0] if results else None


def _said(status: Any) -> str:
    _, text = driver.cuGetErrorString(status)
    return f"{status.name} ({text.decode() if text else 'no description'})"
