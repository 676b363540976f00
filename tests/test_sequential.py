import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

import nbconv as nb

BACKENDS = ["reference", "cpu"]


def small(backend="reference", seed=0, **settings):
    return nb.Sequential(
        nb.Conv2d(2, 3, 3, padding=1),
        nb.BatchNorm2d(3),
        nb.ReLU(),
        nb.MaxPool2d(2),
        nb.Flatten(),
        nb.Dropout(0.25),
        nb.Dense(12, 4),
        backend=backend,
        seed=seed,
        **settings,
    )


def images(n=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 2, 4, 4), np.float32)


# A list of layers


def test_it_is_a_list_of_layers():
    layers = [nb.Dense(2, 3), nb.ReLU(), nb.Dense(3, 4)]
    model = nb.Sequential(*layers)
    assert len(model) == 3
    assert list(model) == layers
    assert model[0] is layers[0]
    assert model[-1] is layers[2]
    with pytest.raises(IndexError):
        model[3]
    model.append(nb.Softmax()).insert(1, nb.Tanh())
    assert [type(layer).__name__ for layer in model] == ["Dense", "Tanh", "ReLU", "Dense", "Softmax"]
    model[1] = nb.Sigmoid()
    del model[-1]
    assert [type(layer).__name__ for layer in model] == ["Dense", "Sigmoid", "ReLU", "Dense"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_slice_shares_its_layers(backend):
    model = small(backend)
    features = model[:4]
    assert isinstance(features, nb.Sequential)
    assert features.backend == backend
    assert features[0] is model[0]
    x = images()
    np.testing.assert_array_equal(model[4:](features(x)), model(x))
    assert features(x).shape == (5, 3, 2, 2)
    assert [name for name, _ in model[1::2].named_parameters()] == ["0.weight", "0.bias"]


def test_names_are_those_of_pytorch():
    names = [name for name, _ in small().named_parameters()]
    assert names == ["0.weight", "0.bias", "1.weight", "1.bias", "6.weight", "6.bias"]
    nested = nb.Sequential(nb.ReLU(), nb.Sequential(nb.Tanh(), nb.Dense(2, 2, bias=False)))
    assert [name for name, _ in nested.named_parameters("model")] == ["model.1.1.weight"]


def test_a_shared_layer_counts_once():
    layer = nb.Dense(3, 3)
    model = nb.Sequential(layer, nb.ReLU(), layer, backend="reference")
    assert len(model.parameters()) == 2
    assert model.summary((3,)).parameters == 12
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    y, backprop = model.forward(np.ones((1, 3), np.float32))
    backprop(np.ones_like(y))


def test_repr_nests():
    model = nb.Sequential(nb.Sequential(nb.ReLU()), nb.Dense(2, 2))
    assert repr(model) == ("Sequential(\n  (0): Sequential(\n    (0): ReLU()\n  )\n  (1): Dense(2, 2)\n)")


# Passes


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_seed_gives_the_same_bits(backend):
    def train():
        model = small(backend)
        optimizer = nb.SGD(model.parameters(), lr=0.1, momentum=0.9)
        loss = nb.CrossEntropyLoss(backend=backend)
        seen = []
        for step in range(4):
            optimizer.zero_grad()
            y, backprop = model.forward(images(8, step), training=True)
            value, dy = loss(y, np.arange(8) % 4)
            seen += [value, y.copy(), backprop(dy)]
            optimizer.step()
        return [*seen, *model.state_dict().values()]

    for first, second in zip(train(), train(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_dropouts_of_a_seeded_model_differ_from_each_other():
    model = nb.Sequential(nb.Dropout(), nb.Dropout(), seed=0)
    again = nb.Sequential(nb.Dropout(), nb.Dropout(), seed=0)
    assert model[0].seed != model[1].seed
    assert [layer.seed for layer in model] == [layer.seed for layer in again]


def nested(seed=None):
    """Dropout at every depth."""
    body = nb.Sequential(nb.Dense(6, 6), nb.Dropout(0.4))
    return nb.Sequential(
        nb.Residual(body), nb.Sequential(nb.Dropout(0.5)), nb.Dense(6, 3), nb.Dropout(0.1),
        backend="reference", seed=seed,
    )  # fmt: skip


def loaded(tmp_path, change=lambda model: model):
    nested(seed=1).save(tmp_path / "model.safetensors")
    return change(nb.load(tmp_path / "model.safetensors", backend="reference"))


def passes(model, count=3):
    x = np.ones((4, 6), np.float32)
    return np.stack([model.forward(x, training=True)[0] for _ in range(count)])


def dropped(model, **fit):
    """The weights after training, which depend on what dropout has dropped."""
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), lr=0.1))
    trainer.fit(np.ones((8, 6), np.float32), np.arange(8) % 3, batch_size=4, verbose=False, **fit)
    return np.concatenate([value.ravel() for value in model.state_dict().values()])


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model,
        lambda model: model.insert(0, nb.Dropout(0.2)),
        lambda model: model.append(nb.Dropout(0.2)),
        lambda model: model.replace_head(3, seed=4),
        lambda model: model.to(dtype="float64").to(dtype="float32"),
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
    ],
    ids=["loaded", "insert", "append", "replace_head", "to", "copy", "pickle"],
)
def test_a_loaded_model_can_be_seeded_at_any_time(tmp_path, change):
    models = [loaded(tmp_path, change) for _ in range(3)]
    assert not np.array_equal(passes(models[0]), passes(models[1]))
    for model in models:
        model.seed = 5
    seeded = passes(models[0])
    np.testing.assert_array_equal(passes(models[1]), seeded)  # though both had made passes, not these
    models[0].seed = 5  # counts from 0 again
    np.testing.assert_array_equal(passes(models[0]), seeded)
    models[2].seed = 6
    assert not np.array_equal(passes(models[2]), seeded)
    models[0].seed = None
    assert not np.array_equal(passes(models[0]), seeded)


