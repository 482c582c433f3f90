r"""How near a picture is to the truth: PSNR, SSIM, and the shift of the mean colour.

    PSNR = 10 log10(peak^2 / mean((estimate - reference)^2)),   peak = 2 for images in [-1, 1],

is that of floating-point results, not rounded to 8 bits. SSIM is the structural similarity of Wang, Bovik, Sheikh and
Simoncelli (2004), equation 13, with the settings of its authors: on the [0, 1] scale (similarity is not the same on
another origin of brightness), Gaussian window of standard deviation 1.5, population covariance, K1 = 0.01, K2 = 0.03,
its mean over channels.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from wavdiff.system.errors import WavdiffError

_PEAK_TO_PEAK = 2.0
_SSIM_WINDOW = 11


def psnr(estimate: Tensor, reference: Tensor, *, limited: bool = True) -> Tensor:
    """Peak signal-to-noise ratio of every image.

    Args:
        estimate: images (N, C, H, W); clamped to [-1, 1] first, as a file would be.
        reference: the true images, same shape, in [-1, 1].
        limited: False leaves the estimate as it is: white noise of standard deviation s, in [0, 1] units, then has the
            closed form -20 log10(s), however strong it is.

    Returns:
        Decibels (N,), float64; infinite where an estimate equals its reference.

    Raises:
        WavdiffError: the shapes differ or are not four-dimensional.
    """
    check_pair(estimate, reference)
    values = estimate.double()
    error = (values.clamp(-1.0, 1.0) if limited else values) - reference.double()
    return 10.0 * torch.log10(_PEAK_TO_PEAK**2 / error.square().mean(dim=(1, 2, 3)))


def ssim(estimate: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity of every image; arguments as of `psnr`.

    Returns:
        Similarities (N,), float64, at most 1.

    Raises:
        WavdiffError: the shapes differ, a side is under 11 pixels, or scikit-image is not installed.
    """
    check_pair(estimate, reference)
    if min(reference.shape[-2:]) < _SSIM_WINDOW:
        raise WavdiffError(f"SSIM needs sides of at least {_SSIM_WINDOW} pixels, got {tuple(reference.shape[-2:])}")
    similarity = import_extra("skimage.metrics").structural_similarity
    settings = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = zip(unit_range(estimate.clamp(-1.0, 1.0)), unit_range(reference), strict=True)
    values = [similarity(ours, truth, channel_axis=0, **settings) for ours, truth in pairs]
    return torch.tensor(values, dtype=torch.float64)


def mean_shift(estimate: Tensor, reference: Tensor) -> Tensor:
    """By how much the mean colour of every image differs from that of its reference.

    Args:
        estimate: images (N, C, H, W) in [-1, 1]; not clamped.
        reference: as many of as many channels, of any height and width: only their means count.

    Returns:
        mean(estimate) - mean(reference) of each channel, (N, C), float64, in units of 1/255 of the range.

    Raises:
        WavdiffError: the numbers of images or channels differ, or the images are not four-dimensional.
    """
    if estimate.ndim != 4 or reference.ndim != 4 or estimate.shape[:2] != reference.shape[:2]:
        raise WavdiffError(
            f"estimate and reference must be (N, C, H, W) of the same N and C, got {tuple(estimate.shape)} and "
            f"{tuple(reference.shape)}"
        )
    difference = estimate.double().mean(dim=(2, 3)) - reference.double().mean(dim=(2, 3))
    return difference * (255.0 / _PEAK_TO_PEAK)


def import_extra(name: str) -> Any:
    """A module of the extra `evaluation`; raises WavdiffError that names the extra where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise WavdiffError(f'evaluation needs {package}: pip install "wavdiff[evaluation]"') from error


def unit_range(images: Tensor) -> Any:
    """Images in [-1, 1] as a NumPy array in [0, 1], float64."""
    return ((images + 1.0) / 2.0).detach().double().cpu().numpy()


def check_pair(estimate: Tensor, reference: Tensor) -> None:
    """Check that two batches of images have one shape; raises WavdiffError."""
    if estimate.ndim != 4 or estimate.shape != reference.shape:
        raise WavdiffError(
            f"estimate and reference must share one shape (N, C, H, W), got {tuple(estimate.shape)} and "
            f"{tuple(reference.shape)}"
        )
