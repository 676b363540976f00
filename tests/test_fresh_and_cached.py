"""The process that compiles a kernel and those that load it from disk compute the same bits."""

import os
import subprocess
import sys

_TRAINING = """
import hashlib
import numpy as np
import nbconv as nb
model = nb.models.lenet5(seed=0)
optimizer = nb.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
rng = np.random.default_rng(0)
x, targets = rng.standard_normal((16, 1, 32, 32), dtype=np.float32), rng.integers(0, 10, 16)
for _ in range(4):
    optimizer.zero_grad()
    y, backprop = model.forward(x, training=True)
    backprop(nb.CrossEntropyLoss()(y, targets)[1])
    optimizer.step()
digest = hashlib.sha256()
for value in model.state_dict().values():
    digest.update(value.tobytes())
print(digest.hexdigest())
"""


def test_training_has_the_same_bits(tmp_path):
    environment = {**os.environ, "NBCONV_CACHE_DIR": str(tmp_path)}
    digests = [
        subprocess.run(
            [sys.executable, "-c", _TRAINING], env=environment, check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    ]
    assert any(tmp_path.rglob("*.nbc"))
    assert digests[0] == digests[1]
