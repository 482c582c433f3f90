"""The released networks here and in the authors' code: the largest differences, and what bfloat16 would cost.

    python benchmarks/published_agreement.py published_cascades

The folder holds the release (multi_scale/ and flat/) and reference.safetensors, inputs and outputs of the authors' code
on one picture. Differences are in units of pixels in [0, 1]. Means are computed in float32 always; the second table
computes the same networks in bfloat16, on that picture with seeded noise.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

from wavdiff.models.cascade.blind_denoisers import BlindDenoiser
from wavdiff.models.cascade.networks import FoldedNetwork
from wavdiff.models.cascade.published.importing import load_release
from wavdiff.models.cascade.published.release import find_release

SIGMAS = (3.2, 10, 30, 100, 194)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    reference = {name: 2 * value - 1 for name, value in load_file(folder / "reference.safetensors").items()}
    noisy, clean, level = reference["noisy"], reference["clean"], torch.tensor([2 * 30 / 255])
    sets = {
        "cascade 13x13": ("multi_scale/celebA_160x160_gray", 13),
        "cascade 9x9": ("multi_scale/celebA_160x160_gray", 9),
        "flat 13x13": ("flat/celebA_160x160_gray", 13),
        "flat 43x43": ("flat/celebA_160x160_gray", 43),
    }
    cascades = {name: load_release(find_release(folder / place, field)) for name, (place, field) in sets.items()}
    for size, image in zip((40, 80, 160), cascades["cascade 13x13"].denoise_walk(noisy, level), strict=True):
        difference = (image - reference[f"cascade_rf13_denoised_{size}"]).abs().max() / 2
        print(f"cascade 13x13, {size}x{size}: {float(difference):.1e}")
    for field in (13, 43):
        residual = noisy - cascades[f"flat {field}x{field}"].denoise(noisy, level).mean
        difference = (residual - reference[f"flat_rf{field}_residual"] - 1).abs().max() / 2
        print(f"flat {field}x{field}: {float(difference):.1e}")

    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    for name, cascade in cascades.items():
        row = []
        for sigma in SIGMAS:
            level = torch.tensor([2 * sigma / 255])
            decibels = []
            for dtype in (torch.float32, torch.bfloat16):
                BlindDenoiser._folded = lambda self, dtype=dtype: FoldedNetwork(  # type: ignore[method-assign]
                    self.network, torch.zeros(1), dtype=dtype
                )
                error = (cascade.denoise(clean + level * noise, level).mean - clean).square().mean() / 4
                decibels.append(float(-10 * torch.log10(error)))
            row.append(f"{sigma:g}: {decibels[0]:.2f} {decibels[1] - decibels[0]:+.2f}")
        print(f"{name}, dB in float32 and change in bfloat16, by noise of 255: {', '.join(row)}")


if __name__ == "__main__":
    main()
