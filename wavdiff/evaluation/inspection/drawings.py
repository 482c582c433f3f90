"""Pictures of what was seen: the walk, and filters beside the places they belong to.

A row is drawn with zero white, what adds red and what takes away blue, in a range that is the same on both sides and
stands above it. Pixels are squares; the pixel itself has a frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wavdiff.evaluation.inspection.inspecting import Inspection
from wavdiff.evaluation.inspection.jacobian import PixelRows, Row
from wavdiff.evaluation.inspection.pixels import Place
from wavdiff.evaluation.plots import png, pyplot

DOTS_PER_INCH = 110
PANEL = 2.1  # inches of a filter or crop
SHARE = 0.98  # of a row's energy that lies in what is drawn of it
NARROWEST, WIDEST = 15, 65  # pixels a side of what is drawn
MARK = "#ffb000"  # seen on black, white, red and blue


@dataclass(frozen=True)
class View:
    """A square part of an image: its centre and half its side, so that 2 half + 1 pixels are seen."""

    row: int
    column: int
    half: int

    def cut(self, image: Tensor, origin: tuple[int, int] = (0, 0)) -> Tensor:
        """The part of `image` (..., h, w), whose first pixel is `origin`; not a number where there is none."""
        around = torch.arange(-self.half, self.half + 1)
        rows, columns = (self.row - origin[0] + around)[:, None], self.column - origin[1] + around
        height, width = image.shape[-2:]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return torch.where(inside, image[..., rows.clamp(0, height - 1), columns.clamp(0, width - 1)], math.nan)


def half_width(row: Row) -> int:
    """Half the side of the square around the pixel that holds `SHARE` of the row's energy, within bounds."""
    energy = row.values.double().square()
    height, width = energy.shape
    down = (torch.arange(height) - (row.centre[0] - row.origin[0])).abs()
    right = (torch.arange(width) - (row.centre[1] - row.origin[1])).abs()
    distance = torch.maximum(down[:, None], right[None]).flatten()
    inside = torch.zeros(int(distance.max()) + 1, dtype=torch.float64).index_add_(0, distance, energy.flatten())
    share = inside.cumsum(0) / inside.sum().clamp(min=1e-300)
    enough = int((share < SHARE).sum())
    return min(max(enough, NARROWEST // 2), WIDEST // 2)


def draw_walk(seen: Inspection) -> bytes:
    """Noisy and denoised x_J, ..., x_0 under one another, all at one size; PNG."""
    count = len(seen.noisy_walk)
    height, width = seen.noisy.shape[-2:]
    across = min(3.0, 15 / count)
    figure, axes = _panels(2, count, across, across * height / width + 0.35)
    for column, (before, after) in enumerate(seen.psnr):
        scale = count - 1 - column
        # What was padded at the bottom and the right is not shown.
        rows, columns = (slice(-(-side // 2**scale)) for side in (height, width))
        noise = seen.request.sigma * 255 / 2**scale
        title = f"noisy $x_{scale}$, noise {noise:.3g}/255\n{before:.2f} dB"
        _show_image(axes[0, column], seen.noisy_walk[column][..., rows, columns], title)
        title = f"denoised $x_{scale}$\n{after:.2f} dB"
        _show_image(axes[1, column], seen.denoised_walk[column][..., rows, columns], title)
    return png(figure, DOTS_PER_INCH)


def draw_filters(seen: Inspection) -> bytes:
    """A row for every pixel: the noisy and the denoised picture around it, and its filter through the walk; PNG."""
    half = max(half_width(rows.whole) for rows in seen.rows)
    figure, axes = _panels(len(seen.rows), 4, PANEL, PANEL + 0.5)
    for line, rows in zip(axes, seen.rows, strict=True):
        view = View(rows.place.row, rows.place.column, half)
        _show_image(line[0], seen.clean, _capital(rows.place.reason))
        _frame(line[0], view.row, view.column, half)
        _show_view(line[1], seen.noisy, view, f"noisy, {_where(rows.place)}")
        _show_view(line[2], seen.denoised_walk[-1], view, f"denoised, {_where(rows.place)}")
        _show_row(line[3], rows.whole, half, f"filter: sum {rows.whole.sum:.2f}, {_averaged(rows.whole)}")
    return png(figure, DOTS_PER_INCH)


def draw_scales(seen: Inspection, rows: PixelRows) -> bytes:
    """All filters of one pixel: a line for the low-pass image, for each scale, and for the whole walk; PNG."""
    levels = len(rows.details)
    lines: list[tuple[str, int, list[tuple[str, Row]]]] = [
        (f"low-pass $x_{levels}$", levels, [(f"w.r.t. noisy $x_{levels}$", rows.lowpass)])
    ]
    for scale in range(levels - 1, -1, -1):
        own = rows.details[scale]
        given = [("w.r.t. noisy details", own.noisy), (f"w.r.t. denoised $x_{scale + 1}$", own.coarse)]
        given += [(f"w.r.t. noisy $x_{scale + 1}$", own.observed)] if own.observed is not None else []
        lines.append((f"details of $x_{scale}$", scale, given))
    lines.append(("whole walk", 0, [("w.r.t. noisy $x_0$", rows.whole)]))
    figure, axes = _panels(len(lines), 2 + max(len(given) for _, _, given in lines), PANEL, PANEL + 0.45)
    for line, (name, scale, given) in zip(axes, lines, strict=True):
        first = given[0][1]
        half = half_width(first)
        view = View(*first.centre, half)
        _show_view(line[0], seen.noisy_walk[levels - scale], view, f"noisy $x_{scale}$")
        _show_view(line[1], seen.denoised_walk[levels - scale], view, f"denoised $x_{scale}$")
        line[0].set_ylabel(name, fontsize=10)
        for axis, (title, row) in zip(line[2:], given, strict=False):
            # The coarse image has half as many pixels over the same part of the picture.
            same_grid = row.centre == first.centre and row.values.shape == first.values.shape
            _show_row(axis, row, half if same_grid else -(-half // 2), title)
        for axis in line[2 + len(given) :]:
            axis.set_visible(False)
    figure.suptitle(f"{_capital(rows.place.reason)}, {_where(rows.place)}", fontsize=11)
    return png(figure, DOTS_PER_INCH)


def draw_all(seen: Inspection) -> dict[str, bytes]:
    """{file name: PNG} of all pictures."""
    scales = {scales_name(number): draw_scales(seen, rows) for number, rows in enumerate(seen.rows, 1)}
    return {"walk.png": draw_walk(seen), "filters.png": draw_filters(seen), **scales}


def scales_name(number: int) -> str:
    """File of the filters of the pixel of this number, counted from 1."""
    return f"filters-{number}.png"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _where(place: Place) -> str:
    return f"row {place.row}, column {place.column}"


def _averaged(row: Row) -> str:
    """The effective number of pixels, in words."""
    pixels = row.effective_pixels
    return f"{pixels:.0f} pixels" if pixels >= 10 else f"{pixels:.1f} pixels"


def _panels(down: int, across: int, width: float, height: float) -> tuple[Any, Any]:
    """A figure of panels of `width` x `height` inches, and their axes, (down, across)."""
    size = (across * width, down * height)
    figure, axes = pyplot().subplots(down, across, figsize=size, layout="constrained", squeeze=False)
    return figure, axes


def _show_image(axis: Any, image: Tensor, title: str) -> None:
    """An image (C, h, w) in [-1, 1]; what is no number is light gray."""
    planes = (image.detach().float().clamp(-1, 1) + 1) / 2
    planes = torch.where(planes.isnan(), 0.92, planes)
    _show(axis, planes.expand(3, -1, -1).permute(1, 2, 0), title)


def _show_view(axis: Any, image: Tensor, view: View, title: str) -> None:
    _show_image(axis, view.cut(image), title)
    _frame(axis, view.half, view.half)


def _show_row(axis: Any, row: Row, half: int, title: str) -> None:
    part = View(*row.centre, half).cut(row.values, row.origin)
    largest = float(row.values.abs().max())
    limits = {"vmin": -(largest or 1), "vmax": largest or 1}
    _show(axis, part, f"{title}\n±{largest:.2g}", cmap="RdBu_r", **limits)
    axis.set_facecolor("0.92")
    _frame(axis, half, half)


def _show(axis: Any, values: Tensor, title: str, **colours: Any) -> None:
    axis.imshow(values.numpy(), interpolation="nearest", aspect="equal", **colours)
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color("0.6")
        spine.set_linewidth(0.6)


def _frame(axis: Any, row: int, column: int, half: int = 0) -> None:
    """A frame around a pixel and `half` more on every side."""
    from matplotlib.patches import Rectangle

    corner = (column - half - 0.5, row - half - 0.5)
    axis.add_patch(Rectangle(corner, 2 * half + 1, 2 * half + 1, fill=False, edgecolor=MARK, linewidth=1.4))
