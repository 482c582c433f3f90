"""The model card that every saved cascade carries."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from wavdiff.data import Images, ImageSource, count_images
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.folders import weights_digest
from wavdiff.models.run_config import RunConfig
from wavdiff.training.config import to_yaml

PACKAGES = ("wavdiff", "torch", "diffusers", "accelerate", "pytorch-wavelets", "safetensors")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _licence(about_the_data: str) -> str:
    """Licence of the weights, as model hubs name it: they follow data that are for non-commercial use only."""
    words = "non-commercial", "not commercial"
    return "other" if any(word in about_the_data for word in words) else "mit"


def _psnr_table(numbers: dict[str, dict[str, list[float]]]) -> str:
    sigmas = list(next(iter(numbers.values())))
    lines = ["| scale | " + " | ".join(sigmas) + " |", "|---" * (len(sigmas) + 1) + "|"]
    for scale, row in numbers.items():
        cells = (f"{before:.2f} → {after:.2f}" for before, after in row.values())
        lines.append(f"| {scale} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _loss_table(numbers: dict[str, dict[str, float]]) -> str:
    levels = list(next(iter(numbers.values())))
    lines = ["| scale | " + " | ".join(levels) + " |", "|---" * (len(levels) + 1) + "|"]
    lines += [
        f"| {scale} | " + " | ".join(f"{value:.4f}" for value in row.values()) + " |" for scale, row in numbers.items()
    ]
    return "\n".join(lines)


def model_card(
    config: RunConfig,
    cascade: WaveletCascade,
    train: Images,
    heldout: ImageSource,
    state: dict[str, Any],
    run: Path,
) -> str:
    """Markdown: data, split, configuration, steps, time, held-out numbers, versions, sha256."""
    from wavdiff.training.records import last_heldout

    counts = {
        name: sum(parameter.numel() for parameter in cascade.denoiser(name).parameters())
        for name in cascade.scale_names
    }
    steps = ", ".join(f"{name}: {count:,}" for name, count in state["trained"].items())
    numbers = last_heldout(run / "stats.jsonl", state.get("step"))
    tables = "Not measured in this run."
    if numbers:
        tables = (
            f"At step {numbers['step']:,}, on up to {config.data.heldout_limit} held-out images "
            "(averaged weights, seeded noise).\n\n"
            "PSNR in dB of the noisy input → the denoised image, at every scale, "
            "by noise level of the image (of 255):\n\n"
            f"{_psnr_table(numbers['heldout']['psnr'])}\n\n"
            "Weighted squared error of each scale given the exact coarser image, by standardised noise level "
            "(1 = no better than the mean):\n\n"
            f"{_loss_table(numbers['heldout']['loss'])}"
        )
    known = count_images(train)
    count = "a stream of" if known is None else f"{known:,}"
    init = f" It began with the weights of {config.training.init}." if config.training.init else ""
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return f"""---
library_name: diffusers
tags: [wavdiff, image-denoising, super-resolution, unconditional-image-generation]
license: {_licence(train.credit + config.data.note)}
---
# wavdiff cascade: {config.data.name}

A wavelet cascade of score networks, trained by `wavdiff train` with the configuration below.

- **Images:** {cascade.image_size[0]}x{cascade.image_size[1]}, {"gray" if cascade.channels == 1 else "RGB"}; \
{cascade.levels} detail scales, wavelet {cascade.wavelet}.
- **Data:** {train.name}: {count} images to train on, {len(heldout):,} held out. {train.credit}
- **Parameters:** {sum(counts.values()):,} ({", ".join(f"{name}: {count:,}" for name, count in counts.items())}); \
{cascade.multiply_adds_per_pixel():,.0f} multiply-adds per pixel for one pass of all networks.
- **Training:** optimiser steps by scale: {steps}; batch {config.training.batch_size}; \
{state["images_seen"]:,} images seen; {state["seconds"] / 60:.1f} minutes in training steps, \
{torch.get_num_threads()} CPU thread(s), {platform.machine()}.{init}
- **Versions:** Python {platform.python_version()}, {versions}.
- **sha256 of the weights** ({config.training.save_dtype}, safetensors serialisation of the sorted tensors): \
`{weights_digest(cascade, getattr(torch, config.training.save_dtype))}`

{f"## What it can and cannot do{chr(10) * 2}{config.data.note.strip()}{chr(10) * 2}" if config.data.note else ""}\
## Held-out numbers

{tables}

## Configuration

```yaml
{to_yaml(config)}```
"""
