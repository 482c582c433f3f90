"""The wavelet cascade as a family: what it measures, builds, learns from and is judged by."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from wavdiff.data import Images
from wavdiff.models.cascade.config import CascadeConfig
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.networks import network_class
from wavdiff.models.cascade.noise import NoiseDistribution
from wavdiff.models.cascade.saved import load_cascade, save_model
from wavdiff.models.cascade.training.growth import start_from
from wavdiff.models.cascade.training.noisy_examples import NoisyExamples, TrainingBatch
from wavdiff.models.cascade.training.objective import CascadeObjective
from wavdiff.models.cascade.training.standardisation import build_cascade, measure_rms
from wavdiff.models.cascade.training.validation import heldout_numbers
from wavdiff.models.family import Family, Loss
from wavdiff.models.heldout_names import flat_numbers, table_of
from wavdiff.system.errors import WavdiffError


class CascadeFamily(Family[CascadeConfig, WaveletCascade]):
    """Parts are the scales, trained apart on whole batches: no gradient flows between them."""

    Config = CascadeConfig
    noun = "wavelet cascade"
    title = "cascade"
    summary = "A wavelet cascade of score networks"
    library = "diffusers"
    tags = ("wavdiff", "image-denoising", "super-resolution", "unconditional-image-generation")

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__(config)
        noise = dataclasses.asdict(config.noise)
        del noise["denoising_fraction"]  # is the engine's, see `strong_fraction`
        self.examples = NoisyExamples(
            NoiseDistribution(**noise), config.model.levels, config.training.low_repeats, config.data.augmentation.gray
        )

    def measure(self, source: Images) -> dict[str, Any]:
        """Rms of the low-pass image and of the details, finest first, library units."""
        lowpass_std, detail_stds = measure_rms(source, self.config)
        return {"lowpass_std": lowpass_std, "detail_stds": detail_stds}

    def check_measured(self, measured: dict[str, Any]) -> list[float]:
        """The rms of every scale, from coarse to fine."""
        values = [float(measured["lowpass_std"]), *map(float, reversed(measured["detail_stds"]))]
        if len(values) != len(self.config.parts) or not all(value > 0 for value in values):
            raise ValueError("its rms values must be positive, one for each scale")
        return values

    def build(self, measured: dict[str, Any]) -> WaveletCascade:
        """A fresh cascade; all rms values are 1 where nothing is measured."""
        unknown = {"lowpass_std": 1.0, "detail_stds": [1.0] * self.config.model.levels}
        numbers = {**unknown, **measured}
        self.cascade = build_cascade(self.config, numbers["lowpass_std"], numbers["detail_stds"])
        self.parts = {name: cast(torch.nn.Module, self.cascade.denoiser(name)) for name in self.cascade.scale_names}
        training = self.config.training
        self.objective = CascadeObjective(self.cascade, [], set(), training.detail_crop, training.balance)
        return self.cascade

    def example(self, image: Tensor, generator: torch.Generator, strong: bool) -> dict[str, Tensor]:
        """Strongly augmented examples teach denoising, the others synthesis."""
        return self.examples.draw(image, generator, strong)

    def losses(self, batch: dict[str, Any], active: list[str]) -> dict[str, Loss]:
        """Weighted squared errors, by standardised noise level."""
        self.objective.active, self.objective.available = active, self.ready | set(active)
        scalars: dict[str, Tensor] = self.objective(cast(TrainingBatch, batch))
        examples = self.objective.examples
        return {name: Loss(scalar, examples[name][1], examples[name][0]) for name, scalar in scalars.items()}

    def describe_example(self, batch: dict[str, Any], index: int) -> str:
        """Its noise level or levels."""
        if batch["denoising"][index]:
            return f"noise {255 * float(batch['image_level'][index]) / 2:.1f}/255"
        return "noise of " + "/".join(f"{float(value):.3g}" for value in batch["levels"][index]) + " std"

    @property
    def bf16_is_safe(self) -> bool:
        """Blind networks cannot learn small noise in bf16."""
        model = self.config.model
        networks = [model.lowpass, *(model.detail_network(str(scale)) for scale in range(model.levels))]
        return not any(network_class(network.kind).blind for network in networks)

    def compile(self, part: str) -> None:
        """Compile the network; what is around it differs between training and use."""
        self.cascade.denoiser(part).network.compile()

    def evaluate(self, model: WaveletCascade, images: Tensor) -> dict[str, float]:
        """PSNR of denoising by scale and noise level of the image (of 255), losses by standardised noise level."""
        return flat_numbers(heldout_numbers(model, images))

    def draw(self, model: WaveletCascade, seeds: list[int]) -> Tensor | None:
        """Samples, along the model's own schedules, of a model that is for them."""
        if not model.draws:
            return None
        shape = (model.channels, *model.image_size)
        low, details = model.schedule("lowpass"), model.schedule("details")
        return model.sample(shape, seeds, lowpass_schedule=low, detail_schedule=details)[-1]

    def part_note(self, part: str) -> str:
        """How far its network looks."""
        field = getattr(self.cascade.denoiser(part).network, "receptive_field", None)
        return f"receptive field {f'{field}x{field}' if field else 'the whole image'}"

    def cost(self, model: WaveletCascade) -> str:
        """Multiply-adds of one pass of all networks."""
        return f"{model.multiply_adds_per_pixel():,.0f} multiply-adds per pixel"

    def note(self, model: WaveletCascade) -> str:
        """Its scales."""
        return f"{model.levels} detail scales, wavelet {model.wavelet}"

    def tables(self, numbers: dict[str, float]) -> str:
        """Both tables, by scale."""
        before, after, losses = (table_of(numbers, what) for what in ("psnr_in", "psnr", "loss"))
        psnr = {
            scale: {sigma: f"{before[scale][sigma]:.2f} → {value:.2f}" for sigma, value in row.items()}
            for scale, row in after.items()
        }
        loss = {scale: {level: f"{value:.4f}" for level, value in row.items()} for scale, row in losses.items()}
        return (
            "PSNR in dB of the noisy input → the denoised image, at every scale, "
            f"by noise level of the image (of 255):\n\n{_scale_table(psnr)}\n\n"
            "Weighted squared error of each scale given the exact coarser image, by standardised noise level "
            f"(1 = no better than the mean):\n\n{_scale_table(loss)}"
        )

    def save(self, model: WaveletCascade, folder: Path, card: str, configuration: str | None = None) -> None:
        """In diffusers' layout."""
        save_model(model, folder, card, configuration)

    def measured_by(self, model: str) -> dict[str, Any]:
        """The rms values of a trained cascade, without which its networks are not right."""
        other, wanted = load_cascade(model), self.config.model
        for setting in ("channels", "wavelet", "levels"):
            ours, theirs = getattr(wanted, setting), getattr(other, setting)
            if ours != theirs:
                raise WavdiffError(f"training.init {model}: its {setting} is {theirs!r}, this run's is {ours!r}")
        stds = [other.denoiser(str(scale)).std for scale in range(other.levels)]
        return {"lowpass_std": other.lowpass.std, "detail_stds": stds}

    def begin_with(self, model: str) -> None:
        """Start every network from that of its scale, which may be smaller (see `growth`)."""
        other = load_cascade(model)
        for name in self.cascade.scale_names:
            try:
                start_from(self.cascade.denoiser(name).network, other.denoiser(name).network)
            except WavdiffError as error:
                reason = f"the network of scale {name} does not fit: {error}"
                raise WavdiffError(f"training.init {model}: {reason}") from error

    def take(self, parts: list[str], model: str | Path) -> None:
        """Copy the networks of some scales, which must have the same wavelet and rms values."""
        other = load_cascade(model)
        for setting in ("wavelet", "channels", "lowpass_std"):
            ours, theirs = self.cascade.config[setting], other.config[setting]
            if ours != theirs:
                raise WavdiffError(f"--base {model}: its {setting} is {theirs!r}, this run's is {ours!r}")
        for name in parts:
            ours, theirs = self.cascade.denoiser(name), other.denoiser(name)
            if ours.std != theirs.std:
                raise WavdiffError(f"--base {model}: the rms of scale {name} is {theirs.std}, this run's is {ours.std}")
            try:
                ours.load_state_dict(theirs.state_dict())
            except RuntimeError as error:
                raise WavdiffError(f"--base {model}: the network of scale {name} does not fit ({error})") from error


def _scale_table(rows: dict[str, dict[str, str]]) -> str:
    """A Markdown table with a row for every scale."""
    head = list(next(iter(rows.values())))
    lines = ["| scale | " + " | ".join(head) + " |", "|---" * (len(head) + 1) + "|"]
    return "\n".join([*lines, *(f"| {scale} | " + " | ".join(row.values()) + " |" for scale, row in rows.items())])
