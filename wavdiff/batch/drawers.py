"""What draws the images of `wavdiff sample`: a cascade, or another model that can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from wavdiff import api
from wavdiff.models.cascade.ascent import Ascent
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.sampling import DRAWING, check_draws, sample_schedules, sample_walk
from wavdiff.models.cascade.solvers import Schedule
from wavdiff.models.family import WEIGHTS_FILE, check_can
from wavdiff.models.folders import family_of, find_any_model, find_model
from wavdiff.models.run_config import SETTINGS_FILE
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import check_temperature, shown


@dataclass(frozen=True)
class SamplingRequest:
    """What decides the images: model, seeds, ladders, size, precision (see `computing_in`); `batch_size` does not.

    `temperature` is for models that have one; what follows `low_seed` but `batch_size` and `precision` is for cascades.
    """

    model: str
    seeds: tuple[int, ...]
    low_seed: int | None = None
    size: tuple[int, int] | None = None
    steps: tuple[int | None, int | None] = (None, None)
    solver: str | None = None
    stop_scale: int = 0
    batch_size: int = 64
    correctors: tuple[int, int] | None = None
    ascents: tuple[Ascent, Ascent] | None = None
    lowpass_range: tuple[float, float] | Literal["model"] | None = "model"
    precision: str | None = None
    temperature: float | None = None
    texture: bool = False


OF_CASCADES = ("low_seed", "size", "steps", "solver", "stop_scale", "correctors", "ascents", "lowpass_range", "texture")


class Drawer(Protocol):
    """Draws images of a request.

    Attributes:
        size: (height, width) of the images.
        channels: 1 or 3.
        device: where the model is.
        model_files: weights and settings of the model, whose digests decide the images.
    """

    size: tuple[int, int]
    channels: int
    device: torch.device
    model_files: tuple[Path, Path]

    def check(self, show_scales: bool) -> None:
        """Refuse what does not fit the model; raises WavdiffError."""
        ...

    def describe(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What decides the images beside model and seeds, and what else the record says of the model."""
        ...

    def walk(self, seeds: Sequence[int]) -> list[Tensor]:
        """From coarse to fine, (N, C, h, w) in [-1, 1]; the last are the images."""
        ...


def find_drawer(request: SamplingRequest, device: torch.device) -> Drawer:
    """Load the model.

    Raises:
        WavdiffError: it draws nothing.
    """
    model = api.load(request.model, device)
    return CascadeDrawer(request, model) if isinstance(model, WaveletCascade) else PlainDrawer(request, model)


class CascadeDrawer:
    """Draws with a cascade; see `Drawer`."""

    def __init__(self, request: SamplingRequest, cascade: WaveletCascade) -> None:
        self.request, self.cascade, self.channels = request, cascade, cascade.channels
        self.size, self.device = request.size or cascade.image_size, cascade.device
        folder = find_model(request.model) / "cascade"
        self.model_files = folder / "diffusion_pytorch_model.safetensors", folder / "config.json"

    def check(self, show_scales: bool) -> None:
        """Refuse what does not fit."""
        request, levels = self.request, self.cascade.levels
        if request.temperature is not None:
            raise WavdiffError(
                f"--temperature is for hierarchical VAEs, and {request.model} is a wavelet cascade, got "
                f"{shown(request.temperature)}"
            )
        if not 0 <= request.stop_scale <= levels:
            raise WavdiffError(
                f"--stop-scale must be between 0 (the image) and {levels} (the low-pass), got {request.stop_scale}"
            )
        check_draws(self.cascade, request.texture)
        step, size = 2**levels, request.size
        if size is not None and any(side < step or side % step for side in size):
            raise WavdiffError(f"--size must be multiples of {step} for this model, got {'x'.join(map(str, size))}")

    def describe(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Schedules or ascents, and those of the model."""
        request, cascade = self.request, self.cascade
        low, detail = request.ascents or sample_schedules(cascade, request.solver, *request.steps, request.correctors)
        draws = {
            "ladders": {"lowpass": _plain(low), "details": _plain(detail)},
            "lowpass_range": cascade.lowpass_range if request.lowpass_range == "model" else request.lowpass_range,
            "size": self.size,
            "stop_scale": request.stop_scale,
            "low_seed": request.low_seed,
        }
        ladders = {name: _plain(cascade.schedule(name)) for name in ("lowpass", "details")}
        return {"drawing": DRAWING, **draws}, {"model_ladders": ladders}

    def walk(self, seeds: Sequence[int]) -> list[Tensor]:
        """The walk."""
        request = self.request
        return sample_walk(
            self.cascade,
            seeds,
            low_seeds=None if request.low_seed is None else [request.low_seed] * len(seeds),
            batch_size=request.batch_size,
            size=request.size,
            stop_scale=request.stop_scale,
            solver=request.solver,
            lowpass_steps=request.steps[0],
            detail_steps=request.steps[1],
            correctors=request.correctors,
            ascents=request.ascents,
            lowpass_range=request.lowpass_range,
            texture=request.texture,
        )


class PlainDrawer:
    """Draws with a model that has `sample(seeds, temperature)`; see `Drawer`."""

    DRAWING = 1

    def __init__(self, request: SamplingRequest, model: Any) -> None:
        folder = find_any_model(request.model)
        self.noun = family_of(folder).noun
        check_can(model, "sample", request.model, self.noun)
        self.request, self.model, self.channels = request, model, model.config.channels
        self.size, self.device = (model.side, model.side), model.mean.device
        self.model_files = folder / WEIGHTS_FILE, folder / SETTINGS_FILE
        given = request.temperature
        self.temperature = 1.0 if given is None else check_temperature(given, "--temperature")

    def check(self, show_scales: bool) -> None:
        """Refuse the options of cascades."""
        plain = {field.name: field.default for field in fields(SamplingRequest)}
        given = [name for name in OF_CASCADES if getattr(self.request, name) != plain[name]]
        given += ["show_scales"] if show_scales else []
        given += ["precision"] if self.request.precision == "bf16" else []
        if given:
            name = {"lowpass_range": "range", "ascents": "solver"}.get(given[0], given[0].replace("_", "-"))
            raise WavdiffError(f"--{name} is for cascades, and {self.request.model} is a {self.noun}")

    def describe(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The temperature."""
        return {"drawing": self.DRAWING, "temperature": self.temperature, "size": self.size}, {}

    def walk(self, seeds: Sequence[int]) -> list[Tensor]:
        """The images alone."""
        images: Tensor = self.model.sample(seeds, self.temperature)
        return [images.cpu()]


def _plain(schedule: Schedule | Ascent) -> dict[str, Any]:
    """Settings that decide the images; without correctors, records are those of versions that had none."""
    settings = asdict(schedule)
    if isinstance(schedule, Schedule) and not schedule.correctors:
        del settings["correctors"], settings["corrector_step"]
    return settings
