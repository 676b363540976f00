"""How long a user waits: the import, and the first training step with a warm and an empty kernel cache."""

import os
import subprocess
import sys

_STEP = """
import numpy as np
import nbconv as nb
model = nb.models.lenet5(seed=0)
optimizer = nb.SGD(model.parameters(), lr=0.01, momentum=0.9)
y, backprop = model.forward(np.zeros((128, 1, 32, 32), np.float32), training=True)
loss, dy = nb.CrossEntropyLoss()(y, np.zeros(128, np.int64))
backprop(dy)
optimizer.step()
"""


def _python(code, cache):
    environment = {**os.environ, "NBCONV_CACHE_DIR": str(cache)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_python_alone(benchmark, tmp_path):
    benchmark.group = "start-up"
    benchmark.pedantic(_python, args=("pass", tmp_path), rounds=5)


def test_import(benchmark, tmp_path):
    benchmark.group = "start-up"
    benchmark.pedantic(_python, args=("import nbconv", tmp_path), rounds=5, warmup_rounds=1)


def test_first_step_warm_cache(benchmark, tmp_path):
    benchmark.group = "start-up"
    benchmark.pedantic(_python, args=(_STEP, tmp_path), rounds=5, warmup_rounds=1)


def test_first_step_empty_cache(benchmark, tmp_path):
    benchmark.group = "start-up"
    caches = iter(range(3))
    benchmark.pedantic(lambda: _python(_STEP, tmp_path / str(next(caches))), rounds=3)
