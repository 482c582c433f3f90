"""The hierarchical VAE as a family: what it measures, builds, learns from and is judged by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.data import ExampleDataset, Images
from wavdiff.data.examples import some_images
from wavdiff.models.family import Family, Loss
from wavdiff.models.heldout_names import table_of
from wavdiff.models.random_numbers import derive_generator
from wavdiff.models.vdvae.config import VdvaeConfig
from wavdiff.models.vdvae.model import Vdvae
from wavdiff.models.vdvae.numbers import heldout_numbers

MEASURED_IMAGES = 2000


class VdvaeFamily(Family[VdvaeConfig, Vdvae]):
    """One part: encoder and decoder are trained together."""

    Config = VdvaeConfig
    noun = "hierarchical VAE"
    tags = ("wavdiff", "vae", "unconditional-image-generation")

    def measure(self, source: Images) -> dict[str, Any]:
        """Mean and standard deviation of the pixels of up to 2,000 training images; nothing for binary ones."""
        if self.config.model.likelihood == "bernoulli":
            return {}
        dataset = ExampleDataset(source, **self.config.example_settings)
        sums, count = torch.zeros(2, dtype=torch.float64), 0
        for image in some_images(source, self.config.training.seed, MEASURED_IMAGES):
            values = self._seen(dataset[(image, 0, 0.0)]).double()
            sums += torch.stack([values.mean(), values.square().mean()])
            count += 1
        mean, square = (sums / count).tolist()
        return {"mean": round(mean, 6), "std": round(max(square - mean**2, 1e-8) ** 0.5, 6)}

    def build(self, measured: dict[str, Any]) -> Vdvae:
        """A fresh model."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.training.seed)
            self.model = Vdvae(self.config.model, **measured)
        self.parts = {"vae": self.model}
        return self.model

    def _seen(self, image: Tensor) -> Tensor:
        """What the model sees of an example (C, H, W) in [-1, 1]: block means in [0, 1]; of 8 bits, if they count."""
        model = self.config.model
        values = functional.avg_pool2d((image + 1) / 2, model.reduce)
        return values if model.likelihood == "bernoulli" else (255 * values).round() / 255

    def prepared(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """The image of an example; a binary one is drawn with the image's values as probabilities."""
        values = self._seen(image)
        if self.config.model.likelihood == "bernoulli":
            values = (torch.rand(values.shape, generator=generator) < values).to(values.dtype)
        return values

    def heldout(self, images: Tensor) -> Tensor:
        """Held-out images as the model sees them, the binary ones drawn once for all."""
        drawn = [self.prepared(image, derive_generator(place, "binary")) for place, image in enumerate(images)]
        return torch.stack(drawn)

    def example(self, image: Tensor, generator: torch.Generator, strong: bool) -> dict[str, Tensor]:
        """The image, and the noise of all latents."""
        prepared = self.prepared(image, generator)
        return {"image": prepared, "noise": torch.randn(self.config.model.noise_size, generator=generator)}

    def losses(self, batch: dict[str, Any], active: list[str]) -> dict[str, Loss]:
        """The bound in nats per counted value, as the release has it."""
        bound = self.model.terms(batch["image"], batch["noise"]).bound / self.model.counted
        return {"vae": Loss(bound.mean(), bound.detach())}

    @property
    def bf16_is_safe(self) -> bool:
        """It is not: KL terms are differences of exponentials."""
        return False

    def compile(self, part: str) -> None:
        """Blocks and cells, one by one."""
        for module in (*self.model.blocks, *self.model.cells):
            module.compile()

    def evaluate(self, model: Vdvae, images: Tensor) -> dict[str, float]:
        """The bound and its parts, one draw of the latents per image."""
        return heldout_numbers(model, self.heldout(images))

    def draw(self, model: Vdvae, seeds: list[int]) -> Tensor:
        """Samples at temperature 1."""
        return model.sample(seeds)

    def part_note(self, part: str) -> str:
        """How deep it is."""
        return f"{len(self.model.latent_shapes)} executed cells"

    def note(self, model: Vdvae) -> str:
        """What it sees of images, and how deep it is."""
        kind = "binarised" if self.config.model.likelihood == "bernoulli" else "8 bits"
        return f"{kind}; seen at {model.side}x{model.side}; {self.part_note('vae')}"

    def tables(self, numbers: dict[str, float]) -> str:
        """The bound in its units, and the KL of every resolution."""
        rows = [(name, f"{value:.3f}") for name, value in numbers.items() if "/" not in name]
        rows += [(f"KL at {side}x{side}", f"{value:.3f}") for side, value in table_of(numbers, "kl")["vae"].items()]
        return "\n".join(["| number | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
