import numpy as np
import pytest

import nbconv as nb
from nbconv import backends
from nbconv_kernels import cpu

BACKENDS = ["reference", "cpu"]
SHAPES = [(4, 3), (4,), (2, 3, 2, 2)]

SETTINGS = {
    "sgd": (nb.SGD, {"lr": 0.1}),
    "sgd-default": (nb.SGD, {}),
    "sgd-momentum": (nb.SGD, {"lr": 0.1, "momentum": 0.9}),
    "sgd-dampening": (nb.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "sgd-decay": (nb.SGD, {"lr": 0.1, "weight_decay": 0.05}),
    "sgd-nesterov": (nb.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05, "nesterov": True}),
    "sgd-maximize": (nb.SGD, {"lr": 0.1, "momentum": 0.5, "maximize": True, "weight_decay": 0.1}),
    "adam": (nb.Adam, {}),
    "adam-settings": (nb.Adam, {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    "adam-amsgrad": (nb.Adam, {"lr": 0.02, "amsgrad": True}),
    "adam-maximize": (nb.Adam, {"maximize": True}),
    "adamw": (nb.AdamW, {"lr": 0.02}),
    "rmsprop": (nb.RMSprop, {}),
    "rmsprop-settings": (nb.RMSprop, {"lr": 0.02, "alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    "rmsprop-momentum": (nb.RMSprop, {"momentum": 0.9, "maximize": True}),
    "rmsprop-centered": (nb.RMSprop, {"lr": 0.02, "momentum": 0.5, "centered": True}),
    "adagrad": (nb.Adagrad, {}),
    "adagrad-settings": (nb.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "maximize": True}),
    "adagrad-start": (nb.Adagrad, {"initial_accumulator_value": 0.5, "eps": 1e-3}),
    "adamw-settings": (nb.AdamW, {"lr": 0.02, "weight_decay": 0.3, "amsgrad": True, "maximize": True}),
}


def parameters(backend="reference", dtype="float64"):
    rng = np.random.default_rng(0)
    made = []
    for shape in SHAPES:
        parameter = nb.Parameter(shape, nb.initializers.zeros())
        parameter.to(backend, np.dtype(dtype))
        parameter.data = rng.standard_normal(shape)
        made.append(parameter)
    return made


def give_gradients(params, step):
    rng = np.random.default_rng([1, step])
    for parameter in params:
        parameter.grad = rng.standard_normal(parameter.shape).astype(parameter.dtype)


def values(params):
    return [parameter.data.copy() for parameter in params]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", SETTINGS)
def test_steps_are_pytorchs(case, backend):
    torch = pytest.importorskip("torch")
    optimizer_class, settings = SETTINGS[case]
    ours = parameters(backend)
    theirs = [torch.nn.Parameter(torch.tensor(p.data)) for p in ours]
    optimizer = optimizer_class(ours, **settings)
    oracle = getattr(torch.optim, optimizer_class.__name__)(theirs, **settings)
    for step in range(5):
        give_gradients(ours, step)
        if step == 2:
            ours[1].grad = None  # it skips a step
        for tensor, parameter in zip(theirs, ours, strict=True):
            tensor.grad = None if parameter.grad is None else torch.tensor(parameter.grad)
        optimizer.step()
        oracle.step()
    for tensor, parameter in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(parameter.data, tensor.detach(), rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("maximize", [False, True])
def test_lion_is_algorithm_2_of_its_paper(backend, maximize):
    """c = b1 m + (1 - b1) g; theta -= eta (sign(c) + lambda theta); m = b2 m + (1 - b2) g."""
    eta, b1, b2, decay = 0.01, 0.8, 0.95, 0.3
    ours = parameters(backend)
    optimizer = nb.Lion(ours, lr=eta, betas=(b1, b2), weight_decay=decay, maximize=maximize)
    theta, m = [p.data.copy() for p in ours], [np.zeros(p.shape) for p in ours]
    for step in range(5):
        give_gradients(ours, step)
        ours[0].grad[0] = 0  # in the first step neither up nor down
        optimizer.step()
        for i, parameter in enumerate(ours):
            g = -parameter.grad if maximize else parameter.grad
            theta[i] = theta[i] - eta * (np.sign(b1 * m[i] + (1 - b1) * g) + decay * theta[i])
            m[i] = b2 * m[i] + (1 - b2) * g
    for parameter, expected in zip(ours, theta, strict=True):
        np.testing.assert_allclose(parameter.data, expected, rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_first_steps_by_hand(backend):
    for optimizer_class, settings, expected in (
        (nb.RMSprop, {"lr": 0.1, "alpha": 0.75}, 1 - 0.1 / 0.5),  # g / sqrt((1 - alpha) g^2)
        (nb.Adagrad, {"lr": 0.1}, 1 - 0.1),  # g / sqrt(g^2)
        (nb.Lion, {"lr": 0.1, "weight_decay": 0.5}, 0.95 - 0.1),  # sign(g)
    ):
        parameter = nb.Parameter((1,), nb.initializers.ones())
        parameter.to(backend, np.dtype("float64"))
        parameter.data = [1.0]
        parameter.grad = np.array([7.0])
        optimizer_class([parameter], **settings).step()
        assert parameter.data[0] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("optimizer_class", [nb.SGD, nb.Adam, nb.AdamW, nb.RMSprop, nb.Adagrad])
def test_defaults_are_pytorchs(optimizer_class):
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.optim, optimizer_class.__name__)([torch.nn.Parameter(torch.zeros(1))]).defaults
    ours = optimizer_class(parameters()).defaults
    assert ours == {key: theirs[key] for key in ours}


@pytest.mark.parametrize("backend", BACKENDS)
def test_groups_have_settings_of_their_own(backend):
    params = parameters(backend)
    optimizer = nb.SGD([{"params": params[:1], "lr": 0.0}, {"params": params[1:2]}], lr=0.5)
    optimizer.add_param_group({"params": params[2], "lr": 0.25})
    before = values(params)
    give_gradients(params, 0)
    optimizer.step()
    for parameter, start, lr in zip(params, before, (0.0, 0.5, 0.25), strict=True):
        np.testing.assert_allclose(parameter.data, start - lr * parameter.grad)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.5, 0.25]


def test_settings_can_be_changed_between_steps():
    params = parameters()
    optimizer = nb.SGD(params, lr=0.5)
    optimizer.param_groups[0]["lr"] = 0.0
    before = values(params)
    give_gradients(params, 0)
    optimizer.step()
    for parameter, start in zip(params, before, strict=True):
        np.testing.assert_array_equal(parameter.data, start)


def test_parameters_without_gradient_stay():
    params = parameters()
    before = values(params)
    optimizer = nb.AdamW(params, lr=0.1)
    give_gradients(params[:1], 0)
    optimizer.step()
    assert (params[0].data != before[0]).all()
    np.testing.assert_array_equal(params[1].data, before[1])
    assert list(optimizer.state) == params[:1]
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in params)
    optimizer.step()


@pytest.mark.parametrize("case", [*SETTINGS, "lion"])
def test_a_resumed_run_is_the_same_to_the_last_bit(case):
    optimizer_class, settings = SETTINGS.get(case, (nb.Lion, {"lr": 0.01}))

    def run(params, optimizer, steps):
        for step in steps:
            give_gradients(params, step)
            optimizer.step()

    straight = parameters(dtype="float32")
    run(straight, optimizer_class(straight, **settings), range(6))

    first = parameters(dtype="float32")
    optimizer = optimizer_class(first, **settings)
    run(first, optimizer, range(3))
    saved, weights = optimizer.state_dict(), values(first)
    run(first, optimizer, range(3, 5))  # must not reach into what was saved

    second = parameters(dtype="float32")
    for parameter, value in zip(second, weights, strict=True):
        parameter.data = value
    resumed = optimizer_class(second, lr=123.0)
    resumed.load_state_dict(saved)
    run(second, resumed, range(3, 6))
    for a, b in zip(straight, second, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize(("ours", "theirs"), [(nb.SGD, "SGD"), (nb.Adam, "Adam")])
def test_a_state_dict_of_pytorch_is_taken(ours, theirs):
    torch = pytest.importorskip("torch")
    settings = {"momentum": 0.9} if theirs == "SGD" else {"amsgrad": True}
    params = parameters()
    tensors = [torch.nn.Parameter(torch.tensor(p.data)) for p in params]
    oracle = getattr(torch.optim, theirs)(tensors, lr=0.1, **settings)
    optimizer = ours(params)
    for step in range(4):
        give_gradients(params, step)
        for tensor, parameter in zip(tensors, params, strict=True):
            tensor.grad = torch.tensor(parameter.grad)
        if step == 2:
            optimizer.load_state_dict(oracle.state_dict())
            for tensor, parameter in zip(tensors, params, strict=True):
                parameter.data = tensor.detach().numpy()
        oracle.step()
        if step >= 2:
            optimizer.step()
    for tensor, parameter in zip(tensors, params, strict=True):
        np.testing.assert_allclose(parameter.data, tensor.detach(), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: nb.SGD(p, lr=-1), ValueError, "lr must not be negative, got -1"),
        (lambda p: nb.SGD(p, lr=float("nan")), ValueError, "lr must not be negative, got nan"),
        (lambda p: nb.SGD(p, momentum=-0.1), ValueError, "momentum must not be negative"),
        (lambda p: nb.SGD(p, weight_decay=-0.1), ValueError, "weight_decay must not be negative"),
        (lambda p: nb.SGD(p, nesterov=True), ValueError, "nesterov needs a momentum and no dampening"),
        (
            lambda p: nb.SGD(p, momentum=0.9, dampening=0.1, nesterov=True),
            ValueError,
            "nesterov needs a momentum and no dampening",
        ),
        (lambda p: nb.Adam(p, eps=-1), ValueError, "eps must not be negative"),
        (lambda p: nb.Adam(p, betas=(1.0, 0.9)), ValueError, r"betas must be two numbers in \[0, 1\)"),
        (lambda p: nb.AdamW(p, betas=(0.9,)), ValueError, r"betas must be two numbers in \[0, 1\)"),
        (lambda p: nb.RMSprop(p, alpha=1.0), ValueError, r"alpha must be in \[0, 1\), got 1.0"),
        (lambda p: nb.RMSprop(p, momentum=-1), ValueError, "momentum must not be negative"),
        (lambda p: nb.Adagrad(p, lr_decay=-1), ValueError, "lr_decay must not be negative"),
        (lambda p: nb.Lion(p, betas=(0.9, 1)), ValueError, r"betas must be two numbers in \[0, 1\)"),
        (lambda p: nb.SGD([]), ValueError, "needs parameters, got none"),
        (lambda p: nb.SGD(p[0]), TypeError, "a list of parameters or of groups, got one Parameter"),
        (lambda p: nb.SGD([np.zeros(3)]), TypeError, "updates parameters, got ndarray"),
        (lambda p: nb.SGD([*p, p[0]]), ValueError, "given to the optimizer twice"),
        (lambda p: nb.SGD([{"params": p}, {"params": p[:1]}]), ValueError, "given to the optimizer twice"),
        (lambda p: nb.SGD([{"params": p, "beta": 1}]), ValueError, r"unknown settings \['beta'\]"),
        (lambda p: nb.SGD([{"params": p, "lr": -1}]), ValueError, "lr must not be negative"),
        (lambda p: nb.SGD([{"lr": 1}]), TypeError, 'a dict with the key "params"'),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make(parameters())


def test_a_state_that_does_not_fit_changes_nothing():
    params = parameters()
    optimizer = nb.SGD(params, momentum=0.9)
    give_gradients(params, 0)
    optimizer.step()
    good = optimizer.state_dict()
    fewer = nb.SGD(params[:2], momentum=0.9)
    with pytest.raises(ValueError, match=r"groups of \[3\] parameters, the optimizer of \[2\]"):
        fewer.load_state_dict(good)
    misshapen = optimizer.state_dict()
    misshapen["state"][2]["momentum_buffer"] = np.zeros(5)
    with pytest.raises(ValueError, match=r"momentum_buffer of parameter 2 has shape \(5,\)"):
        optimizer.load_state_dict(misshapen)
    stray = optimizer.state_dict()
    stray["state"][9] = {}
    with pytest.raises(ValueError, match="a parameter 9, which no group has"):
        optimizer.load_state_dict(stray)
    invalid = optimizer.state_dict()
    invalid["param_groups"][0]["lr"] = -1
    with pytest.raises(ValueError, match="lr must not be negative"):
        optimizer.load_state_dict(invalid)
    for key, entry in good["state"].items():
        np.testing.assert_array_equal(
            entry["momentum_buffer"], optimizer.state_dict()["state"][key]["momentum_buffer"]
        )


def test_a_gradient_of_a_wrong_shape_is_named():
    params = parameters()
    give_gradients(params, 0)
    params[1].grad = np.zeros(7)
    with pytest.raises(ValueError, match=r"\(7,\)"):
        nb.SGD(params).step()


def test_repr_shows_the_settings():
    assert repr(nb.SGD(parameters(), lr=0.5)).startswith("SGD(3 parameters: lr=0.5, momentum=0.0")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", ["sgd_step", "adam_step"])
def test_the_moving_average_of_a_dead_unit_comes_to_rest(op, dtype):
    """It would stay subnormal, rounding up what it loses, and make every step slow."""
    tiny = np.finfo(dtype).tiny
    param, grad = np.ones(3, dtype), np.zeros(3, dtype)
    moving, squares = np.array([1.05 * tiny, -2 * tiny, np.nan], dtype), np.ones(3, dtype)
    if op == "sgd_step":
        cpu.sgd_step([param], [grad], [moving], lr=0.1, momentum=0.9)
    else:
        cpu.adam_step([param], [grad], [moving], [squares], step=5, lr=0.1)
    np.testing.assert_array_equal(moving, np.array([0, dtype(0.9) * -2 * tiny, np.nan], dtype))


@pytest.mark.parametrize("backend", [*BACKENDS, "cuda-emulated"])
def test_a_constant_gradient_has_no_negative_variance(backend):
    """Of v - m^2 rounding may leave less than nothing, whose root is NaN; what is NaN already stays so."""
    if backend.startswith("cuda"):
        pytest.importorskip("numba_cuda", reason="the CUDA kernels are compiled by numba-cuda")
    weight, m = np.zeros(3, np.float32), np.array([1, 1, np.nan], np.float32)
    v = np.array([1 - 2**-20, 1 + 3, 1], np.float32)
    settings = {"lr": 1.0, "alpha": 0.5, "eps": 1.0, "grad_avgs": [m]}
    backends.get(backend).rmsprop_step([weight], [np.ones(3, np.float32)], [v], **settings)
    np.testing.assert_allclose(weight, [-1, -1 / (1 + np.sqrt(1.5)), np.nan], rtol=1e-6)
