"""What is done to a picture: `Denoise` and `Upscale`, whatever the cascade (`Restore` has a file of its own).

A cascade whose networks are all local walks tile by tile (`tiled`). One whose low-pass network sees the whole image, as
those that draw new images do, denoises the picture in one piece; it enlarges tile by tile all the same, unless the
result has the size of its training images: there the zeros around the image tell its networks where they are, which
helps. Pictures that are walked in tiles have their mirror image around them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from wavdiff.images.disk_array import Plane
from wavdiff.images.rectangle import Rectangle, Write
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.random_numbers import derive_generator
from wavdiff.restoration.plain import Effort, Noise, Plain
from wavdiff.restoration.request import RestorationRequest
from wavdiff.restoration.tiled import Progress, TiledCanvas, denoise_tiled, upscale_tiled
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

if TYPE_CHECKING:
    from wavdiff.restoration.brightness_noise import NoiseCurve
    from wavdiff.restoration.noise_estimation import NoiseEstimate


class Task(Protocol):
    """One thing that is done to pictures by a cascade.

    Attributes:
        cascade: the model.
        factor: sides of the result, in those of the picture.
        enlarges_opacity: whether opacity is a picture to be worked on as well; else it is carried along.
        fills_opacity: whether the result is opaque.
    """

    cascade: WaveletCascade
    factor: int
    enlarges_opacity: bool
    fills_opacity: bool

    def study(self, picture: Plain, name: str, messages: list[str]) -> Any:
        """What has to be known of a picture before (its noise); `name` begins the messages on it."""
        ...

    def run(self, picture: Plain, known: Any, write: Write, effort: Effort) -> None:
        """Work on a picture."""
        ...


class Denoise:
    """Remove noise; see `Task`.

    Args:
        cascade: the model.
        request: what is known of the noise, solver and steps of draws.
    """

    factor = 1
    enlarges_opacity = fills_opacity = False

    def __init__(self, cascade: WaveletCascade, request: RestorationRequest) -> None:
        self.cascade, self.sigma, self.request = cascade, request.sigma, request
        if request.solver not in (None, "sde-dpm"):
            raise WavdiffError(
                f"draws of a denoised picture have the solver sde-dpm, got {shown(request.solver)}: the others go one "
                "way from the noisy picture, and would draw the same every time"
            )
        self.schedule = cascade.schedule("posterior", **_changes(request))

    def study(self, picture: Plain, name: str, messages: list[str]) -> Noise:
        """The noise, given or measured."""
        from wavdiff.restoration.compression import was_compressed
        from wavdiff.restoration.noise_estimation import CUT_OFF, estimate_in_windows, windows_of

        scales, octaves = self.cascade.levels + 1, max(self.cascade.levels, 1) + 1
        windows = None
        if self.sigma is None and self.request.gain is None:
            windows = windows_of(picture.read, picture.size, octaves)
        compressed = picture.compressed or (windows is not None and was_compressed(windows))
        curve = self._curve(windows, compressed, name)
        if curve is not None:
            levels = [2 * curve.sigma] * scales
            messages.append(f"{name}{curve.report()}")
        elif self.sigma is not None:
            levels = [2 * self.sigma] * scales
        else:
            estimate = estimate_in_windows(windows, picture.channels, octaves, compressed, picture.step)
            if estimate.cut_off and not name:
                raise WavdiffError(f"the noise {CUT_OFF}")
            messages += [f"{name}{line}" for line in estimate.report().splitlines()]
            if not estimate.white and not is_local(self.cascade):
                messages.append(f"{name}this model takes one level for all scales: that of the finest octave")
            levels = scale_levels(estimate, scales) if estimate.measurable else [0.0] * scales
            levels = self._within_training(levels, name, messages)
        check_noise(self.cascade, max(levels) / 2, given=self.sigma is not None)
        return Noise(levels, curve)

    def _curve(self, windows: Tensor | None, compressed: bool, name: str) -> NoiseCurve | None:
        """How the noise of a picture grows with brightness, where it does."""
        from wavdiff.restoration.brightness_noise import NoiseCurve, measure_curve

        request = self.request
        if request.gain is not None:
            return NoiseCurve(request.gain, request.read_noise)
        needed = request.noise == "poisson"
        if request.noise == "white" or request.colour == "luma" or (compressed and not needed):
            return None
        curve = None if windows is None else measure_curve(windows, needed=needed)
        if curve is None and needed and not name:
            raise WavdiffError("no noise that grows with brightness was found in this picture; give its gain")
        return curve

    def run(self, picture: Plain, known: Noise, write: Write, effort: Effort) -> None:
        """Denoise as `study` says; a cascade that is not local uses the first level for all scales."""
        cascade, seed, levels = self.cascade, effort.seed, known.levels
        if known.curve is not None:
            picture = replace(picture, read=known.curve.stabilising(picture.read))
            write = known.curve.unstabilising(write)
        schedule = self.schedule if effort.mode == "sample" else None
        if max(levels) == 0:  # nothing to remove
            picture.hand_over(write)
        elif is_local(cascade) and not (knows_border(cascade, picture.size) and len(set(levels)) == 1):
            denoise_tiled(_canvas(cascade, picture, effort), picture.read, picture.size, levels, write, schedule)
        else:

            def whole(batch: Tensor, seeds: list[int]) -> Tensor:
                if schedule:
                    return cascade.draw_posterior(batch, levels[0], seeds, schedule)
                return cascade.denoise(batch, torch.full((batch.shape[0],), levels[0], device=batch.device)).mean

            _in_one_piece(cascade, picture, seed, whole, write, effort.progress)

    def _within_training(self, levels: list[float], name: str, messages: list[str]) -> list[float]:
        """Levels; single ones above what the model was trained for are limited to that, and the others cleaned."""
        most = self.cascade.noise_max
        if most is None or not min(levels) <= 2 * most < max(levels):
            return levels
        messages.append(
            f"{name}octaves with more noise than this model was trained for are cleaned as of {255 * most:.0f}/255"
        )
        return [min(level, 2 * most) for level in levels]


class Upscale:
    """Enlarge; see `Task`.

    Args:
        cascade: the model.
        request: factor (a power of two), solver and steps of draws.

    Raises:
        WavdiffError: the cascade cannot enlarge.
    """

    enlarges_opacity, fills_opacity = True, False

    def __init__(self, cascade: WaveletCascade, request: RestorationRequest) -> None:
        self.cascade, self.factor = cascade, int(request.factor)
        self.stages = _stages(cascade, self.factor)
        self.schedule = cascade.schedule("details", **_changes(request))

    def study(self, picture: Plain, name: str, messages: list[str]) -> None:
        """Nothing has to be known."""

    def run(self, picture: Plain, known: None, write: Write, effort: Effort) -> None:
        """Enlarge, beyond the model's own factor in stages."""
        *first, last = self.stages
        planes: list[Plane] = []
        try:
            for number, factor in enumerate(first):
                size = (picture.size[0] * factor, picture.size[1] * factor)
                in_memory = 4 * picture.channels * size[0] * size[1] <= effort.memory_bytes // 8
                planes.append(Plane(picture.channels, *size, in_memory=in_memory))
                self._enlarge(picture, factor, planes[-1].write, effort, number)
                picture = replace(picture, read=planes[-1].read, size=size)
            self._enlarge(picture, last, write, effort, len(first))
        finally:
            for plane in planes:
                plane.close()

    def _enlarge(self, picture: Plain, factor: int, write: Write, effort: Effort, stage: int) -> None:
        seed, count, progress = effort.seed, len(self.stages), effort.progress
        if stage:  # what it draws is not what the stage before drew
            seed = derive_generator(seed, "stage", stage).initial_seed() % 2**31

        def advance(done: int, total: int) -> None:
            if progress:
                progress(stage * total + done, count * total)

        effort = replace(effort, seed=seed, progress=advance)
        size, cascade = (picture.size[0] * factor, picture.size[1] * factor), self.cascade
        schedule = self.schedule if effort.mode == "sample" else None
        if cascade.wavelet == "haar" and not knows_border(cascade, size):
            canvas = _canvas(cascade, picture, effort)
            upscale_tiled(canvas, picture.read, picture.size, factor, write, schedule)
        else:

            def whole(batch: Tensor, seeds: list[int]) -> Tensor:
                return cascade.upscale(batch, factor, seeds=seeds if schedule else None, schedule=schedule)

            _in_one_piece(cascade, picture, effort.seed, whole, write, effort.progress)


