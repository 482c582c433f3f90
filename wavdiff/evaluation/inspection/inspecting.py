"""One picture through a cascade: noise is added, the walk is kept, its scales are measured, pixels differentiated."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from wavdiff.evaluation.inspection.jacobian import PixelRows, pixel_rows
from wavdiff.evaluation.inspection.pixels import Place, check_places, choose_places
from wavdiff.evaluation.inspection.recorded import RecordedWalk, ScaleCall, reach
from wavdiff.evaluation.metrics.fidelity import psnr
from wavdiff.models import wavelets
from wavdiff.models.cascade.verbs import CascadeVerbs
from wavdiff.models.random_numbers import derive_generator, draw_noise
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import check_sigma, shown

MOST_PIXELS = 10**6
"""Of a picture whose cascade is local: only windows of it are differentiated."""
MOST_PIXELS_IN_ONE_PIECE = 512 * 512
"""Of a picture whose cascade sees all of it: every hidden layer is kept for the gradients."""
MOST_PLACES = 9


@dataclass(frozen=True)
class InspectionRequest:
    """What to look at.

    Attributes:
        sigma: standard deviation of the noise that is added, in (0, 1) of the image's range.
        seed: of the noise.
        places: pixels (row, column) of the picture; empty: three are chosen.

    Raises:
        WavdiffError: a noise level out of range, a negative seed, or too many pixels.
    """

    sigma: float = 0.1
    seed: int = 0
    places: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        check_sigma(self.sigma, "--sigma")
        if self.sigma == 0:
            raise WavdiffError("--sigma must be above 0: without noise there is nothing to average away, got 0")
        if self.seed < 0:
            raise WavdiffError(f"--seed must be at least 0, got {shown(self.seed)}")
        if len(self.places) > MOST_PLACES:
            raise WavdiffError(f"--pixel may be given {MOST_PLACES} times at most, got {len(self.places)}")


@dataclass(frozen=True)
class ScaleMeasures:
    """What one scale did to the picture; rms over all coefficients, library units unless a name says otherwise.

    Attributes:
        name: "low", or the number of the image that the scale yields.
        noise_level: standard deviation of the noise as it arrives here.
        noise_level_unit: the same in [0, 1] units.
        noise_level_standardised: the same, divided by the scale's `std`.
        noisy_rms, denoised_rms: before and after.
        residual_rms: of what was removed, y - D(y): the noise level that the network acts as if it saw.
        residual_sigma: the same as white noise on the picture, in the unit of `--sigma`.
        kept: share of the energy that is left: (denoised_rms / noisy_rms)^2.
        clean_rms: of the coefficients without noise.
        error_rms: of denoised minus clean.
        balance: (residual_rms^2 + error_rms^2) / noise_level^2. An exact posterior mean has 1 on average: its error is
            orthogonal to every function of the noisy picture. More is a network that could do better here.
    """

    name: str
    noise_level: float
    noise_level_unit: float
    noise_level_standardised: float
    noisy_rms: float
    denoised_rms: float
    residual_rms: float
    residual_sigma: float
    kept: float
    clean_rms: float
    error_rms: float
    balance: float


@dataclass(frozen=True)
class Inspection:
    """What was seen.

    Attributes:
        request: what was asked.
        clean, noisy: the picture (C, H, W), library units.
        clean_walk, noisy_walk, denoised_walk: x_J, ..., x_0 (C, h, w) each; all but x_0 may be padded at the bottom and
            the right.
        psnr: of noisy and of denoised x_J, ..., x_0, in dB.
        scales: low-pass image first.
        rows: of every pixel.
    """

    request: InspectionRequest
    clean: Tensor
    noisy: Tensor
    clean_walk: list[Tensor]
    noisy_walk: list[Tensor]
    denoised_walk: list[Tensor]
    psnr: list[tuple[float, float]]
    scales: list[ScaleMeasures]
    rows: list[PixelRows]


def check_size(cascade: CascadeVerbs, size: tuple[int, int]) -> None:
    """Refuse a picture whose walk would not fit into memory.

    Raises:
        WavdiffError: too many pixels.
    """
    local = reach(cascade) is not None
    most = MOST_PIXELS if local else MOST_PIXELS_IN_ONE_PIECE
    if size[0] * size[1] > most:
        why = "" if local else " for a cascade whose low-pass network sees the whole image"
        raise WavdiffError(
            f"a picture to inspect has at most {most:,} pixels{why}, got {size[0]}x{size[1]}; cut a part"
        )


def inspect_picture(cascade: CascadeVerbs, picture: Tensor, request: InspectionRequest | None = None) -> Inspection:
    """Add noise to a picture and look at what a cascade makes of it.

    Args:
        cascade: trained or exact denoisers, in evaluation mode.
        picture: (C, H, W) in [-1, 1], clean, C = 1 or 3. A gray cascade takes channels apart; an RGB cascade is given a
            gray picture as three equal channels, each with noise of its own.
        request: noise and pixels; default `InspectionRequest()`.

    Returns:
        The walk, its numbers by scale, and the rows of the pixels.

    Raises:
        WavdiffError: a picture that is too large or no picture, or pixels outside of it.
    """
    request = request or InspectionRequest()
    channels = int(getattr(cascade, "channels", 1))  # exact denoisers are of gray images
    if picture.ndim != 3 or picture.shape[0] not in (1, 3) or not picture.numel():
        raise WavdiffError(f"a picture must be (C, H, W) with C = 1 or 3, got {tuple(picture.shape)}")
    size = (picture.shape[1], picture.shape[2])
    check_size(cascade, size)
    check_places(request.places, size)
    if channels == 3 and picture.shape[0] == 1:
        picture = picture.expand(3, -1, -1)
    asked = tuple(Place(*place, f"pixel {number}") for number, place in enumerate(request.places, 1))
    places = asked or choose_places(picture)
    generator = derive_generator(request.seed, "inspection")
    level = 2 * request.sigma
    noisy = picture + level * draw_noise(tuple(picture.shape), [generator], picture)[0]
    # The channels of a picture are a batch to a gray cascade.
    clean_batch, noisy_batch = (x[:, None] if channels == 1 else x[None] for x in (picture, noisy))

    walk = RecordedWalk(cascade, gradients=False)
    denoised_walk = walk.run(noisy_batch, level)
    clean = wavelets.decompose(clean_batch, walk.levels, walk.wavelet)
    scales = [
        _measures(call, truth, name, std, 2 * request.sigma)
        for call, truth, (name, std) in zip(
            walk.calls, [clean.coarse, *reversed(clean.details)], _scales(cascade), strict=True
        )
    ]
    clean_walk, noisy_walk = (_images(x, walk.levels, walk.wavelet) for x in (clean_batch, noisy_batch))
    scores = [
        (_mean_psnr(noisy_image, clean_image), _mean_psnr(denoised, clean_image))
        for clean_image, noisy_image, denoised in zip(clean_walk, noisy_walk, denoised_walk, strict=True)
    ]
    rows = [pixel_rows(cascade, noisy_batch, level, place) for place in places]

    def planes(images: list[Tensor]) -> list[Tensor]:
        return [image.flatten(0, 1).detach() for image in images]

    return Inspection(
        request, picture, noisy, planes(clean_walk), planes(noisy_walk), planes(denoised_walk), scores, scales, rows
    )


def _scales(cascade: CascadeVerbs) -> list[tuple[str, float]]:
    """(name, std) of every scale, low-pass image first."""
    names = range(cascade.levels - 1, -1, -1)
    return [("low", cascade.lowpass.std), *((str(name), cascade.details[name].std) for name in names)]


def _images(batch: Tensor, levels: int, wavelet: str) -> list[Tensor]:
    """x_J, ..., x_0 of a batch; x_0 as it is, the others of the padded one."""
    images = [wavelets.pad_to_multiple(batch, 2**levels)]
    for _ in range(levels):
        images.append(wavelets.split(images[-1], wavelet)[0])
    return [*images[:0:-1], batch]


def _mean_psnr(image: Tensor, clean: Tensor) -> float:
    """PSNR in dB over all channels together."""
    return float(psnr(image.flatten(0, 1)[None], clean.flatten(0, 1)[None])[0])


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())


def _measures(call: ScaleCall, truth: Tensor, name: str, std: float, level: float) -> ScaleMeasures:
    noisy_rms, denoised_rms, residual_rms = map(_rms, (call.noisy, call.denoised, call.noisy - call.denoised))
    error_rms = _rms(call.denoised - truth)
    return ScaleMeasures(
        name=name,
        noise_level=call.noise_level,
        noise_level_unit=call.noise_level / 2,
        noise_level_standardised=call.noise_level / std,
        noisy_rms=noisy_rms,
        denoised_rms=denoised_rms,
        residual_rms=residual_rms,
        residual_sigma=residual_rms * level / call.noise_level / 2,
        kept=(denoised_rms / noisy_rms) ** 2 if noisy_rms else 1.0,
        clean_rms=_rms(truth),
        error_rms=error_rms,
        balance=(residual_rms**2 + error_rms**2) / call.noise_level**2,
    )
