"""What the blocks of a hierarchical VAE do to its state: norms, backward errors, and where the nats are.

Falck et al. (2022), section 3.2 and theorem 5. A cell's first sub-step is Z1 = x + h, so its relative backward error is
|h| / |x|; what the latent adds and what the whole cell adds stand beside it, for the paper's figure does not say which
sub-steps it means. Norms are those of all channels and places of a state together; they jump where the resolution
changes, and are given over sqrt(entries) as well.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from wavdiff.models.vdvae.model import Vdvae

BATCH = 50


@dataclass(frozen=True)
class BlockStatistics:
    """Over images, of one executed block.

    Attributes:
        resolution: of its result.
        norm, norm_std: mean and standard deviation of the norm of its result.
        rms: the mean norm over sqrt(entries).
        kl: nats of its latent; None for the encoder, as are all that follow.
        backward_error: |h| / |x|, the mean.
        drawn: |h + P z| / |x|.
        moved: |x' - x| / |x|.
    """

    resolution: int
    norm: float
    norm_std: float
    rms: float
    kl: float | None = None
    backward_error: float | None = None
    drawn: float | None = None
    moved: float | None = None


@torch.no_grad()
def block_statistics(model: Vdvae, images: Tensor, seed: int = 0) -> dict[str, list[dict[str, float | int | None]]]:
    """Statistics of all blocks in their order on images (N, C, side, side) in [0, 1], latents from the posterior.

    Returns:
        {"bottom-up": of the first convolution and the encoder's blocks, "top-down": of the decoder's cells}, each as
        the fields of `BlockStatistics`. Before the first cell the state is the same for all images, and has the norm 0
        at the start of a training: ratios to a state of norm 0 are None.
    """
    norms: dict[str, list[list[Tensor]]] = {"bottom-up": [], "top-down": []}
    sides: list[int] = []
    cells: list[list[tuple[Tensor, ...]]] = []
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH].to(model.mean.device)
        found = model.encode(part)
        sides = [side for side, values in found.items() for _ in values]
        norms["bottom-up"].append([x.flatten(1).norm(dim=1) for values in found.values() for x in values])
        run = model.decode(model.draw_noise(range(seed + start, seed + start + len(part))), found)
        norms["top-down"].append(run.norms)
        cells.append([(y.kl, y.drift, y.drawn, y.moved, y.before) for y in run.latents])
    result: dict[str, list[dict[str, float | int | None]]] = {"bottom-up": [], "top-down": []}
    width = model.config.width
    for place, side in enumerate(sides):
        result["bottom-up"].append(asdict(_of(torch.cat([batch[place] for batch in norms["bottom-up"]]), side, width)))
    for place, (_, side, _) in enumerate(model.latent_shapes):
        row = asdict(_of(torch.cat([batch[place] for batch in norms["top-down"]]), side, width))
        kl, drift, drawn, moved, before = (torch.cat(values) for values in zip(*(c[place] for c in cells), strict=True))
        row["kl"] = float(kl.mean())
        if float(before.min()) > 0:
            ratios = {"backward_error": drift, "drawn": drawn, "moved": moved}
            row |= {name: float((value / before).mean()) for name, value in ratios.items()}
        result["top-down"].append(row)
    return result


def _of(norm: Tensor, side: int, width: int) -> BlockStatistics:
    spread = float(norm.std()) if len(norm) > 1 else 0.0
    return BlockStatistics(side, float(norm.mean()), spread, float(norm.mean()) / math.sqrt(width * side**2))
