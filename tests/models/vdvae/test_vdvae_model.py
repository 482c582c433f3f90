"""The hierarchical VAE: counts of the papers, KL and likelihoods against torch and by sums, images without batches."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from wavdiff.models.vdvae.blocks import Cell, normalised
from wavdiff.models.vdvae.config import VdvaeModel
from wavdiff.models.vdvae.likelihoods import Bernoulli, Logistics
from wavdiff.models.vdvae.model import Vdvae
from wavdiff.models.vdvae.numbers import heldout_numbers, importance_bound
from wavdiff.models.vdvae.strings import Entry, parse_encoder
from wavdiff.system.errors import WavdiffError

VDVAE = {
    "decoder": "1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21",
    "encoder": "32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3",
}
COLOUR = {"width": 384, "latent": 16, "channels": 3, "likelihood": "logistics"}
SMALL = {"image_size": (8, 8), "width": 8, "latent": 2, "encoder": "8x1,8d2,4x1r2", "decoder": "4x1r2,8m4,8x1r2"}


def strings(n: int, repeats: int = 1) -> dict[str, str]:
    x = f"x{n}r{repeats}"
    return {
        "decoder": f"1{x},4m1,4{x},8m4,8{x},16m8,16{x},32m16,32{x}",
        "encoder": f"32{x},32d2,16{x},16d2,8{x},8d2,4{x},4d4,1{x}",
    }


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def awake(**settings: object) -> Vdvae:
    """A small model whose prior is not zero, as it is at the start."""
    torch.manual_seed(0)
    model = Vdvae(VdvaeModel(**{**SMALL, **settings}))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    return model


def binary(count: int, side: int = 8) -> Tensor:
    return (torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(1)) < 0.4).float()


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        (strings(1), 106_689),
        (strings(2), 139_713),
        (strings(3), 172_737),
        (strings(4), 205_761),
        (strings(1, 5), 106_689),
        (VDVAE, 339_857),
        ({"decoder": "32x42", "encoder": "32x32"}, 327_793),
        (
            {
                "decoder": "1x1,4m1,4x2r3,8m4,8x3r2,16m8,16x5r2,32m16,32x10r3",
                "encoder": "32x9,32d2,16x5,16d2,8x5,8d2,4x4,4d4,1x3",
            },
            232_025,
        ),
        ({**strings(1), **COLOUR}, 8_744_356),
        ({**strings(2), **COLOUR}, 13_022_052),
        ({**VDVAE, **COLOUR}, 39_145_700),
    ],
)
def test_parameter_counts_are_those_of_the_papers(settings: dict[str, object], count: int) -> None:
    assert parameters(Vdvae(VdvaeModel(**settings))) == count  # type: ignore[arg-type]


def test_depth_counts_executed_cells() -> None:
    for repeats, depth in ((1, 9), (2, 14), (5, 29)):
        assert len(Vdvae(VdvaeModel(**strings(1, repeats))).latent_shapes) == depth


def test_scales_of_the_last_weights_follow_from_executed_blocks() -> None:
    stds = [float(Vdvae(VdvaeModel(**strings(1, repeats))).cells[1].project.weight.std()) for repeats in (1, 5)]
    assert stds[0] / stds[1] == pytest.approx((29 / 9) ** 0.5, rel=0.15)
    model = Vdvae(VdvaeModel())
    assert all(
        float(parameter.abs().max()) == 0
        for cell in model.cells
        for parameter in cell.prior.convolutions[-1].parameters()
    )


def test_kl_and_ratio_of_a_cell_are_those_of_normal_distributions() -> None:
    torch.manual_seed(0)
    cell = Cell(8, 2, Entry(4), 1.0, True)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x, activation, noise = torch.randn(3, 8, 4, 4), torch.randn(3, 8, 4, 4), torch.randn(3, 2, 4, 4)
    _, latent = cell(x, noise, activation, 0.0)
    mean, log_std, drift = cell.prior(x).split([2, 2, 8], dim=1)
    post_mean, post_log_std = cell.posterior(torch.cat([x, activation], dim=1)).chunk(2, dim=1)
    prior, posterior = Normal(mean, log_std.exp()), Normal(post_mean, post_log_std.exp())
    z = post_mean + post_log_std.exp() * noise
    assert torch.allclose(latent.kl, kl_divergence(posterior, prior).flatten(1).sum(1), rtol=1e-5)
    ratio = (prior.log_prob(z) - posterior.log_prob(z)).flatten(1).sum(1)
    assert torch.allclose(latent.log_ratio, ratio, rtol=1e-4, atol=1e-4)
    assert torch.allclose(latent.drift, drift.flatten(1).norm(dim=1))


@pytest.mark.parametrize("channels", [1, 3])
def test_probabilities_of_all_8_bit_values_sum_to_one(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    likelihood = Logistics(channels, 4)
    parameters = torch.randn(1, likelihood.parameters_per_pixel, 1, 1, generator=generator)
    parameters[:, 4 * (1 + channels) : 4 * (1 + 2 * channels)] -= 1.0  # log scales
    values = torch.arange(256) / 255
    # Summed over the last channel, the rest fixed, and divided by the same for the channels before: 1 for every prefix.
    if channels == 1:
        images = values.view(256, 1, 1, 1)
        total = likelihood.log_probability(parameters.expand(256, -1, -1, -1), images).exp().sum()
        assert float(total) == pytest.approx(1, abs=2e-3)
    else:
        grid = torch.stack(torch.meshgrid(values[::15], values[::15], values, indexing="ij"), dim=-1).view(-1, 3, 1, 1)
        joint = likelihood.log_probability(parameters.expand(len(grid), -1, -1, -1), grid).exp().view(18, 18, 256)
        exact = _three_channels(parameters, likelihood, grid).view(18, 18, 256)
        assert torch.allclose(joint, exact, rtol=2e-3, atol=1e-12)


def _three_channels(parameters: Tensor, likelihood: Logistics, grid: Tensor) -> Tensor:
    """The same from torch's own logistic function in double precision, written out."""
    p = parameters.double()[0, :, 0, 0]
    logits, means, scales, coefficients = p[:4], p[4:16].view(3, 4), p[16:28].view(3, 4), p[28:40].view(3, 4).tanh()
    x = 2 * grid.double()[:, :, 0, 0] - 1
    total = torch.zeros(len(grid), 4, dtype=torch.float64)
    centres = (
        means[0].expand(len(grid), 4),
        means[1] + coefficients[0] * x[:, :1],
        means[2] + coefficients[1] * x[:, :1] + coefficients[2] * x[:, 1:2],
    )
    for channel, centre in enumerate(centres):
        value, scale = x[:, channel : channel + 1], scales[channel].exp()
        upper, lower = ((value + step / 255 - centre) / scale for step in (1, -1))
        upper = torch.where(value > 0.999, torch.tensor(torch.inf, dtype=torch.float64), upper)
        lower = torch.where(value < -0.999, torch.tensor(-torch.inf, dtype=torch.float64), lower)
        total += (upper.sigmoid() - lower.sigmoid()).clamp(min=1e-300).log()
    return (logits.log_softmax(0) + total).logsumexp(1).exp().float()


