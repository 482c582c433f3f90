"""Crops to look at: every method's result in the same window, enlarged four times, pixel by pixel.

The window is the most textured one of its size, so that nobody chooses it: there restoration is hardest.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.evaluation.plots import png, pyplot

SIDE = 64  # pixels of the picture
ZOOM = 4  # 400 %
GAP = 6  # screen pixels between tiles
CAPTION = 20  # screen pixels above a tile
CHARACTERS = 28  # of a caption, for which there is room
DOTS_PER_INCH = 128  # a power of two, so that inches times this are whole pixels again


@dataclass(frozen=True)
class Tile:
    """One window: what it shows, its pixels (C, h, w) in [-1, 1], and how often smaller they are."""

    caption: str
    pixels: Tensor
    scale: int = 1


@dataclass(frozen=True)
class Strip:
    """Tiles of one window side by side, and the noise level or factor that they belong to."""

    name: str
    tiles: list[Tile]


def textured_window(pixels: Tensor, side: int = SIDE, step: int = 8) -> tuple[slice, slice]:
    """Rows and columns of the window with the largest mean squared gradient of its gray values; the first of equals.

    Args:
        pixels: (C, H, W) with sides of at least `step`.
        side: of the window, in pixels; less where the picture is smaller.
        step: corners lie at multiples of it, and the side is one.
    """
    gray = pixels.double().mean(dim=0)
    down, right = torch.zeros_like(gray), torch.zeros_like(gray)
    down[:-1], right[:, :-1] = gray.diff(dim=0), gray.diff(dim=1)
    height, width = (max(min(side, length) // step * step, step) for length in gray.shape)
    energy = functional.avg_pool2d((down.square() + right.square())[None, None], (height, width), stride=step)[0, 0]
    # Sums of equal numbers differ in their last digits, which must not choose.
    top, left = np.unravel_index(int(np.argmax(energy.float().numpy())), tuple(energy.shape))
    return slice(int(top) * step, int(top) * step + height), slice(int(left) * step, int(left) * step + width)


def draw_strips(strips: Sequence[Strip]) -> bytes:
    """Strips of one picture, all windows of one size, under one another with captions: a PNG without resampling.

    Strips end in one column, so that models and the truth stand below one another.
    """
    largest = strips[0].tiles[-1].pixels
    height, width = ZOOM * largest.shape[-2] + CAPTION, ZOOM * largest.shape[-1] + GAP
    columns = max(len(strip.tiles) for strip in strips)
    across = columns * width + GAP
    down = len(strips) * height + GAP
    figure = pyplot().figure(figsize=(across / DOTS_PER_INCH, down / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    for row, strip in enumerate(strips):
        for column, tile in enumerate(strip.tiles, start=columns - len(strip.tiles)):
            left, top = GAP + column * width, CAPTION + row * height
            array = _zoomed(tile)
            figure.figimage(array, xo=left, yo=down - top - array.shape[0], origin="upper")
            text = tile.caption
            if tile.scale == 1 and tile is not strip.tiles[-1]:
                text = f"{tile.caption[:CHARACTERS]} {window_psnr(tile.pixels, strip.tiles[-1].pixels):.2f} dB"
            figure.text(left / across, 1 - (top - 6) / down, text, fontsize=7)
    return png(figure, DOTS_PER_INCH)


def window_psnr(pixels: Tensor, clean: Tensor) -> float:
    """PSNR in dB of a window, limited to [0, 1], for which the truth is at hand."""
    error = (pixels.clamp(-1, 1) - clean).double().square().mean() / 4
    return float(-10 * torch.log10(error.clamp(min=1e-12)))


def _zoomed(tile: Tile) -> np.ndarray:
    """The tile as it is shown, uint8 (h, w, 3)."""
    pixels = ((tile.pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    times = ZOOM * tile.scale
    large = pixels.repeat_interleave(times, dim=1).repeat_interleave(times, dim=2)
    return large.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()


@dataclass(frozen=True)
class Sheet:
    """A picture of `draw_strips`: its file beside the page, and what is where.

    Attributes:
        file: its name.
        rows: captions of all tiles of every strip, in its columns; empty where there is none.
        side: (height, width) of a tile on the screen.
    """

    file: str
    rows: tuple[tuple[str, ...], ...]
    side: tuple[int, int]


def sheet_of(file: str, strips: Sequence[Strip]) -> Sheet:
    """The sheet that `draw_strips` makes of these strips."""
    columns, window = max(len(strip.tiles) for strip in strips), strips[0].tiles[-1].pixels.shape[-2:]
    rows = [[f"{strip.name}: {tile.caption}" for tile in strip.tiles] for strip in strips]
    filled = tuple(tuple([""] * (columns - len(row)) + row) for row in rows)
    return Sheet(file, filled, (ZOOM * window[0], ZOOM * window[1]))


def crops_page(title: str, sheets: Mapping[str, Sheet]) -> str:
    """An HTML page of {name of the photograph: sheet}: two tiles of each behind a slider, and all of them below."""
    figures = "\n".join(_figure(name, sheet) for name, sheet in sheets.items())
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{html.escape(title)}</title>
<style>
body {{ font-family: sans-serif; margin: 2em }}
img, .tile {{ image-rendering: pixelated }}
.pair {{ position: relative; margin: 0.5em 0 }}
.tile {{ position: absolute; inset: 0; background-repeat: no-repeat }}
.tile:first-child {{ z-index: 1 }}
input[type=range] {{ display: block }}
</style>
<h1>{html.escape(title)}</h1>
<p>The most textured {SIDE}x{SIDE} window of each picture at {100 * ZOOM} %, every pixel shown as a square.
Decibels are those of the window.</p>
{figures}
<script>
for (const figure of document.querySelectorAll("figure")) {{
  const [left, right] = figure.querySelectorAll(".tile"), [a, b] = figure.querySelectorAll("select");
  const range = figure.querySelector("input");
  const show = () => {{
    for (const [tile, choice] of [[left, a], [right, b]]) tile.style.backgroundPosition = choice.value;
    left.style.clipPath = `inset(0 ${{100 - range.value}}% 0 0)`;
  }};
  for (const control of [a, b, range]) control.addEventListener("input", show);
  show();
}}
</script>
</html>
"""


def _figure(name: str, sheet: Sheet) -> str:
    height, width = sheet.side
    places = [
        (f"-{GAP + column * (width + GAP)}px -{CAPTION + row * (height + CAPTION)}px", caption)
        for row, captions in enumerate(sheet.rows)
        for column, caption in enumerate(captions)
        if caption
    ]
    first = len([caption for caption in sheet.rows[0] if caption])  # of the first strip: what was given, and the truth

    def choice(chosen: int) -> str:
        options = (
            f'<option value="{place}"{" selected" if index == chosen else ""}>{html.escape(caption)}</option>'
            for index, (place, caption) in enumerate(places)
        )
        return f"<select>{''.join(options)}</select>"

    file, shown = html.escape(sheet.file), html.escape(name)
    tile = f'<div class="tile" style="background-image: url(\'{file}\')"></div>'
    return f"""<h2>{shown}</h2>
<figure>
{choice(0)} {choice(max(0, first - 2))}
<div class="pair" style="width: {width}px; height: {height}px">{tile}{tile}</div>
<input type="range" min="0" max="100" value="50" style="width: {width}px" aria-label="left and right of {shown}">
</figure>
<img src="{file}" alt="crops of {shown}">"""
