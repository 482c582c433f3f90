"""WavPool as a family: a classifier, that draws and restores nothing."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.data import Images
from wavdiff.data.protocols import classes_of
from wavdiff.models.family import Family, Loss
from wavdiff.models.wavpool.config import WavpoolConfig
from wavdiff.models.wavpool.model import WavPool
from wavdiff.system.errors import WavdiffError


class WavpoolFamily(Family[WavpoolConfig, WavPool]):
    """One part."""

    Config = WavpoolConfig
    noun = "WavPool classifier"
    tags = ("wavdiff", "image-classification")
    needs_classes = True

    def measure(self, source: Images) -> dict[str, Any]:
        """Nothing; checks that the classes are those of the images, and warns of weights without effect.

        Raises:
            WavdiffError: they are not.
        """
        found, named = classes_of(source), self.config.model.classes
        if not found:
            raise WavdiffError(
                f"data: {source.name!r} has no classes; a classifier learns from fashion-mnist, or from a folder that "
                "has a folder for each class"
            )
        if set(found) != set(named):
            listed = ", ".join(found[:20])
            raise WavdiffError(
                f"configuration: model.classes must be those of the images; give --set 'model.classes=[{listed}]'"
            )
        warn_of_dead_weights(WavPool(self.config.model))
        return {}

    def build(self, measured: dict[str, Any]) -> WavPool:
        """A fresh model."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.training.seed)
            self.model = WavPool(self.config.model)
        self.parts = {"net": self.model}
        return self.model

    def example(self, image: Tensor, generator: torch.Generator, strong: bool) -> dict[str, Tensor]:
        """The image in [0, 1]; the engine adds the class."""
        return {"image": (image + 1) / 2}

    def losses(self, batch: dict[str, Any], active: list[str]) -> dict[str, Loss]:
        """The cross entropy."""
        losses = functional.cross_entropy(self.model(batch["image"]), self.numbers(batch["class"]), reduction="none")
        return {"net": Loss(losses.mean(), losses.detach())}

    def numbers(self, names: list[str]) -> Tensor:
        """Places of classes among the outputs, (N,)."""
        place = {name: number for number, name in enumerate(self.config.model.classes)}
        return torch.tensor([place[name] for name in names], device=self.model.last.weight.device)

    def evaluate(self, model: WavPool, images: Tensor) -> dict[str, float]:
        """Accuracy and cross entropy on the held-out images."""
        targets = self.numbers(self.heldout_classes)
        with torch.no_grad():
            logits = model(((images + 1) / 2).to(targets.device))
        right = (logits.argmax(dim=1) == targets).double().mean()
        return {"loss/net@all": float(functional.cross_entropy(logits, targets)), "accuracy": float(right)}

    def note(self, model: WavPool) -> str:
        """Its classes, and what of it is dead."""
        return "; ".join(filter(None, (f"classes {', '.join(model.classes)}", self.part_note("net"))))

    def part_note(self, part: str) -> str:
        """How many weights have no effect."""
        dead, total = self.model.dead_parameters(), self.model.parameter_count()
        return f"of which {dead:,} ({dead / total:.0%}) can never receive a gradient" if dead else ""


def warn_of_dead_weights(model: WavPool) -> None:
    """Say how many weights no window of the pool reaches.

    Warns:
        UserWarning: there are some.
    """
    dead, total = model.dead_parameters(), model.parameter_count()
    if dead:
        warnings.warn(
            f"{dead:,} of {total:,} weights ({dead / total:.0%}) can never receive a gradient: model.pool "
            f"{list(model.config.pool)} leaves out what fills no window; model.ceil keeps it",
            stacklevel=2,
        )
