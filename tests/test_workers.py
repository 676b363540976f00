"""The pool that runs kernels' tasks: every task once, on no more threads than allowed, after forks too."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numba import types

from nbconv_kernels.cpu import cache, cpus, workers
from nbconv_kernels.cpu.jit import kernel, parallel_for

TESTS = Path(__file__).parent

needs_two = pytest.mark.skipif(
    min(cpus.available(), workers._MOST) < 2, reason="one CPU, or Numba was started with one thread"
)
thread_number = types.ExternalFunction("pthread_self", types.int64())
give_way = types.ExternalFunction("sched_yield", types.int32())


@pytest.fixture(scope="module", autouse=True)
def nothing_on_disk():
    """What is compiled here is not named by a digest of this file, so it is not kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "enable", lambda dispatcher: None)
        yield


@kernel
def _count_task(task, counts):
    counts[task] += task + 1


@kernel
def _count(times, n_tasks, n_threads, counts):
    for _ in range(times):
        parallel_for(_count_task, n_tasks, n_threads, (counts,))


@kernel
def _outer_task(task, width, counts):
    parallel_for(_count_task, width, 4, (counts[task * width : (task + 1) * width],))


@kernel
def _outer(n_tasks, width, counts):
    parallel_for(_outer_task, n_tasks, 4, (width, counts))


@kernel
def _thread_task(task, spins, threads, rest):
    value = 1.0
    for _ in range(spins):
        value = value * 0.999 + 0.5
    rest[task] = value
    threads[task] = thread_number()


@kernel
def _threads(n_tasks, n_threads, spins, threads, rest):
    parallel_for(_thread_task, n_tasks, n_threads, (spins, threads, rest))


@kernel
def _meet_task(task, arrived, seen, most):
    arrived[task] = 1
    for _ in range(most):
        give_way()
        if arrived[1 - task] == 1:
            seen[task] = 1
            return


@kernel
def _meet(arrived, seen, most):
    parallel_for(_meet_task, 2, 2, (arrived, seen, most))


@kernel
def _allocate_task(task, size, out):
    scratch = np.empty(size if task == 3 else 1)
    scratch[0] = task
    out[task] = scratch[0]


@kernel
def _allocate(size, out):
    parallel_for(_allocate_task, out.size, 2, (size, out))


@pytest.mark.parametrize("n_tasks", [0, 1, 2, 3, 7, 1000, (1 << 21) + 5])
@pytest.mark.parametrize("n_threads", [1, 2, 64])
def test_every_task_runs_once(n_tasks, n_threads):
    counts = np.zeros(n_tasks, np.int64)
    _count(1, n_tasks, n_threads, counts)
    np.testing.assert_array_equal(counts, np.arange(1, n_tasks + 1))


def test_regions_without_end():
    """Their number, half a word, begins anew: after an hour of them, or two."""
    counts = np.zeros(3, np.int64)
    for number in (0x7FFFFFFF, -1):
        workers._words[workers._OPEN] = (number - 2) << 32
        _count(5, 3, 2, counts)
    assert workers._words[workers._OPEN] >> 32 == (2 if workers.started() else -3)
    np.testing.assert_array_equal(counts, 10 * np.arange(1, 4))


