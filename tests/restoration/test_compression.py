"""JPEG files that were saved again as something else, and those that only look like it."""

import io

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from wavdiff.images.rectangle import Rectangle
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.restoration import RestorationRequest, restore_file
from wavdiff.restoration.compression import was_compressed
from wavdiff.restoration.octave_noise import flat_windows


def noisy(name: str, sigma: float) -> np.ndarray:
    clean = getattr(skimage.data, name)()
    return np.clip(clean + np.random.default_rng(0).normal(0, sigma, clean.shape), 0, 255).round().astype(np.uint8)


def saved_as_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def windows(pixels: np.ndarray) -> Tensor:
    planes = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))).float() / 127.5 - 1

    def read(where: Rectangle) -> Tensor:
        return where.of(planes)

    found = flat_windows(read, (planes.shape[1], planes.shape[2]), 32)
    assert found is not None
    return found


@pytest.mark.parametrize("quality", [50, 75, 92, 97])
@pytest.mark.parametrize(("name", "sigma"), [("coffee", 0), ("coffee", 20), ("camera", 5), ("astronaut", 5)])
def test_a_jpeg_saved_again_is_known_also_where_it_was_cut(name: str, sigma: float, quality: int) -> None:
    pixels = saved_as_jpeg(noisy(name, sigma), quality)
    assert was_compressed(windows(pixels))
    if quality <= 92:
        assert was_compressed(windows(pixels[3:, 5:]))
    later = pixels + np.random.default_rng(1).normal(0, 3, pixels.shape)
    assert not was_compressed(windows(np.clip(later, 0, 255).round().astype(np.uint8)))  # that noise is white


@pytest.mark.parametrize("sigma", [1, 3, 10, 30])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket", "camera", "moon", "brick"])
def test_noise_is_not_taken_for_a_jpeg(name: str, sigma: float) -> None:
    assert not was_compressed(windows(noisy(name, sigma)))


def test_drawings_constants_and_small_pictures_are_not_taken_for_one() -> None:
    bars = np.where(np.arange(256) // 16 % 2, 255, 0).astype(np.uint8)[None].repeat(256, 0)
    page = np.where(skimage.data.page() > 140, 255, 0).astype(np.uint8)
    for pixels in (bars, page, np.full((64, 64, 3), 90, np.uint8), noisy("coffee", 5)[:20, :20]):
        assert not was_compressed(windows(pixels))


def test_denoise_says_jpeg_of_a_png_that_was_one(tmp_path) -> None:
    pixels = saved_as_jpeg(noisy("coffee", 20)[:192, :192], 75)
    messages = []
    for suffix in ("png", "jpg"):
        file = tmp_path / f"picture.{suffix}"
        Image.fromarray(pixels).save(file, **({"quality": 100} if suffix == "jpg" else {}))
        request = RestorationRequest("denoise")
        messages.append(restore_file(load_cascade("photos"), file, tmp_path / f"{suffix}.png", request).messages)
    assert "after JPEG compression" in messages[0][0]
    assert messages[0][0].partition("(")[0][:9] == messages[1][0].partition("(")[0][:9]  # the level, to a whole number
