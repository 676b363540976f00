"""Weights by torchvision's names: every key has its place, and the networks compute what torchvision's do."""

import numpy as np
import pytest
from torchvision_models import KEYS, PARAMETERS

import nbconv as nb

OPTIONS = {
    "alexnet": {"variant": "torchvision"},
    "googlenet": {"variant": "torchvision"},
    "googlenet_auxiliary": {"variant": "torchvision", "auxiliary": True},
}


def build(name, weights, **more):
    return nb.models.get(name.partition("_aux")[0])(weights=weights, **OPTIONS.get(name, {}), **more)


def counted(keys):
    """A state dict in which every number says which key it is of."""
    return {key: np.broadcast_to(np.float32(i), shape) for i, (key, shape) in enumerate(keys.items())}


def drawn(keys, seed=0):
    """A state dict with which the network's activations stay of order 1."""
    rng = np.random.default_rng(seed)
    state = {}
    for key, shape in keys.items():
        if key.endswith("num_batches_tracked"):
            state[key] = np.array(7)
        elif key.endswith(("running_var", "norm.weight")) or (len(shape) == 1 and key.endswith(".weight")):
            state[key] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            scale = np.sqrt(1.5 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
            state[key] = (scale * rng.standard_normal(shape)).astype(np.float32)
    return state


@pytest.mark.parametrize("name", KEYS)
def test_the_keys_are_torchvisions(name):
    assert KEYS[name]().parameters == PARAMETERS[name]


@pytest.mark.parametrize("name", KEYS)
def test_every_key_has_its_place(name):
    keys = KEYS[name]()
    state = counted(keys)
    model = build(name, state)
    found = {}
    for value in nb.layers.state.tensors(model).values():
        assert value.flat[0] == value.flat[-1]
        found[int(value.flat[0])] = value.shape
    wanted = {i: shape for i, (key, shape) in enumerate(keys.items()) if "num_batches_tracked" not in key}
    assert found == wanted
    assert sum(parameter.size for parameter in model.parameters()) == PARAMETERS[name]


class Functional:
    """Evaluation of torchvision's networks, straight from a state dict by PyTorch's functions."""

    def __init__(self, state):
        self.torch = pytest.importorskip("torch")
        self.f = self.torch.nn.functional
        self.state = {key: self.torch.tensor(value) for key, value in state.items()}

    def conv(self, name, x, stride=1, padding=0, groups=1):
        return self.f.conv2d(x, self.state[f"{name}.weight"], None, stride, padding, 1, groups)

    def norm(self, name, x, eps=1e-5):
        leaves = ("running_mean", "running_var", "weight", "bias")
        return self.f.batch_norm(x, *(self.state[f"{name}.{leaf}"] for leaf in leaves), eps=eps)

    def end(self, name, x):
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return self.f.linear(x.mean((2, 3)), weight, bias)

    def count(self, pattern, first=0):
        """How many keys there are with pattern's {} from ``first`` on."""
        n = first
        while f"{pattern.format(n)}.weight" in self.state:
            n += 1
        return n - first

    def resnet(self, x):
        relu = self.f.relu
        x = relu(self.norm("bn1", self.conv("conv1", x, 2, 3)))
        x = self.f.max_pool2d(x, 3, 2, 1)
        for stage in (1, 2, 3, 4):
            for block in range(self.count(f"layer{stage}.{{}}.conv1")):
                name = f"layer{stage}.{block}"
                stride = 2 if stage > 1 and block == 0 else 1
                deep = f"{name}.conv3.weight" in self.state
                y = self.conv(f"{name}.conv1", x, 1 if deep else stride, 0 if deep else 1)
                y = relu(self.norm(f"{name}.bn1", y))
                y = self.norm(f"{name}.bn2", self.conv(f"{name}.conv2", y, stride if deep else 1, 1))
                if deep:
                    y = self.norm(f"{name}.bn3", self.conv(f"{name}.conv3", relu(y)))
                if f"{name}.downsample.0.weight" in self.state:
                    x = self.norm(f"{name}.downsample.1", self.conv(f"{name}.downsample.0", x, stride))
                x = relu(x + y)
        return self.end("fc", x)

    def densenet(self, x):
        def step(norm, conv, x, padding):
            return self.conv(f"features.{conv}", self.f.relu(self.norm(f"features.{norm}", x)), 1, padding)

        x = self.f.relu(self.norm("features.norm0", self.conv("features.conv0", x, 2, 3)))
        x = self.f.max_pool2d(x, 3, 2, 1)
        for i in (1, 2, 3, 4):
            if i > 1:
                x = self.f.avg_pool2d(step(f"transition{i - 1}.norm", f"transition{i - 1}.conv", x, 0), 2)
            for j in range(1, 1 + self.count(f"features.denseblock{i}.denselayer{{}}.conv1", first=1)):
                name = f"denseblock{i}.denselayer{j}"
                y = step(f"{name}.norm1", f"{name}.conv1", x, 0)
                y = step(f"{name}.norm2", f"{name}.conv2", y, 1)
                x = self.torch.cat([x, y], 1)
        return self.end("classifier", self.f.relu(self.norm("features.norm5", x)))

    def mobilenet_v2(self, x):
        def unit(name, x, stride=1, padding=0, groups=1):
            return self.f.relu6(self.norm(f"{name}.1", self.conv(f"{name}.0", x, stride, padding, groups)))

        x = unit("features.0", x, 2, 1)
        for block in range(1, 18):
            name, y, i = f"features.{block}.conv", x, 0
            if block > 1:
                y, i = unit(f"{name}.0", y), 1
            y = unit(f"{name}.{i}", y, 2 if block in (2, 4, 7, 14) else 1, 1, y.shape[1])
            y = self.norm(f"{name}.{i + 2}", self.conv(f"{name}.{i + 1}", y))
            x = x + y if x.shape == y.shape else y
        return self.end("classifier.1", unit("features.18", x))

    def googlenet(self, x):
        def unit(name, x, stride=1, padding=0):
            return self.f.relu(self.norm(f"{name}.bn", self.conv(f"{name}.conv", x, stride, padding), 1e-3))

        x = self.f.max_pool2d(unit("conv1", x, 2, 3), 3, 2, ceil_mode=True)
        x = unit("conv3", unit("conv2", x), 1, 1)
        for stage, letters in (("3", "ab"), ("4", "abcde"), ("5", "ab")):
            x = self.f.max_pool2d(x, 2 if stage == "5" else 3, 2, ceil_mode=True)
            for letter in letters:
                name = f"inception{stage}{letter}.branch"
                branches = [
                    unit(f"{name}1", x),
                    unit(f"{name}2.1", unit(f"{name}2.0", x), 1, 1),
                    unit(f"{name}3.1", unit(f"{name}3.0", x), 1, 1),
                    unit(f"{name}4.1", self.f.max_pool2d(x, 3, 1, 1)),
                ]
                x = self.torch.cat(branches, 1)
        return self.end("fc", x)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121", "mobilenet_v2", "googlenet"])
def test_the_outputs_are_those_of_the_functional_network(name):
    state = drawn(KEYS[name]())
    network = Functional(state)
    compute = getattr(network, name.rstrip("0123456789"), None) or getattr(network, name)
    x = np.random.default_rng(1).standard_normal((2, 3, 64, 64)).astype(np.float32)
    expected = compute(network.torch.tensor(x)).numpy()
    y = build(name, state)(x)
    assert np.std(expected) > 1e-3
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_a_file_is_as_good_as_a_dictionary(tmp_path):
    from safetensors.numpy import save_file

    state = drawn(KEYS["mobilenet_v2"]())
    save_file(state, tmp_path / "theirs.safetensors")
    model = build("mobilenet_v2", tmp_path / "theirs.safetensors")
    np.testing.assert_array_equal(model[0].weight.data, state["features.0.0.weight"])
    model.save(tmp_path / "ours.safetensors")
    again = build("mobilenet_v2", str(tmp_path / "ours.safetensors"))
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[key], value)


