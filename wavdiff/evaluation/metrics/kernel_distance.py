r"""KID: how far two *sets* of images are apart, where no picture has a truth of its own.

Features phi(x) of a fixed network turn every image into a vector of length d, and the kernel distance is the unbiased
estimate of the squared maximum mean discrepancy under a cubic kernel,

    k(u, v) = (u.v / d + 1)^3,
    KID = sum_{i != j} k(a_i, a_j) / (m (m - 1)) + sum_{i != j} k(b_i, b_j) / (n (n - 1))
          - 2 sum_{ij} k(a_i, b_j) / (m n).

It is zero in expectation when both sets come from one distribution, so it may come out slightly negative, and it needs
no Gaussian assumption and no minimum sample size. With the features of `feature_extractor` it is called *KID-EffLite0*:
comparable only with itself, never with a published KID (Inception features), and no Frechet distance.

Sources: Binkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs" (2018), section 4; the unbiased estimate of
Gretton et al. (2012), equation 3. Its standard error: Efron, Tibshirani, "An introduction to the bootstrap" (1993),
equation 11.5, with blocks for single samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wavdiff.system.errors import WavdiffError

_KERNEL_ROWS = 1024


def kid(features_a: Tensor, features_b: Tensor) -> float:
    """Kernel distance between two sets of features, over all pairs of samples.

    Args:
        features_a, features_b: (m, d) and (n, d), m, n >= 2.

    Returns:
        The unbiased estimate, computed in float64; may be negative.

    Raises:
        WavdiffError: the sets are not two matrices of equal width with at least two rows.
    """
    _check_features(features_a, features_b)
    return _distance(*_block_sums(features_a, features_b, 1))


def kid_standard_error(features_a: Tensor, features_b: Tensor, blocks: int = 10) -> float:
    """The standard error alone; see `kid_and_standard_error`."""
    return kid_and_standard_error(features_a, features_b, blocks)[1]


def kid_and_standard_error(features_a: Tensor, features_b: Tensor, blocks: int = 10) -> tuple[float, float]:
    """The kernel distance and its standard error, in one pass over the pairs.

    The error is a delete-a-block jackknife: both sets are cut into `blocks` runs of neighbours, block k of both is left
    out in turn, and the spread of the distances gives the error. Neighbours stay together, so that sets sorted by
    person or class give an honest (larger) error.

    Args:
        features_a, features_b: as in `kid`.
        blocks: number of blocks, at least 2; every set needs two rows per block.

    Returns:
        `kid` of all samples, and its standard error.

    Raises:
        WavdiffError: as in `kid`, or a set is too small for that many blocks.
    """
    _check_features(features_a, features_b)
    smallest = min(len(features_a), len(features_b))
    if blocks < 2 or smallest < 2 * blocks:
        raise WavdiffError(
            f"blocks must be at least 2 and leave two samples in each; got {blocks} for {smallest} samples"
        )
    sums, sizes = _block_sums(features_a, features_b, blocks)
    partial = []
    for left_out in range(blocks):
        kept = torch.arange(blocks) != left_out
        partial.append(_distance(sums[:, kept][..., kept], sizes[:, kept]))
    spread = torch.tensor(partial, dtype=torch.float64)
    variance = (blocks - 1) / blocks * (spread - spread.mean()).square().sum().item()
    return _distance(sums, sizes), math.sqrt(variance)


def _check_features(features_a: Tensor, features_b: Tensor) -> None:
    shapes = tuple(features_a.shape), tuple(features_b.shape)
    matrices = features_a.ndim == features_b.ndim == 2
    if not matrices or shapes[0][1] != shapes[1][1] or min(shapes[0][0], shapes[1][0]) < 2:
        raise WavdiffError(f"features must be (m, d) and (n, d) with m, n >= 2, got {shapes[0]} and {shapes[1]}")


def _block_sums(features_a: Tensor, features_b: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    """The kernel summed over pairs of blocks, and the sizes of the blocks.

    Returns:
        (3, blocks, blocks) within a and within b, both without pairs of a sample with itself, and across; and
        (2, blocks) of a and of b.
    """
    a, b = (features.double().tensor_split(blocks) for features in (features_a, features_b))
    sums = [[[_kernel_sum(x, y) for y in right] for x in left] for left, right in ((a, a), (b, b), (a, b))]
    sizes = [[len(block) for block in part] for part in (a, b)]
    return torch.tensor(sums, dtype=torch.float64), torch.tensor(sizes)


def _kernel_sum(rows: Tensor, columns: Tensor) -> float:
    """The kernel summed over all pairs of rows (m, d) and columns (n, d), in bounded memory; see `_block_sums`."""
    width = rows.shape[1]
    total = 0.0
    for part in rows.split(_KERNEL_ROWS):
        for other in columns.split(_KERNEL_ROWS):
            total += (part @ other.T / width + 1.0).pow(3).sum().item()
    if rows is columns:
        total -= (rows.square().sum(1) / width + 1.0).pow(3).sum().item()
    return total


def _distance(sums: Tensor, sizes: Tensor) -> float:
    """KID of all blocks in `sums` and `sizes` of `_block_sums`."""
    within_a, within_b, across = sums.sum(dim=(1, 2)).tolist()
    m, n = sizes.sum(dim=1).tolist()
    return float(within_a / (m * (m - 1)) + within_b / (n * (n - 1)) - 2.0 * across / (m * n))
