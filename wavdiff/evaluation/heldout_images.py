"""Held-out images of a source of training images, at the size of training: denoising, enlarging, samples."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff import __version__, api
from wavdiff.data import count_images, heldout_batch
from wavdiff.data.config import DataConfig
from wavdiff.evaluation import metrics
from wavdiff.evaluation.drawn import measure_samples
from wavdiff.evaluation.plots import plot_denoising
from wavdiff.evaluation.request import KID_LEAST, EvaluationRequest
from wavdiff.evaluation.scores import Mode, Rows, Scores, can_enlarge, denoised, enlarged, factor_name, level_name
from wavdiff.evaluation.tables import score_table, update_card
from wavdiff.images import resize
from wavdiff.models.cascade.config import CascadeConfig, ModelConfig
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.folders import find_model, training_configuration
from wavdiff.models.run_config import RunConfig
from wavdiff.system.errors import WavdiffError
from wavdiff.training.batches import open_data
from wavdiff.training.config import from_mapping

Say = Callable[[str], None]


BATCH = 50


def _configuration(request: EvaluationRequest, cascade: WaveletCascade) -> RunConfig:
    """The data settings: the model's own, or plain ones for another source."""
    own = training_configuration(find_model(request.models[0]))
    model = ModelConfig(image_size=cascade.image_size, channels=cascade.channels, levels=cascade.levels)
    if own is not None:
        try:
            config = from_mapping(own)
        except WavdiffError as error:
            raise WavdiffError(f"{find_model(request.models[0]) / 'training.yaml'}: {error}") from error
        if request.data in (None, config.data.name):
            folder = str(request.data_dir) if request.data_dir else config.data.data_dir
            mapping = {**own, "data": {**own.get("data", {}), "data_dir": folder}}
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
    return CascadeConfig(model=model, data=data)


def _scores(estimate: Tensor, reference: Tensor) -> Scores:
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
) -> Rows:
    """{"25/255": {"noisy" | "BM3D" | model: {"psnr", "ssim"}}}, noise of one seed per image."""
    noise = torch.stack(
        [torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed + k)) for k in range(len(images))]
    )
    results: Rows = {}
    for sigma in sigmas:
        noisy = images + 2 * sigma * noise
        row = {"noisy": _scores(noisy, images)}
        if bm3d:
            row["BM3D"] = _scores(metrics.bm3d_denoise(noisy, sigma), images)
        for name, cascade in cascades.items():

            def clean(part: Tensor, _: int, cascade: WaveletCascade = cascade, sigma: float = sigma) -> Tensor:
                return denoised(cascade, part, sigma)

            row[name] = _scores(_in_batches(clean, noisy), images)
        results[level_name(sigma)] = row
        say(f"denoise {level_name(sigma)}: " + ", ".join(f"{name} {value['psnr']:.2f}" for name, value in row.items()))
    return results


def measure_upscaling(
    cascades: dict[str, WaveletCascade], images: Tensor, factors: tuple[int, ...], *, seed: int, say: Say
) -> Rows:
    """{"x2": {"bicubic" | model (mean) | model (sample): {"psnr", "ssim"}}}, from block means."""
    results: Rows = {}
    height, width = images.shape[-2:]
    for factor in factors:
        if factor < 1 or height % factor or width % factor:
            raise WavdiffError(f"--factors: {factor} does not divide the images' {height}x{width}")
        small = functional.avg_pool2d(images, factor)
        row = {"bicubic": _scores(resize(small, (height, width), "bicubic"), images)}
        for name, cascade in cascades.items():
            if not can_enlarge(cascade, factor):
                continue
            modes: tuple[Mode, Mode] = ("mean", "sample")
            for mode in modes:

                def large(
                    part: Tensor,
                    start: int,
                    cascade: WaveletCascade = cascade,
                    factor: int = factor,
                    mode: Mode = mode,
                ) -> Tensor:
                    return enlarged(cascade, part, factor, mode, seed + start)

                row[f"{name} ({mode})"] = _scores(_in_batches(large, small), images)
        results[factor_name(factor)] = row
        say(f"upscale x{factor}: " + ", ".join(f"{name} {value['psnr']:.2f}" for name, value in row.items()))
    return results


def run_evaluation(request: EvaluationRequest, out: Path, say: Say = lambda text: None) -> str:
    """Measure, write `evaluation.json`, `evaluation.md` and pictures into `out`, and return the Markdown."""
    cascades = {name: api.load(name) for name in request.models}
    config = _configuration(request, cascades[request.models[0]])
    train_source, held_source = open_data(config)
    train_count = count_images(train_source)
    fewest = len(held_source) if train_count is None else min(train_count, len(held_source))
    if request.kid_samples and fewest < KID_LEAST:
        raise WavdiffError(
            f"--kid needs at least {KID_LEAST} training and {KID_LEAST} held-out images, but {config.data.name} has "
            f"{train_count or 'an unknown number'} and {len(held_source)}"
        )
    images = heldout_batch(held_source, **config.example_settings, limit=request.limit)
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
        texts += [score_table("Denoising, by noise level", rows), ""]
        plot_denoising(rows, out / "denoising.png")
    if request.factors:
        rows = measure_upscaling(cascades, images, request.factors, seed=request.seed, say=say)
        results["upscale"] = rows
        texts += [score_table("Enlarging from block means", rows), ""]
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
        update_card(find_model(request.models[0]), text, out)
    return text
