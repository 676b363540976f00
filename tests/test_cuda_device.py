"""In which order copies and recordings are asked of a GPU, by a CuPy that only keeps a diary."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import nbconv_kernels

pytest.importorskip("numba_cuda", reason="the CUDA kernels are compiled by numba-cuda")
ROOM = Path(nbconv_kernels.__file__).parent / "cuda"


class RuntimeFailure(Exception):
    pass


class Diary(list):
    """What was asked, as tuples; streams and events are known by their names."""

    def __init__(self):
        self.stream = self.main = self.new_stream("main")
        self.refuses = False

    def new_stream(self, name):
        diary = self

        class Stream:
            ptr = hash(name)

            def __enter__(self):
                self.before, diary.stream = diary.stream, self

            def __exit__(self, *error):
                diary.stream = self.before

            def record(self):
                event = f"event {sum(entry[1] == 'record' for entry in diary)}"
                diary.append((name, "record", event))
                return event

            def wait_event(self, event):
                diary.append((name, "wait", event))

            def begin_capture(self):
                diary.append((name, "begin"))

            def end_capture(self):
                diary.append((name, "end"))
                if diary.refuses:
                    raise RuntimeFailure
                return SimpleNamespace(launch=lambda stream: diary.append((stream.name, "launch")))

        stream = Stream()
        stream.name = name
        return stream

    def cupy(self):
        """A module that computes nothing and copies at once."""
        diary = self

        class Array(np.ndarray):
            pass

        class Pool:
            def malloc(self, size):
                pass

        class Allocating:
            def __init__(self, malloc):
                pass

            def __enter__(self):
                diary.append(("pool", "in use"))

            def __exit__(self, *error):
                diary.append(("pool", "left"))

        def asarray(x, dtype=None):
            if not isinstance(x, Array):
                diary.append((diary.stream.name, "copy", x.shape))
            return np.array(x, dtype).view(Array)

        module = ModuleType("cupy")
        module.ndarray, module.asarray = Array, asarray
        module.cuda = SimpleNamespace(
            get_current_stream=lambda: diary.stream,
            Stream=lambda non_blocking: diary.new_stream("side"),
            MemoryPool=Pool,
            using_allocator=Allocating,
            runtime=SimpleNamespace(getDevice=lambda: 0, CUDARuntimeError=RuntimeFailure),
        )
        return module


@pytest.fixture
def diary(monkeypatch):
    diary = Diary()
    monkeypatch.setitem(sys.modules, "cupy", diary.cupy())
    return diary


def room(name):
    """A module of the backend, imported as if for the first time."""
    spec = importlib.util.spec_from_file_location(f"{name}_anew", ROOM / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_copy_waits_for_what_came_before_and_holds_up_only_who_takes_it(diary):
    device = room("device")
    take = device.upload(np.ones((2, 3), np.float32))
    diary.append(("main", "a step"))
    array = take()
    assert diary == [
        ("main", "record", "event 0"),
        ("side", "wait", "event 0"),
        ("side", "copy", (2, 3)),
        ("side", "record", "event 1"),
        ("main", "a step"),
        ("main", "wait", "event 1"),
    ]
    np.testing.assert_array_equal(array, np.ones((2, 3)))
    diary.clear()
    assert device.upload(array)() is not None
    assert diary == [], "what is there is not copied"


def test_channels_last_memory_stays_so(diary):
    device = room("device")
    x = np.arange(120, dtype=np.float32).reshape(2, 4, 5, 3).transpose(0, 3, 1, 2)
    y = device.asarray(x)
    np.testing.assert_array_equal(y, x)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert diary == [("main", "copy", (2, 4, 5, 3))]
    assert device.asarray(np.ascontiguousarray(x)).flags.c_contiguous
    assert device.asarray([1, 2], np.float32).dtype == np.float32


def test_work_is_recorded_on_a_stream_and_in_memory_of_its_own(diary):
    graph, cupy = room("graph"), sys.modules["cupy"]
    x = np.zeros(3, np.float32).view(cupy.ndarray)

    def work(x):
        diary.append((diary.stream.name, "work"))
        return x

    step = graph.capture(work, x)
    assert diary == [
        ("pool", "in use"),
        ("side", "begin"),
        ("side", "work"),
        ("side", "end"),
        ("pool", "left"),
    ]
    assert not np.shares_memory(step.inputs[0], x)
    diary.clear()
    result = step(np.full(3, 7, np.float32))
    assert diary == [("main", "launch")]
    assert result is step.inputs[0]
    np.testing.assert_array_equal(result, [7, 7, 7])
    with pytest.raises(ValueError, match=r"input 0 was recorded as float32 of shape \(3,\), got float32"):
        step(np.ones(4, np.float32))
    with pytest.raises(ValueError, match=r"input 0 was recorded as float32 .* got float64"):
        step(np.ones(3))
    with pytest.raises(ValueError, match="expected 1 inputs, got 2"):
        step(x, x)


@pytest.mark.parametrize("driver_has_ended_it", [False, True])
def test_work_that_fails_leaves_no_recording_behind(diary, driver_has_ended_it):
    graph = room("graph")
    diary.refuses = driver_has_ended_it

    def work():
        raise KeyError("the work's own")

    with pytest.raises(KeyError, match="the work's own"):
        graph.capture(work)
    assert diary[-2:] == [("side", "end"), ("pool", "left")]
    assert diary.stream is diary.main
