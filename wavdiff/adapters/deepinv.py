"""A cascade as a denoiser of DeepInverse (https://deepinv.org), so that its plug-and-play solvers run on our prior.

A plug-and-play solver restores y = A x + noise by taking turns: a step towards the measurement y, which needs nothing
but the operator A, and a denoising step in place of the proximity operator of a regulariser (Venkatakrishnan, Bouman,
Wohlberg, "Plug-and-play priors for model based reconstruction", 2013). One cascade then inpaints, deblurs and does
whatever else can be written as an operator, without being trained for it:

    from deepinv.optim import HQS, L2, PnP
    from deepinv.physics import Inpainting
    from wavdiff.adapters.deepinv import CascadeDenoiser

    levels = [0.2 * 0.8**k + 0.01 for k in range(20)]
    solver = HQS(L2(), PnP(CascadeDenoiser("faces")), stepsize=10.0, g_param=levels, max_iter=20)
    restored = solver(y, physics)

Units are DeepInverse's: pictures in [0, 1], sigma in the same units. DeepInverse comes with `pip install
"wavdiff[plugandplay]"`, which brings torchvision. That must come from the same index as torch: PyPI's does not load
beside a torch built without CUDA, and then neither does DeepInverse; this module does.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from wavdiff.adapters.prior import Prior

try:
    from deepinv.models import Denoiser
except (ImportError, RuntimeError):  # RuntimeError: a torchvision of another build ("... nms does not exist")
    Denoiser: Any = nn.Module  # type: ignore[no-redef] # its solvers ask for nothing more


class CascadeDenoiser(Prior, Denoiser):  # type: ignore[misc]
    """A `Prior` that is one of DeepInverse's denoisers, where DeepInverse can be imported."""
