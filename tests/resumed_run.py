"""A training run with all that has state, for tests that break it off and resume it; a script as well.

    python resumed_run.py FOLDER [KILL_AT_STEP] [--resume]

trains with checkpoints in FOLDER, kills itself at a step, and writes the state that it ends in.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

import nbconv as nb
from nbconv.callbacks import EMA, Checkpoint, ClipGradNorm, CSVLogger, EarlyStopping

EPOCHS = 6
EXAMPLES = 44


class KillAt(nb.Callback):
    """Ends the process as nothing else does, with no chance to tidy up."""

    def __init__(self, step):
        self.step = step

    def on_batch_end(self, state):
        if state.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def data():
    rng = np.random.default_rng(7)
    y = np.arange(EXAMPLES) % 3
    x = rng.normal(0, 1, (EXAMPLES, 2, 6, 6)).astype(np.float32)
    x[np.arange(EXAMPLES), y % 2, y, y] += 2
    return x, y


def model(backend="cpu"):
    return nb.Sequential(
        nb.Conv2d(2, 4, 3), nb.BatchNorm2d(4), nb.ReLU(), nb.Dropout(0.3), nb.Flatten(),
        nb.Dense(64, 8), nb.Dropout(0.2), nb.Dense(8, 3), backend=backend, seed=3,
    )  # fmt: skip


def noise(x, y, seed):
    return x + np.random.default_rng(seed).normal(0, 0.1, x.shape).astype(x.dtype), y


def run(folder, *, resume=None, extra=(), backend="cpu", optimizer=nb.Adam, every_steps=1):
    """Train to the end, or until a callback of ``extra`` ends it; (history, state) of the run."""
    network = model(backend)
    rule = optimizer(network.parameters(), lr=0.01)
    stopping = EarlyStopping("val_loss", patience=4, restore_best_weights=True)
    callbacks = [
        nb.schedules.CosineAnnealingLR(rule, T_max=40, per="step"),
        nb.schedules.ReduceLROnPlateau(rule, patience=1),
        ClipGradNorm(1.0),
        EMA(0.9),
        stopping,
        CSVLogger(Path(folder) / "log.csv"),
        Checkpoint(Path(folder) / "best.safetensors", monitor="val_accuracy"),
        Checkpoint(Path(folder) / "last.safetensors", every_steps=every_steps),
        *extra,
    ]
    trainer = nb.Trainer(network, nb.CrossEntropyLoss(), rule)
    history = trainer.fit(
        *data(),
        epochs=EPOCHS,
        batch_size=5,
        accumulate=2,
        validation_split=0.2,
        augment=noise,
        callbacks=callbacks,
        resume=resume,
        verbose=False,
    )
    return history, everything(network, rule, history, stopping)


def everything(network, rule, history, stopping):
    """All that a run ends in, as arrays."""
    arrays = network.state_dict()
    for number, entry in rule.state_dict()["state"].items():
        arrays |= {f"optimizer.{number}.{key}": np.asarray(value) for key, value in entry.items()}
    for name, values in history.history.items():
        if name not in ("seconds", "images_per_second"):
            arrays[f"history.{name}"] = np.array(values)
    dropouts = [layer for layer in network if isinstance(layer, nb.Dropout)]
    arrays["dropout"] = np.array([[layer.seed, layer.offset] for layer in dropouts], np.uint64)
    arrays["lr"] = np.array([group["lr"] for group in rule.param_groups])
    arrays["best"] = np.array([stopping.best, stopping.best_epoch])
    return arrays


if __name__ == "__main__":
    place = Path(sys.argv[1])
    numbers = [int(argument) for argument in sys.argv[2:] if argument.isdigit()]
    _, ended = run(
        place,
        resume=place / "last.safetensors" if "--resume" in sys.argv else None,
        extra=[KillAt(step) for step in numbers],
        backend="reference",
    )
    np.savez(place / "ended.npz", **ended)
