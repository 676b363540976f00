"""The reference optimisers against PyTorch over several steps, and against a step worked out by hand."""

import numpy as np
import pytest

from nbconv_kernels import reference as ops

SHAPES = [(3, 4), (5,), (2, 3, 2, 2)]
STEPS = 5


def start(seed=0):
    rng = np.random.default_rng(seed)
    params = [rng.standard_normal(shape) for shape in SHAPES]
    grads = [[rng.standard_normal(shape) for shape in SHAPES] for _ in range(STEPS)]
    return params, grads


def zeros():
    return [np.zeros(shape) for shape in SHAPES]


def pytorch(optimizer, params, grads, **kwargs):
    """The parameters after PyTorch's optimiser has made a step with each list of gradients."""
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(param, requires_grad=True) for param in params]
    optimizer = getattr(torch.optim, optimizer)(tensors, **kwargs)
    for step in grads:
        for tensor, grad in zip(tensors, step, strict=True):
            tensor.grad = torch.tensor(grad)
        optimizer.step()
    return [tensor.detach().numpy() for tensor in tensors]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"lr": 0.1},
        {"lr": 0.1, "weight_decay": 0.05},
        {"lr": 0.1, "maximize": True, "weight_decay": 0.05},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True},
    ],
)
def test_sgd_agrees_with_pytorch(kwargs):
    params, grads = start()
    expected = pytorch("SGD", params, grads, **kwargs)
    buffers = zeros() if "momentum" in kwargs else None
    for step, step_grads in enumerate(grads):
        assert ops.sgd_step(params, step_grads, buffers, **kwargs, first_step=step == 0) is None
    for param, other in zip(params, expected, strict=True):
        np.testing.assert_allclose(param, other, rtol=1e-12)


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("optimizer", ["Adam", "AdamW"])
def test_adam_agrees_with_pytorch(optimizer, weight_decay, maximize, amsgrad):
    params, grads = start()
    # Shrinking gradients make the largest second moment differ from the last.
    grads = [[grad * 0.1**step for grad in step_grads] for step, step_grads in enumerate(grads)]
    kwargs = {"lr": 0.02, "eps": 1e-4, "weight_decay": weight_decay, "maximize": maximize}
    expected = pytorch(optimizer, params, grads, **kwargs, betas=(0.8, 0.95), amsgrad=amsgrad)
    exp_avgs, exp_avg_sqs, largest = zeros(), zeros(), zeros() if amsgrad else None
    for step, step_grads in enumerate(grads, start=1):
        ops.adam_step(
            params,
            step_grads,
            exp_avgs,
            exp_avg_sqs,
            step=step,
            beta1=0.8,
            beta2=0.95,
            decoupled=optimizer == "AdamW",
            max_exp_avg_sqs=largest,
            **kwargs,
        )
    for param, other in zip(params, expected, strict=True):
        np.testing.assert_allclose(param, other, rtol=1e-11)


def test_sgd_by_hand():
    param, grad, buffer = np.array([1.0]), np.array([0.5]), np.zeros(1)
    ops.sgd_step([param], [grad], [buffer], lr=0.1, momentum=0.9, first_step=True)
    assert (param[0], buffer[0]) == pytest.approx((0.95, 0.5))
    ops.sgd_step([param], [grad], [buffer], lr=0.1, momentum=0.9)
    assert (param[0], buffer[0]) == pytest.approx((0.95 - 0.095, 0.95))
    assert grad[0] == 0.5


def test_the_first_step_of_adam_is_the_learning_rate():
    param, grad = np.array([1.0, 1.0]), np.array([1e-3, -1e3])
    ops.adam_step([param], [grad], [np.zeros(2)], [np.zeros(2)], step=1, lr=0.1)
    np.testing.assert_allclose(param, [0.9, 1.1], rtol=1e-5)


def test_parameters_of_different_dtypes_and_strides_are_updated_in_place():
    storage = np.ones((4, 6), np.float32)
    params = [storage[:, ::2], np.ones(3)]
    grads = [np.full((4, 3), 0.5, np.float32), np.full(3, 0.5)]
    ops.sgd_step(params, grads, None, lr=1.0)
    np.testing.assert_array_equal(storage, np.tile([0.5, 1], (4, 3)))
    np.testing.assert_array_equal(params[1], [0.5] * 3)


def test_no_parameters_no_step():
    ops.sgd_step([], [], None, lr=0.1)
    ops.adam_step([], [], [], [], step=1, lr=0.1)


def test_what_is_wrong():
    params, grads = start()
    grads = grads[0]
    with pytest.raises(ValueError, match="expected 3 arrays in grads, got 2"):
        ops.sgd_step(params, grads[:2], None, lr=0.1)
    with pytest.raises(ValueError, match=r"expected grads\[1\] of shape \(5,\), got shape \(4,\)"):
        ops.sgd_step(params, [grads[0], grads[1][:4], grads[2]], None, lr=0.1)
    with pytest.raises(ValueError, match="momentum needs momentum_buffers, got None"):
        ops.sgd_step(params, grads, None, lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match=r"nesterov needs a momentum and no dampening, got momentum=0\.0"):
        ops.sgd_step(params, grads, None, lr=0.1, nesterov=True)
    with pytest.raises(ValueError, match=r"nesterov needs .* dampening=0\.1"):
        ops.sgd_step(params, grads, zeros(), lr=0.1, nesterov=True, momentum=0.9, dampening=0.1)
    with pytest.raises(TypeError, match="expected arrays of one dtype, got float64 and float32"):
        ops.sgd_step(params, [grad.astype(np.float32) for grad in grads], None, lr=0.1)
    with pytest.raises(ValueError, match="expected 3 arrays in exp_avg_sqs, got 0"):
        ops.adam_step(params, grads, zeros(), [], step=1, lr=0.1)
    with pytest.raises(ValueError, match="expected 3 arrays in max_exp_avg_sqs, got 1"):
        ops.adam_step(params, grads, zeros(), zeros(), step=1, lr=0.1, max_exp_avg_sqs=zeros()[:1])
    with pytest.raises(ValueError, match="step must be at least 1, got 0"):
        ops.adam_step(params, grads, zeros(), zeros(), step=0, lr=0.1)
    with pytest.raises(ValueError, match=r"betas must lie in \[0, 1\), got 0.9 and 1.0"):
        ops.adam_step(params, grads, zeros(), zeros(), step=1, lr=0.1, beta2=1.0)
