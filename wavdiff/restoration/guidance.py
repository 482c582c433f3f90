"""A denoiser that has also seen a measurement: E[x | x + s n, A x + r n'] of a denoiser E[x | x + s n].

With m = D(x_s) and V the covariance of x given x_s, both Gaussian to second order,

    E[x | x_s, y] = m + V A' (r^2 + A V A')^-1 (y - A m)

(moment matching: Rozet, Andry, Lanusse, Louppe, "Learning diffusion priors from observations by expectation
maximization", NeurIPS 2024, arXiv 2405.13712). By Tweedie's formula V = s^2 times the Jacobian of D, so that for a
Gaussian prior the answer is exact. The Jacobian costs a call of the denoiser for every product with a vector (a finite
difference, so that any denoiser will do, in tiles too). What is known of V beforehand spares most of them: pictures are
stationary, and the rms of the cascade's scales is their spectrum S, from which V is about s^2 S / (s^2 + S) at every
frequency. That alone, V = `Spectrum`, makes good means; with it as the preconditioner of conjugate gradients one or two
products with the Jacobian make good draws.

V = s^2 (`Isotropic`) is the proximal step of plug-and-play methods: half-quadratic splitting (Zhang et al., "Plug-and-
play image restoration with deep denoiser prior", 2021), and for r = 0 the constraint of Kadkhodaie and Simoncelli,
"Solving linear inverse problems using the prior implicit in a denoiser" (arXiv 2007.13640), algorithm 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from wavdiff.models.cascade.denoising import Coarse, Denoised, Denoiser
from wavdiff.restoration.operators import Operator, dot, times

Map = Callable[[Tensor], Tensor]
INNER = 8
"""Steps of conjugate gradients without calls of the denoiser."""
DIFFERENCE = 0.1
"""Rms of the step of a finite difference, in noise levels."""
_LEAST = 1e-30


class Covariance(Protocol):
    """What is supposed of the covariance of x given x + level * noise."""

    def after(self, level: Tensor) -> Map:
        """Its product with pictures (B, C, H, W), for levels (B,), library units."""
        ...


class Spectrum:
    """Stationary pictures whose spectrum is that of a cascade's scales, a power law between them and beyond.

    Mirror images go on at the borders (the basis is that of the cosine transform).

    Args:
        stds: rms of the details of every scale, finest first, and of the low-pass image, library units, as a cascade
            has them. Without details: of whole images, whose spectrum is then supposed to fall with the square of the
            frequency.
        size: (height, width) of pictures.
    """

    def __init__(self, stds: Sequence[float], size: tuple[int, int]) -> None:
        height, width = size
        self.size = size
        rows, columns = torch.arange(height + 1) / height, torch.arange(width + 1) / width
        rows = torch.cat([rows[:-1], rows[1:].flip(0)])
        frequency = (rows[:, None] ** 2 + columns[None] ** 2).sqrt()  # 1: the highest of rows or columns
        # The octave of scale k lies between 2^-(k + 1) and 2^-k, most of its energy above the middle.
        details = list(enumerate(stds[:-1])) or [(0, 1.0)]
        known = [(-(scale + 0.35) * math.log(2), 2 * math.log(2 ** (scale + 1) * std)) for scale, std in details]
        (right, high), (left, low) = known[0], known[-1]
        slope = (high - low) / (right - left) if len(known) > 1 else -2.0
        beyond = 100.0  # a straight line goes on on either side
        ends = [(left - beyond, low - slope * beyond), *reversed(known), (right + beyond, high + slope * beyond)]
        places = frequency.clamp(min=0.5 / max(size)).double().log()
        self.power = torch.from_numpy(np.interp(places.numpy(), *np.array(ends).T)).exp()
        if len(stds) == 1:
            self.power *= stds[0] ** 2 / self.power.mean()

    def after(self, level: Tensor) -> Map:
        """See `Covariance`."""
        energy = level.double().square().reshape(-1, 1, 1, 1)
        if bool((level == level[0]).all()):
            energy = energy[:1]
        power = self.power.to(level.device)
        return self._multiplying(power * energy / (power + energy))

    def prior(self) -> Map:
        """The product with the covariance of x itself."""
        return self._multiplying(self.power[None, None])

    def _multiplying(self, gain: Tensor) -> Map:
        height, width = self.size

        def multiply(x: Tensor) -> Tensor:
            framed = torch.cat([x, x.flip(-1)], dim=-1)
            framed = torch.cat([framed, framed.flip(-2)], dim=-2)
            made = torch.fft.irfft2(torch.fft.rfft2(framed) * gain.to(x), s=(2 * height, 2 * width))
            return made[..., :height, :width]

        return multiply


class Isotropic:
    """Independent pixels: V = level^2, whatever x is."""

    def after(self, level: Tensor) -> Map:
        """See `Covariance`."""
        return lambda x: times(level.to(x).square(), x)


class Guided:
    """A denoiser that has also seen a measurement, see the module; a `Denoiser` itself.

    Args:
        denoiser: of pictures (B, C, H, W).
        operator: A.
        measured: y, (B, ...), library units.
        noise: r, standard deviation of the white noise in y, library units; 0: exact.
        covariance: V, or what preconditions it.
        refinements: products with the denoiser's own Jacobian, a call each; 0: V is `covariance`.
        inner: steps of conjugate gradients on `covariance`.
        told: called with the number of answers so far, after each.

    Attributes:
        calls: of the denoiser, so far.
    """

    mean_draws = 0

    def __init__(
        self,
        denoiser: Denoiser,
        operator: Operator,
        measured: Tensor,
        noise: float,
        covariance: Covariance,
        *,
        refinements: int = 0,
        inner: int = INNER,
        told: Callable[[int], None] | None = None,
    ) -> None:
        self.std, self.top = denoiser.std, denoiser.top
        self.operator, self.measured, self.noise = operator, measured, noise
        self.covariance, self.refinements, self.inner = covariance, refinements, inner
        self._denoiser, self.calls = denoiser, 0
        self._told, self._answers = told, 0

    def denoise(self, noisy: Tensor, level: Tensor, coarse: Coarse | None = None) -> Denoised:
        """See `Denoiser`."""
        answer = self._answer(noisy, level)
        self._answers += 1
        if self._told:
            self._told(self._answers)
        return Denoised(answer)

    def _answer(self, noisy: Tensor, level: Tensor) -> Tensor:
        operator = self.operator
        mean = self._mean(noisy, level)
        covariance = self.covariance.after(level)
        rest = self.measured - operator.A(mean)
        # A little noise even where there is none: A A' may be singular.
        system = measurement_of(operator, covariance, (1e-6 * level.square()).clamp(min=self.noise**2))

        def precondition(residual: Tensor) -> Tensor:
            return solved(system, residual, self.inner)

        if not self.refinements:
            return mean + covariance(operator.A_adjoint(precondition(rest)))
        change, gradient = torch.zeros_like(mean), precondition(rest)
        direction, size = gradient, dot(rest, gradient)
        for number in range(self.refinements):
            moved = self._jacobian(noisy, level, mean, operator.A_adjoint(direction))
            image = self.noise**2 * direction + operator.A(moved)
            curvature = dot(direction, image)
            step = torch.where(curvature > _LEAST, size / curvature.clamp(min=_LEAST), 0)
            change = change + times(step, moved)
            if number < self.refinements - 1:
                before, rest = rest, rest - times(step, image)
                gradient = precondition(rest)
                # What was solved for is not always the same: Polak and Ribiere's formula bears it.
                following, turned = dot(rest, gradient), dot(rest - before, gradient)
                direction = gradient + times(turned / size.clamp(min=_LEAST), direction)
                size = following
        return mean + change

    def _mean(self, noisy: Tensor, level: Tensor) -> Tensor:
        self.calls += 1
        return self._denoiser.denoise(noisy, level).mean

    def _jacobian(self, noisy: Tensor, level: Tensor, mean: Tensor, vector: Tensor) -> Tensor:
        """level^2 times the product with the denoiser's Jacobian, which Tweedie's formula says is the covariance."""
        rms = vector.flatten(1).square().mean(dim=1).sqrt().clamp(min=_LEAST)
        reach = DIFFERENCE * level.to(vector) / rms
        return times(level.to(vector).square() / reach, self._mean(noisy + times(reach, vector), level) - mean)


def spectral_mean(operator: Operator, measured: Tensor, noise: float, spectrum: Spectrum, steps: int) -> Tensor:
    """What `Spectrum` alone makes of a measurement (see `Guided`), by so many steps of conjugate gradients."""
    covariance, ones = spectrum.prior(), torch.ones_like(operator.A_adjoint(measured))
    seen = operator.A(ones)
    level = dot(seen, measured) / dot(seen, seen).clamp(min=_LEAST)  # of all: power laws know none
    middle = times(level, ones)
    system = measurement_of(operator, covariance, torch.full_like(level, max(noise, 0.02) ** 2))
    return middle + covariance(operator.A_adjoint(solved(system, measured - operator.A(middle), steps)))


def measurement_of(operator: Operator, covariance: Map, variance: Tensor) -> Map:
    """r^2 + A V A', the covariance of what is measured, with noise of a variance (B,)."""
    return lambda u: times(variance.to(u), u) + operator.A(covariance(operator.A_adjoint(u)))


def solved(system: Map, right: Tensor, steps: int) -> Tensor:
    """What a positive definite system makes `right` of, by so many steps of conjugate gradients, image by image."""
    solution, rest = torch.zeros_like(right), right
    direction, energy = rest, dot(rest, rest)
    enough = (100 * torch.finfo(right.dtype).eps) ** 2 * energy  # beyond it singular systems are answered by rounding
    for _ in range(steps):
        image = system(direction)
        curvature = dot(direction, image)
        going = (energy > enough) & (curvature > 0)
        if not bool(going.any()):
            break
        step = torch.where(going, energy / curvature.clamp(min=_LEAST), 0)
        solution, rest = solution + times(step, direction), rest - times(step, image)
        before, energy = energy, torch.where(going, dot(rest, rest), energy)
        direction = rest + times(energy / before.clamp(min=_LEAST), direction)
    return solution


def scale_stds(denoiser: Any) -> list[float]:
    """The rms of a denoiser's scales, finest first, the low-pass image last; of one without scales its own."""
    scales = [*getattr(denoiser, "details", ()), getattr(denoiser, "lowpass", denoiser)]
    return [float(scale.std) for scale in scales]
