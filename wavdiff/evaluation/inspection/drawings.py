"""Pictures of what was seen: the walk, and filters beside the places they belong to.

A row is drawn with zero white, what adds red and what takes away blue, in a range that is the same on both sides and
stands above it. Pixels are squares; the pixel itself has a frame.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wavdiff.evaluation.inspection.inspecting import Inspection
from wavdiff.evaluation.inspection.jacobian import PixelRows, Row
from wavdiff.evaluation.inspection.pixels import Place
from wavdiff.evaluation.plots import pyplot

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
        side = 2 * self.half + 1
        result = image.new_full((*image.shape[:-2], side, side), math.nan)
        top, left = self.row - self.half - origin[0], self.column - self.half - origin[1]
        rows = slice(max(top, 0), min(top + side, image.shape[-2]))
        columns = slice(max(left, 0), min(left + side, image.shape[-1]))
        part = image[..., rows, columns]
        result[
            ..., rows.start - top : rows.start - top + part.shape[-2],
            columns.start - left : columns.start - left + part.shape[-1],
        ] = part  # fmt: skip
        return result


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
    plots = pyplot()
    count = len(seen.noisy_walk)
    height, width = seen.noisy.shape[-2:]
    across = min(3.0, 15 / count)
    figure, axes = plots.subplots(
        2, count, figsize=(across * count, 2 * across * height / width + 0.7), layout="constrained", squeeze=False
    )
    for column in range(count):
        scale = count - 1 - column
        before, after = seen.psnr[column]
        images = (seen.noisy_walk[column], seen.denoised_walk[column])
        noise = seen.request.sigma * 255 / 2**scale
        titles = (f"noisy $x_{scale}$, noise {noise:.3g}/255\n{before:.2f} dB", f"denoised $x_{scale}$\n{after:.2f} dB")
        for axis, image, title in zip(axes[:, column], images, titles, strict=True):
            # What was padded at the bottom and the right is not shown.
            visible = image[..., : -(-height // 2**scale), : -(-width // 2**scale)]
            _show_image(axis, visible)
            axis.set_title(title, fontsize=9)
    return _png(plots, figure)


def draw_filters(seen: Inspection) -> bytes:
    """A row for every pixel: the noisy and the denoised picture around it, and its filter through the walk; PNG."""
    plots = pyplot()
    count = len(seen.rows)
    half = max(half_width(rows.whole) for rows in seen.rows)
    figure, axes = plots.subplots(
        count, 4, figsize=(4 * PANEL, count * (PANEL + 0.5)), layout="constrained", squeeze=False
    )
    denoised = seen.denoised_walk[-1]
    for line, rows in zip(axes, seen.rows, strict=True):
        view = View(rows.place.row, rows.place.column, half)
        _show_image(line[0], seen.clean)
        _frame(line[0], view, half)
        line[0].set_title(_capital(rows.place.reason), fontsize=9)
        _show_image(line[1], view.cut(seen.noisy))
        _show_image(line[2], view.cut(denoised))
        for axis, title in zip(line[1:3], ("noisy", "denoised"), strict=True):
            _frame(axis, View(half, half, half), 0)
            axis.set_title(f"{title}, {_where(rows.place)}", fontsize=9)
        _show_row(line[3], rows.whole, half, f"filter: sum {rows.whole.sum:.2f}, {_averaged(rows.whole)}")
    return _png(plots, figure)


def draw_scales(seen: Inspection, rows: PixelRows) -> bytes:
    """All filters of one pixel: a line for the low-pass image, for each scale, and for the whole walk; PNG."""
    plots = pyplot()
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
    across = 2 + max(len(given) for _, _, given in lines)
    figure, axes = plots.subplots(
        len(lines), across, figsize=(across * PANEL, len(lines) * (PANEL + 0.45)), layout="constrained", squeeze=False
    )
    for line, (name, scale, given) in zip(axes, lines, strict=True):
        half = half_width(given[0][1])
        centre = given[0][1].centre
        view = View(*centre, half)
        walks = (seen.noisy_walk[levels - scale], seen.denoised_walk[levels - scale])
        for axis, title, image in zip(line, (f"noisy $x_{scale}$", f"denoised $x_{scale}$"), walks, strict=False):
            _show_image(axis, view.cut(image))
            _frame(axis, View(half, half, half), 0)
            axis.set_title(title, fontsize=9)
        line[0].set_ylabel(name, fontsize=10)
        for axis, (title, row) in zip(line[2:], given, strict=False):
            # The coarse image has half as many pixels over the same part of the picture.
            own_half = half if row.centre == centre and row.values.shape == given[0][1].values.shape else -(-half // 2)
            _show_row(axis, row, own_half, title)
        for axis in line[2 + len(given) :]:
            axis.set_visible(False)
    figure.suptitle(f"{_capital(rows.place.reason)}, {_where(rows.place)}", fontsize=11)
    return _png(plots, figure)


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


def _show_image(axis: Any, image: Tensor) -> None:
    """An image (C, h, w) in [-1, 1]; what is no number is light gray."""
    planes = (image.detach().float().clamp(-1, 1) + 1) / 2
    planes = torch.where(planes.isnan(), 0.92, planes)
    axis.imshow(planes.expand(3, -1, -1).permute(1, 2, 0).numpy(), interpolation="nearest", aspect="equal")
    _bare(axis)


def _show_row(axis: Any, row: Row, half: int, title: str) -> None:
    part = View(*row.centre, half).cut(row.values, row.origin)
    largest = float(row.values.abs().max())
    axis.imshow(
        part.numpy(), cmap="RdBu_r", vmin=-(largest or 1), vmax=largest or 1, interpolation="nearest", aspect="equal"
    )
    axis.set_facecolor("0.92")
    _bare(axis)
    _frame(axis, View(half, half, half), 0)
    axis.set_title(f"{title}\n±{largest:.2g}", fontsize=9)


def _bare(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_color("0.6")
        spine.set_linewidth(0.6)


def _frame(axis: Any, view: View, half: int) -> None:
    """A frame around the pixels from `half` before the centre of `view` to `half` behind it."""
    from matplotlib.patches import Rectangle

    corner = (view.column - half - 0.5, view.row - half - 0.5)
    axis.add_patch(Rectangle(corner, 2 * half + 1, 2 * half + 1, fill=False, edgecolor=MARK, linewidth=1.4))


def _png(plots: Any, figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
    plots.close(figure)
    return file.getvalue()