def test_bernoulli_is_the_cross_entropy() -> None:
    logits, images = torch.randn(2, 1, 4, 4), binary(2, 4)
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(images)
    assert torch.allclose(Bernoulli(1).log_probability(logits, images), expected, atol=1e-6)


def test_the_border_does_not_count_and_the_inside_does() -> None:
    model, images = awake(border=1), binary(4)
    model.blocks.apply(lambda module: None)
    noise = model.draw_noise(range(4))
    run = model.decode(noise, model.encode(images))
    everywhere = -model.likelihood.log_probability(model.head(run.state), images)
    terms = model.terms(images, noise)
    assert torch.allclose(terms.distortion, everywhere[..., 1:-1, 1:-1].flatten(1).sum(1))
    assert model.counted == 36 and float((everywhere.flatten(1).sum(1) - terms.distortion).min()) > 0


def test_the_weighted_bound_with_one_sample_is_the_elbo_and_more_are_closer() -> None:
    model, images = awake(), binary(16)
    elbo = torch.stack(
        [model.terms(images, model.draw_noise([100_000 * k + place for place in range(16)])).bound for k in range(60)]
    ).detach()
    ones = torch.stack([importance_bound(model, images, 1, seed=10_000_000 * k) for k in range(60)])
    apart = float(ones.mean() - elbo.mean())
    error = math.hypot(float(ones.mean(1).std()), float(elbo.mean(1).std())) / math.sqrt(60)
    assert abs(apart) < 4 * error
    closer = importance_bound(model, images, 30)
    assert float(closer.mean()) < float(elbo.mean()) - 0.1


