import gc
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import nbconv as nb
from nbconv.augment import batch_seed
from nbconv.data import DataLoader, Subset
from nbconv.errors import DataError

X = np.arange(23 * 2 * 3 * 4, dtype=np.float32).reshape(23, 2, 3, 4)
Y = np.arange(23)


def noisy(x, y, seed):
    """An augmentation that takes longer for some batches than for others."""
    rng = np.random.default_rng(seed)
    time.sleep(rng.uniform(0, 0.01))
    return x + rng.normal(size=x.shape).astype(np.float32), y


def loader_threads():
    gc.collect()
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("nbconv-data")]


def same(first, second):
    assert len(first) == len(second)
    for (x, y), (other_x, other_y) in zip(first, second, strict=True):
        np.testing.assert_array_equal(x, other_x, strict=True)
        np.testing.assert_array_equal(y, other_y, strict=True)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [5, 5, 5, 5, 3]), (True, [5, 5, 5, 5])])
def test_batches_are_the_examples_in_the_order_of_the_epoch(workers, drop_last, sizes):
    loader = DataLoader((X, Y), 5, shuffle=True, seed=7, num_workers=workers, drop_last=drop_last)
    assert (len(loader), loader.examples) == (len(sizes), sum(sizes))
    for epoch in (0, 3):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert [len(y) for _, y in batches] == sizes
        labels = np.concatenate([y for _, y in batches])
        expected = np.random.default_rng([7, epoch]).permutation(23)[: sum(sizes)]
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_array_equal(np.concatenate([x for x, _ in batches]), X[labels])


def test_without_shuffling_the_order_stays():
    loader = DataLoader((X, Y), 8)
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([y for _, y in loader]), Y)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(workers):
    make = lambda n: DataLoader((X, Y), 4, True, seed=3, transform=noisy, num_workers=n)  # noqa: E731
    alone, together = make(0), make(workers)
    for _ in range(2):
        same(list(alone), list(together))


def test_each_batch_gets_its_own_seed_from_the_run_the_epoch_and_its_number():
    seeds = []
    loader = DataLoader(
        (X, Y), 8, seed=11, transform=lambda x, y, seed: seeds.append(seed) or (x, y), num_workers=0
    )
    loader.set_epoch(2)
    list(loader)
    assert seeds == [batch_seed(11, 2, number) for number in range(3)]


def test_each_pass_is_the_next_epoch_unless_it_is_cut_off():
    loader = DataLoader((X, Y), 5, True, num_workers=2)
    first, second = list(loader), list(loader)
    assert loader.epoch == 2
    assert (first[0][1] != second[0][1]).any()
    next(iter(loader))
    assert loader.epoch == 2
    loader.set_epoch(0)
    same(list(loader), first)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pass_goes_on_where_it_was_cut_off(workers):
    loader = DataLoader((X, Y), 5, True, seed=1, transform=noisy, num_workers=workers)
    loader.set_epoch(4)
    whole = list(loader)
    for batch in range(6):
        loader.set_epoch(4)
        same(list(loader.iterate_from(batch)), whole[batch:])


def test_batches_are_made_ahead_but_not_without_end():
    made = []
    loader = DataLoader(
        (X, Y), 1, transform=lambda x, y, seed: made.append(1) or (x, y), num_workers=2, prefetch_factor=3
    )
    batches = iter(loader)
    next(batches)
    deadline = time.monotonic() + 10
    while len(made) < 7 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert len(made) == 7  # the one taken, and 2 threads x 3
    assert len(list(batches)) == 22


def test_threads_end_with_the_pass():
    loader = DataLoader((X, Y), 5, num_workers=3)
    list(loader)
    assert not loader_threads()
    for _ in loader:
        assert loader_threads()
        break
    assert not loader_threads()
    with pytest.raises(RuntimeError, match="mine"):
        consume(loader)
    assert not loader_threads()


def consume(loader):
    for _ in loader:
        raise RuntimeError("mine")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_thread_is_raised_in_the_consumer(workers):
    def broken(x, y, seed):
        if 12 in y:
            raise KeyError("cannot augment")
        return x, y

    loader = DataLoader((X, Y), 5, transform=broken, num_workers=workers)
    taken = []
    with pytest.raises(KeyError, match="cannot augment") as caught:
        taken.extend(y[0] for _, y in loader)
    assert taken == [0, 5]
    assert caught.value.__notes__ == ["(in batch 2 of epoch 0)"]
    assert "broken" in [entry.name for entry in caught.traceback]
    del caught
    assert not loader_threads()


def test_two_passes_at_once_do_not_disturb_each_other():
    loader = DataLoader((X, Y), 4, True, transform=noisy, num_workers=2)
    pairs = list(zip(loader, loader, strict=True))
    same([a for a, _ in pairs], [b for _, b in pairs])


def test_batches_can_be_kept():
    loader = DataLoader((X, Y), 5)
    batches = list(loader)
    batches[0][0][:] = -1
    assert (X >= 0).all()
    np.testing.assert_array_equal(batches[1][0], X[5:10])


