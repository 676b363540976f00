"""Small files in the formats of the published data sets, written byte by byte as their descriptions say."""

import gzip
import io
import struct
import tarfile

import numpy as np


def idx(array):
    """An IDX file of bytes."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(struct.pack(">i", size) for size in array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_mnist(folder, train=20, test=10, zipped=True, seed=0):
    """Four files of random images and labels; returns the images and labels, as they are in the files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    parts = []
    for prefix, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.permutation(np.arange(count) % 10).astype(np.uint8)
        for name, array in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))
        parts.append((images, labels))
    return parts


def python2_string(value):
    """A byte string as Python 2's pickle writes it: opcode U or T, the length, the bytes."""
    return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + struct.pack("<i", len(value))) + value


def python2_integer(value):
    return b"K" + bytes([value]) if 0 <= value < 256 else b"J" + struct.pack("<i", value)


def python2_list(items):
    return b"](" + b"".join(items) + b"e"


def python2_array(array):
    """An array of bytes as NumPy under Python 2 pickled it: _reconstruct(ndarray, (0,), "b"), and a state."""
    shape = b"(" + b"".join(python2_integer(size) for size in array.shape) + b"t"
    dtype = b"cnumpy\ndtype\n(" + python2_string(b"u1") + b"K\x00K\x01tR"
    dtype += b"(K\x03" + python2_string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + python2_string(b"b") + b"tR"
    return made + b"(K\x01" + shape + dtype + b"I00\n" + python2_string(array.tobytes()) + b"tb"


def python2_dict(entries):
    """A pickle, protocol 2, of a dictionary whose values are pickled already."""
    body = b"".join(python2_string(key) + value for key, value in entries.items())
    return b"\x80\x02}(" + body + b"u."


def cifar_pickle(data, **labels):
    entries = {b"batch_label": python2_string(b"training batch 1 of 5")}
    entries |= {
        key.encode(): python2_list(python2_integer(int(label)) for label in values)
        for key, values in labels.items()
    }
    entries[b"data"] = python2_array(data)
    entries[b"filenames"] = python2_list(
        python2_string(b"leptodactylus_%d.png" % i) for i in range(len(data))
    )
    return python2_dict(entries)


def cifar_files(classes=10, rows=6, binary=False, seed=0):
    """The files of CIFAR-10 or -100, name -> content, and the batches in them, (data, fine, coarse) each."""
    rng = np.random.default_rng(seed)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"] if classes == 10 else ["train", "test"]
    files, batches = {}, []
    for name in names:
        data = rng.integers(0, 256, (rows, 3072), np.uint8)
        fine = rng.integers(0, classes, rows).astype(np.uint8)
        coarse = fine // 5
        if binary:
            columns = [fine[:, None], data] if classes == 10 else [coarse[:, None], fine[:, None], data]
            files[f"{name}.bin"] = np.concatenate(columns, axis=1).tobytes()
        elif classes == 10:
            files[name] = cifar_pickle(data, labels=fine)
        else:
            files[name] = cifar_pickle(data, coarse_labels=coarse, fine_labels=fine)
        batches.append((data, fine, coarse))
    return files, batches


def cifar_folder(classes, binary):
    if classes == 10:
        return "cifar-10-batches-bin" if binary else "cifar-10-batches-py"
    return "cifar-100-binary" if binary else "cifar-100-python"


def write_cifar(root, classes=10, rows=6, binary=False, packed=True, seed=0):
    """The data set in one of its editions; returns the batches."""
    files, batches = cifar_files(classes, rows, binary, seed)
    folder = cifar_folder(classes, binary)
    root.mkdir(parents=True, exist_ok=True)
    if not packed:
        (root / folder).mkdir()
        for name, content in files.items():
            (root / folder / name).write_bytes(content)
        return batches
    archive = root / f"cifar-{classes}-{'binary' if binary else 'python'}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        directory = tarfile.TarInfo(folder)
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
        for name, content in [("readme.html", b"<html>"), *files.items()]:
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return batches
