"""What was measured of a picture: y = A x + white noise, and the adjoint of A.

An operator is anything with `A` and `A_adjoint` on batches (B, C, H, W), as DeepInverse's physics are; those here are
of pictures that lie in files. All of them leave constants what they are (but for what a mask hides), so that they mean
the same in [0, 1] and in [-1, 1].
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.images.resampling import ResizeMethod, resize
from wavdiff.system.errors import WavdiffError


class Operator(Protocol):
    """A linear map of pictures and its adjoint: <A x, y> = <x, A_adjoint y>."""

    def A(self, x: Tensor) -> Tensor:  # DeepInverse's name
        """What is measured of pictures (B, C, H, W)."""
        ...

    def A_adjoint(self, y: Tensor) -> Tensor:
        """Pictures (B, C, H, W) of measurements."""
        ...


class Mask:
    """Pixels that are known; the others are measured as 0.

    Args:
        known: 1 or 0, (H, W) or (C, H, W).
    """

    def __init__(self, known: Tensor) -> None:
        self.known = known.float()

    def A(self, x: Tensor) -> Tensor:
        """See `Operator`."""
        return self.known.to(x) * x

    def A_adjoint(self, y: Tensor) -> Tensor:
        """See `Operator`."""
        return self.A(y)

    def measured(self, y: Tensor) -> Tensor:
        """Measurements without what was not measured."""
        return self.A(y)


class Blur:
    """Convolution, of which only what lies within the picture is seen: beyond its border the scene goes on, unknown.

    Args:
        kernel: (kh, kw), sum 1; sides at most those of the picture.
        size: (height, width) of the blurred picture. The sharp one has kh - 1 rows and kw - 1 columns more.
    """

    def __init__(self, kernel: Tensor, size: tuple[int, int]) -> None:
        self.margins = (kernel.shape[0] - 1, kernel.shape[1] - 1)
        self.large = (size[0] + self.margins[0], size[1] + self.margins[1])
        self._frequencies = torch.fft.rfft2(kernel, s=self.large)

    def A(self, x: Tensor) -> Tensor:
        """See `Operator`."""
        blurred = torch.fft.irfft2(torch.fft.rfft2(x) * self._of(x), s=self.large)
        return blurred[..., self.margins[0] :, self.margins[1] :]

    def A_adjoint(self, y: Tensor) -> Tensor:
        """See `Operator`."""
        framed = functional.pad(y, (self.margins[1], 0, self.margins[0], 0))
        return torch.fft.irfft2(torch.fft.rfft2(framed) * self._of(y).conj(), s=self.large)

    def cut(self, x: Tensor) -> Tensor:
        """The part of sharp pictures that lies where the blurred one does."""
        (top, left), (height, width) = (margin // 2 for margin in self.margins), self.large
        return x[..., top : top + height - self.margins[0], left : left + width - self.margins[1]]

    def _of(self, like: Tensor) -> Tensor:
        return self._frequencies.to(torch.complex128 if like.dtype == torch.float64 else torch.complex64)


class Reduction:
    """Reduction by a filter of Pillow's, borders as there, or by a Gaussian blur of which single pixels are kept.

    Args:
        size: (height, width) of the large picture.
        small: (height, width) of the reduced one.
        method: "bicubic", "lanczos" or "box", widened as Pillow does; or the Gaussian's standard deviation in pixels
            of the large picture, of which those at or before the centres of the small one's are kept.
    """

    def __init__(self, size: tuple[int, int], small: tuple[int, int], method: ResizeMethod | float) -> None:
        self._maps = [_reducing(*sides, method) for sides in zip(size, small, strict=True)]
        self._back = [_sparse(each.to_dense().T) for each in self._maps]

    def A(self, x: Tensor) -> Tensor:
        """See `Operator`."""
        return _separable(x, *self._maps)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """See `Operator`."""
        return _separable(y, *self._back)


def _reducing(side: int, small: int, method: ResizeMethod | float) -> Tensor:
    """The matrix (small, side), sparse."""
    if isinstance(method, str):
        return _sparse(resize(torch.eye(side)[None], (small, side), method)[0])
    step = side / small
    centres = ((torch.arange(small, dtype=torch.float64) + 0.5) * step - 0.5 + 1e-9).floor()
    places = torch.arange(side, dtype=torch.float64)
    weights = (-((places[None] - centres[:, None]) ** 2) / (2 * method**2)).exp()
    weights[(places[None] - centres[:, None]).abs() > 4 * method + 0.5] = 0
    return _sparse((weights / weights.sum(dim=1, keepdim=True)).float())


def _sparse(matrix: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sparse matrices are "in beta state"
        return matrix.to_sparse_csr()


def _separable(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rows and columns of (B, C, H, W) mapped by sparse matrices."""
    batch, channels, height, width = x.shape
    rows, columns = rows.to(x.dtype), columns.to(x.dtype)
    once = (rows @ x.permute(2, 0, 1, 3).reshape(height, -1)).reshape(-1, batch, channels, width)
    twice = columns @ once.permute(3, 0, 1, 2).reshape(width, -1)
    return twice.reshape(-1, once.shape[0], batch, channels).permute(2, 3, 1, 0)


