"""The adapter for DeepInverse, against the library itself.

Importing deepinv imports torchvision, which it uses for plots, data sets and rotations; none of them is touched here.
Where torchvision is not installed (PyPI has no build that fits a torch without CUDA), empty modules take its place
while deepinv is imported; everything of deepinv that these tests run is its own code.
"""

import importlib.util
import sys
import types
from typing import Any

import pytest
import torch
from conftest import scene
from empty_torchvision import torchvision_or_empty
from gaussian import GaussianCascade

import wavdiff
from wavdiff import api
from wavdiff.evaluation.metrics.fidelity import psnr
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.system.errors import WavdiffError

if importlib.util.find_spec("deepinv") is None:
    pytest.skip("deepinv is not installed (`make test` installs it)", allow_module_level=True)

with torchvision_or_empty():
    import deepinv
    from deepinv.optim import L2, PnP, optim_builder
    from deepinv.physics import Blur, BlurFFT, CompressedSensing, Downsampling, GaussianNoise, Inpainting

    from wavdiff.adapters.deepinv import CascadeDenoiser
    from wavdiff.adapters.prior import noise_levels


@pytest.fixture(scope="module")
def cascade() -> WaveletCascade:
    """The faces, in float32, so that batches of different sizes agree closely."""
    cascade = wavdiff.load("faces")
    cascade.autocast = False
    return cascade


@pytest.fixture(scope="module")
def denoiser(cascade: WaveletCascade) -> CascadeDenoiser:
    return CascadeDenoiser(cascade)


def picture(height: int, width: int, channels: int = 1) -> torch.Tensor:
    """(1, C, H, W) in [0, 1]."""
    pixels = torch.from_numpy(scene(height, width, 5, channels)).float() / 255
    return pixels[None, None] if channels == 1 else pixels.permute(2, 0, 1)[None]


def noisy(x: torch.Tensor, sigma: float, seed: int = 0) -> torch.Tensor:
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def quality(result: torch.Tensor, truth: torch.Tensor) -> float:
    """PSNR in dB of pictures in [0, 1]."""
    return float(psnr(2 * result - 1, 2 * truth - 1).mean())


# --- the denoiser --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 64, 1), (47, 33, 1), (40, 56, 3)])
def test_it_is_the_library_in_other_units(
    denoiser: CascadeDenoiser, cascade: WaveletCascade, shape: tuple[int, int, int]
) -> None:
    assert isinstance(denoiser, deepinv.models.Denoiser)
    clean = picture(*shape)
    x = noisy(clean, 0.1)
    result = denoiser(x, 0.1)
    expected = (api.denoise(2 * x - 1, 0.1, model=cascade) + 1) / 2
    assert torch.allclose(result, expected, atol=1e-6)
    assert quality(result, clean) > quality(x, clean) + 6


def test_every_picture_has_its_own_level(denoiser: CascadeDenoiser) -> None:
    levels = [0.05, 0.2, 0.05, 0.0]
    clean = picture(32, 32)
    x = torch.cat([noisy(clean, level, seed) for seed, level in enumerate(levels)])
    together = denoiser(x, torch.tensor(levels))
    alone = torch.cat([denoiser(x[k : k + 1], level) for k, level in enumerate(levels)])
    assert torch.allclose(together, alone, atol=1e-4)
    assert torch.allclose(together[3], x[3], atol=1e-6)  # no noise, no change
    # The level is heard: the wrong one is worse.
    assert quality(together[1:2], clean) > quality(denoiser(x[1:2], 0.05), clean) + 1


def test_a_prior_is_the_denoiser_alone_also_of_pictures_that_are_cut_off(
    denoiser: CascadeDenoiser, cascade: WaveletCascade
) -> None:
    x = noisy(picture(32, 32), 0.5).clamp(0, 1)
    plain, taken_back = ((api.denoise(2 * x - 1, 0.5, model=cascade, declip=d) + 1) / 2 for d in (False, True))
    assert not torch.allclose(plain, taken_back, atol=1e-3)
    assert torch.allclose(denoiser(x, 0.5), plain, atol=1e-6)


def test_forms_of_sigma() -> None:
    batch = [0.1, 0.2]
    assert noise_levels(0.1, 2) == noise_levels([0.1], 2) == noise_levels(torch.tensor(0.1, dtype=torch.float64), 2)
    assert noise_levels(0.1, 2) == [0.1, 0.1] and noise_levels(0, 1) == [0.0]
    double = torch.tensor(batch, dtype=torch.float64)
    assert noise_levels(batch, 2) == noise_levels(double, 2) == noise_levels(double.view(2, 1, 1, 1), 2) == batch


