"""Small, local, honest image priors: one wavelet cascade of denoisers that draws, denoises and enlarges images.

Conventions, everywhere in the library:

- Images are (B, C, H, W), float32, in [-1, 1]; files, the command line's `--sigma` and the functions named here that
  take `sigma` speak [0, 1].
- A scale is counted from fine to coarse: the image is x_0, x_j has half the side of x_{j-1}, x_J is the low-pass
  image. The wavelet transform is range-preserving: x_j has the range of an image, and white noise of standard
  deviation s on the image arrives with s / 2^j at scale j.
- Noise levels are standard deviations in the units of the tensor they belong to.
- Image k of seed s depends on s + k alone: not on the batch size, nor on the number of processes.

Five verbs:

    import wavdiff
    faces = wavdiff.load("faces")
    new = wavdiff.sample(faces, n=4, seed=0)
    clean = wavdiff.denoise(noisy, sigma=0.1, model=faces)
    large = wavdiff.upscale(small, 2, model=faces)
    whole = wavdiff.restore(torn, wavdiff.Degradation(hidden=mask))
    wavdiff.train("tiny", out="runs/mine", data="pictures/")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavdiff.adapters.diffusers import WaveletCascadePipeline
    from wavdiff.adapters.prior import prior
    from wavdiff.adapters.restoring import restore
    from wavdiff.api import classify, denoise, load, sample, train, upscale
    from wavdiff.models.cascade.model import WaveletCascade
    from wavdiff.models.cascade.solvers import Schedule
    from wavdiff.restoration.degradations import Degradation
    from wavdiff.system.errors import WavdiffError


__version__ = "0.6.0"
_HOMES = {
    "load": "wavdiff.api",
    "sample": "wavdiff.api",
    "denoise": "wavdiff.api",
    "upscale": "wavdiff.api",
    "restore": "wavdiff.adapters.restoring",
    "Degradation": "wavdiff.restoration.degradations",
    "train": "wavdiff.api",
    "classify": "wavdiff.api",
    "prior": "wavdiff.adapters.prior",
    "WaveletCascade": "wavdiff.models.cascade.model",
    "WaveletCascadePipeline": "wavdiff.adapters.diffusers",
    "Schedule": "wavdiff.models.cascade.solvers",
    "WavdiffError": "wavdiff.system.errors",
}
__all__ = [
    "Degradation",
    "Schedule",
    "WavdiffError",
    "WaveletCascade",
    "WaveletCascadePipeline",
    "__version__",
    "classify",
    "denoise",
    "load",
    "prior",
    "restore",
    "sample",
    "train",
    "upscale",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `wavdiff --help` does not wait for torch."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'wavdiff' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What there is, for completion in a shell, although nothing of it is imported yet."""
    return sorted(__all__)
