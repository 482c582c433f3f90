import pytest
import torch

from wavdiff.models.cascade.denoisers import DetailDenoiser, LowpassDenoiser
from wavdiff.models.cascade.folded_denoisers import FusedDetailDenoiser, FusedLowpassDenoiser
from wavdiff.models.cascade.networks import FusedNetwork, LocalNetwork

pytestmark = pytest.mark.isa


def network(**settings) -> LocalNetwork:
    torch.manual_seed(0)
    made = LocalNetwork(15, 12, width=16, depth=6, receptive_field=9, levels=2, **settings)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
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
        fused = FusedNetwork(whole, levels, dtype=torch.float32)(x, torch.tensor([9.0]))
    assert torch.allclose(fused, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_levels_are_those_of_the_making():
    whole = network(**PLAIN)
    x = torch.randn(1, 15, 9, 9)
    with torch.inference_mode():
        one, other = (FusedNetwork(whole, torch.tensor(u), dtype=torch.float32)(x, x) for u in ([0.1, 0.0], [2.0, 1.0]))
    assert float((one - other).abs().max()) > 1e-3


@pytest.mark.parametrize("settings", [PLAIN, {}])
def test_gray_is_the_mean_over_three_equal_channels(settings):
    whole = network(**settings)
    levels = torch.tensor([0.5, 0.2])
    x = torch.randn(1, 5, 11, 8)
    with torch.inference_mode():
        answer = whole(x.repeat_interleave(3, dim=1), levels[None])
        expected = answer.unflatten(1, (4, 3)).mean(dim=2)
        gray = FusedNetwork(whole, levels, gray=True, dtype=torch.float32)(x, levels)
    assert gray.shape == (1, 4, 11, 8)
    assert torch.allclose(gray, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_fused_and_plain_operators_agree():
    whole = network(**PLAIN)
    x = torch.randn(1, 15, 20, 17)
    with torch.inference_mode():
        made = FusedNetwork(whole, torch.tensor([1.0, 0.0]), dtype=torch.float32)
        first = made(x, x)
        made.on_cpu = False
        assert torch.allclose(made(x, x), first, atol=1e-5 * float(first.abs().max()))


def test_bfloat16_is_close():
    whole = network(**PLAIN)
    x = torch.randn(1, 15, 20, 17)
    with torch.inference_mode():
        exact = FusedNetwork(whole, torch.tensor([1.0, 0.0]), dtype=torch.float32)(x, x)
        rounded = FusedNetwork(whole, torch.tensor([1.0, 0.0]), dtype=torch.bfloat16)(x, x)
    assert float((rounded - exact).square().mean() / exact.square().mean()) < 1e-3


@pytest.mark.parametrize("settings", [PLAIN, {}])
@pytest.mark.parametrize("coarse_level", [0.0, 0.4])
def test_denoisers_equal_those_they_are_made_of(settings, coarse_level):
    model = DetailDenoiser(network(**settings), std=0.1, coarse_std=0.6)
    d, x, y = torch.randn(1, 9, 12, 10), torch.randn(1, 3, 12, 10), torch.randn(1, 3, 12, 10)
    level = 0.7
    with torch.inference_mode():
        arguments = (y, torch.tensor([coarse_level * 0.1])) if coarse_level else ()
        expected = model(d, torch.tensor([level * 0.1]), x, *arguments)
        made = FusedDetailDenoiser(model, level, coarse_level, 0.1, gray=False, dtype=torch.float32)
        answer = made(d, x, y if coarse_level else None)
        for one, other in zip(answer, expected, strict=True):
            assert torch.allclose(one, other, atol=1e-5 * float(other.abs().max()))
        standardised = FusedDetailDenoiser(model, level, coarse_level, 1.0, gray=False, dtype=torch.float32)
        assert torch.allclose(standardised(d / 0.1, x, y if coarse_level else None)[0] * 0.1, expected[0], atol=1e-4)
    if not coarse_level:
        assert torch.equal(answer[1], x)


@pytest.mark.parametrize("settings", [PLAIN, {}])
def test_the_lowpass_denoiser_equals_the_one_it_is_made_of(settings):
    torch.manual_seed(1)
    whole = LocalNetwork(3, 3, width=16, depth=6, receptive_field=9, **settings)
    for parameter in whole.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model = LowpassDenoiser(whole.eval(), std=0.5)
    noisy = torch.randn(1, 3, 9, 14)
    with torch.inference_mode():
        expected = model(noisy, torch.tensor([0.3]))
        answer = FusedLowpassDenoiser(model, 0.6, 0.5, gray=False, dtype=torch.float32)(noisy)
    assert torch.allclose(answer, expected, atol=1e-5 * float(expected.abs().max()))
