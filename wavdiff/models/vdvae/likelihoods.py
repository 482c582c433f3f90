"""How probable an image is, given the last state: Bernoulli pixels, or 8-bit values under a mixture of logistics.

The mixture is that of PixelCNN++ (Salimans et al. 2017) in the form of the VDVAE release: a logistic with mean m and
log scale s gives the value x in [-1, 1] the probability of its bin,

    sigmoid((x + 1/255 - m) / e^s) - sigmoid((x - 1/255 - m) / e^s),

with open bins at both ends; where that is below 1e-5, the density times the bin's width stands in. Means of green and
blue depend on the true red and green by three coefficients.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

HALF_BIN = 1 / 255
LEAST_LOG_SCALE = -7.0
LEAST_PROBABILITY = 1e-5


class Bernoulli(nn.Module):
    """Binary pixels; parameters (B, C, r, r) are logits.

    Args:
        channels: of images.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.parameters_per_pixel = channels

    def log_probability(self, parameters: Tensor, images: Tensor) -> Tensor:
        """(B, C, r, r) in nats; `images` are 0 or 1."""
        return -functional.binary_cross_entropy_with_logits(parameters, images, reduction="none")

    def draw(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        """The expected images in [0, 1]: drawn pixels would be black or white. `uniform` is not used."""
        return parameters.sigmoid()


class Logistics(nn.Module):
    """8-bit values; parameters (B, components (1 + 2 C + [3 if RGB]), r, r).

    Args:
        channels: 1 or 3.
        components: of the mixture.
    """

    def __init__(self, channels: int, components: int) -> None:
        super().__init__()
        self.channels, self.components = channels, components
        self.coefficients = 3 if channels == 3 else 0
        self.parameters_per_pixel = components * (1 + 2 * channels + self.coefficients)

    def _split(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log weights (B, K, r, r), means and log scales (B, C, K, r, r), coefficients (B, 3, K, r, r)."""
        k, c = self.components, self.channels
        logits, rest = parameters[:, :k], parameters[:, k:].unflatten(1, (-1, k))
        means, scales, coefficients = rest[:, :c], rest[:, c : 2 * c], rest[:, 2 * c :]
        return logits.log_softmax(dim=1), means, scales.clamp(min=LEAST_LOG_SCALE), coefficients.tanh()

    def log_probability(self, parameters: Tensor, images: Tensor) -> Tensor:
        """(B, 1, r, r): of all channels of a pixel together, in nats; `images` (B, C, r, r) in [0, 1], of 8 bits."""
        weights, means, scales, coefficients = self._split(parameters)
        x = (2 * images - 1)[:, :, None]
        if self.coefficients:
            red, green = x[:, 0], x[:, 1]
            shifts = (coefficients[:, 0] * red, coefficients[:, 1] * red + coefficients[:, 2] * green)
            means = torch.stack([means[:, 0], means[:, 1] + shifts[0], means[:, 2] + shifts[1]], dim=1)
        centred, sharpness = x - means, (-scales).exp()
        upper, lower = sharpness * (centred + HALF_BIN), sharpness * (centred - HALF_BIN)
        probability = upper.sigmoid() - lower.sigmoid()
        middle = sharpness * centred
        density = middle - scales - 2 * functional.softplus(middle) + math.log(2 * HALF_BIN)
        inner = torch.where(probability > LEAST_PROBABILITY, probability.clamp(min=LEAST_PROBABILITY).log(), density)
        # Of the bins at the ends all that lies beyond.
        at_the_end = torch.where(x > 0.999, -functional.softplus(lower), inner)
        log_bins = torch.where(x < -0.999, upper - functional.softplus(upper), at_the_end)
        return (weights + log_bins.sum(dim=1)).logsumexp(dim=1, keepdim=True)

    def draw(self, parameters: Tensor, uniform: Tensor) -> Tensor:
        """Images in [0, 1], a component and its values by `uniform` (B, K + C, r, r) in (0, 1)."""
        weights, means, scales, coefficients = self._split(parameters)
        uniform = uniform.clamp(1e-5, 1 - 1e-5)
        gumbel = -(-uniform[:, : self.components].log()).log()
        chosen = functional.one_hot((weights + gumbel).argmax(dim=1), self.components).movedim(-1, 1).to(means.dtype)
        values = means + scales.exp() * uniform[:, self.components :].logit()[:, :, None]
        return self._images(values, coefficients, chosen)

    def _images(self, values: Tensor, coefficients: Tensor, weights: Tensor) -> Tensor:
        """Values (B, C, K, r, r) of the components, taken together; green and blue follow from what came before."""
        channels = [(values[:, 0].clamp(-1, 1))]
        if self.coefficients:
            channels.append((values[:, 1] + coefficients[:, 0] * channels[0]).clamp(-1, 1))
            shift = coefficients[:, 1] * channels[0] + coefficients[:, 2] * channels[1]
            channels.append((values[:, 2] + shift).clamp(-1, 1))
        return ((weights[:, None] * torch.stack(channels, dim=1)).sum(dim=2) + 1) / 2
