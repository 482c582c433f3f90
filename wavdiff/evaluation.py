"""`wavdiff evaluate`: held-out numbers of cascades beside references, as JSON, Markdown and pictures.

Denoising: PSNR and SSIM on held-out images with seeded noise, beside BM3D. Enlarging: from block means, beside
bicubic. Samples: KID-EffLite0 against the training and the held-out images, beside those two against each other, and
the distance of every sample to its nearest training image, beside the same for held-out images: what a model that
copies gives away. All models and references see the same images and the same noise.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff import __version__, api, metrics
from wavdiff.cascade import WaveletCascade
from wavdiff.config import DataConfig, ModelConfig, RunConfig, from_mapping
from wavdiff.data import heldout_batch
from wavdiff.errors import WavdiffError
from wavdiff.images import image_grid, resize, save_image
from wavdiff.pipeline import find_model, training_configuration
from wavdiff.training.setup import example_settings, open_data

Say = Callable[[str], None]
BATCH = 50
NEIGHBOURS = 16
KID_LEAST = 4  # images in each set: two blocks of two for the standard error
KID_BLOCKS = 10
CHOOSE_SEED = 12345
CARD_MARK = "<!-- written by wavdiff evaluate --update-card -->"


@dataclass(frozen=True)
class EvaluationRequest:
    """What to measure. `models`: the first one is the subject, the others stand beside it; `sigmas` in [0, 1] units."""

    models: tuple[str, ...]
    data: str | None = None
    data_dir: Path | None = None
    sigmas: tuple[float, ...] = (10 / 255, 25 / 255, 50 / 255, 100 / 255)
    factors: tuple[int, ...] = (2, 4)
    limit: int = 100
    kid_samples: int = 0
    bm3d: bool = True
    seed: int = 0
    update_card: bool = False

    def __post_init__(self) -> None:
        for sigma in self.sigmas:
            if not api.check_sigma(sigma, "--sigmas"):
                raise WavdiffError("--sigmas must be above 0, got 0")
        if self.limit < 1:
            raise WavdiffError(f"--limit must be at least 1, got {self.limit}")
        if self.kid_samples and self.kid_samples < KID_LEAST:
            raise WavdiffError(f"--kid must be 0 (none) or at least {KID_LEAST}, got {self.kid_samples}")


def _configuration(request: EvaluationRequest, cascade: WaveletCascade) -> RunConfig:
    """The data settings: the model's own, or plain ones for another source."""
    own = training_configuration(find_model(request.models[0]))
    model = ModelConfig(image_size=cascade.image_size, channels=cascade.channels, levels=cascade.levels)
    if own is not None:
        config = from_mapping(own)
        if request.data in (None, config.data.name):
            folder = str(request.data_dir) if request.data_dir else config.data.data_dir
            mapping = {**own, "data": {**own["data"], "data_dir": folder}}
            return from_mapping(mapping)
    if request.data is None:
        raise WavdiffError(f"--data is needed: model {request.models[0]} does not say what it was trained on")
    crop = {"faces": 92}.get(request.data)
    data = DataConfig(
        name=request.data,
        data_dir=str(request.data_dir) if request.data_dir else None,
        crop=crop,
        pad=request.data == "fashion-mnist",
    )
    return RunConfig(model=model, data=data)


def _scores(estimate: Tensor, reference: Tensor) -> dict[str, float]:
    estimate = estimate.clamp(-1, 1)
    return {
        "psnr": round(float(metrics.psnr(estimate, reference).mean()), 3),
        "ssim": round(float(metrics.ssim(estimate, reference).mean()), 4),
    }


def _in_batches(function: Callable[[Tensor, int], Tensor], images: Tensor) -> Tensor:
    """`function(part, start)` over parts of the images that begin at image `start`."""
    return torch.cat([function(images[start : start + BATCH], start) for start in range(0, len(images), BATCH)])


def measure_denoising(
    cascades: dict[str, WaveletCascade], images: Tensor, sigmas: tuple[float, ...], *, bm3d: bool, seed: int, say: Say
) -> dict[str, dict[str, dict[str, float]]]:
    """{"sigma": {"noisy" | "BM3D" | model: {"psnr", "ssim"}}}, noise of one seed per image."""
    noise = torch.stack(
        [torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed + k)) for k in range(len(images))]
    )
    results: dict[str, dict[str, dict[str, float]]] = {}
    for sigma in sigmas:
        noisy = images + 2 * sigma * noise
        row = {"noisy": _scores(noisy, images)}
        if bm3d:
            row["BM3D"] = _scores(metrics.bm3d_denoise(noisy, sigma), images)
        for name, cascade in cascades.items():
            clean = _in_batches(lambda part, _, c=cascade, s=sigma: api.denoise(c, part, s), noisy)  # type: ignore[misc]
            row[name] = _scores(clean, images)
        results[f"{sigma * 255:g}/255"] = row
        say(f"denoise {sigma * 255:g}/255: " + ", ".join(f"{name} {value['psnr']:.2f}" for name, value in row.items()))
    return results


