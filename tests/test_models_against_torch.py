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


@pytest.fixture(scope="module", params=MODELS)
def run(request):
    """A model's name, and what it gives in float64 and in float32."""
    name = request.param
    return name, measured(name, "float64"), measured(name, "float32")


def filled(name, seed=0):
    """A model with weights that depend on no generator, without dropout, and a batch for it."""
    build, shape = MODELS[name]
    model = build()
    first = 10_000 * seed
    for index, (key, parameter) in enumerate(model.named_parameters(), start=first):
        fan_in = np.prod(parameter.shape[1:]) if len(parameter.shape) > 1 else 100.0
        centre = 1.0 if len(parameter.shape) == 1 and key.endswith("weight") else 0.0
        parameter.data = centre + scattered(parameter.shape, index) * np.sqrt(24.0 / fan_in)
    for _, layer in model.named_layers():
        if isinstance(layer, nb.Dropout):
            layer.p = 0.0
    return model, 4 * scattered(shape, first + 999).astype(np.float32), np.arange(shape[0]) % 10


def scattered(shape, seed):
    """Numbers spread evenly over [-0.5, 0.5) in an order that looks random."""
    count = np.arange(int(np.prod(shape)), dtype=np.uint64)
    mixed = (count + np.uint64(seed * 7919 + 1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return ((mixed >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5).reshape(shape)


def measured(name, dtype, seed=0):
    """Outputs, loss, the gradient of the input and of every parameter: ours."""
    model, x, labels = filled(name, seed)
    y, backprop = model.to(dtype=dtype).forward(x.astype(dtype), training=True)
    loss, dy = AuxiliaryLoss(nb.CrossEntropyLoss())(y, labels)
    results = {"dx": backprop(dy), "loss": np.array(loss)}
    for i, output in enumerate(y if isinstance(y, tuple) else (y,)):
        results[f"y{i}"] = output
    results.update({key: parameter.grad for key, parameter in model.named_parameters()})
    return results


def expected(name, dtype, seed=0):
    """The same from PyTorch."""
    import torch
    from torch_twin import twin

    model, x, labels = filled(name, seed)
    theirs = twin(model)
    state = {key: torch.tensor(value) for key, value in model.state_dict().items()}
    theirs.load_state_dict(state, strict=False)
    theirs.to(getattr(torch, dtype)).train()
    x = torch.tensor(x.astype(dtype), requires_grad=True)
    y = theirs(x)
    outputs = y if isinstance(y, tuple) else (y,)
    losses = [torch.nn.functional.cross_entropy(output, torch.tensor(labels)) for output in outputs]
    loss = losses[0] + 0.3 * sum(losses[1:])
    loss.backward()
    results = {"dx": x.grad, "loss": loss.detach()}
    results.update({f"y{i}": output.detach() for i, output in enumerate(outputs)})
    results.update({key: parameter.grad for key, parameter in theirs.named_parameters()})
    return {key: value.numpy() for key, value in results.items()}


def farthest(results, oracle, names):
    """The largest error of the named results, and its name."""
    # Some gradients are zero but for rounding, such as those of biases in front of batch normalisation.
    floor = 1e-3 * max(np.linalg.norm(value) for value in oracle.values())
    errors = [
        (np.linalg.norm(results[key] - oracle[key]) / max(np.linalg.norm(oracle[key]), floor), key)
        for key in names
    ]
    assert np.isfinite([error for error, _ in errors]).all()
    return max(errors)


def test_outputs_and_gradients_are_pytorchs(run):
    pytest.importorskip("torch")
    name, exact, ours = run
    oracle = expected(name, "float64")
    assert ours.keys() == exact.keys() == oracle.keys()
    assert farthest(exact, oracle, oracle)[0] < 1e-8
    outputs = [key for key in oracle if key == "loss" or key.startswith("y")]
    gradients = oracle.keys() - set(outputs)
    # Rounding may move a value across the kink of a ReLU, and all gradients before that change: in PyTorch's
    # float32 as well, and with some weights, while a mistake would show with all.
    for seed in range(3):
        if seed:
            oracle, ours = expected(name, "float64", seed), measured(name, "float32", seed)
        assert farthest(ours, oracle, outputs)[0] < 1e-3
        error, key = farthest(ours, oracle, gradients)
        if error < 1e-3 or error < 2 * farthest(expected(name, "float32", seed), oracle, gradients)[0]:
            return
    pytest.fail(f"the gradient of {key} is off by {error:.1e}")


# The loss, and the norms of the gradients of the first and the last parameter, from PyTorch in float64.
RECORDED = {
    "lenet5": (3.35137871, 6.0677584, 0.511768046),
    "alexnet": (0.56145811, 6.73542494, 0.498979929),
    "alexnet_grouped": (3.70031444, 17.7358184, 1.24338479),
    "zfnet": (0.259016249, 10.5619464, 0.279872617),
    "googlenet": (3.31316464, 6.23219208, 0.610445867),
    "googlenet_auxiliary": (10.2130291, 1.93912826, 0.973717704),
    "vgg11": (10.7667496, 12.9661185, 1.07645758),
    "vgg13": (9.38216043, 5.23015976, 1.04484657),
    "vgg16": (4.92574386, 2.85664104, 0.972362643),
    "vgg19_bn": (3.20382197, 27.4559993, 0.551395686),
    "resnet18": (3.36692023, 25.848391, 0.679899949),
    "resnet18_small": (3.52315915, 3.32098483, 0.682620621),
    "resnet34": (3.84451017, 60.7056782, 0.57783638),
    "resnet50": (2.21432472, 766.54338, 0.38184081),
    "resnet101": (2.7680105, 3257.32759, 0.384564679),
    "resnet152": (3.74683096, 9127.94191, 0.679403515),
    "plain34": (2.28903579, 398.468691, 0.339128308),
    "densenet121": (2.63380973, 42.4441623, 0.430124774),
    "densenet169": (3.01226871, 60.8925245, 0.466772615),
    "densenet201": (2.59111741, 56.5774706, 0.425762033),
    "densenet_cifar": (2.73615588, 0.906595298, 0.474435853),
    "densenet_cifar_bc": (2.54277682, 1.54362732, 0.388398575),
    "mobilenet_v1": (2.49876953, 111.763326, 0.434219238),
    "mobilenet_v2": (2.34974552, 82.1167248, 0.406714409),
}


def test_loss_and_gradients_are_those_recorded_from_pytorch(run):
    name, exact, ours = run
    first, *_, last = (key for key, _ in filled(name)[0].named_parameters())
    for results, exactness, keys in ((exact, 1e-6, (first, last)), (ours, 1e-3, (last,))):
        assert results["loss"] == pytest.approx(RECORDED[name][0], rel=exactness)
        for key in keys:
            norm = RECORDED[name][1 if key == first else 2]
            assert np.linalg.norm(results[key]) == pytest.approx(norm, rel=exactness), key
