"""Noise as files have it: what `wavdiff denoise FILE` makes of it, beside the best level that could have been given.

    python benchmarks/real_pictures.py

Cases of scikit-image's coffee, astronaut and chelsea, 192x192, with bars, cut-off values, photon noise, compression,
impulses and rows, of seed 0, each written to a file and restored without a level and with 13 given ones. PSNR in dB of
the result; the best given level is what someone who knew the original could choose. The time is that of all cases.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from wavdiff.models.cascade.saved import load_cascade
from wavdiff.restoration.file import restore_file
from wavdiff.restoration.request import RestorationRequest
from wavdiff.system.errors import WavdiffError

SIDE = 192
LEVELS = (2, 3, 5, 7, 10, 13, 16, 20, 25, 32, 40, 50, 64)  # of 255
Case = tuple[str, np.ndarray, np.ndarray, int | None]  # name, original in [0, 1], values in [0, 1], JPEG quality


def photograph(name: str) -> np.ndarray:
    pixels = getattr(skimage.data, name)() / 255
    top, left = ((side - SIDE) // 2 for side in pixels.shape[:2])
    return pixels[top : top + SIDE, left : left + SIDE]


def cases() -> Iterator[Case]:
    random = np.random.default_rng(0)
    coffee, astronaut, chelsea = (photograph(name) for name in ("coffee", "astronaut", "chelsea"))

    def white(clean: np.ndarray, level: float) -> np.ndarray:
        return clean + level / 255 * random.standard_normal(clean.shape)

    def photons(clean: np.ndarray, peak: float) -> np.ndarray:
        return random.poisson(peak * clean) / peak

    yield "white 15", coffee, white(coffee, 15), None
    yield "white 50", astronaut, white(astronaut, 50), None
    bars, barred = white(chelsea, 20), chelsea.copy()
    for edge in (slice(0, 32), slice(SIDE - 32, SIDE)):
        bars[edge] = barred[edge] = 0
    yield "black bars, white 20", barred, bars, None
    yield "dark, white 20", coffee / 8, white(coffee / 8, 20), None
    yield "bright, white 20", np.clip(1.6 * coffee, 0, 1), white(np.clip(1.6 * coffee, 0, 1), 20), None
    for peak in (30, 100, 300):
        yield f"photons, {peak} at white", coffee, photons(coffee, peak), None
    yield "camera: photons 200, read 3", astronaut, white(photons(astronaut, 200), 3), None
    for quality in (95, 75):
        yield f"white 20, JPEG {quality}", astronaut, white(astronaut, 20), quality
    ramp = np.linspace(0.2, 0.8, SIDE)[:, None, None] * np.ones((1, SIDE, 3))
    yield "slope, white 3", ramp, white(ramp, 3), None
    for share in (0.01, 0.05):
        hit, values = random.random((SIDE, SIDE)), white(coffee, 10)
        values[hit < share / 2], values[hit > 1 - share / 2] = 0, 1
        yield f"white 10, impulses {100 * share:.0f} %", coffee, values, None
    yield "rows 15", coffee, coffee + 15 / 255 * random.standard_normal((SIDE, 1, 1)), None


def psnr(path: Path, clean: np.ndarray) -> float:
    error = np.asarray(Image.open(path).convert("RGB")) / 255 - clean
    return float(-10 * np.log10((error**2).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="photos")
    cascade = load_cascade(parser.parse_args().model)
    print(
        "| case | noisy | measured | best given | measured - given | given level, of 255 |\n|---|---|---|---|---|---|"
    )
    seconds = [0.0, 0.0]
    with tempfile.TemporaryDirectory() as name:
        target = Path(name) / "result.png"

        def restored(source: Path, clean: np.ndarray, sigma: float | None) -> float:
            request = RestorationRequest("denoise", sigma=sigma, impulses=None if sigma is None else False)
            began = time.process_time()
            try:
                restore_file(cascade, source, target, request, overwrite=True)
            except WavdiffError:  # what cannot be measured stays as it is
                return psnr(source, clean)
            seconds[sigma is not None] += time.process_time() - began
            return psnr(target, clean)

        for case, clean, values, quality in cases():
            source = Path(name) / ("noisy.png" if quality is None else "noisy.jpg")
            pixels = Image.fromarray((255 * np.clip(values, 0, 1)).round().astype(np.uint8))
            pixels.save(source, **({} if quality is None else {"quality": quality}))
            restored(source, clean, 10 / 255)  # the networks' folded forms are made once for a level
            seconds[1] = seconds[1] if case != "white 15" else 0.0
            found = restored(source, clean, None)
            given = {level: restored(source, clean, level / 255) for level in LEVELS}
            best = max(given, key=lambda level: given[level])
            row = (psnr(source, clean), found, given[best])
            print(f"| {case} | {' | '.join(f'{value:.2f}' for value in row)} | {found - given[best]:+.2f} | {best} |")
    count = len(list(cases()))
    each = seconds[1] / (count * (len(LEVELS) + 1) - 1)
    found = seconds[0] / count
    print(f"\nProcessor time: measured {found:.2f} s a picture, given {each:.2f} s: {found / each:.2f}")


if __name__ == "__main__":
    main()
