"""Reading safetensors files: every dtype, and files that claim what is not there."""

import contextlib
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import nbconv as nb
from nbconv.tensor_file import read, read_metadata


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


def write(path, header, content=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_what_safetensors_writes_is_read(path):
    rng = np.random.default_rng(0)
    kinds = ["f8", "f4", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
    tensors = {kind: (100 * rng.random((3, 5))).astype(kind) for kind in kinds}
    tensors |= {"number": np.array(7.5), "empty": np.zeros((4, 0, 2)), "ü": np.ones(3)}
    save_file(tensors, path, {"a": "text"})
    metadata, found = read(path)
    assert metadata == read_metadata(path) == {"a": "text"}
    wanted = load_file(path)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_bfloat16_becomes_float32_exactly(path):
    """A bfloat16 is the upper half of a float32, so that all there are can be written down."""
    halves = np.arange(1 << 16, dtype=np.uint16)
    write(path, {"all": entry("BF16", (256, 256), (0, 1 << 17))}, halves.astype("<u2").tobytes())
    found = read(path)[1]["all"]
    assert (found.dtype, found.shape) == (np.float32, (256, 256))
    np.testing.assert_array_equal(found.view(np.uint32).ravel() >> 16, halves)
    assert not (found.view(np.uint32) & 0xFFFF).any()


def test_half_precision_is_loaded_into_a_model(path):
    model = nb.Sequential(nb.Dense(2, 1))
    weight = np.array([[1.5, -0.0078125]], np.float32)  # exact in 8 bits
    bf16 = (weight.view(np.uint32) >> 16).astype("<u2").tobytes()
    bias = np.array([3], "<f2").tobytes()
    header = {"0.weight": entry("BF16", (1, 2), (0, 4)), "0.bias": entry("F16", (1,), (4, 6))}
    write(path, header, bf16 + bias)
    model.load_state_dict(read(path)[1])
    np.testing.assert_array_equal(model[0].weight.data, weight, strict=True)
    assert model[0].bias.data.tolist() == [3]


def test_a_type_that_numpy_lacks_is_named(path):
    write(path, {"w": entry("F8_E4M3", (4,))}, bytes(4))
    with pytest.raises(nb.CheckpointError, match="'w' is of type 'F8_E4M3'; nbconv reads F64, F32"):
        read(path)
    assert read_metadata(path) == {}


@pytest.mark.parametrize(
    ("header", "content"),
    [
        ({"a": entry(shape=[1 << 40], offsets=(0, 1 << 42))}, bytes(4)),
        ({"a": entry(shape=[1 << 40])}, bytes(4)),
        ({"a": entry(), "b": entry()}, bytes(4)),  # the same numbers twice
        ({"a": entry(), "b": entry(offsets=(8, 12))}, bytes(12)),  # a gap
        ({"a": entry()}, bytes(5)),
        ({"a": entry(offsets=(4, 0))}, bytes(4)),
        ({"a": entry(offsets=(0, -4))}, bytes(4)),
        ({"a": entry(offsets=(0, 4.0))}, bytes(4)),
        ({"a": entry(offsets=(False, 4))}, bytes(4)),
        ({"a": entry(offsets=(0, 2, 4))}, bytes(4)),
        ({"a": entry(shape=[-1])}, bytes(4)),
        ({"a": entry(shape=["1"])}, bytes(4)),
        ({"a": entry(shape=[1] * 65)}, bytes(4)),
        ({"a": entry(shape=[1 << 62] * 1_000_000)}, bytes(4)),
        ({"a": entry(shape=[0, 1 << 62, 1 << 62], offsets=(0, 0))}, b""),
        ({"a": entry(dtype=7)}, bytes(4)),
        ({"a": entry() | {"more": 1}}, bytes(4)),
        ({"a": [1, 2]}, b""),
        ([], b""),
        ({"__metadata__": {"a": {"b": {}}}}, b""),
        ({"__metadata__": "text"}, b""),
        (b"[" * 100_000, b""),
        (b"{" + b'"a":' * 100_000, b""),
        (b'{"a": ' + b"9" * 10_000 + b"}", b""),
        (b"{}\xff", b""),
        ('{"a": 1}'.encode("utf-16"), b""),
    ],
)
def test_headers_that_make_no_sense(path, header, content):
    write(path, header, content)
    with pytest.raises(nb.CheckpointError, match=r"a\.safetensors"):
        read(path)


@pytest.mark.parametrize("length", [0, 1, 17, 1 << 40, (1 << 64) - 1])
def test_headers_of_a_wrong_length(path, length):
    path.write_bytes(length.to_bytes(8, "little") + b'{"a": "bcdef"}')
    with pytest.raises(nb.CheckpointError, match="is damaged, cut short or no safetensors file"):
        read(path)


def test_damaged_files_are_read_or_errors_of_ours(path):
    model = nb.Sequential(nb.Conv2d(1, 2, 3), nb.BatchNorm2d(2), nb.Flatten(), nb.Dense(8, 3))
    model.save(path, {"classes": ["a", "b", "c"]})
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(500):
        changed = bytearray(whole)
        for place in rng.integers(0, len(changed), rng.integers(1, 4)):
            changed[place] = rng.choice([34, 44, 57, 91, 123, 125, rng.integers(256)])
        path.write_bytes(changed[: None if rng.random() < 0.8 else rng.integers(len(changed))])
        with contextlib.suppress(nb.CheckpointError):
            nb.load(path)
        with contextlib.suppress(nb.CheckpointError):
            nb.serialization.read_extra(path)
