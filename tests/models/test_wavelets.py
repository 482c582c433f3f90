"""Truths of the pyramid: perfect reconstruction, energy, equality with PyWavelets, noise, mirrors, gradients."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from wavdiff.models import wavelets
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.wavelets import check_wavelet, decompose, join, pad_to_multiple, padded_size, reconstruct, split
from wavdiff.system.errors import WavdiffError

FILTERS = ["haar", "db2", "db4", "sym4", "coif1"]
SIZES = [(16, 16), (1, 1), (2, 2), (3, 5), (7, 8), (24, 10), (17, 31), (8, 40)]
TOLERANCE = {torch.float32: 3e-6, torch.float64: 1e-11}  # PyWavelets' filter tables hold 12 to 16 digits


def picture(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype) * 2 - 1


def oracle_split(image: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """One step by PyWavelets itself, in our units and order."""
    low, bands = pywt.dwt2(image.numpy(), name, mode="periodization", axes=(-2, -1))  # bands: cH, cV, cD
    return torch.from_numpy(low) / 2, torch.from_numpy(np.concatenate(bands, axis=1)) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FILTERS)
def test_reconstruction_is_perfect_and_energy_is_kept(name: str, dtype: torch.dtype) -> None:
    for size, levels in itertools.product(SIZES, range(4)):
        image = picture(2, 3, *size, dtype=dtype)
        pyramid = decompose(image, levels, name)
        assert pyramid.levels == levels and pyramid.size == size and pyramid.coarse.dtype == dtype
        torch.testing.assert_close(reconstruct(pyramid, name), image, rtol=0, atol=TOLERANCE[dtype])
        # |x_0|^2 = 4^J |x_J|^2 + sum_k 4^k |d_k|^2, for the padded image.
        energy = 4**levels * pyramid.coarse.double().square().sum()
        for index, details in enumerate(pyramid.details):
            energy = energy + 4 ** (index + 1) * details.double().square().sum()
        expected = pad_to_multiple(image, 2**levels).double().square().sum()
        torch.testing.assert_close(energy, expected, rtol=TOLERANCE[dtype], atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FILTERS)
def test_energy_of_one_step_is_four_times_that_of_its_parts(name: str, dtype: torch.dtype) -> None:
    for size in [(2, 2), (8, 8), (6, 20)]:
        image = picture(4, 1, *size, dtype=dtype)
        coarse, details = split(image, name)
        parts = 4 * (coarse.double().square().sum((1, 2, 3)) + details.double().square().sum((1, 2, 3)))
        torch.testing.assert_close(parts, image.double().square().sum((1, 2, 3)), rtol=TOLERANCE[dtype], atol=0)


@pytest.mark.parametrize("name", FILTERS)
def test_join_inverts_split_both_ways(name: str) -> None:
    coarse, details = picture(2, 3, 6, 4, seed=1), picture(2, 9, 6, 4, seed=2)
    again = split(join(coarse, details, name), name)
    torch.testing.assert_close(again[0], coarse, rtol=0, atol=1e-11)
    torch.testing.assert_close(again[1], details, rtol=0, atol=1e-11)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FILTERS)
def test_one_step_equals_pywavelets_and_is_band_major(name: str, channels: int) -> None:
    for size in [(8, 8), (16, 10), (4, 32)]:
        image = picture(2, channels, *size)
        for got, expected in zip(split(image, name), oracle_split(image, name), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FILTERS)
def test_pyramid_equals_pywavelets_wavedec2(name: str) -> None:
    image = picture(2, 3, 32, 24)
    with pytest.warns(UserWarning) if pywt.dwt_max_level(24, name) < 3 else _no_warning():
        oracle = pywt.wavedec2(image.numpy(), name, mode="periodization", level=3, axes=(-2, -1))
    pyramid = decompose(image, 3, name)
    torch.testing.assert_close(pyramid.coarse, torch.from_numpy(oracle[0]) / 8, rtol=0, atol=1e-12)
    for index, details in enumerate(pyramid.details):
        bands = np.concatenate(oracle[-1 - index], axis=1)
        torch.testing.assert_close(details, torch.from_numpy(bands) / 2 ** (index + 1), rtol=0, atol=1e-12)


class _no_warning:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-7), (torch.float64, 1e-15)])
def test_haar_fast_path_equals_the_library(dtype: torch.dtype, tolerance: float) -> None:
    for size, levels in itertools.product([(1, 1), (5, 9), (16, 24)], range(4)):
        image = picture(2, 3, *size, dtype=dtype)
        fast, library = decompose(image, levels), decompose(image, levels, library=True)
        torch.testing.assert_close(fast.coarse, library.coarse, rtol=0, atol=tolerance)
        for ours, theirs in zip(fast.details, library.details, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)
        torch.testing.assert_close(reconstruct(fast), reconstruct(library, library=True), rtol=0, atol=4 * tolerance)


def test_haar_coarse_image_is_the_block_mean() -> None:
    image = picture(2, 3, 16, 24)
    for levels in range(4):
        expected = torch.nn.functional.avg_pool2d(image, 2**levels)
        torch.testing.assert_close(decompose(image, levels).coarse, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", FILTERS)
def test_constant_image_stays_in_range_and_has_no_details(name: str) -> None:
    pyramid = decompose(torch.full((1, 1, 16, 16), 0.7, dtype=torch.float64), 3, name)
    torch.testing.assert_close(pyramid.coarse, torch.full_like(pyramid.coarse, 0.7), rtol=0, atol=1e-10)
    for details in pyramid.details:
        torch.testing.assert_close(details, torch.zeros_like(details), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["haar", "db4"])
def test_white_noise_arrives_white_at_half_the_level_per_scale(name: str) -> None:
    level = 0.3
    noise = level * torch.randn(96, 1, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pyramid = decompose(noise, 3, name)
    for scale, details in enumerate(pyramid.details, start=1):
        coarse = pyramid.coarse if scale == 3 else None
        bands = list(details.unbind(1)) + ([coarse[:, 0]] if coarse is not None else [])
        flat = torch.stack([band.flatten() for band in bands]) / (level / 2**scale)
        # Neighbours too: within a band, noise is uncorrelated with itself one step to the right or down.
        count = flat.shape[1]
        covariance = flat @ flat.T / count
        error = (covariance - torch.eye(len(bands), dtype=torch.float64)) * count**0.5
        assert error.abs().max() < 4 * 2**0.5  # four standard errors; of a variance: sqrt(2 / n), else sqrt(1 / n)
        for band in bands:
            unit = band / (level / 2**scale)
            for one, other in [(unit[..., 1:], unit[..., :-1]), (unit[:, 1:], unit[:, :-1])]:
                assert abs(float((one * other).mean())) < 4 / one.numel() ** 0.5


@pytest.mark.parametrize("name", FILTERS)
def test_transform_matrix_is_orthogonal_up_to_the_factor(name: str) -> None:
    # Exact whiteness: W W^T = I / 4 for one step.
    basis = torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8)
    matrix = torch.cat([part.flatten(1) for part in split(basis, name)], dim=1).T
    torch.testing.assert_close(4 * matrix @ matrix.T, torch.eye(64, dtype=torch.float64), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_gradients_are_right(name: str, size: tuple[int, int]) -> None:
    image = picture(1, 1, *size).requires_grad_()

    def parts(x: Tensor) -> tuple[Tensor, ...]:
        pyramid = decompose(x, 2, name)
        return (pyramid.coarse, *pyramid.details)

    def there_and_back(x: Tensor) -> Tensor:
        pyramid = decompose(x, 2, name)
        return reconstruct(wavelets.Pyramid(pyramid.coarse**2, pyramid.details, pyramid.size), name)

    assert torch.autograd.gradcheck(parts, (image,))
    assert torch.autograd.gradcheck(there_and_back, (image,))


def test_gradients_pass_filters_first_made_in_inference_mode() -> None:
    wavelets._filters.cache_clear()
    image = picture(1, 1, 8, 8)
    with torch.inference_mode():
        decompose(image, 1, "db4")
    assert torch.autograd.gradcheck(lambda x: decompose(x, 1, "db4").coarse, (image.requires_grad_(),))


def test_mirrored_image_flips_signs_of_haar_bands() -> None:
    image = picture(2, 3, 8, 12)
    coarse, details = split(image)
    lh, hl, hh = details.chunk(3, dim=1)
    # LH holds differences between rows, HL between columns, HH both.
    for axes, signs in [((-1,), (1, -1, -1)), ((-2,), (-1, 1, -1)), ((-2, -1), (-1, -1, 1))]:
        flipped_coarse, flipped = split(image.flip(axes))
        assert torch.equal(flipped_coarse.flip(axes), coarse)
        for sign, band, other in zip(signs, (lh, hl, hh), flipped.chunk(3, dim=1), strict=True):
            torch.testing.assert_close(sign * other.flip(axes), band, rtol=0, atol=1e-16)


def test_band_names_follow_the_edges() -> None:
    rows = torch.tensor([1.0, -1.0]).reshape(1, 1, 2, 1).expand(1, 1, 2, 2)  # changes from row to row only
    assert split(rows)[1].flatten().tolist() == [1, 0, 0]
    assert split(rows.mT)[1].flatten().tolist() == [0, 1, 0]


def test_padding_repeats_the_border_and_is_cropped_away() -> None:
    image = picture(1, 1, 5, 6)
    padded = pad_to_multiple(image, 4)
    assert padded.shape[-2:] == padded_size((5, 6), 2) == (8, 8)
    assert torch.equal(padded[..., :5, :6], image)
    assert torch.equal(padded[..., 5:, :6], image[..., 4:5, :].expand(1, 1, 3, 6))
    assert torch.equal(padded[..., 7], padded[..., 5])
    assert pad_to_multiple(image, 1) is image
    assert padded_size((1, 17), 3) == (8, 24) and padded_size((8, 16), 3) == (8, 16)


def test_filters_enter_no_state_dict() -> None:
    local = {"kind": "local", "width": 4, "depth": 2, "receptive_field": 3}
    cascade = WaveletCascade((8, 8), 1, "db4", {"kind": "global", "width": 8, "depth": 1}, [local], 0.5, [0.1])
    before = set(cascade.state_dict())
    cascade.denoise(torch.zeros(1, 1, 8, 8), torch.tensor([0.1]))
    assert set(cascade.state_dict()) == before == {name for name, _ in cascade.named_parameters()}


@pytest.mark.parametrize("size", [(3, 4), (4, 5), (7, 7)])
@pytest.mark.parametrize("name", ["haar", "db2"])
def test_odd_sides_are_refused(size: tuple[int, int], name: str) -> None:
    with pytest.raises(WavdiffError, match=f"even sides, got {size[0]}x{size[1]}"):
        split(torch.zeros(1, 1, *size), name)


def test_only_orthogonal_wavelets_pass() -> None:
    for name in FILTERS:
        check_wavelet(name)
    for name in ["bior2.2", "rbio1.3", "dmey2", "gaus1", "nonsense"]:
        with pytest.raises(WavdiffError, match=f"wavelet '{name}' is not an orthogonal wavelet"):
            check_wavelet(name)
    with pytest.raises(WavdiffError, match="bior2.2"):
        WaveletCascade((8, 8), 1, "bior2.2", {"kind": "global", "width": 8, "depth": 1}, [], 0.5, [])
