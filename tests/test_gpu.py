"""What only a GPU can show: the same kernels on CuPy's arrays, copies beside the work, steps as graphs.

``pytest -m gpu`` runs these, and the tests of other files that carry the mark. Models trained on the GPU are
in ``test_cuda_training.py``.
"""

import copy
import zlib

import numpy as np
import pytest
from gpu_arrays import image_of, ops_of
from parity_cases import CASES, IN_PLACE, IN_PLACE_ANY_LAYOUT, Rng
from test_device_arrays import LAYERS, X, Y, numbers, plain
from test_parity import LAYOUTS, OF_RANGES, arrays_of, assert_close, converted, lay_out, run, to_dtype

import nbconv as nb
from nbconv import backends
from nbconv_kernels import reference

gpu = pytest.mark.gpu
TOLERANCE = {"rtol": 2e-3, "atol": 2e-4}


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(2, 3, 4),
        np.arange(120.0).reshape(2, 3, 4, 5).transpose(0, 3, 1, 2)[:, 1:4],
        np.arange(20.0)[::-2],
        np.empty((0, 3)),
    ],
    ids=["whole", "channels of more", "backwards", "empty"],
)
def test_a_layout_survives_the_journey(array):
    raw, offset = image_of(array)
    again = np.ndarray(array.shape, array.dtype, raw if raw.size else np.empty(1), offset, array.strides)
    np.testing.assert_array_equal(again, array)


@gpu
@pytest.mark.parametrize("op", CASES)
def test_ops_agree_with_the_reference(op):
    for name in CASES[op]:
        check(op, name)


def check(op, name):
    case = CASES[op][name]
    call = converted(case.make(Rng(zlib.crc32(f"{op} {name}".encode()))), to_dtype(np.float32))
    expected = run(reference, op, converted(call, to_dtype(np.float64)))
    layouts = LAYOUTS if op not in IN_PLACE or op in IN_PLACE_ANY_LAYOUT else LAYOUTS[:1]
    for layout in layouts + (("channels of more",) if op in OF_RANGES else ()):
        given = converted(call, lambda array, layout=layout: lay_out(array, layout))
        try:
            assert_close(run(ops_of("cuda"), op, given), expected, np.float32, case.terms)
        except Exception as error:
            error.add_note(f"({op}: {name}, {layout})")
            raise
        if op not in IN_PLACE:
            for before, after in zip(arrays_of(call), arrays_of(given), strict=True):
                np.testing.assert_array_equal(before, after, err_msg=f"{op}, {name} has changed its argument")


@gpu
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_gradients_of_layers_agree_with_the_cpu(layer):
    x = X[:, [0, 1, 0, 1], :6, :6]
    here = nb.Sequential(copy.deepcopy(layer), seed=0)
    there = copy.deepcopy(here).to("cuda")
    for training in (False, True):
        (y, backprop), (y2, backprop2) = here.forward(x, training), there.forward(x, training)
        np.testing.assert_allclose(backends.to_numpy(y2), y, **TOLERANCE)
        np.testing.assert_allclose(backends.to_numpy(backprop2(y2)), backprop(y), **TOLERANCE)
    for parameter, other in zip(here.parameters(), there.parameters(), strict=True):
        np.testing.assert_allclose(backends.to_numpy(other.grad), parameter.grad, **TOLERANCE)


@gpu
@pytest.mark.parametrize(
    ("name", "size"), [("resnet50", 224), ("vgg16", 224), ("mobilenet_v1", 224), ("densenet121", 64)]
)
def test_networks_agree_with_the_cpu(name, size):
    model = getattr(nb.models, name)(10, seed=0)
    x = np.random.default_rng(0).standard_normal((2, 3, size, size), dtype=np.float32)
    expected = model(x)
    error = np.abs(model.to("cuda")(x) - expected).max()
    assert error <= 1e-3 * np.abs(expected).max()


@gpu
def test_cupy_arrays_are_taken_and_given_without_a_copy():
    import cupy

    model = plain("cuda")
    x = cupy.asarray(np.ascontiguousarray(X.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
    assert model.prepare(x).data.ptr == x.data.ptr
    assert isinstance(model(x), cupy.ndarray)
    assert isinstance(model.predict(x, 5), cupy.ndarray)
    assert type(model(X)) is np.ndarray
    np.testing.assert_array_equal(model.predict(X, 5), cupy.asnumpy(model.predict(x, 5)))


@gpu
def test_a_recorded_step_gives_the_bits_of_one_that_is_not():
    results = []
    for record in (True, False, True):
        model = plain("cuda")
        loss = nb.CrossEntropyLoss([1, 2, 3, 4, 5])
        trainer = nb.Trainer(model, loss, nb.SGD(model.parameters(), lr=0.01, momentum=0.9))
        history = trainer.fit(X, Y, 4, 4, validation_data=(X, Y), record=record, verbose=False)
        results.append((numbers(history), model.state_dict()))
    for history, state in results[1:]:
        assert history == results[0][0]
        for key, value in state.items():
            np.testing.assert_array_equal(value, results[0][1][key], err_msg=key)


@gpu
def test_batches_sent_ahead_arrive_whole():
    import cupy

    backend = backends.get("cuda")
    rng = np.random.default_rng(0)
    memory = np.empty((64, 3, 64, 64), np.float32)
    busy = cupy.ones((2048, 2048), cupy.float32)
    waiting = []
    for _ in range(8):
        memory[...] = rng.standard_normal(memory.shape, dtype=np.float32)
        waiting.append((backend.upload(memory, np.float32), float(memory.sum(dtype=np.float64))))
        busy = busy * 1.0001  # work that the copies run beside
        memory[...] = np.nan  # the memory is free again as soon as the call returns
    for take, expected in waiting:
        assert float(cupy.asnumpy(take()).sum(dtype=np.float64)) == expected
