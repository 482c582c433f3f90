"""The hierarchical VAE: an encoder that pools, a decoder that draws a latent in every cell, and the bound on -log p.

Bottom-up, blocks see the image at falling resolutions. Top-down, a state per resolution starts as a learned tensor, and
cells (see `blocks`) add what the prior says and a latent, drawn from the posterior in training and from the prior in
sampling. All noise of an image is one vector, so that no image depends on its batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from wavdiff.models.random_numbers import derive_generator
from wavdiff.models.vdvae.blocks import Block, Cell, Latent, convolution, normalised
from wavdiff.models.vdvae.config import VdvaeModel
from wavdiff.models.vdvae.likelihoods import Bernoulli, Logistics
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import check_temperature, whole_number

GROUP = 16
"""Images that are drawn at once."""
LARGEST_BIAS = 64
"""Resolution above which the state starts at zero."""


@dataclass(frozen=True)
class Terms:
    """The bound on -log p of images, in nats per image.

    Attributes:
        distortion: -log p(x | z), (B,).
        latents: what every executed cell did, coarse to fine.
    """

    distortion: Tensor
    latents: list[Latent]

    @property
    def rate(self) -> Tensor:
        """KL of all cells, (B,)."""
        return torch.stack([latent.kl for latent in self.latents]).sum(dim=0)

    @property
    def bound(self) -> Tensor:
        """Distortion and rate: the negative ELBO with this noise, (B,)."""
        return self.distortion + self.rate

    @property
    def log_weight(self) -> Tensor:
        """log p(x, z) - log q(z | x) of these latents, (B,): what importance weighting averages."""
        return torch.stack([latent.log_ratio for latent in self.latents]).sum(dim=0) - self.distortion


@dataclass(frozen=True)
class Run:
    """One run of the decoder: the last state, and what its cells did."""

    state: Tensor
    latents: list[Latent]
    norms: list[Tensor]


class Vdvae(nn.Module):
    """See the module. Images go in and come out as (B, C, side, side) in [0, 1], `side` that of the configuration.

    Args:
        config: its settings.
        mean, std: of the pixels of training images in [0, 1], for images of 8 bits.

    Attributes:
        latent_shapes: of the latent of every executed cell, coarse to fine.
        noise_size: how many standard normal numbers an image takes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: VdvaeModel, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.config, self.latent_shapes, self.noise_size = config, config.latent_shapes, config.noise_size
        width, encoder, decoder = config.width, config.encoder_entries, config.decoder_entries
        self.side, self.border = config.side, config.border
        encoder_scale = math.sqrt(1 / sum(entry.repeats for entry in encoder))
        decoder_scale = math.sqrt(1 / sum(entry.repeats for entry in decoder))
        self.first = convolution(config.channels, width, 3)
        self.blocks = nn.ModuleList(
            Block(
                width,
                width // 4,
                width,
                entry.resolution,
                residual=config.residual,
                pool=entry.pool,
                scale=encoder_scale,
            )
            for entry in encoder
        )
        self.cells = nn.ModuleList(
            Cell(width, config.latent, entry, decoder_scale, config.residual) for entry in decoder
        )
        resolutions = dict.fromkeys(entry.resolution for entry in decoder)
        self.starts = nn.ParameterDict(
            {str(side): torch.zeros(1, width, side, side) for side in resolutions if side <= LARGEST_BIAS}
        )
        self.gain = nn.Parameter(torch.ones(1, width, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, width, 1, 1))
        if config.likelihood == "bernoulli":
            self.likelihood: Bernoulli | Logistics = Bernoulli(config.channels)
        else:
            self.likelihood = Logistics(config.channels, config.components)
        self.head = convolution(width, self.likelihood.parameters_per_pixel)
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("std", torch.tensor(float(std)))

    # --- sizes -------------------------------------------------------------------------------------------------------

    @property
    def counted(self) -> int:
        """Values of an image that count in its likelihood: pixels inside the border times channels."""
        return self.config.channels * (self.side - 2 * self.border) ** 2

    # --- the two ways ------------------------------------------------------------------------------------------------

    def encode(self, images: Tensor) -> dict[int, list[Tensor]]:
        """Activations by resolution, in the order of their making; the first is that of the first convolution."""
        x = self.first((images - self.mean) / self.std)
        found: dict[int, list[Tensor]] = {self.side: [x]}
        for entry, block in zip(self.config.encoder_entries, self.blocks, strict=True):
            for _ in range(entry.repeats):
                x = block(x)
                x = normalised(x) if self.config.normalise_state else x
                found.setdefault(x.shape[-1], []).append(x)
        return found

    def decode(
        self,
        noise: Tensor,
        activations: dict[int, list[Tensor]] | None = None,
        *,
        temperature: float = 1.0,
        posterior_cells: int | None = None,
    ) -> Run:
        """Run the decoder.

        Args:
            noise: (B, noise_size), standard normal.
            activations: of the encoder; None: all latents come from the prior.
            temperature: factor of the prior's standard deviation.
            posterior_cells: so many executed cells, from the coarsest, take the posterior; None: all.
        """
        count, log_temperature, given = noise.shape[0], math.log(temperature), self._given(activations)
        pieces = noise.split([math.prod(shape) for shape in self.latent_shapes], dim=1)
        latents: list[Latent] = []
        norms: list[Tensor] = []
        x = noise.new_zeros(0)
        steps = zip(self._steps(), pieces, self.latent_shapes, given, strict=True)
        for place, ((cell, starts, mixes), piece, shape, activation) in enumerate(steps):
            if starts:
                start = self._start(cell.resolution, count, noise)
                x = start + functional.interpolate(x, scale_factor=cell.resolution // mixes) if mixes else start
            if posterior_cells is not None and place >= posterior_cells:
                activation = None
            x, latent = cell(x, piece.view(count, *shape), activation, log_temperature)
            x = normalised(x) if self.config.normalise_state else x
            latents.append(latent)
            norms.append(x.detach().flatten(1).norm(dim=1))
        return Run(self.gain * x + self.shift, latents, norms)

    def _start(self, side: int, count: int, like: Tensor) -> Tensor:
        known = str(side) in self.starts
        start: Tensor = self.starts[str(side)] if known else like.new_zeros(1, self.config.width, side, side)
        return start.expand(count, -1, -1, -1)

    def _steps(self) -> Iterator[tuple[Cell, bool, int | None]]:
        """Executed cells, whether the state of their resolution begins there, and what resolution is mixed in."""
        begun: set[int] = set()
        for entry, cell in zip(self.config.decoder_entries, self.cells, strict=True):
            assert isinstance(cell, Cell)
            for repeat in range(entry.repeats):
                new = repeat == 0 and (entry.resolution not in begun or entry.mixes is not None)
                begun.add(entry.resolution)
                yield cell, new, entry.mixes

    def _given(self, activations: dict[int, list[Tensor]] | None) -> list[Tensor | None]:
        """What every executed cell sees of the encoder."""
        sides = [shape[-1] for shape in self.latent_shapes]
        if activations is None:
            return [None] * len(sides)
        if self.config.encoder_activations == "last":
            return [activations[side][-1] for side in sides]
        result: list[Tensor | None] = []
        for side, group in itertools.groupby(sides):
            steps, found = len(list(group)), activations[side]
            result += [found[len(found) - 1 - step * len(found) // steps] for step in range(steps)]
        return result

    # --- what is asked of it -----------------------------------------------------------------------------------------

    def terms(self, images: Tensor, noise: Tensor) -> Terms:
        """The bound on -log p of images (B, C, side, side) in [0, 1], with noise (B, noise_size)."""
        run = self.decode(noise, self.encode(images))
        log_probability = self.likelihood.log_probability(self.head(run.state), images)
        inner = slice(self.border, self.side - self.border)
        return Terms(-log_probability[..., inner, inner].flatten(1).sum(dim=1), run.latents)

    @torch.no_grad()
    def sample(self, seeds: Sequence[int], temperature: float = 1.0) -> Tensor:
        """New images (N, C, side, side) in [-1, 1], one per seed, whatever its batch.

        Binary models give the probability of white of every pixel; others draw values, which are not tempered.

        Raises:
            WavdiffError: temperature out of (0, 10].
        """
        temperature = check_temperature(temperature)

        def draw(part: Sequence[int], _: Tensor) -> Tensor:
            return self._output(self.decode(self.draw_noise(part), temperature=temperature), part)

        return _in_groups(draw, seeds, self.mean.new_zeros(len(seeds)))

    @torch.no_grad()
    def reconstruct(
        self, images: Tensor, seeds: Sequence[int], cells: int | None = None, temperature: float = 1.0
    ) -> Tensor:
        """Images (N, C, side, side) in [0, 1] again, in [-1, 1]: latents of the first `cells` from the posterior.

        The others are drawn from the prior, so that what is coarse stays and what is fine is invented; None: all stay.

        Raises:
            WavdiffError: cells below 0 or above the number of executed cells; a temperature out of range.
        """
        most = len(self.latent_shapes)
        if cells is not None and not 0 <= whole_number(cells, "cells") <= most:
            raise WavdiffError(f"cells must be between 0 and {most}, got {cells}")
        temperature = check_temperature(temperature)

        def draw(part: Sequence[int], images: Tensor) -> Tensor:
            activations = self.encode(images)
            run = self.decode(self.draw_noise(part), activations, temperature=temperature, posterior_cells=cells)
            return self._output(run, part)

        return _in_groups(draw, seeds, images)

    def draw_noise(self, seeds: Sequence[int]) -> Tensor:
        """(N, noise_size), each row a function of its seed."""
        rows = [torch.randn(self.noise_size, generator=derive_generator(seed, "latents")) for seed in seeds]
        return torch.stack(rows).to(self.mean.device)

    def _output(self, run: Run, seeds: Sequence[int]) -> Tensor:
        shape = (self.config.components + self.config.channels, self.side, self.side)
        uniform = [torch.rand(shape, generator=derive_generator(seed, "pixels")) for seed in seeds]
        return 2 * self.likelihood.draw(self.head(run.state), torch.stack(uniform).to(run.state)) - 1


def _in_groups(draw: Callable[[Sequence[int], Tensor], Tensor], seeds: Sequence[int], images: Tensor) -> Tensor:
    """`draw` over groups of one size, the last one filled up: libraries round by the size of a batch."""
    parts = []
    for start in range(0, len(seeds), GROUP):
        part, given = list(seeds[start : start + GROUP]), images[start : start + GROUP]
        lacking = GROUP - len(part)
        filled = torch.cat([given, given[:1].expand(lacking, *given.shape[1:])])
        parts.append(draw(part + part[:1] * lacking, filled)[: len(part)])
    return torch.cat(parts)
