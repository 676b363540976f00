"""Compiled kernels on disk: never stale, never fatal; and instruction sets other than ours.

Most tests run processes of their own, because all of this is decided when the package is imported.
"""

import compileall
import gc
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.caching import NullCache

import nbconv_kernels
from nbconv_kernels.cpu import cache, simd
from nbconv_kernels.cpu.jit import kernel, parallel_for

PACKAGE = Path(nbconv_kernels.__file__).parent
TESTS = Path(__file__).parent

# Applies ReLU and sigmoid, and tells what had to be compiled for it.
USE = """
import numpy as np
from numba.core import event
from nbconv_kernels.cpu import activation, cache
x = np.array([-1.0, 0.0, 2.0], np.float32)
with event.install_recorder("numba:compile") as compiled:
    y, z = activation.relu(x), activation.sigmoid(x)
print(cache.directory(), len(compiled.buffer), y.tolist(), round(float(z[2]), 4), sep=";")
"""


def environment(cache, source=None, **variables):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("NBCONV_", "NUMBA_"))}
    env["NBCONV_CACHE_DIR"] = str(cache)
    if source is not None:
        env["PYTHONPATH"] = str(source)
    return env | variables


def start(code, env):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        env=env,
        cwd=TESTS,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def output(process):
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return out.strip()


def use(env):
    """(cache directory, number of compilations, ReLU's result, sigmoid's) of a process."""
    directory, compiled, relu, sigmoid = output(start(USE, env)).split(";")
    return directory, int(compiled), relu, float(sigmoid)


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A cache that a process has filled."""
    path = tmp_path_factory.mktemp("warm")
    directory, compiled, relu, sigmoid = use(environment(path))
    assert compiled
    assert (relu, sigmoid) == ("[0.0, 0.0, 2.0]", 0.8808)
    assert Path(directory).parent == path
    return path


def test_a_second_process_compiles_nothing(warm):
    _, compiled, relu, sigmoid = use(environment(warm))
    assert (compiled, relu, sigmoid) == (0, "[0.0, 0.0, 2.0]", 0.8808)


@pytest.mark.parametrize(
    ("file", "old", "new", "relu", "sigmoid"),
    [
        (
            "cpu/activation/rectifiers.py",
            "zero if x[i] <= zero else x[i]",
            "x[i] + x[i]",
            "[-2.0, 0.0, 4.0]",
            0.8808,
        ),
        # A file that the kernel only imports.
        ("cpu/vecmath.py", "/ (one + e)", "/ (one + one)", "[0.0, 0.0, 2.0]", 0.5),
    ],
)
def test_an_edited_source_cannot_run_what_was_compiled_before(warm, tmp_path, file, old, new, relu, sigmoid):
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source / "nbconv_kernels", ignore=shutil.ignore_patterns("__pycache__"))
    before, compiled, *_ = use(environment(warm, source))
    assert compiled == 0, "the same sources elsewhere are the same"
    path = source / "nbconv_kernels" / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    after, compiled, *results = use(environment(warm, source))
    assert after != before
    assert compiled
    assert results == [relu, sigmoid]


def test_a_file_cut_short_is_compiled_anew(warm, tmp_path):
    path = tmp_path / "cache"
    shutil.copytree(warm, path)
    files = sorted(path.rglob("*.nbc"))
    assert files
    sizes = [file.stat().st_size for file in files]
    for file, size in zip(files, sizes, strict=True):
        with file.open("r+b") as stream:
            stream.truncate(size // 2)
    _, compiled, *results = use(environment(path))
    assert compiled
    assert results == ["[0.0, 0.0, 2.0]", 0.8808]
    assert use(environment(path))[1] == 0


def flip(file, place, bit):
    content = bytearray(file.read_bytes())
    content[place] ^= 1 << bit
    file.write_bytes(content)


def test_a_file_with_a_flipped_bit_is_compiled_anew(warm, tmp_path):
    path = tmp_path / "cache"
    shutil.copytree(warm, path)
    for number, file in enumerate(sorted(path.rglob("*.nbc"))):
        flip(file, file.stat().st_size * (1 + number % 7) // 8, number % 8)  # mostly in machine code
    _, compiled, *results = use(environment(path))
    assert compiled
    assert results == ["[0.0, 0.0, 2.0]", 0.8808]


PLANTED = """
import os, pickle, sys
class Planted:
    def __reduce__(self):
        return os.mkdir, (sys.argv[1],)
