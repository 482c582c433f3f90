"""Do intervals of posterior draws hold the truth as often as they say?

    python benchmarks/coverage.py --draws 16 --sigmas 15,25,50 --factors 2,4

On the centres of scikit-image's photographs (or of the pictures of a folder), for denoising and for enlarging: the
part of pixels, and of wavelet coefficients of every octave, that lie in the interval of the stated probability made
of N draws. 90 % is calibrated; less says that draws are too alike (or off), more that they vary too much.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import skimage.data
import torch
from torch import Tensor

from wavdiff import api
from wavdiff.evaluation.photographs.reading import central
from wavdiff.images import load_image
from wavdiff.models.cascade.random_numbers import derive_generator
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.restoration.posterior import coverage

NAMES = ("astronaut", "coffee", "chelsea", "rocket")


def pictures(folder: Path | None, crop: int) -> dict[str, Tensor]:
    """Centres (3, crop, crop) in [-1, 1]."""
    if folder is None:
        found = {name: torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1) / 127.5 - 1 for name in NAMES}
    else:
        found = {path.name: load_image(path).pixels for path in sorted(folder.iterdir()) if path.is_file()}
    return {name: central(x, crop) for name, x in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="photos")
    parser.add_argument("--folder", type=Path, help="clean pictures; default: four of scikit-image")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--probability", type=float, default=0.9)
    parser.add_argument("--sigmas", default="15,25,50", help="of 255")
    parser.add_argument("--factors", default="2,4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON file")
    arguments = parser.parse_args()
    cascade = load_cascade(arguments.model)
    tasks = [("denoise", int(part)) for part in arguments.sigmas.split(",") if part]
    tasks += [("upscale", int(part)) for part in arguments.factors.split(",") if part]
    table: dict[str, dict[str, float]] = {}
    for verb, amount in tasks:
        rows = []
        for name, clean in pictures(arguments.folder, arguments.crop).items():
            if verb == "denoise":
                generator = derive_generator(arguments.seed, name, amount)
                given = clean + 2 * amount / 255 * torch.randn(clean.shape, generator=generator)
                draws = [
                    api.denoise(given, amount / 255, model=cascade, mode="sample", seed=1000 * arguments.seed + k)
                    for k in range(arguments.draws)
                ]
            else:
                given = torch.nn.functional.avg_pool2d(clean[None], amount)[0]
                draws = [
                    api.upscale(given, amount, model=cascade, mode="sample", seed=1000 * arguments.seed + k)
                    for k in range(arguments.draws)
                ]
            octaves = 3 if verb == "denoise" else amount.bit_length() - 1
            rows.append(coverage(clean, torch.stack(draws), arguments.probability, octaves))
        key = f"{verb} {amount}/255" if verb == "denoise" else f"{verb} x{amount}"
        table[key] = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        print(f"{key}: " + "  ".join(f"{name} {value:.3f}" for name, value in table[key].items()), flush=True)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        settings = {key: str(value) for key, value in vars(arguments).items()}
        arguments.out.write_text(json.dumps({"settings": settings, "coverage": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
