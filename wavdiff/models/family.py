"""What the training engine asks of a family of models; a family is one subclass, see `cascade.family`.

The engine does everything that makes a training safe, and knows no family: it reads images, takes optimiser steps over
the parts of a model, averages their weights, keeps records and checkpoints. A family measures its data, builds its
model, makes examples of images and losses of examples, and says how good the model is.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wavdiff.data import Images
from wavdiff.models import find_family
from wavdiff.models.run_config import SETTINGS_FILE, RunConfig, to_mapping
from wavdiff.system.errors import WavdiffError
from wavdiff.system.settings import from_fields
from wavdiff.system.text_files import parse_json, read_text

ConfigT = TypeVar("ConfigT", bound=RunConfig)
ModelT = TypeVar("ModelT")
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Loss:
    """The loss of one part of a model on a batch.

    Attributes:
        scalar: what is minimised.
        examples: losses (B,) without gradient.
        groups: standardised noise levels (B,) of the examples, by which records sort the losses; None: not sorted.
    """

    scalar: Tensor
    examples: Tensor
    groups: Tensor | None = None


class Family(ABC, Generic[ConfigT, ModelT]):
    """One family of models, with the configuration of a run.

    Attributes:
        Config: class of its configurations.
        noun: what messages call its models: "wavelet cascade".
        title, summary: of model cards: "cascade", "A wavelet cascade of score networks"; default the noun.
        library, tags: of model cards, as model hubs know them.
        parts: set by `build`, from coarse to fine: modules that are trained, averaged, clipped, skipped, scheduled and
            finished apart, named as in `Config.parts`.
        needs_classes: whether it learns from the classes of images: batches then have their names under "class".
        heldout_classes: set by the engine for such a family: those of the held-out images.
        ready: set by the engine: parts whose weights can be used, trained by now or taken from another model.
    """

    Config: ClassVar[type[RunConfig]]
    noun: ClassVar[str]
    title: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    library: ClassVar[str] = "wavdiff"
    tags: ClassVar[tuple[str, ...]] = ("wavdiff",)
    needs_classes: ClassVar[bool] = False

    def __init__(self, config: ConfigT) -> None:
        self.config = config
        self.parts: dict[str, nn.Module] = {}
        self.ready: set[str] = set()
        self.heldout_classes: list[str] = []

    # --- what is trained ---------------------------------------------------------------------------------------------

    def measure(self, source: Images) -> dict[str, Any]:
        """Numbers of the training images that the model needs, as JSON; measured once and kept in run.json."""
        return {}

    def check_measured(self, measured: dict[str, Any]) -> list[float]:
        """The measured numbers as checkpoints keep them.

        Raises:
            ValueError, KeyError, TypeError: they cannot be.
        """
        return [float(value) for value in measured.values()]

    @abstractmethod
    def build(self, measured: dict[str, Any]) -> ModelT:
        """A fresh model, initialised from `training.seed`; sets `parts`.

        Args:
            measured: see `measure`; empty for a model to look at or to load weights into.
        """

    @abstractmethod
    def example(self, image: Tensor, generator: torch.Generator, strong: bool) -> dict[str, Tensor]:
        """Tensors of one example, called in data workers.

        Args:
            image: (C, H, W) in [-1, 1], cropped and augmented.
            generator: all chance of the example.
            strong: whether it is one of the strongly augmented part of its batch, see `RunConfig.strong_fraction`.
        """

    @abstractmethod
    def losses(self, batch: dict[str, Any], active: list[str]) -> dict[str, Loss]:
        """Loss of every active part.

        Args:
            batch: collated examples; "label" has the names of their images.
            active: parts that are trained in this step.
        """

    def describe_example(self, batch: dict[str, Any], index: int) -> str:
        """What made an example hard, for messages about losses that are not finite: "noise 25.0/255"."""
        return "as it is"

    @property
    def bf16_is_safe(self) -> bool:
        """Whether the model learns in bfloat16 what it learns in float32."""
        return True

    def compile(self, part: str) -> None:
        """Compile the networks of a part in place."""
        self.parts[part].compile()

    # --- what is measured, drawn and written -------------------------------------------------------------------------

    @abstractmethod
    def evaluate(self, model: ModelT, images: Tensor) -> dict[str, float]:
        """Held-out numbers by name (see `heldout_names`) of `images` (N, C, H, W); "loss/PART@..." are the criterion.

        The chance is the same at every call, so that moments of a run can be compared.
        """

    def draw(self, model: ModelT, seeds: list[int]) -> Tensor | None:
        """Images (N, C, H, W) in [-1, 1] for the contact sheet, one per seed; None: the family draws none."""
        return None

    def part_note(self, part: str) -> str:
        """What to say of a part beside its number of parameters, after a comma; empty: nothing."""
        return ""

    def note(self, model: ModelT) -> str:
        """What to say of the model beside its images' size, after a semicolon; empty: nothing."""
        return ""

    def cost(self, model: ModelT) -> str:
        """What a use of the model costs: "12 multiply-adds per pixel"; empty: not known."""
        return ""

    def tables(self, numbers: dict[str, float]) -> str:
        """Held-out numbers as Markdown."""
        return "\n".join(
            ["| number | value |", "|---|---|", *(f"| {name} | {numbers[name]:.4f} |" for name in numbers)]
        )

    def save(self, model: ModelT, folder: Path, card: str, configuration: str | None = None) -> None:
        """Write the model into a new folder, so that `load_model` finds it; what `measure` said lies in its buffers."""
        folder.mkdir(parents=True)
        weights = cast(nn.Module, model).state_dict()
        save_file({name: value.contiguous() for name, value in weights.items()}, folder / WEIGHTS_FILE)
        (folder / "README.md").write_text(card, encoding="utf-8")
        if configuration is not None:
            (folder / "training.yaml").write_text(configuration, encoding="utf-8")
        (folder / SETTINGS_FILE).write_text(json.dumps(to_mapping(self.config), indent=1) + "\n", encoding="utf-8")

    # --- where a run may begin ---------------------------------------------------------------------------------------

    def measured_by(self, model: str) -> dict[str, Any]:
        """The measured numbers of a trained model that a run starts from (`training.init`).

        Raises:
            WavdiffError: it does not fit the configuration.
        """
        raise WavdiffError(f"training.init {model}: a {self.noun} cannot start from a trained model")

    def begin_with(self, model: str) -> None:
        """Give all parts the weights of a trained model; raises as `measured_by`."""
        self.measured_by(model)

    def take(self, parts: list[str], model: str | Path) -> None:
        """Give some parts the weights of a trained model (`--base`).

        Raises:
            WavdiffError: it does not fit.
        """
        raise WavdiffError(f"--base {model}: a {self.noun} takes no parts from another model")


def load_model(folder: Path) -> nn.Module:
    """A model of any family that is saved as `Family.save` does it, in evaluation mode.

    Raises:
        WavdiffError: a file is missing or damaged; names it.
    """
    try:
        settings = parse_json(read_text(folder / SETTINGS_FILE))
        kind = find_family(settings.pop("family"))
        model: nn.Module = kind(from_fields(kind.Config, settings)).build({})
        model.load_state_dict(load_file(folder / WEIGHTS_FILE))
        if not all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values()):
            raise ValueError("its weights are not finite")
    except (
        WavdiffError, SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:300]
        raise WavdiffError(f"--model {folder}: is no model that can be loaded ({reason})") from error
    return model.eval()


CAPABILITIES = {"sample": "draws no images", "classify": "knows no classes"}
"""What a model of some family can do: a method of that name; and what to say of those without it."""


def check_can(model: object, method: str, name: str, noun: str) -> None:
    """Refuse a model that lacks a capability in one line: "model X is a classifier: it draws no images"."""
    if not hasattr(model, method):
        raise WavdiffError(f"model {name} is a {noun}: it {CAPABILITIES[method]}")
