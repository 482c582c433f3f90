"""Blind networks and cascades for tests: random ones, and one whose answer is known exactly."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.networks import BiasFreeNetwork
from wavdiff.models.cascade.saved import save_model
from wavdiff.system.devices import has_fast_bfloat16

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "published_cascades"
"""The authors' release, which is no part of this package, beside the checkout."""
needs_release = pytest.mark.skipif(
    not (PUBLISHED / "reference.safetensors").is_file(), reason=f"the authors' release is not at {PUBLISHED}"
)


needs_bfloat16 = pytest.mark.skipif(
    not has_fast_bfloat16(torch.device("cpu")), reason="no instructions for bfloat16: oneDNN refuses its convolutions"
)


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Weights of any size, factors and standard deviations around 1, so that activations neither vanish nor explode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in nn.Module.state_dict(module, keep_vars=True).items():
            if tensor.ndim == 4:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5)
            else:
                assert name.endswith(("gamma", "running_sd"))
                tensor.copy_(0.7 + 0.6 * torch.rand(tensor.shape, generator=generator))


def random_network(
    inputs: int = 4, outputs: int = 3, *, width: int = 8, depth: int = 6, receptive_field: int = 9, seed: int = 0
) -> BiasFreeNetwork:
    network = BiasFreeNetwork(inputs, outputs, width=width, depth=depth, receptive_field=receptive_field)
    randomise(network, seed)
    return network.eval()


def settings(width: int = 8, depth: int = 6, receptive_field: int = 9) -> dict:
    return {"kind": "bias-free", "width": width, "depth": depth, "receptive_field": receptive_field}


def random_cascade(channels: int = 1, size: int = 32, **more) -> WaveletCascade:
    """Two scales with random blind networks of different receptive fields."""
    networks = [settings(), settings(depth=7, receptive_field=13)]
    low = settings(depth=7, receptive_field=13)
    made = WaveletCascade((size, size), channels, "haar", low, networks, 0.5, [0.08, 0.1], **more)
    randomise(made)
    return made.eval()


def highpass(x: Tensor) -> Tensor:
    """x minus the mean over 3x3 pixels (zeros outside): what the networks of `smoothing_cascade` take for noise."""
    return x - functional.avg_pool2d(x, 3, stride=1, padding=1)


def smoothing_cascade(size: int = 32) -> WaveletCascade:
    """One scale; both denoisers are exactly a mean over 3x3 pixels."""
    low, details = settings(2, 3, 3), settings(6, 3, 3)
    made = WaveletCascade((size, size), 1, "haar", low, [details], 0.5, [0.1], conditioning_augmentation=False)
    for network, outputs in ((made.lowpass.network, 1), (made.details[0].network, 3)):
        weights = [layer.weight.data.zero_() for layer in network.convolutions]
        for k in range(outputs):
            kernel = torch.full((3, 3), -1 / 9)
            kernel[1, 1] += 1
            inputs = weights[0].shape[1]
            weights[0][2 * k, inputs - outputs + k] = kernel
            weights[0][2 * k + 1, inputs - outputs + k] = -kernel
            weights[1][2 * k, 2 * k] = weights[1][2 * k + 1, 2 * k + 1] = 1
            weights[2][k, 2 * k], weights[2][k, 2 * k + 1] = 1, -1
    return made.eval()


def saved(cascade: WaveletCascade, folder: Path) -> Path:
    save_model(cascade, folder, "# a model of the tests\n")
    return folder
