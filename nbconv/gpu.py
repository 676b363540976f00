"""Whether there is a GPU for the CUDA backend, asked of its driver and of nothing heavier."""

from __future__ import annotations

import ctypes
from importlib import metadata

_DRIVER = "libcuda.so.1"
_OLDEST = (7, 5)
_MAJOR, _MINOR = 75, 76  # the attributes of a device that say its compute capability
_NO_DEVICE = 100
_CUPY = {13: "cupy-cuda13x", 12: "cupy-cuda12x"}
_DRIVERS = {13: "580", 12: "525"}


def state() -> bool | str:
    """True, or why there is no GPU that this installation can use."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return f"no CUDA driver found ({_DRIVER}): install NVIDIA's driver for the GPU"
    version = ctypes.c_int(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    too_old = _too_old(version.value)
    if too_old:
        return too_old
    failure = driver.cuInit(0)
    count = ctypes.c_int(0)
    if not failure:
        failure = driver.cuDeviceGetCount(ctypes.byref(count))
    if failure == _NO_DEVICE or not (failure or count.value):
        return "the CUDA driver finds no GPU (or CUDA_VISIBLE_DEVICES hides it)"
    if failure:
        return f"the CUDA driver does not start: error {failure} of cuInit"
    return _too_small(driver) or True


def _too_old(version: int) -> str | None:
    """What to do about a driver that is older than the CUDA that CuPy was built for."""
    needed = next((major for major, name in _CUPY.items() if _is_installed(name)), None)
    here = version // 1000
    if needed is None or here >= needed:
        return None
    update = f"update the driver to {_DRIVERS[needed]} or later"
    if here in _CUPY:
        update += f', or run "pip uninstall {_CUPY[needed]} numba-cuda" and "pip install nbconv[cuda{here}]"'
    return (
        f"the driver is too old: it knows CUDA {here}.{version % 1000 // 10}, "
        f"{_CUPY[needed]} needs {needed}.0: {update}"
    )


def _too_small(driver: ctypes.CDLL) -> str | None:
    capability = []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int(0)
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, 0)
        capability.append(value.value)
    if tuple(capability) >= _OLDEST:
        return None
    found, oldest = (".".join(map(str, pair)) for pair in (capability, _OLDEST))
    return f"the GPU is of compute capability {found}; nbconv needs {oldest} (Turing) or later"


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
