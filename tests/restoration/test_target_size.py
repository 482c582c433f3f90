"""Enlarging to any size: the next power of two, then one reduction."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import scene
from PIL import Image
from torch import Tensor

from wavdiff import api
from wavdiff.images.disk_array import Plane
from wavdiff.images.resampling import resize
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.restoration import RestorationRequest, restore_file
from wavdiff.restoration import target_size as sizes
from wavdiff.restoration.target_size import power_above, reduce_plane, target_size
from wavdiff.system.errors import WavdiffError

LOCAL = {"kind": "local", "width": 8, "depth": 4, "receptive_field": 7}


@pytest.fixture(scope="module")
def cascade() -> WaveletCascade:
    torch.manual_seed(0)
    made = WaveletCascade((16, 16), 3, "haar", LOCAL, [LOCAL] * 2, 0.5, [0.05, 0.1])
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    made.autocast = False
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("settings", "size", "expected", "power"),
    [
        ({"factor": 3}, (20, 30), (60, 90), 4),
        ({"factor": 1.5}, (21, 30), (32, 45), 2),
        ({"factor": 2.0}, (5, 7), (10, 14), 2),
        ({"factor": 16}, (5, 7), (80, 112), 16),
        ({"longest": 100}, (20, 30), (67, 100), 4),
        ({"longest": 33}, (1, 30), (1, 33), 2),
        ({"size": (1080, 1920)}, (270, 480), (1080, 1920), 4),
        ({"size": (201, 300)}, (20, 30), (201, 300), 16),
    ],
)
def test_sizes_and_the_power_of_two_above(settings: Any, size: Any, expected: Any, power: int) -> None:
    wanted = target_size(RestorationRequest("upscale", **settings), size)
    assert wanted == expected and power_above(wanted, size) == power


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factor": 1}, "factor must be above 1 and at most 64, got 1"),
        ({"factor": float("nan")}, "factor must be above 1 and at most 64, got nan"),
        ({"factor": 1e9}, "factor must be above 1 and at most 64, got 1e\\+09"),
        ({"factor": "3"}, "factor must be one number, got '3'"),
        ({"longest": 30}, "longest must be above 30, the picture's longest side, got 30"),
        ({"longest": 2.5}, "longest must be a whole number, got 2.5"),
        ({"size": (60, 60)}, "size 60x60 has another shape than the picture's 30x20; 60x40 or 90x60 would fit"),
        ({"size": (10, 60)}, "size must be above 30x20, the picture's own, got 60x10"),
        ({"size": 60}, r"size must be \(height, width\), got 60"),
        ({"size": (40, 60), "longest": 60}, "give one of them"),
        ({"size": (4 * 10**6, 6 * 10**6)}, "at most 1000000 pixels"),
        ({"factor": 3, "samples": 4}, "samples are mapped by octaves, which powers of two have"),
    ],
)
def test_what_does_not_enlarge_is_refused(settings: Any, message: str) -> None:
    with pytest.raises(WavdiffError, match=message):
        target_size(RestorationRequest("upscale", **settings), (20, 30))


def test_bands_reduce_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand(3, 80, 60, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plane = Plane(3, 80, 60, in_memory=True)
    plane.write(sizes.Rectangle(0, 80, 0, 60), image)
    bands = sizes.bands
    for rows in (1000, 7, 1):
        monkeypatch.setattr(sizes, "bands", lambda size, _, rows=rows: bands(size, rows))
        made = torch.full((3, 57, 43), float("nan"))
        reduce_plane(plane, (57, 43), lambda where, values, made=made: where.of(made).copy_(values))  # type: ignore[misc]
        torch.testing.assert_close(made, resize(image, (57, 43), "lanczos"), rtol=0, atol=2e-6)
    plane.close()


@pytest.mark.parametrize("mode", ["mean", "sample"])
def test_any_factor_is_the_next_power_reduced(cascade: WaveletCascade, mode: Any) -> None:
    small = torch.from_numpy(scene(20, 28, channels=3, seed=1)).permute(2, 0, 1).float() / 127.5 - 1
    steps = 2 if mode == "sample" else None
    made: Tensor = api.upscale(small, 3, model=cascade, mode=mode, steps=steps, seed=4)
    large = api.upscale(small, 4, model=cascade, mode=mode, steps=steps, seed=4)
    assert made.shape == (3, 60, 84)
    torch.testing.assert_close(made, resize(large, (60, 84), "lanczos"), rtol=0, atol=1e-5)
    assert torch.equal(api.upscale(small, longest=84, model=cascade, mode=mode, steps=steps, seed=4), made)
    assert torch.equal(api.upscale(small, size=(60, 84), model=cascade, mode=mode, steps=steps, seed=4), made)


def test_beyond_the_model_it_enlarges_in_stages(cascade: WaveletCascade) -> None:
    small = torch.rand(3, 9, 11, generator=torch.Generator().manual_seed(0)) - 0.5
    made = api.upscale(small, 8, model=cascade)
    again = api.upscale(api.upscale(small, 4, model=cascade), 2, model=cascade)
    torch.testing.assert_close(made, again, rtol=0, atol=1e-6)
    draws = [api.upscale(small, 8, model=cascade, mode="sample", steps=2, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_a_file_with_opacity_and_16_bits(cascade: WaveletCascade, tmp_path: Path) -> None:
    array = np.zeros((20, 30, 4), dtype=np.uint8)
    array[:, 15:] = (200, 40, 40, 255)
    Image.fromarray(array).save(tmp_path / "a.png")
    told: list[tuple[int, int]] = []
    request = RestorationRequest("upscale", factor=1.5)
    result = restore_file(
        cascade, tmp_path / "a.png", tmp_path / "b.png", request, progress=lambda *done: told.append(done)
    )
    assert result.messages == ["enlarged by 2, then reduced to 45x30; block means are kept by powers of two only"]
    assert told[-1][0] == told[-1][1] and told == sorted(told)
    made = np.array(Image.open(tmp_path / "b.png"))
    assert made.shape == (30, 45, 4)
    assert (made[:, :19, 3] == 0).all() and (made[:, 26:, 3] == 255).all()
    deep = (np.random.default_rng(0).random((20, 30)) * 65535).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "d.png")
    restore_file(cascade, tmp_path / "d.png", tmp_path / "e.png", RestorationRequest("upscale", longest=100))
    with Image.open(tmp_path / "e.png") as picture:
        assert picture.size == (100, 67) and picture.mode.startswith("I")
