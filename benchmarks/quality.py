"""What `--quality good` and `best` bring, and what they cost.

    python benchmarks/quality.py

On scikit-image's photographs, or those of --folder, the central 256x256, noise of seed 0 that is not limited: PSNR in
dB of results limited to [0, 1], the grid of period 2 that enlarging leaves (see artefacts.py; the photographs' own
content is in it, on the ramp there is none), and processor time over that of `fast`, all in one run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import skimage.data
import torch
from artefacts import folded
from torch import Tensor
from torch.nn import functional

from wavdiff import api
from wavdiff.evaluation.photographs.reading import central
from wavdiff.images import read_pixels
from wavdiff.models.cascade.saved import load_cascade

QUALITIES = ("fast", "good", "best")
PICTURES = ("astronaut", "coffee", "chelsea", "rocket")


def pictures(folder: Path | None, crop: int) -> list[Tensor]:
    pixels = [getattr(skimage.data, name)() for name in PICTURES]
    if folder is not None:
        pixels = [read_pixels(path) for path in sorted(folder.iterdir())]
    planes = [torch.from_numpy(values).float().permute(2, 0, 1) / 127.5 - 1 for values in pixels]
    return [central(picture, crop) for picture in planes]


def ramp(side: int) -> Tensor:
    rows, columns = torch.linspace(-0.6, 0.5, side)[:, None], torch.linspace(-0.2, 0.3, side)[None]
    return torch.stack([rows + columns, rows - columns, columns - rows])


def rows(name: str, clean: list[Tensor], given: list[Tensor], restore: Callable[[Tensor, str], Tensor]) -> None:
    base = 0.0
    for quality in QUALITIES:
        began = time.process_time()
        results = [restore(picture, quality) for picture in given]
        seconds = time.process_time() - began
        base = base or seconds
        errors = [result.clamp(-1, 1) - picture for result, picture in zip(results, clean, strict=True)]
        psnr = sum(float(10 * torch.log10(4 / error.square().mean())) for error in errors) / len(errors)
        grid = sum(folded(error, 2)[0] for error in errors) / len(errors)
        print(f"| {name} | {quality} | {psnr:.3f} | {grid:.3f} | {seconds / base:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="photos")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    cascade = load_cascade(arguments.model)
    clean = pictures(arguments.folder, arguments.crop)
    api.denoise(clean[0], 0.1, model=cascade)  # warm
    print("| task | quality | PSNR | grid 2 | processor time |\n|---|---|---|---|---|")
    for sigma in (15, 25, 50):
        generator = torch.Generator().manual_seed(0)
        noisy = [picture + 2 * sigma / 255 * torch.randn(picture.shape, generator=generator) for picture in clean]

        def denoise(picture: Tensor, quality: str, sigma: int = sigma) -> Tensor:
            return api.denoise(picture, sigma / 255, model=cascade, quality=quality)

        rows(f"noise {sigma}/255", clean, noisy, denoise)
    for factor in (2, 4):

        def enlarge(picture: Tensor, quality: str, factor: int = factor) -> Tensor:
            return api.upscale(picture, factor, model=cascade, quality=quality)

        for name, large in (("photographs", clean), ("ramp", [ramp(arguments.crop)])):
            small = [functional.avg_pool2d(picture[None], factor)[0] for picture in large]
            rows(f"x{factor}, {name}", large, small, enlarge)


if __name__ == "__main__":
    main()
