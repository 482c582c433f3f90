"""Linear inverse problems: operators against libraries, every method against the closed form of a Gaussian model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gaussian import GaussianCascade, GaussianLowpass
from PIL import Image
from restoration.test_tiling import cascade
from torch import Tensor
from torch.nn import functional

import wavdiff
from wavdiff.restoration.degradations import read_kernel
from wavdiff.restoration.guidance import Guided, Spectrum
from wavdiff.restoration.inverse import PictureDenoiser, Way, met, misfit, solve_inverse
from wavdiff.restoration.operators import Blur, Frequencies, Mask, Matrix, Operator, Product, Reduction, dot
from wavdiff.system.errors import WavdiffError

SIDE = 8
PIXELS = SIDE**2


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some(share: float, seed: int = 0) -> Tensor:
    return torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) < share


def operators() -> dict[str, Operator]:
    kernel = read_kernel("gaussian:0.5")[1:-1, 1:-1].double()
    blur = Blur(kernel / kernel.sum(), (SIDE - 2, SIDE - 2))
    return {
        "mask": Mask(some(0.3)),
        "blur": blur,
        "block means": Reduction((SIDE, SIDE), (4, 4), "box"),
        "bicubic": Reduction((SIDE, SIDE), (4, 4), "bicubic"),
        "gaussian": Reduction((SIDE, SIDE), (4, 4), 0.8),
        "projections": Matrix(drawn(20, PIXELS) / SIDE, (1, SIDE, SIDE)),
        "frequencies": Frequencies(some(0.4)),
        "blur, then reduction": Product([blur, Reduction((6, 6), (3, 3), "box")]),
    }


def dense(operator: Operator) -> Tensor:
    """(m, 64)."""
    return operator.A(torch.eye(PIXELS, dtype=torch.float64).reshape(-1, 1, SIDE, SIDE)).flatten(1).T


# --- operators ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", operators())
def test_the_adjoint_is_the_adjoint(name: str) -> None:
    operator, x = operators()[name], drawn(2, 1, SIDE, SIDE)
    measured = operator.A(x)
    other = drawn(*measured.shape, seed=1)
    assert torch.allclose(dot(measured, other), dot(x, operator.A_adjoint(other)), rtol=1e-6)


def test_a_blur_is_a_convolution_that_sees_beyond_the_border() -> None:
    kernel, x = drawn(3, 5).float(), drawn(2, 3, 20, 31).float()
    blur = Blur(kernel, (18, 27))
    flipped = kernel.flip(0, 1)[None, None].expand(3, 1, -1, -1)
    assert torch.allclose(blur.A(x), functional.conv2d(x, flipped, groups=3), atol=1e-4)
    assert torch.equal(blur.cut(x), x[..., 1:19, 2:29])


@pytest.mark.parametrize("method", ["bicubic", "lanczos", "box"])
def test_a_reduction_is_pillows(method: str) -> None:
    x = drawn(1, 1, 37, 50).float()
    reduction: Any = Reduction((37, 50), (12, 25), method)  # type: ignore[arg-type]
    own = np.asarray(Image.fromarray(x[0, 0].numpy()).resize((25, 12), Image.Resampling[method.upper()]))
    assert np.abs(reduction.A(x)[0, 0].numpy() - own).max() < 1e-5


def test_frequencies_are_an_orthonormal_transform() -> None:
    x = drawn(1, 1, SIDE, SIDE)
    measured = Frequencies(torch.ones(SIDE, SIDE)).A(x)
    coefficients = np.fft.fft2(x[0, 0].numpy(), norm="ortho")
    assert np.allclose(measured[0, 0] + 1j * measured[0, 1], coefficients)
    assert torch.allclose(measured.square().sum(), x.square().sum())


def test_kernels_are_weights_of_the_shape_that_is_written() -> None:
    for text in ("gaussian:1.5", "disk:3", "motion:7,0", "motion:9,90", "motion:9,45"):
        kernel = read_kernel(text)
        assert abs(float(kernel.sum()) - 1) < 1e-6 and float(kernel.min()) >= 0, text
        assert torch.allclose(kernel, kernel.flip(0, 1), atol=1e-7), text
    level, upright = read_kernel("motion:7,0"), read_kernel("motion:7,90")
    assert torch.allclose(level.T, upright, atol=1e-6)
    assert float(level[level.shape[0] // 2].sum()) > 0.99
    rising = read_kernel("motion:9,45")  # counter-clockwise: from below on the left
    assert float(rising.flip(0).diagonal().sum()) > 3 * float(rising.diagonal().sum())
    places = torch.arange(-20, 21).double()
    assert abs(float((read_kernel("gaussian:5").sum(0) * places**2).sum()) - 25) < 0.1


# --- exact models ---------------------------------------------------------------------------------------------------


def problem(operator: Operator, noise: float, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Measurements of `count` draws of the model, their posterior means (count, 64), and their covariance."""
    model, matrix = GaussianCascade(side=SIDE), dense(operator)
    x = drawn(count, PIXELS, seed=1) @ torch.linalg.cholesky(model.covariance).T
    seen = matrix.abs().sum(dim=1) > 0
    y = x @ matrix.T + noise * seen * drawn(count, len(matrix), seed=2)
    energy = matrix @ model.covariance @ matrix.T + max(noise, 1e-6) ** 2 * torch.eye(len(matrix))
    gain = torch.linalg.solve(energy, matrix @ model.covariance).T
    measured = y.reshape(count, *operator.A(torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)).shape[1:])
    return measured, y @ gain.T, model.covariance - gain @ matrix @ model.covariance