def test_dtype_is_kept_and_the_input_not_changed(denoiser: CascadeDenoiser) -> None:
    x = noisy(picture(16, 16), 0.1).double()
    before = x.clone()
    result = denoiser(x, 0.1, anything_else=1)
    assert result.dtype == torch.float64 and torch.equal(x, before)
    assert torch.allclose(result, denoiser(x.float(), 0.1).double(), atol=1e-6)
    assert not result.is_inference()  # solvers compute on with it


def test_it_stays_in_evaluation_mode(denoiser: CascadeDenoiser) -> None:
    prior = PnP(denoiser=denoiser).train()
    assert prior.training and not denoiser.training and not any(m.training for m in denoiser.modules())


def test_gradients_are_refused_instead_of_wrong(denoiser: CascadeDenoiser) -> None:
    x = picture(16, 16).requires_grad_()
    level = torch.tensor(0.1, requires_grad=True)
    with pytest.raises(WavdiffError, match="no gradients"):
        denoiser(x, 0.1)
    with pytest.raises(WavdiffError, match="no gradients"):
        denoiser(x.detach(), level)
    with torch.no_grad():
        assert torch.equal(denoiser(x, level), denoiser(x.detach(), 0.1))


@pytest.mark.parametrize(
    ("shape", "sigma", "message"),
    [
        ((1, 1, 8), 0.1, "x must be real"),
        ((1, 2, 8, 8), 0.1, "x must be real"),
        ((2, 1, 8, 8), [0.1, 0.2, 0.3], r"one per picture \(2\), got 3"),
        ((2, 1, 8, 8), None, "got None"),
        ((1, 1, 8, 8), 25, "did you mean 25/255"),
        ((1, 1, 8, 8), -0.1, "standard deviation"),
        ((1, 1, 8, 8), float("nan"), "standard deviation"),
    ],
)
def test_mistakes(denoiser: CascadeDenoiser, shape: tuple[int, ...], sigma: Any, message: str) -> None:
    with pytest.raises(WavdiffError, match=message):
        denoiser(torch.zeros(shape), sigma)


def test_it_denoises_where_deepinv_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, cascade: WaveletCascade) -> None:
    """As in the environment that `make` builds, which has no torchvision."""

    def broken(name: str) -> None:
        raise RuntimeError(f"operator torchvision::{name} does not exist")

    x, expected = picture(16, 16), CascadeDenoiser(cascade)(picture(16, 16), 0.1)
    for module in (None, types.ModuleType("deepinv.models")):
        if module is not None:
            module.__getattr__ = broken  # type: ignore[method-assign]
        monkeypatch.setitem(sys.modules, "deepinv.models", module)
        monkeypatch.delitem(sys.modules, "wavdiff.adapters.deepinv")
        without = importlib.import_module("wavdiff.adapters.deepinv").CascadeDenoiser(cascade)
        assert isinstance(without, torch.nn.Module) and not isinstance(without, deepinv.models.Denoiser)
        assert torch.equal(without(x, 0.1), expected)


# --- `wavdiff.prior` -------------------------------------------------------------------------------------------------


def test_conventions_of_a_prior(cascade: WaveletCascade) -> None:
    prior, signed = wavdiff.prior(cascade), wavdiff.prior(cascade, limits=(-1, 1))
    x, levels = torch.cat([noisy(picture(24, 20), 0.1), noisy(picture(24, 20), 0.2, 1)]), torch.tensor([0.1, 0.2])
    clean = prior(x, levels)
    assert torch.allclose((signed(2 * x - 1, 2 * levels) + 1) / 2, clean, atol=1e-5)
    spread = levels[:, None, None, None]
    assert torch.allclose(x + spread**2 * prior.score(x, levels), clean, atol=1e-5)  # Miyasawa, Tweedie
    assert torch.allclose(x - spread * prior.noise(x, levels), clean, atol=1e-5)
    assert 0.7 < float(prior.noise(x, levels).std()) < 1.3
    with pytest.raises(WavdiffError, match="must be positive"):
        prior.score(x, 0)
    with pytest.raises(WavdiffError, match="black below white"):
        wavdiff.prior(cascade, limits=(1, 0))


def test_a_prior_is_k_diffusions_denoiser(cascade: WaveletCascade) -> None:
    """A step of diffusers' Euler, told the noise, is the step towards D."""
    from diffusers import EulerDiscreteScheduler

    prior = wavdiff.prior(cascade, limits=(-1, 1))
    scheduler = EulerDiscreteScheduler(prediction_type="epsilon")
    scheduler.set_timesteps(10)
    step = next(k for k, sigma in enumerate(scheduler.sigmas) if 0 < float(sigma) < 1)
    sigma, after = float(scheduler.sigmas[step]), float(scheduler.sigmas[step + 1])
    x = 2 * noisy(picture(16, 16), sigma / 2) - 1
    theirs = scheduler.step(prior.noise(x, sigma), scheduler.timesteps[step], x).prev_sample
    ours = prior(x, sigma) + after / sigma * (x - prior(x, sigma))
    assert torch.allclose(theirs, ours, atol=1e-4)