class Matrix:
    """Any linear measurements of all pixels: compressive sensing.

    Args:
        matrix: (m, C H W), float.
        shape: (C, H, W).
    """

    def __init__(self, matrix: Tensor, shape: tuple[int, int, int]) -> None:
        self.matrix, self.shape = matrix, shape

    def A(self, x: Tensor) -> Tensor:
        """Measurements (B, m)."""
        return x.flatten(1) @ self.matrix.to(x).T

    def A_adjoint(self, y: Tensor) -> Tensor:
        """See `Operator`."""
        return (y @ self.matrix.to(y)).reshape(-1, *self.shape)


class Frequencies:
    """Some coefficients of the orthonormal discrete Fourier transform, as magnetic resonance measures them.

    Args:
        kept: (H, W), 1 where a coefficient is measured; frequency 0 is at [0, 0], as in `numpy.fft.fft2`.
    """

    def __init__(self, kept: Tensor) -> None:
        self.kept = kept.float()

    def A(self, x: Tensor) -> Tensor:
        """Measurements (B, 2 C, H, W): real parts, then imaginary parts; 0 where nothing was measured."""
        measured = self.kept.to(x) * torch.fft.fft2(x, norm="ortho")
        return torch.cat([measured.real, measured.imag], dim=1)

    def measured(self, y: Tensor) -> Tensor:
        """Measurements without what was not measured."""
        return self.kept.to(y) * y

    def A_adjoint(self, y: Tensor) -> Tensor:
        """See `Operator`."""
        real, imaginary = y.chunk(2, dim=1)
        return torch.fft.ifft2(self.kept.to(y) * torch.complex(real, imaginary), norm="ortho").real


class Product:
    """Operators one after the other, the first first: a picture that was blurred and then reduced."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        if not operators:
            raise WavdiffError("a product needs at least one operator, got none")
        self.operators = list(operators)

    def A(self, x: Tensor) -> Tensor:
        """See `Operator`."""
        for operator in self.operators:
            x = operator.A(x)
        return x

    def A_adjoint(self, y: Tensor) -> Tensor:
        """See `Operator`."""
        for operator in reversed(self.operators):
            y = operator.A_adjoint(y)
        return y


def dot(one: Tensor, other: Tensor) -> Tensor:
    """Scalar products of the images of two batches, (B,)."""
    return (one * other).flatten(1).sum(dim=1)


def times(factors: Tensor, values: Tensor) -> Tensor:
    """Every image of a batch times its own number (B,)."""
    return factors.reshape(-1, *[1] * (values.ndim - 1)) * values
