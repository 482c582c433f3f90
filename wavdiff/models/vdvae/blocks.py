"""The two units of a hierarchical VAE: a block of convolutions, and a cell of the decoder with its latent.

`Block`: GELU and convolution four times, 1x1 to a quarter of the width, twice k x k, 1x1 to the width it gives; k is 3,
and 1 at resolutions of up to 2 pixels, where there is nothing beside a pixel.

A cell takes the state x and gives

    (mu_q, s_q) = posterior([x, a]),    (mu_p, s_p, h) = prior(x),    z = mu + exp(s) e,
    x <- x + h,    x <- x + P z,    x <- x + block(x),

where a is an activation of the encoder and s the logarithm of a *standard deviation*. Read as a process in depth (Falck
et al. 2022, theorem 4) that is a drift, noise, and a second drift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from wavdiff.models.vdvae.strings import Entry


class Block(nn.Module):
    """(B, inputs, r, r) -> (B, outputs, r, r).

    Args:
        inputs, hidden, outputs: channels.
        resolution: side of what it sees.
        residual: whether the input is added to the output.
        pool: factor of the average pooling behind it.
        scale: of the weights of the last convolution; 0: they and its bias start at zero.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        outputs: int,
        resolution: int,
        *,
        residual: bool = False,
        pool: int = 1,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        side = 3 if resolution > 2 else 1
        sizes = ((inputs, hidden, 1), (hidden, hidden, side), (hidden, hidden, side), (hidden, outputs, 1))
        self.convolutions = nn.ModuleList(convolution(a, b, k) for a, b, k in sizes)
        self.residual, self.pool = residual, pool
        last = self.convolutions[-1]
        with torch.no_grad():
            last.weight.mul_(scale)  # type: ignore[operator, union-attr]

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        y = x
        for layer in self.convolutions:
            y = layer(functional.gelu(y))
        if self.residual:
            y = x + y
        return functional.avg_pool2d(y, self.pool) if self.pool > 1 else y


def convolution(inputs: int, outputs: int, side: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size; its bias starts at zero."""
    layer = nn.Conv2d(inputs, outputs, side, padding=side // 2)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


@dataclass(frozen=True)
class Latent:
    """What a cell did.

    Attributes:
        kl: of posterior and prior, (B,) in nats; 0 where the latent came from the prior.
        log_ratio: log p(z) - log q(z | x) of the latent that was drawn, (B,).
        drift: norms (B,) of h; drawn: of h + P z; moved: of all that was added; before: of the state.
    """

    kl: Tensor
    log_ratio: Tensor
    drift: Tensor
    drawn: Tensor
    moved: Tensor
    before: Tensor


class Cell(nn.Module):
    """A cell of the decoder; see the module.

    Args:
        width, latent: channels of the state and of the latent.
        entry: its resolution.
        scale: of the last weights of `project` and of the block.
        residual: whether the block's input is added to its output.
    """

    def __init__(self, width: int, latent: int, entry: Entry, scale: float, residual: bool) -> None:
        super().__init__()
        hidden, self.latent, self.resolution = width // 4, latent, entry.resolution
        self.posterior = Block(2 * width, hidden, 2 * latent, entry.resolution)
        self.prior = Block(width, hidden, 2 * latent + width, entry.resolution, scale=0.0)
        self.project = convolution(latent, width)
        with torch.no_grad():
            self.project.weight.mul_(scale)
        self.block = Block(width, hidden, width, entry.resolution, residual=residual, scale=scale)

    def forward(
        self, x: Tensor, noise: Tensor, activation: Tensor | None, log_temperature: float
    ) -> tuple[Tensor, Latent]:
        """The next state and what was done.

        Args:
            x: the state (B, width, r, r).
            noise: standard normal (B, latent, r, r).
            activation: of the encoder, for a latent from the posterior; None: from the prior.
            log_temperature: is added to the prior's logarithm of the standard deviation, where the latent is its own.
        """
        mean, log_std, drift = self.prior(x).split([self.latent, self.latent, x.shape[1]], dim=1)
        kl = log_ratio = x.new_zeros(x.shape[0])
        if activation is None:
            z = mean + (log_std + log_temperature).exp() * noise
        else:
            post_mean, post_log_std = self.posterior(torch.cat([x, activation], dim=1)).chunk(2, dim=1)
            z = post_mean + post_log_std.exp() * noise
            apart = (post_mean - mean).square()
            terms = log_std - post_log_std - 0.5 + ((2 * post_log_std).exp() + apart) / (2 * (2 * log_std).exp())
            kl = terms.flatten(1).sum(dim=1)
            ratios = post_log_std - log_std + (noise.square() - (z - mean).square() * (-2 * log_std).exp()) / 2
            log_ratio = ratios.flatten(1).sum(dim=1)
        projected = self.project(z)
        drawn = x + drift + projected
        after = self.block(drawn)
        with torch.no_grad():
            norms = [value.detach().flatten(1).norm(dim=1) for value in (drift, drift + projected, after - x, x)]
        return after, Latent(kl, log_ratio, *norms)


def normalised(x: Tensor) -> Tensor:
    """A state (B, ...) with the norm sqrt(entries), per image."""
    entries = math.prod(x.shape[1:])
    norm = x.flatten(1).norm(dim=1).clamp(min=1e-6)
    return x * (math.sqrt(entries) / norm).view(-1, *[1] * (x.ndim - 1))
