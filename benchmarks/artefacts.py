"""Grids, colour shifts and borders: what a PSNR does not show.

    python benchmarks/artefacts.py

For denoising and enlarging, on scikit-image's photographs and on a smooth ramp:

- grid 2, 4, 8: the error folded onto the places of a square of so many pixels, its mean removed; the rms over places in
  units of 1/255, and what chance alone would give (the error's deviation over the root of the number of squares). A
  cascade of wavelets could leave a pattern there.
- colour: the largest shift of a channel's mean, in units of 1/255.
- border: PSNR of the outer 8 pixels minus PSNR of the rest, dB, and the same for the noisy or repeated picture.
"""

from __future__ import annotations

import argparse

import skimage.data
import torch
from torch import Tensor

from wavdiff import api
from wavdiff.evaluation.photographs.reading import central
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.models.random_numbers import derive_generator


def folded(error: Tensor, period: int) -> tuple[float, float]:
    """Rms over places of the mean error there, and of what chance gives; (C, H, W), in units of 1/255."""
    height, width = (side // period * period for side in error.shape[1:])
    squares = (255 / 2 * error[:, :height, :width]).unflatten(2, (-1, period)).unflatten(1, (-1, period))
    places = squares.mean(dim=(1, 3))
    places = places - places.mean(dim=(1, 2), keepdim=True)
    chance = squares.std() / (height * width / period**2) ** 0.5
    return float(places.square().mean().sqrt()), float(chance)


def psnr(error: Tensor) -> float:
    return float(10 * torch.log10(4 / error.square().mean()))


def border(error: Tensor) -> float:
    mask = torch.ones(error.shape[1:], dtype=torch.bool)
    mask[8:-8, 8:-8] = False
    return psnr(error[:, mask]) - psnr(error[:, ~mask])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="photos")
    parser.add_argument("--crop", type=int, default=256)
    arguments = parser.parse_args()
    cascade, crop = load_cascade(arguments.model), arguments.crop
    names = ("astronaut", "coffee", "chelsea", "rocket")
    pictures = {name: torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1) / 127.5 - 1 for name in names}
    pictures = {name: central(x, crop) for name, x in pictures.items()}
    rows, columns = torch.linspace(-0.6, 0.5, crop)[:, None], torch.linspace(-0.2, 0.3, crop)[None]
    pictures["ramp"] = torch.stack([rows + columns, rows - columns, columns - rows])
    tasks = [("denoise", sigma) for sigma in (15, 25, 50)] + [("upscale", 2), ("upscale", 4)]
    print("| picture | task | grid 2 (chance) | grid 4 | grid 8 | colour | border | border before |")
    print("|---|---|---|---|---|---|---|---|")
    for name, clean in pictures.items():
        for verb, amount in tasks:
            if verb == "denoise":
                noise = torch.randn(clean.shape, generator=derive_generator(0, name, amount))
                before = clean + 2 * amount / 255 * noise
                after = api.denoise(before, amount / 255, model=cascade)
                reference = before.mean(dim=(1, 2))  # what denoising should keep is the mean of what it was given
            else:
                small = torch.nn.functional.avg_pool2d(clean[None], amount)[0]
                before = small.repeat_interleave(amount, 1).repeat_interleave(amount, 2)
                after = api.upscale(small, amount, model=cascade)
                reference = small.mean(dim=(1, 2))
            error = after - clean
            grids = [folded(error, period) for period in (2, 4, 8)]
            shift = float((after.mean(dim=(1, 2)) - reference).abs().max()) * 255 / 2
            cells = [f"{grid:.3f} ({chance:.3f})" for grid, chance in grids]
            print(
                f"| {name} | {verb} {amount} | {' | '.join(cells)} | {shift:.3f} | {border(error):+.2f} "
                f"| {border(before - clean):+.2f} |"
            )


if __name__ == "__main__":
    main()
