import pytest
import torch
from blind_models import needs_bfloat16

from wavdiff.models.cascade.denoisers import EDMDenoiser
from wavdiff.models.cascade.denoising import Coarse
from wavdiff.models.cascade.networks import FoldedNetwork, LocalNetwork
from wavdiff.models.cascade.networks.convolutions import Convolutions

pytestmark = pytest.mark.isa


def network(width: int = 16, **settings) -> LocalNetwork:
    torch.manual_seed(0)
    made = LocalNetwork(15, 12, width=width, depth=6, receptive_field=9, levels=2, **settings)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.8 / width**0.5)
    return made.to(memory_format=torch.channels_last).eval()


PLAIN = {"activation": "relu", "preactivated": False}


@pytest.mark.parametrize("settings", [PLAIN, {"activation": "silu"}, {"activation": "silu", "preactivated": False}])
@pytest.mark.parametrize("batch", [1, 3])
def test_equals_the_network_at_its_levels(settings, batch):
    whole = network(**settings)
    levels = torch.tensor([0.7, 0.3])
    x = torch.randn(batch, 15, 13, 22)
    with torch.inference_mode():
        expected = whole(x, levels.expand(batch, 2))
        fused = FoldedNetwork(whole, levels, dtype=torch.float32)(x, torch.tensor([9.0]))
    assert torch.allclose(fused, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_levels_are_those_of_the_making():
    whole = network(**PLAIN)
    x = torch.randn(1, 15, 9, 9)
    with torch.inference_mode():
        one, other = (
            FoldedNetwork(whole, torch.tensor(u), dtype=torch.float32)(x, x) for u in ([0.1, 0.0], [2.0, 1.0])
        )
    assert float((one - other).abs().max()) > 1e-3


@pytest.mark.parametrize("settings", [PLAIN, {}])
def test_gray_is_the_mean_over_three_equal_channels(settings):
    whole = network(**settings)
    levels = torch.tensor([0.5, 0.2])
    x = torch.randn(1, 5, 11, 8)
    with torch.inference_mode():
        answer = whole(x.repeat_interleave(3, dim=1), levels[None])
        expected = answer.unflatten(1, (4, 3)).mean(dim=2)
        gray = FoldedNetwork(whole, levels, gray=True, dtype=torch.float32)(x, levels)
    assert gray.shape == (1, 4, 11, 8)
    assert torch.allclose(gray, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_fused_and_plain_operators_agree():
    whole = network(**PLAIN)
    x = torch.randn(1, 15, 20, 17)
    with torch.inference_mode():
        made = FoldedNetwork(whole, torch.tensor([1.0, 0.0]), dtype=torch.float32)
        first = made(x, x)
        made.direct = Convolutions(made.direct.layers, torch.float32)
        assert torch.allclose(made(x, x), first, atol=1e-5 * float(first.abs().max()))


@pytest.fixture
def winograd(monkeypatch):
    """Two chains of one network, computed directly and by Winograd's algorithm."""
    if not torch._nnpack_available():
        pytest.skip("torch has no NNPACK for this processor")
    whole = network(**PLAIN, width=64)
    made = []
    for convolution in ("direct", "winograd"):
        monkeypatch.setenv("WAVDIFF_CONVOLUTION", convolution)
        made.append(FoldedNetwork(whole, torch.tensor([1.0, 0.3]), dtype=torch.float32))
    assert made[0].winograd is None and made[1].winograd is not None
    return made


@pytest.mark.parametrize("size", [(40, 40), (41, 67), (96, 50)])
def test_winograd_agrees_with_direct_convolutions(winograd, size):
    x = torch.randn(1, 15, *size)
    with torch.inference_mode():
        direct, result = (each(x) for each in winograd)
    assert not torch.equal(direct, result)
    assert torch.allclose(direct, result, rtol=0, atol=1e-4 * float(direct.square().mean().sqrt()))


def test_winograd_does_not_depend_on_the_batch(winograd):
    x = torch.randn(3, 15, 48, 44)
    with torch.inference_mode():
        together = winograd[1](x)
        assert all(torch.equal(together[k : k + 1], winograd[1](x[k : k + 1])) for k in range(3))


def test_small_images_are_computed_directly(winograd):
    """Its tiles of 8x8 would be computed for nothing."""
    x = torch.randn(2, 15, 16, 20)
    with torch.inference_mode():
        assert torch.equal(winograd[0](x), winograd[1](x))


@needs_bfloat16
def test_bfloat16_is_close():
    whole = network(**PLAIN)
    x = torch.randn(1, 15, 20, 17)
    with torch.inference_mode():
        exact = FoldedNetwork(whole, torch.tensor([1.0, 0.0]), dtype=torch.float32)(x, x)
        rounded = FoldedNetwork(whole, torch.tensor([1.0, 0.0]), dtype=torch.bfloat16)(x, x)
    assert float((rounded - exact).square().mean() / exact.square().mean()) < 1e-3


@pytest.mark.parametrize("settings", [PLAIN, {}])
@pytest.mark.parametrize("coarse_level", [0.0, 0.04])
def test_denoisers_equal_those_they_are_made_of(settings, coarse_level):
    model = EDMDenoiser(network(**settings), std=0.1, coarse_std=0.6)
    d, x, y = torch.randn(1, 9, 12, 10), torch.randn(1, 3, 12, 10), torch.randn(1, 3, 12, 10)
    observed = (y, torch.tensor([coarse_level])) if coarse_level else ()
    with torch.inference_mode():
        expected = model.denoise(d, torch.tensor([0.07]), Coarse(x, *observed))
        made = model.at(0.07, coarse_level, gray=False, dtype=torch.float32)
        answer = made.denoise(d, None, Coarse(x, y if coarse_level else None))
        for one, other in zip(answer, expected, strict=True):
            assert torch.allclose(one, other, atol=1e-5 * float(other.abs().max()))
    if not coarse_level:
        assert torch.equal(answer.coarse, x)


@pytest.mark.parametrize("settings", [PLAIN, {}])
def test_the_lowpass_denoiser_equals_the_one_it_is_made_of(settings):
    torch.manual_seed(1)
    whole = LocalNetwork(3, 3, width=16, depth=6, receptive_field=9, **settings)
    for parameter in whole.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model = EDMDenoiser(whole.eval(), std=0.5)
    noisy = torch.randn(1, 3, 9, 14)
    with torch.inference_mode():
        expected = model.denoise(noisy, torch.tensor([0.3])).mean
        answer = model.at(0.3, gray=False, dtype=torch.float32).denoise(noisy)
    assert torch.allclose(answer.mean, expected, atol=1e-5 * float(expected.abs().max())) and answer.coarse is None
