"""A cascade as a denoiser of DeepInverse (https://deepinv.org), so that its plug-and-play solvers run on our prior.

A plug-and-play solver restores y = A x + noise by taking turns: a step towards the measurement y, which needs nothing
but the operator A, and a denoising step in place of the proximity operator of a regulariser (Venkatakrishnan, Bouman,
Wohlberg, "Plug-and-play priors for model based reconstruction", 2013). One cascade then inpaints, deblurs and does
whatever else can be written as an operator, without being trained for it:

    from deepinv.optim import HQS, L2, PnP
    from deepinv.physics import Inpainting
    from wavdiff.adapters.deepinv import CascadeDenoiser

    levels = [0.2 * 0.8**k + 0.01 for k in range(20)]
    solver = HQS(L2(), PnP(CascadeDenoiser("faces")), stepsize=10.0, g_param=levels, max_iter=20)
    restored = solver(y, physics)

Units are DeepInverse's: pictures in [0, 1], sigma in the same units. Needs `pip install "wavdiff[plugandplay]"`, which
brings torchvision. That must come from the same index as torch: PyPI's does not load beside a torch built without CUDA,
and diffusers, which imports torchvision where it finds it, then fails as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavdiff import api
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.models.folders import DEFAULT_RESTORATION_MODEL
from wavdiff.system.errors import WavdiffError

try:
    from deepinv.models import Denoiser
except ImportError as error:
    raise ImportError(
        f'wavdiff.adapters.deepinv needs deepinv ({error}): pip install "wavdiff[plugandplay]"'
    ) from error
except RuntimeError as error:
    # torchvision, which deepinv imports, fails like this beside a torch of another build ("... nms does not exist").
    raise ImportError(f"deepinv cannot be imported ({error}); install torch and torchvision from one index") from error


class CascadeDenoiser(Denoiser):
    """The posterior mean of a cascade, called as DeepInverse calls its denoisers.

    It is always in evaluation mode, whatever `train()` says, and gives no gradients: solvers that only call it run as
    they are; training through it, or guidance by its gradient, is refused instead of being wrong.

    Args:
        model: a shipped model's name, a model folder, or a loaded cascade (which moves to `device`).
        device: where the networks run; pictures come back to where they were.

    Raises:
        WavdiffError: a model that cannot be loaded.
    """

    def __init__(
        self, model: str | Path | WaveletCascade = DEFAULT_RESTORATION_MODEL, device: str | torch.device | None = None
    ) -> None:
        cascade = load_cascade(model) if isinstance(model, str | Path) else model
        super().__init__()
        self.cascade = cascade.to(device) if device is not None else cascade
        self.eval()

    def train(self, mode: bool = True) -> CascadeDenoiser:
        """Stay in evaluation mode: a solver that is trained must not switch on dropout here."""
        super().train(False)
        return self

    def forward(self, x: Tensor, sigma: float | Tensor | list[float], **kwargs: Any) -> Tensor:
        """Remove white noise.

        Args:
            x: (B, C, H, W) in [0, 1] plus noise, C = 1 or 3 whatever the channels of the cascade, any size.
            sigma: standard deviation of the noise in the same units, in [0, 1): one number, or one for each picture in
                any shape of B elements.
            kwargs: taken and not used, as DeepInverse's denoisers do.

        Returns:
            (B, C, H, W) of the dtype and device of `x`; not limited to [0, 1].

        Raises:
            WavdiffError: another shape, values that are not finite, noise levels out of range or of another number
                than one or B, or gradients asked for.
        """
        if x.ndim != 4 or x.shape[1] not in (1, 3) or not x.is_floating_point():
            raise WavdiffError(
                f"x must be real (B, C, H, W) with C = 1 (gray) or 3 (RGB), got {x.dtype} {tuple(x.shape)}"
            )
        traced = x.requires_grad or (isinstance(sigma, Tensor) and sigma.requires_grad)
        if traced and torch.is_grad_enabled():
            raise WavdiffError(
                "CascadeDenoiser gives no gradients; call it under torch.no_grad(), or with x.detach(), as solvers do"
            )
        levels = noise_levels(sigma, x.shape[0])
        result = torch.empty_like(x)
        for level in sorted(set(levels)):  # pictures of one level go together
            rows = [row for row, own in enumerate(levels) if own == level]
            clean = api.denoise(
                2 * x[rows].detach().float() - 1, level, model=self.cascade, declip=False, impulses=False
            )
            result[rows] = ((clean + 1) / 2).to(result)
        return result


def noise_levels(sigma: float | Tensor | list[float], count: int) -> list[float]:
    """One noise level for each of `count` pictures, from one number or `count` of them in any shape.

    Raises:
        WavdiffError: another number of them, or no numbers.
    """
    try:
        levels = torch.as_tensor(sigma, dtype=torch.float64, device="cpu").detach().flatten()
    except (TypeError, ValueError, RuntimeError) as error:
        raise WavdiffError(f"sigma must be a number or one number per picture, got {sigma!r}") from error
    if levels.numel() not in (1, count):
        raise WavdiffError(f"sigma must be one number or one per picture ({count}), got {levels.numel()}")
    return [float(level) for level in levels.expand(count)]
