"""Observers of what is written: block means of an enlargement, and the PSNR of a demonstration."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import avg_pool2d

from wavdiff.images.rectangle import Read, Rectangle, Write


class BlockMeans:
    """Compares block means of an enlarged picture with the small one, where a tile has whole blocks.

    Args:
        small: reads the small picture.
        factor: side of a block.
    """

    def __init__(self, small: Read, factor: int) -> None:
        self._small, self._factor = small, factor
        self.largest = 0.0

    def watching(self, write: Write) -> Write:
        """`write`, watched."""

        def compare(where: Rectangle, values: Tensor) -> None:
            factor = self._factor
            first = [-(-edge // factor) for edge in (where.top, where.left)]
            last = [edge // factor for edge in (where.bottom, where.right)]
            if first[0] < last[0] and first[1] < last[1]:
                blocks = Rectangle(first[0], last[0], first[1], last[1])
                means = avg_pool2d(where.cut(values, blocks.scaled(factor))[None], factor)[0]
                self.largest = max(self.largest, float((means - self._small(blocks)).abs().max()))
            write(where, values)

        return compare

    def report(self) -> str:
        """What was found, as a line."""
        return (
            f"block means differ from the input by at most {self.largest / 2:.1e} of its range, before rounding to the "
            "file"
        )


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
