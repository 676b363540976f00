"""Files of the published data sets: IDX, pickles and binary batches of CIFAR, gzip and tar around them."""

from __future__ import annotations

import functools
import gzip
import io
import pickle
import pickletools
import tarfile
import zlib

import numpy as np
from data_files import cifar_files, idx

from .damage import ANY, EXTREMES, Mutation, Random, one_of

BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
FOLDER = "cifar-10-batches-py"


@functools.cache
def idx_files() -> list[bytes]:
    """Images and labels, as MNIST has them, and arrays of other types and ranks."""
    rng = np.random.default_rng(0)
    images = idx(rng.integers(0, 256, (4, 28, 28), np.uint8))
    floats = bytes([0, 0, 0x0D, 2, 0, 0, 0, 2, 0, 0, 0, 3]) + np.arange(6, dtype=">f4").tobytes()
    found = [images, idx(np.arange(4)), idx(np.zeros((2, 0, 3))), floats]
    return found + [gzip.compress(data, mtime=0) for data in found[:2]]


def idx_header(data: bytes, rng: Random) -> bytes:
    """The type, the rank, or a size."""
    place = int(one_of(rng, 2, 3, 4, 8, 12))
    if place < 4:
        return data[:place] + bytes([int(rng.integers(256))]) + data[place + 1 :]
    return data[:place] + (one_of(rng, *EXTREMES) % (1 << 32)).to_bytes(4, "big") + data[place + 4 :]


def inside_gzip(data: bytes, rng: Random) -> bytes:
    """Damage under compression that is whole; a bomb at times."""
    try:
        content = gzip.decompress(data[:1_000_000])
    except (OSError, EOFError, zlib.error):
        content = data
    if rng.random() < 0.1:
        return gzip.compress(content, 1, mtime=0) + _zeros() * int(one_of(rng, 1, 32))
    content = one_of(rng, *ANY, idx_header)(content, rng)
    return gzip.compress(content, 1, mtime=0)


IDX: tuple[Mutation, ...] = (idx_header, idx_header, inside_gzip)


@functools.cache
def pickles() -> list[bytes]:
    """A batch of CIFAR-10 as Python 2 wrote it, and as Python 3 does."""
    files, batches = cifar_files(10, 3)
    data, fine, _ = batches[0]
    batch = {b"data": data, b"labels": fine.tolist(), b"batch_label": b"x", b"filenames": [b"a.png"] * 3}
    texts = {"data": data, "labels": [int(label) for label in fine]}
    return [
        files["data_batch_1"],
        *(pickle.dumps(batch, protocol) for protocol in (2, 4, 5)),
        pickle.dumps(texts),
    ]


def opcodes(data: bytes, rng: Random) -> bytes:
    """Opcodes left out, twice, elsewhere, or with other arguments."""
    try:
        places = [place for _, _, place in pickletools.genops(data) if place is not None]
    except Exception:  # what a damaged pickle raises is the fuzzer's own business
        return data
    pieces = [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]
    at, other = (int(place) for place in rng.integers(len(pieces), size=2))
    match one_of(rng, "drop", "twice", "swap", "new"):
        case "drop":
            del pieces[at]
        case "twice":
            pieces.insert(at, pieces[other])
        case "swap":
            pieces[at], pieces[other] = pieces[other], pieces[at]
        case "new":
            pieces.insert(at, one_of(rng, *_OPCODES))
    return b"".join(pieces)


_OPCODES = (
    *(
        b".",
        b"0",
        b"2",
        b"(",
        b"}",
        b"]",
        b")",
        b"t",
        b"d",
        b"l",
        b"s",
        b"u",
        b"a",
        b"e",
        b"b",
        b"R",
        b"\x81",
    ),
    *(
        b"N",
        b"K\xff",
        b"J\xff\xff\xff\xff",
        b"\x8a\xff" + b"\xff" * 255,
        b"I99999999999999999999\n",
        b"G" + b"\xff" * 8,
    ),
    *(
        b"r\xff\xff\xff\x7f",
        b"j\xff\xff\xff\x7f",
        b"h\x00",
        b"\x94",
        b"\x8e" + b"\xff" * 8,
        b"B\xff\xff\xff\x7f",
    ),
    *(
        b"X\xff\xff\xff\x7f",
        b"cos\nsystem\n",
        b"cnumpy\nndarray\n",
        b"cnumpy\ndtype\n",
        b"\x85",
        b"\x86",
        b"\x87",
    ),
    *(b"\x85" * 3000, b"]" * 3000, b"(" * 3000, b"]" + b"2e" * 40),
)


