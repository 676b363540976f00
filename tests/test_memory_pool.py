"""The CPU backend's pool of memory: what is in use is never given out, what is not is."""

import threading
import weakref

import numpy as np

from nbconv_kernels.cpu import memory

SHAPE = (64, 1024)


def test_memory_of_a_dropped_array_is_used_again():
    first = memory.empty(SHAPE, np.float32)
    where = first.ctypes.data
    del first
    assert memory.empty(SHAPE, np.float32).ctypes.data == where


def test_sizes_an_eighth_apart_share():
    first = memory.empty((4000, 100), np.float32)
    where = first.ctypes.data
    del first
    assert memory.empty((3990, 100), np.float32).ctypes.data == where


def test_a_view_keeps_the_memory():
    first = memory.empty(SHAPE, np.float32)
    first[:] = 1.0
    view = first.reshape(-1)[5:9].T
    del first
    others = [memory.empty(SHAPE, np.float32) for _ in range(3)]
    for other in others:
        other[:] = 2.0
    np.testing.assert_array_equal(view, 1.0)


def test_arrays_start_on_a_cache_line():
    for rows in range(100, 110):
        assert memory.empty((rows, 333), np.float64).ctypes.data % 64 == 0


def test_idle_memory_goes_back_when_sizes_change():
    for megabytes in range(8, 80, 3):
        memory.empty((megabytes << 20,), np.uint8)
    held = sum(size * len(buffers) for size, buffers in memory._pool.items())
    assert held < 300 << 20


def test_what_a_step_needs_is_kept_for_the_next():
    """Forward and backward: the arrays pile up and go again, and a gradient has a size of its own."""
    first = memory.empty((80 << 20,), np.uint8)
    later = [memory.empty((16 << 20,), np.uint8) for _ in range(10)]
    kept = [weakref.ref(array.base) for array in later]
    del later
    gradient = memory.empty((24 << 20,), np.uint8)
    assert first.nbytes + gradient.nbytes == 104 << 20  # both are in use
    assert all(buffer() is not None for buffer in kept)


def test_threads_never_share():
    clashes = []

    def work(mark):
        for _ in range(300):
            array = memory.empty(SHAPE, np.float32)
            array[:] = mark
            if not (array == mark).all():
                clashes.append(mark)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not clashes
