"""More blocks or the same blocks again? Hierarchical VAEs with and without shared weights.

    python examples/multiresolution_study.py train [--out FOLDER] [--steps 15000] [--seeds 0,1] [--only x1,r5]
    python examples/multiresolution_study.py report [--out FOLDER]

`train` trains `configs/vdvae-fashion16.yaml` with the strings of VARIANTS, one after the other, with `wavdiff train`;
run again, it continues. `report` prints, of runs of at least `--steps`, nats per 14x14 image on the 10,000 official
test images of Fashion-MNIST, binarised once with fixed seeds: the bound with one draw of the latents (+- its standard
error over images), the bound with `--samples` draws on the first 1,000 images, both with averaged weights; beside two
floors, independent Bernoulli pixels and a VAE with a single layer of latents, of as many parameters as x1.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from wavdiff.data import heldout_batch, open_source
from wavdiff.models.family import load_model
from wavdiff.models.random_numbers import derive_generator
from wavdiff.models.vdvae.config import VdvaeConfig
from wavdiff.models.vdvae.family import VdvaeFamily
from wavdiff.models.vdvae.model import Vdvae
from wavdiff.models.vdvae.numbers import heldout_numbers, importance_bound
from wavdiff.training.config import from_mapping, read_mapping


def strings(count: int, repeats: int = 1) -> list[str]:
    """`--set` of a model with so many blocks at each resolution, each applied so often."""
    x = f"x{count}r{repeats}"
    return [
        f"model.encoder=16{x},16d2,8{x},8d2,4{x},4d4,1{x}",
        f"model.decoder=1{x},4m1,4{x},8m4,8{x},16m8,16{x}",
    ]


VARIANTS = {
    "x1": strings(1),
    "r5": strings(1, 5),
    "x2": strings(2),
    "r2": strings(1, 2),
    "x4": strings(4),
    "x1-normalised": [*strings(1), "model.normalise_state=true"],
    "single": ["model.encoder=16x7", "model.decoder=16x9"],
    "r2-matching": [*strings(1, 2), "model.encoder_activations=matching"],
}
LAYER = {"hidden": 133, "latent": 16}
"""Of the VAE with one layer of latents: as many parameters as x1."""


def train(options: argparse.Namespace) -> None:
    names = options.only.split(",") if options.only else list(VARIANTS)
    if unknown := [name for name in names if name not in VARIANTS]:
        raise SystemExit(f"--only: {unknown[0]} is not one of {', '.join(VARIANTS)}")
    for seed in options.seeds.split(","):
        for name in names:
            sets = [*VARIANTS[name], f"training.seed={seed}"]
            command = [sys.executable, "-m", "wavdiff.cli", "train", "--config", "vdvae-fashion16"]
            command += ["--steps", str(options.steps), "--out", str(folder(options.out, name, seed))]
            subprocess.run([*command, *(part for text in sets for part in ("--set", text))], check=True)


def folder(out: Path, name: str, seed: str) -> Path:
    return out / f"{name}-{seed}"


def report(options: argparse.Namespace) -> None:
    config = from_mapping(read_mapping("vdvae-fashion16"))
    assert isinstance(config, VdvaeConfig)
    family = VdvaeFamily(config)
    test = family.heldout(heldout_batch(open_source("fashion-mnist", "heldout"), **config.example_settings))
    rows: dict[str, list[dict[str, float]]] = {}
    models: dict[str, Vdvae] = {}
    for name in VARIANTS:
        for seed in options.seeds.split(","):
            place = folder(options.out, name, seed) / "model"
            record = place / "training.json"
            if not record.is_file() or json.loads(record.read_text())["trained"]["vae"] < options.steps:
                continue  # not there, or not trained to its end
            model = load_model(place)
            assert isinstance(model, Vdvae)
            numbers = heldout_numbers(model, test)
            numbers["weighted"] = float(importance_bound(model, test[:1000], options.samples).mean())
            numbers["steps"] = json.loads(record.read_text())["trained"]["vae"]
            rows.setdefault(name, []).append(numbers)
            models[name] = model
    print(
        f"| model | parameters | depth | steps | nats, by seed | mean | with {options.samples} draws | KL at 1/4/8/16 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, found in rows.items():
        count = sum(parameter.numel() for parameter in models[name].parameters())
        nats = [numbers["nats per image"] for numbers in found]
        cells = [f"{numbers['nats per image']:.2f} ± {numbers['standard error']:.2f}" for numbers in found]
        weighted = sum(numbers["weighted"] for numbers in found) / len(found)
        kls = " / ".join(
            f"{sum(numbers.get(f'kl/vae@{side}', 0.0) for numbers in found) / len(found):.2f}" for side in (1, 4, 8, 16)
        )
        print(
            f"| {name} | {count:,} | {len(models[name].latent_shapes)} | {found[0]['steps']:,} | {', '.join(cells)} | "
            f"{sum(nats) / len(nats):.2f} | {weighted:.2f} | {kls} |"
        )
    inner = slice(1, 15)
    training = heldout_batch(open_source("fashion-mnist", "train"), **config.example_settings)
    shown = test[..., inner, inner]
    print(f"\nindependent pixels: {independent(training, shown):.2f} nats")
    steps = min(int(found[0]["steps"]) for found in rows.values()) if rows else options.steps
    for seed in options.seeds.split(","):
        nats, count = one_layer(family, training, shown, int(seed), steps)
        print(f"one layer of latents, {count:,} parameters, {steps:,} steps of 32, seed {seed}: {nats:.2f} nats")


def independent(training: torch.Tensor, test: torch.Tensor) -> float:
    """Nats per image under Bernoulli pixels with the means of the training images."""
    means = (
        functional.avg_pool2d((training + 1) / 2, 2).mean(dim=0, keepdim=True)[..., 1:15, 1:15].clamp(1e-4, 1 - 1e-4)
    )
    losses = functional.binary_cross_entropy(means.expand_as(test), test, reduction="none")
    return float(losses.flatten(1).sum(dim=1).double().mean())


class OneLayer(nn.Module):
    """A VAE of Kingma and Welling (2014) with one hidden layer each way."""

    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(196, hidden), nn.GELU(), nn.Linear(hidden, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.GELU(), nn.Linear(hidden, 196))

    def bound(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Nats per image."""
        mean, log_std = self.encoder(images).chunk(2, dim=1)
        logits = self.decoder(mean + log_std.exp() * noise)
        kl = (mean.square() + (2 * log_std).exp() - 1) / 2 - log_std
        distortion = functional.binary_cross_entropy_with_logits(logits, images, reduction="none")
        return distortion.sum(dim=1) + kl.sum(dim=1)


