"""What nbconv.inspect computes beside PyTorch's autograd and its own unpooling."""

import numpy as np
import pytest

import nbconv as nb

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402
from torch_twin import twin  # noqa: E402

rng = np.random.default_rng(3)
X = rng.standard_normal((2, 3, 32, 32))


def pair(name):
    model = nb.models.get(name, small=True)(num_classes=10, in_channels=3, seed=0, backend="reference")
    model.to(dtype="float64")
    theirs = twin(model).double().eval()
    theirs.load_state_dict(
        {key: torch.from_numpy(np.array(value)) for key, value in model.state_dict().items()}, strict=False
    )
    return model, theirs


def resnet():
    model = nb.models.resnet18(10, small=True, width=4, seed=0, backend="reference").to(dtype="float64")
    theirs = twin(model).double().eval()
    state = {key: torch.from_numpy(np.array(value)) for key, value in model.state_dict().items()}
    theirs.load_state_dict(state, strict=False)
    return model, theirs


def leaf(x):
    return torch.tensor(x, requires_grad=True)


@pytest.mark.parametrize("make", [lambda: pair("lenet5"), resnet])
def test_saliency(make):
    model, theirs = make()
    x = leaf(X)
    theirs(x)[:, 4].sum().backward()
    gradient = x.grad.numpy()
    np.testing.assert_allclose(nb.inspect.saliency(model, X, 4, reduce=None), gradient, atol=1e-9)
    np.testing.assert_allclose(nb.inspect.saliency(model, X, 4), np.abs(gradient).max(axis=1), atol=1e-9)


def test_smooth_grad():
    model, theirs = pair("lenet5")
    noise = np.random.default_rng(7)
    spread = 0.3 * (X.max(axis=(1, 2, 3), keepdims=True) - X.min(axis=(1, 2, 3), keepdims=True))
    total = np.zeros_like(X)
    for _ in range(3):
        x = leaf(X + spread * noise.standard_normal(X.shape))
        theirs(x)[:, 2].sum().backward()
        total += x.grad.numpy()
    found = nb.inspect.smooth_grad(model, X, 2, noise=0.3, samples=3, seed=7, reduce="mean")
    np.testing.assert_allclose(found, np.abs(total / 3).mean(axis=1), atol=1e-9)


def test_grad_cam_inside_a_resnet():
    model, theirs = resnet()
    kept = {}
    layer = theirs.get_submodule("5.0")  # the first block of a stage

    def keep(module, inputs, output):
        output.retain_grad()
        kept["maps"] = output

    layer.register_forward_hook(keep)
    theirs(torch.from_numpy(X))[:, 1].sum().backward()
    maps = kept["maps"]
    cam = F.relu((maps.grad.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1, keepdim=True))
    cam = F.interpolate(cam, size=(32, 32), mode="bilinear", align_corners=False)[:, 0].detach().numpy()
    np.testing.assert_allclose(nb.inspect.grad_cam(model, X, 1, layer="5.0"), cam, atol=1e-9)


def test_deconvolution():
    layers = (
        *(nb.Conv2d(3, 6, 5, stride=2, padding=1), nb.ReLU(), nb.MaxPool2d(2)),
        *(nb.Conv2d(6, 4, 3, padding=1), nb.ReLU(), nb.MaxPool2d(2), nb.Conv2d(4, 5, 3)),
    )
    model = nb.Sequential(*layers, backend="reference", dtype="float64", seed=2)
    first, second, third = (torch.from_numpy(np.array(model[i].weight.data)) for i in (0, 3, 6))
    biases = {i: torch.from_numpy(np.array(model[i].bias.data)) for i in (0, 3, 6)}
    a = F.conv2d(torch.from_numpy(X), first, biases[0], stride=2, padding=1)
    b, switches_b = F.max_pool2d(F.relu(a), 2, return_indices=True)
    c = F.conv2d(b, second, biases[3], padding=1)
    d, switches_d = F.max_pool2d(F.relu(c), 2, return_indices=True)
    y = F.conv2d(d, third, biases[6])

    for channel in (0, 4):
        start = torch.zeros_like(y)
        for n in range(2):
            peak = int(y[n, channel].argmax())
            start[n, channel].view(-1)[peak] = y[n, channel].reshape(-1)[peak]
        back = F.conv_transpose2d(start, third)
        back = F.max_unpool2d(back, switches_d, 2, output_size=c.shape)
        back = F.conv_transpose2d(F.relu(back), second, padding=1)
        back = F.max_unpool2d(back, switches_b, 2, output_size=a.shape)
        back = F.conv_transpose2d(F.relu(back), first, stride=2, padding=1, output_padding=1)
        assert back.shape == X.shape
        found = nb.inspect.deconvolution(model, X, 6, channel)
        np.testing.assert_allclose(found, back.numpy(), atol=1e-9)
