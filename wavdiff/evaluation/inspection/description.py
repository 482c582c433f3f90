"""What the scales of a cascade are: the network of each, its cost, its unit, and how it draws by default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from wavdiff.evaluation.tables import markdown_table
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.networks.cost import count_multiply_adds


@dataclass(frozen=True)
class ScaleDescription:
    """One scale.

    Attributes:
        name: "low", or the number of the image that the scale yields: "0" is the finest.
        kind: of the network, as in the cascade's configuration.
        parameters: number of weights.
        receptive_field: side r of the r x r inputs of one output, on the scale's own grid; None: the whole image.
        multiply_adds_per_pixel: of one call, per pixel of x_0.
        std: rms of the scale's coefficients over the training set, library units.
        ladder: settings of the default ladder that draws this scale.
        grid: (height, width) of the coefficients of a sample.
    """

    name: str
    kind: str
    parameters: int
    receptive_field: int | None
    multiply_adds_per_pixel: float
    std: float
    ladder: dict[str, Any]
    grid: tuple[int, int]


@dataclass(frozen=True)
class CascadeDescription:
    """A cascade, its scales from coarse to fine.

    Attributes:
        model: its name, as the user gave it.
        channels: 1 (gray) or 3 (RGB).
        image_size: (height, width) of a sample.
        wavelet: its PyWavelets name.
        conditioning_augmentation: whether the detail networks know noisy coarse images.
        parameters, multiply_adds_per_pixel: of all networks together.
        scales: low-pass image first.
    """

    model: str
    channels: int
    image_size: tuple[int, int]
    wavelet: str
    conditioning_augmentation: bool
    parameters: int
    multiply_adds_per_pixel: float
    scales: tuple[ScaleDescription, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def as_markdown(self) -> str:
        """A title, a line on the whole, and a table of the scales."""
        height, width = self.image_size
        colour = "gray" if self.channels == 1 else "RGB"
        known = "also noisy" if self.conditioning_augmentation else "as exact"
        line = (
            f"{colour}, wavelet {self.wavelet}, a sample is {height}x{width}; {self.parameters:,} parameters, "
            f"{self.multiply_adds_per_pixel:,.0f} multiply-adds per pixel for one pass of all networks; the detail "
            f"networks know the coarse image {known}."
        )
        columns = [
            "yields", "network", "parameters", "receptive field", "in pixels", "multiply-adds/pixel", "std", "ladder",
        ]  # fmt: skip
        rows = {scale_title(scale.name): self._cells(scale) for scale in self.scales}
        return f"# Cascade {self.model}\n\n{line}\n\n{markdown_table(columns, rows)}"

    def _cells(self, scale: ScaleDescription) -> list[str]:
        yields, times = (len(self.scales) - 1, 1) if scale.name == "low" else (scale.name, 2)
        height, width = (times * side for side in scale.grid)
        side, field, pixels = scale.receptive_field, "whole image", "all"
        if side is not None:
            field, pixels = f"{side}x{side}", str(side * self.image_size[0] // scale.grid[0])
        ladder = scale.ladder
        each = f" x {1 + ladder['correctors']}" if ladder["correctors"] else ""
        return [
            f"x_{yields}, {height}x{width}", scale.kind, f"{scale.parameters:,}", field, pixels,
            f"{scale.multiply_adds_per_pixel:,.0f}", f"{scale.std:.4f}",
            f"{ladder['steps']}{each} {ladder['solver']}, {ladder['sigma_max']:g} to {ladder['sigma_min']:g}",
        ]  # fmt: skip


def scale_title(name: str) -> str:
    """A scale as tables call it."""
    return "low-pass" if name == "low" else f"details {name}"


def describe(cascade: WaveletCascade, model: str = "") -> CascadeDescription:
    """What the scales of a cascade are, with `model` in the title; no more is computed than shapes of network calls."""
    height, width = cascade.image_size
    scales = []
    for name in cascade.scale_names:
        denoiser = cascade.denoiser(name)
        settings = cascade.config["lowpass_network"] if name == "low" else cascade.config["detail_networks"][int(name)]
        below = cascade.levels if name == "low" else int(name) + 1
        grid = (height // 2**below, width // 2**below)
        scales.append(
            ScaleDescription(
                name=name,
                kind=str(settings["kind"]),
                parameters=sum(parameter.numel() for parameter in denoiser.parameters()),
                receptive_field=receptive_field(denoiser),
                multiply_adds_per_pixel=count_multiply_adds(denoiser.network, grid) / (height * width),
                std=float(denoiser.std),
                ladder=asdict(cascade.schedule("lowpass" if name == "low" else "details")),
                grid=grid,
            )
        )
    return CascadeDescription(
        model=model,
        channels=cascade.channels,
        image_size=(height, width),
        wavelet=cascade.wavelet,
        conditioning_augmentation=cascade.conditioning_augmentation,
        parameters=sum(scale.parameters for scale in scales),
        multiply_adds_per_pixel=sum(scale.multiply_adds_per_pixel for scale in scales),
        scales=tuple(scales),
    )


def receptive_field(denoiser: Any) -> int | None:
    """Side r of the r x r inputs that one output of a denoiser depends on; None: all of them, or nobody says."""
    field = getattr(getattr(denoiser, "network", None), "receptive_field", None)
    return None if field is None else int(field)
