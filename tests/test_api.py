"""The Python door: the four verbs as the package's docstring shows them, and the diffusers pipeline."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, run_python, scene
from fresh_processes import Fresh
from PIL import Image

import wavdiff
from wavdiff import api
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.saved import load_cascade, save_model
from wavdiff.models.cascade.training.standardisation import build_cascade
from wavdiff.models.folders import find_model, weights_digest
from wavdiff.system.errors import WavdiffError
from wavdiff.training.config import from_mapping

pytestmark = pytest.mark.isa


@pytest.fixture(scope="module")
def gray(tiny_model: Path) -> WaveletCascade:
    return wavdiff.load(tiny_model)


@pytest.fixture(scope="module")
def rgb() -> WaveletCascade:
    """An untrained RGB cascade whose last layers are not zero."""
    mapping = copy.deepcopy(TINY)
    mapping["model"] |= {"channels": 3}
    cascade = build_cascade(from_mapping(mapping), 0.5, [0.1, 0.15])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in cascade.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return cascade.eval()


def picture(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


# --- verbs ---------------------------------------------------------------------------------------------------------


def test_the_docstrings_verbs(pictures: Path, tiny_config: Path, tmp_path: Path) -> None:
    model = wavdiff.train(tiny_config, out=tmp_path / "mine", data=str(pictures), overrides=["training.steps=2"])
    assert model == tmp_path / "mine" / "model"
    cascade = wavdiff.load(model)
    assert wavdiff.load(tmp_path / "mine").config == cascade.config  # the run's folder will do as well
    new = wavdiff.sample(cascade, n=4, seed=0)
    assert new.shape == (4, 1, 16, 16) and new.dtype == torch.float32 and float(new.abs().max()) <= 1
    noisy = new + 0.2 * torch.randn(new.shape, generator=torch.Generator().manual_seed(0))
    assert wavdiff.denoise(noisy, sigma=0.1, model=cascade).shape == new.shape
    assert wavdiff.upscale(new, factor=2, model=cascade).shape == (4, 1, 32, 32)


def test_training_from_a_mapping_of_some_scales(pictures: Path, tmp_path: Path) -> None:
    mapping = copy.deepcopy(TINY)
    mapping["training"] |= {"steps": 2}
    before = copy.deepcopy(mapping)
    model = wavdiff.train(mapping, tmp_path, str(pictures), scales=["low"])
    assert mapping == before
    state = json.loads((tmp_path / "checkpoints" / "step-00000002" / "state.json").read_text())
    assert state["trained"] == {"low": 2} and find_model(tmp_path) == model


@pytest.mark.slow
def test_every_public_name_is_there_and_late() -> None:
    code = """
import sys
import wavdiff
assert dir(wavdiff) == sorted(wavdiff.__all__)  # what a shell completes
assert "torch" not in sys.modules
for name in wavdiff.__all__:
    assert getattr(wavdiff, name) is not None
    assert name == "__version__" or name in (wavdiff.__doc__ or "") or getattr(wavdiff, name).__doc__, name
try:
    wavdiff.nothing
except AttributeError as error:
    print(error)
