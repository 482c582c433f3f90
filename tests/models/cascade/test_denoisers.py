"""Truths of the denoisers: preconditioning, the EDM loss, standardisation, an exact coarse image stays exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wavdiff.models.cascade.denoisers import RESIDUAL_FLOOR, EDMDenoiser
from wavdiff.models.cascade.denoising import Coarse
from wavdiff.models.cascade.networks import LocalNetwork

STD, COARSE_STD = 0.13, 0.5


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(inputs: int, outputs: int, levels: int) -> LocalNetwork:
    """A small network with random weights everywhere, float64."""
    generator = torch.Generator().manual_seed(3)
    made = LocalNetwork(inputs, outputs, width=8, depth=4, receptive_field=5, levels=levels).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return made


@pytest.fixture
def lowpass() -> EDMDenoiser:
    return EDMDenoiser(network(1, 1, 1), STD)


@pytest.fixture
def details() -> EDMDenoiser:
    return EDMDenoiser(network(5, 4, 2), STD, COARSE_STD)


LEVELS = torch.tensor([0.02, 0.3, 4.0], dtype=torch.float64)


@torch.no_grad()
def test_denoiser_is_the_preconditioned_network(lowpass: EDMDenoiser) -> None:
    noisy = normal(3, 1, 6, 6)
    for index, level in enumerate(LEVELS):
        u = level / STD
        y = noisy[index : index + 1] / STD
        raw = lowpass.network(y / (1 + u**2).sqrt(), u[None])
        expected = STD * (y / (1 + u**2) + u / (1 + u**2).sqrt() * raw)
        torch.testing.assert_close(
            lowpass.denoise(noisy, LEVELS).mean[index : index + 1], expected, rtol=1e-12, atol=1e-12
        )


@torch.no_grad()
def test_without_noise_the_input_comes_back(lowpass: EDMDenoiser, details: EDMDenoiser) -> None:
    noisy, coarse, zero = normal(2, 1, 6, 6), normal(2, 1, 6, 6, seed=1), torch.zeros(2, dtype=torch.float64)
    bands = normal(2, 3, 6, 6, seed=2)
    torch.testing.assert_close(lowpass.denoise(noisy, zero).mean, noisy, rtol=1e-15, atol=0)
    got, same = details.denoise(bands, zero, Coarse(coarse, normal(2, 1, 6, 6, seed=4), zero))
    torch.testing.assert_close(got, bands, rtol=1e-15, atol=0)
    assert torch.equal(same, coarse)
    # ... and the way there is smooth: the change falls in proportion to the level.
    changes = [float((lowpass.denoise(noisy, zero + level).mean - noisy).abs().max()) for level in (1e-4, 1e-6)]
    assert changes[1] < 1.5e-2 * changes[0]


def test_lowpass_loss_is_the_edm_loss(lowpass: EDMDenoiser) -> None:
    clean = normal(3, 1, 6, 6)
    noisy = clean + LEVELS.reshape(3, 1, 1, 1) * normal(3, 1, 6, 6, seed=1)
    loss, (denoised, coarse) = lowpass.loss(clean, noisy, LEVELS)
    assert coarse is None
    torch.testing.assert_close(denoised, lowpass.denoise(noisy, LEVELS).mean)
    u = LEVELS / STD
    error = ((denoised - clean) / STD).square().mean((1, 2, 3))
    torch.testing.assert_close(loss, (u**2 + 1) / u**2 * error)


def test_detail_loss_is_the_edm_loss_of_details_and_coarse_image(details: EDMDenoiser) -> None:
    clean, clean_coarse = 0.1 * normal(3, 3, 6, 6), normal(3, 1, 6, 6, seed=1)
    noisy = clean + LEVELS.reshape(3, 1, 1, 1) * normal(3, 3, 6, 6, seed=2)
    noisy_coarse = clean_coarse + LEVELS.reshape(3, 1, 1, 1) * normal(3, 1, 6, 6, seed=3)
    estimate = clean_coarse + 0.1 * normal(3, 1, 6, 6, seed=4)
    u = LEVELS / STD
    weight = (u**2 + 1) / u**2

    given = Coarse(estimate, noisy_coarse, LEVELS)
    loss, (denoised, corrected) = details.loss(clean, noisy, LEVELS, given, clean_coarse)
    again, corrected_again = details.denoise(noisy, LEVELS, given)
    torch.testing.assert_close(denoised, again)
    torch.testing.assert_close(corrected, corrected_again)
    squares = torch.cat([denoised - clean, corrected - clean_coarse], dim=1).square().mean((1, 2, 3)) / STD**2
    torch.testing.assert_close(loss, weight * squares)

    # With an exact coarse image only the details count (a mean over 4C channels, of which C are zero).
    for exact in (Coarse(clean_coarse), Coarse(clean_coarse, clean_coarse, torch.zeros(3, dtype=torch.float64))):
        loss, (denoised, corrected) = details.loss(clean, noisy, LEVELS, exact, clean_coarse)
        squares = (denoised - clean).square().mean((1, 2, 3)) / STD**2
        torch.testing.assert_close(loss, weight * squares * 3 / 4)
        assert torch.equal(corrected, clean_coarse)


@torch.no_grad()
def test_the_loss_of_the_best_linear_guess_is_one() -> None:
    # A network that outputs zero denoises by c_skip; on data of rms `std` its loss is 1 at every noise level.
    for level in (0.01, 0.1, 1.0, 10.0):
        denoiser = EDMDenoiser(LocalNetwork(1, 1, width=4, depth=2, receptive_field=3).double(), STD)
        clean = STD * normal(1, 1, 200, 200)
        noise = normal(1, 1, 200, 200, seed=1)
        loss, _ = denoiser.loss(clean, clean + level * noise, torch.tensor([level], dtype=torch.float64))
        assert abs(float(loss) - 1) < 4 * (2 / 40_000) ** 0.5


@torch.no_grad()
def test_an_exact_coarse_image_is_returned_bit_equal(details: EDMDenoiser) -> None:
    for dtype in (torch.float32, torch.float64):
        denoiser = EDMDenoiser(details.network.to(dtype), STD, COARSE_STD)
        bands, coarse = normal(3, 3, 5, 7).to(dtype), normal(3, 1, 5, 7, seed=1).to(dtype)
        level = LEVELS.to(dtype)
        first, kept = denoiser.denoise(bands, level, Coarse(coarse))
        assert torch.equal(kept, coarse)
        second, kept = denoiser.denoise(bands, level, Coarse(coarse, coarse, torch.zeros_like(level)))
        assert torch.equal(kept, coarse) and torch.equal(first, second)
        # One batch may hold exact and observed coarse images: only the latter are corrected.
        mixed = torch.tensor([0.0, 0.3, 0.0], dtype=dtype)
        _, corrected = denoiser.denoise(bands, level, Coarse(coarse, coarse + 0.1, mixed))
        assert torch.equal(corrected[[0, 2]], coarse[[0, 2]]) and not torch.equal(corrected[1], coarse[1])


@torch.no_grad()
def test_details_read_the_coarse_image_and_its_observation(details: EDMDenoiser) -> None:
    bands, coarse = normal(3, 3, 5, 5), normal(3, 1, 5, 5, seed=1)
    observed = coarse + 0.1
    base = torch.cat(details.denoise(bands, LEVELS, Coarse(coarse, observed, LEVELS)), dim=1)
    for other in (
        Coarse(coarse + 0.01, observed, LEVELS),
        Coarse(coarse, observed + 0.01, LEVELS),
        Coarse(coarse, observed, 1.1 * LEVELS),
    ):
        changed = torch.cat(details.denoise(bands, LEVELS, other), dim=1)
        assert ((changed - base).abs().amax((1, 2, 3)) > 1e-9).all()


@pytest.mark.parametrize("scale", [0.01, 7.0])
@torch.no_grad()
def test_scaling_data_noise_and_std_scales_the_result(scale: float, lowpass: EDMDenoiser, details: EDMDenoiser) -> None:
    image, bands, coarse, observed = (normal(3, c, 6, 6, seed=c) for c in (1, 3, 1, 1))
    observed = observed + 0.2
    larger = EDMDenoiser(lowpass.network, scale * STD)
    torch.testing.assert_close(
        larger.denoise(scale * image, scale * LEVELS).mean,
        scale * lowpass.denoise(image, LEVELS).mean,
        rtol=1e-9,
        atol=0,
    )
    larger = EDMDenoiser(details.network, scale * STD, scale * COARSE_STD)
    expected = details.denoise(bands, LEVELS, Coarse(coarse, observed, LEVELS))
    scaled = Coarse(scale * coarse, scale * observed, scale * LEVELS)
    got = larger.denoise(scale * bands, scale * LEVELS, scaled)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, scale * other, rtol=1e-9, atol=1e-12)


@torch.no_grad()
def test_details_are_the_preconditioned_network_beside_what_is_known_of_the_coarse_image(details: EDMDenoiser) -> None:
    bands, coarse, observed = normal(3, 3, 4, 4), normal(3, 1, 4, 4, seed=1), normal(3, 1, 4, 4, seed=2)
    u, c = LEVELS / STD, 2 * LEVELS / STD
    got = details.denoise(bands, LEVELS, Coarse(coarse, observed, 2 * LEVELS))
    for k in range(3):
        y = bands[k : k + 1] / STD
        residual = (observed - coarse)[k : k + 1] / STD / (c[k] ** 2 + RESIDUAL_FLOOR**2).sqrt()
        inputs = torch.cat([y / (1 + u[k] ** 2).sqrt(), coarse[k : k + 1] / COARSE_STD, residual], dim=1)
        raw = details.network(inputs, torch.stack([u[k], c[k]])[None])
        mean = STD * (y / (1 + u[k] ** 2) + u[k] / (1 + u[k] ** 2).sqrt() * raw[:, :3])
        corrected = coarse[k : k + 1] + STD * c[k] / (1 + c[k] ** 2).sqrt() * raw[:, 3:]
        torch.testing.assert_close(got.mean[k : k + 1], mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(got.coarse[k : k + 1], corrected, rtol=1e-12, atol=1e-12)