def test_images_do_not_depend_on_their_batch_and_temperature_narrows_them() -> None:
    model = awake()
    together = model.sample([3, 4, 5])
    assert together.shape == (3, 1, 8, 8) and float(together.abs().max()) <= 1
    assert torch.allclose(together[1:2], model.sample([4]), atol=1e-5)
    spread = [float(model.sample(range(40), temperature).var(dim=0).mean()) for temperature in (1.0, 0.1)]
    assert spread[1] < spread[0]
    with pytest.raises(WavdiffError, match="temperature must be above 0 and at most 10, got 0"):
        model.sample([0], 0)


def test_reconstructions_keep_what_is_coarse() -> None:
    model, images = awake(), binary(3)
    whole = model.reconstruct(images, range(3))
    assert torch.equal(whole, model.reconstruct(images, range(3), cells=5))
    assert torch.equal(model.reconstruct(images, range(3), cells=0), model.sample(range(3)))
    part = model.reconstruct(images, range(3), cells=2)
    assert not torch.equal(part, whole) and not torch.equal(part, model.sample(range(3)))
    with pytest.raises(WavdiffError, match="cells must be between 0 and 5, got 6"):
        model.reconstruct(images, range(3), cells=6)


def test_every_application_of_shared_weights_has_its_own_latent() -> None:
    model, images = awake(), binary(2)
    terms = model.terms(images, model.draw_noise(range(2)))
    assert len(terms.latents) == 5 and len({round(float(latent.kl[0]), 6) for latent in terms.latents}) == 5
    assert torch.allclose(terms.rate, sum(latent.kl for latent in terms.latents))


def test_matching_activations_go_backwards_and_end_with_the_first() -> None:
    model = awake(encoder_activations="matching")
    activations = model.encode(binary(1))
    given = model._given(activations)
    assert [id(value) for value in given[:2]] == [id(value) for value in activations[4][::-1][:2]]
    assert given[2] is activations[8][-1] and given[-1] is activations[8][0]
    assert all(
        value is activations[shape[-1]][-1]
        for value, shape in zip(awake()._given(activations), model.latent_shapes, strict=True)
    )


def test_a_normalised_state_has_the_norm_of_its_entries() -> None:
    model = awake(normalise_state=True)
    run = model.decode(model.draw_noise(range(2)), model.encode(binary(2)))
    for norm, shape in zip(run.norms, model.latent_shapes, strict=True):
        assert torch.allclose(norm, torch.tensor(math.sqrt(8 * shape[-1] ** 2)))
    assert torch.allclose(normalised(torch.randn(3, 4, 5, 5)).flatten(1).norm(dim=1), torch.tensor(10.0))


def test_a_single_resolution_has_all_cells_at_the_image() -> None:
    model = awake(resolutions="single")
    assert {shape[-1] for shape in model.latent_shapes} == {8} and len(model.latent_shapes) == 5
    assert list(model.starts) == ["8"]


def test_held_out_numbers_add_up() -> None:
    numbers = heldout_numbers(awake(), binary(70))
    assert numbers["nats per image"] == pytest.approx(numbers["distortion"] + numbers["rate"], rel=1e-6)
    assert sum(value for name, value in numbers.items() if name.startswith("kl/")) == pytest.approx(numbers["rate"])
    assert numbers["bits per dimension"] == pytest.approx(numbers["nats per image"] / 64 / math.log(2))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"decoder": "1x1,5m1"}, "must end at the image's 32 pixels"),
        ({"decoder": "1x1,8m4,32m8"}, "or one at a multiple that mixes 1 in, got 8m4"),
        ({"decoder": "32y1"}, "is a comma list of RxN, RxNrK or RmS, got '32y1'"),
        ({"encoder": "32x1,16x1"}, "after 32 pixels a block at 32 follows"),
        ({"encoder": "32d3"}, "pooling divides them, got 32d3"),
        ({"encoder": "32x1"}, r"the encoder has no resolution \[1\]"),
        ({"encoder": "32x1001"}, "has at most 1000 blocks"),
        ({"width": 6}, "model.width must be a multiple of 4, got 6"),
        ({"channels": 3}, "model.channels must be 1 with model.likelihood bernoulli"),
        ({"image_size": (32, 16)}, "model.image_size must be square"),
        ({"border": 16}, "model.border must leave pixels"),
        ({"width": 2048, "encoder": "32x500,32d2,16x1,16d2,8x1,8d2,4x1,4d4,1x1"}, "model: at most 1073741824 weights"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(WavdiffError, match=said):
        VdvaeModel(**settings)  # type: ignore[arg-type]


def test_encoder_strings_say_pools_and_repeats() -> None:
    assert parse_encoder("8x2r3,8d2,4x1", 8) == (Entry(8, 3), Entry(8, 3), Entry(8, 1, 2), Entry(4))