@pytest.mark.parametrize("noise", [0.02, 0.0])
@pytest.mark.parametrize("name", operators())
def test_means_are_those_of_the_closed_form(name: str, noise: float) -> None:
    operator, model = operators()[name], GaussianCascade(side=SIDE)
    measured, mean, _ = problem(operator, noise, 8)
    errors = {}
    for refinements in (0, 3):
        found = solve_inverse(model, operator, measured, noise, range(8), Way(refinements=refinements))
        errors[refinements] = float((found.flatten(1) - mean).norm() / mean.norm())
        if noise == 0:
            assert misfit(operator, measured, found) < 1e-3 * float(measured.std())
    assert errors[3] < 0.02 and errors[0] < 0.15, errors
    split = solve_inverse(model, operator, measured, noise, range(8), Way(method="splitting", steps=400))
    assert float((split.flatten(1) - mean).norm() / mean.norm()) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("name", operators())
def test_draws_are_those_of_the_closed_form(name: str) -> None:
    operator, model, count, noise = operators()[name], GaussianCascade(side=SIDE), 800, 0.02
    measured, mean, covariance = problem(operator, noise, count)
    way = Way("sample", steps=60, refinements=3)
    off = solve_inverse(model, operator, measured, noise, range(count), way).flatten(1) - mean
    spread = covariance.diagonal().sqrt()
    assert float((off.mean(dim=0) / spread).square().mean().sqrt()) < 3 / count**0.5
    chance = 2 * float((covariance.trace() / count).sqrt())
    assert float(off.mean(dim=0).norm()) < chance + 0.02 * float(mean.norm(dim=1).mean())
    found, truth = torch.cov(off.T), covariance
    assert 0.96 < float(found.trace() / truth.trace()) < 1.05
    # Of N draws a covariance is off by about sqrt((tr(C)^2 + |C|^2) / N) in Frobenius' norm.
    sampling = float(((truth.trace() ** 2 + truth.square().sum()) / count).sqrt())
    assert float((found - truth).norm()) < 1.25 * sampling
    assert 0.88 < float((off.abs() < 1.6449 * spread).double().mean()) < 0.92


def test_default_draws_are_somewhat_too_wide() -> None:
    """25 levels from pure noise and one product: what docs/restore.md says."""
    operator, model, count = operators()["mask"], GaussianCascade(side=SIDE), 400
    measured, mean, covariance = problem(operator, 0.02, count)
    off = solve_inverse(model, operator, measured, 0.02, range(count), Way("sample")).flatten(1) - mean
    assert 1 < float(off.square().sum(dim=1).mean() / covariance.trace()) < 1.2


def test_the_ascent_meets_the_measurement_and_draws_around_the_mean() -> None:
    operator, model = operators()["mask"], GaussianCascade(side=SIDE)
    measured, mean, covariance = problem(operator, 0.0, 6)
    found = solve_inverse(model, operator, measured, 0.0, range(6), Way("sample", "ascent"))
    assert misfit(operator, measured, found) < 1e-6
    off = (found.flatten(1) - mean).square().sum(dim=1)
    assert float(off.mean()) < 3 * float(covariance.trace()) and float(off.min()) > 0.05 * float(covariance.trace())


def test_a_flat_model_and_a_cascade_of_the_same_law_agree() -> None:
    operator, model = operators()["bicubic"], GaussianCascade(side=SIDE)
    measured, mean, _ = problem(operator, 0.02, 4)
    flat = GaussianLowpass(model.covariance)
    for prior in (flat, model):
        found = solve_inverse(prior, operator, measured, 0.02, range(4), Way(refinements=3))
        assert float((found.flatten(1) - mean).norm() / mean.norm()) < 0.02


