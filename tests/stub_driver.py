"""A CUDA driver that does nothing but write down what it was asked, and a CuPy of addresses alone.

They run the launch path as it is on a machine without a GPU: ``build`` compiles the driver with the system's
C compiler and gives the environment for a process in which ``install`` then takes CuPy's place.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

_SOURCE = r"""
#include <stdint.h>
#include <string.h>
typedef void *handle;
unsigned launches, loads, grid[3], block[3], shared_bytes, attribute, status;
uint64_t stream, values[64];
unsigned count;

static int ok(void) { return 0; }
static int load(handle *library, const void *code) {
    *library = (handle)(16 * (uintptr_t)++loads);
    return memcmp(code, "\x7f" "ELF", 4) ? 200 : 0;
}
static int get(handle *kernel, handle library, const char *name) {
    *kernel = (handle)((uintptr_t)library + 1);
    return name[0] == '_' ? 0 : 500;
}
static int set_attribute(int which, int value) { attribute = which == 8 ? value : 0; return 0; }
static int get_attribute(int *value, int which) {
    *value = which == 75 ? 9 : which == 76 ? 0 : 1024;
    return 0;
}
static int one(int *value) { *value = 1; return 0; }
static int toolkit(int *value) { *value = 13000; return 0; }
static int some(handle *value) { *value = (handle)0x30; return 0; }
static int text(int error, const char **said) { *said = "the stub says no"; return 0; }
static int launch(handle f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                  unsigned shared, handle s, void **parameters, void **extra) {
    launches++;
    grid[0] = gx; grid[1] = gy; grid[2] = gz;
    block[0] = bx; block[1] = by; block[2] = bz;
    shared_bytes = shared;
    stream = (uint64_t)s;
    for (unsigned i = 0; i < count; i++) memcpy(&values[i], parameters[i], 8);
    return status;
}

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *found) {
    *function = (void *)ok;
    if (!strcmp(name, "cuLibraryLoadData")) *function = (void *)load;
    if (!strcmp(name, "cuLibraryGetKernel")) *function = (void *)get;
    if (!strcmp(name, "cuKernelSetAttribute")) *function = (void *)set_attribute;
    if (!strcmp(name, "cuDeviceGetAttribute")) *function = (void *)get_attribute;
    if (!strcmp(name, "cuDeviceGetCount")) *function = (void *)one;
    if (!strcmp(name, "cuDriverGetVersion")) *function = (void *)toolkit;
    if (!strcmp(name, "cuCtxGetCurrent")) *function = (void *)some;
    if (!strcmp(name, "cuDevicePrimaryCtxRetain")) *function = (void *)some;
    if (!strcmp(name, "cuGetErrorString")) *function = (void *)text;
    if (!strcmp(name, "cuLaunchKernel")) *function = (void *)launch;
    if (found) *found = 0;
    return 0;
}
int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, function, version, flags, 0);
}
"""


def build(folder):
    """The environment in which the driver is found, or None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    source = Path(folder, "stub.c")
    source.write_text(_SOURCE)
    subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", source, "-o", Path(folder, "libcuda.so.1")], check=True
    )
    return os.environ | {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(Path(__file__).parent)}


class Device:
    """The one device, a Hopper."""

    compute_capability = "90"
    used = 0

    def __init__(self, number=0):
        pass

    def use(self):
        Device.used += 1


class Array:
    """What a launch looks at in a CuPy array."""

    def __init__(self, address, dtype=np.float32, shape=(4,)):
        self.data = SimpleNamespace(ptr=address)
        self.dtype = np.dtype(dtype)
        self.shape = shape
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": self.dtype.str,
            "data": (address, False),
            "version": 3,
            "strides": None,
        }


def install(stream=0):
    """Put the stand-in in CuPy's place; the driver's notes are returned."""
    cupy = ModuleType("cupy")
    current = SimpleNamespace(ptr=stream)
    runtime = SimpleNamespace(getDevice=lambda: 0, getDeviceCount=lambda: 2)
    cupy.cuda = SimpleNamespace(Device=Device, runtime=runtime, get_current_stream=lambda: current)
    sys.modules["cupy"] = cupy
    return ctypes.CDLL("libcuda.so.1")
