"""TV-L1 optical flow in torch, batched, on CPU or GPU.

C. Zach, T. Pock, H. Bischof, "A duality based approach for realtime TV-L1 optical flow", DAGM 2007;
J. Sanchez Perez, E. Meinhardt-Llopis, G. Facciolo, "TV-L1 optical flow estimation", IPOL 2013. The
parameters, and everything that the papers do not specify (pyramid, borders, stopping, filtering),
are those of OpenCV's DualTVL1OpticalFlow. tvl1_triton.py computes the same flow on a GPU with fewer
and larger steps; this module is its reference.

The positions to warp from are rounded to 1/32 px, as in OpenCV 4 (OpenCV 5 does not round them).
The flow therefore jumps when a position crosses a rounding limit, and later iterations enlarge the
jump. So the order of roundings matters: the steps below are single rounded operations in the order
of OpenCV 4.10 and 4.11. For most pairs this gives their flow to the last bits, for others the flow
differs by 0.01 px. (On the same pairs, 4.13 differs from 4.11 by 0.03 px on average, and 5.0 by
0.07 px.)

A plane of (h, w) pixels is stored flat in memory, with one extra pixel after each picture row. The
neighbours of all pixels are then the same memory, read from an offset of 1 or w + 1, without
copies.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from reelbank.data.errors import InputError
from reelbank.extract.flow.median import SIDE_PX, Median5
from reelbank.extract.flow.warp import Warp

SMALLEST_PX = 16  # short side of the smallest pyramid level
# On a GPU, asking whether any item continues makes the host wait, so it asks only this often.
_SYNC_ITERATIONS = 10
_GREY = (9798, 19235, 3735)  # of 2 ** 15: OpenCV's RGB2GRAY in integers


@dataclass(frozen=True)
class Tvl1:
    """Parameters with the names and values of OpenCV's DualTVL1OpticalFlow, without its gamma
    (which is 0) and its initial flow.

    tau: step; lambda_: weight of the data term (smaller: smoother); theta: tightness; scales,
    scale_step: the pyramid; warps: per scale; epsilon: root of the mean squared update below which
    an item stops, in pixels; median_px: side of the median filter before each outer iteration, 5,
    or 0 for none.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    scales: int = 5
    warps: int = 5
    epsilon: float = 0.01
    inner_iterations: int = 30
    outer_iterations: int = 10
    scale_step: float = 0.8
    median_px: int = SIDE_PX

    def __post_init__(self) -> None:
        if self.median_px not in (0, SIDE_PX):
            raise InputError(
                f"TV-L1: `median_px` must be {SIDE_PX}, or 0 for no median filter (got {self.median_px})"
            )


def tvl1(first: Tensor, second: Tensor, parameters: Tvl1 = Tvl1()) -> Tensor:  # noqa: B008 - frozen
    """Flow from `first` to `second`, uint8 (n, 3, H, W) RGB or (n, H, W) grey -> (n, 2, H, W)
    float32 pixels, x before y.

    Pixel (x, y) of `first` is found at (x, y) + flow in `second`. The flow of an item does not
    depend on the others. On a CPU the items are processed one at a time, because a single one fits
    into the caches.
    """
    with torch.inference_mode():
        a, b = grey_floats(first, second)
        if not a.numel():
            return a.new_zeros(len(a), 2, *a.shape[1:])
        if a.device.type == "cpu":
            return torch.cat(
                [_flow(x, y, parameters) for x, y in zip(a.split(1), b.split(1), strict=True)]
            )
        return _flow(a, b, parameters, batched=True)