def test_many_callers_at_once():
    wrong = []

    def call(number):
        counts = np.zeros(5, np.int64)
        for turn in range(1, 200):
            _count(20, 5, 2, counts)
            if not np.array_equal(counts, 20 * turn * np.arange(1, 6)):
                wrong.append(number)
            time.sleep(1e-4 * (number % 3))  # so that workers fall asleep and are woken

    callers = [threading.Thread(target=call, args=(number,)) for number in range(16)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(120)
    assert not any(caller.is_alive() for caller in callers)
    assert not wrong


def test_a_task_may_have_tasks():
    counts = np.zeros(6 * 50, np.int64)
    _outer(6, 50, counts)
    np.testing.assert_array_equal(counts.reshape(6, 50), np.tile(np.arange(1, 51), (6, 1)))


@needs_two
def test_two_tasks_run_at_once():
    for _ in range(5):  # on a busy machine the worker may come too late to meet its caller
        arrived, seen = np.zeros(2, np.int64), np.zeros(2, np.int64)
        _meet(arrived, seen, 300_000)
        if seen.all():
            return
    pytest.fail("no worker ever ran beside its caller")


@pytest.mark.parametrize("n_threads", [1, 2])
def test_no_more_threads_than_allowed(n_threads):
    threads, rest = np.zeros(64, np.int64), np.zeros(64)
    for _ in range(20):
        _threads(64, n_threads, 2000, threads, rest)
        assert len(set(threads)) <= n_threads


def test_a_failed_allocation_is_a_memory_error():
    out = np.zeros(8)
    for _ in range(3):
        with pytest.raises(MemoryError, match="scratch"):
            _allocate(1 << 58, out)
        _allocate(1, out)
        np.testing.assert_array_equal(out, np.arange(8))


@needs_two
def test_workers_sleep_and_leave_signals_alone():
    counts = np.zeros(2, np.int64)
    _count(100, 2, 2, counts)
    assert 1 <= workers.started() < workers._MOST
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1
    masks = []
    for status in Path("/proc/self/task").glob("*/status"):
        lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        masks.append(int(lines["SigBlk"], 16) >> (signal.SIGTERM - 1) & 1)
    assert sum(masks) >= workers.started()
    assert sum(masks) < len(masks)


FORKS = """
import concurrent.futures, hashlib, json, multiprocessing, os, signal, sys, threading
import numpy as np
import nbconv as nb

signal.alarm(200)
layers = nb.Conv2d(3, 32, 3, padding=1), nb.ReLU(), nb.Conv2d(32, 32, 3), nb.Flatten(), nb.Dense(28800, 10)
model = nb.Sequential(*layers, seed=0)
x = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)

def digest(_=None):
    y, backprop = model.forward(x, training=True)
    dx = backprop(y)
    return hashlib.sha256(model(x).tobytes() + dx.tobytes()).hexdigest()

def in_child(work):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, work().encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        found = stream.read()
    os.waitpid(child, 0)
    return found

def in_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]

found = {"before": [in_child(digest)], "here": [digest()]}
found["fork"] = [in_child(digest) for _ in range(2)]
found["nested"] = [in_child(lambda: in_child(digest))]
found["after both"] = [in_child(lambda: digest() and in_child(digest))]
found["in a thread"] = [in_thread(lambda: in_child(digest)), in_child(lambda: in_thread(digest))]
context = multiprocessing.get_context("fork")
with context.Pool(2) as pool:
    found["Pool"] = pool.map(digest, range(4))
with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
    found["executor"] = list(pool.map(digest, range(2)))
stop = threading.Event()

def compute():
    while not stop.is_set():
        digest()

computing = [threading.Thread(target=compute) for _ in range(2)]
for thread in computing:
    thread.start()
found["while others compute"] = [in_child(digest) for _ in range(5)]
stop.set()
for thread in computing:
    thread.join()
found["and here again"] = [digest()]
print(json.dumps(found))
"""


# From 3.12 on Python warns of every fork of a process that has threads of any kind.
WARNINGS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")


def run(code, *arguments, **variables):
    """What a process of its own prints."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")} | variables
    done = subprocess.run(
        [sys.executable, *WARNINGS, "-c", code, *arguments],
        env=env,
        cwd=TESTS,
        timeout=240,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("layer", [None, "omp", "tbb", "workqueue"])
def test_a_forked_child_computes_the_same_bits(layer):
    asked = {} if layer is None else {"NUMBA_THREADING_LAYER": layer}
    found = json.loads(run(FORKS, NUMBA_NUM_THREADS="2", **asked))
    assert {where: set(digests) for where, digests in found.items()} == {
        where: set(found["here"]) for where in found
    }
    assert len(found["here"][0]) == 64


COMPILING = """
import os, signal, threading, time
import numpy as np
from nbconv_kernels.cpu import cache
cache.enable = lambda dispatcher: None
from numba.core.compiler_lock import global_compiler_lock
from nbconv_kernels import cpu
from nbconv_kernels.cpu.jit import kernel
signal.alarm(100)

def fresh():
    @kernel
    def doubled(x, y):
        for i in range(x.size):
            y[i] = 2 * x[i]
    x, y = np.arange(5.0), np.empty(5)
    doubled(x, y)
    return y.tolist() == [0, 2, 4, 6, 8]

stop = threading.Event()

def compile_on():
    while not stop.is_set():
        fresh()

compiling = threading.Thread(target=compile_on)
compiling.start()
for delay in (0, 0.003, 0.01, 0.03, 0.05):
    time.sleep(delay)
    child = os.fork()
    if child == 0:
        os._exit(0 if fresh() else 3)
    print(os.waitpid(child, 0)[1])
stop.set()
compiling.join()
print(fresh())
"""


def test_a_child_forked_while_another_thread_compiles_can_compile():
    assert run(COMPILING, NUMBA_NUM_THREADS="2").split() == ["0"] * 5 + ["True"]


BITS = """
import hashlib, os, resource, sys, threading
where, large = sys.argv[1], 1 << 33
if where == "no memory for stacks" and resource.getrlimit(resource.RLIMIT_STACK)[0] != large:
    # Of a process started so, each thread's stack is as large.
    resource.setrlimit(resource.RLIMIT_STACK, (large, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    os.execv(sys.executable, sys.orig_argv)
if where == "one CPU":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
import nbconv as nb
from nbconv_kernels.cpu import workers
layers = nb.Conv2d(3, 32, 3, padding=1), nb.BatchNorm2d(32), nb.ReLU(), nb.Conv2d(32, 32, 3)
model = nb.Sequential(*layers, seed=0)
x = np.random.default_rng(0).standard_normal((7, 3, 16, 16)).astype(np.float32)

def compute():
    for parameter in model.parameters():
        parameter.grad = None
    y, backprop = model.forward(x, training=True)
    parts = [backprop(y), *(p.grad for p in model.parameters())]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

found = []
if where == "no memory for stacks":
    with open("/proc/self/statm") as stream:
        used = int(stream.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + large // 4,) * 2)
if where == "a thread with a small stack":
    threading.stack_size(1 << 17)
    thread = threading.Thread(target=lambda: found.append(compute()))
    thread.start()
    thread.join()
else:
    found.append(compute())
print(found[0], nb.get_num_threads(), workers.started())
"""


@pytest.mark.parametrize("where", ["one CPU", "no memory for stacks", "a thread with a small stack"])
def test_the_same_bits_with_fewer_threads_than_asked_for(where):
    wanted, threads, _ = run(BITS, "all CPUs", NUMBA_NUM_THREADS="5").split()
    found, _, started = run(BITS, where, NUMBA_NUM_THREADS="5").split()
    assert threads == "5"
    assert found == wanted
    if where != "a thread with a small stack":
        assert started == "0"


def test_a_container_may_have_less_than_its_cpus(tmp_path, monkeypatch):
    groups, root = tmp_path / "groups", tmp_path / "cgroup"
    monkeypatch.setattr(cpus, "_OWN_GROUPS", groups)
    monkeypatch.setattr(cpus, "_CGROUPS", root)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    assert cpus.available() == 16  # nothing is known of groups
    (root / "job" / "step").mkdir(parents=True)
    groups.write_text("0::/job/step\n")
    (root / "job" / "step" / "cpu.max").write_text("max 100000\n")
    assert cpus.available() == 16
    (root / "job" / "cpu.max").write_text("250000 100000\n")  # two and a half
    assert cpus.available() == 3
    (root / "job" / "step" / "cpu.max").write_text("5000 100000\n")
    assert cpus.available() == 1
    groups.write_text("4:cpu,cpuacct:/docker/0123\n1:memory:/docker/0123\n")  # the host's name: not seen here
    (root / "cpu").mkdir()
    (root / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (root / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cpus.available() == 16
    (root / "cpu" / "cpu.cfs_quota_us").write_text("400000\n")
    assert cpus.available() == 4
