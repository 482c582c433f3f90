"""Pixels worth looking at, chosen by the structure tensor, so that nobody has to.

With g the gradient of the gray picture, the mean of g g^T around a pixel has two eigenvalues: both small where the
picture is flat, one large on a straight edge, both large in texture (Harris and Stephens, "A combined corner and edge
detector", 1988).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.system.errors import WavdiffError

WINDOW = 9  # pixels over which gradients are averaged
BORDER = 8  # pixels at the border that are not chosen, where the picture has others


@dataclass(frozen=True)
class Place:
    """A pixel of x_0, counted from 0 at the top left, and what it is called."""

    row: int
    column: int
    reason: str = "pixel"


def check_places(places: tuple[tuple[int, int], ...], size: tuple[int, int]) -> None:
    """Refuse pixels outside of a picture of `size` (height, width).

    Raises:
        WavdiffError: one is outside.
    """
    height, width = size
    for row, column in places:
        if not (0 <= row < height and 0 <= column < width):
            raise WavdiffError(
                f"--pixel must lie in the picture, rows 0 to {height - 1} and columns 0 to {width - 1}, "
                f"got {row},{column}"
            )


def choose_places(picture: Tensor) -> tuple[Place, ...]:
    """The flattest place, the strongest edge and the most textured spot of a picture; the topmost, leftmost of equals.

    Args:
        picture: (C, H, W), any range, best without noise.

    Returns:
        Three places, or fewer where they coincide.
    """
    small, large = _eigenvalues(picture)
    scores = {"flattest place": -large, "strongest edge": large - small, "most textured spot": small}
    height, width = small.shape
    top, left = (min(BORDER, (side - 1) // 4) for side in (height, width))
    reasons: dict[tuple[int, int], list[str]] = {}
    for reason, score in scores.items():
        inner = score[top : height - top, left : width - left]
        place = int(inner.contiguous().argmax())
        reasons.setdefault((top + place // inner.shape[1], left + place % inner.shape[1]), []).append(reason)
    return tuple(Place(row, column, " and ".join(names)) for (row, column), names in reasons.items())


def _eigenvalues(picture: Tensor) -> tuple[Tensor, Tensor]:
    """The smaller and the larger eigenvalue of the structure tensor at every pixel, (H, W) each."""
    gray = functional.pad(picture.double().mean(dim=0)[None], (1, 1, 1, 1), mode="replicate")[0]
    down = (gray[2:, 1:-1] - gray[:-2, 1:-1]) / 2
    right = (gray[1:-1, 2:] - gray[1:-1, :-2]) / 2
    half = WINDOW // 2
    # Weights that fall towards the border of the window put the maximum on the edge, not anywhere near it.
    ramp = 1 - (torch.arange(WINDOW, dtype=torch.float64) - half).abs() / (half + 1)
    kernel = (torch.outer(ramp, ramp) / ramp.sum() ** 2)[None, None]
    products = torch.stack([down * down, right * right, down * right])[:, None]
    a, b, c = functional.conv2d(products, kernel, padding=half)[:, 0]
    centre, distance = (a + b) / 2, (((a - b) / 2).square() + c.square()).sqrt()
    # Equal numbers differ in the last digits of their sums, which must not choose.
    return (centre - distance).clamp(min=0).float(), (centre + distance).float()
