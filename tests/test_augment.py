"""What each transform of ``nb.augment`` does, against formulas, and where its random numbers come from."""

import numpy as np
import pytest
from scipy import stats

import nbconv as nb
from nbconv import augment as aug

SEED = 0xFEDC_BA98_7654_3210


def images(n=64, channels=3, height=12, width=10, dtype=np.float32):
    x = np.random.default_rng(3).uniform(0.05, 0.95, (n, height, width, channels)).astype(dtype)
    return x.transpose(0, 3, 1, 2), np.arange(n) % 5


def ramps(n, height, width):
    """Images (2, H, W) of each pixel's (column, row) from the middle: sampled, they tell where from."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    one = np.stack([columns - (width - 1) / 2, rows - (height - 1) / 2])
    return np.tile(one, (n, 1, 1, 1)), np.zeros(n, int)


def sources(transform, n=200, height=20, width=24, cut=6):
    """Where the pixels of the middle come from, (n, 2, h, w), and where they are, (2, h, w)."""
    x, y = ramps(n, height, width)
    moved, _ = transform(x, y, SEED)
    inner = (..., slice(cut, -cut), slice(cut, -cut))
    return moved[inner], x[0][inner]


ALL = {
    "crop": aug.RandomCrop(9, padding=2),
    "flip": aug.RandomHorizontalFlip(),
    "vertical flip": aug.RandomVerticalFlip(0.3),
    "affine": aug.RandomAffine(20, (0.1, 0.2), (0.8, 1.2), (-5, 5, -10, 10)),
    "rotation": aug.RandomRotation(180, "border"),
    "shift": aug.RandomShift((2.5, 1), "reflection"),
    "rescale": aug.RandomRescale((0.5, 1.5), fill=0.5),
    "noise": aug.GaussianNoise((0.05, 0.2)),
    "colours": aug.ColorJitter(0.4, 0.4, (0.0, 2.0)),
    "cutout": aug.Cutout(5),
    "erasing": aug.RandomErasing(value=0.5),
    "mixup": aug.Mixup(0.4, num_classes=5),
}
ALL["all"] = aug.Compose(list(ALL.values()))
every = pytest.mark.parametrize("name", ALL)


@every
def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads(name):
    x, y = images()
    kept = x.copy(), y.copy()
    first_x, first_y = ALL[name](x, y, SEED)
    threads = nb.get_num_threads()
    try:
        nb.set_num_threads(1)
        again_x, again_y = ALL[name](x, y, SEED)
    finally:
        nb.set_num_threads(threads)
    np.testing.assert_array_equal(first_x, again_x)
    np.testing.assert_array_equal(first_y, again_y)
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(y, kept[1])
    assert (ALL[name](x, y, SEED + 1)[0] != first_x).any()
    assert first_x.dtype == np.float32
    assert first_x.transpose(0, 2, 3, 1).flags.c_contiguous


@every
def test_the_reference_does_the_same(name):
    x, y = images(20, dtype=np.float64)
    changed, targets = ALL[name](x, y, SEED)
    expected, expected_targets = aug.Compose([ALL[name]], backend="reference")(x, y, SEED)
    np.testing.assert_allclose(changed, expected, atol=1e-12)
    np.testing.assert_array_equal(targets, expected_targets)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("mixup", "all")])
def test_each_image_has_its_own_draw_whatever_follows_it(name):
    x, y = images(32)
    same = np.repeat(x[:1], 32, axis=0)
    changed, _ = ALL[name](same, y, SEED)
    assert len(np.unique(changed.reshape(32, -1), axis=0)) >= (2 if "flip" in name else 8)
    fewer, _ = ALL[name](same[:7], y[:7], SEED)
    np.testing.assert_array_equal(fewer, changed[:7])


@every
def test_an_empty_batch_stays_one(name):
    x, y = ALL[name](*(array[:0] for array in images()), SEED)
    assert len(x) == len(y) == 0


@every
def test_other_memory_layouts_give_the_same(name):
    x, y = images(8)
    expected, _ = ALL[name](x, y, SEED)
    for other in (np.ascontiguousarray(x), np.repeat(x, 2, axis=3)[..., ::2]):
        np.testing.assert_array_equal(ALL[name](other, y, SEED)[0], expected)


@pytest.mark.parametrize("name", [name for name in ALL if name != "all"])
def test_what_is_shown_can_be_built(name):
    assert repr(eval(f"aug.{ALL[name]!r}")) == repr(ALL[name])


def test_draws_are_uniform_and_independent():
    u = np.stack([aug.Draws(seed, place, 500).uniform(3) for seed in (0, 1) for place in (0, 1, 2)])
    assert stats.kstest(u.ravel(), "uniform").pvalue > 0.01
    correlations = np.corrcoef(u.reshape(18, 500))[~np.eye(18, dtype=bool)]
    assert abs(correlations).max() < 4.5 / np.sqrt(500)
    beta = aug.Draws(5, 0, 2000).beta(0.3)
    assert stats.kstest(beta, stats.beta(0.3, 0.3).cdf).pvalue > 0.01


def test_flips():
    x, y = images(400, 1)
    for kind, mirrored in (
        (aug.RandomHorizontalFlip, x[..., ::-1]),
        (aug.RandomVerticalFlip, x[..., ::-1, :]),
    ):
        np.testing.assert_array_equal(kind(0.0)(x, y, SEED)[0], x)
        np.testing.assert_array_equal(kind(1.0)(x, y, SEED)[0], mirrored)
        changed, labels = kind(0.3)(x, y, SEED)
        flipped = (changed == mirrored).all(axis=(1, 2, 3))
        assert (flipped | (changed == x).all(axis=(1, 2, 3))).all()
        assert 90 < flipped.sum() < 150
        assert labels is y


@pytest.mark.parametrize(("size", "padding"), [(None, 2), ((7, 4), 0), (9, (0, 1)), (13, 3)])
@pytest.mark.parametrize(
    ("mode", "numpys"), [("zeros", "constant"), ("border", "edge"), ("reflection", "symmetric")]
)
def test_crops_are_windows_of_padded_images(size, padding, mode, numpys):
    x, y = images(300, 2, 12, 8)
    crop = aug.RandomCrop(size, padding, mode, fill=0.5 if mode == "zeros" else 0.0)
    changed, _ = crop(x, y, SEED)
    sides = (padding, padding) if isinstance(padding, int) else padding
    fill = {"constant_values": 0.5} if mode == "zeros" else {}
    padded = np.pad(x, [(0, 0), (0, 0), (sides[0],) * 2, (sides[1],) * 2], mode=numpys, **fill)
    window = changed.shape[2:]
    assert window == {None: (12, 8), (7, 4): (7, 4), 9: (9, 9), 13: (13, 13)}[size]
    windows = np.lib.stride_tricks.sliding_window_view(padded, window, (2, 3))
    matches = (windows == changed[:, :, None, None]).all(axis=(1, 4, 5))
    assert matches.any(axis=(1, 2)).all()
    assert matches.any(axis=0).all(), "a window that is never drawn"


def test_rotations():
    x, y = images(3, 2, 9, 9, np.float64)
    np.testing.assert_allclose(
        aug.RandomRotation((90, 90))(x, y, SEED)[0], np.rot90(x, 1, (2, 3)), atol=1e-12
    )
    np.testing.assert_allclose(aug.RandomAffine((90, 90))(x, y, SEED)[0], np.rot90(x, -1, (2, 3)), atol=1e-12)
    np.testing.assert_allclose(aug.RandomRotation((180, 180))(x, y, SEED)[0], x[:, :, ::-1, ::-1], atol=1e-12)
    # All directions: the angle from which a pixel beside the middle comes is spread over the circle.
    found, places = sources(aug.RandomRotation(180), n=1000, cut=8)
    angles = np.arctan2(*found[:, ::-1, 0, 0].T) - np.arctan2(*places[::-1, 0, 0])
    np.testing.assert_allclose(np.hypot(*found[:, :, 0, 0].T), np.hypot(*places[:, 0, 0]))
    assert stats.kstest(angles % (2 * np.pi), stats.uniform(0, 2 * np.pi).cdf).pvalue > 0.01


def test_shifts_and_scales_stay_in_their_range_and_fill_it():
    found, places = sources(aug.RandomShift((3, 2)))
    shift = found - places
    np.testing.assert_allclose(shift, shift[:, :, :1, :1] + np.zeros_like(shift), atol=1e-12)
    for axis, most in ((0, 2), (1, 3)):
        assert stats.kstest(shift[:, axis, 0, 0], stats.uniform(-most, 2 * most).cdf).pvalue > 0.01
    found, places = sources(aug.RandomRescale((0.8, 1.25)))
    factor = places[0, 0, 0] / found[:, 0, 0, 0]
    np.testing.assert_allclose(found * factor[:, None, None, None], places + np.zeros_like(found), atol=1e-12)
    assert stats.kstest(factor, stats.uniform(0.8, 0.45).cdf).pvalue > 0.01
    found, places = sources(aug.RandomAffine(0, (0.1, 0.25)))
    shift = (places - found)[:, :, 0, 0]
    for axis, most in ((0, 2.4), (1, 5)):
        assert stats.kstest(shift[:, axis], stats.uniform(-most, 2 * most).cdf).pvalue > 0.01


def test_shears_keep_rows_or_columns():
    tangent = np.tan(np.deg2rad(20))
    found, (column, row) = sources(aug.RandomAffine(0, shear=(20, 20)), n=1)
    np.testing.assert_allclose(found[0], [column + tangent * row, row], atol=1e-12)
    found, (column, row) = sources(aug.RandomAffine(0, shear=(0, 0, 20, 20)), n=1)
    np.testing.assert_allclose(found[0], [column, row + tangent * column], atol=1e-12)


def test_an_affine_map_is_shear_rotation_scale_and_shift():
    angle, shear, scale = np.deg2rad(30), np.tan(np.deg2rad(10)), 1.2
    transform = aug.RandomAffine((30, 30), scale=(1.2, 1.2), shear=(10, 10))
    found, places = sources(transform, n=1)
    sheared = np.array([found[0, 0] - shear * found[0, 1], found[0, 1]])
    clockwise = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(scale * np.tensordot(clockwise, sheared, 1), places, atol=1e-12)


class Still(aug.Geometric):
    """Moves pixels by so many to the right: none unless said."""

    def __init__(self, right=0.0):
        self.right = right

    def move(self, draws, size):
        matrices = np.tile(np.eye(2, 3), (draws.images, 1, 1))
        matrices[:, 0, 2] = -self.right
        return matrices, size


class Barrier(aug.Transform):
    """Changes nothing, and moves nothing either."""

    def change(self, ops, x, y, draws):
        return x, y


@pytest.fixture
def samplings(monkeypatch):
    """How often images are sampled."""
    ops = nb.backends.get("cpu")
    calls = []
    sample = ops.affine_sample
    monkeypatch.setattr(ops, "affine_sample", lambda *args: calls.append(args[3:]) or sample(*args))
    return calls


def test_neighbours_that_move_pixels_are_one_sampling(samplings):
    crop, flip = aug.RandomCrop(16, 2), aug.RandomHorizontalFlip()
    affine = aug.RandomAffine(15, (0.1, 0.1), (0.9, 1.1), 5)
    x, y = ramps(100, 20, 24)
    # A transform's draws follow from its place, so both have the same.
    fused, _ = aug.Compose([crop, Still(), flip, Still(), affine])(x, y, SEED)
    assert samplings == [("zeros", 0.0)]
    chain, _ = aug.Compose([crop, Barrier(), flip, Barrier(), affine])(x, y, SEED)
    assert len(samplings) == 4
    assert fused.shape == chain.shape == (100, 2, 16, 16)
    middle = (..., slice(6, -6), slice(6, -6))
    np.testing.assert_allclose(fused[middle], chain[middle], atol=1e-9)


def test_nothing_is_cut_off_between_neighbours():
    x, y = images(2)
    np.testing.assert_array_equal(aug.Compose([Still(5), Still(-5)])(x, y, SEED)[0], x)
    apart, _ = aug.Compose([Still(5), Barrier(), Still(-5)])(x, y, SEED)
    assert not apart[..., -5:].any()
    np.testing.assert_array_equal(apart[..., :-5], x[..., :-5])


def test_neighbours_that_fill_differently_are_sampled_apart(samplings):
    x, y = images(2)
    border, grey = aug.RandomShift(1, "border"), aug.RandomShift(1, fill=0.5)
    aug.Compose([border, aug.RandomVerticalFlip(), border, grey, grey, aug.RandomCrop(4, fill=0.25)])(
        x, y, SEED
    )
    assert samplings == [("border", 0.0), ("zeros", 0.5), ("zeros", 0.25)]


def test_compositions_are_flat():
    parts = [aug.RandomCrop(9, 1), aug.GaussianNoise(), aug.RandomVerticalFlip(), aug.ColorJitter(0.2)]
    nested = aug.Compose([parts[0], aug.Compose([parts[1], aug.Compose(parts[2:])])])
    x, y = images()
    np.testing.assert_array_equal(nested(x, y, 1)[0], aug.Compose(parts)(x, y, 1)[0])
    assert aug.Compose([])(x, y, 1)[0] is x


def test_noise_has_the_spread_that_is_asked_for():
    x, y = images(200, 1, 30, 30)
    noise = aug.GaussianNoise((0.1, 0.5))(x, y, SEED)[0] - x
    spread = noise.std(axis=(1, 2, 3))
    assert stats.kstest(spread, stats.uniform(0.1, 0.4).cdf).pvalue > 0.01
    noise = aug.GaussianNoise(0.2)(x, y, SEED)[0] - x
    assert stats.kstest(noise.ravel() / 0.2, "norm").pvalue > 0.01
    np.testing.assert_array_equal(aug.GaussianNoise(0.0)(x, y, SEED)[0], x)


def test_colours_have_the_factors_that_are_asked_for():
    x, y = images(300, 3, dtype=np.float64)
    grey = np.tensordot([0.299, 0.587, 0.114], x, (0, 1))[:, None]
    factor = (aug.ColorJitter(0.3, bounds=None)(x, y, SEED)[0] / x)[:, 0, 0, 0]
    assert stats.kstest(factor, stats.uniform(0.7, 0.6).cdf).pvalue > 0.01
    mean = grey.mean(axis=(1, 2, 3), keepdims=True)
    for arguments, still in (({"contrast": (0.5, 2.0)}, mean), ({"saturation": (0.5, 2.0)}, grey)):
        changed = aug.ColorJitter(**arguments, bounds=None)(x, y, SEED)[0]
        factors = (changed - still) / (x - still)
        np.testing.assert_allclose(factors, factors[:, :1, :1, :1] + np.zeros_like(x), rtol=1e-6)
        assert stats.kstest(factors[:, 0, 0, 0], stats.uniform(0.5, 1.5).cdf).pvalue > 0.01
    cut = aug.ColorJitter((3, 3), bounds=(0.4, 0.8))(x, y, SEED)[0]
    np.testing.assert_allclose(cut, (3 * x).clip(0.4, 0.8))


def test_cutout_erases_a_square_around_every_pixel():
    x, y = images(3000, 2, 9, 7)
    changed, _ = aug.Cutout(4, value=-1)(x, y, SEED)
    erased = changed == -1
    np.testing.assert_array_equal(changed[~erased], x[~erased])
    expected = set()
    for row in range(9):
        for column in range(7):
            square = np.zeros((9, 7), bool)
            square[max(0, row - 2) : row + 2, max(0, column - 2) : column + 2] = True
            expected.add(square.tobytes())
    assert {one.tobytes() for one in erased[:, 0]} == expected
    np.testing.assert_array_equal(erased[:, 0], erased[:, 1])


def test_erased_rectangles_have_the_area_and_shape_asked_for():
    x, y = images(500, 1, 64, 64)
    changed, _ = aug.RandomErasing(0.4, (0.05, 0.2), (0.5, 2.0), value=7)(x, y, SEED)
    erased = (changed == 7)[:, 0]
    some = erased.any(axis=(1, 2))
    assert 160 < some.sum() < 240
    height, width = (erased[some].any(axis=axis).sum(axis=1) for axis in (2, 1))
    np.testing.assert_array_equal(height * width, erased[some].sum(axis=(1, 2)))
    area, ratio = height * width / 64**2, height / width
    assert 0.04 < area.min() < 0.06
    assert 0.19 < area.max() < 0.22
    assert 0.4 < ratio.min() < 0.6
    assert 1.7 < ratio.max() < 2.3


def test_mixup_mixes_targets_as_it_mixes_images():
    n = 400
    x = np.zeros((n, n, 1, 1), np.float32)  # image i is all in channel i
    x[np.arange(n), np.arange(n)] = 1
    mixed, targets = aug.Mixup(0.4, num_classes=n)(x, np.arange(n), SEED)
    assert targets.dtype == np.float32
    np.testing.assert_allclose(mixed[:, :, 0, 0], targets, atol=1e-7)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
    share = targets[np.arange(n), np.arange(n)]
    own = (targets > 0).sum(axis=1) == 1
    assert own.sum() < 20  # mixed with itself, or with a share below float32
    assert stats.kstest(share[~own], stats.beta(0.4, 0.4).cdf).pvalue > 0.01
    partners = np.where(np.eye(n, dtype=bool), 0, targets).argmax(axis=1)[~own]
    assert stats.kstest(partners / n, "uniform").pvalue > 0.01


def test_mixup_takes_class_probabilities():
    x, y = images(8)
    soft = np.eye(5)[y]
    from_labels = aug.Mixup(1.0, 5)(x, y, SEED)
    from_soft = aug.Mixup(1.0)(x, soft, SEED)
    np.testing.assert_array_equal(from_labels[0], from_soft[0])
    np.testing.assert_allclose(from_labels[1], from_soft[1], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: aug.RandomHorizontalFlip(1.5), "RandomHorizontalFlip: p"),
        (lambda: aug.RandomCrop(0), "RandomCrop: size"),
        (lambda: aug.RandomCrop(4, -1), "RandomCrop: padding"),
        (lambda: aug.RandomCrop((4, 5, 6)), "RandomCrop: size"),
        (lambda: aug.RandomCrop(4, 0, "constant"), "padding_mode"),
        (lambda: aug.RandomAffine(-3), "RandomAffine: degrees"),
        (lambda: aug.RandomAffine((5, 3)), "RandomAffine: degrees"),
        (lambda: aug.RandomAffine(float("nan")), "RandomAffine: degrees"),
        (lambda: aug.RandomAffine(0, (0.1, 1.5)), "translate"),
        (lambda: aug.RandomAffine(0, (0.1,)), "translate"),
        (lambda: aug.RandomAffine(0, scale=(0, 1)), "scale"),
        (lambda: aug.RandomAffine(0, shear=90), "shear"),
        (lambda: aug.RandomRotation("round"), "degrees"),
        (lambda: aug.RandomShift(-1), "distance"),
        (lambda: aug.RandomShift((1, 2, 3)), "distance"),
        (lambda: aug.RandomRescale(1.5), "scale"),
        (lambda: aug.GaussianNoise(-0.1), "sigma"),
        (lambda: aug.ColorJitter((-1, 1)), "brightness"),
        (lambda: aug.ColorJitter(contrast=-1), "contrast"),
        (lambda: aug.ColorJitter(bounds=(1, 0)), "bounds"),
        (lambda: aug.Cutout(0), "size"),
        (lambda: aug.RandomErasing(scale=(0.5, 1.5)), "scale"),
        (lambda: aug.RandomErasing(ratio=(0, 1)), "ratio"),
        (lambda: aug.Mixup(0), "alpha"),
        (lambda: aug.Mixup(1, 0), "num_classes"),
        (lambda: aug.Compose([len]), "expected transforms"),
        (lambda: aug.Compose([], backend="cqu"), "cqu"),
    ],
)
def test_impossible_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_batches_that_do_not_suit():
    x, y = images(4, 2)
    flip = aug.RandomHorizontalFlip()
    for wrong, targets, error, words in (
        (x[0], y, nb.DataError, "shape"),
        (x, y[:3], nb.DataError, "4 images"),
        (x.astype(int), y, nb.DTypeError, "int64"),
        (x[:, :0], y, nb.DataError, "shape"),
    ):
        with pytest.raises(error, match=words):
            flip(wrong, targets, 0)
    for transform, words in (
        (aug.ColorJitter(0.1), "2 channels"),
        (aug.RandomCrop(40, 1), "40 x 40"),
        (aug.Mixup(), "num_classes"),
        (aug.Mixup(1, 3), "label 3 of image 3"),
    ):
        with pytest.raises(nb.DataError, match=words):
            transform(x, y, 0)
    with pytest.raises(ValueError, match="unsigned 64-bit"):
        flip(x, y, -1)


def test_images_that_are_not_finite_stay_in_bounds():
    x, y = images(8)
    x[0, :, 3:6] = np.nan
    x[1, :, 2] = np.inf
    for transform in ALL.values():
        transform(x, y, SEED)
    changed, _ = aug.RandomHorizontalFlip(1.0)(x, y, SEED)
    np.testing.assert_array_equal(changed[2:], x[2:, ..., ::-1])
