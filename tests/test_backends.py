"""Which backends there are, and what is said of those that are missing something."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest

import nbconv as nb
from nbconv import backends, gpu


class Driver:
    """A CUDA driver as far as it is asked about itself."""

    def __init__(self, version=13000, capability=(9, 0), devices=1, failure=0):
        self.version, self.capability, self.devices, self.failure = version, capability, devices, failure

    def cuDriverGetVersion(self, value):
        value._obj.value = self.version
        return 0

    def cuInit(self, flags):
        return self.failure

    def cuDeviceGetCount(self, value):
        value._obj.value = self.devices
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = self.capability[attribute - 75]
        return 0


def asked(monkeypatch, driver, cupy="cupy-cuda13x"):
    monkeypatch.setattr(gpu, "_is_installed", lambda distribution: distribution == cupy)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    return gpu.state()


def test_a_gpu_that_will_do(monkeypatch):
    assert asked(monkeypatch, Driver()) is True
    assert asked(monkeypatch, Driver(capability=(7, 5))) is True
    assert asked(monkeypatch, Driver(12040), "cupy-cuda12x") is True
    assert asked(monkeypatch, Driver(14000), "cupy-cuda13x") is True
    assert asked(monkeypatch, Driver(12040), "cupy, built from its sources") is True


@pytest.mark.parametrize(
    ("driver", "cupy", "words"),
    [
        (
            Driver(12040),
            "cupy-cuda13x",
            ["knows CUDA 12.4", "cupy-cuda13x needs 13.0", "pip install nbconv[cuda12]"],
        ),
        (Driver(11080), "cupy-cuda12x", ["knows CUDA 11.8", "update the driver to 525 or later"]),
        (Driver(failure=100), "cupy-cuda13x", ["finds no GPU", "CUDA_VISIBLE_DEVICES"]),
        (Driver(devices=0), "cupy-cuda13x", ["finds no GPU"]),
        (Driver(failure=999), "cupy-cuda13x", ["does not start: error 999"]),
        (Driver(capability=(6, 1)), "cupy-cuda13x", ["compute capability 6.1", "7.5"]),
    ],
)
def test_a_gpu_that_will_not_do(monkeypatch, driver, cupy, words):
    state = asked(monkeypatch, driver, cupy)
    assert isinstance(state, str)
    assert [word for word in words if word not in state] == []
    if driver.version < 12000:
        assert "pip" not in state, "no extra helps"


@pytest.fixture
def whole(monkeypatch):
    """As if every op had its kernel; nothing is remembered of other tests."""
    monkeypatch.setattr(backends, "_CUDA_IS_WHOLE", True)
    backends._cuda_state.cache_clear()
    yield monkeypatch
    backends._cuda_state.cache_clear()


@pytest.mark.parametrize(
    ("missing", "emulated"), [("numba_cuda", False), ("cuda.bindings", False), ("cupy", True)]
)
def test_packages_that_are_missing_are_named(whole, missing, emulated):
    pytest.importorskip("numba_cuda")
    pytest.importorskip("cupy") if missing != "cupy" else None
    installed = backends._is_installed
    whole.setattr(backends, "_is_installed", lambda module: module != missing and installed(module))
    state = nb.backends.available()
    name = {"numba_cuda": "numba-cuda", "cuda.bindings": "cuda-bindings", "cupy": "CuPy"}[missing]
    assert f'{name} is not installed: run "pip install nbconv[cuda13]"' in state["cuda"]
    assert (state["cuda-emulated"] is True) == emulated
    with pytest.raises(nb.BackendUnavailable, match=name):
        nb.Sequential(nb.ReLU(), backend="cuda")


def test_no_driver(whole):
    pytest.importorskip("numba_cuda")

    def absent(name):
        raise OSError(f"{name}: cannot open shared object file")

    whole.setattr(backends, "_is_installed", lambda module: True)
    whole.setattr(gpu, "ctypes", type("ctypes", (), {"CDLL": staticmethod(absent)}))
    assert nb.backends.available()["cuda"].startswith("no CUDA driver found (libcuda.so.1)")


def test_asking_for_the_cpu_asks_no_driver():
    code = (
        "import sys, ctypes\n"
        "CDLL = ctypes.CDLL\n"
        "def opened(name, *args, **kwargs):\n"
        "    assert not name or 'cuda' not in str(name), name\n"
        "    return CDLL(name, *args, **kwargs)\n"
        "ctypes.CDLL = opened\n"
        "import nbconv as nb\n"
        "import numpy as np\n"
        "nb.Sequential(nb.ReLU(), backend='cpu')(np.ones((1, 2), np.float32))\n"
        "print(*(name for name in sys.modules if name.split('.')[0] in ('cuda', 'cupy', 'numba_cuda')"
        " or name.startswith('numba.cuda')))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_a_backend_of_float32_refuses_others(whole):
    whole.setattr(backends, "_state", lambda name: True)
    with pytest.raises(ValueError, match="'cuda-emulated' computes in float32, got dtype float64"):
        backends.check("cuda-emulated", np.dtype(np.float64))
