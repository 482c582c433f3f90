"""Pictures from what was measured of them, in Python: `wavdiff.restore`."""

from __future__ import annotations

from typing import Any, Literal

import torch

from wavdiff.api import cascade_of, restored_pictures
from wavdiff.models.folders import DEFAULT_RESTORATION_MODEL
from wavdiff.restoration.degradations import Degradation
from wavdiff.restoration.inverse import Way, prior_of, solve_inverse
from wavdiff.restoration.plain import Mode
from wavdiff.restoration.request import RestorationRequest
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import check_sigma, real_number, shown


def restore(
    measured: Any,
    operator: Any,
    *,
    noise: float = 0.0,
    model: Any = DEFAULT_RESTORATION_MODEL,
    mode: Mode = "mean",
    method: Literal["moments", "splitting", "ascent"] | None = None,
    steps: int | None = None,
    refinements: int | None = None,
    seed: int = 0,
    limits: tuple[float, float] | None = None,
    memory_bytes: int = 1 << 30,
) -> Any:
    """Pictures from what was measured of them, y = A x + white noise, with a denoiser as the prior.

    Args:
        measured: y: with a `Degradation` a picture as `denoise` takes it; with an operator a tensor (B, ...).
        operator: what happened to a picture, a `Degradation`; or anything with `A` and `A_adjoint` on batches
            (B, C, H, W), linear and the adjoints of each other, as DeepInverse's physics are.
        noise: standard deviation of white noise in y: of pictures in [0, 1) units; with an operator in units of y.
        model: a cascade, the name of one that ships, or a folder; with an operator also any other
            `models.cascade.denoising.Denoiser` of whole pictures.
        mode: "mean" or "sample" (a draw).
        method: see `restoration.inverse`; None: "moments".
        steps: noise levels; default 20 of means, 25 of draws.
        refinements: products with the denoiser's Jacobian in every step, with an operator.
        seed: of draws; picture k uses `seed` + k.
        limits: with an operator: black and white of the pictures that it is for; None: (0, 1).
        memory_bytes: with a `Degradation`: what its arrays may take, about 160 for every value of the result.

    Returns:
        With a `Degradation` the same kind and type; with an operator (B, C, H, W) within `limits` but for overshoot.

    Raises:
        WavdiffError: numbers out of range, settings that do not go together, or a picture that does not fit.
    """
    if isinstance(operator, Degradation):
        if refinements is not None or limits is not None:
            raise WavdiffError("refinements and limits are for operators; leave them out with a Degradation")
        sigma = check_sigma(noise, "noise")
        request = RestorationRequest(
            "restore",
            sigma=sigma,
            degradation=operator,
            mode=mode,
            method=method,
            steps=steps,
            seed=seed,
            memory_bytes=memory_bytes,
        )
        return restored_pictures(measured, cascade_of(model), request)
    if not (hasattr(operator, "A") and hasattr(operator, "A_adjoint")):
        raise WavdiffError(f"operator must be a Degradation, or have A and A_adjoint, got {shown(operator)}")
    if not (isinstance(measured, torch.Tensor) and measured.is_floating_point() and measured.isfinite().all()):
        raise WavdiffError("measured must be a tensor of finite floating-point numbers for an operator")
    noise = real_number(noise, "noise")
    black, white = limits or (0.0, 1.0)
    if not -float("inf") < black < white < float("inf"):
        raise WavdiffError(f"limits must be black and white, black below white, got {limits}")
    if not 0 <= noise < float("inf"):
        raise WavdiffError(f"noise must be at least 0, got {noise}")
    way = Way(mode, method, steps, refinements)
    prior = prior_of(cascade_of(model))
    with torch.inference_mode():
        scale, middle = (white - black) / 2, (white + black) / 2
        # x = scale u + middle for u in [-1, 1], so that A u = (y - A middle) / scale.
        flat = torch.full_like(operator.A_adjoint(measured), middle)
        known = (measured - operator.A(flat)) / scale
        u = solve_inverse(prior, operator, known, noise / scale, range(seed, seed + len(measured)), way)
    return scale * u.clone() + middle
