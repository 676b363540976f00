"""What ``nbconv bench`` measures with: the files it writes for peers, its errors, its results on disk."""

import json
import time
from collections import Counter

import numpy as np
import pytest

import nbconv as nb
from nbconv.bench import cases, chart, networks, report, tables
from nbconv.bench.graph import INPUT, graph_of
from nbconv.bench.options import Options
from nbconv.bench.timing import alternate
from nbconv.cli import bench as command
from nbconv.cli import main
from nbconv.models.inception import inception

SHAPE = (2, 3, 15, 14)


@pytest.fixture
def model():
    """Something of every kind that the raced networks are made of."""
    case = cases.Case("small", "Small", _small, SHAPE[1:], 5)
    return case.model()


def _small():
    return nb.Sequential(
        *(nb.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nb.BatchNorm2d(8), nb.ReLU6()),
        nb.MaxPool2d(3, stride=2, ceil_mode=True),
        nb.LocalResponseNorm(5, alpha=0.5),
        nb.Residual(nb.Sequential(nb.Conv2d(8, 8, 3, padding=1), nb.BatchNorm2d(8))),
        nb.Residual(nb.Conv2d(8, 6, 1), nb.Conv2d(8, 6, 1), activation=None),
        *(nb.Conv2d(6, 6, (3, 1), padding=(1, 0), groups=6), nb.BatchNorm2d(6, affine=False), nb.ReLU()),
        inception(6, (2, 3, 4, 2, 3, 1)),
        *(nb.GlobalAvgPool2d(), nb.Dropout(0.3), nb.Dense(10, 7), nb.ReLU(), nb.Dense(7, 5)),
        seed=0,
    )


def images():
    return np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)


def test_the_steps_of_a_graph_are_in_order(model):
    graph = graph_of(model)
    known = {INPUT}
    for step in graph.steps:
        assert set(step.inputs) <= known
        assert step.output not in known
        known.add(step.output)
    kinds = Counter(step.op for step in graph.steps)
    assert kinds["Add"] == 2
    assert kinds["Concat"] == 1
    assert kinds["Dropout"] == 0
    assert kinds["Conv2d"] == 1 + 1 + 2 + 1 + 6


