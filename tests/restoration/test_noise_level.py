import io
import math

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import wavdiff
from wavdiff.images.rectangle import Rectangle
from wavdiff.models import wavelets
from wavdiff.restoration.noise_estimation import NoiseEstimate, estimate_noise, estimate_noise_of
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


# --- what real files are like -----------------------------------------------------------------------------------------


def limited(clean: Tensor, sigma: float) -> Tensor:
    return eight_bits(clean + sigma / 255 * normal(clean.shape))


def crop(name: str) -> Tensor:
    clean = photograph(name)
    top, left = ((side - 192) // 2 for side in clean.shape[1:])
    return clean[:, top : top + 192, left : left + 192]


@pytest.mark.parametrize("value", [0, 16, 128, 245, 255])
@pytest.mark.parametrize("rows", [12, 24])
def test_bars_have_no_say(value: int, rows: int) -> None:
    picture = limited(crop("coffee"), 25)
    picture[:, :rows] = picture[:, -rows:] = value / 255
    found = estimated(picture)
    assert 255 * found.sigma == pytest.approx(25, rel=0.05) and found.white
    assert 0.15 < found.part < 1.05 - 2 * rows / picture.shape[1]
    assert f"measured in {found.part:.0%} of the picture" in found.report()


def test_bars_of_a_jpeg_have_no_say_and_jpeg_is_not_called_white() -> None:
    picture = limited(crop("coffee"), 25)
    picture[:, :24] = picture[:, -24:] = 0.5
    file = io.BytesIO()
    Image.fromarray((picture * 255).byte().permute(1, 2, 0).numpy()).save(file, "JPEG", quality=90)
    decoded = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
    found = estimate_noise_of(2 * decoded - 1, compressed=True)
    assert 255 * found.sigma == pytest.approx(22, abs=4) and len(set(found.octaves)) == 1
    assert "JPEG" in found.report() and "white" not in found.report().splitlines()[0]
    assert found.sigma > estimated(decoded).sigma  # the finest octave lost some
    assert not estimate_noise_of(torch.full((3, 64, 64), 0.2), compressed=True).measurable


@pytest.mark.parametrize("sigma", [10, 25, 50])
@pytest.mark.parametrize("kind", ["dark", "text", "stars"])
def test_noise_that_is_cut_off_is_measured(kind: str, sigma: float) -> None:
    if kind == "dark":
        clean = 0.12 * crop("coffee")
    elif kind == "text":
        clean = (torch.from_numpy(skimage.data.page()[:176]) > 140)[None].float()
    else:
        places = torch.randint(0, 256, (60, 2), generator=torch.Generator().manual_seed(0))
        clean = torch.zeros(1, 256, 256).index_put((torch.tensor(0), *places.T), torch.ones(()))
        clean = 5 * functional.avg_pool2d(clean, 3, stride=1, padding=1) + 0.02
    assert 255 * estimated(limited(clean, sigma)).sigma == pytest.approx(sigma, rel=0.1)
    if kind != "dark":  # what has no noise has none
        assert not estimated(eight_bits(clean)).measurable


def test_what_cannot_be_measured_is_said_and_no_result_is_made() -> None:
    picture = limited(3 * photograph("coffee"), 15)
    found = estimated(picture)
    assert found.cut_off and "cannot be measured" in found.report() and "no measurable" not in found.report()
    with pytest.raises(WavdiffError, match="cannot be measured: .* give sigma"):
        wavdiff.denoise(2 * picture - 1)


@pytest.mark.parametrize("kind", ["slope", "vignette"])
@pytest.mark.parametrize("sigma", [0, 2])
def test_slopes_are_not_noise(kind: str, sigma: float) -> None:
    y, x = torch.meshgrid(torch.arange(192) / 192, torch.arange(192) / 192, indexing="ij")
    clean = x if kind == "slope" else 0.2 + 0.7 * (-3 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)).exp()
    found = estimated(limited(clean[None], sigma))
    assert found.white and (255 * found.sigma == pytest.approx(sigma, rel=0.05) if sigma else not found.measurable)


def test_faint_noise_of_16_bits_is_measured_and_that_of_8_is_not() -> None:
    picture = 0.5 + 0.2 / 255 * normal((1, 256, 256))
    for step, measured in ((1 / 255, False), (1 / 65535, True)):
        found = estimate_noise(lambda where: where.of(2 * picture - 1), (256, 256), 1, step=step)
        assert found.measurable == measured
        assert ("noise 0.2/255" in found.report()) == measured
