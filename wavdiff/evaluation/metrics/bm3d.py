"""BM3D, the classical denoiser to stand beside: it filters groups of similar blocks together.

Source: Dabov, Foi, Katkovnik, Egiazarian (2007); the implementation of Makinen, Azzari, Foi (2020).
"""

from __future__ import annotations

import torch
from torch import Tensor

from wavdiff.evaluation.metrics.fidelity import import_extra, unit_range
from wavdiff.system.errors import WavdiffError


def bm3d_denoise(noisy: Tensor, sigma: float, threads: int | None = None) -> Tensor:
    """Images denoised by BM3D, RGB by colour BM3D.

    Args:
        noisy: images (N, C, H, W) in [-1, 1] plus white Gaussian noise, C = 1 or 3.
        sigma: standard deviation of the noise on the [0, 1] scale: 25/255 = 0.098.
        threads: of BM3D, at least 1; None for as many as PyTorch uses, so that times can be compared. With more than
            one, the last digits differ from run to run.

    Returns:
        Estimates, same shape and type as `noisy`, not clamped.

    Raises:
        WavdiffError: wrong shape, a sigma outside (0, 1], or the package bm3d is not installed.
    """
    if noisy.ndim != 4 or noisy.shape[1] not in (1, 3):
        raise WavdiffError(f"BM3D needs images (N, 1 or 3, H, W), got shape {tuple(noisy.shape)}")
    if not 0.0 < sigma <= 1.0:
        raise WavdiffError(f"sigma is counted on the [0, 1] scale and lies in (0, 1], got {sigma}")
    if threads is not None and threads < 1:
        raise WavdiffError(f"threads must be at least 1, got {threads}")
    package = import_extra("bm3d")
    profile = package.BM3DProfile()
    profile.num_threads = torch.get_num_threads() if threads is None else threads
    results = []
    for image in unit_range(noisy):
        if len(image) == 1:
            results.append(torch.as_tensor(package.bm3d(image[0], sigma, profile)).reshape(image.shape))
        else:
            clean = package.bm3d_rgb(image.transpose(1, 2, 0), sigma, profile)
            results.append(torch.as_tensor(clean).permute(2, 0, 1))
    return (torch.stack(results) * 2.0 - 1.0).to(noisy)
