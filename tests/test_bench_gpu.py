"""The races on a GPU as far as they can be seen without one: the plan, the clock, the tables, the calls."""

import json
import math

import pytest

import nbconv as nb
from nbconv import backends
from nbconv.bench.gpu import clock, own, plan, run
from nbconv.cli import bench as command
from nbconv.cli import main

convolutions = plan.convolutions


def test_resnet50_has_its_convolutions():
    found = convolutions(nb.models.resnet50(), (3, 224, 224), 2)
    assert sum(conv.count for conv in found) == 53
    assert len(found) == len({conv.name for conv in found}) == 23
    first = found[0]
    assert (first.name, first.input_shape, first.output_shape) == (
        "3x224x224 k64 7x7 s2",
        (2, 3, 224, 224),
        (2, 64, 112, 112),
    )
    assert [n.case.name for n in plan.networks(["lenet5", "vgg16"])] == ["lenet5", "vgg16"]
    with pytest.raises(ValueError, match="on a GPU there are resnet50"):
        plan.networks(["googlenet"])


def test_contestants_have_turns_in_both_orders():
    calls, seen = {"a": 0, "b": 0}, []
    seconds = {"a": 2e-3, "b": 1e-4}

    def timer(call, count):
        name = call()
        calls[name] += count
        seen.append((name, count))
        return seconds[name]

    times = clock.race({"a": lambda: "a", "b": lambda: "b"}, timer, rounds=4)
    assert times == seconds
    assert seen[:4] == [("a", 3), ("a", 1), ("b", 3), ("b", 1)]
    turns = [("a", 3), ("b", 50)]
    assert seen[4:] == [*turns, *turns[::-1], *turns, *turns[::-1]]


def alone(precision, *names, peer=None, **race):
    """A bench of the CPU backend, without timing."""
    bench = run.Bench(precision, list(names), lambda line: None, **race)
    bench._peer = peer
    return bench


def once(runs):
    """The seconds of a race, from calls that are really made."""
    for call in runs.values():
        call()
    return {name: 0.002 if name == "nbconv" else 0.003 for name in runs}


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.setattr(own, "_BACKEND", "cpu")
    monkeypatch.setattr(run, "_MOVED", (2, 4, 6, 6))
    monkeypatch.setattr(plan, "convolutions", lambda *args: CONVS)
    monkeypatch.setitem(plan._BATCHES, "lenet5", ({1: None, 3: None}, {4: 1.0}))
    before, threads = nb.get_precision(), nb.get_num_threads()
    nb.set_num_threads(1)
    yield
    nb.set_precision(before)
    nb.set_num_threads(threads)


CONVS = [
    plan.Convolution((2, 3, 9, 9), (4, 3, 3, 3), (2, 2), ((1, 1), (1, 1)), 1, (2, 4, 5, 5)),
    plan.Convolution((2, 4, 6, 6), (4, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), 4, (2, 4, 6, 6), 2),
]


def test_without_a_peer_there_are_times_and_no_ratios():
    bench = alone("highest", "lenet5", race=once)
    rows = bench.section("convolutions")
    assert [row["name"] for row in rows[:3]] == [f"3x9x9 k4 3x3 s2 {which}" for which in plan.PASSES]
    assert all(row["ms"] == {"nbconv": 2.0} and "ratio" not in row for row in rows)
    assert "no peer" in run.described("convolutions", rows, "highest")
    rows = bench.section("training")
    assert set(rows[0]["ms"]) == {"nbconv", "nbconv_direct"}
    assert rows[0]["target"] == 1.0
    assert [row["batch"] for row in bench.section("inference")] == [1, 3]
    rows = {row["name"]: row for row in bench.section("bandwidth")}
    assert rows["copy"]["of_copy"] == 1.0
    assert rows["add_relu"]["gb_per_s"] == pytest.approx(3 * 2 * 4 * 6 * 6 * 4 / 0.003 / 1e9)
    assert "sgd_step" in run.described("bandwidth", list(rows.values()), "highest")


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_pytorch_computes_the_same(precision, monkeypatch):
    pytest.importorskip("torch")
    from nbconv.bench.gpu import torch_peer

    monkeypatch.setattr(torch_peer, "_DEVICE", "cpu")
    bench = alone(precision, "lenet5", peer=torch_peer, race=once)
    rows = bench.section("convolutions")
    for row in rows:
        assert not row["absent"], row
        assert row["best_peer"] == "pytorch_contiguous"
        assert row["ratio"] == pytest.approx(1.5)
    assert "all 1.50" in run.described("convolutions", rows, precision)
    assert not bench.section("inference")[0]["absent"]
    assert set(bench.section("training")[0]["ms"]) == {
        "nbconv",
        "nbconv_direct",
        "pytorch_contiguous",
        "pytorch_channels_last",
    }


def test_who_disagrees_does_not_start():
    class Wrong:
        LAYOUTS = ("contiguous",)

        def convolution(self, conv, which, x, w, dy, layout, precision):
            return lambda: own.convolution(conv, which, x, w, dy)() * 1.01

        def to_numpy(self, value):
            return value

    row = alone("highest", peer=Wrong(), race=once).section("convolutions")[0]
    assert "differs from nbconv's by 1.0e-02" in row["absent"]["pytorch_contiguous"]
    assert set(row["ms"]) == {"nbconv"}
    assert run.described("convolutions", [row], "highest").count("-") > 1


def test_results_are_kept_beside_those_of_other_precisions(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "conditions", lambda: {"gpu": "none"})
    monkeypatch.setattr(backends, "check", lambda *arguments: None)
    monkeypatch.setattr(run, "_peer", lambda say: None)
    monkeypatch.setattr(clock, "on_gpu", None)
    monkeypatch.setattr(run.Bench.__init__, "__defaults__", (None, print, once))
    lines = []
    run.run(["bandwidth"], ["highest"], [], tmp_path, lines.append)
    run.run(["convolutions"], ["highest", "high"], [], tmp_path, lines.append)
    stored = json.loads((tmp_path / run.FILE).read_text())
    assert stored["conditions"] == {"gpu": "none"}
    assert set(stored["highest"]) == {"bandwidth", "convolutions"}
    assert set(stored["high"]) == {"convolutions"}
    assert nb.get_precision() != "none"
    assert math.isfinite(stored["high"]["convolutions"][0]["ms"]["nbconv"])


def test_the_command_says_what_it_lacks(capsys):
    assert command._GPU_SECTIONS == run.SECTIONS
    assert command._PRECISIONS == run.PRECISIONS
    if backends.available()["cuda"] is not True:
        assert main(["bench", "--gpu"]) == 1
        assert "backend 'cuda' is not available" in capsys.readouterr().err
    assert main(["bench", "--gpu", "--only", "nothing"]) == 1
    assert "unknown section" in capsys.readouterr().err
