"""Truths of the walk: with exact denoisers every verb has a closed form; with any weights seeds and sizes behave."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from fresh_processes import Fresh
from gaussian import GaussianCascade, rows, split_matrix, wiener, worst_and_mean_score
from safetensors.torch import load_file, save_file
from torch import Tensor

from wavdiff.models import wavelets
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.networks import GlobalNetwork, LocalNetwork
from wavdiff.models.cascade.networks.cost import count_multiply_adds
from wavdiff.models.cascade.networks.kinds import build_network
from wavdiff.models.cascade.noise import SIGMA_MAX
from wavdiff.models.cascade.saved import load_cascade, save_model
from wavdiff.models.cascade.solvers import Schedule
from wavdiff.models.cascade.verbs import stretch
from wavdiff.models.random_numbers import derive_generator
from wavdiff.system.errors import WavdiffError

pytestmark = pytest.mark.isa
DPM, SDE = Schedule(steps=48), Schedule(steps=48, solver="sde-dpm")


def levels_of(count: int, level: float) -> Tensor:
    return torch.full((count,), level, dtype=torch.float64)


# --- the exact Gaussian cascade -------------------------------------------------------------------------------------


def test_samples_have_the_covariance_of_the_model_at_every_scale() -> None:
    cascade = GaussianCascade()
    walk = cascade.sample((1, 8, 8), range(2000), lowpass_schedule=DPM, detail_schedule=DPM)
    assert [tuple(image.shape[1:]) for image in walk] == [(1, 2, 2), (1, 4, 4), (1, 8, 8)]
    for image, covariance in zip(walk, reversed(cascade.coarse_covariances), strict=True):
        worst, mean_square, worst_mean = worst_and_mean_score(
            rows(image), torch.zeros(len(covariance), dtype=torch.float64), covariance
        )
        # In standard errors: the largest of 2,080 entries exceeds 5 once in 800 draws; their mean square is 1 up to
        # sqrt(2 / entries) (few entries at the coarsest scale), and any bias of the sampler adds to it.
        entries = len(covariance) * (len(covariance) + 1) / 2
        assert worst < 5 and worst_mean < 4.5
        assert mean_square < 1 + 4 * (2 / entries) ** 0.5
        # Variances of the scales, summed: standard error sqrt(2 |C|^2 / N) for tr C.
        spread = (2 * covariance.square().sum() / len(image)).sqrt()
        assert (rows(image).square().sum(1).mean() - covariance.trace()).abs() < 4 * spread


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
@pytest.mark.parametrize("level", [0.01, 0.2, 1.5])
def test_denoising_is_the_posterior_mean_of_the_image(wavelet: str, level: float) -> None:
    cascade = GaussianCascade(wavelet=wavelet)
    clean = cascade.draw(6)
    noisy = clean + level * torch.randn(clean.shape, generator=derive_generator(1), dtype=torch.float64)
    expected = rows(noisy) @ wiener(cascade.covariance, level).T
    got = rows(cascade.denoise(noisy, levels_of(6, level)).mean)
    assert (got - expected).norm() < 1e-9 * expected.norm()


def test_denoising_takes_a_level_for_every_image() -> None:
    cascade = GaussianCascade()
    noisy = cascade.draw(3)
    together = cascade.denoise(noisy, torch.tensor([0.1, 0.4, 0.1], dtype=torch.float64)).mean
    for index, level in enumerate((0.1, 0.4, 0.1)):
        alone = cascade.denoise(noisy[index : index + 1], levels_of(1, level)).mean
        torch.testing.assert_close(alone, together[index : index + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("level", [0.02, 0.3])
def test_denoising_without_augmentation_is_the_mean_of_the_factorisation(level: float) -> None:
    """E[x_J | y_J] first, then E[d_j | y, x_j] with x_j taken as exact, computed here from the joint covariances."""
    cascade = GaussianCascade(conditioning_augmentation=False)
    noisy = cascade.draw(4) + level * torch.randn(4, 1, 8, 8, generator=derive_generator(2), dtype=torch.float64)
    first, second = split_matrix(8, "haar"), split_matrix(4, "haar")
    y1 = rows(noisy) @ first.T  # (x_1 | d_1) of the noisy image
    y2 = y1[:, :16] @ second.T  # (x_2 | d_2)
    c1 = first @ cascade.covariance @ first.T
    c2 = second @ c1[:16, :16] @ second.T
    estimate = y2[:, :4] @ wiener(c2[:4, :4], level / 4).T
    for joint, observed, matrix, s in [(c2, y2, second, level / 4), (c1, y1, first, level / 2)]:
        size = estimate.shape[1]
        # Condition d on the pair (x, d + s n) at once, as one Gaussian.
        pair = joint.clone()
        pair[size:, size:] += s**2 * torch.eye(len(pair) - size, dtype=torch.float64)
        weights = torch.linalg.solve(pair, joint[:, size:]).T
        details = torch.cat([estimate, observed[:, size:]], dim=1) @ weights.T
        estimate = torch.cat([estimate, details], dim=1) @ torch.linalg.inv(matrix).T
    got = rows(cascade.denoise(noisy, levels_of(4, level)).mean)
    assert (got - estimate).norm() < 1e-9 * estimate.norm()
    # It is not the full posterior mean: information does not flow from fine to coarse.
    full = rows(noisy) @ wiener(cascade.covariance, level).T
    assert (got - full).norm() > 1e-4 * full.norm()


def test_posterior_samples_have_the_mean_and_covariance_of_the_posterior() -> None:
    """Of whole images: walking all scales together, no scale is drawn without what the others know of it."""
    cascade, level, count = GaussianCascade(), 0.25, 600
    noisy = cascade.draw(1) + level * torch.randn(1, 1, 8, 8, generator=derive_generator(3), dtype=torch.float64)
    gain = wiener(cascade.covariance, level)
    mean, covariance = gain @ noisy.flatten(), cascade.covariance - gain @ cascade.covariance
    samples = cascade.draw_posterior(noisy.expand(count, 1, 8, 8), level, range(count), SDE)
    worst, mean_square, worst_mean = worst_and_mean_score(rows(samples), mean, covariance)
    assert worst < 5 and worst_mean < 4.5
    assert mean_square < 1 + 4 * (2 / 2080) ** 0.5
    # Variances of the pixels, each within 5 of its standard errors sqrt(2 / N).
    ratio = (rows(samples) - mean).square().mean(0) / covariance.diagonal()
    assert (ratio - 1).abs().max() < 5 * (2 / count) ** 0.5


@pytest.mark.parametrize("factor", [2, 4])
def test_upscaling_keeps_its_input(factor: int) -> None:
    cascade = GaussianCascade()
    small = wavelets.decompose(cascade.draw(3), factor.bit_length() - 1).coarse
    for seeds in (None, range(3)):
        large = cascade.upscale(small, factor, seeds=seeds, schedule=Schedule(steps=6))
        assert large.shape == (3, 1, 8, 8)
        assert (torch.nn.functional.avg_pool2d(large, factor) - small).abs().max() < 1e-6


def test_upscaling_in_the_mean_is_the_conditional_mean() -> None:
    cascade = GaussianCascade()
    small = wavelets.decompose(cascade.draw(5), 1).coarse
    large = rows(cascade.upscale(small, 2))
    details = cascade.details[0]
    mean = rows(small) @ details.regression.T  # E[d | x]
    _, got = wavelets.split(large.reshape(5, 1, 8, 8))
    # The observation at the top level, zero, still pulls by std^2 / (std^2 + (80 std)^2) of the conditional variance.
    assert (rows(got) - mean).norm() < 2 / SIGMA_MAX**2 * mean.norm()
    # All the way: the mean of x_0 given x_2 is linear, and the walk composes the means.
    smallest = wavelets.decompose(cascade.draw(5), 2).coarse
    both = split_matrix(4, "haar")
    half = torch.linalg.inv(both) @ torch.cat([torch.eye(4, dtype=torch.float64), cascade.details[1].regression])
    full = torch.linalg.inv(split_matrix(8, "haar")) @ torch.cat([half, details.regression @ half])
    expected = rows(smallest) @ full.T
    assert (rows(cascade.upscale(smallest, 4)) - expected).norm() < 5 / SIGMA_MAX**2 * expected.norm()


def test_upscaled_samples_scatter_around_the_mean_with_the_conditional_covariance() -> None:
    cascade, count = GaussianCascade(), 1500
    small = wavelets.decompose(cascade.draw(1), 1).coarse
    large = cascade.upscale(small.expand(count, 1, 4, 4), 2, seeds=range(count), schedule=DPM)
    _, details = wavelets.split(large)
    exact = cascade.details[0]
    mean = (rows(small) @ exact.regression.T)[0]
    worst, mean_square, worst_mean = worst_and_mean_score(rows(details), mean, exact.conditional)
    assert worst < 5 and worst_mean < 4.5 and mean_square < 1 + 4 * (2 / 1176) ** 0.5


def test_no_noise_means_no_change() -> None:
    noisy = GaussianCascade().draw(2)
    assert torch.equal(GaussianCascade().denoise(noisy, levels_of(2, 0.0)).mean, noisy)
    assert torch.equal(GaussianCascade().draw_posterior(noisy, 0.0, [0, 1]), noisy)


# --- a small cascade of networks with random weights ----------------------------------------------------------------

LOCAL = {"kind": "local", "width": 8, "depth": 4, "receptive_field": 7}
GLOBAL = {"kind": "global", "width": 8, "depth": 1, "stages": 2}


def small_cascade(channels: int = 1, levels: int = 2, seed: int = 0) -> WaveletCascade:
    torch.manual_seed(seed)
    cascade = WaveletCascade((16, 16), channels, "haar", GLOBAL, [LOCAL] * levels, 0.5, [0.05, 0.1, 0.2][:levels])
    with torch.no_grad():
        for parameter in cascade.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return cascade.eval()


LOW, FINE = Schedule(steps=4), Schedule(steps=3, solver="sde-dpm")


def draw(cascade: WaveletCascade, seeds: list[int], **settings: object) -> list[Tensor]:
    shape = (cascade.channels, 16, 16)
    return cascade.sample(shape, seeds, lowpass_schedule=LOW, detail_schedule=FINE, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("autocast", [False, True])
def test_an_image_depends_on_its_own_seed_only(autocast: bool) -> None:
    cascade = small_cascade()
    cascade.autocast = autocast
    # Convolutions may sum in another order for another batch, so float32 is held to rounding, bfloat16 to its own.
    tolerance = 2e-2 if autocast else 1e-5
    together = draw(cascade, [3, 4, 5, 6, 7])
    for seeds in ([5], [7, 5], [9, 8, 7, 6, 5, 4]):
        other = draw(cascade, seeds)
        for seed in set(seeds) & {3, 4, 5, 6, 7}:
            for one, two in zip(other, together, strict=True):
                difference = (one[seeds.index(seed)] - two[seed - 3]).abs().max()
                assert difference <= tolerance * two.abs().max()
    assert all(torch.equal(a, b) for a, b in zip(draw(cascade, [3, 4, 5, 6, 7]), together, strict=True))
    assert not torch.equal(together[-1][0], together[-1][1])


def test_posterior_samples_and_enlargements_depend_on_their_own_seed_only() -> None:
    cascade = small_cascade()
    cascade.autocast = False
    image = torch.rand(1, 1, 16, 16, generator=derive_generator(0)).expand(3, 1, 16, 16)
    noisy = cascade.draw_posterior(image, 0.2, [1, 2, 3], FINE)
    alone = cascade.draw_posterior(image[:1], 0.2, [2], FINE)
    torch.testing.assert_close(alone[0], noisy[1], rtol=0, atol=1e-5)
    large = cascade.upscale(image, 2, seeds=[1, 2, 3], schedule=FINE)
    alone = cascade.upscale(image[:1], 2, seeds=[2], schedule=FINE)
    torch.testing.assert_close(alone[0], large[1], rtol=0, atol=1e-5)
    assert not torch.equal(noisy[0], noisy[1]) and not torch.equal(large[0], large[1])


def test_equal_low_seeds_share_the_layout_while_details_vary() -> None:
    cascade = small_cascade()
    cascade.autocast = False
    walk = draw(cascade, [1, 2, 3], low_seeds=[7, 7, 7])
    reference = draw(cascade, [7])
    for index in range(3):
        torch.testing.assert_close(walk[0][index], reference[0][0], rtol=0, atol=1e-5)
    assert all((walk[-1][a] - walk[-1][b]).abs().max() > 1e-3 for a, b in [(0, 1), (0, 2), (1, 2)])


def test_stop_scale_ends_the_same_walk_earlier() -> None:
    cascade = small_cascade()
    whole = draw(cascade, [0, 1])
    for stop in range(3):
        part = draw(cascade, [0, 1], stop_scale=stop)
        assert len(part) == 3 - stop and part[-1].shape[-1] == 16 // 2**stop
        assert all(torch.equal(a, b) for a, b in zip(part, whole, strict=False))
    # Every image of the walk is the block mean of the next.
    for coarse, fine in zip(whole, whole[1:], strict=False):
        torch.testing.assert_close(torch.nn.functional.avg_pool2d(fine, 2), coarse, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 7), (16, 16), (23, 10)])
def test_any_size_is_denoised_and_enlarged(size: tuple[int, int]) -> None:
    cascade = small_cascade(channels=3)
    image = torch.rand(2, 3, *size, generator=derive_generator(1)) * 2 - 1
    level = torch.tensor([0.1, 0.1])
    for result in (
        cascade.denoise(image, level).mean,
        cascade.draw_posterior(image, 0.1, [0, 1], FINE),
    ):
        assert result.shape == image.shape and result.isfinite().all()
    for factor in (2, 4):
        for seeds in (None, [0, 1]):
            large = cascade.upscale(image, factor, seeds=seeds, schedule=FINE)
            assert large.shape == (2, 3, factor * size[0], factor * size[1])
            means = torch.nn.functional.avg_pool2d(large, factor)
            assert (means - image).abs().max() < 1e-6 * max(1.0, float(large.abs().max()))


def test_a_cascade_without_details_is_one_denoiser() -> None:
    cascade = small_cascade(levels=0)
    cascade.autocast = False
    image = torch.rand(1, 1, 16, 16, generator=derive_generator(2))
    level = torch.tensor([0.3])
    with torch.no_grad():
        torch.testing.assert_close(cascade.denoise(image, level).mean, cascade.lowpass.denoise(image, level).mean)
    assert len(draw(cascade, [0])) == 1 and cascade.scale_names == ["low"]
    with pytest.raises(WavdiffError, match="factor must be one of none"):
        cascade.upscale(image, 2)


def test_errors_say_the_rule_and_the_value() -> None:
    cascade, image = small_cascade(), torch.zeros(2, 1, 8, 8)
    for factor in (0, 1, 3, 6, 8, -2):
        with pytest.raises(WavdiffError, match=f"factor must be one of 2, 4 for this cascade, got {factor}"):
            cascade.upscale(image, factor)
    for seeds in ([], [1], [1, 2, 3]):
        with pytest.raises(WavdiffError, match=r"one seed per image is needed \(2\), got \["):
            cascade.upscale(image, 2, seeds=seeds)
        with pytest.raises(WavdiffError, match=r"one seed per image is needed \(2\), got \["):
            cascade.draw_posterior(image, 0.1, seeds)
    with pytest.raises(WavdiffError, match=r"height 18 is not divisible by 2\*\*2 = 4"):
        cascade.sample((1, 18, 16), [0])
    with pytest.raises(WavdiffError, match="width 2 is not divisible"):
        cascade.sample((1, 16, 2), [0])
    for stop in (-1, 3):
        with pytest.raises(WavdiffError, match=rf"scale must be between 0 .* and 2 .*, got {stop}"):
            cascade.sample((1, 16, 16), [0], stop_scale=stop)
    for level in (-0.1, float("nan")):
        with pytest.raises(WavdiffError, match="noise levels must not be negative"):
            cascade.denoise(image, torch.tensor([0.1, level]))
    with pytest.raises(WavdiffError, match=r"low_seeds must be one per image \(3\), got 2"):
        cascade.sample((1, 16, 16), [0, 1, 2], low_seeds=[0, 1])
    for name in ("2", "-1", "high", ""):
        with pytest.raises(WavdiffError, match=f"scale must be one of low, 1, 0, got '{name}'"):
            cascade.denoiser(name)
    with pytest.raises(WavdiffError, match="channels must be 1"):
        WaveletCascade((16, 16), 2, "haar", GLOBAL, [], 0.5, [])
    with pytest.raises(WavdiffError, match="1 detail networks but 2 detail_stds"):
        WaveletCascade((16, 16), 1, "haar", GLOBAL, [LOCAL], 0.5, [0.1, 0.1])
    with pytest.raises(WavdiffError, match="kind must be one of local, global, bias-free, got 'flat'"):
        build_network({"kind": "flat"}, 1, details=False)


def test_generators_are_independent_between_seeds_and_purposes() -> None:
    keys = [(seed, *purpose) for seed in range(50) for purpose in (("low",), ("details", 0), ("details", 1))]
    draws = torch.stack([torch.randn(64, generator=derive_generator(*key)) for key in keys])
    assert torch.equal(draws[0], torch.randn(64, generator=derive_generator(0, "low")))
    correlation = draws @ draws.T / 64 - torch.eye(len(keys)) * draws.square().mean(1)
    assert correlation.abs().max() < 6 / 64**0.5


def test_multiply_adds_are_those_counted_by_hand() -> None:
    local = LocalNetwork(5, 4, width=8, depth=4, receptive_field=5, levels=2)  # kernels 3, 1, 1, 3
    per_position = 5 * 8 * 9 + 8 * 8 + 8 * 8 + 8 * 4 * 9
    assert count_multiply_adds(local, (6, 10)) == 60 * per_position
    one = GlobalNetwork(1, 1, width=8, depth=1, stages=1)
    # stem, down block, attention (q, k, v and output), middle block, up block with a 1x1 shortcut, head
    block = 2 * 8 * 8 * 9
    up = 16 * 8 * 9 + 8 * 8 * 9 + 16 * 8
    assert count_multiply_adds(one, (4, 4)) == 16 * (9 * 8 + block + 4 * 8 * 8 + block + up + 8 * 9)
    cascade = WaveletCascade((8, 8), 1, "haar", {"kind": "global", "width": 8, "depth": 1, "stages": 1},
                             [{"kind": "local", "width": 8, "depth": 4, "receptive_field": 5}], 0.5, [0.1])  # fmt: skip
    total = 16 * per_position + count_multiply_adds(one, (4, 4))
    assert cascade.multiply_adds_per_pixel() == total / 64


# --- models on disk -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    save_model(small_cascade(channels=3), folder, "# small\n", "model: {}\n")
    return folder


FRESH = """
import sys, torch
from safetensors.torch import save_file
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.models.cascade.solvers import Schedule
cascade = load_cascade(sys.argv[1])
low, fine = Schedule(steps=4), Schedule(steps=3, solver="sde-dpm")
walk = cascade.sample((3, 16, 16), [0, 1], lowpass_schedule=low, detail_schedule=fine)
image = torch.linspace(-1, 1, 2 * 3 * 9 * 7).reshape(2, 3, 9, 7)
clean = cascade.denoise(image, torch.tensor([0.1, 0.3])).mean
large = cascade.upscale(image, 2)
save_file({"sample": walk[-1].contiguous(), "denoise": clean.contiguous(), "upscale": large.contiguous()}, sys.argv[2])
"""


@pytest.mark.slow
def test_a_saved_cascade_is_bit_equal_in_a_fresh_process(model_folder: Path, tmp_path: Path) -> None:
    original = small_cascade(channels=3)
    loaded = load_cascade(model_folder)
    assert dict(loaded.config)["detail_stds"] == dict(original.config)["detail_stds"]
    for (name, one), (other_name, two) in zip(original.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert name == other_name and torch.equal(one, two)
    assert not loaded.training
    out = tmp_path / "results.safetensors"
    done = Fresh(FRESH, model_folder, out).end()
    assert done.code == 0, done.err
    results = load_file(out)
    image = torch.linspace(-1, 1, 2 * 3 * 9 * 7).reshape(2, 3, 9, 7)
    original = original.to(memory_format=torch.channels_last)
    for cascade in (original, loaded):
        assert torch.equal(draw(cascade, [0, 1])[-1], results["sample"])
        assert torch.equal(cascade.denoise(image, torch.tensor([0.1, 0.3])).mean, results["denoise"])
        assert torch.equal(cascade.upscale(image, 2), results["upscale"])


def test_the_layout_is_that_of_diffusers_with_safetensors_only(model_folder: Path) -> None:
    files = {str(path.relative_to(model_folder)) for path in model_folder.rglob("*") if path.is_file()}
    assert files == {
        "README.md",
        "training.yaml",
        "model_index.json",
        "pipeline.py",
        "cascade/cascade.py",
        "cascade/config.json",
        "cascade/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    }
    index = json.loads((model_folder / "model_index.json").read_text())
    assert index["cascade"][1] == "WaveletCascade" and "WaveletCascadePipeline" in index["_class_name"]


WEIGHTS, CONFIG = "cascade/diffusion_pytorch_model.safetensors", "cascade/config.json"


def _truncate(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def _empty(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def _garbage(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"\x00\xff" * 500)


def _drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors.pop("lowpass.network.stem.weight")
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def _extra_tensor(folder: Path) -> None:
    save_file({**load_file(folder / WEIGHTS), "more": torch.zeros(2)}, folder / WEIGHTS, {"format": "pt"})


def _not_finite(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["lowpass.network.stem.weight"].view(-1)[0] = float("nan")
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def _no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def _pickle(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "cascade/diffusion_pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def _no_config(folder: Path) -> None:
    (folder / CONFIG).unlink()


def _broken_json(folder: Path) -> None:
    (folder / CONFIG).write_text("{ this is not json")


def _json_list(folder: Path) -> None:
    (folder / CONFIG).write_text("[1, 2]")


def _other_width(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config["lowpass_network"]["width"] = 16
    (folder / CONFIG).write_text(json.dumps(config))


def _missing_setting(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    del config["detail_stds"]
    (folder / CONFIG).write_text(json.dumps(config))


def _wrong_value(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config["channels"] = 2
    (folder / CONFIG).write_text(json.dumps(config))


def _wrong_kind(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config["lowpass_network"] = "global"
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize(
    "damage",
    [
        _truncate, _empty, _garbage, _drop_tensor, _extra_tensor, _not_finite, _no_weights, _pickle,
        _no_config, _broken_json, _json_list, _other_width, _missing_setting, _wrong_value, _wrong_kind,
    ],
)  # fmt: skip
def test_damaged_models_are_named(damage, model_folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    import shutil

    folder = tmp_path / "broken"
    shutil.copytree(model_folder, folder)
    load_cascade(folder)
    damage(folder)
    with pytest.raises(WavdiffError) as error:
        load_cascade(folder)
    message = str(error.value)
    assert str(folder) in message and "\n" not in message
    named = {
        _no_weights: "diffusion_pytorch_model.safetensors is missing",
        _pickle: "diffusion_pytorch_model.safetensors is missing",
        _no_config: "cascade/config.json is missing",
        _broken_json: "cascade/config.json is not JSON",
        _json_list: "cascade/config.json does not hold the settings",
        _drop_tensor: "weights do not fit the configuration in .*: lowpass.network.stem.weight",
        _extra_tensor: "weights do not fit the configuration in .*: more",
        _not_finite: "cascade/diffusion_pytorch_model.safetensors are not finite",
        _truncate: "damaged model in .*diffusion_pytorch_model.safetensors",
        _empty: "damaged model in .*diffusion_pytorch_model.safetensors",
        _garbage: "damaged model in .*diffusion_pytorch_model.safetensors",
        _other_width: "size mismatch for lowpass.network",
        _missing_setting: "detail_stds",
        _wrong_value: r"channels must be 1 \(gray\) or 3 \(RGB\), got 2",
        _wrong_kind: "cascade/config.json a network's settings must be a mapping",
    }
    assert re.search(named[damage], message)


def test_missing_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(WavdiffError, match="no such folder, and no shipped model of that name"):
        load_cascade(tmp_path / "nowhere")
    with pytest.raises(WavdiffError, match="is not a wavdiff model: cascade/config.json is missing"):
        load_cascade(tmp_path)


def test_the_output_folder_of_a_run_is_a_model_too(model_folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(model_folder, tmp_path / "run" / "model")
    assert load_cascade(tmp_path / "run").levels == 2


def test_draws_from_the_posterior_have_no_correctors() -> None:
    """They would forget the observation."""
    cascade = GaussianCascade()
    noisy, corrected = torch.randn(2, 1, 8, 8, dtype=torch.float64), dataclasses.replace(SDE, correctors=5)
    draws = [cascade.draw_posterior(noisy, 0.3, [1, 2], walk) for walk in (SDE, corrected)]
    assert torch.equal(*draws)


def test_stretching_takes_each_image_to_the_range() -> None:
    images = torch.randn(3, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    stretched = stretch(images, (0.1, 0.7))
    assert stretched.amin(dim=(1, 2, 3)).tolist() == pytest.approx([-0.8] * 3, abs=1e-6)
    assert stretched.amax(dim=(1, 2, 3)).tolist() == pytest.approx([0.4] * 3, abs=1e-6)
    correlation = torch.corrcoef(torch.stack([images[1].flatten(), stretched[1].flatten()]))[0, 1]
    assert float(correlation) == pytest.approx(1, abs=1e-6)
    assert bool(stretch(torch.zeros(1, 1, 2, 2), (0.0, 0.8)).isfinite().all())
