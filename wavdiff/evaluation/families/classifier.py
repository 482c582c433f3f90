"""How often a classifier is right, and what it takes for what."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wavdiff.evaluation.tables import markdown_table
from wavdiff.models.wavpool.family import WavpoolFamily
from wavdiff.models.wavpool.model import WavPool, accuracy_error

BATCH = 500


def evaluate(family: WavpoolFamily, model: WavPool, images: Tensor) -> tuple[dict[str, Any], str]:
    """Accuracy with its standard error, the confusion matrix, live and dead weights; numbers and Markdown."""
    classes, targets = model.classes, family.numbers(family.heldout_classes)
    parts = [model.classify(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    probability = torch.cat(parts)
    chosen = probability.argmax(dim=1)
    accuracy, error = accuracy_error(chosen == targets)
    entropy = float(-probability.gather(1, targets[:, None]).clamp(min=1e-30).log().double().mean())
    confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)
    confusion.index_put_((targets, chosen), torch.ones(len(targets), dtype=torch.int64), accumulate=True)
    total, dead, idle = model.parameter_count(), model.dead_parameters(), model.idle_parameters()
    numbers = {
        "accuracy": accuracy,
        "standard error": error,
        "cross entropy": entropy,
        "parameters": {"all": total, "live": total - dead - idle, "dead": dead, "reading zeros": idle},
        "classes": list(classes),
        "confusion": confusion.tolist(),
    }
    rows = {name: [str(int(count)) for count in row] for name, row in zip(classes, confusion, strict=True)}
    text = (
        f"Accuracy {accuracy:.4f} ± {error:.4f} (binomial standard error), cross entropy {entropy:.4f} nats. "
        f"{total:,} weights: {total - dead - idle:,} live, {dead:,} dropped by the pool and {idle:,} that read what is "
        "always zero, which never receive a gradient.\n\n"
        f"Rows are true classes, columns what was chosen:\n\n{markdown_table(list(classes), rows)}\n"
    )
    return numbers, text
