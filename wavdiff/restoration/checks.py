"""The PSNR of a demonstration, measured while it is written."""

from __future__ import annotations

import math

from torch import Tensor

from wavdiff.images.rectangle import Read, Rectangle, Write


class Fidelity:
    """PSNR of a noisy and of a restored picture beside the clean one, all limited to [-1, 1].

    Args:
        noisy, clean: read the pictures.
    """

    def __init__(self, noisy: Read, clean: Read) -> None:
        self._noisy, self._clean = noisy, clean
        self._before = self._after = 0.0
        self._count = 0

    def watching(self, write: Write) -> Write:
        """`write`, watched."""

        def measure(where: Rectangle, values: Tensor) -> None:
            clean = self._clean(where)
            self._before += float((self._noisy(where).clamp(-1, 1) - clean).double().square().sum())
            self._after += float((values.clamp(-1, 1) - clean).double().square().sum())
            self._count += clean.numel()
            write(where, values)

        return measure

    def report(self) -> str:
        """What was found, as a line."""
        before, after = (10 * math.log10(4 * self._count / max(e, 1e-12)) for e in (self._before, self._after))
        return f"PSNR {before:.2f} dB noisy, {after:.2f} dB denoised (both clipped to the range)"
