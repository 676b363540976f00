"""The threads that run the tasks of kernels: ``run(callback, count, threads, data)`` for compiled code.

Who has tasks is one of those who run them. Tasks are claimed one by one, and only what has been claimed is
waited for: never a thread that has not begun, because the machine is busy, or because there is none (in a
forked child). So who finds the workers awake pays less than a microsecond for them, and who does not, or has
none, does the work alone. Which thread runs a task is not fixed; what a task does depends on its number only.

The pool serves one caller at a time. A second one, and a task that has tasks of its own, begins alone, and
looks after each task whether the pool has become free for the rest.

A worker that finds nothing to do looks out for a tenth of a millisecond, then sleeps. Workers are started
when there is work for them, no more than there are CPUs (``cpus``). They are threads of the system, of which
Python does not know: they hold none of its locks, and end with the process. A forked child has none of them,
and begins with a row of words of its own, all zero.

Words are written by one thread, or changed by an atomic operation of which one thread has the success.
``_OPEN`` holds the number of the region in its upper half and how many of its tasks are not claimed in its
lower half. A claim takes one from it, if it is still what it was before the region's other words were read;
so these were the region's.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import types
from numba.core.ccallback import CFunc

from nbconv_kernels.cpu import cache, cpus
from nbconv_kernels.cpu.dispatch import KernelDispatcher
from nbconv_kernels.cpu.pipeline import KernelCompiler
from nbconv_kernels.cpu.shared_words import (
    LINE,
    add,
    address_of,
    call_task,
    load,
    make_words,
    pause,
    replace,
    store,
)

RUN = "nbconv_run_tasks"
"""The name by which compiled code calls ``void run(callback, int64 count, int64 threads, void *data)``."""

_OPEN = 0
_CALLBACK, _COUNT, _DATA, _HELPERS = LINE, LINE + 1, LINE + 2, LINE + 3  # of the open region
_PENDING = 2 * LINE  # tasks of it that are not done
_TAKEN = 3 * LINE  # whether the pool has a caller
_CALLER = 4 * LINE  # a sleeper
_CPUS, _STARTED, _ENTRY = 5 * LINE, 5 * LINE + 1, 5 * LINE + 2
_NO_SIGNALS, _OWN_SIGNALS = 6 * LINE, 8 * LINE  # a worker's mask, and room for that of who starts it
_FIRST_WORKER = 10 * LINE  # sleepers, one a line
# Of a sleeper, who is the caller or a worker: whether it sleeps, what it sleeps on, and room for the time.
_ASLEEP, _BELL, _CLOCK, _THREAD = 0, 1, 2, 4

_HALF = 32
_LEFT = (1 << _HALF) - 1  # the lower half of _OPEN
_LOOK_OUT = 100_000  # nanoseconds; a layer's Python takes less
_GLANCES = 64  # between two looks at the clock
_MONOTONIC, _SET_MASK = time.CLOCK_MONOTONIC, int(signal.SIG_SETMASK)

# Python's locks are what a thread can sleep on that exists everywhere, and they need no Python to be held.
_new_lock = types.ExternalFunction("PyThread_allocate_lock", types.int64())
_acquire = types.ExternalFunction("PyThread_acquire_lock", types.int32(types.int64, types.int32))
_release = types.ExternalFunction("PyThread_release_lock", types.void(types.int64))
_clock = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.int64))
_mask = types.ExternalFunction("pthread_sigmask", types.int32(types.int32, types.int64, types.int64))
_create = types.ExternalFunction(
    "pthread_create", types.int32(types.int64, types.int64, types.int64, types.int64)
)

_MOST = numba.config.NUMBA_NUM_THREADS  # threads there is room for
_words = make_words(_FIRST_WORKER + LINE * _MOST)


def _part(function: Callable[..., Any]) -> Any:
    return KernelDispatcher(function, {"nopython": True, "forceinline": True, "no_cfunc_wrapper": True})


def _entry(*arguments: Any, returns: Any = types.void) -> Callable[[Callable[..., Any]], CFunc]:
    """Compile for C to call, and keep the machine code on disk."""

    def compiled(function: Callable[..., Any]) -> CFunc:
        entry = CFunc(function, (arguments, returns), {}, {"nopython": True}, KernelCompiler)
        entry.py_func = function  # what dispatchers call it, to the cache
        cache.enable(entry)
        entry.compile()
        return entry

    return compiled


@_part
def _now(sleeper):
    """Nanoseconds."""
    _clock(_MONOTONIC, address_of(sleeper + _CLOCK))
    return load(sleeper + _CLOCK) * 1_000_000_000 + load(sleeper + _CLOCK + 1)


@_part
def _wake(sleeper):
    if load(sleeper + _ASLEEP) == 1 and replace(sleeper + _ASLEEP, 1, 0):
        _release(load(sleeper + _BELL))


@_part
def _run_claimed(region):
    """Claim tasks of the region, and run them, while there are any."""
    while True:
        now = load(_OPEN)
        left = now & _LEFT
        if now >> _HALF != region or left == 0:
            return
        callback, task, data = load(_CALLBACK), load(_COUNT) - left, load(_DATA)
        if replace(_OPEN, now, now - 1):
            call_task(callback, task, data)
            if add(_PENDING, -1) == 1:
                _wake(_CALLER)


@_part
def _work(index):
    """A worker's life."""
    own = _FIRST_WORKER + index * LINE
    seen, glances, until = -1, 0, 0
    while True:
        region = load(_OPEN) >> _HALF
        if region != seen:
            seen = region
            if index < load(_HELPERS):
                _run_claimed(region)
                until = _now(own) + _LOOK_OUT
        glances += 1
        if glances % _GLANCES == 0 and _now(own) > until:
            store(own + _ASLEEP, 1)
            # Who opens a region after this looks whether somebody is asleep.
            if load(_OPEN) >> _HALF == seen or not replace(own + _ASLEEP, 1, 0):
                _acquire(load(own + _BELL), 1)
        pause()