print(pickle.dumps(Planted()).hex())
"""


@pytest.mark.parametrize("checksum", [False, True])
def test_what_another_user_has_put_there_is_not_run(warm, tmp_path, checksum):
    if os.geteuid() != 0:
        pytest.skip("needs root to make files of another user")
    path, sign = tmp_path / "cache", tmp_path / "sign"
    shutil.copytree(warm, path)
    planted = subprocess.run(
        [sys.executable, "-c", PLANTED, sign], capture_output=True, text=True, check=True
    )
    for file in path.rglob("*.nbc"):
        content = bytes.fromhex(planted.stdout)
        if checksum:
            name = f"{file.parent.name}/{file.name}\0".encode()
            content = hashlib.sha256(name + content).digest() + content
        file.write_bytes(content)
        os.chown(file, 65534, 65534)
    _, compiled, *results = use(environment(path))
    assert compiled
    assert results == ["[0.0, 0.0, 2.0]", 0.8808]
    assert not sign.exists()


FULL = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
{USE}
"""


def test_a_full_disk_costs_time_only(tmp_path):
    for _ in range(2):
        directory, compiled, *results = output(start(FULL, environment(tmp_path))).split(";")
        assert int(compiled)
        assert results == ["[0.0, 0.0, 2.0]", "0.8808"]
    assert os.listdir(directory) == ["CACHEDIR.TAG"]  # and no half of a file


@pytest.mark.parametrize("form", ["zip", "bytecode", "bytecode in a zip"])
def test_kernels_do_not_outlive_what_is_no_folder_of_sources(warm, tmp_path, form):
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source / "nbconv_kernels", ignore=shutil.ignore_patterns("__pycache__"))
    edited = source / "nbconv_kernels" / "cpu" / "activation" / "rectifiers.py"
    text = edited.read_text()
    found = []
    for version in (text, text.replace("zero if x[i] <= zero else x[i]", "x[i] + x[i]")):
        edited.write_text(version)
        place = tmp_path / f"installed{len(found)}"
        shutil.copytree(source, place)
        if form != "zip":
            compileall.compile_dir(place, quiet=2, legacy=True)
            for file in place.rglob("*.py"):
                file.unlink()
        if form != "bytecode":
            place = shutil.make_archive(str(place), "zip", place)
        found.append(use(environment(tmp_path / "cache", place)))
        assert found[-1][1]
        assert use(environment(tmp_path / "cache", place)) == (found[-1][0], 0, *found[-1][2:])
    assert [results for *_, results, _ in found] == ["[0.0, 0.0, 2.0]", "[-2.0, 0.0, 4.0]"]


def test_a_file_of_rubbish_is_compiled_anew(warm, tmp_path):
    path = tmp_path / "cache"
    shutil.copytree(warm, path)
    for file in path.rglob("*.nbc"):
        file.write_bytes(b"\x80\x04\x95rubbish")
    assert use(environment(path))[2:] == ("[0.0, 0.0, 2.0]", 0.8808)


def test_processes_that_compile_at_once(tmp_path):
    env = environment(tmp_path)
    for process in [start(USE, env) for _ in range(3)]:
        assert output(process).endswith(";[0.0, 0.0, 2.0];0.8808")
    assert use(env)[1] == 0


def test_what_numba_is_told_of_caches_does_not_matter(warm, tmp_path):
    elsewhere = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    assert use(environment(warm, **elsewhere))[1] == 0
    assert not os.listdir(tmp_path)


DIRECTORY = "from nbconv_kernels.cpu import cache; print(cache.directory())"


@pytest.mark.parametrize("setting", [{"NUMBA_OPT": "1"}, {"NUMBA_BOUNDSCHECK": "1"}, {"PYTHONOPTIMIZE": "1"}])
def test_code_compiled_in_another_way_is_kept_elsewhere(tmp_path, setting):
    directories = {output(start(DIRECTORY, environment(tmp_path, **more))) for more in ({}, setting)}
    assert len(directories) == 2


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    directory, compiled, *results = use(environment(tmp_path / "file" / "cache"))
    assert directory == "None"
    assert compiled
    assert results == ["[0.0, 0.0, 2.0]", 0.8808]


