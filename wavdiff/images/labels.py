"""Pictures for people to look at: labelled, as large as they have to be, with scales, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from wavdiff.images.load_save import to_pil
from wavdiff.images.resampling import image_grid
from wavdiff.system.atomic import written_whole

TEXT = 13
"""Pixels of a letter's height, about."""
STRIP = 20
"""Pixels of a line of text and what is around it."""
LEAST_SHOWN = 96
"""Pixels to which small pictures are enlarged at least."""
VIRIDIS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Five places of matplotlib's colour map (Smith and van der Walt, CC0), whose lightness rises evenly: it is legible for
those who do not tell red from green."""


def labelled(picture: torch.Tensor, text: str) -> torch.Tensor:
    """A picture (C, H, W) in [-1, 1] under a line of text, (3, H + STRIP, W)."""
    strip = Image.new("RGB", (picture.shape[-1], STRIP), "white")
    ImageDraw.Draw(strip).text((4, 3), text, fill="black", font=ImageFont.load_default(TEXT))
    return torch.cat([_tensor(strip), picture.expand(3, -1, -1)], dim=1)


def labelled_grid(batch: torch.Tensor, labels: Sequence[str], columns: int | None = None) -> torch.Tensor:
    """`image_grid` of labelled pictures; small ones are enlarged, every pixel to a square, to LEAST_SHOWN or more."""
    times = -(-LEAST_SHOWN // min(batch.shape[-2:]))
    large = batch.repeat_interleave(times, -1).repeat_interleave(times, -2)
    shown = [labelled(picture, label) for picture, label in zip(large, labels, strict=True)]
    return image_grid(torch.stack(shown), columns)


def save_animation(path: Path, frames: Sequence[torch.Tensor], seconds: float) -> None:
    """Write frames (C, H, W) of one size as an endless lossless WebP, each shown so long; completely or not at all."""
    images = [to_pil(frame) for frame in frames]
    options = {"lossless": True, "save_all": True, "append_images": images[1:], "loop": 0}
    with written_whole(path) as file:
        images[0].save(file, format="WEBP", duration=round(1000 * seconds), **options)


def coloured(values: torch.Tensor) -> torch.Tensor:
    """Values (1, H, W) in [0, 1] as colours of VIRIDIS, (3, H, W) in [-1, 1]."""
    stops = torch.tensor(VIRIDIS, dtype=torch.float32) / 127.5 - 1
    place = values[0].clamp(0, 1) * (len(VIRIDIS) - 1)
    below = place.floor().clamp(max=len(VIRIDIS) - 2).long()
    return torch.lerp(stops[below], stops[below + 1], (place - below)[..., None]).permute(2, 0, 1)


def colour_bar(width: int, title: str, largest: str) -> torch.Tensor:
    """The colours of `coloured` from 0 to the largest value, with a title, (3, 3 STRIP, width) in [-1, 1]."""
    bar = Image.new("RGB", (width, 3 * STRIP), "white")
    draw, font = ImageDraw.Draw(bar), ImageFont.load_default(TEXT)
    draw.text((4, 3), title, fill="black", font=font)
    draw.text((4, 2 * STRIP + 3), "0", fill="black", font=font)
    draw.text((width - 4 - draw.textlength(largest, font), 2 * STRIP + 3), largest, fill="black", font=font)
    shown = _tensor(bar)
    ramp = coloured(torch.linspace(0, 1, max(1, width - 8)).expand(1, STRIP, -1))
    shown[:, STRIP : 2 * STRIP, 4 : 4 + ramp.shape[-1]] = ramp[..., : max(0, width - 4)]
    return shown


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1
