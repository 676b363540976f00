"""LeNet-5 while other processes keep every CPU busy, and while none do: waiting for threads is what costs."""

import os
import subprocess
import sys

import numpy as np
import pytest

import nbconv as nb


@pytest.fixture
def neighbours(request):
    """So many busy processes for each CPU."""
    count = request.param * (os.cpu_count() or 1)
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    yield request.param
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("neighbours", [0, 1, 4], indirect=True)
@pytest.mark.parametrize("images", [1, 256])
def test_inference(benchmark, neighbours, images):
    model = nb.models.lenet5(seed=0)
    x = np.random.default_rng(0).standard_normal((images, 1, 32, 32), dtype=np.float32)
    benchmark.group = f"LeNet-5 inference beside busy processes, {images} images"
    benchmark(model, x)


@pytest.mark.parametrize("neighbours", [0, 1, 4], indirect=True)
def test_training_step(benchmark, neighbours):
    model, rng = nb.models.lenet5(seed=0), np.random.default_rng(0)
    optimizer = nb.SGD(model.parameters(), lr=0.01, momentum=0.9)
    x, targets = rng.standard_normal((128, 1, 32, 32), dtype=np.float32), rng.integers(0, 10, 128)

    def step():
        optimizer.zero_grad()
        y, backprop = model.forward(x, training=True)
        backprop(nb.CrossEntropyLoss()(y, targets)[1])
        optimizer.step()

    benchmark.group = "LeNet-5 training step beside busy processes"
    benchmark(step)