def test_the_onnx_file_means_the_model(model):
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    from nbconv.bench.peers.onnx_file import export

    del model[4]  # the evaluator's LRN leaves out the last channel of its window, unlike the runtimes
    (expected,) = ReferenceEvaluator(export(model, SHAPE)).run(None, {INPUT: images()})
    np.testing.assert_allclose(model(images()), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", cases.names())
def test_every_raced_network_can_be_written(name):
    pytest.importorskip("onnx")
    from nbconv.bench.peers import ncnn_file, onnx_file

    (case,) = cases.select([name])
    ops = {step.op for step in graph_of(case.build()).steps}
    assert ops <= set(onnx_file._WRITERS)
    assert ops - {"BatchNorm2d"} <= set(ncnn_file._WRITERS)  # which is folded


def test_each_blob_of_the_ncnn_file_is_written_once_and_read_once(model):
    from nbconv.bench.peers.ncnn_file import export

    text, weights, output = export(model)
    _, counts, *lines = text.splitlines()
    written, read = [], []
    for line in lines:
        _, _, inputs, outputs, *names = line.split()
        read += names[: int(inputs)]
        written += names[int(inputs) : int(inputs) + int(outputs)]
    assert counts == f"{len(lines)} {len(written)}"
    assert len(set(written)) == len(written)
    assert Counter(written) == Counter([*read, output])
    # Batch normalisation is folded: a bias for every convolution, and a flag of four bytes in front.
    numbers = sum(
        4 + 4 * (layer.weight.size + layer.weight.shape[0])
        for _, layer in model.named_layers()
        if isinstance(layer, nb.Conv2d | nb.Dense)
    )
    assert len(weights) == numbers


@pytest.mark.parametrize("peer", ["pytorch", "channels_last", "onnxruntime", "openvino", "ncnn"])
def test_peers_that_are_here_agree(model, peer):
    from nbconv.bench import peers

    pytest.importorskip(peers.PEERS[peer].package)
    result = peers.inference(peer, model, images(), threads=1)()
    np.testing.assert_allclose(result, model(images()), rtol=1e-4, atol=1e-5)


def test_a_training_step_is_pytorchs(model):
    pytest.importorskip("torch")
    from nbconv.bench import peers
    from nbconv.bench.peers import own

    targets = np.array([3, 1])
    with networks._without_dropout(model):
        loss, gradient = own.training(model, images(), targets).probe()
        step = peers.training("channels_last", model, images(), targets, 1)
    their_loss, their_gradient = step.probe()
    assert loss == pytest.approx(their_loss, rel=1e-5)
    assert networks.relative_l2(gradient, their_gradient) < 1e-4
    step.run()


def test_a_peer_that_is_not_there_says_so(model, monkeypatch):
    from nbconv.bench import peers

    absent = peers.Peer("ort", "a_package_that_is_not_there")
    monkeypatch.setitem(peers.PEERS, "onnxruntime", absent)
    with pytest.raises(peers.Unavailable, match="a_package_that_is_not_there is not installed"):
        peers.inference("onnxruntime", model, images(), 1)


def test_who_disagrees_does_not_race(monkeypatch):
    from nbconv.bench import peers

    def wrong(name, model, x, threads):
        y = model(x)
        return lambda: y * (1 if name == "openvino" else np.nan if name == "ncnn" else 1.01)

    monkeypatch.setattr(peers, "inference", wrong)
    case = cases.Case("small", "Small", _small, SHAPE[1:], 5, inference={2: 9.0})
    (row,) = networks.inference(Options([case], ["openvino", "ncnn", "pytorch"], 1, 0.0, print))
    assert set(row["ms"]) == {"nbconv", "openvino"}
    assert row["best_peer"] == "openvino"
    assert row["ratio"] == row["ms"]["openvino"] / row["ms"]["nbconv"]
    assert row["errors"]["pytorch"] == pytest.approx(0.01, rel=0.01)
    assert "differs from nbconv's by 1.0e-02" in row["absent"]["pytorch"]
    assert "differs" in row["absent"]["ncnn"]
    assert "missed" in tables.networks([row])


def test_the_race_tells_the_faster():
    times = alternate(
        {"slow": lambda: time.sleep(0.02), "fast": lambda: time.sleep(0.002)}, seconds=0.0, least=2
    )
    assert times["fast"] >= 0.002
    assert times["slow"] >= 0.02
    assert times["fast"] < times["slow"]


def test_results_replace_those_of_the_same_name(tmp_path):
    stored = report.load(tmp_path)
    first = {"date": "2026-01-01", "threads": 2}
    report.merge(stored, "gemm", [{"name": "a", "x": 1.23456789}, {"name": "b"}], first)
    report.merge(stored, "gemm", [{"name": "a", "x": 2}], {"date": "2026-01-02"})
    report.save(tmp_path, stored)
    read = report.load(tmp_path)
    assert read["gemm"] == [{"name": "a", "x": 2, "run": "2026-01-02"}, {"name": "b", "run": "2026-01-01"}]
    assert set(read["runs"]) == {"2026-01-01", "2026-01-02"}
    report.merge(read, "gemm", [{"name": "b", "x": 1 / 3}], {"date": "2026-01-03"})
    report.save(tmp_path, read)
    assert report.load(tmp_path)["gemm"][1]["x"] == 0.3333
    assert set(read["runs"]) == {"2026-01-02", "2026-01-03"}
    assert [path.name for path in tmp_path.iterdir()] == [report.FILE]


def test_the_chart_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [
        {"title": "A", "batch": 1, "ms": {"nbconv": 1.0, "ncnn": 2.0}, "ratio": 2.0, "target": 1.5},
        {"title": "B", "batch": 8, "ms": {"nbconv": 1.0}, "target": None},
    ]
    chart.draw({"runs": {}, "inference": rows}, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no races"):
        chart.draw({"runs": {}, "inference": rows[1:]}, tmp_path / "none.png")


def test_the_command_knows_what_there_is():
    from nbconv.bench.peers import PEERS
    from nbconv.bench.run import SECTIONS

    assert command._SECTIONS == tuple(SECTIONS) == tuple(tables.TABLES)
    assert list(PEERS) == list(command._PEERS)


def test_the_command_races_and_keeps_the_results(capsys, tmp_path):
    arguments = ["bench", "--only", "inference", "--models", "lenet5", "--peers", ",", "--seconds", "0"]
    assert main([*arguments, "--output", str(tmp_path), "--json"]) == 0
    out = capsys.readouterr().out
    assert "LeNet-5, batch 128" in out
    result = json.loads(out.splitlines()[-1])
    assert [row["name"] for row in result["inference"]] == ["lenet5-1", "lenet5-128"]
    stored = report.load(tmp_path)
    assert [row["run"] for row in stored["inference"]] == [result["conditions"]["date"]] * 2


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--only", "unknown section 'nothing'; there are inference, training"),
        ("--models", "unknown model 'nothing'; there are lenet5"),
        ("--peers", "unknown peer 'nothing'; there are pytorch"),
    ],
)
def test_the_command_turns_down_what_it_does_not_know(capsys, option, message):
    assert main(["bench", option, "nothing"]) == 1
    assert message in capsys.readouterr().err


