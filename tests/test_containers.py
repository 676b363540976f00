import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import nbconv as nb
from nbconv.inspect import check_gradients
from nbconv_kernels.cpu.tasks import rows_of

BACKENDS = ["reference", "cpu"]


def conv(in_channels, out_channels, kernel_size=3, **settings):
    return nb.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, **settings)


def small(backend="reference", seed=0, **settings):
    """One of each, inside each other."""
    return nb.Sequential(
        conv(3, 4),
        nb.Residual(nb.Sequential(conv(4, 4), nb.BatchNorm2d(4))),
        nb.Concat(
            conv(4, 2, 1),
            nb.Sequential(conv(4, 3), nb.ReLU(), nb.Residual(conv(3, 3), activation=None)),
            nb.MaxPool2d(3, 1, padding=1),
        ),
        nb.DenseBlock(
            nb.Sequential(nb.BatchNorm2d(9), nb.ReLU(), conv(9, 2)),
            nb.Concat(conv(11, 1), nb.Dropout(0.25)),
        ),
        nb.Residual(conv(23, 5, stride=2), conv(23, 5, 1, stride=2), nb.Tanh()),
        nb.Flatten(),
        nb.Dense(20, 3),
        backend=backend,
        seed=seed,
        **settings,
    )


def images(n=5, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal((n, 3, 4, 4)).astype(dtype)


# Values


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("training", [True, False])
def test_residual_is_a_sum(backend, training):
    x = images()
    body, shortcut = conv(3, 4).to(backend), conv(3, 4, 1).to(backend)
    expected = body(x) + shortcut(x)
    for activation, function in (
        (None, lambda z: z),
        (nb.ReLU(), lambda z: np.maximum(z, 0)),
        (nb.Tanh(), np.tanh),
    ):
        layer = nb.Residual(body, shortcut, activation)
        y, _ = layer.forward(x, training)
        np.testing.assert_allclose(y, function(expected), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(layer(x), y)
    np.testing.assert_allclose(nb.Residual(nb.Sequential()).to(backend)(x), np.maximum(2 * x, 0))


@pytest.mark.parametrize("backend", BACKENDS)
def test_concat_puts_channels_side_by_side(backend):
    x = images()
    branches = [conv(3, 4), nb.Sequential(), nb.AvgPool2d(3, 1, 1)]
    layer = nb.Concat(*branches).to(backend)
    expected = np.concatenate([branch(x) for branch in branches], axis=1)
    np.testing.assert_array_equal(layer(x), expected)
    np.testing.assert_array_equal(layer.forward(x, training=True)[0], expected)
    assert layer.output_shape(x.shape) == expected.shape == (5, 10, 4, 4)


def test_concat_of_flat_branches():
    layer = nb.Concat(nb.Dense(3, 2), nb.Dense(3, 4)).to("reference", dtype="float64")
    check_gradients(layer, images(dtype=np.float64)[:, :, 0, 0])
    assert layer.output_shape((5, 3)) == (5, 6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dense_block_shows_all_to_each(backend):
    x = images()
    first, second = conv(3, 2), conv(5, 4)
    block = nb.DenseBlock(first, second).to(backend)
    once = np.concatenate([x, first(x)], axis=1)
    twice = np.concatenate([once, second(once)], axis=1)
    np.testing.assert_array_equal(block(x), twice)
    np.testing.assert_array_equal(block.forward(x, training=True)[0], twice)


class _Witness(nb.Layer):
    """Passes on what it sees, and keeps it."""

    def forward(self, x, training=False, *, input_grad=True):
        self.seen = x
        return x, lambda dy: dy

    def output_shape(self, input_shape):
        return input_shape


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("x", [images(), images()[:, :, 0, 0]], ids=["4-D", "flat"])
def test_dense_block_grows_without_copies(backend, x):
    witnesses = [_Witness() for _ in range(3)]
    # The reference brings what a Sequential gets into a layout of its own.
    layers = witnesses if backend == "reference" else map(nb.Sequential, witnesses)
    block = nb.DenseBlock(*layers).to(backend)
    for run in (block, lambda x: block.forward(x, training=True)[0]):
        y = run(x)
        for witness, channels in zip(witnesses, (3, 6, 12), strict=True):
            assert np.shares_memory(witness.seen, y)
            np.testing.assert_array_equal(witness.seen, np.concatenate([x] * (channels // 3), axis=1))
        assert not np.shares_memory(x, y)
        np.testing.assert_array_equal(y, np.concatenate([x] * 8, axis=1))


def test_the_first_channels_are_read_where_they_lie():
    whole = nb.backends.get("cpu").channels_last(images())
    rows = rows_of(whole[:, :2])
    assert rows[1:] == (5 * 4 * 4, 2, 3)
    assert np.shares_memory(rows.row, whole)
    np.testing.assert_array_equal(rows.row[3:5], whole[0, :2, 0, 1])
    assert rows_of(whole[:, :, ::2]).pitch == rows_of(whole).pitch == 3
    assert not np.shares_memory(rows_of(whole[:, :, ::2]).row, whole)


def test_growth_rate():
    """P9: layer l of a block has k0 + k (l - 1) input maps."""
    k0, k = 6, 4
    block = nb.DenseBlock(*(conv(k0 + k * (number - 1), k) for number in range(1, 6)))
    assert block.output_shape((2, k0, 8, 8)) == (2, k0 + 5 * k, 8, 8)
    seen = [step.input_shape[1] for step in block.trace((2, k0, 8, 8))][:-1]
    assert seen == [6, 10, 14, 18, 22]


# Gradients


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_a_nested_model(backend, training):
    model = nb.Sequential(*small()[:3], *small()[4:], backend=backend, dtype="float64", seed=1)
    model[3] = nb.Residual(conv(9, 5, stride=2), conv(9, 5, 1, stride=2), nb.Tanh())
    model[0].weight.data = model[0].weight.data * 0.5
    check_gradients(model, images(2, dtype=np.float64), training=training)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_layer_on_two_paths_gets_both_gradients(backend):
    shared = conv(3, 3)
    model = nb.Sequential(
        nb.Concat(shared, nb.Sequential(nb.Tanh(), shared)), backend=backend, dtype="float64"
    )
    assert len(model.parameters()) == 2
    check_gradients(model, images(2, dtype=np.float64))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "make",
    [
        lambda: nb.Residual(nb.Sequential(), activation=None),
        lambda: nb.Residual(nb.Sequential(), nb.Sequential(), nb.Dropout()),
        lambda: nb.Residual(nb.Residual(nb.Sequential(), activation=None), activation=None),
        lambda: nb.Residual(conv(3, 3), nb.Sequential(), activation=None),
        lambda: nb.Residual(nb.Residual(conv(3, 3)), nb.Residual(conv(3, 3))),
        lambda: nb.Concat(nb.Sequential(), nb.Sequential()),
        lambda: nb.Concat(nb.Concat(nb.Sequential())),
        lambda: nb.DenseBlock(),
        lambda: nb.DenseBlock(nb.Sequential(), nb.Dropout()),
    ],
)
def test_gradients_where_memory_is_passed_through(make, backend):
    layer = make().to(backend, dtype="float64")
    x = images(2, dtype=np.float64)
    x += 0.5 * np.sign(x)
    check_gradients(layer, x, training=False)
    for training in (True, False):
        before = x.copy()
        y, backprop = layer.forward(x, training)
        dy = np.random.default_rng(0).standard_normal(y.shape)
        kept = dy.copy()
        backprop(dy)
        np.testing.assert_array_equal(x, before)
        np.testing.assert_array_equal(dy, kept)


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_is_near_float64(backend):
    results = []
    for dtype in (np.float32, np.float64):
        model = small(backend, dtype=dtype)
        y, backprop = model.forward(images(dtype=dtype), training=True)
        dx = backprop(np.ones_like(y))
        assert dx.dtype == y.dtype == dtype
        results.append([y, dx, *(parameter.grad for parameter in model.parameters())])
    for ours, exact in zip(*results, strict=True):
        np.testing.assert_allclose(ours, exact, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_seed_gives_the_same_bits(backend):
    def run():
        model = small(backend)
        y, backprop = model.forward(images(), training=True)
        return [y, backprop(np.ones_like(y)), *(parameter.grad for parameter in model.parameters())]

    for first, second in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_every_parameter_has_a_stream_of_its_own():
    first, second, other = small(seed=1), small(seed=1), small(seed=2)
    state = first.state_dict()
    for key, value in second.state_dict().items():
        np.testing.assert_array_equal(value, state[key])
    assert (other[1].body[0].weight.data != first[1].body[0].weight.data).any()
    dropouts = [layer for _, layer in first.named_layers() if isinstance(layer, nb.Dropout)]
    again = [layer for _, layer in second.named_layers() if isinstance(layer, nb.Dropout)]
    assert [layer.seed for layer in dropouts] == [layer.seed for layer in again]


@pytest.mark.parametrize(
    "make",
    [
        lambda: nb.Residual(conv(3, 3), conv(3, 3, 1)),
        lambda: nb.Concat(conv(3, 3), conv(3, 2)),
        lambda: nb.DenseBlock(conv(3, 3), conv(6, 2)),
    ],
)
def test_work_that_is_not_wanted_is_not_done(make):
    def passes(layer, **settings):
        for parameter in layer.parameters():
            parameter.grad = None
        y, backprop = layer.forward(images(), training=True, **settings)
        return backprop(np.ones_like(y)), [parameter.grad is not None for parameter in layer.parameters()]

    layer = make().to("reference")
    assert passes(layer)[1] == [True] * 4
    dx, has_gradient = passes(layer, input_grad=False)
    assert dx is None
    assert has_gradient == [True] * 4
    first = next(iter(layer.children().values())).requires_grad_(False)
    dx, has_gradient = passes(layer)
    assert dx.shape == (5, 3, 4, 4)
    assert has_gradient == [False, False, True, True]
    dx, has_gradient = passes(layer, input_grad=False)
    assert dx is None
    assert has_gradient == [False, False, True, True]
    first.requires_grad_(True)
    list(layer.children().values())[1].requires_grad_(False)
    assert passes(layer, input_grad=False)[1] == [True, True, False, False]
    layer.requires_grad_(False)
    assert passes(layer, input_grad=False) == (None, [False] * 4)


# Memory


class _Probe(nb.Layer):
    """Keeps its output, which it remembers weakly, and asks what is alive when the gradient comes by."""

    def __init__(self, others):
        self.others = others
        self.output = None
        self.alive = None

    def output_shape(self, input_shape):
        return input_shape

    def forward(self, x, training=False, *, input_grad=True):
        y = x * np.float32(2)
        self.output = weakref.ref(y)

        def backprop(dy, kept=y):
            gc.collect()
            self.alive = [other.output() is not None for other in self.others]
            return dy * np.float32(2)

        return y, backprop


@pytest.mark.parametrize(
    ("wrap", "expected"),
    [
        # The body's activations are free before the shortcut is run, the last one's first.
        (
            lambda a, b, c: nb.Residual(nb.Sequential(a, b), c),
            [(1, [1, 1, 1]), (0, [1, 0, 1]), (2, [0, 0, 1])],
        ),
        (lambda a, b, c: nb.Concat(nb.Sequential(a, b), c), [(2, [1, 1, 1]), (1, [1, 1, 0]), (0, [1, 0, 0])]),
        (lambda a, b, c: nb.DenseBlock(a, b, c), [(2, [1, 1, 1]), (1, [1, 1, 0]), (0, [1, 0, 0])]),
    ],
)
def test_activations_are_freed_as_the_gradient_passes(wrap, expected):
    others = []
    probes = [_Probe(others) for _ in range(3)]
    others += probes
    model = nb.Sequential(wrap(*probes), backend="reference")
    y, backprop = model.forward(np.ones((2, 3), np.float32))
    dy = np.ones_like(y)
    del y
    backprop(dy)
    for number, alive in expected:
        assert probes[number].alive == [bool(one) for one in alive], number


def test_inference_keeps_no_activation():
    probes = [_Probe([]) for _ in range(3)]
    model = nb.Sequential(nb.DenseBlock(probes[0], nb.Residual(probes[1])), nb.Concat(probes[2]))
    model.to("reference")(np.ones((2, 3), np.float32))
    gc.collect()
    assert all(probe.output() is None for probe in probes)


def test_backprop_runs_once():
    for layer in (nb.Residual(conv(3, 3)), nb.Concat(conv(3, 3)), nb.Concat(conv(3, 3), nb.ReLU())):
        y, backprop = layer.to("reference").forward(images())
        backprop(np.ones_like(y))
        with pytest.raises(RuntimeError, match="backprop can be called once; run forward again"):
            backprop(np.ones_like(y))


# State


def test_names():
    assert [name for name, _ in small().named_parameters()] == [
        "0.weight",
        "0.bias",
        "1.body.0.weight",
        "1.body.0.bias",
        "1.body.1.weight",
        "1.body.1.bias",
        "2.0.weight",
        "2.0.bias",
        "2.1.0.weight",
        "2.1.0.bias",
        "2.1.2.body.weight",
        "2.1.2.body.bias",
        "3.0.0.weight",
        "3.0.0.bias",
        "3.0.2.weight",
        "3.0.2.bias",
        "3.1.0.weight",
        "3.1.0.bias",
        "4.body.weight",
        "4.body.bias",
        "4.shortcut.weight",
        "4.shortcut.bias",
        "6.weight",
        "6.bias",
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_saved_model_comes_back(backend, tmp_path):
    model = small(backend)
    model.forward(images(), training=True)
    model.save(tmp_path / "model.safetensors")
    again = nb.load(tmp_path / "model.safetensors", backend=backend)
    assert repr(again) == repr(model)
    assert {layer.backend for _, layer in again.named_layers()} == {backend}
    np.testing.assert_array_equal(again(images()), model(images()))
    other = small(backend, seed=9)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other(images()), model(images()))


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_is_independent(copier):
    model = small()
    before = model(images())
    again = copier(model)
    again[1].body[0].weight.data[:] = 5
    np.testing.assert_array_equal(model(images()), before)
    assert (again(images()) != before).any()


def test_a_model_moves_with_all_it_holds():
    model = small("reference")
    before = model(images())
    model.to("cpu", dtype="float64")
    assert {layer.backend for _, layer in model.named_layers()} == {"cpu"}
    assert {layer.dtype for _, layer in model.named_layers()} == {np.dtype(np.float64)}
    np.testing.assert_allclose(model(images()), before, rtol=1e-4, atol=1e-5)


def test_a_container_follows_its_first_layer():
    body = nb.Sequential(conv(3, 3), backend="reference", dtype="float64")
    layer = nb.Residual(body, conv(3, 3, 1))
    assert {inner.backend for _, inner in layer.named_layers()} == {"reference"}
    assert layer.shortcut.dtype == np.float64


def test_the_activation_is_no_ones_elses():
    first, second = nb.Residual(conv(3, 3)), nb.Residual(conv(3, 3))
    assert first.activation is not second.activation
    first.to("reference")
    assert second.activation.backend == "cpu"


def test_repr_and_summary_show_what_is_inside():
    model = nb.Sequential(
        conv(3, 4), nb.Residual(nb.Sequential(conv(4, 4)), nb.Sequential(), None), nb.Concat(nb.ReLU())
    )
    assert repr(model) == (
        "Sequential(\n"
        "  (0): Conv2d(3, 4, 3, padding=1)\n"
        "  (1): Residual(\n"
        "    (body): Sequential(\n"
        "      (0): Conv2d(4, 4, 3, padding=1)\n"
        "    )\n"
        "    (shortcut): Sequential()\n"
        "  )\n"
        "  (2): Concat(\n"
        "    (0): ReLU()\n"
        "  )\n"
        ")"
    )
    summary = model.summary((3, 8, 8))
    rows = [(row.position, row.layer, row.output_shape, row.parameters, row.macs) for row in summary.rows]
    assert rows == [
        ("0", "Conv2d", (4, 8, 8), 112, 64 * 108),
        ("1.body.0", "Conv2d", (4, 8, 8), 148, 64 * 144),
        ("1", "Residual", (4, 8, 8), 0, 0),
        ("2.0", "ReLU", (4, 8, 8), 0, 0),
        ("2", "Concat", (4, 8, 8), 0, 0),
    ]
    assert summary.parameters == 260
    assert summary.macs == model.macs((1, 3, 8, 8)) == model[0].macs((1, 3, 8, 8)) + 64 * 144
    assert model[1].macs((2, 4, 8, 8)) == 2 * 64 * 144


# Errors


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            nb.Residual(conv(4, 8)),
            (1, 4, 6, 6),
            r"Residual \(layer 0\): cannot add the input of shape \(1, 4, 6, 6\) to the body's output of "
            r"\(1, 8, 6, 6\); a shortcut must give it that shape",
        ),
        (
            nb.Residual(conv(4, 8), conv(4, 8, 1, stride=2)),
            (1, 4, 6, 6),
            r"Residual \(layer 0\): cannot add the shortcut of shape \(1, 8, 3, 3\) to the body's output",
        ),
        (
            nb.Residual(nb.Sequential(nb.ReLU(), nb.Concat(nb.ReLU(), conv(3, 8)))),
            (1, 4, 6, 6),
            r"Conv2d \(layer 0\.body\.1\.1\): expected 3 input channels, got 4",
        ),
        (
            nb.Residual(conv(4, 4), nb.Sequential(conv(3, 4, 1))),
            (1, 4, 6, 6),
            r"Conv2d \(layer 0\.shortcut\.0\): expected 3 input channels, got 4",
        ),
        (
            nb.Residual(conv(4, 4), activation=nb.Softmax(5)),
            (1, 4, 6, 6),
            r"Softmax \(layer 0\.activation\): an input of shape \(1, 4, 6, 6\) has no axis 5",
        ),
        (
            nb.Concat(conv(4, 8), nb.MaxPool2d(2)),
            (1, 4, 6, 6),
            r"Concat \(layer 0\): branch 1 gives shape \(1, 4, 3, 3\), which does not fit beside "
            r"\(1, 8, 6, 6\): all but the channels must agree",
        ),
        (
            nb.DenseBlock(conv(4, 2), conv(5, 2)),
            (1, 4, 6, 6),
            r"Conv2d \(layer 0\.1\): expected 5 input channels, got 6",
        ),
        (
            nb.DenseBlock(conv(4, 2), conv(6, 2, stride=2)),
            (1, 4, 6, 6),
            r"DenseBlock \(layer 0\): layer 1 gives shape \(1, 2, 3, 3\), which does not fit beside "
            r"\(1, 6, 6, 6\)",
        ),
    ],
)
def test_shapes_that_do_not_fit(layer, shape, message):
    model = nb.Sequential(layer, backend="reference")
    x = np.ones(shape, np.float32)
    for call in (
        lambda: model(x),
        lambda: model.predict(x, check_finite=True),
        lambda: model.forward(x, training=True),
        lambda: model.output_shape(shape),
        lambda: model.summary(shape[1:]),
    ):
        with pytest.raises(nb.LayerError, match=message):
            call()


def test_what_is_no_layer():
    with pytest.raises(TypeError, match="a Residual holds layers, got None"):
        nb.Residual(None)
    with pytest.raises(TypeError, match=r"a Residual holds layers, got <class .*\(a class: are the brackets"):
        nb.Residual(nb.ReLU(), activation=nb.ReLU)
    with pytest.raises(TypeError, match="a Concat holds layers, got 3"):
        nb.Concat(nb.ReLU(), 3)
    with pytest.raises(nb.LayerError, match="Concat: expected at least one branch"):
        nb.Concat()


def test_nan_inside_names_the_layer():
    model = nb.Sequential(nb.ReLU(), nb.Residual(nb.Sequential(conv(3, 3), nb.Tanh())), backend="reference")
    model[1].body[0].weight.data[0] = np.inf
    with pytest.raises(nb.NonFiniteError, match=r"Conv2d \(layer 1\.body\.0\): .* of the output are not"):
        model.predict(images(), check_finite=True)
