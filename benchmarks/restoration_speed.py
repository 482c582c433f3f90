"""How fast pictures are denoised, where the time goes, how it grows, and what memory it takes.

    python benchmarks/restoration_speed.py --megapixels 1,10,100 --out runs/restoration_speed.json
    python benchmarks/restoration_speed.py --megapixels 1 --convolutions direct,winograd

For every size: seconds per megapixel of `denoise_tiled` in memory and, where asked for, of the whole command on a
PNG file with its peak resident memory; the rate of the networks beside that of a bare stack of the same convolutions on
tiles of the same shape, in the same run; the part of the time that is not network. Several kinds of convolutions (see
WAVDIFF_CONVOLUTION) take turns. The picture is a mosaic of scikit-image's photographs with noise of 25/255, so that
files do not compress away.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image
from torch import nn

from wavdiff.images.rectangle import Rectangle
from wavdiff.models.cascade.networks import FoldedNetwork
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.restoration.tiled import TiledCanvas, denoise_tiled
from wavdiff.system.allocator import keep_freed_memory
from wavdiff.system.devices import CONVOLUTION

SIGMA = 25 / 255


def noisy_mosaic(megapixels: float) -> np.ndarray:
    """uint8 (H, W, 3) of about so many million pixels, sides not multiples of anything."""
    side = int((megapixels * 1e6) ** 0.5)
    photographs = [np.asarray(make()) for make in (skimage.data.astronaut, skimage.data.coffee, skimage.data.chelsea)]
    photographs = [photograph[:300, :400] for photograph in photographs]
    picture = np.empty((side, side, 3), dtype=np.uint8)
    generator = np.random.default_rng(0)
    for row, top in enumerate(range(0, side, 300)):
        for column, left in enumerate(range(0, side, 400)):
            part = photographs[(row + column) % 3][: side - top, : side - left].astype(np.float32)
            part += 255 * SIGMA * generator.standard_normal(part.shape, dtype=np.float32)
            picture[top : top + 300, left : left + 400] = part.round().clip(0, 255)
    return picture


class NetworkClock:
    """Counts calls, seconds and shapes of every folded network while it is entered."""

    def __enter__(self) -> NetworkClock:
        self.seconds, self.shapes = 0.0, Counter[tuple[int, ...]]()
        self.stacks: dict[tuple[int, ...], FoldedNetwork] = {}
        self.forward = FoldedNetwork.forward
        clock = self

        def timed(network: FoldedNetwork, x: torch.Tensor, levels: torch.Tensor | None = None) -> torch.Tensor:
            start = time.perf_counter()
            result = clock.forward(network, x, levels)
            clock.seconds += time.perf_counter() - start
            key = (network.direct.layers[1][0].shape[0], *x.shape)
            clock.shapes[key] += 1
            clock.stacks[key] = network
            return result

        FoldedNetwork.forward = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        FoldedNetwork.forward = self.forward  # type: ignore[method-assign]

    def flops(self) -> float:
        """Operations (two per multiply-add) of all calls."""
        total = 0.0
        for key, calls in self.shapes.items():
            weights = sum(weight.numel() for weight, *_ in self.stacks[key].direct.layers)
            total += 2.0 * weights * key[1] * key[-2] * key[-1] * calls
        return total


@torch.inference_mode()
def bare_rate(clock: NetworkClock) -> float:
    """FLOP/s of plain stacks of the same convolutions, nothing between them, weighted as in the walk."""
    seconds = operations = 0.0
    for key, calls in clock.shapes.items():
        layers = clock.stacks[key].direct.layers
        stack = nn.Sequential(
            *(nn.Conv2d(*w.shape[1::-1], w.shape[2], padding=w.shape[2] // 2, dtype=w.dtype) for w, _ in layers)
        ).to(memory_format=torch.channels_last)
        x = torch.randn(*key[1:]).to(layers[0][0].dtype).contiguous(memory_format=torch.channels_last)
        stack(x)
        best = min(_seconds(lambda s=stack, i=x: s(i)) for _ in range(3))
        seconds += calls * best
        weights = sum(weight.numel() for weight, *_ in layers)
        operations += 2.0 * weights * key[1] * key[-2] * key[-1] * calls
    return operations / seconds


def _seconds(call) -> float:  # type: ignore[no-untyped-def]
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def walk(model: str, megapixels: float, repeats: int, convolutions: list[str]) -> dict[str, dict[str, float]]:
    """What is measured in memory, of every kind of convolution."""
    cascade = load_cascade(model)
    pixels = torch.from_numpy(noisy_mosaic(megapixels)).permute(2, 0, 1)
    result = torch.empty_like(pixels)

    def read(where: Rectangle) -> torch.Tensor:
        return where.of(pixels).float().mul_(2 / 255).sub_(1)

    def write(where: Rectangle, values: torch.Tensor) -> None:
        where.of(result).copy_(values.add(1).mul_(127.5).round_().clamp_(0, 255))

    size = (pixels.shape[1], pixels.shape[2])
    levels = [2 * SIGMA] * (cascade.levels + 1)
    best: dict[str, dict[str, float]] = {}
    for _ in range(repeats):
        for convolution in convolutions:
            os.environ[CONVOLUTION] = convolution
            with NetworkClock() as clock:
                start = time.perf_counter()
                denoise_tiled(TiledCanvas(cascade, 3), read, size, levels, write)
                seconds = time.perf_counter() - start
            if convolution not in best or seconds < best[convolution]["seconds"]:
                best[convolution] = {
                    "megapixels": size[0] * size[1] / 1e6,
                    "seconds": seconds,
                    "seconds_per_megapixel": seconds / (size[0] * size[1] / 1e6),
                    "network_gflops": clock.flops() / clock.seconds / 1e9,
                    "network_seconds": clock.seconds,
                    "outside_networks": 1 - clock.seconds / seconds,
                }
    bare = bare_rate(clock) / 1e9
    for row in best.values():
        row |= {"bare_gflops": bare, "network_of_bare": row["network_gflops"] / bare}
    return best


def command(model: str, megapixels: float, folder: Path) -> dict[str, float]:
    source = folder / f"{megapixels:g}.png"
    target = folder / f"{megapixels:g}_clean.png"
    picture = noisy_mosaic(megapixels)
    Image.fromarray(picture).save(source, compress_level=1)
    script = (
        "import sys; from wavdiff.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: status = open('/proc/self/status').read(); "
        "print(status.split('VmHWM:')[1].split()[0], file=sys.stderr)"
    )
    arguments = ["denoise", str(source), "--sigma", "25/255", "--model", model, "-o", str(target)]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    peak = int(done.stderr.split()[-1]) / 1024
    bytes_in = source.stat().st_size
    for path in (source, target):
        path.unlink()
    return {
        "command_seconds": seconds,
        "command_seconds_per_megapixel": seconds / (picture.shape[0] * picture.shape[1] / 1e6),
        "peak_resident_mib": peak,
        "file_mib": bytes_in / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="photos")
    parser.add_argument("--megapixels", default="1,10", help="sizes, such as 1,10,100")
    parser.add_argument("--files", action="store_true", help="the whole command on a PNG file as well")
    parser.add_argument("--repeats", type=int, default=3, help="of sizes up to 10 megapixels; the fastest counts")
    parser.add_argument("--out", type=Path, help="a JSON file")
    parser.add_argument("--convolutions", default="auto", help="kinds, such as direct,winograd")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command does
    rows: list[dict[str, object]] = []
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for megapixels in (float(part) for part in arguments.megapixels.split(",")):
        repeats = arguments.repeats if megapixels <= 10 else 1
        for convolution, row in walk(arguments.model, megapixels, repeats, arguments.convolutions.split(",")).items():
            if arguments.files:
                os.environ[CONVOLUTION] = convolution
                with tempfile.TemporaryDirectory() as folder:
                    row.update(command(arguments.model, megapixels, Path(folder)))
            rows.append({"convolution": convolution, **row})
            print(convolution, "  ".join(f"{name} {value:.3g}" for name, value in row.items()), flush=True)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        machine = {"threads": torch.get_num_threads(), "torch": torch.__version__, "cores": os.cpu_count()}
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak resident memory of this process: {own:.0f} MiB")


if __name__ == "__main__":
    main()