"""
    assert "no attribute 'nothing'" in run_python(code)
    assert len(wavdiff.__all__) == len(set(wavdiff.__all__)) >= 9


def test_image_k_depends_on_its_seed_alone(gray: WaveletCascade) -> None:
    images = wavdiff.sample(gray, n=5, seed=3)
    assert torch.equal(wavdiff.sample(gray, n=2, seed=6, batch_size=1), images[3:])
    assert torch.equal(wavdiff.sample(gray, n=5, seed=3, batch_size=2), images)


def test_samples_of_another_size(gray: WaveletCascade) -> None:
    assert wavdiff.sample(gray, size=(24, 8)).shape == (1, 1, 24, 8)


@pytest.mark.parametrize("shape", [(1, 9, 7), (3, 8, 8), (2, 1, 5, 6), (2, 3, 4, 4), (1, 1, 1, 1)])
def test_pictures_keep_their_shape(gray: WaveletCascade, rgb: WaveletCascade, shape: tuple[int, ...]) -> None:
    x = picture(*shape)
    for cascade in (gray, rgb):
        for mode in ("mean", "sample"):
            assert wavdiff.denoise(x, 0.1, mode=mode, model=cascade).shape == shape
            large = wavdiff.upscale(x, 4, mode=mode, model=cascade)
            assert large.shape == (*shape[:-2], 4 * shape[-2], 4 * shape[-1])
            batch = large if large.ndim == 4 else large[None]
            means = torch.nn.functional.avg_pool2d(batch, 4).reshape(shape)
            assert float((means - x).abs().max()) < 2e-6
            assert not large.is_inference()


def test_a_gray_cascade_treats_the_channels_alike_and_apart(gray: WaveletCascade) -> None:
    x = picture(2, 3, 12, 8)
    clean, large = wavdiff.denoise(x, 0.1, model=gray), wavdiff.upscale(x, 2, model=gray)
    for channel in range(3):
        part = x[:, channel : channel + 1]
        assert torch.allclose(clean[:, channel : channel + 1], wavdiff.denoise(part, 0.1, model=gray), atol=1e-6)
        assert torch.allclose(large[:, channel : channel + 1], wavdiff.upscale(part, 2, model=gray), atol=1e-6)


def test_an_rgb_cascade_sees_gray_as_three_equal_channels(rgb: WaveletCascade) -> None:
    x = picture(2, 1, 8, 12)
    clean = wavdiff.denoise(x, 0.1, model=rgb)
    colour = wavdiff.denoise(x.expand(-1, 3, -1, -1), 0.1, model=rgb)
    assert torch.allclose(clean, colour.mean(dim=1, keepdim=True), atol=1e-6)
    assert float((colour[:, 0] - colour[:, 1]).abs().max()) > 1e-4  # or the test would say nothing


def test_draws_depend_on_their_seed_and_place(gray: WaveletCascade) -> None:
    x = picture(1, 1, 8, 8).expand(3, -1, -1, -1)
    for draw in (
        lambda x, seed: wavdiff.denoise(x, 0.3, mode="sample", seed=seed, model=gray),
        lambda x, seed: wavdiff.upscale(x, 2, mode="sample", seed=seed, model=gray),
    ):
        drawn = draw(x, 5)
        assert not torch.equal(drawn[0], drawn[1])
        assert torch.equal(draw(x[:1], 6), drawn[1:2]) and torch.equal(draw(x[0], 7), drawn[2])
        colour = draw(x[:1].expand(-1, 3, -1, -1), 5)
        assert not torch.equal(colour[:, 0], colour[:, 1])


def test_inputs_are_left_alone(gray: WaveletCascade) -> None:
    x = picture(3, 9, 9)
    before = x.clone()
    wavdiff.denoise(x, 0.1, model=gray)
    wavdiff.denoise(x, 0.0, model=gray)[:] = 0
    wavdiff.upscale(x, 2, model=gray)
    assert torch.equal(x, before)


def test_wrong_arguments_are_refused(gray: WaveletCascade) -> None:
    x = picture(1, 8, 8)
    for call, said in (
        (lambda: wavdiff.denoise(x, 15, model=gray), "15/255 = 0.059"),
        (lambda: wavdiff.denoise(x, -0.1, model=gray), "-0.1"),
        (lambda: wavdiff.denoise(x, float("nan"), model=gray), "nan"),
        (lambda: wavdiff.denoise(picture(2, 8, 8), 0.1, model=gray), "got 2"),
        (lambda: wavdiff.denoise(picture(8, 8), 0.1, model=gray), r"\(8, 8\)"),
        (lambda: wavdiff.upscale(x, 1, model=gray), "got 1"),
        (lambda: wavdiff.upscale(x, longest=1, model=gray), "longest must be above"),
        (lambda: wavdiff.upscale(x, 2, mode="sample", steps=0, model=gray), "steps"),
        (lambda: wavdiff.sample(gray, n=0), "n must be at least 1, got 0"),
        (lambda: wavdiff.sample(gray, batch_size=0), "batch_size"),
        (lambda: wavdiff.sample(gray, stop_scale=3), "got 3"),
        (lambda: wavdiff.sample(gray, size=(10, 16)), "10"),
        (lambda: wavdiff.load("nowhere"), "nowhere"),
        (lambda: wavdiff.train("no-such-preset"), "no-such-preset"),
    ):
        with pytest.raises(WavdiffError, match=said):
            call()


def test_a_model_for_pictures_of_any_size_draws_only_texture() -> None:
    photos = wavdiff.load("photos")
    with pytest.raises(WavdiffError, match="restores pictures and does not draw them"):
        wavdiff.sample(photos)
    steps = {"lowpass_steps": 2, "detail_steps": 2}
    assert wavdiff.sample(photos, size=(16, 16), texture=True, **steps).shape == (1, 3, 16, 16)
    assert wavdiff.load("faces").draws


# --- the pipeline --------------------------------------------------------------------------------------------------

REMOTE = """
import sys
import torch
from safetensors.torch import save_file
from wavdiff import WaveletCascadePipeline
pipeline = WaveletCascadePipeline.from_pretrained(sys.argv[1])
images = pipeline(batch_size=3, seed=5, output_type="pt").images
save_file({"images": images.contiguous()}, sys.argv[2])
"""


@pytest.mark.slow
def test_a_saved_pipeline_draws_the_same_in_a_fresh_process(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    pipeline = wavdiff.WaveletCascadePipeline.from_pretrained(tiny_model)
    here = pipeline(batch_size=3, seed=5, output_type="pt").images
    assert torch.equal(here, wavdiff.sample(wavdiff.load(tiny_model), n=3, seed=5))
    pipeline.save_pretrained(tmp_path / "saved")
    files = {path.suffix for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert files == {".json", ".safetensors", ".py"}
    assert torch.equal(wavdiff.sample(wavdiff.load(tmp_path / "saved"), n=3, seed=5), here)
    for folder in (tmp_path / "saved", tiny_model):
        done = Fresh(REMOTE, folder, tmp_path / "there.safetensors").end()
        assert done.code == 0, done.err
        assert torch.equal(load_file(tmp_path / "there.safetensors")["images"], here), folder


def test_output_types_of_the_pipeline(tiny_model: Path) -> None:
    pipeline = wavdiff.WaveletCascadePipeline.from_pretrained(tiny_model)
    tensors = pipeline(batch_size=2, output_type="pt").images
    arrays = pipeline(batch_size=2, output_type="np").images
    pictures = pipeline(batch_size=2).images
    assert arrays.shape == (2, 16, 16, 1) and arrays.min() >= 0 and arrays.max() <= 1
    assert np.allclose(arrays[..., 0], (tensors[:, 0].numpy() + 1) / 2)
    for image, array in zip(pictures, arrays, strict=True):
        assert isinstance(image, Image.Image) and image.mode == "L"
        assert np.abs(np.asarray(image) - 255 * array[..., 0]).max() <= 0.51
    (again,) = pipeline(batch_size=2, output_type="pt", return_dict=False)
    assert torch.equal(again, tensors)
    chosen = pipeline(seeds=[1, 0], output_type="pt").images
    assert torch.equal(chosen, tensors.flip(0))
    few = pipeline(num_inference_steps=2, output_type="pt").images
    assert torch.equal(few, wavdiff.sample(wavdiff.load(tiny_model), lowpass_steps=2, detail_steps=2))
    for wrong in ({"output_type": "latent"}, {"batch_size": 0}, {"seeds": []}):
        with pytest.raises(WavdiffError):
            pipeline(**wrong)


def test_generators_of_the_pipeline(tiny_model: Path) -> None:
    pipeline = wavdiff.WaveletCascadePipeline.from_pretrained(tiny_model)

    def drawn(generator: Any, count: int = 2, **more: Any) -> torch.Tensor:
        images: torch.Tensor = pipeline(count, generator=generator, output_type="pt", **more).images
        return images

    def generator(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    one = generator(1)
    first, second = drawn(one), drawn(one)
    assert torch.equal(first, drawn(generator(1))) and not torch.equal(first, second)
    each = drawn([generator(1), generator(2)])
    assert torch.equal(each[0], first[0]) and torch.equal(each[1], drawn(generator(2), 1)[0])
    with pytest.raises(WavdiffError, match="one per image"):
        drawn([generator(1)])
    with pytest.raises(WavdiffError, match="give one of them"):
        drawn(generator(1), seeds=[0])


def test_from_pretrained_takes_what_load_takes(tiny_run: Path) -> None:
    for name in (tiny_run, tiny_run / "model", str(tiny_run)):
        for kind in (wavdiff.WaveletCascade, wavdiff.WaveletCascadePipeline):
            loaded: Any = kind.from_pretrained(name)
            cascade = loaded if isinstance(loaded, WaveletCascade) else loaded.cascade
            assert weights_digest(cascade) == weights_digest(wavdiff.load(name))
    assert weights_digest(wavdiff.WaveletCascade.from_pretrained("faces")) == weights_digest(wavdiff.load("faces"))
    with pytest.raises(WavdiffError, match="no shipped model of that name"):
        wavdiff.WaveletCascadePipeline.from_pretrained("facess")


def test_diffusers_finds_the_pipeline_of_a_folder_and_runs_no_code_unasked(tiny_model: Path, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    own = wavdiff.WaveletCascadePipeline.from_pretrained(tiny_model)
    own.save_pretrained(tmp_path / "saved")
    (tmp_path / "hostile").symlink_to(shutil.copytree(tiny_model, tmp_path / "copy"))
    (tmp_path / "copy" / "pipeline.py").write_text("raise SystemExit('code of the folder ran')")
    for folder in (tiny_model, tmp_path / "saved"):
        theirs = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
        assert type(theirs) is wavdiff.WaveletCascadePipeline
        assert torch.equal(theirs(output_type="pt").images, own(output_type="pt").images)
        with pytest.raises(ValueError, match="trust_remote_code=True"):
            DiffusionPipeline.from_pretrained(folder)
    wavdiff.WaveletCascadePipeline.from_pretrained(tmp_path / "hostile")
    wavdiff.load(tmp_path / "hostile")


def test_any_cascade_can_be_saved_and_loaded(rgb: WaveletCascade, tmp_path: Path) -> None:
    save_model(rgb, tmp_path / "rgb", "# a card")
    loaded = load_cascade(tmp_path / "rgb")
    assert loaded.config["detail_stds"] == [0.1, 0.15] and not loaded.training
    for name, value in rgb.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert torch.equal(wavdiff.sample(loaded), wavdiff.sample(rgb))
    x = torch.from_numpy(scene(11, 6, 1, 3)).permute(2, 0, 1) / 127.5 - 1
    assert torch.equal(api.denoise(x, 0.2, model=loaded), api.denoise(x, 0.2, model=rgb))
    assert (tmp_path / "rgb" / "README.md").read_text() == "# a card"
    scheduler = json.loads((tmp_path / "rgb" / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["sigma_data"] == 1.0


def test_loading_draws_nothing_from_the_global_generator(tiny_model: Path) -> None:
    before = torch.get_rng_state()
    load_cascade(tiny_model)
    assert torch.equal(before, torch.get_rng_state())


def test_weights_that_are_not_finite_are_refused(rgb: WaveletCascade, tmp_path: Path) -> None:
    broken = copy.deepcopy(rgb)
    with torch.no_grad():
        next(broken.parameters()).fill_(float("nan"))
    save_model(broken, tmp_path, "")
    with pytest.raises(WavdiffError, match="not finite"):
        load_cascade(tmp_path)


def test_pictures_of_other_sizes_are_enlarged_without_a_border_effect(tiny_model: Path) -> None:
    """The last columns of a constant picture come out as its middle does."""
    cascade = wavdiff.load(tiny_model)
    cascade.autocast = False
    flat = torch.full((1, 20, 24), 0.3)
    large = wavdiff.upscale(flat, 2, model=cascade)
    middle = large[:, 16:24, 20:28]
    assert large.shape == (1, 40, 48)
    for place in (large[:, :8, :8], large[:, -8:, -8:], large[:, 16:24, -8:]):
        assert torch.allclose(place, middle, atol=1e-5)


def test_noise_beyond_what_a_model_was_trained_for_is_refused(cli: Callable[..., Any], tmp_path: Path) -> None:
    """Networks return anything there: a wrong picture would look like a result."""
    picture = np.full((16, 16, 3), 0.5, dtype=np.float32)
    assert wavdiff.load("photos").noise_max == 0.4
    assert wavdiff.denoise(picture, sigma=0.4).shape == picture.shape
    with pytest.raises(WavdiffError, match=r"sigma is 0\.6 \(153/255\), .* at most 0\.4 \(102/255\)"):
        wavdiff.denoise(picture, sigma=0.6)
    noisy = 0.5 + 0.7 * np.random.default_rng(0).standard_normal((64, 64, 3)).astype(np.float32)
    with pytest.raises(WavdiffError, match="the noise was estimated as"):
        wavdiff.denoise(noisy)
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    outcome = cli("denoise", tmp_path / "a.png", "--sigma", "0.6", "--out", tmp_path / "b.png")
    assert outcome.code != 0 and "at most 0.4 (102/255)" in outcome.err
    assert not (tmp_path / "b.png").exists()


@pytest.mark.slow
def test_a_single_octave_with_too_much_noise_does_not_stop_the_others(cli: Callable[..., Any], tmp_path: Path) -> None:
    noise = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    for _ in range(3):  # blurred: weak in the finest octave, strong in the coarse ones
        noise = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)
    pixels = (128 + 220 * noise[0].permute(1, 2, 0)).clamp(0, 255).byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    outcome = cli("denoise", tmp_path / "a.png", "--out", tmp_path / "b.png")
    assert outcome.code == 0, outcome.err
    assert "octaves with more noise than this model was trained for are cleaned as of 102/255" in outcome.err
    assert np.asarray(Image.open(tmp_path / "b.png")).std() < pixels.std()


def test_a_model_that_does_not_say_takes_any_noise() -> None:
    assert wavdiff.load("fashion").noise_max is None
    assert wavdiff.denoise(np.zeros((32, 32), dtype=np.float32), sigma=0.9, model="fashion").shape == (32, 32)


def test_a_damaged_noise_limit_is_named() -> None:
    settings = dict(wavdiff.load("faces").config)
    for wrong in (0, -1.0, "much"):
        with pytest.raises(WavdiffError, match="noise_max must be a positive number or None"):
            WaveletCascade(**{**{key: value for key, value in settings.items() if key[0] != "_"}, "noise_max": wrong})


@pytest.mark.parametrize("sigma", [0.125, np.float32(0.125), np.array(0.125), torch.tensor([0.125])])
def test_any_number_is_a_level(sigma: Any) -> None:
    cascade, picture = wavdiff.load("photos"), torch.zeros(1, 8, 8)
    assert torch.equal(wavdiff.denoise(picture, sigma, model=cascade), wavdiff.denoise(picture, 0.125, model=cascade))
    with torch.no_grad():
        small, same = (wavdiff.upscale(picture, factor, model=cascade) for factor in (2, np.int64(2)))
    assert torch.equal(small, same) and torch.equal(small, wavdiff.upscale(picture, 2.0, model=cascade))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, m: wavdiff.denoise(x, 0.1, model=m, mode="smaple"), "mode must be mean or sample, got 'smaple'"),
        (lambda x, m: wavdiff.denoise(x, np.array([0.1, 0.2]), model=m), "sigma must be one number"),
        (lambda x, m: wavdiff.denoise(x, "0.1", model=m), "sigma must be one number, got '0.1'"),
        (lambda x, m: wavdiff.denoise(x, 0.1, model=m, seed=1.5), "seed must be a whole number, got 1.5"),
        (lambda x, m: wavdiff.denoise(x, model=m, gain="a"), "gain must be one number, got 'a'"),
        (lambda x, m: wavdiff.upscale(x, 0.5, model=m), "factor must be above 1 and at most 64, got 0.5"),
        (lambda x, m: wavdiff.upscale(x, "2", model=m), "factor must be one number, got '2'"),
        (lambda x, m: wavdiff.sample(m, n=1, seed=-1), "seed must be at least 0, got -1"),
        (lambda x, m: wavdiff.sample(m, n=1.5), "n must be a whole number, got 1.5"),
    ],
)
def test_what_is_no_such_number_is_one_line(call: Any, message: str) -> None:
    with pytest.raises(WavdiffError) as caught:
        call(torch.zeros(1, 8, 8), wavdiff.load("photos"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_vae_that_ships_draws_clothes_from_their_seeds() -> None:
    model = wavdiff.load("fashion-vdvae")
    images = wavdiff.sample(model, n=3, seed=5, temperature=0.8)
    assert images.shape == (3, 1, 32, 32) and float(images[..., :2, :].max()) < 0  # the border is black
    assert float(images[..., 8:24, 8:24].mean()) > float(images.mean()) + 0.1
    assert torch.equal(images[1:2], wavdiff.sample(model, n=1, seed=6, temperature=0.8))
    with pytest.raises(WavdiffError, match="is a hierarchical VAE, no wavelet cascade"):
        wavdiff.denoise(images, 0.1, model="fashion-vdvae")
