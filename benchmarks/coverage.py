"""Do intervals of posterior draws hold the truth as often as they say, and are draws as far from it as they should be?

    python benchmarks/coverage.py --draws 16 --sigmas 15,25,50 --factors 2,4

On the centres of scikit-image's photographs (or of the pictures of a folder), for denoising and for enlarging: the
part of pixels, and of wavelet coefficients of every octave, that lie in the interval of the stated probability made
of N draws. 90 % is calibrated; less says that draws are too alike (or off), more that they vary too much. Beside it
PSNR minus that of mean mode (see `wavdiff.evaluation.photographs.calibration`), averaged over the pictures.

`--noise-scale 1,1.025 --steps 16,24` measures each: a model's schedule of draws is chosen on validation pictures so.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
from pathlib import Path
from typing import Any

import skimage.data
import torch
from torch import Tensor

from wavdiff import api
from wavdiff.evaluation.photographs.calibration import expected_gaps, measure_draws
from wavdiff.evaluation.photographs.reading import central, find_photographs
from wavdiff.images import load_image
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.models.random_numbers import derive_generator
from wavdiff.restoration.posterior import coverage

NAMES = ("astronaut", "coffee", "chelsea", "rocket")


def pictures(folder: Path | None, crop: int) -> dict[str, Tensor]:
    """Centres (3, crop, crop) in [-1, 1]."""
    if folder is None:
        found = {name: torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1) / 127.5 - 1 for name in NAMES}
    else:
        found = {name: load_image(path).pixels for name, path in find_photographs(folder).items()}
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
    for option in ("--solver", "--noise-scale", "--steps"):
        parser.add_argument(option, default="", help="of draws, separated by commas; default the model's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON file")
    arguments = parser.parse_args()
    cascade = load_cascade(arguments.model)
    given_settings = (("solver", str), ("noise_scale", float), ("steps", int))
    settings = [
        [(name, kind(part)) for part in getattr(arguments, name).split(",") if part] for name, kind in given_settings
    ]
    changes = [dict(each) for each in itertools.product(*(values for values in settings if values))]
    tasks = [
        (verb, int(part), changed)
        for verb, amounts in (("denoise", arguments.sigmas), ("upscale", arguments.factors))
        for part in amounts.split(",")
        if part
        for changed in changes
    ]
    ladders = dict(cascade.config["ladders"] or {})
    table: dict[str, dict[str, float]] = {}
    exact = expected_gaps(arguments.draws)
    print(
        f"exact: {arguments.probability:.3f}; " + ", ".join(f"{name} {value:.2f} dB" for name, value in exact.items())
    )
    for verb, amount, changed in tasks:
        name = "posterior" if verb == "denoise" else "details"
        cascade.register_to_config(ladders={**ladders, name: {**ladders.get(name, {}), **changed}})
        rows = []
        for name, clean in pictures(arguments.folder, arguments.crop).items():
            if verb == "denoise":
                generator = derive_generator(arguments.seed, name, amount)
                given = clean + 2 * amount / 255 * torch.randn(clean.shape, generator=generator)
                restore = functools.partial(api.denoise, sigma=amount / 255, model=cascade)
            else:
                given = torch.nn.functional.avg_pool2d(clean[None], amount)[0]
                restore = functools.partial(api.upscale, factor=amount, model=cascade)
            draws: list[Tensor] = []

            def draw(small: Tensor, seed: int, restore: Any = restore, draws: list[Tensor] = draws) -> Tensor:
                draws.append(restore(small[0], mode="sample", seed=seed))
                return draws[-1][None]

            purpose = (arguments.seed, name, amount)
            gaps, _ = measure_draws(draw, given[None], restore(given)[None], clean[None], arguments.draws, purpose)
            octaves = 3 if verb == "denoise" else amount.bit_length() - 1
            rows.append({**coverage(clean, torch.stack(draws), arguments.probability, octaves), **gaps})
        key = f"{verb} {amount}/255" if verb == "denoise" else f"{verb} x{amount}"
        key += "".join(f" {name}={value}" for name, value in changed.items())
        table[key] = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        print(f"{key}: " + "  ".join(f"{name} {value:.3f}" for name, value in table[key].items()), flush=True)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        used = {key: str(value) for key, value in vars(arguments).items()}
        arguments.out.write_text(json.dumps({"settings": used, "coverage": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