@_part
def _start_worker(index):
    """Whether there is one more."""
    own = _FIRST_WORKER + index * LINE
    bell = _new_lock()
    if bell == 0:
        return False
    _acquire(bell, 0)
    store(own + _BELL, bell)
    # Signals are for threads that know what they mean.
    _mask(_SET_MASK, address_of(_NO_SIGNALS), address_of(_OWN_SIGNALS))
    failed = _create(address_of(own + _THREAD), 0, load(_ENTRY), index)
    _mask(_SET_MASK, address_of(_OWN_SIGNALS), 0)
    return failed == 0


@_part
def _run_together(callback, count, left, data, helpers):
    """Run the last ``left`` of the tasks with helpers; the pool is the caller's."""
    for index in range(load(_STARTED), helpers):
        if not _start_worker(index):  # the system allows no more threads: let that be all
            store(_CPUS, index + 1)
            break
        store(_STARTED, index + 1)
    store(_CALLBACK, callback)
    store(_COUNT, count)
    store(_DATA, data)
    store(_HELPERS, helpers)
    store(_PENDING, left)
    opened = (load(_OPEN) | _LEFT) + 1 + left
    store(_OPEN, opened)
    for index in range(min(helpers, load(_STARTED))):
        _wake(_FIRST_WORKER + index * LINE)
    _run_claimed(opened >> _HALF)
    glances, until = 0, 0
    while load(_PENDING) > 0:
        glances += 1
        if glances == _GLANCES:
            until = _now(_CALLER) + _LOOK_OUT
        elif glances % _GLANCES == 0 and _now(_CALLER) > until:
            store(_CALLER + _ASLEEP, 1)
            # Who does the last task after this looks whether the caller is asleep. Who did the last one of
            # the region before may be about to look still: then this is woken once for nothing.
            if load(_PENDING) > 0 or not replace(_CALLER + _ASLEEP, 1, 0):
                _acquire(load(_CALLER + _BELL), 1)
        pause()


@_entry(types.int64, types.int64, types.int64, types.int64)
def _run(callback, count, threads, data):
    left = count
    while left > 0:
        helpers = min(threads, left, load(_CPUS)) - 1
        if helpers > 0 and left <= _LEFT and load(_TAKEN) == 0 and replace(_TAKEN, 0, 1):
            _run_together(callback, count, left, data, helpers)
            store(_TAKEN, 0)
            return
        call_task(callback, count - left, data)
        left -= 1


@_entry(types.int64, returns=types.int64)
def _live(index):
    _work(index)
    return 0


def _new_bell() -> ctypes.c_void_p:
    allocate = ctypes.pythonapi.PyThread_allocate_lock
    allocate.restype = ctypes.c_void_p
    return ctypes.c_void_p(allocate())


def _begin() -> None:
    """No region, no workers: how a process begins, a forked one too."""
    _words[:] = 0
    _words[_ENTRY] = _live.address
    # A new one: somebody may have slept on the parent's.
    bell = _new_bell()
    _words[_CALLER + _BELL] = bell.value
    ctypes.pythonapi.PyThread_acquire_lock(bell, 0)
    ctypes.CDLL(None).sigfillset(ctypes.c_void_p(_words[_NO_SIGNALS:].ctypes.data))
    count_cpus()


def count_cpus() -> None:
    """Look again how many threads are of use at once."""
    _words[_CPUS] = min(cpus.available(), _MOST)


def started() -> int:
    """How many workers there are."""
    return int(_words[_STARTED])


_begin()
os.register_at_fork(after_in_child=_begin)
llvm.add_symbol(RUN, _run.address)
