"""How far apart two pictures look to a network, where PSNR prefers blur: a distance of feature maps.

The form is that of LPIPS (Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric", CVPR 2018) without its weights learned from judgements, and with EfficientNet-Lite0 as the network:
maps of several depths, every position's channels brought to length one, the mean square of differences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wavdiff.evaluation.metrics.feature_extractor import FeatureExtractor
from wavdiff.evaluation.metrics.fidelity import check_pair


@torch.inference_mode()
def feature_distance(extractor: FeatureExtractor, estimate: Tensor, reference: Tensor) -> Tensor:
    """The root of the mean square difference of unit feature vectors, averaged over the depths of `extractor.maps`.

    Args:
        extractor: the network.
        estimate: images (N, 1 or 3, H, W); clamped to [-1, 1] first, as a file would be.
        reference: the true images, same shape.

    Returns:
        Distances (N,), float64: 0 for equal images, at most 2. They mean something beside each other only.

    Raises:
        WavdiffError: the shapes differ or are not four-dimensional.
    """
    check_pair(estimate, reference)
    total = torch.zeros(len(estimate), dtype=torch.float64)
    depths = list(zip(extractor.maps(estimate), extractor.maps(reference), strict=True))
    for ours, truth in depths:
        difference = torch.nn.functional.normalize(ours, dim=1) - torch.nn.functional.normalize(truth, dim=1)
        total += difference.double().square().sum(dim=1).mean(dim=(1, 2)).sqrt().cpu()
    return total / len(depths)
