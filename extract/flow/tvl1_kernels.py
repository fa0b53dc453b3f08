"""The Triton kernels of tvl1_triton.py. Importing this module needs the package triton.

Every kernel repeats the steps of tvl1.py in the same order, each rounded by itself, because the
flow of TV-L1 depends on the order of roundings. So divisions and roots are the IEEE ones, and
tvl1_triton.py compiles without fused multiply-adds.

Shapes: n items of h x w pixels, size = h w. All arrays are contiguous.

flow (n, 2, size) float32: x and y component
dual (n, 2, 2, size) float32: x or y of the gradient, flow component
planes (n, 3, size) float32: second picture, its x slope, its y slope
terms (n, 3, size) float32: residual, x slope and y slope of the warped second picture
live (n,) int32: 1 if the item continues, 0 if it has stopped. Nothing of a stopped item changes.
moved (n, blocks) float64: squared update of each block of pixels

The grid is (blocks of BLOCK pixels, n), for `median` (blocks, 2 n).
"""

# Triton compiles these functions, and its rules for types are not those of Python.
# mypy: ignore-errors

import triton
import triton.language as tl

from reelbank.extract.flow.median import window_exchanges
from reelbank.extract.flow.warp import CUBIC, STEPS_PX

# Kernels can read only constants of this type.
_exchanges, _median = window_exchanges()
_EXCHANGES, _EXCHANGE_COUNT = tl.constexpr(_exchanges), tl.constexpr(len(_exchanges))
_MEDIAN = tl.constexpr(_median)
_CUBIC, _STEPS_PX = tl.constexpr(CUBIC), tl.constexpr(STEPS_PX)
# A float32 that is added and subtracted again is rounded to an integer, halves to the even one.
_TO_INTEGER = tl.constexpr(1.5 * 2**23)
_EPS = tl.constexpr(2.0**-23)  # of float32


@triton.jit
def primal(flow, dual, terms, live, moved, w, size, theta, limit, BLOCK: tl.constexpr):
    """Threshold step and projection of the flow, in place (IPOL, eq. 15 and 18), and the squared
    update. limit: lambda theta. 44 bytes per pixel."""
    block, item = tl.program_id(0), tl.program_id(1).to(tl.int64)
    if tl.load(live + item) != 0:
        at = block * BLOCK + tl.arange(0, BLOCK)
        inside = at < size
        has_left, has_above = inside & (at % w != 0), inside & (at >= w)
        x_flow = flow + item * 2 * size + at
        x_old, y_old = tl.load(x_flow, inside, 0.0), tl.load(x_flow + size, inside, 0.0)
        term = terms + item * 3 * size + at
        residual = tl.load(term, inside, 0.0)
        x_slope, y_slope = tl.load(term + size, inside, 0.0), tl.load(term + 2 * size, inside, 0.0)

        squared = x_slope * x_slope + y_slope * y_slope
        squared = tl.where(squared > 0, squared, 1.0)
        t = tl.div_rn(x_slope * x_old + y_slope * y_old + residual, -squared)
        # Where the slope is almost 0, OpenCV moves by the threshold or not at all.
        t = tl.where((squared <= _EPS) & (tl.abs(t) <= limit), 0.0, t)
        t = tl.minimum(tl.maximum(t, -limit), limit)

        update = tl.zeros([BLOCK], tl.float64)
        for component in tl.static_range(2):
            old, slope = (x_old, x_slope) if component == 0 else (y_old, y_slope)
            x_dual = dual + (item * 4 + component) * size + at
            y_dual = x_dual + 2 * size
            x, left = tl.load(x_dual, inside, 0.0), tl.load(x_dual - 1, has_left, 0.0)
            y, above = tl.load(y_dual, inside, 0.0), tl.load(y_dual - w, has_above, 0.0)
            # OpenCV's order of roundings, which is another one in the first column
            divergence = tl.where(has_left, (x - left) + (y - above), (x + y) - above)
            new = divergence * theta + (slope * t + old)
            tl.store(x_flow + component * size, new, inside)
            # Double precision, so that the sum does not depend on the blocks
            update += ((new - old) * (new - old)).to(tl.float64)
        update = tl.where(inside, update, 0.0)
        tl.store(moved + item * tl.num_programs(0) + block, tl.sum(update, 0))


@triton.jit
def dual_step(flow, dual, live, live_after, moved, w, size, ratio, enough, BLOCK: tl.constexpr):
    """p <- (p + ratio grad u) / (1 + ratio |grad u|), in place (IPOL, eq. 17). 40 bytes per pixel.

    The first block of an item also writes to `live_after` whether the item continues: it stops when
    its squared update is at most `enough`. `live` itself does not change, because the other blocks
    may not have read it yet.
    """
    block, item = tl.program_id(0), tl.program_id(1).to(tl.int64)
    is_live = tl.load(live + item)
    if block == 0:
        blocks = tl.num_programs(0)
        total = tl.zeros([BLOCK], tl.float64)
        for start in range(0, blocks, BLOCK):
            some = start + tl.arange(0, BLOCK)
            total += tl.load(moved + item * blocks + some, some < blocks, 0.0)
        tl.store(live_after + item, is_live * (tl.sum(total, 0) > enough).to(tl.int32))
    if is_live != 0:
        at = block * BLOCK + tl.arange(0, BLOCK)
        inside = at < size
        has_right, has_below = inside & (at % w != w - 1), inside & (at + w < size)
        for component in tl.static_range(2):
            u = flow + (item * 2 + component) * size + at
            centre = tl.load(u, inside, 0.0)
            x = tl.where(has_right, tl.load(u + 1, has_right, 0.0) - centre, 0.0)
            y = tl.where(has_below, tl.load(u + w, has_below, 0.0) - centre, 0.0)
            norm = tl.sqrt_rn(x * x + y * y) * ratio + 1.0
            x_dual = dual + (item * 4 + component) * size + at
            y_dual = x_dual + 2 * size
            x_new = tl.div_rn(tl.load(x_dual, inside, 0.0) + x * ratio, norm)
            y_new = tl.div_rn(tl.load(y_dual, inside, 0.0) + y * ratio, norm)
            tl.store(x_dual, x_new, inside)
            tl.store(y_dual, y_new, inside)