def bomb(data: bytes, rng: Random) -> bytes:
    """Lists of lists of the same list, or tuples, without end; or memo places far out."""
    depth = int(one_of(rng, 30, 1000, 50_000))
    doubled = b"(lp0\n" + b"".join(
        b"(lp%d\ng%d\nag%d\na" % (i, i - 1, i - 1) for i in range(1, min(depth, 2000))
    )
    nested = b"]" * depth + b"a" * (depth - 1)
    inside = one_of(rng, doubled, nested, b"N" + b"\x85" * depth, b"r\x00\x00\x00\x10N" * 3, b"K\x01" * depth)
    return b"\x80\x02}U\x04data" + inside + b"s."


PICKLES: tuple[Mutation, ...] = (opcodes, opcodes, opcodes, bomb)


@functools.cache
def archives() -> list[bytes]:
    """CIFAR-10 as it is published."""
    files, _ = cifar_files(10, 2)
    return [gzip.compress(_tar(files), 1, mtime=0)]


def _tar(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


def tar_header(data: bytes, rng: Random) -> bytes:
    """A field of a member's header, whose checksum is then made right."""
    try:
        content = bytearray(gzip.decompress(data[:1_000_000]))
    except (OSError, EOFError, zlib.error):
        return data
    headers = [
        place for place in range(0, len(content), 512) if content[place + 257 : place + 262] == b"ustar"
    ]
    if not headers:
        return data
    start = one_of(rng, *headers)
    field, size = one_of(
        rng, (0, 100), (100, 8), (124, 12), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155)
    )
    value = one_of(
        rng, b"7" * size, b"\xff" * size, b"\x80" + b"\0" * (size - 9) + b"\xff" * 8, b"-1", b"", b"5xgLKSN"
    )
    content[start + field : start + field + size] = value[:size].ljust(size, b"\0")
    content[start + 148 : start + 156] = b" " * 8
    content[start + 148 : start + 156] = b"%06o\0 " % sum(content[start : start + 512])
    return gzip.compress(bytes(content), 1, mtime=0)


def damaged_member(data: bytes, rng: Random) -> bytes:
    files, _ = cifar_files(10, 2)
    name = one_of(rng, *files)
    for _ in range(int(rng.integers(1, 3))):
        files[name] = one_of(rng, *PICKLES, *ANY)(files[name], rng)
    return gzip.compress(_tar(files), 1, mtime=0)


def swollen(data: bytes, rng: Random) -> bytes:
    """A member of zeros, of which compression leaves a thousandth; in gzip files one after the other."""
    files, _ = cifar_files(10, 2)
    name = one_of(rng, *files, "more")
    files.pop(name, None)
    pieces = int(one_of(rng, 1, 16))
    member = tarfile.TarInfo(f"{FOLDER}/{name}")
    member.size = pieces * len(_ZEROS)
    head, rest = member.tobuf(), _tar(files)
    return gzip.compress(head, 1, mtime=0) + _zeros() * pieces + gzip.compress(rest, 1, mtime=0)


_ZEROS = bytes(1 << 24)


@functools.cache
def _zeros() -> bytes:
    return gzip.compress(_ZEROS, 9, mtime=0)


ARCHIVES: tuple[Mutation, ...] = (*[tar_header, inside_gzip, damaged_member] * 8, swollen)


@functools.cache
def binary_batches() -> list[bytes]:
    files, _ = cifar_files(10, 2, binary=True)
    return [files["data_batch_1.bin"]]
