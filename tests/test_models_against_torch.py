"""Every model beside PyTorch's modules with the same weights: outputs, loss and every gradient."""

import numpy as np
import pytest

import nbconv as nb
from nbconv.models import AuxiliaryLoss

M = nb.models


def convolutions(model):
    """AlexNet or ZFNet without its 50 million hidden weights, which would take long."""
    return nb.Sequential(*model[:15], nb.Flatten(), nb.Dense(256 * 6 * 6, 10))


# The published forms, thinner, on the smallest images that still have some pixels at the end.
MODELS = {
    "lenet5": (lambda: M.lenet5(), (4, 1, 32, 32)),
    "alexnet": (lambda: convolutions(M.alexnet()), (1, 3, 227, 227)),
    "alexnet_grouped": (lambda: convolutions(M.alexnet(grouped=True)), (1, 3, 227, 227)),
    "zfnet": (lambda: convolutions(M.zfnet()), (1, 3, 224, 224)),
    "googlenet": (lambda: M.googlenet(10), (2, 3, 64, 64)),
    "googlenet_auxiliary": (lambda: M.googlenet(10, small=True, auxiliary=True), (2, 3, 32, 32)),
    "vgg11": (lambda: M.vgg11(10, width=8), (2, 3, 224, 224)),
    "vgg13": (lambda: M.vgg13(10, width=8, small=True), (4, 3, 32, 32)),
    "vgg16": (lambda: M.vgg16(10, width=8, small=True), (4, 3, 32, 32)),
    "vgg19_bn": (lambda: M.vgg19(10, width=8, small=True, batch_norm=True), (8, 3, 32, 32)),
    "resnet18": (lambda: M.resnet18(10, width=16), (4, 3, 64, 64)),
    "resnet18_small": (lambda: M.resnet18(10, 1, width=16, small=True), (4, 1, 32, 32)),
    "resnet34": (lambda: M.resnet34(10, width=8), (4, 3, 64, 64)),
    "resnet50": (lambda: M.resnet50(10, width=8), (4, 3, 64, 64)),
    "resnet101": (lambda: M.resnet101(10, width=8), (4, 3, 64, 64)),
    "resnet152": (lambda: M.resnet152(10, width=8), (4, 3, 64, 64)),
    "plain34": (lambda: M.plain34(10, width=8), (4, 3, 64, 64)),
    "densenet121": (lambda: M.densenet121(10, growth_rate=8), (4, 3, 64, 64)),
    "densenet169": (lambda: M.densenet169(10, growth_rate=8), (4, 3, 64, 64)),
    "densenet201": (lambda: M.densenet201(10, growth_rate=8), (4, 3, 64, 64)),
    "densenet_cifar": (lambda: M.densenet_cifar(depth=22), (4, 3, 16, 16)),
    "densenet_cifar_bc": (lambda: M.densenet_cifar(depth=22, bottleneck=True), (4, 3, 16, 16)),
    "mobilenet_v1": (lambda: M.mobilenet_v1(10, width_multiplier=0.25), (4, 3, 64, 64)),
    "mobilenet_v2": (lambda: M.mobilenet_v2(10, width_multiplier=0.25), (4, 3, 64, 64)),
}


def filled(name):
    """A model with weights that depend on no generator, without dropout, and a batch for it."""
    build, shape = MODELS[name]
    model = build()
    for index, (key, parameter) in enumerate(model.named_parameters()):
        fan_in = np.prod(parameter.shape[1:]) if len(parameter.shape) > 1 else 100.0
        centre = 1.0 if len(parameter.shape) == 1 and key.endswith("weight") else 0.0
        parameter.data = centre + scattered(parameter.shape, index) * np.sqrt(24.0 / fan_in)
    for _, layer in model.named_layers():
        if isinstance(layer, nb.Dropout):
            layer.p = 0.0
    return model, 4 * scattered(shape, 999).astype(np.float32), np.arange(shape[0]) % 10


def scattered(shape, seed):
    """Numbers spread evenly over [-0.5, 0.5) in an order that looks random."""
    count = np.arange(int(np.prod(shape)), dtype=np.uint64)
    mixed = (count + np.uint64(seed * 7919 + 1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return ((mixed >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5).reshape(shape)


def measured(name, dtype):
    """Outputs, loss, the gradient of the input and of every parameter: ours."""
    model, x, labels = filled(name)
    y, backprop = model.to(dtype=dtype).forward(x, training=True)
    loss, dy = AuxiliaryLoss(nb.CrossEntropyLoss())(y, labels)
    results = {"dx": backprop(dy), "loss": np.array(loss)}
    for i, output in enumerate(y if isinstance(y, tuple) else (y,)):
        results[f"y{i}"] = output
    results.update({key: parameter.grad for key, parameter in model.named_parameters()})
    return results


def expected(name):
    """The same from PyTorch, in float64."""
    import torch
    from torch_twin import twin

    model, x, labels = filled(name)
    theirs = twin(model)
    state = {key: torch.tensor(value) for key, value in model.state_dict().items()}
    theirs.load_state_dict(state, strict=False)
    theirs.double().train()
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    y = theirs(x)
    outputs = y if isinstance(y, tuple) else (y,)
    losses = [torch.nn.functional.cross_entropy(output, torch.tensor(labels)) for output in outputs]
    loss = losses[0] + 0.3 * sum(losses[1:])
    loss.backward()
    results = {"dx": x.grad, "loss": loss.detach()}
    results.update({f"y{i}": output.detach() for i, output in enumerate(outputs)})
    results.update({key: parameter.grad for key, parameter in theirs.named_parameters()})
    return {key: value.numpy() for key, value in results.items()}


def unlike(results, oracle, tolerance):
    """The names of the results that differ from the oracle's."""
    # Some gradients are zero but for rounding, such as those of biases in front of batch normalisation.
    floor = 1e-3 * max(np.linalg.norm(value) for value in oracle.values())
    return [
        name
        for name, value in oracle.items()
        if not np.linalg.norm(results[name] - value) < tolerance * max(np.linalg.norm(value), floor)
    ]


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_gradients_are_pytorchs(name):
    pytest.importorskip("torch")
    oracle, ours, exact = expected(name), measured(name, "float32"), measured(name, "float64")
    assert ours.keys() == exact.keys() == oracle.keys()
    assert not unlike(exact, oracle, 1e-8)
    # Rounding may move a value across the kink of a ReLU, which shows in the gradients of thin networks.
    assert not unlike(ours, oracle, 0.3)
    assert not [key for key in unlike(ours, oracle, 1e-3) if key == "loss" or key.startswith("y")]


# The loss, and the norms of the gradients of the first and the last parameter.
RECORDED = {
    "lenet5": (3.351379, 6.067758, 0.511768),
    "vgg11": (10.76675, 12.96612, 1.076458),
    "resnet18": (3.36692, 25.84839, 0.6798999),
    "densenet_cifar": (2.736156, 0.9065953, 0.4744359),
    "mobilenet_v1": (2.49877, 111.7633, 0.4342192),
    "mobilenet_v2": (2.349746, 82.11672, 0.4067144),
}


@pytest.mark.parametrize("name", RECORDED)
def test_loss_and_gradients_are_those_recorded_from_pytorch(name):
    results = measured(name, "float32")
    gradients = [results[key] for key, _ in filled(name)[0].named_parameters()]
    loss, first, last = RECORDED[name]
    assert results["loss"] == pytest.approx(loss, rel=1e-4)
    assert np.linalg.norm(gradients[0]) == pytest.approx(first, rel=1e-2)
    assert np.linalg.norm(gradients[-1]) == pytest.approx(last, rel=1e-3)