def grey_floats(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The pictures that `tvl1` takes -> their grey values from 0 to 255, (n, H, W) float32. Raises
    ValueError for other shapes or types."""
    if (
        first.shape != second.shape
        or first.dtype != torch.uint8
        or second.dtype != torch.uint8
        or first.ndim not in (3, 4)
    ):
        raise ValueError(
            "pictures must be two uint8 tensors (n, 3, H, W) or (n, H, W) "
            f"(got {first.dtype} {first.shape}, {second.dtype} {second.shape})"
        )
    return grey(first).float(), grey(second).float()


def grey(pictures: Tensor) -> Tensor:
    """(n, 3, H, W) uint8 RGB -> (n, H, W) uint8, as OpenCV's RGB2GRAY; grey pictures are returned
    unchanged."""
    if pictures.ndim == 3:
        return pictures
    red, green, blue = pictures.int().unbind(1)
    return (red * _GREY[0] + green * _GREY[1] + blue * _GREY[2] + (1 << 14) >> 15).to(torch.uint8)


def resized(planes: Tensor, size: tuple[int, int], step: float = 0.0) -> Tensor:
    """(..., h, w) -> (..., *size), bilinear without smoothing, pixel centres at halves. A pixel of
    the result is `step` pixels wide, by default old size / new size."""
    single = torch.zeros(1, dtype=torch.bool, device=planes.device)
    for axis, length in ((-1, size[1]), (-2, size[0])):
        old = planes.shape[axis]
        at = (torch.arange(length, device=planes.device, dtype=torch.float64) + 0.5) * (
            step or old / length
        ) - 0.5
        if axis == -1:
            # OpenCV computes columns in groups of four with fused multiply-adds; the up to three
            # remaining columns are rounded twice.
            inner = (at >= 0) & (at <= old - 1)
            single = inner & (inner.cumsum(0) > inner.sum() // 4 * 4)
        at.clamp_(0, old - 1)
        low = at.long()
        share = (at - low).float().view((-1, 1) if axis == -2 else (-1,))
        a = planes.index_select(axis, low)
        b = planes.index_select(axis, (low + 1).clamp_(max=old - 1))
        fused = (a.double() + (b - a).double() * share.double()).float()
        planes = torch.where(single, a + (b - a) * share, fused)
    return planes


def _flow(first: Tensor, second: Tensor, of: Tvl1, *, batched: bool = False) -> Tensor:
    """(n, H, W) float grey values from 0 to 255 -> (n, 2, H, W). If `batched`, the items stop
    separately; otherwise n is 1."""
    return coarse_to_fine(
        first,
        second,
        of,
        lambda pictures, flow: _Scale(pictures, flow, of, batched=batched).solved(),
    )


def coarse_to_fine(
    first: Tensor, second: Tensor, of: Tvl1, solve: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """(n, H, W) float grey values from 0 to 255 -> the flow (n, 2, H, W), solved at each level of a
    pyramid.

    solve: computes the flow of one level, (n, 2, h, w), from both pictures (n, 2, h, w) and from
    the flow of the level before, (n, 2, h, w)
    """
    levels = [torch.stack((first, second), 1)]  # each (n, 2, h, w)
    while len(levels) < of.scales:
        h, w = (round(side * of.scale_step) for side in levels[-1].shape[-2:])
        if min(h, w) < SMALLEST_PX:
            break
        levels.append(resized(levels[-1], (h, w), 1 / of.scale_step))
    flow = torch.zeros_like(levels[-1])
    for number, level in enumerate(reversed(levels)):
        if number:
            flow = resized(flow, (level.shape[-2], level.shape[-1])).mul_(1 / of.scale_step)
        flow = solve(level, flow)
    return flow


def enough(of: Tvl1, h: int, w: int) -> float:
    """The squared update at or below which an item of h x w pixels stops, rounded to float32."""
    return torch.tensor(of.epsilon**2 * h * w, dtype=torch.float32).item()


class _Scale:
    """One pyramid level of n items: pictures, flow and dual variable, and the memory of the
    iteration. A plane has L = h (w + 1) values."""

    def __init__(self, pictures: Tensor, flow: Tensor, of: Tvl1, *, batched: bool) -> None:
        n, _, h, w = pictures.shape
        row, size, new = w + 1, h * (w + 1), pictures.new_zeros
        self.of, self.n, self.h, self.w, self.batched = of, n, h, w, batched
        self.first, self.warp = pictures[:, 0], Warp(pictures[:, 1])
        # Two flows, which are the old and the new one in turns. There is one extra row after the
        # last picture row, so that differences there are 0.
        self.flows = [new(n, 2, size + row + 1) for _ in range(2)]
        self.planes = [u[..., :-1].view(n, 2, h + 1, row) for u in self.flows]
        self.centre, self.right, self.below = (
            [u[..., at : at + size] for u in self.flows] for at in (0, 1, row)
        )
        self.now = 0
        self._set(flow)
        # The dual variable: (n, x or y of the gradient, flow component, L after one picture row of
        # zeros)
        dual = new(n, 2, 2, row + size)
        self.dual = dual[..., row:]
        self.x_first, self.y_first = self.dual[..., ::row].unbind(1)
        self.above_first, self.first_columns = (
            dual[:, 1, :, :size:row],
            [u[..., ::row] for u in self.centre],
        )
        self.dual_ends = self.dual.unflatten(-1, (h, row))[..., w]
        self.left, self.above = dual[:, 0, :, row - 1 : -1], dual[:, 1, :, :size]
        # Of the warped picture: residual and negative squared slope (n, L), and slopes (n, 2, L).
        # The extra pixel after each row is 0.
        self.residual, self.minus_squared, self.slopes = (
            new(n, size),
            new(n, size).fill_(-1),
            new(n, 2, size),
        )
        self.t, self.e, self.f, self.norm, self.gradient = (
            new(n, *s, size) for s in ((1,), (2,), (2,), (1, 2), (2, 2))
        )
        self.flat = torch.zeros(0, dtype=torch.long, device=flow.device)
        self.median = Median5(flow) if of.median_px else None

    def solved(self) -> Tensor:
        """The flow of this scale, (n, 2, h, w)."""
        of = self.of
        limit = enough(of, self.h, self.w)
        for _ in range(of.warps):
            self._linearise()
            live = self.t.new_ones(self.n, 1, 1) if self.batched else None
            going = True
            for _ in range(of.outer_iterations):
                if not going:
                    break
                self._filter(live)
                for inner in range(of.inner_iterations):
                    moved = self._primal(live)
                    self._dual(live)
                    if live is None:
                        going = moved.item() > limit
                    else:
                        live = live * (moved > limit).view(-1, 1, 1)
                        is_asked = inner % _SYNC_ITERATIONS == _SYNC_ITERATIONS - 1
                        going = not is_asked or bool(live.any())
                    if not going:
                        break
        return self._get().clone()

    def _get(self) -> Tensor:
        return self.planes[self.now][..., : self.h, : self.w]

    def _set(self, flow: Tensor) -> None:
        self._get().copy_(flow)
        self._close()

    def _close(self) -> None:
        """Set the extra pixel after each row, and the extra row, to their neighbours."""
        planes = self.planes[self.now]
        planes[..., : self.h, self.w] = planes[..., : self.h, self.w - 1]
        planes[..., self.h, :] = planes[..., self.h - 1, :]

    def _filter(self, live: Tensor | None) -> None:
        if self.median is not None:
            flow = self.median(self._get())
            self._set(
                flow if live is None else torch.where(live.unsqueeze(-1) > 0, flow, self._get())
            )

    def _linearise(self) -> None:
        """Linearise the second picture, warped by the flow, as a function of the flow (IPOL, eq.
        10)."""
        flow = self._get()
        warped = self.warp(flow)  # (n, 3, h, w)
        wide = warped[:, 1:]
        u, v = flow.unbind(1)
        x_slope, y_slope = wide.unbind(1)
        inside = (-1, (self.h, self.w + 1))
        self.residual.unflatten(*inside)[..., : self.w] = (
            warped[:, 0] - x_slope * u - y_slope * v - self.first
        )
        squared = x_slope.square() + y_slope.square()
        self.minus_squared.unflatten(*inside)[..., : self.w] = -torch.where(squared > 0, squared, 1)
        hardly = (self.minus_squared >= -torch.finfo(torch.float32).eps).flatten()
        self.flat = hardly.nonzero().squeeze(1)
        self.slopes.unflatten(*inside)[..., : self.w] = wide

    def _primal(self, live: Tensor | None) -> Tensor:
        """Threshold step and projection (IPOL, eq. 15 and 18). Returns the squared update of each
        item, (n,). Items that are not `live` do not change."""
        of, old, t, e, f = self.of, self.centre[self.now], self.t, self.e, self.f
        self.now = 1 - self.now
        new = self.centre[self.now]
        limit = of.lambda_ * of.theta
        torch.mul(self.slopes, old, out=e)
        torch.add(e[:, :1], e[:, 1:], out=t).add_(self.residual.unsqueeze(1))
        t.div_(self.minus_squared.unsqueeze(1))
        if len(
            self.flat
        ):  # where the slope is almost 0, OpenCV moves by the threshold or not at all
            t.view(-1)[self.flat] = F.hardshrink(t.view(-1)[self.flat], limit)
        t.clamp_(-limit, limit)
        torch.mul(self.slopes, t, out=e).add_(old)
        torch.sub(self.dual[:, 0], self.left, out=new)
        torch.sub(self.dual[:, 1], self.above, out=f)
        new.add_(f)
        torch.add(self.x_first, self.y_first, out=self.first_columns[self.now]).sub_(
            self.above_first
        )  # in OpenCV's order
        new.mul_(of.theta).add_(e)
        torch.sub(new, old, out=e)
        # The batch size changes the order of the sum. In double precision the result is the same.
        moved = (
            torch.dot(e.view(-1), e.view(-1))
            if live is None
            else e.mul_(e).sum((1, 2), dtype=torch.float64)
        )
        if live is not None:
            new.copy_(torch.where(live > 0, new, old))
        self._close()
        return moved

    def _dual(self, live: Tensor | None) -> None:
        """p <- (p + tau / theta grad u) / (1 + tau / theta |grad u|) (IPOL, eq. 17)."""
        ratio = self.of.tau / self.of.theta
        centre, g = self.centre[self.now], self.gradient
        torch.sub(self.right[self.now], centre, out=g[:, 0])
        torch.sub(self.below[self.now], centre, out=g[:, 1])
        if live is not None:
            g.mul_(live.unsqueeze(-1))  # with a gradient of 0, p does not change
        torch.hypot(g[:, 0], g[:, 1], out=self.norm[:, 0]).mul_(ratio).add_(1)
        self.dual.add_(g.mul_(ratio)).div_(self.norm)
        self.dual_ends.zero_()
