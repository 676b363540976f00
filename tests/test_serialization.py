import json
import os
import signal
import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import nbconv as nb
from nbconv import serialization

BACKENDS = ["reference", "cpu"]


def every_layer():
    """One of each, most with arguments of their own."""
    return nb.Sequential(
        nb.Conv2d(2, 4, (3, 1), stride=(1, 2), padding="valid", groups=2, bias=False),
        nb.BatchNorm2d(4, eps=1e-3, momentum=None),
        nb.LeakyReLU(0.2),
        nb.Conv2d(4, 4, 3, padding="same", dilation=2),
        nb.ELU(0.5),
        nb.MaxPool2d(2, 1, padding=1, ceil_mode=True),
        nb.Sequential(nb.Sigmoid(), nb.AvgPool2d((1, 2), count_include_pad=False, divisor_override=3)),
        nb.ReLU(),
        nb.AdaptiveAvgPool2d((None, 2)),
        nb.Dropout(0.1),
        nb.Flatten(),
        nb.Dense(56, 3),
        nb.Tanh(),
        nb.Softmax(dim=-1),
        backend="reference",
        seed=0,
    )


def more_layers():
    """One of each of the others, inside each other."""
    return nb.Sequential(
        nb.Residual(
            nb.Conv2d(2, 2, 3, padding=1, padding_mode="constant", padding_value=0.5), activation=None
        ),
        nb.Concat(nb.Sequential(), nb.ConvTranspose2d(2, 1, 3, padding=1), nb.PReLU(2)),
        nb.Sequential(nb.Pad2d(((1, 0), (0, 2)), "reflect"), nb.Upsample(scale_factor=0.5), nb.GELU("tanh")),
        nb.DenseBlock(nb.Conv2d(5, 2, 1), nb.Residual(nb.SELU(), nb.SiLU(), nb.PReLU())),
        nb.Conv2d(14, 4, 1),
        nb.Upsample((7, 8), mode="bilinear", align_corners=True),
        nb.Concat(nb.Dropout2d(0.3), nb.Maxout(4)),
        nb.Sequential(nb.LocalResponseNorm(3), nb.GroupNorm(1, 5), nb.LayerNorm((7, 8))),
        nb.Sequential(nb.SubtractiveNorm(5), nb.DivisiveNorm(3, np.inf), nb.ContrastNorm(eps=0.1)),
        nb.Sequential(nb.ReLU6(), nb.Hardswish(), nb.Softplus(2.0)),
        nb.GlobalAvgPool2d(),
        nb.LogSoftmax(),
        backend="reference",
        seed=0,
    )