@triton.jit
def linearise(flow, first, planes, terms, live, w, h, BLOCK: tl.constexpr):
    """The second picture, warped by the flow, as a linear function of the flow (IPOL, eq. 10).
    Every item becomes live. first (n, size): the first picture."""
    block, item, size = tl.program_id(0), tl.program_id(1).to(tl.int64), w * h
    if block == 0:
        tl.store(live + item, 1)
    at = block * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    u = tl.load(flow + item * 2 * size + at, inside, 0.0)
    v = tl.load(flow + (item * 2 + 1) * size + at, inside, 0.0)
    x, x_weights = _cut((at % w).to(tl.float32) + u, w)
    y, y_weights = _cut((at // w).to(tl.float32) + v, h)
    # OpenCV sums each line first, but if samples lie outside, it adds them one after another.
    is_edge = (x < 0) | (y < 0) | (x > w - 4) | (y > h - 4)
    zeros = tl.zeros([BLOCK], tl.float32)
    value, x_slope, y_slope = zeros, zeros, zeros
    for i in tl.static_range(4):
        value_line, x_line, y_line = zeros, zeros, zeros
        row = y + i
        is_row = inside & (row >= 0) & (row < h)
        for j in tl.static_range(4):
            column = x + j
            is_sample = is_row & (column >= 0) & (column < w)
            sample = planes + item * 3 * size + row * w + column
            weight = y_weights[i] * x_weights[j]
            value_sample = tl.load(sample, is_sample, 0.0) * weight
            x_sample = tl.load(sample + size, is_sample, 0.0) * weight
            y_sample = tl.load(sample + 2 * size, is_sample, 0.0) * weight
            value_line, value = (
                value_line + value_sample,
                value + tl.where(is_edge, value_sample, 0),
            )
            x_line, x_slope = x_line + x_sample, x_slope + tl.where(is_edge, x_sample, 0)
            y_line, y_slope = y_line + y_sample, y_slope + tl.where(is_edge, y_sample, 0)
        value += tl.where(is_edge, 0, value_line)
        x_slope += tl.where(is_edge, 0, x_line)
        y_slope += tl.where(is_edge, 0, y_line)
    residual = value - x_slope * u - y_slope * v - tl.load(first + item * size + at, inside, 0.0)
    term = terms + item * 3 * size + at
    tl.store(term, residual, inside)
    tl.store(term + size, x_slope, inside)
    tl.store(term + 2 * size, y_slope, inside)


@triton.jit
def _cut(places, side):
    """Positions along one axis -> the first of four samples, and the four bicubic weights."""
    places = tl.minimum(tl.maximum(places * _STEPS_PX, -3.0 * _STEPS_PX), (side + 1.0) * _STEPS_PX)
    places = (places + _TO_INTEGER) - _TO_INTEGER
    whole = tl.floor(places * (1 / _STEPS_PX))
    x = places * (1 / _STEPS_PX) - whole
    y = 1 - x
    first = ((_CUBIC * (x + 1) - 5 * _CUBIC) * (x + 1) + 8 * _CUBIC) * (x + 1) - 4 * _CUBIC
    second = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1
    third = ((_CUBIC + 2) * y - (_CUBIC + 3)) * y * y + 1
    return whole.to(tl.int32) - 1, (first, second, third, 1 - first - second - third)


@triton.jit
def median(flow, filtered, live, w, h, BLOCK: tl.constexpr):
    """The 5 x 5 median of the flow of live items, and the flow of the others. The edges are repeated
    outwards. filtered (n, 2, size): the result."""
    plane, size = tl.program_id(1).to(tl.int64), w * h
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    source, target = flow + plane * size, filtered + plane * size + at
    if tl.load(live + plane // 2) == 0:
        tl.store(target, tl.load(source + at, inside, 0.0), inside)
    else:
        x, y = at % w, at // w
        values = ()
        for i in tl.static_range(5):
            row = tl.minimum(tl.maximum(y + (i - 2), 0), h - 1) * w
            for j in tl.static_range(5):
                column = tl.minimum(tl.maximum(x + (j - 2), 0), w - 1)
                values = values + (tl.load(source + row + column, inside, 0.0),)
        for number in tl.static_range(_EXCHANGE_COUNT):
            a, b = values[_EXCHANGES[number][0]], values[_EXCHANGES[number][1]]
            values = values + (tl.minimum(a, b), tl.maximum(a, b))
        tl.store(target, values[_MEDIAN], inside)