@pytest.mark.parametrize("layout", ["channels first", "channels last", "reversed"])
def test_images_come_channels_last_in_memory(layout):
    x = X
    if layout == "channels last":
        x = np.ascontiguousarray(X.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    elif layout == "reversed":
        x = X[::-1]
    batch, y = next(iter(DataLoader((x, Y), 5)))
    np.testing.assert_array_equal(batch, x[y])
    assert batch.transpose(0, 2, 3, 1).flags.c_contiguous
    assert batch.flags.writeable


def test_bytes_become_shares_of_one():
    x = np.arange(256, dtype=np.uint8).reshape(64, 1, 2, 2)
    ((batch, _),) = DataLoader((x, np.zeros(64)), 64)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, x.astype(np.float32) / np.float32(255))


def test_other_data_keep_their_types():
    x, y = X.reshape(23, -1).astype(np.float64), Y.astype(np.float32)[:, None]
    batch, targets = next(iter(DataLoader([x, y], 4)))
    assert (batch.dtype, targets.dtype) == (np.float64, np.float32)
    assert (batch.shape, targets.shape) == ((4, 24), (4, 1))


def test_data_may_lie_on_disk(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    loader, expected = DataLoader((mapped, Y), 5, True), DataLoader((X, Y), 5, True)
    same(list(loader), list(expected))
    assert type(next(iter(loader))[0]) is np.ndarray


class Squares:
    """A data set of one's own."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        if not 0 <= index < 7:
            raise IndexError(index)
        return np.full((3, 2, 2), index * index, np.float32), index


def test_a_data_set_of_ones_own():
    batches = list(DataLoader(Squares(), 4, num_workers=2))
    assert [x.shape for x, _ in batches] == [(4, 3, 2, 2), (3, 3, 2, 2)]
    assert batches[1][1].tolist() == [4, 5, 6]
    assert batches[1][0][:, 0, 0, 0].tolist() == [16, 25, 36]
    assert batches[0][0].transpose(0, 2, 3, 1).flags.c_contiguous


def test_a_subset_of_a_data_set():
    subset = Subset(Squares(), [5, 1])
    assert len(subset) == 2
    ((x, y),) = DataLoader(subset, 4)
    assert y.tolist() == [5, 1]
    assert x[:, 0, 0, 0].tolist() == [25, 1]
    for wrong in ([7], [-1], [[1]]):
        with pytest.raises(DataError, match="Subset"):
            Subset(Squares(), wrong)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X, Y[:5]), "23 inputs but 5 targets"),
        ((X[:0], Y[:0]), "the data set is empty"),
        ((X, Y, Y), "a tuple of 3"),
        ((np.zeros(4), np.zeros(4)), r"expected inputs of shape"),
        (3, "got int"),
        (X, "got ndarray"),
        ({0: (X[0], 1)}, "got dict"),
        (Subset(Squares(), []), "empty"),
    ],
)
def test_data_that_are_none(data, message):
    with pytest.raises(DataError, match=message):
        DataLoader(data)


@pytest.mark.parametrize(
    "arguments",
    [{"batch_size": 0}, {"num_workers": -1}, {"prefetch_factor": 0}, {"seed": -1}],
)
def test_impossible_arguments(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} of at least"):
        DataLoader((X, Y), **arguments)


@pytest.mark.parametrize(
    "arguments", [{"batch_size": 2.5}, {"num_workers": 1.5}, {"seed": 0.5}, {"prefetch_factor": "2"}]
)
def test_numbers_that_are_not_whole(arguments):
    with pytest.raises(TypeError, match="integer"):
        DataLoader((X, Y), **arguments)


def test_other_impossible_wishes():
    with pytest.raises(DataError, match="do not fill a batch of 32"):
        DataLoader((X, Y), 32, drop_last=True)
    loader = DataLoader((X, Y), 5)
    with pytest.raises(ValueError, match="batch of 0 to 5, got 6"):
        loader.iterate_from(6)
    with pytest.raises(ValueError, match="epoch of at least 0"):
        loader.set_epoch(-1)
    with pytest.raises(DataError, match=r"must return \(x, y\), got ndarray"):
        list(DataLoader((X, Y), 5, transform=lambda x, y, seed: x))


def test_without_a_seed_each_loader_has_its_own_order():
    first, second = (DataLoader((X, Y), 23, True, seed=None) for _ in range(2))
    assert first.seed != second.seed
    assert (next(iter(first))[1] != next(iter(second))[1]).any()


def test_compiled_kernels_may_run_in_the_threads():
    """What augmentation does: kernels on all threads, beside those of the trainer."""
    x = np.random.default_rng(0).normal(size=(64, 3, 32, 32)).astype(np.float32)
    pool = nb.MaxPool2d(2)
    loader = DataLoader((x, np.arange(64)), 8, transform=lambda x, y, seed: (pool(x), y), num_workers=2)
    for _ in range(3):
        for batch, y in loader:
            np.testing.assert_array_equal(batch, pool(x[y]))


def test_a_pass_left_open_does_not_keep_the_process():
    code = (
        "import numpy as np, nbconv as nb\n"
        "batches = iter(nb.data.DataLoader((np.zeros((99, 2)), np.zeros(99)), 1, num_workers=2))\n"
        "next(batches)\n"
        "print('end')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