def test_a_guided_denoiser_is_a_denoiser_and_exact() -> None:
    operator, model, level, noise = operators()["mask"], GaussianCascade(side=SIDE), 0.3, 0.05
    matrix, x = dense(operator), drawn(3, 1, SIDE, SIDE)
    measured = operator.A(drawn(3, 1, SIDE, SIDE, seed=4))
    both = torch.cat([torch.eye(PIXELS), matrix / noise * level])  # rows of one accuracy
    energy = both @ model.covariance @ both.T + level**2 * torch.eye(len(both))
    data = torch.cat([x.flatten(1), measured.flatten(1) / noise * level], dim=1)
    exact = data @ torch.linalg.solve(energy, both @ model.covariance)
    covariance = Spectrum([float(model.lowpass.std)], (SIDE, SIDE))
    guided = Guided(model, operator, measured, noise, covariance, refinements=20, inner=30)
    found = guided.denoise(x, torch.full((3,), level, dtype=torch.float64)).mean.flatten(1)
    assert float((found - exact).norm() / exact.norm()) < 1e-3 and guided.calls == 21
    with_all = guided.denoise(x, torch.tensor([0.1, 0.3, 0.9]).double()).mean.flatten(1)
    assert torch.allclose(with_all[1], found[1], atol=1e-4)  # an image's own level, whatever the others'


# --- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [Way(steps=4), Way("sample", steps=3), Way("sample", "ascent")])
def test_a_picture_does_not_depend_on_its_batch_nor_on_tiles(way: Way) -> None:
    model = cascade(3)
    operator, x = Mask(torch.rand(50, 70, generator=torch.Generator().manual_seed(0)) < 0.5), drawn(2, 3, 50, 70)
    measured = operator.A(x.float().clamp(-1, 1))
    with torch.inference_mode():
        both = solve_inverse(PictureDenoiser(model), operator, measured, 0.0, [5, 6], way)
        small = PictureDenoiser(model, memory_bytes=1)  # tiles of 64x64
        alone = solve_inverse(small, operator, measured[1:], 0.0, [6], way)
    assert float((both[1:] - alone).abs().max()) < 1e-3
    assert float((both[0] - both[1]).abs().max()) > 0.1


def test_what_is_known_exactly_is_met() -> None:
    operator, x = operators()["bicubic"], drawn(2, 1, SIDE, SIDE)
    measured = operator.A(drawn(2, 1, SIDE, SIDE, seed=3))
    assert misfit(operator, measured, met(operator, measured, x)) < 1e-6


def test_what_is_met_already_is_left() -> None:
    """Real pictures have every frequency twice: in A A' u = y - A x rounding has no solution, and blew up."""
    kept = torch.rand(96, 96, generator=torch.Generator().manual_seed(0)) < 0.1
    kept[0, 0] = True
    operator, x = Frequencies(kept), drawn(1, 3, 96, 96).float() + 5
    assert float((met(operator, operator.A(x), x) - x).abs().max()) < 1e-4


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("given", [1, 3])
def test_gray_and_colour_models_take_gray_and_colour(channels: int, given: int) -> None:
    picture = (np.random.default_rng(0).random((24, 20, 3)) * 255).astype(np.uint8)
    picture = picture[..., 0] if given == 1 else picture
    hidden = np.zeros((24, 20), dtype=bool)
    hidden[5:9, 5:9] = True
    found = wavdiff.restore(picture, wavdiff.Degradation(hidden=hidden), model=cascade(channels), steps=2)
    assert found.shape == picture.shape and found.dtype == np.uint8
    assert (found[~hidden] == picture[~hidden]).all() and (found[hidden] != picture[hidden]).any()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mode": "draw"}, "mode must be mean or sample"),
        ({"method": "magic"}, "method must be one of moments, splitting, ascent"),
        ({"method": "ascent"}, "method ascent has mode sample, got mean"),
        ({"method": "splitting", "mode": "sample"}, "method splitting has mode mean, got sample"),
        ({"method": "splitting", "refinements": 2}, "refinements are for the method moments"),
        ({"limits": (1.0, 0.0)}, "limits must be black and white"),
        ({"noise": -1.0}, "noise must be at least 0"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(WavdiffError, match=said):
        wavdiff.restore(torch.zeros(1, 1, 8, 8), Mask(some(0.5)), model=GaussianCascade(side=SIDE), **settings)
