"""Linear inverse problems with any denoiser as the prior: means and draws of x given y = A x + r n.

Every method is a walk of a `Guided` denoiser:

| method | V | walk |
|---|---|---|
| `moments`, mean | the spectrum of the scales | x becomes E[x | x_s = x, y], level after level; no noise |
| `moments`, draw | the denoiser's Jacobian | the reverse diffusion of posterior draws |
| `splitting`, mean | level^2 | as the mean of `moments`: half-quadratic splitting |
| `ascent`, draw | level^2 | the stochastic ascent of Kadkhodaie and Simoncelli |

Draws of `moments` are exact for a Gaussian prior but for the steps of the solver (tests/restoration/test_inverse.py).
They begin at the highest level that the denoiser knows, around the mean of a Gaussian model with the right spectrum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from wavdiff.images.rectangle import Rectangle
from wavdiff.models.cascade.ascent import Ascent
from wavdiff.models.cascade.denoising import Coarse, Denoised, Denoiser
from wavdiff.models.cascade.joint_walk import POSTERIOR
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.solvers import Schedule
from wavdiff.models.cascade.solving import solve
from wavdiff.models.random_numbers import draw_noise
from wavdiff.restoration.guidance import Guided, Isotropic, Spectrum, scale_stds, solved, spectral_mean
from wavdiff.restoration.operators import Operator
from wavdiff.restoration.plain import Effort, Noise, Plain
from wavdiff.restoration.request import RestorationRequest
from wavdiff.restoration.tasks import Denoise
from wavdiff.system.devices import computing_in
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown, whole_number

Method = Literal["moments", "splitting", "ascent"]
METHODS: tuple[str, ...] = get_args(Method)
MEAN_STEPS, DRAW_STEPS = 20, 25
LAST_LEVEL = 0.015
"""Of means, library units: about two steps of an 8-bit file."""
FIRST_STEPS, LAST_STEPS = 60, 30
"""Of conjugate gradients, for what a walk begins with, and to meet an exact measurement at its end."""


@dataclass(frozen=True)
class Way:
    """How a problem is solved.

    Attributes:
        mode: "mean" or "sample" (a draw).
        method: see the module; None: "moments".
        steps: noise levels; None: 20 of means, 25 of draws. The ascent counts its own.
        refinements: products with the denoiser's Jacobian in every step; None: 0 for means, 1 for draws.
        progress: called with (denoiser calls done, in all).

    Raises:
        WavdiffError: values that are none of these, or that do not go together.
    """

    mode: Literal["mean", "sample"] = "mean"
    method: Method | None = None
    steps: int | None = None
    refinements: int | None = None
    progress: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("mean", "sample"):
            raise WavdiffError(f"mode must be mean or sample, got {shown(self.mode)}")
        if self.method is not None and self.method not in METHODS:
            raise WavdiffError(f"method must be one of {', '.join(METHODS)}, got {shown(self.method)}")
        if (self.method, self.mode) in (("splitting", "sample"), ("ascent", "mean")):
            other = "mean" if self.mode == "sample" else "sample"
            raise WavdiffError(f"method {self.method} has mode {other}, got {self.mode}")
        if self.refinements and self.method not in (None, "moments"):
            raise WavdiffError(f"refinements are for the method moments, got {self.method}")
        if self.steps is not None and (self.method == "ascent" or whole_number(self.steps, "steps") < 1):
            rule = "the ascent's own" if self.method == "ascent" else "at least 1"
            raise WavdiffError(f"steps must be {rule}, got {shown(self.steps)}")
        if self.refinements is not None and not 0 <= self.refinements <= 100:
            raise WavdiffError(f"refinements must be between 0 and 100, got {self.refinements}")

    @property
    def products(self) -> int:
        """Products with the Jacobian in every step."""
        draws = self.mode == "sample" and self.method != "ascent"
        return self.refinements if self.refinements is not None else int(draws)


def solve_inverse(
    denoiser: Denoiser,
    operator: Operator,
    measured: Tensor,
    noise: float,
    seeds: Sequence[int],
    way: Way,
) -> Tensor:
    """Estimate, or draw from, x given y = A x + noise.

    Args:
        denoiser: the prior: a cascade, a network's denoiser, or an exact one.
        operator: A.
        measured: y, (B, ...), library units.
        noise: standard deviation of its white noise, library units; 0: exact, and so met to rounding where A A' is well
            conditioned.
        seeds: one per picture, of draws.
        way: how.

    Returns:
        (B, C, H, W), library units.
    """
    if hasattr(operator, "measured"):  # whatever a picture holds where it was not measured
        measured = operator.measured(measured)
    shape = operator.A_adjoint(measured).shape
    spectrum = Spectrum(scale_stds(denoiser), (shape[-2], shape[-1]))
    x = spectral_mean(operator, measured, noise, spectrum, FIRST_STEPS)
    top = denoiser.top * denoiser.std
    walker = None if way.mode == "mean" else _walker(denoiser, way, top)
    steps = way.steps or MEAN_STEPS

    def told(done: int) -> None:
        if way.progress:
            known = steps if walker is None else walker.calls if isinstance(walker, Schedule) else done + 1
            way.progress(done, known)

    covariance = spectrum if way.method in (None, "moments") else Isotropic()
    guided = Guided(denoiser, operator, measured, noise, covariance, refinements=way.products, told=told)
    if walker is None:
        for number in range(steps):
            level = top * (min(LAST_LEVEL, top / 2) / top) ** (number / max(1, steps - 1))
            x = guided.denoise(x, torch.full((len(x),), level).to(x)).mean
    else:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        start = 2 * walker.sigma_0 if isinstance(walker, Ascent) else top
        x = x + start * draw_noise(x.shape[1:], generators, x)
        # Differences of nearly equal answers need the precision.
        with computing_in("float32" if way.products else None):
            x = solve(guided, x, walker, seeds)
    return met(operator, measured, x) if noise == 0 else x


def _walker(denoiser: Denoiser, way: Way, top: float) -> Schedule | Ascent:
    """What draws walk down, from the noise level `top`, library units."""
    if way.method == "ascent":
        return Ascent(0.5, sigma_0=min(1.0, top / 2))
    own: Schedule = getattr(denoiser, "schedule", POSTERIOR)
    return replace(own, steps=way.steps or DRAW_STEPS).beginning_at(top / denoiser.std)


def met(operator: Operator, measured: Tensor, x: Tensor) -> Tensor:
    """The picture next to x whose measurement is y.

    The normal equations A' A d = A' (y - A x) have a solution whatever rounding does to y - A x; A A' u = y - A x has
    none where A does not reach all of y's space, as Fourier coefficients of real pictures do not.
    """
    missing = operator.A_adjoint(measured - operator.A(x))
    return x + solved(lambda change: operator.A_adjoint(operator.A(change)), missing, LAST_STEPS)


def misfit(operator: Operator, measured: Tensor, x: Tensor) -> float:
    """Rms of y - A x over what was measured, library units; values that are 0 in y and A x were not."""
    seen = operator.A(x)
    known = (measured != 0) | (seen != 0)
    return float((measured - seen)[known].square().mean().sqrt()) if bool(known.any()) else 0.0


class PictureDenoiser:
    """A cascade as the denoiser of pictures of any size and number of channels, as `wavdiff denoise` denoises them.

    Tile by tile where the cascade is local, its mirror image around a picture. Levels above what it was trained for
    are asked as that.

    Args:
        cascade: the model.
        memory_bytes: for tiles.

    Attributes:
        std, top: see `Denoiser`; `top` is where training ended.
        details, lowpass: the denoisers of its scales, for `scale_stds`.
        schedule: of its posterior draws.
    """

    mean_draws = 0

    def __init__(self, cascade: WaveletCascade, memory_bytes: int = 1 << 30) -> None:
        self.cascade, self.std = cascade, cascade.std
        most = cascade.noise_max
        self._most = min(cascade.top * cascade.std, math.inf if most is None else 2 * most)
        self.top = self._most / self.std
        self.details, self.lowpass = cascade.details, cascade.lowpass
        self.schedule = cascade.schedule("posterior")
        self._task, self._memory_bytes = Denoise(cascade, RestorationRequest("denoise")), memory_bytes

    def denoise(self, noisy: Tensor, level: Tensor, coarse: Coarse | None = None) -> Denoised:
        """See `Denoiser`; (B, C, H, W) with C = 1 or 3."""
        results = [self._one(picture.float(), each) for picture, each in zip(noisy, level.tolist(), strict=True)]
        return Denoised(torch.stack(results).to(noisy))

    def _one(self, picture: Tensor, level: float) -> Tensor:
        result = torch.empty_like(picture)

        def write(where: Rectangle, values: Tensor) -> None:
            where.of(result).copy_(values)

        size = (picture.shape[-2], picture.shape[-1])
        noise = Noise([min(level, self._most)] * (self.cascade.levels + 1))
        plain = Plain(lambda where: where.of(picture), size, picture.shape[0])
        self._task.run(plain, noise, write, Effort(memory_bytes=self._memory_bytes))
        return result


def prior_of(model: Any, memory_bytes: int = 1 << 30) -> Denoiser:
    """A cascade's denoiser of pictures; any other denoiser as it is."""
    return PictureDenoiser(model, memory_bytes) if isinstance(model, WaveletCascade) else model
