"""What a hierarchical VAE is worth: its bound on -log p, in which resolution the nats are, and closer bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from wavdiff.models.random_numbers import derive_generator
from wavdiff.models.vdvae.model import Terms, Vdvae

BATCH = 64


def heldout_numbers(model: Vdvae, images: Tensor, seed: int = 0) -> dict[str, float]:
    """The bound on images (N, C, side, side) in [0, 1], one draw of latents each.

    Returns:
        "nats per image" and its "standard error" (0 for one image), "bits per dimension", "distortion" and "rate" (nats
        per image), "kl/vae@SIDE" by resolution, and "loss/vae@all", the bound in nats per dimension.
    """
    bounds, distortions, kls = [], [], []
    for terms in _batches(model, images, seed):
        bounds.append(terms.bound)
        distortions.append(terms.distortion)
        kls.append(torch.stack([latent.kl for latent in terms.latents], dim=1))
    bound, distortion, kl = (torch.cat(values).double() for values in (bounds, distortions, kls))
    by_side: dict[int, float] = {}
    for place, (_, side, _) in enumerate(model.latent_shapes):
        by_side[side] = by_side.get(side, 0.0) + float(kl[:, place].mean())
    nats = float(bound.mean())
    error = standard_error(bound)
    return {
        "loss/vae@all": nats / model.counted,
        "nats per image": nats,
        "standard error": error,
        "bits per dimension": nats / model.counted / math.log(2),
        "distortion": float(distortion.mean()),
        "rate": float(kl.sum(dim=1).mean()),
        **{f"kl/vae@{side}": value for side, value in by_side.items()},
    }


def standard_error(values: Tensor) -> float:
    """Of the mean of independent values (N,); 0 for one, of which nothing can be said."""
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0


@torch.no_grad()
def importance_bound(model: Vdvae, images: Tensor, samples: int, seed: int = 0) -> Tensor:
    """-log of the mean of p(x, z) / q(z | x) over `samples` draws of z, (N,) in nats per image.

    A bound on -log p in expectation, closer with more samples, and with one the negative ELBO (Burda, Grosse and
    Salakhutdinov, "Importance weighted autoencoders", 2016).
    """
    weights = []
    for sample in range(samples):
        weights.append(torch.cat([terms.log_weight for terms in _batches(model, images, seed, sample)]).double())
    return math.log(samples) - torch.stack(weights).logsumexp(dim=0)


@torch.no_grad()
def _batches(model: Vdvae, images: Tensor, seed: int, sample: int = 0) -> Iterator[Terms]:
    """Terms of batches; the latents of image k follow from (seed, k, sample)."""
    device = model.mean.device
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH].to(device)
        keys = ((seed, "bound", start + place, sample) for place in range(len(part)))
        noise = [torch.randn(model.noise_size, generator=derive_generator(*key)) for key in keys]
        yield model.terms(part, torch.stack(noise).to(device))
