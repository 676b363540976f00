"""A slice of the fuzzer, and that it finds faults of each kind when there are some."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fuzz import guard, runner
from fuzz.inputs import archives, damage, models, trees
from fuzz.kinds import KINDS
from fuzz.networks import case as networks
from fuzz.networks import shrinking, slopes
from fuzz.networks.elements import activation, flatten
from fuzz.networks.images import conv
from fuzz.networks.node import Node, smaller

import nbconv as nb
from nbconv.cli import info
from nbconv_kernels import cpu

SLICE = {"networks": (0, 30), "files": (0, 500), "kills": (0, 2)}
"""By part, the first seed and the number of cases that ``make test`` runs."""


@pytest.mark.slow
@pytest.mark.parametrize("part", SLICE)
def test_a_slice_finds_nothing(part, tmp_path):
    first, count = SLICE[part]
    report = runner.run(part, runner.seeds_from(first, count), tmp_path)
    assert report.cases == count
    told = [f"python -m tests.fuzz {part} --seed {seed}\n{text}" for seed, text in report.failures.items()]
    assert not told, "\n\n".join(told)


def planted(monkeypatch, folder, part, text, seeds):
    """What the fuzzer finds where a module of this text has been imported."""
    (folder / "plant.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    return runner.run(part, seeds, folder, plant=["plant"])


# Networks


def network(*path, shape=(2, 3, 6, 5)):
    return replace(networks.drawn(1), path=path, shape=shape, dtype="float32", special=None, frozen=None)


CONV = Node(conv, {"out": 3, "groups": 1, "kernel_size": 2})
TANH = Node(activation, {"name": "Tanh"})


@pytest.mark.parametrize("op", ["conv2d", "conv2d_backward_weight", "conv2d_backward_input"])
def test_a_wrong_kernel_is_found(monkeypatch, op):
    case = network(TANH, CONV, Node(flatten))
    assert networks.looked_at(case) is None
    right = getattr(cpu, op)
    monkeypatch.setattr(cpu, op, lambda *args, **options: right(*args, **options) * np.float32(1.001))
    monkeypatch.setattr(shrinking, "SECONDS", 60.0)
    found = networks.looked_at(case)
    assert found.startswith("agrees_with_the_reference: ")
    small = shrinking.shrunk(case, found, networks.looked_at)
    assert (small.path, small.shape[0]) == ((CONV,), 1)


def test_memory_that_is_read_before_it_is_written_is_found(monkeypatch):
    backward = cpu.conv2d_backward_weight
    cpu.memory.empty((1 << 15,), np.float32)  # goes back to the pool

    def unwritten(dy, x, shape, *window):
        whole = backward(dy, x, shape, *window)
        return whole if len(x) else cpu.memory.empty((1 << 15,), x.dtype)[: whole.size].reshape(shape)

    monkeypatch.setattr(cpu, "conv2d_backward_weight", unwritten)
    assert "gradient of 0.weight holds nan for 0.0" in networks.looked_at(network(CONV, shape=(0, 3, 6, 5)))


def test_a_wrong_gradient_that_all_backends_share_is_found(monkeypatch):
    forward = nb.Tanh.forward

    def wrong(self, x, training=False, *, input_grad=True):
        y, backprop = forward(self, x, training, input_grad=input_grad)
        return y, lambda dy: backprop(dy) * 1.001

    monkeypatch.setattr(nb.Tanh, "forward", wrong)
    assert slopes.wrong(network(CONV, TANH))
    monkeypatch.undo()
    assert slopes.wrong(network(CONV, TANH)) is None


def test_smaller_networks_leave_something_out():
    path = networks.drawn(3).path
    sizes = {len(less) for less in smaller(path)}
    assert 0 in sizes
    assert len(path) - 1 in sizes


# Files


def test_a_reader_that_raises_something_else_is_found(monkeypatch, tmp_path):
    text = (
        "from fuzz.kinds import KINDS\n"
        "def read(path):\n"
        "    if path.read_bytes()[:3] != b'\\0\\0\\x08': raise ValueError('planted')\n"
        "KINDS['idx'] = KINDS['idx']._replace(readers=(read,))\n"
    )
    seed = list(KINDS).index("idx")
    seeds = range(seed, seed + 10 * len(KINDS), len(KINDS))
    report = planted(monkeypatch, tmp_path, "files", text, seeds)
    assert report.cases == 10
    assert 0 < len(report.failures) < 10
    assert all(failure.startswith("idx by read: ValueError: planted") for failure in report.failures.values())
    kept = [tmp_path / f"files-{seed}" / KINDS["idx"].place for seed in seeds]
    assert [file.exists() for file in kept] == [seed in report.failures for seed in seeds]
    assert list(report.sorts().values()) == [list(report.failures)]


def test_what_an_input_may_cost(monkeypatch):
    monkeypatch.setattr(guard, "SECONDS", 0.2)

    def forever():
        while True:
            pass

    def refuses():
        raise nb.DataError("no")

    def is_absent():
        Path("/nowhere").read_bytes()

    assert guard.attempt(refuses, 0) is None
    assert guard.attempt(is_absent, 0) is None
    assert guard.attempt(forever, 0).startswith("Hang")
    assert guard.attempt(lambda: np.empty(4 * guard.ROOM, np.uint8), 0).startswith("MemoryError")
    assert guard.attempt(lambda: np.empty(4 * guard.ROOM, np.uint8), guard.ROOM) is None
    assert guard.attempt(lambda: {}["x"], 0).startswith("KeyError")
    assert guard.attempt(lambda: guard.command("info", "--json"), 0) is None


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda options: 1 / 0, "ZeroDivisionError"),
        (lambda options: print("\x1b[2J") or {}, "writes to the terminal"),
        (lambda options: np.zeros(1 << 50), "runs out of memory"),
        (lambda options: print("Traceback", file=sys.stderr) or {}, "prints a traceback"),
        (lambda options: sys.exit(3), "leaves with 3"),
    ],
)
def test_what_a_command_may_say(monkeypatch, run, message):
    monkeypatch.setattr(info, "run", run)
    assert message in guard.attempt(lambda: guard.command("info"), 0)


def test_a_worker_that_dies_or_hangs_is_a_failure(monkeypatch, tmp_path):
    text = (
        "import os, signal, time\nfrom fuzz import files\n"
        "def run(seed, keep=None):\n"
        "    if seed == 1: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    if seed == 2: time.sleep(1000)\n"
        "    if seed == 3: raise KeyError('x')\n"
        "files.run = run\n"
    )
    monkeypatch.setitem(runner.PARTS, "files", (8.0, 100))
    failures = planted(monkeypatch, tmp_path, "files", text, range(5)).failures
    assert sorted(failures) == [1, 2, 3]
    assert "SIGSEGV" in failures[1]
    assert "Hang" in failures[2]
    assert "the fuzzer itself" in failures[3]


def test_mutations_are_what_the_seed_says():
    for bases, own in ((models.models, models.OWN), (archives.pickles, archives.PICKLES)):
        first, second = (
            [damage.damaged(bases(), own, np.random.default_rng(s)) for s in range(20)] for _ in "ab"
        )
        assert first == second
        assert len(set(first)) > 15
    tree = {"a": [1, {"b": "text"}]}
    changed = [trees.text(trees.mutated(tree, np.random.default_rng(seed))) for seed in range(50)]
    assert len(set(changed)) > 30
    assert tree == {"a": [1, {"b": "text"}]}


# Kills


def test_a_checkpoint_that_loses_a_step_is_found(monkeypatch, tmp_path):
    text = (
        "from nbconv.training import snapshot\n"
        "restore = snapshot.restore\n"
        "def loses(state, saved):\n"
        "    restore(state, saved)\n"
        "    state.optimizer.param_groups[0]['lr'] *= 1.5\n"
        "snapshot.restore = loses\n"
    )
    failures = planted(monkeypatch, tmp_path, "kills", text, [3]).failures
    assert failures
    assert all("differs from the run that was not killed" in failure for failure in failures.values())


# The command


def test_the_command(tmp_path):
    command = [sys.executable, "-m", "fuzz", "files", "--seed", "3", "--keep", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    assert ran.returncode in (0, 1), ran.stderr
    assert ran.stdout.startswith("files: 1 cases")
