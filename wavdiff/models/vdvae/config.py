"""Settings of a hierarchical VAE."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from wavdiff.data.config import DataConfig
from wavdiff.models.run_config import RunConfig, TrainingConfig
from wavdiff.models.vdvae.strings import Entry, at_one_resolution, parse_decoder, parse_encoder
from wavdiff.system.settings import Checked, Rule, at_least, one_of, require, setting, within

MOST_WEIGHTS = 2**30


@dataclass(frozen=True)
class VdvaeModel(Checked):
    """The model.

    `image_size` is that of the examples; they are reduced by block means of `reduce` before the model sees them.
    `border` pixels at each side of what it sees do not count in the likelihood (28 x 28 images on a black canvas).
    `likelihood`: "bernoulli" for images that are binarised, "logistics" for 8-bit values. `encoder_activations`: what a
    cell of the decoder sees of the encoder, the "last" activation of its resolution or that of the "matching" block.
    `resolutions`: "single" puts all blocks at the resolution of the image. `normalise_state` brings the state to a norm
    of sqrt(entries) after every block; without `residual` blocks do not add what they are given.
    """

    where: ClassVar[str] = "model."

    image_size: tuple[int, int] = (32, 32)
    channels: int = setting(1, Rule(lambda value: value in (1, 3), "1 or 3"))
    encoder: str = "32x1,32d2,16x1,16d2,8x1,8d2,4x1,4d4,1x1"
    decoder: str = "1x1,4m1,4x1,8m4,8x1,16m8,16x1,32m16,32x1"
    width: int = setting(32, within(4, 2048))
    latent: int = setting(8, within(1, 256))
    likelihood: str = setting("bernoulli", one_of("bernoulli", "logistics"))
    components: int = setting(10, within(1, 100))
    reduce: int = setting(1, at_least(1))
    border: int = setting(0, at_least(0))
    resolutions: str = setting("multiple", one_of("multiple", "single"))
    encoder_activations: str = setting("last", one_of("last", "matching"))
    normalise_state: bool = False
    residual: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % 4 == 0, "model.width must be a multiple of 4", self.width)
        height, width = self.image_size
        require(height == width <= 1024, "model.image_size must be square, and at most 1024", self.image_size)
        require(height % self.reduce == 0, "model.reduce must divide model.image_size", self.reduce)
        require(2 * self.border < self.side, "model.border must leave pixels", self.border)
        require(
            self.likelihood == "logistics" or self.channels == 1,
            "model.channels must be 1 with model.likelihood bernoulli",
            self.channels,
        )
        blocks, cells, hidden = len(self.encoder_entries), len(self.decoder_entries), self.width // 4
        most = blocks * 27 * hidden**2 + cells * (80 * hidden**2 + 9 * hidden * self.latent)
        require(most <= MOST_WEIGHTS, f"model: at most {MOST_WEIGHTS} weights, about", most)

    @property
    def side(self) -> int:
        """Side of what the model sees, in pixels."""
        return self.image_size[0] // self.reduce

    @property
    def encoder_entries(self) -> tuple[Entry, ...]:
        """The encoder's blocks."""
        entries = parse_encoder(self.encoder, self.side)
        return at_one_resolution(entries, self.side) if self.resolutions == "single" else entries

    @property
    def decoder_entries(self) -> tuple[Entry, ...]:
        """The decoder's cells; the encoder reaches all their resolutions."""
        entries = parse_decoder(self.decoder, self.side)
        reached = {self.side} | {entry.resolution // entry.pool for entry in parse_encoder(self.encoder, self.side)}
        missing = [entry.resolution for entry in entries if entry.resolution not in reached]
        require(not missing, f"model.decoder: the encoder has no resolution {missing[:1]}, only", sorted(reached))
        return at_one_resolution(entries, self.side) if self.resolutions == "single" else entries

    @property
    def latent_shapes(self) -> list[tuple[int, int, int]]:
        """Of the latent of every executed cell, coarse to fine."""
        entries = self.decoder_entries
        return [(self.latent, entry.resolution, entry.resolution) for entry in entries for _ in range(entry.repeats)]

    @property
    def noise_size(self) -> int:
        """How many standard normal numbers an image takes."""
        return sum(math.prod(shape) for shape in self.latent_shapes)


@dataclass(frozen=True)
class VdvaeTraining(TrainingConfig):
    """The engine's settings with the defaults of the release: AdamW with betas (0.9, 0.9), constant rate, skipping.

    Gradients are those of the loss per counted pixel and channel (nats / dimension), as there.
    """

    learning_rate: float = setting(2e-4, within(0, 1000, "(]"))
    beta2: float = setting(0.9, within(0, 1, "()"))
    schedule: str = setting("constant", one_of("cosine", "constant"))
    gradient_clip: float = setting(200.0, within(0, float("inf"), "(]"))
    skip_threshold: float | None = setting(400.0, within(0, float("inf"), "(]"))
    max_skipped: int = setting(100, at_least(0))


@dataclass(frozen=True)
class VdvaeConfig(RunConfig):
    """Everything `wavdiff train` needs to train one, besides the output folder."""

    family: ClassVar[str] = "vdvae"
    parts: ClassVar[tuple[str, ...]] = ("vae",)

    model: VdvaeModel = field(default_factory=VdvaeModel)
    data: DataConfig = DataConfig()
    training: VdvaeTraining = VdvaeTraining()
