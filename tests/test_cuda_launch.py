"""How kernels reach a GPU: what the driver is told, what is kept on disk, what is said when nothing fits."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="the CUDA kernels are compiled by numba-cuda")

import stub_driver

import nbconv_kernels
from nbconv_kernels import disk_cache
from nbconv_kernels.cuda import arguments, store
from nbconv_kernels.cuda.build import Kernel
from nbconv_kernels.cuda.intrinsics import thread_index
from nbconv_kernels.cuda.target import bytes_, f32, f32s, float32, i64s, u32, u64

PACKAGE = Path(nbconv_kernels.__file__).parent
TESTS = Path(__file__).parent


def _mixed(x: f32s, codes: bytes_, n: u32, factor: f32, seed: u64, last: i64s):
    i = thread_index()
    if i < n:
        x[i] = x[i] * factor


def _make(factor):
    def scaled(x: f32s, n: u32):
        i = thread_index()
        if i < n:
            x[i] = x[i] * factor

    return Kernel(scaled, block=32, constants=("any",))


MIXED = Kernel(_mixed, block=64)
X = np.ones(4, np.float32)
CODES = np.ones(4, np.uint8)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            (X, CODES, 4, 2.0, 1),
            TypeError,
            r"expected 6 arguments \(x, codes, n, factor, seed, last\), got 5",
        ),
        (
            (X.astype(np.float64), CODES, 4, 2.0, 1, None),
            TypeError,
            "argument x: expected an array of float32",
        ),
        (
            (X, X, 4, 2.0, 1, None),
            TypeError,
            "argument codes: expected an array of uint8, got one of float32",
        ),
        (
            (X, CODES, 4, 2.0, 1, X),
            TypeError,
            "argument last: expected an array of int64, got one of float32",
        ),
        ((X, CODES, 4.0, 2.0, 1, None), TypeError, "argument n: expected uint32, got float"),
        ((X, CODES, -1, 2.0, 1, None), ValueError, "argument n: uint32 cannot hold -1"),
        ((X, CODES, 1 << 32, 2.0, 1, None), ValueError, "argument n: uint32 cannot hold 4294967296"),
        ((X, CODES, 4, X, 1, None), TypeError, "argument factor: expected float32, got ndarray"),
        ((X, CODES, None, 2.0, 1, None), TypeError, "argument n: expected uint32, got NoneType"),
        (
            (X, stub_driver.Array(8, np.uint8), 4, 2.0, 1, None),
            TypeError,
            "codes: expected a NumPy array, as",
        ),
        (
            ([1.0], CODES, 4, 2.0, 1, None),
            TypeError,
            "argument x: expected an array of float32 or None, got list",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(given, error, message):
    with pytest.raises(error, match=rf"^test_cuda_launch.mixed: .*{message}"):
        arguments.check(MIXED, (1,), given, on_gpu=False)


@pytest.mark.parametrize("grid", [(0,), (1, 65536), (1, 1, 65536), (1 << 31,), (1, 1, 1, 1), ()])
def test_a_grid_that_no_gpu_takes(grid):
    with pytest.raises(ValueError, match="a grid has 1 to"):
        arguments.check(MIXED, grid, (X, CODES, 4, 2.0, 1, None), on_gpu=False)


def test_what_fits_runs_where_its_arrays_are():
    x = X.copy()
    MIXED[1](x, CODES.astype(bool), np.int64(3), np.float32(2), 2**64 - 1, None)
    np.testing.assert_array_equal(x, [2, 2, 2, 1])
    with pytest.raises(TypeError, match="argument n: expected uint32, got float"):
        MIXED[1](x, CODES, 0.5, 2.0, 1, None)


def test_arguments_lie_as_a_kernel_finds_them():
    assert arguments.offsets(MIXED) == [0, 8, 16, 20, 24, 32]
    assert arguments.layout(MIXED).size == 40


# The launch path itself, with a driver and a CuPy that only write down what they are asked.

LAUNCH = """
import ctypes, json, threading
import numpy as np
import stub_driver
from stub_driver import Array

notes = stub_driver.install(stream=7)
from nbconv_kernels.cuda import driver
from nbconv_kernels.cuda.build import Kernel
from nbconv_kernels.cuda.intrinsics import thread_index
from nbconv_kernels.cuda.target import f32, f32s, i64s, u32

def number(name):
    return ctypes.c_uint.in_dll(notes, name)

def some(x: f32s, y: i64s, factor: f32, n: u32):
    i = thread_index()
    if i < n:
        x[i] = factor