def test_keys_of_the_published_densenets_are_understood():
    state = counted(KEYS["densenet121"]())
    old = {
        key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.") if "denselayer" in key else key: value
        for key, value in state.items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert build("densenet121", old).state_dict().keys() == build("densenet121", None).state_dict().keys()


def test_heads_in_the_weights_are_passed_over_by_a_model_without():
    state = counted(KEYS["googlenet_auxiliary"]())
    assert build("googlenet", state)(np.zeros((1, 3, 64, 64), np.float32)).shape == (1, 1000)


def test_what_does_not_fit_is_named_as_torchvision_names_it():
    keys = KEYS["mobilenet_v2"]()
    state = counted(keys)
    state["features.0.2.weight"] = state.pop("features.0.1.weight")
    with pytest.raises(nb.StateDictError) as error:
        build("mobilenet_v2", state)
    assert error.value.missing == ["features.0.1.weight"]
    assert error.value.unexpected == ["features.0.2.weight"]
    with pytest.raises(nb.StateDictError) as error:
        build("mobilenet_v2", counted(keys), num_classes=10)
    assert error.value.misshapen == {
        "classifier.1.weight": ((1000, 1280), (10, 1280)),
        "classifier.1.bias": ((1000,), (10,)),
    }


def test_weights_for_a_model_that_torchvision_lacks_have_our_keys():
    state = nb.models.mobilenet_v1(10, 1, width_multiplier=0.25, seed=3).state_dict()
    same = nb.models.mobilenet_v1(10, 1, width_multiplier=0.25, weights=state)
    np.testing.assert_array_equal(same.state_dict()["3.0.weight"], state["3.0.weight"])
    with pytest.raises(nb.StateDictError):
        nb.models.mobilenet_v1(10, 1, weights=state)


def test_keys_that_are_no_names():
    with pytest.raises(nb.StateDictError) as caught:
        nb.models.lenet5(weights={7: np.zeros(3)})
    assert caught.value.unexpected == [7]
