"""LeNet-5: a whole training step, and inference, beside PyTorch."""

import numpy as np
import pytest

import nbconv as nb


def _torch_lenet(torch):
    t = torch.nn
    return t.Sequential(
        *(t.Conv2d(1, 6, 5), t.ReLU(), t.MaxPool2d(2)),
        *(t.Conv2d(6, 16, 5), t.ReLU(), t.MaxPool2d(2)),
        *(t.Flatten(), t.Linear(400, 120), t.ReLU(), t.Linear(120, 84), t.ReLU(), t.Linear(84, 10)),
    )


def _data(batch):
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch, 1, 32, 32), dtype=np.float32), rng.integers(0, 10, batch)


def test_training_step(race, torch):
    x, targets = _data(128)
    model = nb.models.lenet5(seed=0)
    loss = nb.CrossEntropyLoss()
    optimizer = nb.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step():
        optimizer.zero_grad()
        y, backprop = model.forward(x, training=True, input_grad=False)
        _, dy = loss(y, targets)
        backprop(dy)
        optimizer.step()

    peers = {}
    if torch is not None:
        for name, layout in (("torch", torch.contiguous_format), ("channels_last", torch.channels_last)):
            peers[name] = _torch_step(torch, layout, x, targets)
    race("LeNet-5 training step", "batch 128", step, **peers)


def _torch_step(torch, layout, x, targets):
    model = _torch_lenet(torch).to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, targets = torch.from_numpy(x).contiguous(memory_format=layout), torch.from_numpy(targets)

    def step():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), targets).backward()
        optimizer.step()

    return step


@pytest.mark.parametrize("batch", [1, 128])
def test_inference(race, torch, batch):
    x, _ = _data(batch)
    model = nb.models.lenet5(seed=0)
    peers = {}
    if torch is not None:
        twin = _torch_lenet(torch).eval()
        twin.load_state_dict({key: torch.from_numpy(value) for key, value in model.state_dict().items()})
        tensor = torch.from_numpy(x)

        def infer():
            with torch.inference_mode():
                return twin(tensor)

        np.testing.assert_allclose(model(x), infer().numpy(), rtol=1e-4, atol=1e-5)
        peers["torch"] = infer
    race("LeNet-5 inference", f"batch {batch}", lambda: model(x), **peers)