def one_layer(
    family: VdvaeFamily, training: torch.Tensor, test: torch.Tensor, seed: int, steps: int
) -> tuple[float, int]:
    """Nats per test image of the floor, and its size; as many steps of 32 images with AdamW, weights not averaged."""
    torch.manual_seed(seed)
    model, generator = OneLayer(**LAYER), derive_generator(seed, "one layer")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.9))
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        chosen = torch.randint(len(training), (32,), generator=generator)
        images = torch.stack([family.prepared(image, generator) for image in training[chosen]])[..., 1:15, 1:15]
        noise = torch.randn(32, LAYER["latent"], generator=generator)
        optimizer.zero_grad()
        model.bound(images.flatten(1), noise).mean().backward()
        optimizer.step()
        rates.step()
    with torch.no_grad():
        noise = torch.randn(len(test), LAYER["latent"], generator=generator)
        nats = float(model.bound(test.flatten(1), noise).double().mean())
    assert math.isfinite(nats)
    return nats, sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "report"))
    parser.add_argument("--out", type=Path, default=Path("runs/multiresolution"))
    parser.add_argument("--steps", type=int, default=15000)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--only", help="variants, as x1,r5; default all")
    parser.add_argument("--samples", type=int, default=100)
    options = parser.parse_args()
    train(options) if options.what == "train" else report(options)


if __name__ == "__main__":
    main()
