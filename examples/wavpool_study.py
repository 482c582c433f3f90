"""WavPool beside what one would use otherwise, on the first 10,000 training images of Fashion-MNIST.

    python examples/wavpool_study.py [--seeds 5] [--only fixed,linear] [--threads 1]

The next 4,000 training images validate, the 10,000 official test images judge. All models see the images in the same
order of a seed. The published ones are trained with SGD, batches of 640, 120 epochs, as published, but shuffled, and
without the early stop after five rises of the validation loss; the others with
AdamW, batches of 128, 30 epochs, a cosine schedule, and the learning rate of 3e-4, 1e-3 and 3e-3 that is best on the
validation images with a seed of its own (100); the CNN, which takes longest, with 1e-3. Accuracies are means over seeds
with their standard errors; "live" are weights that can receive a gradient. Times are of one seed, on as many threads as
are asked for. With kymatio installed (`pip install kymatio`) scattering with a linear layer (J = 2, batch
normalisation) stands beside them.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from wavdiff.data import heldout_batch, open_source
from wavdiff.data.protocols import classes_of
from wavdiff.models.wavpool.config import WavpoolConfig, WavpoolModel
from wavdiff.models.wavpool.model import WavPool
from wavdiff.training.config import from_mapping, read_mapping

TRAIN, VALIDATE = 10_000, "10000-14000"
RATES = (3e-4, 1e-3, 3e-3)
Split = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; a rate of 0: chosen on the validation images."""

    make: Callable[[], nn.Module]
    rate: float = 0.0
    sgd: bool = False
    batch: int = 128
    epochs: int = 30
    prepare: Callable[[Tensor], Tensor] = lambda images: images


def read(split: str) -> Split:
    """Images (N, 1, 28, 28) in [0, 1] and numbers of classes."""
    validation = () if split == "heldout" else (VALIDATE,)
    source = open_source("fashion-mnist", split, validation=validation)  # type: ignore[arg-type]
    count = TRAIN if split == "train" else None
    images = (heldout_batch(source, (28, 28), limit=count) + 1) / 2
    classes = classes_of(source)
    return images, torch.tensor([classes.index(source.class_of(k)) for k in range(len(images))])


def preset(name: str, **changes: object) -> Callable[[], nn.Module]:
    """WavPool of a configuration that ships."""
    config = from_mapping(read_mapping(name), [f"model.{key}={value}" for key, value in changes.items()])
    assert isinstance(config, WavpoolConfig) and isinstance(config.model, WavpoolModel)
    return lambda: WavPool(config.model)


class ReleasedCNN(nn.Sequential):
    """The release's: twice convolution without bias, batch normalisation, ReLU; no pooling."""

    def __init__(self, side: int, first: int, second: int) -> None:
        rest = 28 + 2 * (3 - side)
        super().__init__(
            nn.Conv2d(1, first, side, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU(),
            nn.Conv2d(first, second, side, padding=1, bias=False), nn.BatchNorm2d(second), nn.ReLU(),
            nn.Flatten(), nn.Linear(second * rest**2, 10),
        )  # fmt: skip


def scattering() -> Callable[[Tensor], Tensor]:
    """Kymatio's scattering coefficients (N, 81, 7, 7); by its inner name, as its front door needs an older SciPy."""
    from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D

    transform = ScatteringTorch2D(J=2, shape=(28, 28))
    return lambda images: torch.cat([transform(part.contiguous())[:, 0] for part in images.split(500)])


def recipes() -> dict[str, Recipe]:
    found = {
        "linear": Recipe(lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10))),
        "WavPool, published, naive": Recipe(
            preset("wavpool-published", hidden=264, pool=[3, 3, 3]), 0.1, True, 640, 120
        ),
        "WavPool, published, tuned": Recipe(preset("wavpool-published"), 0.378, True, 640, 120),
        "WavPool, fixed": Recipe(preset("wavpool-fashion")),
        "MLP, ReLU": Recipe(lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 69), nn.ReLU(), nn.Linear(69, 10))),
        "CNN of the release, naive": Recipe(lambda: ReleasedCNN(4, 1, 1), 0.05, True, 640, 120),
        "CNN of the release, tuned": Recipe(lambda: ReleasedCNN(2, 15, 17), 0.0409, True, 640, 120),
        "CNN with pooling": Recipe(
            lambda: nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(32 * 49, 10),
            ),
            rate=1e-3,
        ),
    }
    if importlib.util.find_spec("kymatio"):
        found["scattering, linear"] = Recipe(
            lambda: nn.Sequential(nn.BatchNorm2d(81), nn.Flatten(), nn.Linear(81 * 49, 10)), prepare=scattering()
        )
    return found