def _stages(cascade: WaveletCascade, factor: int) -> list[int]:
    """Factors that make up a power of two, each within what the cascade has scales for."""
    cascade.scales_of(2)  # refuses a cascade without details
    largest, stages = 2**cascade.levels, []
    while factor > 1:
        stages.append(min(factor, largest))
        factor //= stages[-1]
    return stages


def is_local(cascade: WaveletCascade) -> bool:
    """Whether every network of the cascade is local, so that it denoises tile by tile."""
    networks = (cascade.denoiser(name).network for name in cascade.scale_names)
    return cascade.wavelet == "haar" and all(network.receptive_field is not None for network in networks)


def knows_border(cascade: WaveletCascade, size: tuple[int, int]) -> bool:
    """Whether pictures of `size` are whole images as the low-pass network saw them in training, border and all.

    It did if it is global, or if it is one of the published kind and sees all of a low-pass image at once.
    """
    network = cascade.lowpass.network
    field = network.receptive_field
    return size == cascade.image_size and (field is None or (network.blind and field >= min(size) // 2**cascade.levels))


def check_noise(cascade: WaveletCascade, sigma: float, *, given: bool) -> None:
    """Refuse noise that a model never saw: beyond it, networks return anything.

    Raises:
        WavdiffError: `sigma`, in [0, 1] units, is above `cascade.noise_max`.
    """
    most = cascade.noise_max
    if most is not None and sigma > most * (1 + 1e-6):
        what = "sigma is" if given else "the noise was estimated as"
        raise WavdiffError(
            f"{what} {sigma:.3g} ({255 * sigma:.0f}/255), but this model was trained for noise of at most {most:.3g} "
            f"({255 * most:.0f}/255); choose another model"
        )


def scale_levels(estimate: NoiseEstimate, scales: int) -> list[float]:
    """The estimate as noise levels of every scale, finest first, the low-pass last; library units."""
    if estimate.white:
        return [2 * estimate.sigma] * scales
    octaves = [*estimate.octaves, *[estimate.octaves[-1]] * scales]
    return [2 * level for level in octaves[:scales]]


def _changes(request: RestorationRequest) -> dict[str, Any]:
    """What the user changes of the schedule of draws."""
    given = (("solver", request.solver), ("steps", request.steps))
    return {name: value for name, value in given if value is not None}


def _canvas(cascade: WaveletCascade, picture: Plain, effort: Effort) -> TiledCanvas:
    return TiledCanvas(
        cascade, picture.channels, seed=effort.seed, memory_bytes=effort.memory_bytes, progress=effort.progress
    )


def _in_one_piece(
    cascade: WaveletCascade,
    picture: Plain,
    seed: int,
    whole: Callable[[Tensor, list[int]], Tensor],
    write: Write,
    progress: Progress | None,
) -> None:
    """Apply `whole(batch, seeds)` to a picture: its channels apart, as they are, or gray as equal ones."""
    channels = picture.channels
    values = picture.read(Rectangle(0, picture.size[0], 0, picture.size[1])).to(cascade.device, torch.float32)
    if cascade.channels == 1:
        result = whole(values[:, None], [seed * channels + row for row in range(channels)])[:, 0]
    elif channels == 3:
        result = whole(values[None], [seed])[0]
    else:
        result = whole(values.expand(3, -1, -1)[None], [seed])[0].mean(dim=0, keepdim=True)
    write(Rectangle(0, result.shape[-2], 0, result.shape[-1]), result.clone().cpu())
    if progress:
        progress(1, 1)
