import io
import math

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from wavdiff.images.rectangle import Rectangle
from wavdiff.models import wavelets
from wavdiff.restoration.noise_estimation import NoiseEstimate, blind_level, estimate_noise, estimate_noise_of
from wavdiff.system.errors import WavdiffError

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")


def photograph(name: str) -> Tensor:
    """(3, H, W) in [0, 1]."""
    return torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1) / 255


def normal(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def eight_bits(picture: Tensor) -> Tensor:
    return (picture * 255).round().clamp(0, 255) / 255


def estimated(picture: Tensor) -> NoiseEstimate:
    return estimate_noise_of(2 * picture - 1)


def noisy(name: str, sigma: float) -> Tensor:
    clean = photograph(name)
    return eight_bits(clean + sigma / 255 * normal(clean.shape))


@pytest.mark.parametrize("sigma", [5, 15, 25])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_white_noise_on_photographs_is_measured_and_called_white(name, sigma):
    found = estimated(noisy(name, sigma))
    assert 255 * found.sigma == pytest.approx(sigma, rel=0.12, abs=0.6)
    assert found.white, found.findings
    assert all(level == pytest.approx(found.sigma, rel=0.25) for level in found.octaves)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [1, 10, 60])
def test_noise_alone_is_measured_to_two_per_cent(sigma, channels):
    found = estimated(0.5 + sigma / 255 * normal((channels, 512, 512)))
    assert 255 * found.sigma == pytest.approx(sigma, rel=0.02)
    assert found.white and len(found.channels[0]) == channels
    assert all(
        abs(level - found.sigma) < 0.05 * found.sigma + 4 * e
        for level, e in zip(found.octaves, found.uncertainty, strict=True)
    )


@pytest.mark.parametrize("picture", [torch.full((3, 100, 90), 0.4), torch.zeros(1, 64, 64), torch.ones(3, 200, 200)])
def test_a_constant_picture_has_none(picture):
    found = estimated(picture)
    assert found.sigma == 0 and found.white and "no measurable noise" in found.report()


@pytest.mark.parametrize("name", ["coffee", "rocket"])
def test_blurred_noise_is_not_white(name):
    clean = photograph(name)
    kernel = torch.tensor([0.25, 0.5, 0.25])
    noise = normal(clean.shape)[:, None]
    noise = functional.conv2d(
        functional.conv2d(noise, kernel.view(1, 1, 1, 3), padding=(0, 1)), kernel.view(1, 1, 3, 1), padding=(1, 0)
    )
    found = estimated(eight_bits(clean + 25 / 255 * noise[:, 0] / noise.std()))
    assert not found.white and found.octaves[1] > 1.5 * found.octaves[0]
    assert any("smoothed, enlarged or compressed" in line for line in found.findings)


def test_enlarged_noise_is_quiet_in_the_finest_octave():
    half = functional.avg_pool2d(photograph("coffee"), 2)
    half = half + 25 / 255 * normal(half.shape)
    large = functional.interpolate(half[None], scale_factor=2, mode="bicubic")[0]
    found = estimated(eight_bits(large))
    assert not found.white and found.octaves[0] < 0.5 * found.octaves[1]


def test_compressed_noise_is_not_white():
    array = (noisy("coffee", 25) * 255).byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=40)
    found = estimated(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255)
    assert not found.white and found.octaves[0] < 0.8 * found.octaves[1]


def test_channels_of_different_noise_are_named():
    clean = photograph("coffee")
    levels = torch.tensor([5.0, 5.0, 25.0])[:, None, None] / 255
    found = estimated(eight_bits(clean + levels * normal(clean.shape)))
    assert any(line.startswith("channels differ") for line in found.findings)
    assert 255 * found.channels[0][2] == pytest.approx(25, rel=0.1) and 255 * found.channels[0][0] == pytest.approx(
        5, rel=0.2
    )


def test_clipped_areas_are_left_out():
    clean = photograph("astronaut")
    clean[:, :, :200] = 1.2  # far above the range: nothing of its noise is left
    found = estimated(eight_bits(clean + 15 / 255 * normal(clean.shape)))
    assert 255 * found.sigma == pytest.approx(15, rel=0.12)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (7, 5), (2, 2), (33, 17), (64, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_small_pictures_have_an_answer(size, channels):
    found = estimated(0.5 + 0.1 * normal((channels, *size)))
    assert math.isfinite(found.sigma) and 0 <= found.sigma < 1
    assert len(found.octaves) == len(found.channels) == len(found.uncertainty) == 4
    assert found.report()


@pytest.mark.parametrize("size", [(12_000, 9_000), (390_625, 256), (256, 390_625), (200_000, 500)])
def test_a_large_picture_is_read_in_a_bounded_number_of_windows(size):
    read_pixels = 0

    def read(where: Rectangle) -> Tensor:
        nonlocal read_pixels
        assert where.is_inside(size)
        read_pixels += where.height * where.width
        return 0.2 * normal((1, *where.size), seed=where.top + where.left)

    found = estimate_noise(read, size, 1)
    assert read_pixels <= 64 * 256 * 256
    assert found.sigma == pytest.approx(0.1, rel=0.02)


def test_wrong_arguments_are_named():
    with pytest.raises(WavdiffError, match="at least 1 octave"):
        estimate_noise_of(torch.zeros(1, 8, 8), octaves=0)


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_the_blind_estimate_of_an_exact_gaussian_prior(sigma):
    variance = 0.15**2  # of every wavelet coefficient's image-domain equivalent: white pictures, library units

    def denoise(batch: Tensor, level: float) -> Tensor:
        return batch * variance / (variance + (2 * level) ** 2)

    clean = 0.15 * normal((2, 3, 128, 128), seed=1)
    y = clean + 2 * sigma * normal(clean.shape, seed=2)
    # A white prior cannot tell white noise from content by itself; a prior of known variance can.
    assert blind_level(y, denoise, 0.05) == pytest.approx(sigma, rel=0.03)


def test_the_blind_estimate_of_a_cascade_prior_without_root_is_none():
    flat = torch.zeros(1, 1, 64, 64)
    assert blind_level(flat, lambda batch, level: batch * 0.5, 0.1) is None


def test_the_report_says_what_was_found():
    text = estimated(noisy("coffee", 25)).report()
    assert "noise 2" in text and ", white" in text and "not white" not in text and "by octave" in text
    coarse = wavelets.decompose(noisy("coffee", 25)[None] * 2 - 1, 1).coarse
    assert 255 * estimate_noise_of(coarse[0]).sigma == pytest.approx(12.5, rel=0.1)  # half the level at half the size


@pytest.mark.parametrize("part", [0.5, 0.1])
def test_a_picture_of_black_and_white_has_no_measurable_noise(part):
    dots = (torch.rand(1, 256, 256, generator=torch.Generator().manual_seed(0)) < part).float()
    found = estimated(dots)
    assert found.sigma < 0.45 and not (found.sigma > 0.3 and found.white)