def batches(data: Split, recipe: Recipe, seed: int) -> Iterator[list[Split]]:
    """Epochs of shuffled batches, the same for every model of a seed."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(recipe.epochs):
        order = torch.randperm(len(data[0]), generator=generator)
        yield [(data[0][part], data[1][part]) for part in order.split(recipe.batch)]


@torch.no_grad()
def accuracy(model: nn.Module, data: Split) -> float:
    model.eval()
    right = [
        (model(images).argmax(dim=1) == targets)
        for images, targets in zip(data[0].split(500), data[1].split(500), strict=True)
    ]
    return float(torch.cat(right).double().mean())


def train(recipe: Recipe, rate: float, seed: int, data: Split, validation: Split) -> tuple[nn.Module, list[float]]:
    """The trained model, and its accuracy on the validation images after every epoch."""
    torch.manual_seed(seed)
    model = recipe.make()
    optimizer: torch.optim.Optimizer
    if recipe.sgd:
        optimizer, steps = torch.optim.SGD(model.parameters(), lr=rate), 10**9
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
        steps = recipe.epochs * -(-len(data[0]) // recipe.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    curve = []
    for epoch in batches(data, recipe, seed):
        model.train()
        for images, targets in epoch:
            optimizer.zero_grad()
            functional.cross_entropy(model(images), targets).backward()
            optimizer.step()
            schedule.step()
        curve.append(accuracy(model, validation))
    return model, curve


def mean(values: list[float]) -> str:
    found = torch.tensor(values, dtype=torch.float64)
    error = float(found.std() / len(found) ** 0.5) if len(found) > 1 else 0.0
    return f"{float(found.mean()):.4f} ± {error:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", help="models whose names contain one of these, as fixed,linear")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    splits = [read(split) for split in ("train", "validation", "heldout")]
    columns = ["model", "weights", "live", "rate", "validation, last epoch", "validation, mean of epochs", "test"]
    columns += ["s to train", "ms an image"]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for name, recipe in recipes().items():
        if options.only and not any(part in name for part in options.only.split(",")):
            continue
        data, validation, test = ((recipe.prepare(images), targets) for images, targets in splits)
        rate = recipe.rate
        if not rate:
            rate = max(RATES, key=lambda one: train(recipe, one, 100, data, validation)[1][-1])
        last, means, tested, seconds = list[float](), list[float](), list[float](), 0.0
        for seed in range(options.seeds):
            began = time.perf_counter()
            model, curve = train(recipe, rate, seed, data, validation)
            seconds = time.perf_counter() - began
            last.append(curve[-1])
            means.append(sum(curve) / len(curve))
            tested.append(accuracy(model, test))
        began = time.perf_counter()
        with torch.no_grad():
            for image in splits[2][0][:300]:
                model(recipe.prepare(image[None]))
        each = (time.perf_counter() - began) / 300 * 1000
        count = sum(parameter.numel() for parameter in model.parameters())
        live = count - (model.dead_parameters() + model.idle_parameters() if isinstance(model, WavPool) else 0)
        print(
            f"| {name} | {count:,} | {live:,} | {rate:g} | {mean(last)} | {mean(means)} | {mean(tested)} | "
            f"{seconds:.0f} | {each:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
