"""Bounds on the likelihood of a hierarchical VAE, and what its blocks do."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from wavdiff.evaluation.families.request import FamilyRequest
from wavdiff.evaluation.plots import png, pyplot
from wavdiff.evaluation.report_files import Say
from wavdiff.evaluation.tables import NOTHING, markdown_table
from wavdiff.images import image_grid
from wavdiff.models.heldout_names import table_of
from wavdiff.models.vdvae.diagnostics import block_statistics
from wavdiff.models.vdvae.family import VdvaeFamily
from wavdiff.models.vdvae.model import Vdvae
from wavdiff.models.vdvae.numbers import heldout_numbers, importance_bound, standard_error

DRAWS = 100
"""Of the latents, for the closer bound."""
SHOWN = 8
"""Images whose reconstructions are drawn."""
FILLED_IN = 0.1
"""Temperature of latents that are not an image's own, as in the release."""
LEGIBLE = 64
"""Pixels to which small images are enlarged there."""


def evaluate(
    family: VdvaeFamily, model: Vdvae, images: Tensor, request: FamilyRequest, say: Say
) -> tuple[dict[str, Any], str]:
    """Numbers, and Markdown that says their units and how they were taken."""
    seen = family.heldout(images)
    numbers: dict[str, Any] = heldout_numbers(model, seen, request.seed)
    say(f"ELBO: {numbers['nats per image']:.3f} nats per image")
    bits = 1 / (model.counted * math.log(2))
    rows = {
        "negative ELBO": _row(numbers["nats per image"], numbers["standard error"], bits),
        "distortion, -log p(x given z)": _row(numbers["distortion"], None, bits),
        "rate, all KL": _row(numbers["rate"], None, bits),
    }
    for group, kl in table_of(numbers, "kl")["vae"].items():
        rows[f"KL at {group}x{group}"] = _row(kl, None, bits)
    for draws in sorted({1, request.importance or DRAWS}):
        bound = importance_bound(model, seen, draws, request.seed)
        mean, error = float(bound.mean()), standard_error(bound)
        numbers[f"importance-weighted, {draws}"] = {"nats per image": mean, "standard error": error}
        rows[f"importance-weighted, {draws} draws"] = _row(mean, error, bits)
        say(f"importance-weighted bound of {draws} draws: {mean:.3f} nats per image")
    side, inner = model.side, model.side - 2 * model.border
    binary = model.config.likelihood == "bernoulli"
    how = [
        f"Images are seen at {side}x{side}; {inner}x{inner} pixels of {model.config.channels} channels count.",
        "They are binarised once, image k with a seed of its own." if binary else "They have 8 bits.",
        f"Latents of image k follow from seed {request.seed} and k; the averaged weights were used. The negative "
        "ELBO and the importance-weighted rows are upper bounds on -log p in expectation; errors are standard errors "
        "over images.",
    ]
    return numbers, " ".join(how) + "\n\n" + markdown_table(["nats per image", "bits per dimension"], rows) + "\n"


def _row(nats: float, error: float | None, bits: float) -> list[str]:
    if not error:
        return [f"{nats:.3f}", f"{nats * bits:.4f}"]
    return [f"{nats:.3f} ± {error:.3f}", f"{nats * bits:.4f} ± {error * bits:.4f}"]


def inspect(
    family: VdvaeFamily, model: Vdvae, images: Tensor, request: FamilyRequest
) -> tuple[dict[str, Any], str, bytes]:
    """Numbers, Markdown and a plot of what the blocks do to the state."""
    found = block_statistics(model, family.heldout(images), request.seed)
    columns = ["resolution", "norm", "± std", "norm / sqrt(entries)", "KL, nats", "|h| / |x|", "|h + Pz| / |x|"]
    columns.append("|x' - x| / |x|")
    texts = [f"# Blocks of {request.model}, on {len(images)} held-out images\n"]
    for way, rows in found.items():
        cells = {
            f"{number}": [
                f"{row['resolution']}", f"{row['norm']:.2f}", f"{row['norm_std']:.2f}", f"{row['rms']:.3f}",
                *(_cell(row[name]) for name in ("kl", "backward_error", "drawn", "moved")),
            ]
            for number, row in enumerate(rows)
        }  # fmt: skip
        keep = len(columns) if way == "top-down" else 4
        texts.append(f"## {way}\n\n{markdown_table(columns[:keep], {n: c[:keep] for n, c in cells.items()})}\n")
    return {"model": request.model, "images": len(images), **found}, "\n".join(texts), _plot(found)


def reconstructions(family: VdvaeFamily, model: Vdvae, images: Tensor, seed: int) -> Tensor:
    """A picture (C, H, W) in [-1, 1] with a row for each of SHOWN images, enlarged.

    On the left the image; then what is made of its latents up to each resolution, from coarse to fine, the others drawn
    from the prior at temperature FILLED_IN; on the right all of its latents are kept.
    """
    seen = family.heldout(images[:SHOWN])
    seeds = range(seed, seed + len(seen))
    sides = [side for _, side, _ in model.latent_shapes]
    ends = [place + 1 for place, side in enumerate(sides) if place + 1 == len(sides) or sides[place + 1] != side]
    columns = [2 * seen - 1, *(model.reconstruct(seen, seeds, cells, FILLED_IN).cpu() for cells in ends)]
    scale = max(1, LEGIBLE // model.side)
    rows = torch.stack(columns, dim=1).flatten(0, 1).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return image_grid(rows, columns=len(columns))


def _cell(value: float | int | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _plot(found: dict[str, list[dict[str, Any]]]) -> bytes:
    """Norms both ways, KL and what cells add, by block; lines where resolutions change."""
    figure, axes = pyplot().subplots(2, 2, figsize=(10, 6), layout="constrained")
    for axis, (way, rows) in zip(axes[0], found.items(), strict=True):
        places = list(range(len(rows)))
        norm, spread = ([row[name] for row in rows] for name in ("norm", "norm_std"))
        axis.plot(places, norm, marker=".")
        low, high = ([n + sign * 2 * s for n, s in zip(norm, spread, strict=True)] for sign in (-1, 1))
        axis.fill_between(places, low, high, alpha=0.25)
        axis.set_title(f"norm of the state, {way} (± 2 std over images)")
    down = found["top-down"]
    axes[1, 0].bar(range(len(down)), [row["kl"] for row in down])
    axes[1, 0].set_title("KL of the latents, nats")
    for name, label in (("backward_error", "|h| / |x|"), ("drawn", "|h + Pz| / |x|"), ("moved", "|x' - x| / |x|")):
        axes[1, 1].plot(range(len(down)), [row[name] for row in down], marker=".", label=label)
    axes[1, 1].set_yscale("log")
    axes[1, 1].set_title("relative size of what a cell adds")
    axes[1, 1].legend()
    for axis, rows in zip(axes.flat, (found["bottom-up"], down, down, down), strict=True):
        axis.set_xlabel("block")
        for place in range(1, len(rows)):
            if rows[place]["resolution"] != rows[place - 1]["resolution"]:
                axis.axvline(place - 0.5, color="0.6", linestyle="--", linewidth=0.8)
                axis.text(
                    place - 0.4, 0.97, f"{rows[place]['resolution']}", transform=axis.get_xaxis_transform(),
                    va="top", fontsize=7, color="0.4",
                )  # fmt: skip
    return png(figure, 110)
