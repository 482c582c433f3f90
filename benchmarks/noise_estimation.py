"""How well the noise level is estimated: bias and spread over photographs, for white noise and for other kinds.

    python benchmarks/noise_estimation.py                      # scikit-image's photographs
    python benchmarks/noise_estimation.py --folder pictures/

For each level: the median, smallest and largest estimate (of 255), for comparison that of the median absolute
deviation of all finest HH coefficients (Donoho and Johnstone 1994), and how many pictures were called white. Pictures
are 8-bit after noise was added. "blurred", "enlarged" and "JPEG" are not white; the columns say what was found all
the same.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from wavdiff.images import load_image
from wavdiff.models import wavelets
from wavdiff.restoration.noise_estimation import estimate_noise_of

NAMES = ("astronaut", "coffee", "chelsea", "rocket")


def eight_bits(picture: Tensor) -> Tensor:
    return ((picture + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def normal(like: Tensor, seed: int) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def white(sigma: float) -> Callable[[Tensor, int], Tensor]:
    return lambda x, seed: eight_bits(x + 2 * sigma / 255 * normal(x, seed))


def blurred(x: Tensor, seed: int) -> Tensor:
    taps = torch.tensor([0.25, 0.5, 0.25])
    noise = normal(x, seed)[:, None]
    noise = functional.conv2d(noise, taps.view(1, 1, 1, 3), padding=(0, 1))
    noise = functional.conv2d(noise, taps.view(1, 1, 3, 1), padding=(1, 0))[:, 0]
    return eight_bits(x + 50 / 255 * noise / noise.std())


def enlarged(x: Tensor, seed: int) -> Tensor:
    half = functional.avg_pool2d(x, 2)
    half = half + 50 / 255 * normal(half, seed)
    return eight_bits(functional.interpolate(half[None], scale_factor=2, mode="bicubic")[0])


def jpeg(x: Tensor, seed: int) -> Tensor:
    array = ((white(25)(x, seed) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=50)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 127.5 - 1


def median_deviation(x: Tensor) -> float:
    height, width = (side // 2 * 2 for side in x.shape[1:])
    details = wavelets.split(x[None, :, :height, :width])[1][0, 2 * x.shape[0] :]
    return float(details.abs().median() / 0.6745)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.folder:
        pictures = [load_image(path).pixels for path in sorted(arguments.folder.iterdir()) if path.is_file()]
    else:
        pictures = [torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1) / 127.5 - 1 for name in NAMES]
    tasks: dict[str, Callable[[Tensor, int], Tensor]] = {
        f"white {s}": white(s) for s in (0, 1, 2, 5, 10, 15, 25, 50, 100)
    }
    tasks |= {"blurred 25": blurred, "enlarged 25": enlarged, "JPEG 50 of 25": jpeg}
    print(f"{len(pictures)} pictures")
    print("| noise | median | smallest | largest | MAD of HH | octaves, median | white |")
    print("|---|---|---|---|---|---|---|")
    for name, make in tasks.items():
        given = [make(picture, seed) for seed, picture in enumerate(pictures)]
        found = [estimate_noise_of(picture) for picture in given]
        levels = torch.tensor([255 * estimate.sigma for estimate in found])
        octaves = torch.tensor([estimate.octaves for estimate in found]).median(dim=0).values * 255
        plain = torch.tensor([255 * median_deviation(picture) for picture in given]).median()
        print(
            f"| {name} | {levels.median():.2f} | {levels.min():.2f} | {levels.max():.2f} | {plain:.2f} "
            f"| {', '.join(f'{level:.1f}' for level in octaves)} | {sum(estimate.white for estimate in found)} |"
        )


if __name__ == "__main__":
    main()
