"""Every CUDA kernel assembled for three architectures: no spills, budgets kept, main loops as promised."""

import importlib
import pkgutil
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

# ruff: noqa: E402 - what is imported further down needs what is looked for here
pytest.importorskip("numba_cuda", reason="the CUDA kernels are compiled by numba-cuda")
pathfinder = pytest.importorskip("cuda.pathfinder")
if not all(map(pathfinder.find_nvidia_binary_utility, ("ptxas", "nvdisasm"))):
    pytest.skip("needs ptxas and nvdisasm", allow_module_level=True)

import nbconv_kernels.cuda
from nbconv_kernels.cuda import assembly
from nbconv_kernels.cuda.build import KERNELS, Kernel, device_function
from nbconv_kernels.cuda.intrinsics import load4, thread_index
from nbconv_kernels.cuda.target import cuda as target
from nbconv_kernels.cuda.target import f32, f32s, float32, i32, u32, uint32

ARCHITECTURES = [(7, 5), (8, 0), (9, 0)]
TAKEN_APART = ARCHITECTURES[1:]  # which takes half a second each
FFMA_SHARE = 0.8

WITHOUT_KERNELS = {"device", "driver", "graph"}  # and not to be imported without CuPy

for module in pkgutil.walk_packages(nbconv_kernels.cuda.__path__, f"{nbconv_kernels.cuda.__name__}."):
    if module.name.rpartition(".")[2] not in WITHOUT_KERNELS:
        importlib.import_module(module.name)
ALL = list(KERNELS)

pool = ThreadPoolExecutor(2)


def runs_on(kernel, capability):
    """Whether the instructions of ``kernel`` exist there."""
    if len(kernel.capability) == 3:
        return kernel.capability[:2] == capability
    return kernel.capability <= capability


def complaints(kernel, capability):
    """All that is wrong with a kernel's machine code for an architecture."""
    cubin, needs = assembly.assemble(kernel.ptx, capability)
    found = []
    if needs.spills or needs.stack or needs.local:
        found.append(f"memory of its own: {needs}")
    if needs.registers > kernel.max_registers:
        found.append(f"{needs.registers} registers of {kernel.max_registers}")
    if kernel.main_loop is not None and capability in TAKEN_APART:
        loop = assembly.main_loop(assembly.disassemble(cubin), kernel.main_loop)
        found += wrong_mix(kernel.main_loop, [one.name for one in loop])
    return found


def wrong_mix(wanted, names):
    count = sum(name.split(".")[0] == wanted for name in names)
    if not count:
        return [f"no loop with {wanted}"]
    found = []
    if wanted == "FFMA" and count < FFMA_SHARE * len(names):
        found.append(f"{count} FFMA of {len(names)} instructions")
    if not any(name.startswith("LDSM") or (name.startswith("LD") and ".128" in name) for name in names):
        found.append("no 128-bit load in the main loop")
    return found


def of_ptx(kernel):
    found = []
    if re.search(r"\.f64\b", kernel.ptx):
        found.append("float64 instructions")
    if re.search(r"\.local\b", kernel.ptx):
        found.append("local memory")
    if re.search(r"\b(atom|red)\.[\w.]*f(16|32|64)", kernel.ptx):
        found.append("float atomics")
    return found


@pytest.mark.parametrize("kernel", ALL, ids=lambda kernel: kernel.name)
def test_kernels_keep_their_promises(kernel):
    assert of_ptx(kernel) == []
    there = [capability for capability in ARCHITECTURES if runs_on(kernel, capability)]
    found = dict(
        zip(map(assembly.arch, there), pool.map(lambda cc: complaints(kernel, cc), there), strict=True)
    )
    assert found
    assert not any(found.values()), found


def test_names_tell_kernels_apart():
    assert len({kernel.name for kernel in ALL}) == len(ALL)


@pytest.mark.parametrize("capability", ARCHITECTURES)
def test_the_linker_makes_what_a_device_loads(capability):
    kernel = next(kernel for kernel in ALL if kernel.name == "residual.add_relu")
    cubin = kernel.cubin(capability)
    assert cubin.startswith(b"\x7fELF")
    names = {one.name for one in assembly.disassemble(cubin)}
    assert "FADD" in names
    assert any(re.match(r"LDG\.[\w.]*128", name) for name in names)


# What the tests above look for is found where it is.


def _thread(x: f32s, y: f32s, n: u32):
    i = thread_index()
    if i < n:
        y[i] = x[i] * 0.1 + 1.0


def _looked_up(x: f32s, y: f32s, n: i32):
    kept = target.local.array(64, float32)
    for i in range(64):
        kept[i] = x[i]
    y[0] = kept[n]


def _many(x: f32s, y: f32s, n: u32):
    sums = target.local.array(96, float32)
    for i in range(96):
        sums[i] = float32(0)
    for k in range(n):
        for i in range(96):
            sums[i] += x[uint32(uint32(k) * uint32(96) + uint32(i))] * x[uint32(k)]
    for i in range(96):
        y[i] = sums[i]


@device_function
def _four(sums, x, k, factor):
    a, b, c, d = load4(x, k)
    for i in range(16):
        sums[i] += factor * a
        sums[i] += b * sums[i]
        sums[i] += factor * c
        sums[i] += d * sums[i]


def _dense(x: f32s, y: f32s, factor: f32, n: u32):
    sums = target.local.array(16, float32)
    for i in range(16):
        sums[i] = float32(i)
    k = uint32(0)
    while k < n:
        _four(sums, x, k, factor)
        k = uint32(k + uint32(4))
    for i in range(16):
        y[i] = sums[i]


@pytest.mark.parametrize(
    ("function", "options", "complaint"),
    [
        (_many, {"max_registers": 64, "block": 64}, r"\d+ registers of 64"),
        (_many, {"block": 1024, "min_blocks": 2}, "memory of its own"),
        (_thread, {"main_loop": "FFMA"}, "no loop with FFMA"),
        (_many, {"max_registers": 255, "block": 64, "main_loop": "FFMA"}, "FFMA of|no 128-bit load"),
    ],
)
def test_bad_machine_code_is_seen(function, options, complaint):
    kernel = Kernel(function, **{"block": 128} | options)
    assert re.search(complaint, "; ".join(complaints(kernel, (8, 0))))


def test_a_good_main_loop_is_known():
    kernel = Kernel(_dense, block=128, main_loop="FFMA")
    assert of_ptx(kernel) == []
    assert complaints(kernel, (9, 0)) == []


@pytest.mark.parametrize(
    ("function", "complaint"), [(_thread, "float64 instructions"), (_looked_up, "local memory")]
)
def test_bad_ptx_is_seen(function, complaint):
    assert complaint in of_ptx(Kernel(function, block=128))
