"""Drawn images beside training and held-out images: KID-EffLite0, and distances to the nearest training image."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sized
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavdiff import api
from wavdiff.data import ExampleDataset, Images, heldout_batch
from wavdiff.data.protocols import EncodedImage
from wavdiff.evaluation import metrics
from wavdiff.images import image_grid, save_image
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.run_config import RunConfig
from wavdiff.training.batches import open_data

NEIGHBOURS = 16


KID_BLOCKS = 10


CHOOSE_SEED = 12345


def measure_samples(
    cascades: dict[str, WaveletCascade], config: RunConfig, count: int, seed: int, out: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """KID-EffLite0 with jackknife standard errors, and distances to the nearest training image."""
    train_source, held_source = open_data(config)
    settings = config.example_settings
    held = heldout_batch(held_source, **settings)
    train = _chosen(train_source, max(count, 1000), settings)
    extractor = metrics.FeatureExtractor()
    train_features, held_features = extractor(train), extractor(held)
    floor, error = _kid(train_features, held_features)
    results: dict[str, Any] = {
        "training images": len(train),
        "held-out images": len(held),
        "held-out against training": {"kid": round(floor, 5), "standard_error": round(error, 5)},
    }
    say(f"KID-EffLite0 held-out against training: {floor:.4f} ± {error:.4f}")
    mirrored = config.data.augmentation.flip
    for name, cascade in cascades.items():
        started = time.perf_counter()
        images = api.sample(cascade, count, seed)
        seconds = time.perf_counter() - started
        features = extractor(images)
        row: dict[str, Any] = {"samples": count, "seed": seed, "seconds_to_draw": round(seconds, 1)}
        for label, other in (("training", train_features), ("held-out", held_features)):
            value, error = _kid(features, other)
            row[f"against {label}"] = {"kid": round(value, 5), "standard_error": round(error, 5)}
            say(f"KID-EffLite0 {name}, {count} samples against {label}: {value:.4f} ± {error:.4f}")
        part = images[:1000]
        distances, nearest = metrics.nearest_training_distances(part, train)
        held_distances, _ = metrics.nearest_training_distances(held[:1000], train)
        row["distance to the nearest training image"] = {"samples": _quantiles(distances)}
        row["distance to the nearest training image"]["held-out images"] = _quantiles(held_distances)
        row["mirrored training images counted"] = True if mirrored else "yes, though training did not mirror"
        pairs = torch.stack([part[:NEIGHBOURS], train[nearest[:NEIGHBOURS]]], dim=1).flatten(0, 1)
        save_image(out / f"neighbours-{_file_name(name)}.png", image_grid(pairs, columns=8))
        save_image(out / f"samples-{_file_name(name)}.png", image_grid(images[:64], columns=8))
        results[name] = row
    return results


def _kid(one: Tensor, other: Tensor) -> tuple[float, float]:
    """KID and its standard error; small sets are cut into fewer blocks."""
    return metrics.kid_and_standard_error(one, other, min(KID_BLOCKS, len(one) // 2, len(other) // 2))


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
    values = torch.quantile(distances.double(), torch.tensor([0.0, 0.1, 0.5, 0.9], dtype=torch.float64))
    return {
        name: round(float(value), 4) for name, value in zip(("minimum", "10 %", "median", "90 %"), values, strict=True)
    }


def _file_name(model: str) -> str:
    return Path(model).name.replace(" ", "-") or "model"
