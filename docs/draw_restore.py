"""Draws docs/images/restore.png: what `wavdiff restore` is given, and what it makes of it.

python docs/draw_restore.py
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageDraw, ImageFilter

import wavdiff
from wavdiff.images import image_grid, save_image
from wavdiff.images.codecs.jpeg_coefficients import read_jpeg_coefficients
from wavdiff.images.in_memory import as_planes
from wavdiff.images.labels import labelled_grid

HERE = Path(__file__).parent
SIDE = 176


def main() -> None:
    """Four pairs of a photograph of NASA's (Eileen Collins, public domain)."""
    clean = Image.fromarray(skimage.data.astronaut()).crop((135, 20, 135 + SIDE, 20 + SIDE))
    generator = np.random.default_rng(0)
    hidden = Image.new("L", clean.size)
    pen = ImageDraw.Draw(hidden)
    for row in range(8, SIDE, 24):
        pen.line((0, row, SIDE, row + 9), fill=255, width=3)
    lost = np.asarray(hidden) > 0
    scratched = Image.fromarray(np.where(lost[..., None], np.uint8([255, 0, 255]), np.asarray(clean)))
    few = generator.random((SIDE, SIDE)) < 0.1
    dropped = Image.fromarray(np.where(few[..., None], np.asarray(clean), 0).astype(np.uint8))
    blurred = np.asarray(clean.filter(ImageFilter.GaussianBlur(2))) + generator.normal(0, 2, (SIDE, SIDE, 3))
    blurred = Image.fromarray(blurred.round().clip(0, 255).astype(np.uint8))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jpg"
        clean.save(path, quality=20)
        known = read_jpeg_coefficients(path)
        with Image.open(path) as image:
            decoded = image.convert("RGB")
    pairs = {
        "scratches": (scratched, wavdiff.Degradation(hidden=lost), 0.0),
        "10 % of the pixels": (dropped, wavdiff.Degradation(hidden=~few), 0.0),
        "blur, noise 2/255": (blurred, wavdiff.Degradation(kernel="gaussian:2"), 2 / 255),
        "JPEG, quality 20": (decoded, wavdiff.Degradation(jpeg=known), 0.0),
    }
    given = [as_planes(picture).colour[0] for picture, _, _ in pairs.values()]
    made = [
        as_planes(wavdiff.restore(picture, degradation, noise=noise)).colour[0]
        for picture, degradation, noise in pairs.values()
    ]
    above = labelled_grid(torch.stack(given), list(pairs), columns=4)
    below = labelled_grid(torch.stack(made), ["restored"] * len(pairs), columns=4)
    save_image(HERE / "images" / "restore.png", image_grid(torch.stack([above, below]), columns=1))


if __name__ == "__main__":
    main()
