"""An exact cascade: the posterior-mean denoisers of a zero-mean Gaussian image model, by dense linear algebra.

With x ~ N(0, C) every distribution that the walk needs is Gaussian and known, so what the walk does can be checked
without any training: sampling against C, denoising against the Wiener filter, and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from wavdiff.models import wavelets
from wavdiff.models.cascade.denoisers import EDMDenoiser
from wavdiff.models.cascade.denoising import Coarse, Denoised
from wavdiff.models.cascade.noise import SIGMA_MAX, expand
from wavdiff.models.cascade.verbs import CascadeVerbs


def smooth_covariance(side: int = 8, rms: float = 0.3, white: float = 0.1, length: float = 2.5) -> Tensor:
    """(side^2, side^2) covariance of a stationary model: exp(-distance / length) with a share of white."""
    grid = torch.arange(side, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    return rms**2 * ((1 - white) * (-torch.cdist(points, points) / length).exp() + white * torch.eye(side**2))


def split_matrix(side: int, wavelet: str) -> Tensor:
    """(side^2, side^2) matrix of one wavelet step on flattened images: the coarse image first, then the details."""
    basis = torch.eye(side**2, dtype=torch.float64).reshape(-1, 1, side, side)
    return torch.cat([part.flatten(1) for part in wavelets.split(basis, wavelet)], dim=1).T


def wiener(covariance: Tensor, level: float) -> Tensor:
    """Matrix of E[x | x + level * n] for x ~ N(0, covariance)."""
    noisy = covariance + level**2 * torch.eye(len(covariance), dtype=covariance.dtype)
    return torch.linalg.solve(noisy, covariance).T


def rows(images: Tensor) -> Tensor:
    """(B, C, h, w) as (B, C h w), float64."""
    return images.double().flatten(1)


def by_level(levels: Tensor, inputs: Tensor, operator: Callable[[float], Tensor]) -> Tensor:
    """Apply `operator(level)` (m, n) to each row of `inputs` (B, n) by its level."""
    result = None
    for level in levels.unique():
        image = inputs @ operator(float(level)).T
        result = image if result is None else torch.where(levels[:, None] == level, image, result)
    assert result is not None
    return result


class WhiteGaussian(EDMDenoiser):
    """E[x | x + s n] of independent x ~ N(0, variance): y variance / (variance + s^2), tile by tile as in the whole.

    Args:
        variance: library units.
        std: unit of standard levels.
        network: a small one, which is not called: what says how tiles are cut.
    """

    def __init__(self, variance: float, std: float = 1.0, network: nn.Module | None = None) -> None:
        super().__init__(network or nn.Identity(), std)
        self.variance = variance

    def shrunk(self, noisy: Tensor, level: Tensor | float) -> Tensor:
        return self.variance / (self.variance + level**2) * noisy

    def denoise(self, noisy: Tensor, level: Tensor, coarse: Coarse | None = None) -> Denoised:
        return Denoised(self.shrunk(noisy, expand(level, noisy)), None if coarse is None else coarse.estimate)

    def at(self, level: float, coarse_level: float = 0.0, *, gray: bool, dtype: torch.dtype) -> Any:
        return SimpleNamespace(
            denoise=lambda noisy, _, coarse: Denoised(self.shrunk(noisy, level), coarse and coarse.estimate)
        )


class GaussianLowpass:
    """E[x_J | y_J] for x_J ~ N(0, covariance)."""

    top, mean_draws = SIGMA_MAX, 0

    def __init__(self, covariance: Tensor) -> None:
        self.std = float(covariance.diagonal().mean().sqrt())
        self.covariance = covariance

    def denoise(self, noisy: Tensor, level: Tensor, coarse: Coarse | None = None) -> Denoised:
        mean = by_level(level, rows(noisy), lambda s: wiener(self.covariance, s))
        return Denoised(mean.reshape(noisy.shape).to(noisy.dtype))


class GaussianDetails:
    """E[d | noisy d, x exact], or E[(d, x) | noisy d, noisy x] for a jointly Gaussian pair, the coarse x first."""

    top, mean_draws = SIGMA_MAX, 0

    def __init__(self, joint: Tensor, coarse_size: int) -> None:
        self.std = float(joint.diagonal()[coarse_size:].mean().sqrt())
        self.joint = joint
        coarse, cross = joint[:coarse_size, :coarse_size], joint[:coarse_size, coarse_size:]
        self.regression = torch.linalg.solve(coarse, cross).T  # E[d | x] = regression x
        self.conditional = joint[coarse_size:, coarse_size:] - self.regression @ cross

    def denoise(self, noisy: Tensor, level: Tensor, coarse: Coarse | None = None) -> Denoised:
        assert coarse is not None
        y, x = rows(noisy), rows(coarse.estimate)
        if coarse.observed is None or coarse.level is None or not coarse.level.any():
            guess = x @ self.regression.T
            mean = guess + by_level(level, y - guess, lambda s: wiener(self.conditional, s))
            return Denoised(mean.reshape(noisy.shape).to(noisy.dtype), coarse.estimate)
        if not torch.allclose(level, coarse.level):
            raise NotImplementedError("the coarse image is observed at the noise level of the details")
        both = by_level(level, torch.cat([rows(coarse.observed), y], dim=1), lambda s: wiener(self.joint, s))
        size = x.shape[1]
        corrected = both[:, :size].reshape(coarse.estimate.shape).to(noisy.dtype)
        return Denoised(both[:, size:].reshape(noisy.shape).to(noisy.dtype), corrected)


class GaussianCascade(CascadeVerbs):
    """The walk with exact denoisers of N(0, covariance) on side x side gray images; float64."""

    def __init__(
        self,
        covariance: Tensor | None = None,
        *,
        side: int = 8,
        levels: int = 2,
        wavelet: str = "haar",
        conditioning_augmentation: bool = True,
    ) -> None:
        self.side, self.wavelet = side, wavelet
        self.conditioning_augmentation = conditioning_augmentation
        self.covariance = smooth_covariance(side) if covariance is None else covariance
        self.coarse_covariances = [self.covariance]  # of x_0, x_1, ..., x_J
        joints = []
        for scale in range(levels):
            matrix = split_matrix(side // 2**scale, wavelet)
            joints.append(matrix @ self.coarse_covariances[-1] @ matrix.T)
            size = len(matrix) // 4
            self.coarse_covariances.append(joints[-1][:size, :size])
        self.lowpass = GaussianLowpass(self.coarse_covariances[-1])
        self.details = [GaussianDetails(joint, len(joint) // 4) for joint in joints]

    def _like(self) -> Tensor:
        return torch.zeros((), dtype=torch.float64)

    def draw(self, count: int, seed: int = 0) -> Tensor:
        """(count, 1, side, side) exact draws of the model."""
        generator = torch.Generator().manual_seed(seed)
        white = torch.randn(count, self.side**2, generator=generator, dtype=torch.float64)
        return (white @ torch.linalg.cholesky(self.covariance).T).reshape(count, 1, self.side, self.side)


def worst_and_mean_score(samples: Tensor, mean: Tensor, covariance: Tensor) -> tuple[float, float, float]:
    """How far the sample mean and covariance are from the true ones, in standard errors.

    Samples (N, n) are whitened with the true law; then each entry of the sample covariance has standard error
    sqrt(1 / N), on the diagonal sqrt(2 / N), and each mean sqrt(1 / N).

    Returns:
        Largest score of a covariance entry, mean square score of them (expected: 1), largest score of a mean.
    """
    count, size = samples.shape
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (samples.double() - mean).T, upper=False)
    error = white @ white.T / count - torch.eye(size, dtype=torch.float64)
    scores = error * count**0.5 / (1 + torch.eye(size, dtype=torch.float64)).sqrt()
    entries = scores[torch.ones(size, size, dtype=torch.bool).tril()]
    return float(entries.abs().max()), float(entries.square().mean()), float((white.mean(1) * count**0.5).abs().max())
