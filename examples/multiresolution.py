"""What a U-Net's pooling and a VAE's cells are, in numbers: theorems of Falck et al. (2022) that a computer can show.

    python examples/multiresolution.py

Prints, for the statements of arXiv 2301.08187 (its sections 2 and 3): average pooling is the projection on coarser Haar
functions (theorem 2); what is lost by going through a coarse space is what projections drop (theorem 3: the case where
both sides are equal, and one where the printed statement is wrong); a cell of the VAE is a step of Euler's method for
an Ornstein-Uhlenbeck process, whose error halves with the step (theorem 4); a diffusion that gains resolution as time
goes on (theorem 1). docs/multiresolution.md discusses them; tests/examples/test_multiresolution.py holds them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from wavdiff.models import wavelets
from wavdiff.models.vdvae.blocks import Cell
from wavdiff.models.vdvae.strings import Entry


def pooling_is_projection(images: Tensor, levels: int) -> list[tuple[float, float]]:
    """Theorem 2: for every level, how far pooling is from dropping Haar details, and energies from adding up.

    An n x n image x has the coefficients x / n in the orthonormal pixel basis of L2([0, 1]^2).

    Returns:
        (largest difference of coefficients, relative difference of energies), from fine to coarse.
    """
    found, x = [], images.double()
    for _ in range(levels):
        n = x.shape[-1]
        pooled = functional.avg_pool2d(x, 2)
        halved, _ = wavelets.split(x / n)
        lowpass = 2 * halved  # the package's step has the range of an image; the orthonormal one is twice as large
        apart = float((lowpass - pooled / (n / 2)).abs().max())
        rest = x - functional.interpolate(pooled, scale_factor=2)
        energy = [float(values.square().sum()) / side**2 for values, side in ((x, n), (pooled, n / 2), (rest, n))]
        found.append((apart, abs(energy[0] - energy[1] - energy[2]) / energy[0]))
        x = pooled
    return found


def coarse_projection(side: int) -> Tensor:
    """Pooling 2x2 and nearest enlarging as a matrix (side^2, side^2)."""
    basis = torch.eye(side**2, dtype=torch.float64).view(-1, 1, side, side)
    return functional.interpolate(functional.avg_pool2d(basis, 2), scale_factor=2).flatten(1).T


def gaussian_distance(first: Tensor, second: Tensor) -> float:
    """Squared Wasserstein distance of centred normal distributions with these covariances."""

    def root(matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
        return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T

    half = root(second)
    return float(torch.trace(first) + torch.trace(second) - 2 * torch.trace(root(half @ first @ half)))


def dropped_details(covariance: Tensor, side: int) -> tuple[float, float]:
    """Theorem 3, F pooling, B nearest enlarging: (energy of the dropped details, squared distance of BF nu to nu)."""
    projection = coarse_projection(side)
    left = torch.trace(covariance - projection @ covariance)
    return float(left), gaussian_distance(projection @ covariance @ projection.T, covariance)


def counterexample(variance: float = 1.0) -> tuple[float, float]:
    """Theorem 3 as printed, where B makes details: (left side, right side) for x = (s, s), B(s) = (s, s)."""
    nu = variance * torch.ones(2, 2, dtype=torch.float64)
    forth = torch.tensor([[1.0, 0.0]], dtype=torch.float64)  # keeps the coarse coefficient
    back = torch.tensor([[1.0], [1.0]], dtype=torch.float64)
    both = back @ forth
    return float(nu[1, 1]), gaussian_distance(both @ nu @ both.T, nu)


class Linear(nn.Module):
    """x -> factor x behind `zeros` channels of 0, as the prior of a cell gives them."""

    def __init__(self, factor: float, zeros: int = 0) -> None:
        super().__init__()
        self.factor, self.zeros = factor, zeros

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return torch.cat([x.new_zeros(x.shape[0], self.zeros, *x.shape[2:]), self.factor * x], dim=1)


def euler_cell(step: float, first: float, second: float, noise: float) -> Cell:
    """A cell whose drifts are `first` x and `second` x and whose latent is white: a step of length `step`."""
    cell = Cell(4, 4, Entry(1), 1.0, True)
    cell.prior = Linear(step * first, zeros=8)  # type: ignore[assignment]
    cell.project = Linear(noise * math.sqrt(step))  # type: ignore[assignment]
    cell.block = Linear(1 + step * second)  # type: ignore[assignment]
    return cell


def cell_against_process(
    steps: int, first: float = -0.7, second: float = -0.5, noise: float = 0.8
) -> tuple[float, float]:
    """Theorem 4: errors of mean and variance at time 1, from the state 1, of so many equal (shared) cells.

    The process is dZ = (first + second) Z dt + noise dW. A cell is linear here, so that its moments follow from what it
    makes of a state without noise, and of noise without a state.
    """
    cell = euler_cell(1 / steps, first, second, noise).double()
    one, zero = (make(1, 4, 1, 1, dtype=torch.float64) for make in (torch.ones, torch.zeros))
    with torch.no_grad():
        gain, spread = (float(cell(x, e, None, 0.0)[0][0, 0]) for x, e in ((one, zero), (zero, one)))
    mean, variance = 1.0, 0.0
    for _ in range(steps):
        mean, variance = gain * mean, gain**2 * variance + spread**2
    rate = first + second
    exact = math.exp(rate), noise**2 * (math.exp(2 * rate) - 1) / (2 * rate)
    return abs(mean - exact[0]), abs(variance - exact[1])


def bridge(levels: int, steps: int, seed: int = 0) -> list[tuple[float, float]]:
    """Theorem 1: a process that lives on images of 1x1, 2x2, ... in turn; each gains resolution by enlarging.

    Returns:
        Where a resolution begins: (how far coarse coefficients jump, largest detail of the new scale).
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 1, 1, 1, dtype=torch.float64, generator=generator)
    found = []
    for _ in range(levels):
        before, x = x, functional.interpolate(x, scale_factor=2)
        coarse, details = wavelets.split(x)
        found.append((float((coarse - before).abs().max()), float(details.abs().max())))
        for _ in range(steps):
            noise = torch.randn(x.shape, dtype=torch.float64, generator=generator)
            x = x - x / steps + noise * math.sqrt(2 / steps)
    return found


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    print("Theorem 2: pooling against dropping details, and energies (differences, fine to coarse)")
    for apart, energy in pooling_is_projection(torch.rand(4, 1, 32, 32, generator=generator), 4):
        print(f"  {apart:.1e}   {energy:.1e}")
    root = torch.randn(16, 16, dtype=torch.float64, generator=generator)
    left, right = dropped_details(root @ root.T, 4)
    print(f"Theorem 3, pooling and nearest enlarging: energy dropped {left:.6f}, squared distance {right:.6f}")
    left, right = counterexample()
    print(f"  where B makes details: {left:.3f} is not at most {right:.3f}: as printed it does not hold")
    print("Theorem 4: errors of mean and variance at time 1, and their ratios to those of half as many cells")
    errors = [cell_against_process(steps) for steps in (32, 64, 128, 256)]
    for steps, before, now in zip((64, 128, 256), errors, errors[1:], strict=False):
        print(f"  {steps} cells: {now[0]:.5f} {now[1]:.5f}, ratios {now[0] / before[0]:.3f} {now[1] / before[1]:.3f}")
    print("Theorem 1: jumps of coarse coefficients, and first details, where a resolution begins")
    for jump, detail in bridge(4, 50):
        print(f"  {jump:.1e}   {detail:.1e}")


if __name__ == "__main__":
    main()
