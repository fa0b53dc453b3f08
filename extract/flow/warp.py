"""Bicubic sampling of pictures and their slopes at any positions, in OpenCV's order of
operations."""

import torch
from torch import Tensor
from torch.nn import functional as F

STEPS_PX = 32  # positions are rounded to 1 / 32 px
CUBIC = -0.75  # OpenCV's bicubic kernel


def with_slopes(pictures: Tensor) -> Tensor:
    """(n, h, w) -> (n, 3, h, w): the values, their x slopes and their y slopes, as central
    differences. Edges are repeated outwards."""
    wide = F.pad(pictures.unsqueeze(1), (1, 1, 1, 1), mode="replicate")
    x_slope = wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]
    y_slope = wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]
    return torch.cat((pictures.unsqueeze(1), x_slope * 0.5, y_slope * 0.5), 1)


class Warp:
    """Bicubic samples of n pictures and their slopes, each at its own positions. Values outside a
    picture are 0."""

    def __init__(self, pictures: Tensor) -> None:
        n, h, w = pictures.shape
        # (n, 3, h + 8, w + 8), with a border for samples outside
        self.planes = F.pad(with_slopes(pictures), (4, 4, 4, 4)).flatten()
        self.shape, self.row = (n, 3, h, w), w + 8
        device = pictures.device
        self.y = torch.arange(h, device=device, dtype=torch.float32).view(-1, 1)
        self.x = torch.arange(w, device=device, dtype=torch.float32)
        self.start = torch.arange(n * 3, device=device).view(n, 3, 1, 1) * ((h + 8) * (w + 8))

    def __call__(self, flow: Tensor) -> Tensor:
        """(n, 2, h, w) flow -> (n, 3, h, w): values, x slopes, y slopes."""
        _, _, h, w = self.shape
        x, x_weights = self._cut(self.x + flow[:, 0], w)
        y, y_weights = self._cut(self.y + flow[:, 1], h)
        at = (y * self.row + x).unsqueeze(1) + self.start  # (n, 3, h, w)
        total = self._summed(at, [[(a * b).unsqueeze(1) for b in x_weights] for a in y_weights])
        # OpenCV sums each line first, but if samples lie outside, it adds them one after another.
        edge = ((x < 4) | (y < 4) | (x > w) | (y > h)).unsqueeze(1)
        item, _, i, j = edge.nonzero(as_tuple=True)
        weights = [[(a[item, i, j] * b[item, i, j])[:, None] for b in x_weights] for a in y_weights]
        total[item, :, i, j] = self._summed(at[item, :, i, j], weights, line_by_line=False)
        return total

    def _summed(
        self, at: Tensor, weights: list[list[Tensor]], *, line_by_line: bool = True
    ) -> Tensor:
        """The weighted sum of 4 x 4 samples that begin at the offsets `at` of the flat planes."""
        total: Tensor | None = None
        for i in range(4):
            line: Tensor | None = None if line_by_line else total
            for j in range(4):
                sampled = (
                    self.planes[i * self.row + j :]
                    .index_select(0, at.flatten())
                    .view(at.shape)
                    .mul_(weights[i][j])
                )
                line = sampled if line is None else line.add_(sampled)
            assert line is not None
            total = line if total is None or total is line else total.add_(line)
        assert total is not None
        return total

    def _cut(self, places: Tensor, side: int) -> tuple[Tensor, list[Tensor]]:
        """Positions along one axis -> the offset of the first of four samples in the padded plane,
        and the four weights."""
        places = (places * STEPS_PX).round_().clamp_(-3 * STEPS_PX, (side + 1) * STEPS_PX)
        whole = (places / STEPS_PX).floor_()
        x = places / STEPS_PX - whole
        a, y = CUBIC, 1 - x
        first = ((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a
        second, third = ((a + 2) * x - (a + 3)) * x * x + 1, ((a + 2) * y - (a + 3)) * y * y + 1
        return whole.long() + 3, [first, second, third, 1 - first - second - third]
