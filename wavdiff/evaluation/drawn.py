"""Drawn images beside training and held-out images: KID-EffLite0, and distances to the nearest training image."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sized
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavdiff import api
from wavdiff.data import ExampleDataset, Images, heldout_batch
from wavdiff.data.protocols import EncodedImage
from wavdiff.evaluation import metrics
from wavdiff.evaluation.report_files import Advance, Say, quiet
from wavdiff.evaluation.request import EvaluationRequest
from wavdiff.images import image_grid, save_image
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.run_config import RunConfig
from wavdiff.training.batches import open_data

NEIGHBOURS = 16
KID_BLOCKS = 10
CHOOSE_SEED = 12345
LEAST_TRAINING = 1000
"""Training images that samples are compared with, where there are so many; as many as samples, if that is more."""
MOST_DISTANCES = 1000
"""Samples and held-out images whose nearest training image is looked for."""


def measure_samples(
    name: str,
    cascade: WaveletCascade,
    config: RunConfig,
    request: EvaluationRequest,
    out: Path,
    say: Say,
    advance: Advance = quiet,
) -> dict[str, Any]:
    """KID-EffLite0 with jackknife standard errors, and distances to the nearest training image.

    `samples-*.png` and `neighbours-*.png`, samples with their nearest training images, are written into `out`.
    """
    train_source, held_source = open_data(config)
    settings = config.example_settings
    held = heldout_batch(held_source, **settings)
    count = request.kid_samples
    train = _chosen(train_source, max(count, LEAST_TRAINING), settings)
    extractor = metrics.FeatureExtractor()
    features = {"training": extractor(train), "held-out": extractor(held)}

    def kid(what: str, own: Tensor, against: str) -> dict[str, float]:
        blocks = min(KID_BLOCKS, len(own) // 2, len(features[against]) // 2)  # small sets are cut into fewer
        value, error = metrics.kid_and_standard_error(own, features[against], blocks)
        say(f"KID-EffLite0 {what} against {against}: {value:.4f} ± {error:.4f}")
        return {"kid": round(value, 5), "standard_error": round(error, 5)}

    between = kid("held-out", features["held-out"], "training")
    started = time.perf_counter()
    drawn_so_far = 0

    def progress(finished: int) -> None:
        nonlocal drawn_so_far
        drawn_so_far += finished
        advance("images", drawn_so_far, count, f"{drawn_so_far} of {count} images drawn")

    images = api.sample(cascade, count, request.seed, progress=progress)
    seconds = time.perf_counter() - started
    drawn = extractor(images)
    part = images[:MOST_DISTANCES]
    distances, nearest = metrics.nearest_training_distances(part, train)
    held_distances, _ = metrics.nearest_training_distances(held[:MOST_DISTANCES], train)
    pairs = torch.stack([part[:NEIGHBOURS], train[nearest[:NEIGHBOURS]]], dim=1).flatten(0, 1)
    file_name = Path(name).name.replace(" ", "-") or "model"
    save_image(out / f"neighbours-{file_name}.png", image_grid(pairs, columns=8))
    save_image(out / f"samples-{file_name}.png", image_grid(images[:64], columns=8))
    mirrored = config.data.augmentation.flip
    return {
        "training images": len(train),
        "held-out images": len(held),
        "held-out against training": between,
        name: {
            "samples": count,
            "seed": request.seed,
            "seconds_to_draw": round(seconds, 1),
            **{f"against {against}": kid(f"{name}, {count} samples", drawn, against) for against in features},
            "distance to the nearest training image": {
                "samples": _quantiles(distances),
                "held-out images": _quantiles(held_distances),
            },
            "mirrored training images counted": True if mirrored else "yes, though training did not mirror",
        },
    }


def _chosen(source: Images, most: int, settings: dict[str, Any]) -> Tensor:
    """Up to `most` training images, chosen by chance; of a stream, the first in a shuffled order."""
    images: Iterable[int | EncodedImage]
    if isinstance(source, Sized):
        order = torch.randperm(len(source), generator=torch.Generator().manual_seed(CHOOSE_SEED))
        images = order[:most].tolist()
    else:
        images = itertools.islice(source.epoch(CHOOSE_SEED, 0), most)
    dataset = ExampleDataset(source, **settings)
    return torch.stack([dataset[(image, 0, 0.0)] for image in images])


def _quantiles(distances: Tensor) -> dict[str, float]:
    places = {"minimum": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9}
    return {name: round(float(distances.double().quantile(place)), 4) for name, place in places.items()}