def refusal(*arguments, grid=1):
    try:
        kernel[grid](*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

kernel = Kernel(some, block=96, shared_bytes=64 * 1024)
number("count").value = 4
kernel[3, 2](Array(4096), None, 1.5, 77)
values = bytes((ctypes.c_char * 32).in_dll(notes, "values"))
told = {
    "pointers": np.frombuffer(values, np.uint64)[:2].tolist(),
    "factor": float(np.frombuffer(values, np.float32)[4]),
    "n": int(np.frombuffer(values, np.uint32)[6]),
    "grid": list((ctypes.c_uint * 3).in_dll(notes, "grid")),
    "block": list((ctypes.c_uint * 3).in_dll(notes, "block")),
    "shared": number("shared_bytes").value,
    "most shared": number("attribute").value,
    "stream": number("stream").value,
}
told["refused"] = [
    refusal(Array(4096), None, 1.5),
    refusal(Array(4096, np.float64), None, 1.5, 77),
    refusal(Array(4096), np.ones(4, np.int64), 1.5, 77),
    refusal(Array(4096), None, 1.5, -1),
    refusal(Array(4096), None, Array(4096), 1),
]
told["launches"] = number("launches").value
number("status").value = 700
told["refused"] += [refusal(Array(4096), None, 1.5, 77), refusal(Array(4096), None, 1.5, 77, grid=(1, 70000))]
number("status").value = 0

wrong = []
def work(address):
    for i in range(300):
        kernel[1](Array(address), None, 1.5, i)
        written = driver._local.ready[kernel].memory.raw
        if int.from_bytes(written[:8], "little") != address or int.from_bytes(written[20:24], "little") != i:
            wrong.append(written)

number("launches").value = stub_driver.Device.used = 0
threads = [threading.Thread(target=work, args=(4096 * i,)) for i in (1, 2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
told["of two threads"] = [number("launches").value, len(wrong), stub_driver.Device.used]
told["loads"] = number("loads").value
print(json.dumps(told))
"""


def python(code, env):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True, cwd=TESTS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_the_driver_is_told(tmp_path):
    env = stub_driver.build(tmp_path)
    if env is None:
        pytest.skip("needs a C compiler")
    assert json.loads(python(LAUNCH, env)) == {
        "pointers": [4096, 0],
        "factor": 1.5,
        "n": 77,
        "grid": [3, 2, 1],
        "block": [96, 1, 1],
        "shared": 64 * 1024,
        "most shared": 64 * 1024,
        "stream": 7,
        "refused": [
            "TypeError: __main__.some: expected 4 arguments (x, y, factor, n), got 3",
            "TypeError: __main__.some: argument x: expected an array of float32, got one of float64",
            "TypeError: __main__.some: argument y: expected one on the GPU, as the others are, "
            "got a NumPy array",
            "ValueError: __main__.some: argument n: uint32 cannot hold -1",
            "TypeError: __main__.some: argument factor: expected float32, got Array",
            "LaunchError: __main__.some: CUDA_ERROR_ILLEGAL_ADDRESS (the stub says no); grid (1,), block 96",
            "ValueError: __main__.some: a grid has 1 to (2147483647, 65535, 65535) blocks, got (1, 70000)",
        ],
        "launches": 1,
        "of two threads": [600, 0, 2],
        "loads": 1,
    }


# Kept on disk: under a name that all that decides the code is in.

COMPILE = """
from nbconv_kernels.cuda import residual, store
from nbconv_kernels.cuda.build import Kernel
made = []
compiled = Kernel._compiled
Kernel._compiled = lambda kernel: made.append(kernel.name) or compiled(kernel)
ptx = residual._add_relu.ptx
cubin = residual._add_relu.cubin((8, 0))
print(store.directory(), len(made), "max" in ptx, cubin[:4] == b"\\x7fELF", sep=";")
"""


def compile_once(cache, source=None):
    """(directory, kernels compiled) of a process that needs one."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("NBCONV_")} | {
        "NBCONV_CACHE_DIR": str(cache)
    }
    if source is not None:
        env["PYTHONPATH"] = str(source)
    directory, made, *right = python(COMPILE, env).split(";")
    assert right == ["True", "True"]
    return directory, int(made)


def test_code_is_kept_and_what_is_broken_is_made_anew(tmp_path):
    directory, made = compile_once(tmp_path)
    assert made == 1
    assert Path(directory).parent == tmp_path
    files = sorted(set(Path(directory).iterdir()) - {Path(directory, "CACHEDIR.TAG")})
    assert [file.name.partition("-")[2].partition(".")[2] for file in files] == ["ptx", "sm_80.cubin"]
    assert compile_once(tmp_path) == (directory, 0)
    files[0].write_bytes(files[0].read_bytes()[:-1])
    files[1].write_bytes(b"\x7fELF" + bytes(100))
    assert compile_once(tmp_path) == (directory, 1)
    assert compile_once(tmp_path) == (directory, 0)


def test_an_edit_begins_another_directory(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source / "nbconv_kernels", ignore=shutil.ignore_patterns("__pycache__"))
    before, made = compile_once(tmp_path / "cache", source)
    assert made == 1
    with (source / "nbconv_kernels/cuda/intrinsics.py").open("a") as file:
        file.write("# an edit\n")
    after, made = compile_once(tmp_path / "cache", source)
    assert made == 1
    assert after != before
    with (source / "nbconv_kernels/cuda/emulator/__init__.py").open("a") as file:
        file.write("# an edit of what compiles nothing\n")
    assert compile_once(tmp_path / "cache", source) == (after, 0)


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert compile_once(tmp_path / "file" / "cache") == ("None", 1)


def test_kernels_of_one_factory_are_told_apart():
    names = [store._file_name(_make(factor)) for factor in (float32(2), float32(3), float32(2))]
    assert names[0] == names[2] != names[1]
    assert None not in names


def test_a_constant_without_a_text_keeps_its_kernel_out_of_the_store(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "place", lambda: disk_cache.Place(tmp_path))
    monkeypatch.setattr(disk_cache.Sources, "hold", lambda sources, module: True)
    tmp_path.chmod(0o700)
    odd, plain = _make(object()), _make(float32(2))
    assert store._file_name(odd) is None
    assert store.fetch(odd, "ptx", lambda: b"made") == b"made"
    assert not list(tmp_path.iterdir())
    assert store.fetch(plain, "ptx", lambda: b"made") == b"made"
    assert store.fetch(plain, "ptx", lambda: b"made anew") == b"made"
    monkeypatch.undo()
    assert not store._sources().hold(plain.function.__module__)  # this file may change behind the digest