# --- their solvers on our prior ------------------------------------------------------------------------------------

STEPS = 16


def falling_levels(first: float) -> list[float]:
    """A geometric ladder of denoising strengths down to the noise of the measurement."""
    return [first * (0.02 / first) ** (step / (STEPS - 1)) for step in range(STEPS)]


@pytest.mark.parametrize(("solver", "stepsize"), [("PGD", 1.0), ("HQS", 10.0), ("DRS", 1.0)])
def test_inpainting(denoiser: CascadeDenoiser, solver: str, stepsize: float) -> None:
    truth = picture(64, 64)
    mask = (torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    physics = Inpainting((1, 64, 64), mask=mask, noise_model=GaussianNoise(0.02))
    measured = mask * noisy(truth, 0.02)
    restored = optim_builder(
        solver,
        prior=PnP(denoiser=denoiser),
        data_fidelity=L2(),
        max_iter=STEPS,
        params_algo={"stepsize": stepsize, "g_param": falling_levels(0.25), "lambda": 1.0, "beta": 1.0},
    )(measured, physics)

    average = torch.nn.functional.avg_pool2d
    neighbours = average(measured, 5, 1, 2) / average(mask[None], 5, 1, 2)
    filled = torch.where(mask[None] > 0, measured, neighbours)
    assert quality(restored, truth) > quality(filled, truth) + 3  # beyond the mean of the known neighbours
    assert quality(restored, truth) > quality(noisy(truth, 0.02), truth)  # beyond the measurement without holes


@pytest.mark.parametrize(("solver", "stepsize"), [("PGD", 1.0), ("HQS", 10.0)])
def test_deblurring(denoiser: CascadeDenoiser, solver: str, stepsize: float) -> None:
    truth = picture(64, 64)
    ramp = torch.arange(-6, 7) / 1.5
    line = torch.exp(-(ramp**2) / 2)
    kernel = line[:, None] * line / line.sum() ** 2
    physics = BlurFFT((1, 64, 64), filter=kernel[None, None])
    measured = noisy(physics.A(truth), 0.02)
    restored = optim_builder(
        solver,
        prior=PnP(denoiser=denoiser),
        data_fidelity=L2(),
        max_iter=STEPS,
        params_algo={"stepsize": stepsize, "g_param": falling_levels(0.2), "lambda": 1.0},
    )(measured, physics)
    assert quality(restored, truth) > quality(measured, truth) + 5
    assert quality(restored, truth) > quality(denoiser(measured, 0.02), truth) + 3  # more than denoising


# --- its operators --------------------------------------------------------------------------------------------------

SIDE = 8
PHYSICS = {
    "inpainting": lambda: Inpainting(img_size=(1, SIDE, SIDE), mask=0.5),
    "blur": lambda: Blur(filter=torch.ones(1, 1, 3, 3) / 9, padding="valid"),
    "downsampling": lambda: Downsampling(img_size=(1, SIDE, SIDE), factor=2, filter="bilinear"),
    "sensing": lambda: CompressedSensing(m=30, img_size=(1, SIDE, SIDE)),
}


class SingleGaussian:
    """An exact model of pictures in float32."""

    mean_draws = 0

    def __init__(self) -> None:
        self.model = GaussianCascade(side=SIDE)
        self.std, self.top = self.model.std, self.model.top
        self.details, self.lowpass = self.model.details, self.model.lowpass

    def denoise(self, noisy: torch.Tensor, level: torch.Tensor, coarse: Any = None) -> Any:
        result = self.model.denoise(noisy.double(), level.double())
        return result._replace(mean=result.mean.to(noisy))


@pytest.mark.parametrize("name", PHYSICS)
def test_its_physics_are_operators_as_they_are(name: str) -> None:
    torch.manual_seed(0)
    physics, prior = PHYSICS[name](), SingleGaussian()
    covariance = prior.model.covariance
    with torch.no_grad():
        measured = physics.A(0.5 + 0.1 * torch.randn(2, 1, SIDE, SIDE))
        found = wavdiff.restore(measured, physics, noise=0.01, model=prior, refinements=3)
        columns = [physics.A(one.reshape(1, 1, SIDE, SIDE)).flatten() for one in torch.eye(SIDE**2)]
    matrix = torch.stack(columns, dim=1).double()
    known = 2 * measured.flatten(1).double() - matrix.sum(dim=1)  # of pictures in [-1, 1]
    energy = matrix @ covariance @ matrix.T + 0.02**2 * torch.eye(len(matrix))
    exact = (known @ torch.linalg.solve(energy, matrix @ covariance) + 1) / 2
    assert float((found.flatten(1) - exact).norm() / (exact - 0.5).norm()) < 0.02