# One call of each way through the kernels, in the form that costs the least to compile.
REDUCED = {
    "conv2d": ("3x3", "depthwise", "padded unevenly"),
    "conv2d_onto": ("3x3, no padding", "gray, wide rows", "groups, pointwise"),
    "conv2d_backward_input": ("3x3",),
    "conv2d_backward_weight": ("3x3", "depthwise"),
    "dense": ("130 x 65 -> 257",),
    "dense_backward_weight": ("130 x 65 -> 257",),
    "max_pool2d": ("overlapping", "halves, several threads"),
    "avg_pool2d": ("padded",),
    "batch_norm2d_backward": ("(8, 33, 12, 12)",),
    "tanh": ("(3, 33, 20, 20)",),
    "cross_entropy": ("(4000, 11), mean",),
    "dropout": ("(3, 33, 20, 20), p = 0.3",),
}
PARITY = f"""
import numpy as np
from test_parity import test_agrees_with_the_reference
from nbconv_kernels.cpu.simd import SIMD
for op, names in {REDUCED!r}.items():
    for name in names:
        test_agrees_with_the_reference("cpu", np.float32, op, name)
print(SIMD.name)
"""


@pytest.mark.parametrize("name", ["avx2", "portable"])
def test_lower_instruction_sets_agree_with_the_reference(name):
    if simd._best(simd.host_features()).bytes < {"avx2": simd.AVX2, "portable": simd.PORTABLE}[name].bytes:
        pytest.skip("this CPU has no AVX2")
    # In the cache of every day: each instruction set has a directory of its own there.
    env = {k: v for k, v in os.environ.items() if k != "NBCONV_SIMD"} | {"NBCONV_SIMD": name}
    assert output(start(PARITY, env)) == name


@kernel
def _doubled(x, i):
    return 2 * x[i]


@kernel
def _double_task(task, n_tasks, x, y):
    for i in range(task, x.size, n_tasks):
        y[i] = _doubled(x, i)


@kernel
def _double(n_tasks, x, y, n_threads):
    parallel_for(_double_task, n_tasks, n_threads, (n_tasks, x, y))


def test_a_kernel_compiled_to_be_inlined_can_be_called_too():
    x, y, z = np.arange(10.0), np.empty(10), np.empty(10)
    _double(2, x, y, 2)
    np.testing.assert_array_equal(y, 2 * x)
    assert _doubled(x, 3) == 6  # was only there to be inlined so far
    _double_task(0, 1, x, z)
    np.testing.assert_array_equal(z, y)
    _double(2, x, z, 2)  # and still is
    np.testing.assert_array_equal(z, y)
    assert gc.isenabled()  # compiling pauses it
    assert type(_double._cache) is NullCache  # this file may change behind the digest of the sources


def test_a_kernel_is_compiled_once_for_all_constants(monkeypatch):
    monkeypatch.setattr(cache, "enable", lambda dispatcher: None)

    @kernel
    def add(x, bounds, i):
        return x[i] + bounds[0] + bounds[1]

    @kernel
    def task(task, n_tasks, x, bounds, y):
        y[task] = add(x, (1, x.size), 3) + add(x, bounds, n_tasks)

    @kernel
    def both(x, y):
        parallel_for(task, 1, 1, (1, x, (2, x.size), y))
        parallel_for(task, 2, 1, (x.size - 8, x, (x.size, 0), y))

    x, y = np.arange(10.0), np.empty(2)
    both(x, y)
    np.testing.assert_array_equal(y, (1 + 10 + 3) + (10 + 0 + 2))
    assert len(task._parts) == len(add._parts) == 1


def instructions_of_a_caller(callee_first):
    @kernel
    def squares(x, n):
        total = 0.0
        for i in range(n):
            total += x[i] * x[i]
        return total

    @kernel
    def caller(x):
        total = 0.0
        for i in range(x.size):
            total += squares(x, i) * x[i] + squares(x, i)
        return total

    x = np.ones(50)
    if callee_first:
        squares(x, 3)
    caller(x)
    (code,) = caller.inspect_asm().values()
    return [line.split()[0] for line in code.splitlines() if line.startswith("\t") and line[1] != "."]


def test_machine_code_does_not_depend_on_what_ran_before(monkeypatch):
    monkeypatch.setattr(cache, "enable", lambda dispatcher: None)
    assert instructions_of_a_caller(callee_first=True) == instructions_of_a_caller(callee_first=False)