def measure_upscaling(
    cascades: dict[str, WaveletCascade], images: Tensor, factors: tuple[int, ...], *, seed: int, say: Say
) -> dict[str, dict[str, dict[str, float]]]:
    """{"x2": {"bicubic" | model (mean) | model (sample): {"psnr", "ssim"}}}, from block means."""
    results: dict[str, dict[str, dict[str, float]]] = {}
    height, width = images.shape[-2:]
    for factor in factors:
        if factor < 1 or height % factor or width % factor:
            raise WavdiffError(f"--factors: {factor} does not divide the images' {height}x{width}")
        small = functional.avg_pool2d(images, factor)
        row = {"bicubic": _scores(resize(small, (height, width), "bicubic"), images)}
        for name, cascade in cascades.items():
            if factor > 2**cascade.levels:
                continue
            large = _in_batches(lambda part, _, c=cascade, f=factor: api.upscale(c, part, f), small)  # type: ignore[misc]
            row[f"{name} (mean)"] = _scores(large, images)
            drawn = _in_batches(
                lambda part, start, c=cascade, f=factor: api.upscale(  # type: ignore[misc]
                    c, part, f, mode="sample", seed=seed + start
                ),
                small,
            )
            row[f"{name} (sample)"] = _scores(drawn, images)
        results[f"x{factor}"] = row
        say(f"upscale x{factor}: " + ", ".join(f"{name} {value['psnr']:.2f}" for name, value in row.items()))
    return results


def measure_samples(
    cascades: dict[str, WaveletCascade], config: RunConfig, count: int, seed: int, out: Path, say: Say
) -> dict[str, Any]:
    """KID-EffLite0 with jackknife standard errors, and distances to the nearest training image."""
    train_source, held_source = open_data(config)
    settings = example_settings(config)
    held = heldout_batch(held_source, **settings)
    chosen = torch.randperm(len(train_source), generator=torch.Generator().manual_seed(CHOOSE_SEED))
    reference_count = min(len(train_source), max(count, 1000))
    train = _chosen(train_source, chosen[:reference_count].tolist(), settings)
    extractor = metrics.FeatureExtractor()
    train_features, held_features = extractor(train), extractor(held)
    floor, error = _kid(train_features, held_features)
    results: dict[str, Any] = {
        "training images": len(train),
        "held-out images": len(held),
        "held-out against training": {"kid": round(floor, 5), "standard_error": round(error, 5)},
    }
    say(f"KID-EffLite0 held-out against training: {floor:.4f} ± {error:.4f}")
    mirrored = config.data.augmentation.flip
    for name, cascade in cascades.items():
        started = time.perf_counter()
        images = api.sample(cascade, count, seed)
        seconds = time.perf_counter() - started
        features = extractor(images)
        row: dict[str, Any] = {"samples": count, "seed": seed, "seconds_to_draw": round(seconds, 1)}
        for label, other in (("training", train_features), ("held-out", held_features)):
            value, error = _kid(features, other)
            row[f"against {label}"] = {"kid": round(value, 5), "standard_error": round(error, 5)}
            say(f"KID-EffLite0 {name}, {count} samples against {label}: {value:.4f} ± {error:.4f}")
        part = images[:1000]
        distances, nearest = metrics.nearest_training_distances(part, train)
        held_distances, _ = metrics.nearest_training_distances(held[:1000], train)
        row["distance to the nearest training image"] = {"samples": _quantiles(distances)}
        row["distance to the nearest training image"]["held-out images"] = _quantiles(held_distances)
        row["mirrored training images counted"] = True if mirrored else "yes, though training did not mirror"
        pairs = torch.stack([part[:NEIGHBOURS], train[nearest[:NEIGHBOURS]]], dim=1).flatten(0, 1)
        save_image(out / f"neighbours-{_file_name(name)}.png", image_grid(pairs, columns=8))
        save_image(out / f"samples-{_file_name(name)}.png", image_grid(images[:64], columns=8))
        results[name] = row
    return results


