"""The model card that every saved model carries."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from wavdiff.data import Images, ImageSource, count_images
from wavdiff.models.family import Family
from wavdiff.models.folders import weights_digest
from wavdiff.training.config import to_yaml
from wavdiff.training.records import last_heldout

PACKAGES = ("wavdiff", "torch", "diffusers", "accelerate", "pytorch-wavelets", "safetensors")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _licence(about_the_data: str) -> str:
    """Licence of the weights, as model hubs name it: they follow data that are for non-commercial use only."""
    words = "non-commercial", "not commercial"
    return "other" if any(word in about_the_data for word in words) else "mit"


def _machine() -> str:
    """What the training ran on."""
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{gpu}{torch.get_num_threads()} CPU thread(s), {platform.machine()}"


def model_card(
    family: Family[Any, Any], model: Any, train: Images, heldout: ImageSource, state: dict[str, Any], run: Path
) -> str:
    """Markdown: data, split, configuration, steps, time, held-out numbers, versions, sha256.

    Args:
        family: its configuration, and what it says of its models.
        model: the weights as they are stored.
        train, heldout: the images.
        state: of the checkpoint that became the model.
        run: the run's folder.
    """
    config = family.config
    counts = {name: sum(weight.numel() for weight in part.parameters()) for name, part in family.parts.items()}
    steps = ", ".join(f"{name}: {count:,}" for name, count in state["trained"].items())
    found = last_heldout(run / "stats.jsonl", state.get("step"))
    tables = "Not measured in this run."
    if found:
        tables = (
            f"At step {found['step']:,}, on up to {config.data.heldout_limit} held-out images "
            f"(averaged weights, seeded noise).\n\n{family.tables(found['heldout'])}"
        )
    known = count_images(train)
    count = "a stream of" if known is None else f"{known:,}"
    (height, width), note, cost = config.image_size, family.note(model), family.cost(model)
    init = f" It began with the weights of {config.training.init}." if config.training.init else ""
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return f"""---
library_name: {family.library}
tags: [{", ".join(family.tags)}]
license: {_licence(train.credit + config.data.note)}
---
# wavdiff {family.title or family.noun}: {config.data.name}

{family.summary or f"A {family.noun}"}, trained by `wavdiff train` with the configuration below.

- **Images:** {height}x{width}, {"gray" if config.channels == 1 else "RGB"}{f"; {note}" if note else ""}.
- **Data:** {train.name}: {count} images to train on, {len(heldout):,} held out. {train.credit}
- **Parameters:** {sum(counts.values()):,} ({", ".join(f"{name}: {count:,}" for name, count in counts.items())})\
{f"; {cost} for one pass of all networks" if cost else ""}.
- **Training:** optimiser steps by scale: {steps}; batch {config.training.batch_size}; \
{state["images_seen"]:,} images seen; {state["seconds"] / 60:.1f} minutes in training steps, \
{_machine()}.{init}
- **Versions:** Python {platform.python_version()}, {versions}.
- **sha256 of the weights** ({config.training.save_dtype}, safetensors serialisation of the sorted tensors): \
`{weights_digest(model, getattr(torch, config.training.save_dtype))}`

{f"## What it can and cannot do{chr(10) * 2}{config.data.note.strip()}{chr(10) * 2}" if config.data.note else ""}\
## Held-out numbers

{tables}

## Configuration

```yaml
{to_yaml(config)}```
"""