def test_a_seed_set_late_is_the_seed_of_the_beginning():
    late = nested()
    late.seed = 7
    np.testing.assert_array_equal(passes(late), passes(nested(seed=7)))
    with pytest.raises(nb.LayerError, match="must not be negative"):
        late.seed = -1
    with pytest.raises(TypeError):
        late.seed = "7"
    assert late.seed == 7


def test_fit_seeds_the_dropout_of_a_model_that_has_no_seed(tmp_path):
    np.testing.assert_array_equal(dropped(loaded(tmp_path), seed=3), dropped(loaded(tmp_path), seed=3))
    assert not np.array_equal(dropped(loaded(tmp_path), seed=3), dropped(loaded(tmp_path), seed=4))
    assert not np.array_equal(dropped(loaded(tmp_path)), dropped(loaded(tmp_path)))


def test_fit_leaves_seeds_alone_that_somebody_has_set():
    draws = []
    for seed in (3, 4):
        model = nb.Sequential(
            nb.Sequential(nb.Dropout(), seed=1),
            nb.Dropout(),
            nb.Dense(6, 3),
            nb.Dropout(),
            backend="reference",
        )
        model[1].seed = 11
        dropped(model, seed=seed)
        draws.append([model[0][0].draws, model[1].draws, model[3].draws])
    assert draws[0][:2] == draws[1][:2]
    assert draws[0][0].seed == nb.Sequential(nb.Dropout(), seed=1)[0].seed
    assert draws[0][1][:2] == (11, 2)
    assert draws[0][2] != draws[1][2]
    whole = nested(seed=1)
    before = [layer.draws.seed for _, layer in whole.named_layers() if isinstance(layer, nb.Dropout)]
    dropped(whole, seed=9)
    assert before == [layer.draws.seed for _, layer in whole.named_layers() if isinstance(layer, nb.Dropout)]


def test_the_rate_test_puts_the_draws_back(tmp_path):
    model = loaded(tmp_path)
    before = [layer.draws for _, layer in model.named_layers() if isinstance(layer, nb.Dropout)]
    trainer = nb.Trainer(model, nb.CrossEntropyLoss(), nb.SGD(model.parameters(), lr=0.1))
    nb.find_learning_rate(trainer, np.ones((8, 6), np.float32), np.arange(8) % 3, 4, steps=3, seed=2)
    assert before == [layer.draws for _, layer in model.named_layers() if isinstance(layer, nb.Dropout)]


