"""Pictures of every kind come back as they were, and what is no picture is refused with the rule and the value."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import scene
from PIL import Image

from wavdiff.images.in_memory import LIMIT, as_planes, is_pillow_image
from wavdiff.system.errors import WavdiffError


def returned(image: Any) -> Any:
    """There and back."""
    pictures = as_planes(image)
    return pictures.back(pictures.colour, pictures.alpha, pictures.key)


def integers(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> np.ndarray:
    """Integers of the whole range, both ends included."""
    highest = np.iinfo(dtype).max
    values = np.random.default_rng(seed).integers(0, highest + 1, size=shape, dtype=dtype)
    values.flat[:2] = (0, highest)
    return values


ARRAY_SHAPES = [(9, 7), (9, 7, 1), (9, 7, 2), (9, 7, 3), (9, 7, 4), (2, 9, 7, 1), (2, 9, 7, 3), (2, 9, 7, 4), (1, 1, 3)]


# --- NumPy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ARRAY_SHAPES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "float16", "float32", "float64"])
def test_arrays_come_back(shape: tuple[int, ...], dtype: str) -> None:
    kind = np.dtype(dtype)
    image = integers(shape, np.uint16 if kind.itemsize > 1 else np.uint8)
    image = (image / 65535).astype(kind) if kind.kind == "f" else image.astype(kind)
    before = image.copy()
    result = returned(image)
    assert type(result) is np.ndarray and result.dtype == kind and result.shape == shape
    exact = kind.kind == "u" or kind == np.float16
    np.testing.assert_allclose(result, image, rtol=0, atol=0 if exact else 1e-7)
    np.testing.assert_array_equal(image, before)


def test_every_integer_comes_back() -> None:
    for dtype in (np.uint8, np.uint16):
        every = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(-1, 16)
        np.testing.assert_array_equal(returned(every), every)
        doubled = np.stack([every, every[::-1]], axis=-1)  # as alpha, too
        np.testing.assert_array_equal(returned(doubled), doubled)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_the_planes_hold(dtype: type) -> None:
    highest = 1 if dtype is np.float32 else np.iinfo(dtype).max
    image = np.zeros((2, 3, 4), dtype)
    image[0, 1] = (highest, 0, highest, highest)
    pictures = as_planes(image)
    assert pictures.colour.shape == (1, 3, 2, 3) and pictures.colour.dtype == torch.float32
    assert pictures.colour[0, :, 0, 1].tolist() == [1, -1, 1] and pictures.colour[0, :, 1, 1].tolist() == [-1, -1, -1]
    assert pictures.alpha is not None and pictures.alpha.shape == (1, 1, 2, 3) and pictures.alpha.dtype == torch.float32
    assert pictures.alpha[0, 0].tolist() == [[0, 1, 0], [0, 0, 0]]
    assert pictures.key is None
    gray = as_planes(image[..., 0])
    assert gray.colour.shape == (1, 1, 2, 3) and gray.alpha is None


def test_views_of_any_strides() -> None:
    image = integers((9, 8, 3), np.uint8)
    for view in (image[::-1, ::2], image.transpose(1, 0, 2), np.asfortranarray(image), image[..., ::-1]):
        np.testing.assert_array_equal(returned(view), view)
    image.flags.writeable = False
    np.testing.assert_array_equal(returned(image), image)


@pytest.mark.parametrize("shape", ARRAY_SHAPES)
def test_larger_results(shape: tuple[int, ...]) -> None:
    image = integers(shape, np.uint8)
    pictures = as_planes(image)

    def enlarged(plane: torch.Tensor | None) -> torch.Tensor | None:
        return None if plane is None else plane.repeat_interleave(2, -2).repeat_interleave(2, -1)

    colour = enlarged(pictures.colour)
    assert colour is not None
    rows = 1 if image.ndim == 4 else 0
    expected = image.repeat(2, axis=rows).repeat(2, axis=rows + 1)
    np.testing.assert_array_equal(pictures.back(colour, enlarged(pictures.alpha)), expected)
    if pictures.alpha is not None:
        with pytest.raises(ValueError, match="alpha must be"):
            pictures.back(colour)


def test_alpha_is_kept_unless_another_is_given() -> None:
    image = integers((5, 6, 4), np.uint8)
    pictures = as_planes(image)
    black = torch.full_like(pictures.colour, -1)
    np.testing.assert_array_equal(pictures.back(black)[..., 3], image[..., 3])
    assert pictures.alpha is not None
    assert (pictures.back(black, torch.ones_like(pictures.alpha)) == [0, 0, 0, 255]).all()


def test_integers_are_rounded_and_limited_and_floats_are_not() -> None:
    beyond = torch.tensor([[[[-1.5, 1.5], [2 * 100.4 / 255 - 1, 2 * 100.6 / 255 - 1]]]])
    assert as_planes(np.zeros((2, 2), np.uint8)).back(beyond).tolist() == [[0, 255], [100, 101]]
    assert as_planes(np.zeros((2, 2), np.uint16)).back(beyond)[0].tolist() == [0, 65535]
    np.testing.assert_allclose(as_planes(np.zeros((2, 2), np.float32)).back(beyond)[0], [-0.25, 1.25])
    assert torch.equal(as_planes(torch.zeros(1, 2, 2)).back(beyond), beyond[0])


def test_noise_may_leave_the_range() -> None:
    noisy = 0.5 + 0.9 * np.random.default_rng(0).normal(size=(300, 300))
    assert noisy.min() < -2 and noisy.max() > 3
    np.testing.assert_allclose(returned(noisy), noisy, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), bool), "got bool"),
        (np.zeros((4, 4), np.int64), "uint8 .* got int64"),
        (np.zeros((4, 4), np.int16), "got int16"),
        (np.zeros((4, 4), complex), "got complex128"),
        (np.zeros((4, 4), object), "got object"),
        (np.zeros(4, np.uint8), r"got shape \(4,\)"),
        (np.zeros((1, 1, 4, 4, 3), np.uint8), r"got shape \(1, 1, 4, 4, 3\)"),
        (np.zeros((6, 4, 5), np.uint8), r"got shape \(6, 4, 5\)$"),
        (np.zeros((3, 8, 9), np.uint8), r"got shape \(3, 8, 9\); channels come last"),
        (np.zeros((2, 3, 8, 9), np.uint8), r"got shape \(2, 3, 8, 9\); channels come last"),
        (np.zeros((2, 3, 9, 3), np.uint8), r"is it \(N, H, W, C\) or \(N, C, H, W\)"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (np.zeros((0, 4, 4, 3), np.uint8), "at least one pixel"),
        (np.ma.masked_array(np.zeros((4, 4), np.uint8)), "masked"),
        (np.full((4, 4), np.nan), "16 values are NaN"),
        (np.array([[0.5, np.inf]]), "1 values are NaN or infinite"),
        (np.array([[0.0, 200.0]]), r"in \[0, 1\], got values from 0 to 200; divide by 255"),
        (np.array([[0.0, 60000.0]]), "got values from 0 to 60000; divide by 65535"),
        (np.array([[-100.0, 9.0]]), "got values from -100 to 9$"),
        (np.full((4, 4, 2), [0.5, 1.5]), r"alpha must be in \[0, 1\], got 1.5 to 1.5"),
        (np.full((4, 4, 4), [0.5, 0.5, 0.5, np.nan]), "alpha must be"),
    ],
)
def test_arrays_that_are_no_pictures(image: np.ndarray, message: str) -> None:
    with pytest.raises(WavdiffError, match=f"^picture: .*{message}"):
        as_planes(image, "picture")


# --- torch ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 9, 7), (3, 9, 7), (1, 1, 9, 7), (2, 3, 9, 7)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_come_back(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    image = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 3 - 1.5).to(dtype)
    pictures = as_planes(image)
    assert pictures.colour.shape == image.reshape(-1, *shape[-3:]).shape and pictures.colour.dtype == torch.float32
    assert torch.equal(pictures.colour.reshape(shape), image.float())  # the library's own units
    result = returned(image)
    assert result.dtype == dtype and result.shape == shape
    assert torch.equal(result, image.float().to(dtype))


@pytest.mark.parametrize("shape", [(1, 9, 7), (2, 9, 7), (3, 9, 7), (4, 9, 7), (2, 3, 9, 7), (2, 4, 9, 7)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_integer_tensors_come_back(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    image = torch.from_numpy(integers(shape, np.uint8 if dtype == torch.uint8 else np.uint16))
    assert image.dtype == dtype
    result = returned(image)
    assert result.dtype == dtype and result.shape == shape
    np.testing.assert_array_equal(result.numpy(), image.numpy())


def test_tensors_agree_with_arrays() -> None:
    image = integers((9, 7, 4), np.uint8)
    from_array, from_tensor = as_planes(image), as_planes(torch.from_numpy(image).permute(2, 0, 1))
    assert torch.equal(from_array.colour, from_tensor.colour)
    assert from_array.alpha is not None and from_tensor.alpha is not None
    assert torch.equal(from_array.alpha, from_tensor.alpha)


def test_gradients_stay_outside() -> None:
    image = torch.zeros(1, 4, 4, requires_grad=True)
    pictures = as_planes(image)
    assert not pictures.colour.requires_grad
    assert not pictures.back(pictures.colour.clone().requires_grad_()).requires_grad


def test_a_result_of_other_dtype_returns_to_the_pictures() -> None:
    image = torch.zeros(1, 4, 4, dtype=torch.float64)
    assert as_planes(image).back(torch.ones(1, 1, 4, 4, dtype=torch.bfloat16)).dtype == torch.float64


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 4, 4, dtype=torch.bool), "got torch.bool"),
        (torch.zeros(1, 4, 4, dtype=torch.int64), "got torch.int64"),
        (torch.zeros(1, 4, 4, dtype=torch.complex64), "got torch.complex64"),
        (torch.zeros(4, 4), r"\(C, H, W\) or \(N, C, H, W\), got shape \(4, 4\)"),
        (torch.zeros(1, 1, 1, 4, 4), r"got shape \(1, 1, 1, 4, 4\)"),
        (torch.zeros(8, 9, 3), r"1 \(gray\) or 3 \(RGB\) channels, got 8 .*; channels come first"),
        (torch.zeros(4, 8, 9), "1 .gray. or 3 .RGB. channels, got 4"),
        (torch.zeros(5, 8, 9, dtype=torch.uint8), "1 to 4 channels, got 5"),
        (torch.zeros(1, 0, 4), "at least one pixel"),
        (torch.zeros(0, 1, 4, 4), "at least one pixel"),
        (torch.full((1, 4, 4), torch.nan), "16 values are NaN"),
        (torch.full((1, 4, 4), -torch.inf), "16 values are NaN or infinite"),
        (torch.full((1, 4, 4), 255.0), r"in \[-1, 1\], got values from 255 to 255; divide by 255"),
        (torch.full((1, 4, 4), LIMIT + 1), "got values from 17 to 17"),
    ],
)
def test_tensors_that_are_no_pictures(image: torch.Tensor, message: str) -> None:
    with pytest.raises(WavdiffError, match=f"^image: .*{message}"):
        as_planes(image)


# --- the way back, misused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 1, 4, 4), (1, 4, 4)])
def test_results_of_other_pictures(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"the result must be \(1, 1, H, W\)"):
        as_planes(torch.zeros(1, 4, 4)).back(torch.zeros(shape))


def test_planes_that_the_picture_has_not() -> None:
    back = as_planes(torch.zeros(1, 4, 4)).back
    for name in ("alpha", "key"):
        with pytest.raises(ValueError, match=f"{name}: the picture has none"):
            back(torch.zeros(1, 1, 4, 4), **{name: torch.zeros(1, 1, 4, 4)})


# --- other kinds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("noisy.png", "got str; open a file with PIL.Image.open"),
        (Path("noisy.png"), "Path; open a file with PIL.Image.open"),
        ([[0.1, 0.2]], "got list$"),
        (None, "got NoneType$"),
        (np.float32(0.5), "got float32; numpy.asarray makes an array of it"),
    ],
)
def test_what_is_no_picture_at_all(image: Any, message: str) -> None:
    with pytest.raises(
        WavdiffError, match=f"image must be a Pillow image, a NumPy array or a torch tensor, .*{message}"
    ):
        as_planes(image)


# --- Pillow --------------------------------------------------------------------------------------------------------


def pillow_images() -> dict[str, Image.Image]:
    """One picture of every mode with a picture in it."""
    rgb = Image.fromarray(scene(11, 8, 1, 3))
    gray = Image.fromarray(scene(11, 8, 2))
    alpha = Image.fromarray(integers((11, 8), np.uint8))
    with_alpha, gray_with_alpha = rgb.copy(), gray.copy()
    with_alpha.putalpha(alpha)
    gray_with_alpha.putalpha(alpha)
    return {
        "L": gray,
        "LA": gray_with_alpha,
        "RGB": rgb,
        "RGBA": with_alpha,
        "I;16": Image.fromarray(integers((11, 8), np.uint16)),
        "P": rgb.quantize(16),
        "CMYK": Image.fromarray(integers((11, 8, 4), np.uint8), mode="CMYK"),
        "1": gray.point(lambda v: 255 * (v > 128)).convert("1"),
    }


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "CMYK"])
def test_pillow_images_come_back(mode: str) -> None:
    image = pillow_images()[mode]
    assert is_pillow_image(image)
    result = returned(image)
    assert isinstance(result, Image.Image) and result.mode == image.mode and result.size == image.size
    np.testing.assert_array_equal(np.asarray(result), np.asarray(image))


@pytest.mark.parametrize("mode", ["P", "1"])
def test_pillow_images_of_few_colours_keep_their_picture(mode: str) -> None:
    image = pillow_images()[mode]
    result = returned(image)
    assert isinstance(result, Image.Image) and result.size == image.size
    np.testing.assert_array_equal(np.asarray(result.convert("RGB")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "CMYK"])
def test_pillow_planes_and_larger_results(mode: str) -> None:
    image = pillow_images()[mode]
    pictures = as_planes(image)
    assert pictures.colour.shape == (1, 1 if mode in ("L", "LA", "I;16") else 3, 11, 8)
    assert (pictures.alpha is not None) == ("A" in mode) and (pictures.key is not None) == (mode == "CMYK")

    def doubled(plane: torch.Tensor | None) -> torch.Tensor | None:
        return None if plane is None else plane.repeat_interleave(2, -2).repeat_interleave(2, -1)

    colour = doubled(pictures.colour)
    assert colour is not None
    result = pictures.back(colour, doubled(pictures.alpha), doubled(pictures.key))
    assert result.mode == image.mode and result.size == (16, 22)
    np.testing.assert_array_equal(np.asarray(result), np.asarray(image).repeat(2, axis=0).repeat(2, axis=1))


def test_a_file_opened_with_pillow(tmp_path: Path) -> None:
    pillow_images()["RGB"].save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:  # a subclass of Image, read when it is needed
        assert is_pillow_image(opened)
        np.testing.assert_array_equal(np.asarray(returned(opened)), np.asarray(pillow_images()["RGB"]))
