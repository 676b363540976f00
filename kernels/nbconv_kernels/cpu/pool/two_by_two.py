"""Maximum pooling by windows of 2 x 2 pixels, and its gradient, spelt out.

For few channels, loops over the pixels of a window cost more than what is in them, and each comparison waits
for the one before it; the largest of the largest of each two is found sooner. Of equal values the first wins,
and of values that are not numbers the last, as in the loops.

Limit: about twenty instructions a vector of outputs, then memory bandwidth.
"""

from __future__ import annotations

from nbconv_kernels.cpu.jit import kernel
from nbconv_kernels.cpu.vector import beats, choose, count, equal, fill, lanes, load, load_places, store


@kernel
def pool_by_two(x, y, indices, places, out, windows):
    """The first windows of a row of the output, and where their largest are.

    ``places`` are the first pixel of the image, the first of the row in it, the stride along the row, and the
    image's width and channels; the results go to element ``out`` and following.
    """
    image, start, stride, w, c = places
    step = lanes(x)
    for _ in range(windows):
        for channel in range(0, c, step):
            rest = c - channel
            at = (image + start) * c + channel
            a, b = load(x, at, rest), load(x, at + c, rest)
            right = beats(b, a)
            upper, upper_at = choose(right, b, a), choose(right, fill(a, start + 1), fill(a, start))
            a, b = load(x, at + w * c, rest), load(x, at + w * c + c, rest)
            right = beats(b, a)
            lower, lower_at = choose(right, b, a), choose(right, fill(a, start + w + 1), fill(a, start + w))
            below = beats(lower, upper)
            store(y, out + channel, choose(below, lower, upper), rest)
            store(indices, out + channel, choose(below, lower_at, upper_at), rest)
        start += stride
        out += c


@kernel
def tile_by_two(dy, indices, dx, places, source, rest):
    """Some channels of a tile's four pixels; returned is in how many of them the index is one of these.

    ``places`` are the first of the elements to write, the number of its pixel, and the image's width and
    channels; ``rest`` channels are there from element ``source`` of dy on.
    """
    at, number, w, c = places
    zero = fill(dy, dy.dtype.type(0))
    place = load_places(indices, source, rest, -1, dy)
    value = load(dy, source, rest)
    here = equal(place, fill(place, number))
    store(dx, at, choose(here, value, zero), rest)
    some = here
    here = equal(place, fill(place, number + 1))
    store(dx, at + c, choose(here, value, zero), rest)
    some = choose(here, here, some)
    here = equal(place, fill(place, number + w))
    store(dx, at + w * c, choose(here, value, zero), rest)
    some = choose(here, here, some)
    here = equal(place, fill(place, number + w + 1))
    store(dx, at + w * c + c, choose(here, value, zero), rest)
    return count(choose(here, here, some))
