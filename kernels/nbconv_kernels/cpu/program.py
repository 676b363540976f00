"""Convolutions one after another in one compiled call.

A convolution called from Python costs about 15 microseconds apart from arithmetic: arguments are checked, an
algorithm chosen, arrays made and handed over. A network has dozens of them, and their answers are the same
each time. Here they are numbers in the rows of a table, one row a convolution (or a group of it), and one
kernel goes down the table. It runs the tasks of ``implicit_gemm``, ``depthwise_tile`` and ``winograd``, which
also run for a convolution by itself, so the bits are the same.

Arrays are given by number and by the element where they begin, so that a table serves each call; the weights
by address.

Limit: that of each convolution, and opening a parallel region for each, about 2 microseconds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nbconv_kernels.cpu.addresses import array_at
from nbconv_kernels.cpu.conv import (
    depthwise,
    depthwise_pair,
    depthwise_tile,
    direct,
    image_bands,
    implicit_gemm,
    winograd,
)
from nbconv_kernels.cpu.conv.choice import algorithm
from nbconv_kernels.cpu.conv.packing import panel_width
from nbconv_kernels.cpu.conv.target import Kept
from nbconv_kernels.cpu.epilogue import finish_of
from nbconv_kernels.cpu.jit import get_num_threads, kernel, parallel_for
from nbconv_kernels.cpu.memory import Array, empty, nhwc, scratch
from nbconv_kernels.geometry import Conv2dGeometry
from nbconv_kernels.precision import get_precision

_PRODUCT, _DEPTHWISE, _WINOGRAD, _PAIR, _IMAGE, _NOTHING = 0, 1, 2, 3, 4, 5
_COLUMNS = 48  # of the table
_SMALL = 1 << 15  # multiply-adds below which a parallel region costs more than it saves
_OWN = 13  # the first column whose meaning depends on the algorithm


class Place(NamedTuple):
    """Where an array is: the number of a 1-D array that ``Program.run`` is given, and its first element."""

    array: int
    start: int


class Layer(NamedTuple):
    """A convolution and its activation."""

    weight: Array  # (K, C / groups, R, S)
    bias: Array | None  # (K,)
    geometry: Conv2dGeometry
    activation: str | None  # "relu" or "relu6"
    kept: Kept  # see ``conv2d``


@kernel
def _steps(table, bounds, taps, bases, zero_bias, memory):
    like = zero_bias[0]
    width = zero_bias.size
    zero = np.int64(0)
    for i in range(table.shape[0]):
        row = table[i]
        x = array_at(bases[row[1]], row[2], row[11], like)
        y = array_at(bases[row[3]], row[4], row[12], like)
        finish = (row[5], bounds[i, 0], bounds[i, 1])
        weight, bias = array_at(row[6], zero, row[7], like), array_at(row[8], zero, row[9], like)
        n_threads = row[10]
        own = row[_OWN:]
        if row[0] == _PRODUCT:
            product = (
                *(own[0], own[1], own[2], own[3], own[4], own[5], own[6], own[7], own[8], own[9], own[10]),
                *(own[11], own[12], own[13], own[14], own[15], own[16], own[17], own[18]),
            )
            covers, splits = (own[19], own[20]), (own[21], own[22])
            used = taps[own[23] : own[23] + own[24]]
            parallel_for(
                implicit_gemm.product_task,
                splits[0] * splits[1],
                n_threads,
                (product, covers, used, x, weight, zero, own[24], bias, y, width, finish, splits),
            )
        elif row[0] == _DEPTHWISE:
            source = (own[0], own[1], own[2], own[3], own[4], own[5])
            grid = (own[6], own[7], own[8], own[9], own[10])
            parallel_for(
                depthwise_tile.forward_task,
                n_threads,
                n_threads,
                (n_threads, x, weight, bias, source, grid, y, finish, own[11]),
            )
        elif row[0] == _PAIR:
            parallel_for(
                depthwise_pair.pair_task,
                n_threads,
                n_threads,
                (
                    *(n_threads, x, weight, bias, (own[0], own[1], own[2], own[3], own[4], own[5])),
                    (own[17], bounds[i + 1, 0], bounds[i + 1, 1]),
                    array_at(own[13], zero, own[14], like),
                    array_at(own[15], zero, own[16], like),
                    (own[6], own[7], own[8], own[9], own[10], own[11], own[12]),
                    *(taps[:1], y, finish),
                ),
            )
        elif row[0] == _IMAGE:
            parallel_for(
                image_bands.band_task,
                n_threads,
                n_threads,
                (
                    *(n_threads, x, weight, bias, (own[0], own[1], own[2], own[3])),
                    (own[4], own[5], own[6], own[7], own[8], own[9], own[10]),
                    (own[11], own[12], own[13], own[14], own[15], own[16], own[17], own[18]),
                    *(taps[own[19] : own[19] + own[4]], y, finish),
                ),
            )
        elif row[0] == _WINOGRAD:
            image = x.reshape(own[0], own[1], own[2], own[3])
            out = y.reshape(own[4], own[5], own[6], own[7])
            pads = (own[8], own[9])
            winograd.convolve(
                *(image, weight, zero_bias, bias, pads, out, own[10], finish, width, own[11], memory),
                *((own[12], own[13]), array_at(own[14], zero, own[15], like)),
                *((own[16], own[17], own[18], own[19]), n_threads),
            )


def state() -> tuple[int, str]:
    """What else decides how a convolution is computed: a program is good as long as this is the same."""
    return get_num_threads(), get_precision()


class Program:
    """Convolutions in the order they are added.

    Args:
        dtype: float32 or float64.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = np.dtype(dtype)
        self._zero_bias = np.zeros(panel_width(self._dtype.itemsize), self._dtype)
        self._rows: list[list[int]] = []
        self._bounds: list[tuple[float, float]] = []
        self._taps: list[Array] = [np.zeros((1, 2), np.int64)]  # one of a 1 x 1 convolution
        self._alive: list[Array] = []  # those behind the addresses
        self._planes: set[int] = set()  # numbers of arrays that lie as planes
        self._memory = 0
        self._ready: tuple[Array, ...] = ()

    def convolution(
        self,
        x: Place,
        y: Place,
        layer: Layer,
        beside: tuple[int, int],
        add: bool,
        in_planes: bool = False,
    ) -> None:
        """Add a convolution that :func:`takes` allows.

        Args:
            x: the pixels, (N, H, W, C).
            y: receives the result, (N, P, Q, channels).
            layer: the convolution.
            beside: the first channel of ``y`` to write, and how many channels it has.
            add: whether to add to what is there.
            in_planes: whether the pixels lie as (N, C, H, W) instead, which :func:`takes_planes` must allow.
        """
        weight, bias, g, activation, kept = layer
        chosen = algorithm(g, self._dtype.itemsize, kept=True)
        channel, channels = beside
        kind, *bounds = finish_of("program", activation, add)
        sizes = g.n * g.h * g.w * g.c, g.n * g.p * g.q * channels
        finish = int(kind), (float(bounds[0]), float(bounds[1]))
        if chosen is winograd:
            points, start = winograd.prepared(weight, bias, g, kept)
            tile_count = g.n * -(-g.p // 4) * -(-g.q // 4)
            splits, block, size = winograd.division(
                tile_count, g.c, g.k // len(self._zero_bias), get_num_threads()
            )
            self._memory = max(self._memory, size)
            shapes = (g.n, g.h, g.w, g.c, g.n, g.p, g.q, channels)
            flat = np.ascontiguousarray(weight).reshape(-1)
            self._alive.append(flat)
            own = (*shapes, g.pad_top, g.pad_left, channel, block, *splits, _address(flat), flat.size)
            own += winograd.layout_of(g)
            self._add(_WINOGRAD, x, y, points, start, sizes, get_num_threads(), finish, own)
        elif chosen is depthwise:
            taps, start = depthwise.prepared(weight, bias, g, kept)
            parts, threads = depthwise_tile.division(g.n, g.p, g.q, g.c, g.stride_h, self._dtype.itemsize)
            own = (g.h, g.w, g.c, g.stride_h, g.pad_top, g.pad_left, g.n, g.p, g.q, channels, channel, parts)
            self._add(_DEPTHWISE, x, y, taps, start, sizes, threads, finish, own)
        elif image_bands.suits(g):
            ((panels, start),) = direct.prepared(weight, bias, g, kept)
            taps = np.array([(r * g.dilation_h, 0) for r in range(g.r)], np.int64)
            own = (
                *(g.h, g.w, g.c, int(in_planes)),
                *(g.r, g.s, g.stride_h, g.stride_w, g.dilation_h, g.pad_top, g.pad_left),
                *(g.n, g.p, g.q, channels, channel, g.k, len(self._zero_bias)),
                *(image_bands.rows_of_band(g, get_num_threads()), sum(map(len, self._taps))),
            )
            threads = get_num_threads() if g.macs > _SMALL else 1
            self._add(_IMAGE, x, y, panels, start, sizes, threads, finish, own)
            self._taps.append(taps)
            self._planes |= {x.array} if in_planes else set()
        else:
            taps = direct.taps(g, 1)
            for group, (panels, start) in enumerate(direct.prepared(weight, bias, g, kept)):
                product = direct.product(g, group, 1, g.w, channels, channel)
                covers, splits, threads = implicit_gemm.division(product, len(taps), len(self._zero_bias))
                own = (*product, *covers, *splits, sum(map(len, self._taps)), len(taps))
                self._add(_PRODUCT, x, y, panels, start, sizes, threads, finish, own)
            self._taps.append(taps)

    def pair(
        self,
        x: Place,
        y: Place,
        first: Layer,
        second: Layer,
        beside: tuple[int, int],
        add: bool,
    ) -> None:
        """Add two convolutions that :func:`pairs` allows, of which only the second's output is written."""
        g, last = first.geometry, second.geometry
        channel, channels = beside
        taps, start = depthwise.prepared(first.weight, first.bias, g, first.kept)
        ((panels, last_start),) = direct.prepared(second.weight, second.bias, last, second.kept)
        kind, *bounds = finish_of("program", second.activation, add)
        first_kind, *first_bounds = finish_of("program", first.activation)
        self._alive += [panels, last_start]
        sizes = g.n * g.h * g.w * g.c, g.n * g.p * g.q * channels
        own = (
            *(g.h, g.w, g.c, g.stride_h, g.pad_top, g.pad_left),
            *(g.n, g.p, g.q, channels, channel, last.k, len(self._zero_bias)),
            *(_address(panels), panels.size, _address(last_start), last_start.size, int(first_kind)),
        )
        finish = int(kind), (float(bounds[0]), float(bounds[1]))
        self._add(_PAIR, x, y, taps, start, sizes, get_num_threads(), finish, own)
        # The bounds of the first stand in a row that computes nothing.
        self._rows.append([_NOTHING] + [0] * (_COLUMNS - 1))
        self._bounds.append((float(first_bounds[0]), float(first_bounds[1])))

    def run(self, arrays: list[Array], size: int) -> list[Array]:
        """Compute.

        Args:
            arrays: (N, C, H, W), those numbered from 1 on; written to in place where their memory is
                channels-last.
            size: elements of the workspace, which is number 0.

        Returns:
            The arrays by number, as they are afterwards.
        """
        if not self._ready:
            table = np.array(self._rows, np.int64).reshape(-1, _COLUMNS)
            self._ready = table, np.array(self._bounds).reshape(-1, 2), np.concatenate(self._taps)
        pixels = [empty((size,), self._dtype)]
        for number, array in enumerate(arrays, 1):
            pixels.append(np.ascontiguousarray(array) if number in self._planes else nhwc(array))
        bases = np.array([_address(array) for array in pixels], np.int64)
        memory = scratch("winograd block", self._memory, self._dtype)
        _steps(*self._ready, bases, self._zero_bias, memory)
        return [
            array if number in self._planes or number == 0 else array.transpose(0, 3, 1, 2)
            for number, array in enumerate(pixels)
        ]

    def _add(
        self,
        kind: int,
        x: Place,
        y: Place,
        weight: Array,
        bias: Array,
        sizes: tuple[int, int],
        threads: int,
        finish: tuple[int, tuple[float, float]],
        own: tuple[int, ...],
    ) -> None:
        constants = (_address(weight), weight.size, _address(bias), bias.size)
        row = [kind, *x, *y, finish[0], *constants, threads, *sizes, *own]
        self._rows.append(row + [0] * (_COLUMNS - len(row)))
        self._bounds.append(finish[1])
        self._alive += [weight, bias]


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def pairs(first: Conv2dGeometry, second: Conv2dGeometry, dtype: np.dtype[Any]) -> bool:
    """Whether a program may hold these two, one after the other, as one."""
    return depthwise_pair.suits(first, second, get_num_threads())


def takes_planes(g: Conv2dGeometry, dtype: np.dtype[Any]) -> bool:
    """Whether a program may hold this convolution of pixels that lie as planes, and is none the slower."""
    return algorithm(g, np.dtype(dtype).itemsize, kept=True) is direct and image_bands.suits(g)


def takes(g: Conv2dGeometry, dtype: np.dtype[Any]) -> bool:
    """Whether a program may hold this convolution."""
    chosen = algorithm(g, np.dtype(dtype).itemsize, kept=True)
    if chosen is direct:
        return image_bands.suits(g) or not direct.merges_columns(g)
    return chosen is winograd or (chosen is depthwise and depthwise_tile.suits(g))