def images():
    return np.random.default_rng(0).standard_normal((3, 2, 8, 7), np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def header_of(path):
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return json.loads(file.metadata()["nbconv"])


def rewrite(path, change):
    """Store the same weights with another description."""
    header = header_of(path)
    change(header)
    save_file(load_file(path), path, {"nbconv": json.dumps(header)})


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("make", [every_layer, more_layers])
def test_a_loaded_model_is_the_same(path, make, backend):
    model = make()
    model.forward(images(), training=True)  # statistics that are not the first ones
    model.save(path)
    again = nb.load(path, backend=backend)
    assert isinstance(again, nb.Sequential)
    assert repr(again) == repr(model)
    assert {layer.backend for _, layer in again.named_layers()} == {backend}
    for (key, value), (other_key, other) in zip(
        model.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert key == other_key
        np.testing.assert_array_equal(value, other)
    np.testing.assert_array_equal(again(images()), model.to(backend)(images()))


def test_the_file_is_plain_safetensors(path):
    model = every_layer()
    model.save(path)
    tensors = load_file(path)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(tensors[key], value)
    header = header_of(path)
    assert header["format_version"] == 1
    assert header["architecture"]["layer"] == "Sequential"


def test_float64_comes_back_as_float64(path):
    model = nb.Sequential(nb.Dense(2, 2), backend="reference", dtype="float64", seed=0)
    model[0].weight.data = [[1 / 3, 0], [0, 1]]
    model.save(path)
    again = nb.load(path, backend="reference")
    assert again.dtype == np.float64
    assert again[0].weight.data[0, 0] == 1 / 3


def test_arguments_may_be_numpy_numbers(path):
    two, half = np.int64(2), np.float32(0.5)
    layers = [nb.Conv2d(two, two, (two, two), padding=np.int32(1)), nb.BatchNorm2d(two, momentum=half)]
    layers += [nb.AvgPool2d(two, divisor_override=two), nb.AdaptiveAvgPool2d((two, None)), nb.Dropout(half)]
    model = nb.Sequential(*layers, nb.LeakyReLU(half), seed=two)
    model.save(path)
    assert repr(nb.load(path)) == repr(model)


def test_the_name_is_kept_as_it_is(tmp_path):
    model = nb.Sequential(nb.Dense(2, 2))
    for name in ("weights", "a.b.nbconv", "lenet.safetensors"):
        model.save(tmp_path / name)
        model.save(str(tmp_path / name))
    assert sorted(os.listdir(tmp_path)) == ["a.b.nbconv", "lenet.safetensors", "weights"]


def test_a_file_of_ones_own_rights(path):
    nb.Sequential(nb.Dense(2, 2)).save(path)
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_link_is_followed(tmp_path):
    target = tmp_path / "target"
    (tmp_path / "link").symlink_to(target)
    nb.Sequential(nb.Dense(2, 2)).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert repr(nb.load(target)[0]) == "Dense(2, 2)"


def test_the_content_is_on_the_disk_before_the_name(path, monkeypatch):
    """Else a crash of the machine could leave the new name on an empty file."""
    events = []
    flush, rename = os.fsync, os.replace

    def fsync(descriptor):
        events.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        flush(descriptor)

    def replace(source, target, **folders):
        events.append("rename")
        rename(source, target, **folders)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    opened = len(os.listdir("/proc/self/fd"))
    nb.Sequential(nb.Dense(2, 2)).save(path)
    assert events[0].startswith(f"{path.parent}/.nbconv-")
    assert events[1:] == ["rename", str(path.parent)]
    assert len(os.listdir("/proc/self/fd")) == opened


def test_a_failed_save_leaves_the_old_file(path, monkeypatch):
    nb.Sequential(nb.Dense(2, 2)).save(path)
    before = path.read_bytes()

    def fail(*_, **folders):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        nb.Sequential(nb.Dense(3, 3)).save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_killed_process_leaves_the_old_file(path):
    """SIGKILL strikes when the new file is written but not yet renamed."""
    nb.Sequential(nb.Dense(2, 2)).save(path)
    before = path.read_bytes()
    code = """
        import os, signal, sys
        import nbconv as nb
        os.replace = lambda *_, **folders: os.kill(os.getpid(), signal.SIGKILL)
        nb.Sequential(nb.Dense(30, 30)).save(sys.argv[1])
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code), path], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert repr(nb.load(path)[0]) == "Dense(2, 2)"


class Named(nb.LeakyReLU):
    def __init__(self, name):
        super().__init__()
        self.name = name


def test_arguments_that_json_cannot_hold_are_refused(path):
    model = nb.Sequential(Named(object()), backend="reference")
    with pytest.raises(TypeError, match=r"cannot save <object .*> in a checkpoint|cannot save <object"):
        model.save(path)
    assert not path.exists()


# Files that are refused


@pytest.fixture
def saved(path):
    every_layer().save(path)
    return path


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1, 0.5])
def test_truncated(saved, keep):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(
        nb.CheckpointError, match=r"model\.safetensors is damaged, cut short or no safetensors"
    ):
        nb.load(saved)


def test_corrupted_header(saved):
    content = bytearray(saved.read_bytes())
    content[20:40] = b"\xff" * 20
    saved.write_bytes(content)
    with pytest.raises(nb.CheckpointError, match="damaged"):
        nb.load(saved)


def test_a_pickle_is_not_run(path):
    path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(nb.CheckpointError, match="no safetensors file"):
        nb.load(path)


def test_no_such_file(path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        nb.load(path)


def test_weights_without_architecture(path):
    save_file({"0.weight": np.zeros((2, 2), np.float32)}, path)
    with pytest.raises(nb.CheckpointError, match="holds weights but no architecture of nbconv"):
        nb.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(format_version=2), "format version 2; this nbconv reads version 1"),
        (lambda h: h.pop("format_version"), "the description of the architecture cannot be read"),
        (lambda h: h.pop("architecture"), "the architecture cannot be built: 'architecture'"),
        (lambda h: h.update(architecture=3), "the architecture is 3, not a layer"),
        (lambda h: h.update(architecture=layer(h, 2)), "the architecture is LeakyReLU, a layer and no model"),
        (lambda h: h.update(dtype="int8"), "dtype must be float32 or float64, got int8"),
        (lambda h: h.update(dtype="no such"), "the architecture cannot be built"),
        (lambda h: layer(h, 2).update(layer="Exec"), "unknown layer class 'Exec'"),
        (lambda h: layer(h, 2).update(layer=["ReLU"]), "the architecture cannot be built"),
        (lambda h: layer(h, 2).pop("layer"), "the architecture cannot be built: 'layer'"),
        (lambda h: layer(h, 2).update(arguments=7), "the architecture cannot be built"),
        (lambda h: layer(h, 2)["arguments"].update(a=1), "LeakyReLU: .*unexpected keyword argument 'a'"),
        (lambda h: layer(h, 11)["arguments"].pop("in_features"), "Dense: .*missing"),
        (lambda h: layer(h, 11)["arguments"].update(in_features=-1), "Dense: in_features must be a positive"),
        (lambda h: h["architecture"]["arguments"].update(layers=[1]), "Sequential: .* holds layers, got 1"),
        (
            lambda h: layer(h, 11)["arguments"].update(in_features=10**12),
            r"'11.weight' is \(3, 56\), needs \(3, 1000000000000\)",
        ),
        (
            lambda h: h["architecture"]["arguments"]["layers"].pop(),
            None,  # a layer without weights is not missed
        ),
        (
            lambda h: h["architecture"]["arguments"]["layers"].pop(11),
            r"(?s)unexpected: '11.bias'.*unexpected: '11.weight'",
        ),
        (
            lambda h: h["architecture"]["arguments"]["layers"].append(layer(h, 11)),
            r"(?s)missing: '14.weight'.*missing: '14.bias'",
        ),
    ],
)
def test_descriptions_that_do_not_fit(saved, change, message):
    rewrite(saved, change)
    if message is None:
        nb.load(saved)
        return
    with pytest.raises(nb.CheckpointError, match=message):
        nb.load(saved)


def layer(header, index):
    return header["architecture"]["arguments"]["layers"][index]


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", "[" * 100_000])
def test_descriptions_that_are_no_json(path, text):
    save_file({}, path, {"nbconv": text})
    with pytest.raises(nb.CheckpointError, match="the description of the architecture cannot be read"):
        nb.load(path)


def test_an_endlessly_nested_architecture(path):
    inner = '{"layer": "Sequential", "arguments": {"layers": ['
    depth = 400
    architecture = inner * depth + "]}}" * depth
    header = f'{{"format_version": 1, "dtype": "float32", "architecture": {architecture}}}'
    save_file({}, path, {"nbconv": header})
    with pytest.raises(nb.CheckpointError):
        nb.load(path)


def test_weights_of_a_wrong_shape(saved):
    tensors = load_file(saved)
    tensors["3.weight"] = tensors["3.weight"][:, :3].copy()
    save_file(tensors, saved, {"nbconv": json.dumps(header_of(saved))})
    with pytest.raises(nb.CheckpointError, match=r"'3.weight' is \(4, 3, 3, 3\), needs \(4, 4, 3, 3\)"):
        nb.load(saved)


def test_an_unavailable_backend_is_no_fault_of_the_file(saved):
    with pytest.raises(nb.BackendUnavailable):
        nb.load(saved, backend="cuda")


# What is written


def test_the_file_holds_the_arrays_as_they_are(path):
    """The oracle is the format's own library."""
    rng = np.random.default_rng(0)
    tensors = {
        f"nbconv/{kind}": rng.integers(0, 2, (3, 2, 1)).astype(kind)
        for kind in ("?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "<f4", "u8", "i8", "<f8")
    }
    plain = rng.standard_normal((4, 6, 2)).astype(np.float32)
    odd = {
        "nbconv/none": np.zeros((3, 0), np.int64),
        "nbconv/number": np.float64(3.5) * np.ones(()),
        "nbconv/strided": plain[::2, ::-1],
        "nbconv/turned": plain.T,
        "nbconv/foreign": plain.astype(">f4"),
    }
    metadata = {"text": 'of \N{COW} and "quotes"\n', "\N{COW}": ""}
    serialization.write(path, nb.Sequential(nb.Dense(3, 2)), {**tensors, **odd}, metadata)
    found = load_file(path)
    for name, array in {**tensors, **odd}.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")
    with safe_open(path, "numpy") as file:
        assert metadata.items() <= file.metadata().items()
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    for name, entry in json.loads(content[8 : 8 + length]).items():
        if name != "__metadata__":
            assert entry["data_offsets"][0] % found[name].dtype.itemsize == 0


def test_arrays_that_the_format_does_not_know_are_refused(path):
    with pytest.raises(TypeError, match="cannot save 'nbconv/odd', an array of <U3, in a checkpoint"):
        serialization.write(path, nb.Sequential(nb.Dense(3, 2)), {"nbconv/odd": np.array("abc")}, {})
    assert not path.exists()


# What is read


def described(path, *layers, **tensors):
    """A file that says it holds a Sequential of these layers, (class, arguments) each."""
    inner = [{"layer": kind, "arguments": arguments} for kind, arguments in layers]
    architecture = {"layer": "Sequential", "arguments": {"layers": inner}}
    header = {"format_version": 1, "dtype": "float32", "architecture": architecture}
    save_file(tensors, path, {"nbconv": json.dumps(header)})


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("Dense", {"in_features": 10**9, "out_features": 10**9}),
        ("BatchNorm2d", {"num_features": 10**8}),
        ("Standardize", {"shape": [10**4, 10**4, 3]}),
        ("MeanImage", {"shape": 10**8}),
        ("PCA", {"shape": 10**4, "n_components": 10**4}),
        ("ZCA", {"shape": 10**4, "n_components": 1}),
    ],
)
def test_a_small_file_describes_no_large_layer(path, kind, arguments):
    described(path, (kind, arguments), x=np.zeros(30_000, np.float32))
    tracemalloc.start()
    with pytest.raises(
        nb.CheckpointError, match=r"keeps .* numbers, and the file holds|missing: '0\.weight'"
    ):
        nb.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6


def test_layers_share_what_the_file_holds(path):
    """Each alone would have room."""
    described(path, *[("BatchNorm2d", {"num_features": 60})] * 2, x=np.zeros(239, np.float32))
    with pytest.raises(nb.CheckpointError, match="it keeps 60 numbers, and the file holds 59 more"):
        nb.load(path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_features": 3, "eps": 10**400},
        {"num_features": 10**5000 // 10**4990, "eps": []},
        {"num_features": [[[]]]},
        {"num_features": {"dict": {}}},
        {"num_features": {"dict": 3}},
        {"num_features": None},
        {"num_features": 3, "affine": {}},
    ],
)
def test_arguments_that_no_layer_takes(path, arguments):
    described(path, ("BatchNorm2d", arguments), x=np.zeros(30, np.float32))
    with pytest.raises(nb.CheckpointError, match="the architecture cannot be built"):
        nb.load(path)