def test_a_model_grown_layer_by_layer_draws_the_same():
    whole = nb.Sequential(nb.Dense(2, 3), nb.Dense(3, 2), seed=3)
    grown = nb.Sequential(nb.Dense(2, 3), seed=3).append(nb.Dense(3, 2))
    for a, b in zip(whole.parameters(), grown.parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize("backend", BACKENDS)
def test_predict_is_the_model_batch_by_batch(backend):
    model = small(backend)
    x = images(11)
    whole = model(x)
    for batch_size in (1, 4, 11, 100):
        y = model.predict(x, batch_size)
        assert y.flags.c_contiguous
        np.testing.assert_allclose(y, whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.predict(x.tolist()), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_threads_predict_at_once(backend):
    model = small(backend)
    x = [images(64, seed) for seed in range(2)]
    expected = [model(batch) for batch in x]
    fresh = small(backend)  # the threads meet parameters that are not drawn yet
    wrong = []
    start = threading.Barrier(2)

    def work(mine):
        start.wait()
        wrong.extend(i for i in range(20) if not np.array_equal(fresh.predict(x[mine]), expected[mine]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_backprop_runs_once():
    y, backprop = small().forward(images())
    backprop(np.ones_like(y))
    with pytest.raises(RuntimeError, match="can be called once; run forward again"):
        backprop(np.ones_like(y))


class _Probe(nb.Layer):
    """Remembers its output weakly, and what was alive when the gradient came by."""

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


def test_activations_are_freed_as_the_gradient_passes():
    others = []
    probes = [_Probe(others) for _ in range(4)]
    others += probes
    model = nb.Sequential(*probes, backend="reference")
    y, backprop = model.forward(np.ones((2, 3), np.float32))
    dy = np.ones_like(y)
    del y
    backprop(dy)
    assert [probe.alive for probe in reversed(probes)] == [
        [True, True, True, True],
        [True, True, True, False],
        [True, True, False, False],
        [True, False, False, False],
    ]


def test_inference_keeps_no_activation():
    probes = [_Probe([]) for _ in range(3)]
    model = nb.Sequential(*probes, backend="reference")
    y = model(np.ones((2, 3), np.float32))
    gc.collect()
    assert [probe.output() is not None for probe in probes] == [False, False, True]
    assert y[0, 0] == 8


class _Counting(nb.Dense):
    """Counts the backward passes through it."""

    calls = 0

    def forward(self, x, training=False, *, input_grad=True):
        y, backprop = super().forward(x, training, input_grad=input_grad)

        def counted(dy):
            self.calls += 1
            self.input_grad = input_grad
            return backprop(dy)

        return y, counted


def test_a_frozen_base_costs_no_gradient_work():
    layers = [_Counting(3, 3) for _ in range(4)]
    model = nb.Sequential(*layers, backend="reference")
    model[:2].requires_grad_(False)
    model[3].requires_grad_(False)
    y, backprop = model.forward(np.ones((2, 3), np.float32), training=True, input_grad=False)
    assert backprop(np.ones_like(y)) is None
    assert [layer.calls for layer in layers] == [0, 0, 1, 1]
    assert not layers[2].input_grad
    assert [p.grad is not None for p in model.parameters()] == [False] * 4 + [True] * 2 + [False] * 2
    y, backprop = model.forward(np.ones((2, 3), np.float32), training=True)
    assert backprop(np.ones_like(y)).shape == (2, 3)
    assert [layer.calls for layer in layers] == [1, 1, 2, 2]


# State


def test_state_dict_has_the_keys_of_pytorch():
    assert list(small().state_dict()) == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "6.weight",
        "6.bias",
    ]


def test_a_state_dict_is_a_copy_and_can_be_loaded():
    model, other = small(seed=1), small(seed=2)
    state = model.state_dict()
    model[0].weight.data[:] = 0
    assert (state["0.weight"] != 0).all()
    assert other.load_state_dict(state) == ([], [])
    for key, value in other.state_dict().items():
        np.testing.assert_array_equal(value, state[key])
    np.testing.assert_array_equal(other(images()), small(seed=1)(images()))
    state["0.weight"][:] = 0
    assert (other[0].weight.data != 0).all()


def test_loading_is_lenient_on_request():
    model = small()
    state = model.state_dict()
    state["extra"] = state.pop("0.bias")
    result = model.load_state_dict(state, strict=False)
    assert result.missing_keys == ["0.bias"]
    assert result.unexpected_keys == ["extra"]


def test_equal_weighing_of_batches_goes_on_after_loading():
    def model():
        return nb.Sequential(nb.BatchNorm2d(2, momentum=None), backend="reference")

    straight, first, second = model(), model(), model()
    for seed in range(4):
        straight.forward(images(seed=seed), training=True)
    for seed in range(2):
        first.forward(images(seed=seed), training=True)
    second.load_state_dict(first.state_dict())
    for seed in range(2, 4):
        second.forward(images(seed=seed), training=True)
    np.testing.assert_array_equal(second[0].running_var, straight[0].running_var)


def test_a_model_moves_with_all_it_holds():
    model = nb.Sequential(nb.Sequential(nb.BatchNorm2d(2)), nb.Conv2d(2, 2, 1), backend="reference")
    x = images()
    before = model(x)
    assert model.to("cpu") is model
    assert {layer.backend for _, layer in model.named_layers()} == {"cpu"}
    model.to("reference", dtype="float64")
    assert {p.data.dtype for p in model.parameters()} == {np.dtype(np.float64)}
    y = model(x)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, before, rtol=1e-5, atol=1e-6)


# Summary


def test_summary_counts():
    model = small()
    model[0].weight.requires_grad = False
    summary = model.summary((2, 4, 4))
    assert [row.position for row in summary.rows] == [str(i) for i in range(7)]
    assert [row.layer for row in summary.rows][:2] == ["Conv2d", "BatchNorm2d"]
    assert [row.output_shape for row in summary.rows] == [
        (3, 4, 4),
        (3, 4, 4),
        (3, 4, 4),
        (3, 2, 2),
        (12,),
        (12,),
        (4,),
    ]
    assert [row.parameters for row in summary.rows] == [57, 6, 0, 0, 0, 0, 52]
    assert summary.parameters == 115
    assert summary.trainable == 115 - 54
    assert summary.macs == 16 * 54 + 48
    assert summary.rows[0].activation_bytes == 48 * 4
    assert summary.activation_bytes == 4 * (3 * 48 + 3 * 12 + 4)


def test_summary_is_a_table():
    text = str(nb.Sequential(nb.Sequential(nb.Conv2d(3, 64, 3)), nb.ReLU()).summary((3, 34, 34)))
    lines = text.splitlines()
    assert lines[0] == "input 3 x 34 x 34; for one example"
    header = ["layer", "output", "shape", "parameters", "multiply-adds", "activations", "fused", "into"]
    assert lines[1].split() == header
    assert " ".join(lines[3].split()) == "0.0 Conv2d 64 x 32 x 32 1,792 1,769,472 256.0 KiB"
    assert " ".join(lines[4].split()) == "1 ReLU 64 x 32 x 32 0 0 256.0 KiB 0.0"
    assert lines[-1].split() == ["total", "1,792", "1,769,472", "512.0", "KiB"]
    assert len({len(line) for line in lines[1:]}) == 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["batch", "frozen", "evaluation"])
def test_a_normalisation_and_its_relu_train_together_as_apart(backend, case):
    results = []
    for fuses in (True, False):
        model = small(backend, dtype=np.float64)
        model.fuses = fuses
        model[1].running_mean, model[1].running_var = np.array([0.1, -0.2, 0.3]), np.array([0.5, 2.0, 1.5])
        if case == "frozen":
            model.freeze(slice(1, 2))
        y, backprop = model.forward(images().astype(np.float64), case != "evaluation")
        dx = backprop(np.arange(y.size, dtype=np.float64).reshape(y.shape))
        gradients = [p.grad for p in model.parameters() if p.requires_grad]
        results.append([y, dx, model[1].running_mean, *gradients])
    for together, apart in zip(*results, strict=True):
        np.testing.assert_allclose(together, apart, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_relu_trains_together_with_its_neighbours_as_apart(backend):
    """A convolution in front of it or a maximum pool behind it, whose windows overlap or hold no number."""
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, (3, 2, 13, 12)).astype(np.float64)  # ties, and windows that are zero
    x[0, 0, 3, 4], x[1, 1, 5, 5] = np.nan, np.inf
    results = []
    for fuses in (True, False):
        model = nb.Sequential(
            *(nb.ReLU(), nb.MaxPool2d(3, 1, padding=1), nb.Conv2d(2, 4, 3), nb.ReLU()),
            *(nb.Conv2d(4, 5, 3, padding=1, padding_mode="reflect"), nb.ReLU(), nb.MaxPool2d(2)),
            backend=backend,
            seed=1,
            dtype=np.float64,
        )
        model.fuses = fuses
        y, backprop = model.forward(x, training=True)
        dx = backprop(np.random.default_rng(2).standard_normal(y.shape))
        results.append([y, dx, *(p.grad for p in model.parameters())])
    for together, apart in zip(*results, strict=True):
        np.testing.assert_array_equal(together, apart)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_replaced_forward_is_called_beside_a_relu_too(position):
    model = nb.Sequential(nb.Conv2d(2, 3, 3), nb.ReLU(), nb.MaxPool2d(2), seed=0)
    layer, calls = model[position], []
    forward = layer.forward
    layer.forward = lambda *args, **kwargs: calls.append(1) or forward(*args, **kwargs)
    model.forward(np.ones((1, 2, 6, 6), np.float32), training=True)
    assert calls == [1]


def test_the_error_of_a_pool_behind_a_relu_names_the_pool():
    model = nb.Sequential(nb.Conv2d(2, 3, 3), nb.ReLU(), nb.MaxPool2d(5), seed=0)
    with pytest.raises(nb.LayerError) as caught:
        model.forward(np.ones((1, 2, 6, 6), np.float32), training=True)
    assert (caught.value.layer, caught.value.position) == ("MaxPool2d", "2")