def test_errors_are_measured_against_float64():
    from nbconv.bench.accuracy import accuracy

    case = cases.Case("one", "One", lambda: nb.Sequential(nb.Conv2d(32, 64, 3, padding=1)), (32, 12, 12), 5)
    (row,) = accuracy(Options([case], ["pytorch"], 1, 0.0, print))
    assert row["truth"] in ("PyTorch float64", "nbconv float64")
    for errors in row["errors"].values():
        assert all(1e-9 < error < 1e-5 for error in errors.values())
    assert row["held"]


def test_curves_with_winograd_and_without_agree():
    from nbconv.bench import curves
    from nbconv.bench.tables import TABLES

    def build():
        layers = [nb.Conv2d(1, 32, 3), nb.ReLU(), nb.Conv2d(32, 32, 3, padding=1), nb.ReLU()]
        return nb.Sequential(*layers, nb.GlobalAvgPool2d(), nb.Flatten(), nb.Dense(32, 10), seed=0)

    whole = nb.data.digits(16)
    data = nb.data.Split(nb.data.Examples(*(part[:256] for part in whole.train)), whole.test)
    row = curves.measure("small", build, data, 2)
    assert row["steps"] == 8
    assert 0 < row["first_steps_apart"] < 1e-4  # not the same algorithm, but the same learning
    np.testing.assert_allclose(row["loss"]["high"], row["loss"]["highest"], rtol=1e-3)
    assert row["loss"]["high"][0] == pytest.approx(np.log(10), rel=0.05)  # before it has learnt much
    assert nb.get_precision() == "high"
    assert "first losses within" in TABLES["curves"]([row])


def test_memory_is_measured_in_a_process_of_its_own():
    from nbconv.bench.memory import memory

    (row,) = memory(Options(cases.select(["lenet5"]), [], 1, 0.0, print))
    # The gradient and the output of the first layer alone are 2 x 128 x 6 x 28 x 28 numbers.
    assert 2 * 128 * 6 * 28 * 28 * 4 / 2**20 < row["mib"]["nbconv"] < 60


def test_a_process_that_fails_tells_why():
    from nbconv.bench import child

    with pytest.raises(nb.NbconvError, match=r"memory: .* failed: ValueError: unknown model 'nothing'"):
        child.measure("memory", {"peer": "nbconv", "name": "nothing", "batch": 1}, {})


def test_what_kernels_have_to_do():
    from nbconv.bench.kernels import KERNELS

    runs = {kernel.name: kernel for kernel in KERNELS}
    image = 4 * 16 * 64 * 56 * 56
    for name, moved in {"relu": 3, "relu_backward": 4, "accumulate": 3}.items():
        run = runs[name].prepare()
        run.call()
        assert run.moved == moved * image
    assert runs["conv2d 4x128x28x28 128x3x3/2"].operations == 2 * 4 * 128 * 14 * 14 * 128 * 9


@pytest.mark.parametrize("length", [1, 17, 100_003])
def test_the_copy_that_limits_are_measured_with_copies(length):
    from nbconv_kernels.cpu import limits

    source, target = np.arange(length, dtype=np.float32), np.zeros(length, np.float32)
    limits.copy(source, target)
    np.testing.assert_array_equal(source, target)


def test_multiply_adds_are_counted():
    from nbconv_kernels.cpu import limits
    from nbconv_kernels.cpu.simd import SIMD

    sums = SIMD.rows * SIMD.vectors * SIMD.lanes(4)
    assert limits.multiply_add(1000) == 2 * 1000 * sums * nb.get_num_threads()
