"""White noise cut off at black and white and rounded to 8 bits, as files have it, beside the same noise whole.

    python benchmarks/clipped.py [--model photos] [--size 192]

scikit-image's astronaut, coffee, chelsea and rocket, central crops, seed 1; mean PSNR in dB of results limited to the
range: of the noise whole; cut off, as it is; cut off and taken back, with sigma given and measured.
"""

from __future__ import annotations

import argparse

import skimage.data
import torch

import wavdiff
from wavdiff.evaluation.metrics.fidelity import psnr
from wavdiff.evaluation.photographs.reading import central

PICTURES = ("astronaut", "coffee", "chelsea", "rocket")
LEVELS = (15, 25, 50, 100)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="photos")
    parser.add_argument("--size", type=int, default=192)
    options = parser.parse_args()
    model, size = wavdiff.load(options.model), options.size
    print("| noise, of 255 | whole | cut off, --no-declip | cut off | cut off, measured |\n|---|---|---|---|---|")
    for level in LEVELS:
        sums = [0.0] * 4
        for name in PICTURES:
            clean = central(torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1), size) / 127.5 - 1
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
            noisy, sigma = clean + 2 * level / 255 * noise, level / 255
            cut = ((noisy.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
            results = (
                wavdiff.denoise(noisy, sigma, model=model),
                wavdiff.denoise(cut, sigma, model=model, declip=False),
                wavdiff.denoise(cut, sigma, model=model),
                wavdiff.denoise(cut, noise="white", model=model),
            )
            for place, result in enumerate(results):
                sums[place] += float(psnr(result[None], clean[None]))
        print(f"| {level} | " + " | ".join(f"{total / len(PICTURES):.2f}" for total in sums) + " |", flush=True)


if __name__ == "__main__":
    main()
