"""Single PTX instructions in the emulator, against exact arithmetic in Python and against NumPy."""

import math
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="the CUDA backend needs numba-cuda")
pytest.importorskip("nbconv_kernels.cuda.emulator")
from emulated_ptx import compute, run

from nbconv_kernels.cuda.emulator import PtxError, UnknownInstructionError

INTEGERS = {"s32": np.int32, "u32": np.uint32, "s64": np.int64, "u64": np.uint64}
SPECIAL = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 1.1754944e-38, 3.4e38, 1 / 3]


def integers(dtype, count=2):
    """Every pair (or triple) of special numbers, and random ones."""
    limits = np.iinfo(dtype)
    special = [limits.min, limits.min + 1, 0, 1, 2, 7, limits.max // 2, limits.max - 1, limits.max]
    special += [-1, -7] if limits.min else []
    grids = np.meshgrid(*[np.array(special, dtype)] * count)
    rng = np.random.default_rng(count)
    random = [rng.integers(limits.min, limits.max, 200, dtype, endpoint=True) for _ in range(count)]
    return [np.concatenate([grid.ravel(), more]) for grid, more in zip(grids, random, strict=True)]


def floats(count=2, dtype=np.float32):
    grids = np.meshgrid(*[np.array(SPECIAL, dtype)] * count)
    rng = np.random.default_rng(count)
    random = [
        (rng.standard_normal(400) * 2.0 ** rng.integers(-30, 30, 400)).astype(dtype) for _ in range(count)
    ]
    return [np.concatenate([grid.ravel(), more]) for grid, more in zip(grids, random, strict=True)]


def wrapped(numbers, dtype):
    bits = 8 * np.dtype(dtype).itemsize
    return np.array([int(n) % (1 << bits) for n in numbers], np.uint64).astype(f"u{bits // 8}").view(dtype)


def quotient(a, b):
    return (abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1)


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize(
    ("name", "exact"),
    {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul.lo": lambda a, b: a * b,
        "mul.hi": None,
        "div": quotient,
        "rem": lambda a, b: a - b * quotient(a, b),
        "min": min,
        "max": max,
    }.items(),
)
def test_integer_arithmetic(name, exact, kind):
    dtype = INTEGERS[kind]
    a, b = integers(dtype)
    if name in ("div", "rem"):
        a, b = a[b != 0], b[b != 0]
    if exact is None:
        bits = 8 * np.dtype(dtype).itemsize
        exact = lambda a, b: (a * b) >> bits  # noqa: E731
    expected = wrapped([exact(int(x), int(y)) for x, y in zip(a, b, strict=True)], dtype)
    np.testing.assert_array_equal(compute(f"{name}.{kind} $0, $1, $2;", dtype, a, b), expected)


@pytest.mark.parametrize(
    ("kind", "wide"), [("s32", np.int64), ("u32", np.uint64), ("s16", np.int32), ("u16", np.uint32)]
)
def test_wide_products(kind, wide):
    a, b = integers(np.dtype(INTEGERS.get(kind) or f"{'i' if kind[0] == 's' else 'u'}2"))
    exact = [int(x) * int(y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(compute(f"mul.wide.{kind} $0, $1, $2;", wide, a, b), wrapped(exact, wide))
    c = np.arange(len(a)).astype(wide)
    if kind[1:] == "32":
        expected = wrapped([x + int(y) for x, y in zip(exact, c, strict=True)], wide)
        np.testing.assert_array_equal(compute(f"mad.wide.{kind} $0, $1, $2, $3;", wide, a, b, c), expected)


@pytest.mark.parametrize("kind", ["s32", "u32"])
def test_products_of_24_bits(kind):
    a, b = integers(INTEGERS[kind])

    def low(x):
        x = int(x) % (1 << 24)
        return x - (1 << 24) if kind == "s32" and x >> 23 else x

    products = [low(x) * low(y) for x, y in zip(a, b, strict=True)]
    dtype = INTEGERS[kind]
    np.testing.assert_array_equal(
        compute(f"mul24.lo.{kind} $0, $1, $2;", dtype, a, b), wrapped(products, dtype)
    )
    high = wrapped([p >> 16 for p in products], dtype)
    np.testing.assert_array_equal(compute(f"mul24.hi.{kind} $0, $1, $2;", dtype, a, b), high)


@pytest.mark.parametrize("kind", INTEGERS)
def test_shifts_beyond_the_width_leave_zeros_or_signs(kind):
    dtype = INTEGERS[kind]
    (a,) = integers(dtype, 1)
    for by in (0, 1, 31, 32, 33, 63, 64, 200):
        shift = np.full(len(a), by, np.uint32)
        left = compute(f"shl.b{kind[1:]} $0, $1, $2;", dtype, a, shift)
        np.testing.assert_array_equal(left, wrapped([int(x) << by for x in a], dtype))
        right = compute(f"shr.{kind} $0, $1, $2;", dtype, a, shift)
        np.testing.assert_array_equal(right, wrapped([int(x) >> by for x in a], dtype))


@pytest.mark.parametrize("kind", INTEGERS)
def test_fields_of_bits(kind):
    dtype, bits = INTEGERS[kind], int(kind[1:])
    (a,) = integers(dtype, 1)
    for position, length in ((0, 5), (3, 7), (bits - 4, 8), (5, 0), (0, bits), (bits + 2, 3), (bits - 1, 1)):
        at, size = (np.full(len(a), n, np.uint32) for n in (position, length))

        def field(x, position=position, length=length):
            end = min(position + length, bits)
            if position >= bits or not length:
                return -1 if kind[0] == "s" and x < 0 and length else 0
            value = (x >> position) % (1 << (end - position))
            return (
                value - (1 << (end - position)) if kind[0] == "s" and value >> (end - position - 1) else value
            )

        actual = compute(f"bfe.{kind} $0, $1, $2, $3;", dtype, a, at, size)
        np.testing.assert_array_equal(actual, wrapped([field(int(x)) for x in a], dtype))
        base = a[::-1].copy()
        mask = (((1 << length) - 1) << position) % (1 << bits)
        expected = [(int(y) & ~mask) | ((int(x) << position) & mask) for x, y in zip(a, base, strict=True)]
        actual = compute(f"bfi.b{bits} $0, $1, $2, $3, $4;", dtype, a, base, at, size)
        np.testing.assert_array_equal(actual, wrapped(expected, dtype))


@pytest.mark.parametrize("kind", ["u32", "u64"])
def test_counts_of_bits(kind):
    dtype, bits = INTEGERS[kind], int(kind[1:])
    (a,) = integers(dtype, 1)
    written = [f"{int(x):0{bits}b}" for x in a]
    np.testing.assert_array_equal(
        compute(f"popc.b{bits} $0, $1;", np.uint32, a), [s.count("1") for s in written]
    )
    zeros = [bits if "1" not in s else s.index("1") for s in written]
    np.testing.assert_array_equal(compute(f"clz.b{bits} $0, $1;", np.uint32, a), zeros)
    np.testing.assert_array_equal(
        compute(f"brev.b{bits} $0, $1;", dtype, a), [int(s[::-1], 2) for s in written]
    )
    highest = wrapped([bits - 1 - z for z in zeros], np.uint32)
    np.testing.assert_array_equal(compute(f"bfind.{kind} $0, $1;", np.uint32, a), highest)


def test_bytes_of_two_words_and_logic_of_three():
    a, b = integers(np.uint32)
    for selector in (0x3210, 0x7654, 0x0123, 0xC840, 0x5F1A):
        both = [int(x) | int(y) << 32 for x, y in zip(a, b, strict=True)]

        def byte(value, choice):
            found = value >> 8 * (choice & 7) & 0xFF
            return (0xFF if found >> 7 else 0) if choice & 8 else found

        expected = [sum(byte(v, selector >> 4 * k & 15) << 8 * k for k in range(4)) for v in both]
        np.testing.assert_array_equal(compute(f"prmt.b32 $0, $1, $2, {selector};", np.uint32, a, b), expected)
    c = a[::-1].copy()
    assert (compute("lop3.b32 $0, $1, $2, $3, 0x96;", np.uint32, a, b, c) == a ^ b ^ c).all()
    assert (
        compute("lop3.b32 $0, $1, $2, $3, 0xE8;", np.uint32, a, b, c) == (a & b) | (a & c) | (b & c)
    ).all()
    assert (
        compute("shf.l.wrap.b32 $0, $1, $1, 9;", np.uint32, a) == (a << np.uint32(9) | a >> np.uint32(23))
    ).all()


def rounded(exact, mode="rn"):
    """A fraction as the nearest float32, or the nearest on one side of it."""
    near = np.float32(float(exact))
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    around = [x for x in around if np.isfinite(x)]
    if mode == "rz":
        mode = "rm" if exact > 0 else "rp"
    if mode == "rm":
        return max(x for x in around if Fraction(float(x)) <= exact)
    if mode == "rp":
        return min(x for x in around if Fraction(float(x)) >= exact)
    return min(around, key=lambda x: (abs(Fraction(float(x)) - exact), int(x.view(np.uint32)) & 1))


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("name", ["add", "sub", "mul", "fma"])
def test_float_arithmetic_is_rounded_once(name, mode):
    rng = np.random.default_rng(4)
    a, b, c = (
        (rng.standard_normal(500) * 2.0 ** rng.integers(-12, 12, 500)).astype(np.float32) for _ in range(3)
    )
    # The sum's exact value lies just beside the middle of two float32 numbers, in float64 at the middle.
    a[0], b[0], c[0] = 1 + 2.0**-12, 1 + 2.0**-12, 2.0**-80
    a[1], b[1], c[1] = 1 + 2.0**-12, 1 + 2.0**-12, -(2.0**-80)
    a[2], b[2], c[2] = 3 * 2.0**-75, 5 * 2.0**-75, 2.0**-140  # a subnormal sum
    a[3], b[3], c[3] = 1, 1, 2.0**-80  # just beside a float32 number, to which float64 rounds it
    a[4], b[4], c[4] = 1, 2.0**-80, 0
    a[5], b[5], c[5] = 1, -(2.0**-80), 0
    exact = {
        "add": lambda x, y, z: x + y,
        "sub": lambda x, y, z: x - y,
        "mul": lambda x, y, z: x * y,
        "fma": lambda x, y, z: x * y + z,
    }[name]
    operands = (a, b, c) if name == "fma" else (a, b)
    terms = ", ".join(f"${n + 1}" for n in range(len(operands)))
    actual = compute(f"{name}.{mode}.f32 $0, {terms};", np.float32, *operands)
    fractions = [exact(*map(Fraction, map(float, xyz))) for xyz in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(actual, np.array([rounded(x, mode) for x in fractions]))


def test_fma_where_float64_would_round_twice():
    a, b, c = (np.array([x], np.float32) for x in (1 + 2.0**-12, 1 + 2.0**-12, 2.0**-80))
    assert (a.astype(np.float64) * b + c).astype(np.float32) == np.float32(1 + 2.0**-11)
    assert compute("fma.rn.f32 $0, $1, $2, $3;", np.float32, a, b, c) == np.float32(1 + 2.0**-11 + 2.0**-23)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_arithmetic_of_special_numbers_is_numpys(dtype):
    kind = np.dtype(dtype).name.replace("float", "f")
    a, b = floats(2, dtype)
    with np.errstate(all="ignore"):
        for name, function in (
            ("add", np.add),
            ("sub", np.subtract),
            ("mul", np.multiply),
            ("div.rn", np.divide),
        ):
            actual = compute(f"{name}.{kind} $0, $1, $2;", dtype, a, b)
            np.testing.assert_array_equal(actual, function(a, b))
        np.testing.assert_array_equal(compute(f"sqrt.rn.{kind} $0, $1;", dtype, a), np.sqrt(a))
    np.testing.assert_array_equal(compute(f"neg.{kind} $0, $1;", dtype, a), -a)
    np.testing.assert_array_equal(compute(f"abs.{kind} $0, $1;", dtype, a), np.abs(a))
    np.testing.assert_array_equal(compute(f"copysign.{kind} $0, $1, $2;", dtype, a, b), np.copysign(b, a))


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_minimum_and_maximum_pass_nan_over_and_know_the_sign_of_zero(kind):
    dtype = np.float32 if kind == "f32" else np.float64
    a, b = floats(2, dtype)

    def order(x):  # of numbers, -0 before 0
        return (x, math.copysign(1, x))

    for name, choose in (("min", min), ("max", max)):
        expected = np.array(
            [
                y if math.isnan(x) else x if math.isnan(y) else choose(x, y, key=order)
                for x, y in zip(a, b, strict=True)
            ]
        ).astype(dtype)
        actual = compute(f"{name}.{kind} $0, $1, $2;", dtype, a, b)
        np.testing.assert_array_equal(actual, expected)
        numbers = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(actual)[numbers], np.signbit(expected)[numbers])
        if kind == "f32":
            either = np.isnan(a) | np.isnan(b)
            actual = compute(f"{name}.NaN.f32 $0, $1, $2;", dtype, a, b)
            np.testing.assert_array_equal(actual, np.where(either, np.float32(np.nan), expected))


def test_subnormal_numbers_stay_unless_they_are_to_be_flushed():
    tiny = np.array([1e-40, -1e-40, 1e-38], np.float32)
    half = np.full(3, 0.5, np.float32)
    np.testing.assert_array_equal(compute("mul.f32 $0, $1, $2;", np.float32, tiny, half), tiny * half)
    flushed = compute("mul.ftz.f32 $0, $1, $2;", np.float32, tiny, half)
    np.testing.assert_array_equal(flushed, [0, 0, 0])
    np.testing.assert_array_equal(np.signbit(flushed), [False, True, False])
    np.testing.assert_array_equal(compute("add.ftz.f32 $0, $1, 0f3F800000;", np.float32, tiny), [1, 1, 1])
    clamped = compute(
        "add.sat.f32 $0, $1, $2;",
        np.float32,
        *(np.array(x, np.float32) for x in ([2, -2, np.nan], [1, 1, 1])),
    )
    np.testing.assert_array_equal(clamped, [1, 0, 0])


COMPARISONS = {
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
}
CHOOSE = "{{ .reg .pred q; setp.{} q, {}; selp.u32 $0, 1, 0, q; }}"


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_of_floats_are_false_with_nan_and_unordered_ones_true(name):
    a, b = floats()
    compare = COMPARISONS[name]
    unordered = np.isnan(a) | np.isnan(b)
    plain = [bool(compare(x, y)) for x, y in zip(a, b, strict=True)]
    actual = compute(CHOOSE.format(f"{name}.f32", "$1, $2"), np.uint32, a, b)
    np.testing.assert_array_equal(actual, np.where(unordered, False, plain))
    actual = compute(CHOOSE.format(f"{name}u.f32", "$1, $2"), np.uint32, a, b)
    np.testing.assert_array_equal(actual, np.where(unordered, True, plain))


@pytest.mark.parametrize("kind", INTEGERS)
def test_comparisons_of_integers(kind):
    a, b = integers(INTEGERS[kind])
    for name, compare in COMPARISONS.items():
        actual = compute(CHOOSE.format(f"{name}.{kind}", "$1, $2"), np.uint32, a, b)
        np.testing.assert_array_equal(actual, compare(a, b))


def test_comparisons_combined_with_a_predicate_and_with_two_results():
    a, b = floats()
    unordered = np.isnan(a) | np.isnan(b)
    numbers = compute(CHOOSE.format("num.f32", "$1, $2"), np.uint32, a, b)
    np.testing.assert_array_equal(numbers, ~unordered)
    body = """{ .reg .pred p; .reg .pred q; .reg .pred s; .reg .b32 u; setp.gt.f32 s, $1, 0f00000000;
    setp.lt.and.f32 p|q, $1, $2, !s; selp.u32 $0, 1, 0, p; selp.u32 u, 2, 0, q; or.b32 $0, $0, u; }"""
    less, positive = a < b, a > 0
    expected = np.where(less & ~positive, 1, 0) | np.where(~less & ~positive, 2, 0)
    np.testing.assert_array_equal(compute(body, np.uint32, a, b), expected)


@pytest.mark.parametrize(
    ("mode", "whole"), {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}.items()
)
@pytest.mark.parametrize("kind", INTEGERS)
def test_floats_become_integers_in_four_ways_and_never_overflow(kind, mode, whole):
    (a,) = floats(1)
    a = np.concatenate(
        [a, np.array([0.5, 1.5, 2.5, -0.5, -1.5, 2147483648, 4294967296, 1e19, -3e9], np.float32)]
    )
    limits = np.iinfo(INTEGERS[kind])

    def exact(x):
        if math.isnan(x):
            return 0
        if math.isinf(x):
            return limits.max if x > 0 else limits.min
        return min(max(int(whole(x)), limits.min), limits.max)

    expected = np.array([exact(float(x)) for x in a], INTEGERS[kind])
    np.testing.assert_array_equal(compute(f"cvt.{mode}.{kind}.f32 $0, $1;", INTEGERS[kind], a), expected)


def test_conversions_between_floats():
    (a,) = floats(1, np.float64)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(compute("cvt.rn.f32.f64 $0, $1;", np.float32, a), a.astype(np.float32))
    finite = a[np.isfinite(a) & (np.abs(a) < 1e38)]
    for mode in ("rz", "rm", "rp"):
        expected = np.array([rounded(Fraction(x), mode) for x in finite])
        np.testing.assert_array_equal(compute(f"cvt.{mode}.f32.f64 $0, $1;", np.float32, finite), expected)
    (b,) = floats(1)
    np.testing.assert_array_equal(compute("cvt.f64.f32 $0, $1;", np.float64, b), b.astype(np.float64))
    with np.errstate(all="ignore"):
        half = b.astype(np.float16)
    np.testing.assert_array_equal(compute("cvt.rn.f16.f32 $0, $1;", np.uint16, b).view(np.float16), half)
    np.testing.assert_array_equal(
        compute("cvt.f32.f16 $0, $1;", np.float32, half.view(np.uint16)), half.astype(np.float32)
    )
    np.testing.assert_array_equal(compute("cvt.rmi.f32.f32 $0, $1;", np.float32, b), np.floor(b))
    np.testing.assert_array_equal(
        compute("cvt.sat.f32.f32 $0, $1;", np.float32, b), np.clip(np.nan_to_num(b), 0, 1)
    )


def test_conversions_between_integers():
    a = integers(np.int32, 1)[0]
    for dtype, kind in ((np.int16, "s16"), (np.uint16, "u16"), (np.int64, "s64"), (np.uint64, "u64")):
        np.testing.assert_array_equal(compute(f"cvt.{kind}.s32 $0, $1;", dtype, a), a.astype(dtype))
    bounds = np.iinfo(np.int16)
    np.testing.assert_array_equal(
        compute("cvt.sat.s16.s32 $0, $1;", np.int16, a), np.clip(a, bounds.min, bounds.max)
    )
    np.testing.assert_array_equal(compute("cvt.s32.s8 $0, $1;", np.int32, a), a.astype(np.int8))
    np.testing.assert_array_equal(compute("cvt.u32.u8 $0, $1;", np.uint32, a), a.astype(np.uint8))
    np.testing.assert_array_equal(compute("cvt.rn.f32.s32 $0, $1;", np.float32, a), a.astype(np.float32))
    expected = np.array([rounded(Fraction(int(x)), "rz") for x in a])
    np.testing.assert_array_equal(compute("cvt.rz.f32.s32 $0, $1;", np.float32, a), expected)


def test_shorter_floats_for_tensor_cores():
    (a,) = floats(1)
    a = np.concatenate(
        [a, np.array([1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8], np.float32)]
    )
    finite = np.isfinite(a) & (np.abs(a) > 1e-30) & (np.abs(a) < 1e38)

    def nearest(x, digits, away):
        mantissa, exponent = np.frexp(x.astype(np.float64))
        scaled = np.abs(mantissa) * 2.0**digits
        whole = np.floor(scaled + 0.5) if away else np.rint(scaled)
        return np.ldexp(np.copysign(whole, mantissa), exponent - digits)

    tf32 = compute("cvt.rna.tf32.f32 $0, $1;", np.uint32, a).view(np.float32)
    np.testing.assert_array_equal(tf32[finite], nearest(a[finite], 11, away=True))
    bf16 = compute("cvt.rn.bf16x2.f32 $0, $1, 0f3F800000;", np.uint32, a)
    assert ((bf16 & 0xFFFF) == 0x3F80).all()
    upper = (bf16 & np.uint32(0xFFFF0000)).view(np.float32)
    np.testing.assert_array_equal(upper[finite], nearest(a[finite], 8, away=False))
    for short in (tf32, upper):
        np.testing.assert_array_equal(np.isnan(short), np.isnan(a))
        np.testing.assert_array_equal(np.isinf(short[np.abs(a) < 1e38]), np.isinf(a[np.abs(a) < 1e38]))


@pytest.mark.parametrize(
    ("name", "function"),
    {
        "ex2": lambda x: 2.0**x,
        "lg2": lambda x: math.log2(abs(x)),
        "sin": math.sin,
        "cos": math.cos,
        "rsqrt": lambda x: 1 / math.sqrt(abs(x)),
        "rcp": lambda x: 1 / x,
        "tanh": math.tanh,
    }.items(),
)
def test_approximate_functions_within_two_units(name, function):
    x = np.linspace(-4, 4, 300, dtype=np.float32)
    x = np.abs(x) if name in ("lg2", "rsqrt") else x
    expected = np.array([function(float(v)) for v in x])
    actual = compute(f"{name}.approx.f32 $0, $1;", np.float32, x)
    np.testing.assert_array_less(
        np.abs(actual - expected), 2 * np.spacing(np.abs(expected).astype(np.float32)) + 1e-30
    )


def test_approximate_functions_at_their_ends():
    x = np.array([0, np.inf, -np.inf, np.nan, -1, 200], np.float32)
    nan, inf = np.nan, np.inf
    np.testing.assert_array_equal(
        compute("lg2.approx.f32 $0, $1;", np.float32, x)[:5], [-inf, inf, nan, nan, nan]
    )
    np.testing.assert_array_equal(
        compute("ex2.approx.f32 $0, $1;", np.float32, x), [1, inf, 0, nan, 0.5, inf]
    )
    np.testing.assert_array_equal(
        compute("rsqrt.approx.f32 $0, $1;", np.float32, x)[:5], [inf, 0, nan, nan, nan]
    )
    np.testing.assert_array_equal(compute("rcp.approx.f32 $0, $1;", np.float32, x)[:5], [inf, 0, 0, nan, -1])


def test_sums_and_products_longer_than_a_register():
    a, b = integers(np.uint64)
    halves = """{ .reg .b32 a0; .reg .b32 a1; .reg .b32 b0; .reg .b32 b1; .reg .b32 c0; .reg .b32 c1;
    mov.b64 {a0, a1}, $1; mov.b64 {b0, b1}, $2; %s mov.b64 $0, {c0, c1}; }"""
    total = compute(halves % "add.cc.u32 c0, a0, b0; addc.u32 c1, a1, b1;", np.uint64, a, b)
    np.testing.assert_array_equal(total, a + b)
    difference = compute(halves % "sub.cc.u32 c0, a0, b0; subc.u32 c1, a1, b1;", np.uint64, a, b)
    np.testing.assert_array_equal(difference, a - b)
    body = "mul.lo.u32 c0, a0, a0; mul.hi.u32 c1, a0, a0; "
    body += "mad.lo.cc.u32 c0, a1, b1, c0; madc.hi.u32 c1, a1, b1, c1;"
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    expected = (a & low) * (a & low) + (a >> high) * (b >> high)
    np.testing.assert_array_equal(compute(halves % body, np.uint64, a, b), expected)


def test_words_taken_apart_and_put_together():
    a = integers(np.uint64, 1)[0]
    swapped = compute("{ .reg .b32 l; .reg .b32 h; mov.b64 {l, h}, $1; mov.b64 $0, {h, l}; }", np.uint64, a)
    np.testing.assert_array_equal(swapped, a << np.uint64(32) | a >> np.uint64(32))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("frobnicate.b32 %r1, %r2;", "frobnicate"),
        ("add.sideways.u32 %r1, %r2, %r3;", "sideways"),
        ("{ .param .b64 given; st.param.u32 [given+0], %r1; }", "calls are"),
        ("call.uni function, (%r1);", "calls are"),
        ("mul.rz.f64 %g1, %g2, %g3;", "rz"),
        ("ld.global.b32.unheard %r1, [%d0];", "unheard"),
        ("wgmma.fence.sync.aligned;", "wgmma"),
        ("bar.sync 1;", "numbered barrier"),
        ("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r1}, {%r2}, {%r3}, {%r4};", "mma"),
    ],
)
def test_what_is_not_modelled_is_named(body, named):
    with pytest.raises(UnknownInstructionError, match=named):
        run(body, np.zeros(4, np.float32))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("bra nowhere;", "label"),
        ("add.u32 %r1, %r2;", "operands"),
        ("add.f32 %r1, %f1, %g1;", "f64"),
        ("mov.u32 %r1, %clusterid.x;", "clusterid"),
    ],
)
def test_text_that_is_wrong_is_refused(body, message):
    with pytest.raises(PtxError, match=message):
        run(body, np.zeros(4, np.float32))
