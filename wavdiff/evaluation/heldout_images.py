"""Held-out images of a source of training images, at the size of training: denoising, enlarging, samples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavdiff.data import count_images, find_source, heldout_batch
from wavdiff.data.config import DataConfig
from wavdiff.evaluation import metrics
from wavdiff.evaluation.drawn import measure_samples
from wavdiff.evaluation.plots import plot_denoising, pyplot
from wavdiff.evaluation.report_files import (
    NUMBERS,
    REPORT,
    Advance,
    Say,
    as_json,
    heading,
    quiet,
    update_card,
    write_files,
)
from wavdiff.evaluation.request import KID_LEAST, EvaluationRequest
from wavdiff.evaluation.scores import Rows, Scores, psnr_line
from wavdiff.evaluation.tables import score_table
from wavdiff.evaluation.trials import Trial, trials
from wavdiff.models.cascade.config import CascadeConfig, ModelConfig
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.models.folders import find_model, training_configuration
from wavdiff.models.run_config import RunConfig
from wavdiff.system.errors import WavdiffError
from wavdiff.training.batches import open_data
from wavdiff.training.config import from_mapping


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
    kind = find_source(request.data)
    data = DataConfig(
        name=request.data,
        data_dir=str(request.data_dir) if request.data_dir else None,
        crop=kind.crop,
        pad=kind.pad,
    )
    return CascadeConfig(model=model, data=data)


def _scores(estimate: Tensor, reference: Tensor) -> Scores:
    return {
        "psnr": round(float(metrics.psnr(estimate, reference).mean()), 3),
        "ssim": round(float(metrics.ssim(estimate, reference).mean()), 4),
    }


def _row(trial: Trial, seed: int, *, drawn: bool) -> dict[str, Scores]:
    """Means over the images of every method; where draws are asked for, a model is two of them."""
    row = {name: _scores(restore(trial.given), trial.clean) for name, restore in trial.references.items()}
    for name, restore in trial.models.items():
        row[f"{name} (mean)" if drawn else name] = _scores(restore(trial.given), trial.clean)
        if drawn:
            row[f"{name} (sample)"] = _scores(restore(trial.given, mode="sample", seed=seed), trial.clean)
    return row


def measure_heldout(
    cascades: Mapping[str, WaveletCascade],
    images: Tensor,
    request: EvaluationRequest,
    say: Say,
    advance: Advance = quiet,
) -> dict[str, Rows]:
    """Denoise and enlarge images (N, C, H, W); noise and draws of image k have seed `request.seed` + k.

    Returns:
        {"denoise": {"25/255": {"noisy" | "BM3D" | model: scores}},
        "upscale": {"x2": {"bicubic" | model (mean) | model (sample): scores}}}.

    Raises:
        WavdiffError: a factor that does not divide the images' sides.
    """
    height, width = images.shape[-2:]
    for factor in request.factors:
        if height % factor or width % factor:
            raise WavdiffError(f"--factors: {factor} does not divide the images' {height}x{width}")
    seeds = range(request.seed, request.seed + len(images))
    noise = torch.stack([torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(k)) for k in seeds])
    tables: dict[str, Rows] = {"denoise": {}, "upscale": {}}
    total = len(request.sigmas) + len(request.factors)
    advance("trials", 0, total, "")
    each = trials(images, lambda _: noise, cascades, request, filters=["bicubic"])
    for done, (task, trial) in enumerate(each, start=1):
        tables[task][trial.name] = _row(trial, request.seed, drawn=task == "upscale")
        say(f"{task} {psnr_line(trial.name, tables[task][trial.name])}")
        advance("trials", done, total, f"{done} of {total} trials")
    return tables


def run_evaluation(request: EvaluationRequest, out: Path, say: Say = quiet, advance: Advance = quiet) -> str:
    """Measure, write `evaluation.json`, `evaluation.md` and pictures into `out`, and return the Markdown."""
    if request.sigmas:
        pyplot()  # before minutes of measuring, not after
    cascades = {name: load_cascade(name) for name in request.models}
    subject = request.models[0]
    config = _configuration(request, cascades[subject])
    source = config.data.name
    train_source, held_source = open_data(config)
    train_count = count_images(train_source)
    fewest = len(held_source) if train_count is None else min(train_count, len(held_source))
    if request.kid_samples and fewest < KID_LEAST:
        raise WavdiffError(
            f"--kid needs at least {KID_LEAST} training and {KID_LEAST} held-out images, but {source} has "
            f"{train_count or 'an unknown number'} and {len(held_source)}"
        )
    images = heldout_batch(held_source, **config.example_settings, limit=request.limit)
    numbers = {"source": source, "held-out": len(images), "size": list(images.shape[1:])}
    results = heading(replace(request, data_dir=None, data=source), numbers, cascades)
    results |= {task: rows for task, rows in measure_heldout(cascades, images, request, say, advance).items() if rows}
    if request.kid_samples:
        results["samples"] = measure_samples(subject, cascades[subject], config, request, out, say, advance)
    text = heldout_report(results)
    write_files(out, {NUMBERS: as_json(results), REPORT: text})
    if request.sigmas:
        write_files(out, {"denoising.png": plot_denoising(results["denoise"])})
    if request.update_card:
        update_card(find_model(subject), text, out)
    return text


def heldout_report(results: Mapping[str, Any]) -> str:
    """The report in Markdown, from the numbers of `evaluation.json` and nothing else."""
    models, images = ", ".join(results["request"]["models"]), results["images"]
    shape = "x".join(str(side) for side in images["size"][-2:])
    texts = [f"# {models} on {images['held-out']} held-out images of {images['source']}, {shape}", ""]
    texts.append(f"PSNR in dB / SSIM. Multiply-adds per pixel: {results['multiply_adds_per_pixel']}.\n")
    for task in ("denoise", "upscale"):
        texts += [score_table(task, results[task]), ""] if task in results else []
    if "samples" in results:
        texts += ["## Samples", "", "```json", json.dumps(results["samples"], indent=1), "```", ""]
    return "\n".join(texts)
