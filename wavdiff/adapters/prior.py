"""A cascade as other libraries want a prior: a module that denoises batches at given noise levels, and its score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavdiff import api
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.folders import DEFAULT_RESTORATION_MODEL
from wavdiff.system.errors import WavdiffError


class Prior(nn.Module):
    """The posterior mean D(y, sigma) = E[x | y] of a cascade for y = x + sigma * white noise, any size.

    `sigma` is in the units of the pictures, which `limits` says. What others call the same numbers:

    | library | `limits`, that of its pictures | what it wants | here |
    |---|---|---|---|
    | deepinv | (0, 1) | `denoiser(y, sigma)` | `prior(y, sigma)` |
    | EDM, k-diffusion | (-1, 1) | `D(y, sigma)` | `prior(y, sigma)` |
    | score models (VE) | theirs | the gradient of log p_sigma(y) | `prior.score(y, sigma)` |
    | diffusers, "epsilon" | (-1, 1) | (y - x) / sigma, y before `scale_model_input` | `prior.noise(y, sigma)` |

    A variance-preserving model's noisy picture z = a x + s * noise is y = z / a with sigma = s / a.

    It is always in evaluation mode, whatever `train()` says, and gives no gradients: solvers that only call it run as
    they are; training through it, or guidance by its gradient, is refused instead of being wrong.

    Args:
        model: a shipped model's name, a model folder, or a loaded cascade (which moves to `device`).
        device: where the networks run; pictures come back to where they were.
        limits: black and white in the pictures that it is given.

    Raises:
        WavdiffError: a model that cannot be loaded, or limits that are none.
    """

    def __init__(
        self,
        model: str | Path | WaveletCascade = DEFAULT_RESTORATION_MODEL,
        device: str | torch.device | None = None,
        limits: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        black, white = limits
        if not -float("inf") < black < white < float("inf"):
            raise WavdiffError(f"limits must be black and white, black below white, got {limits}")
        cascade = api.cascade_of(model)
        super().__init__()
        self.cascade = cascade.to(device) if device is not None else cascade
        self.limits = (float(black), float(white))
        self.eval()

    def train(self, mode: bool = True) -> Prior:
        """Stay in evaluation mode: a solver that is trained must not switch on dropout here."""
        super().train(False)
        return self

    def forward(self, x: Tensor, sigma: float | Tensor | list[float], **kwargs: Any) -> Tensor:
        """Remove white noise.

        Args:
            x: (B, C, H, W) within `limits` plus noise, C = 1 or 3 whatever the channels of the cascade, any size.
            sigma: standard deviation of the noise in the same units, from 0 to less than white - black: one number,
                or one for each picture in any shape of B elements.
            kwargs: taken and not used, as DeepInverse's denoisers do.

        Returns:
            (B, C, H, W) of the dtype and device of `x`; not limited to `limits`.

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
                f"{type(self).__name__} gives no gradients; call it under torch.no_grad(), or with x.detach(), as "
                "solvers do"
            )
        black, width = self.limits[0], self.limits[1] - self.limits[0]
        levels = noise_levels(sigma, x.shape[0])
        result = torch.empty_like(x)
        for level in sorted(set(levels)):  # pictures of one level go together
            rows = [row for row, own in enumerate(levels) if own == level]
            noisy = 2 * (x[rows].detach().float() - black) / width - 1
            clean = api.denoise(noisy, level / width, model=self.cascade, declip=False, impulses=False)
            result[rows] = ((clean + 1) / 2 * width + black).to(result)
        return result

    def score(self, x: Tensor, sigma: float | Tensor | list[float]) -> Tensor:
        """Gradient of the log density of noisy pictures, (D(y) - y) / sigma^2 (Miyasawa 1961); as `forward`."""
        return (self(x, sigma) - x) / self._positive(x, sigma) ** 2

    def noise(self, x: Tensor, sigma: float | Tensor | list[float]) -> Tensor:
        """The noise as it is estimated, of standard deviation 1, (y - D(y)) / sigma; as `forward`."""
        return (x - self(x, sigma)) / self._positive(x, sigma)

    def _positive(self, x: Tensor, sigma: float | Tensor | list[float]) -> Tensor:
        levels = torch.tensor(noise_levels(sigma, x.shape[0]), dtype=x.dtype, device=x.device)
        if not bool((levels > 0).all()):
            raise WavdiffError(f"sigma must be positive where it is divided by, got {float(levels.min()):g}")
        return levels[:, None, None, None]


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


prior = Prior
"""`wavdiff.prior("photos")`, beside the other verbs."""
