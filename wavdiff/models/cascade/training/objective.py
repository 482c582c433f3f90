"""The training objective: one loss per scale, all scales in one pass over a batch.

A batch has two kinds of examples. *Synthesis* examples give every scale a noise level of its own and the exact coarse
image. *Denoising* examples carry one noise level for the whole image; the walk of `denoise` runs over them, and each
detail network meets the coarse image as the scales below it denoised it, beside the noisy one (conditioning
augmentation). No gradient flows between scales, so a scale is trained by its own loss only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from wavdiff.models import wavelets
from wavdiff.models.cascade.denoising import Coarse, Denoised
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.noise import expand
from wavdiff.models.cascade.training.noisy_examples import TrainingBatch
from wavdiff.models.cascade.walk import joined

TYPICAL_LOSS = 0.35
"""Loss of an example that `balanced` counts once."""
LOSS_FLOOR = 0.01
"""Added to losses in `balanced`, so that an empty picture cannot outweigh all others."""


class CascadeObjective(nn.Module):
    """Loss of every active scale.

    Args:
        cascade: the networks.
        active: names of the scales to train ("low", "1", "0").
        trained: names of other scales whose networks have been trained before; they denoise the coarse image for
            finer scales. A coarser scale that is neither active nor trained is replaced by Wiener shrinkage with its
            measured rms, so that scales can be trained apart.
        detail_crop: side of the crops of x_0 for the detail scales, or None.
        balance: exponent in [0, 1] of the weight of denoising examples, see `balanced`.
    """

    def __init__(
        self,
        cascade: WaveletCascade,
        active: list[str],
        trained: set[str],
        detail_crop: int | None = None,
        balance: float = 0.0,
    ) -> None:
        super().__init__()
        self.cascade = cascade
        self.active = active
        self.available = trained | set(active)
        self.detail_crop = detail_crop
        self.balance = balance
        self.examples: dict[str, tuple[Tensor, Tensor]] = {}
        """Of the last call, by scale: standardised noise levels (B,) and losses (B,), without gradient."""

    def forward(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Mean weighted squared error of every active scale, balanced, name -> scalar."""
        cascade, levels = self.cascade, self.cascade.levels
        image, denoising, image_level = batch["image"], batch["denoising"], batch["image_level"]
        clean = wavelets.decompose(image, levels, cascade.wavelet)
        noise = wavelets.decompose(batch["noise"], levels, cascade.wavelet)
        losses: dict[str, Tensor] = {}
        self.examples = {}

        level = torch.where(denoising, image_level / 2**levels, _drawn(batch["levels"][:, -1], cascade.lowpass))
        observed = clean.coarse + expand(level, image) * 2**levels * noise.coarse
        estimate = self._lowpass(clean.coarse, observed, level, batch, losses)
        if not any(name != "low" for name in self.active):
            return losses

        x, y, clean_details, unit_details = self._crop(clean, noise, observed, batch["crop"])
        estimate = self._crop_one(estimate, batch["crop"])
        augmented = denoising & cascade.conditioning_augmentation
        finest = min(int(name) for name in self.active if name != "low")
        for scale in range(levels - 1, finest - 1, -1):
            denoiser = cascade.details[scale]
            level = torch.where(denoising, image_level / 2 ** (scale + 1), _drawn(batch["levels"][:, scale], denoiser))
            noisy = clean_details[scale] + expand(level, image) * 2 ** (scale + 1) * unit_details[scale]
            inexact = expand(augmented.to(x), x).bool()
            coarse = Coarse(
                torch.where(inexact, estimate, x),
                torch.where(inexact, y, x),
                torch.where(augmented, level, torch.zeros_like(level)),
            )
            name = str(scale)
            if name in self.active:
                loss, denoised = denoiser.loss(clean_details[scale], noisy, level, coarse, x)
                losses[name] = balanced(loss, denoising, self.balance)
                self.examples[name] = level.detach() / denoiser.std, loss.detach()
            else:
                denoised = self._inactive(name, denoiser, noisy, level, coarse)
            if scale > finest:
                estimate = joined(denoised, cascade.wavelet).detach()
                x = wavelets.join(x, clean_details[scale], cascade.wavelet)
                y = wavelets.join(y, noisy, cascade.wavelet)
        return losses

    def _lowpass(
        self, clean: Tensor, observed: Tensor, level: Tensor, batch: TrainingBatch, losses: dict[str, Tensor]
    ) -> Tensor:
        """The denoised low-pass image (B, C, h, w), without gradient; adds the loss if "low" is active."""
        denoiser = self.cascade.lowpass
        count = clean.shape[0]
        if "low" in self.active:
            repeats = batch["low_levels"].shape[1]
            more_clean = clean.repeat_interleave(repeats, dim=0)
            more_levels = _drawn(batch["low_levels"].flatten(), denoiser)
            more_noisy = more_clean + expand(more_levels, clean) * batch["low_noise"].flatten(0, 1)
            loss, (denoised, _) = denoiser.loss(
                torch.cat([clean, more_clean]), torch.cat([observed, more_noisy]), torch.cat([level, more_levels])
            )
            kinds = torch.cat([batch["denoising"], batch["denoising"].new_zeros(len(more_levels))])
            losses["low"] = balanced(loss, kinds, self.balance)
            self.examples["low"] = torch.cat([level, more_levels]).detach() / denoiser.std, loss.detach()
            return denoised[:count].detach()
        return self._inactive("low", denoiser, observed, level).mean

    def _inactive(
        self, name: str, denoiser: Any, noisy: Tensor, level: Tensor, coarse: Coarse | None = None
    ) -> Denoised:
        """What a scale that is not trained here answers: its network's, or without a trained one Wiener shrinkage."""
        if name in self.available:
            with _as_trained(denoiser):
                denoised: Denoised = denoiser.denoise(noisy, level, coarse)
            return denoised
        shrink = expand(denoiser.std**2 / (denoiser.std**2 + level.square()), noisy)
        return Denoised(shrink * noisy, None if coarse is None else coarse.estimate)

    def _crop(
        self, clean: wavelets.Pyramid, noise: wavelets.Pyramid, observed: Tensor, where: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """x_J, y_J, clean details and unit noise details of the crop (all of the image without `detail_crop`)."""
        cut = self._crop_one
        details = [cut(bands, where) for bands in clean.details]
        return cut(clean.coarse, where), cut(observed, where), details, [cut(bands, where) for bands in noise.details]

    def _crop_one(self, coefficients: Tensor, where: Tensor) -> Tensor:
        """The crop's part of one band: its place is a multiple of 2^J pixels of x_0, so that all scales agree."""
        if self.detail_crop is None:
            return coefficients
        step = 2**self.cascade.levels
        height, width = self.cascade.image_size
        side = self.detail_crop // step
        shrink = height // coefficients.shape[-2]
        parts = []
        for index, (down, right) in enumerate(where.tolist()):
            top = int(down * (height // step - min(side, height // step) + 1)) * step // shrink
            left = int(right * (width // step - min(side, width // step) + 1)) * step // shrink
            length = side * step // shrink
            parts.append(coefficients[index, :, top : top + length, left : left + length])
        return torch.stack(parts)


def balanced(loss: Tensor, denoising: Tensor, balance: float) -> Tensor:
    """Mean of the losses of a batch, in which easy denoising examples count more.

    Squared errors of smooth pictures are small, so that textured ones decide what a network learns. An example counts

        (TYPICAL_LOSS / (loss + LOSS_FLOOR))^balance

    times, and no gradient goes through that weight. With `balance` 1 the gradient is that of log(loss + LOSS_FLOOR):
    every picture counts by its decibels, as in a mean PSNR. A network then estimates the mean under a prior with as
    many more smooth pictures. Synthesis examples, whose losses depend on their noise level first, count once.

    Args:
        loss: (B,) weighted squared errors.
        denoising: (B,) bool.
        balance: in [0, 1]; 0 is the plain mean.
    """
    weight = torch.where(denoising, (TYPICAL_LOSS / (loss.detach() + LOSS_FLOOR)) ** balance, 1.0)
    return (weight * loss).mean()


@contextlib.contextmanager
def _as_trained(denoiser: nn.Module) -> Iterator[None]:
    """A denoiser that is not trained here in evaluation mode: no gradient, and its running statistics stay."""
    training = denoiser.training
    denoiser.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        denoiser.train(training)


def _drawn(levels: Tensor, denoiser: Any) -> Tensor:
    """Drawn standardised noise levels (B,) in library units, none above what the denoiser will be asked about."""
    return levels.clamp(max=denoiser.top) * float(denoiser.std)
