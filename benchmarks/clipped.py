"""White noise cut off at black and white and rounded to 8 bits, as files have it, beside the same noise whole.

    python benchmarks/clipped.py [--model photos] [--size 192]
    python benchmarks/clipped.py --model faces --people

scikit-image's astronaut, coffee, chelsea and rocket, central crops, or the 40 photographs of people whom `faces` never
saw, 64x64; seed 1. Mean PSNR in dB of results limited to the range: of the noise whole; cut off, as it is; cut off and
taken back, with sigma given and measured; of BM3D on the same files, given sigma.
"""

from __future__ import annotations

import argparse

import skimage.data
import torch

import wavdiff
from wavdiff.data import heldout_batch, open_source
from wavdiff.evaluation.metrics.bm3d import bm3d_denoise
from wavdiff.evaluation.metrics.fidelity import psnr
from wavdiff.evaluation.photographs.reading import central

PICTURES = ("astronaut", "coffee", "chelsea", "rocket")
LEVELS = (15, 25, 50, 100)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="photos")
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--people", action="store_true", help="the faces that were held out")
    options = parser.parse_args()
    model = wavdiff.load(options.model)
    if options.people:
        pictures = list(heldout_batch(open_source("faces", "heldout"), (64, 64), crop=92))
    else:
        photographs = (torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1) for name in PICTURES)
        pictures = [central(photograph, options.size) / 127.5 - 1 for photograph in photographs]
    print("| noise, of 255 | whole | cut off, --no-declip | cut off | cut off, measured | BM3D, cut off |")
    print("|---|---|---|---|---|---|")
    for level in LEVELS:
        sums = [0.0] * 5
        for clean in pictures:
            noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
            noisy, sigma = clean + 2 * level / 255 * noise, level / 255
            cut = ((noisy.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
            results = (
                wavdiff.denoise(noisy, sigma, model=model),
                wavdiff.denoise(cut, sigma, model=model, declip=False),
                wavdiff.denoise(cut, sigma, model=model),
                wavdiff.denoise(cut, noise="white", model=model),
                bm3d_denoise(cut[None], sigma)[0],
            )
            for place, result in enumerate(results):
                sums[place] += float(psnr(result[None], clean[None]))
        print(f"| {level} | " + " | ".join(f"{total / len(pictures):.2f}" for total in sums) + " |", flush=True)


if __name__ == "__main__":
    main()