def _kid(one: Tensor, other: Tensor) -> tuple[float, float]:
    """KID and its standard error; small sets are cut into fewer blocks."""
    return metrics.kid_and_standard_error(one, other, min(KID_BLOCKS, len(one) // 2, len(other) // 2))


def _chosen(source: Any, indices: list[int], settings: dict[str, Any]) -> Tensor:
    from wavdiff.data import ExampleDataset

    dataset = ExampleDataset(source, **settings)
    return torch.stack([dataset[(index, 0, 0.0)] for index in indices])


def _quantiles(distances: Tensor) -> dict[str, float]:
    values = torch.quantile(distances.double(), torch.tensor([0.0, 0.1, 0.5, 0.9], dtype=torch.float64))
    return {
        name: round(float(value), 4) for name, value in zip(("minimum", "10 %", "median", "90 %"), values, strict=True)
    }


def _file_name(model: str) -> str:
    return Path(model).name.replace(" ", "-") or "model"


def _table(title: str, rows: dict[str, dict[str, dict[str, float]]]) -> str:
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [f"## {title}", "", "| | " + " | ".join(rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for name in names:
        cells = [f"{row[name]['psnr']:.2f} / {row[name]['ssim']:.3f}" if name in row else "–" for row in rows.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _plot(rows: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    try:
        import matplotlib
    except ImportError as error:
        raise WavdiffError('plots need matplotlib: pip install "wavdiff[evaluation]"') from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    levels = [float(key.split("/")[0]) for key in rows]
    for name in next(iter(rows.values())):
        gains = [row[name]["psnr"] - row.get("BM3D", row["noisy"])["psnr"] for row in rows.values()]
        if name != "noisy":
            axes.plot(levels, gains, marker="o", label=name)
    axes.set_xscale("log")
    axes.set_xticks(levels, [f"{level:g}" for level in levels])
    reference = "BM3D" if "BM3D" in next(iter(rows.values())) else "the noisy image"
    axes.set(xlabel="noise level (of 255)", ylabel=f"PSNR above {reference} (dB)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def run_evaluation(request: EvaluationRequest, out: Path, say: Say = lambda text: None) -> str:
    """Measure, write `evaluation.json`, `evaluation.md` and pictures into `out`, and return the Markdown."""
    cascades = {name: api.load(name) for name in request.models}
    config = _configuration(request, cascades[request.models[0]])
    train_source, held_source = open_data(config)
    if request.kid_samples and min(len(train_source), len(held_source)) < KID_LEAST:
        raise WavdiffError(
            f"--kid needs at least {KID_LEAST} training and {KID_LEAST} held-out images, but {config.data.name} has "
            f"{len(train_source)} and {len(held_source)}"
        )
    images = heldout_batch(held_source, **example_settings(config), limit=request.limit)
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "request": {**asdict(request), "data_dir": None, "data": config.data.name},
        "images": {"source": config.data.name, "held-out": len(images), "size": list(images.shape[1:])},
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {"wavdiff": __version__, "torch": torch.__version__},
        "multiply_adds_per_pixel": {name: round(c.multiply_adds_per_pixel()) for name, c in cascades.items()},
    }
    shape = "x".join(str(side) for side in images.shape[-2:])
    texts = [f"# {', '.join(request.models)} on {len(images)} held-out images of {config.data.name}, {shape}", ""]
    texts.append("PSNR in dB / SSIM. Multiply-adds per pixel: " + str(results["multiply_adds_per_pixel"]) + ".\n")
    if request.sigmas:
        rows = measure_denoising(cascades, images, request.sigmas, bm3d=request.bm3d, seed=request.seed, say=say)
        results["denoise"] = rows
        texts += [_table("Denoising, by noise level", rows), ""]
        _plot(rows, out / "denoising.png")
    if request.factors:
        rows = measure_upscaling(cascades, images, request.factors, seed=request.seed, say=say)
        results["upscale"] = rows
        texts += [_table("Enlarging from block means", rows), ""]
    if request.kid_samples:
        samples = measure_samples(
            {request.models[0]: cascades[request.models[0]]}, config, request.kid_samples, request.seed, out, say
        )
        results["samples"] = samples
        texts += ["## Samples", "", "```json", json.dumps(samples, indent=1), "```", ""]
    text = "\n".join(texts)
    (out / "evaluation.json").write_text(json.dumps(results, indent=1, default=str) + "\n", encoding="utf-8")
    (out / "evaluation.md").write_text(text, encoding="utf-8")
    if request.update_card:
        _update_card(find_model(request.models[0]), text, out)
    return text


def _update_card(model: Path, text: str, out: Path) -> None:
    """Put the report into the model's card, in place of an earlier one, and the neighbours beside it."""
    card = model / "README.md"
    before = card.read_text(encoding="utf-8").split(CARD_MARK)[0].rstrip() if card.is_file() else ""
    body = text.split("\n", 1)[1].strip()
    neighbours = list(out.glob("neighbours-*.png"))
    if neighbours:
        shutil.copyfile(neighbours[0], model / "neighbours.png")
        body += "\n\nSamples, each with its nearest training photograph on its right:\n\n![neighbours](neighbours.png)"
    card.write_text(f"{before}\n\n{CARD_MARK}\n# Evaluation\n\n{body}\n", encoding="utf-8")
