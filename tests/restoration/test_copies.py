"""Means over turned, mirrored and shifted copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import wavdiff
from wavdiff.images import Planes, plain_info
from wavdiff.images.rectangle import Rectangle, Write, tiles
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.restoration.channels import MemorySource
from wavdiff.restoration.copies import DENOISING, ENLARGING, Copy, copies_of, write_averaged
from wavdiff.restoration.plain import Plain
from wavdiff.restoration.request import RestorationRequest
from wavdiff.restoration.restorer import Restorer
from wavdiff.system.errors import WavdiffError

EVERY = sorted({*DENOISING, *ENLARGING, Copy(3, True, 5)}, key=str)
SIZE = (37, 50)


def picture(size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def plain(image: Tensor) -> Plain:
    def read(where: Rectangle) -> Tensor:
        assert where.is_inside((image.shape[1], image.shape[2]))
        return where.of(image)

    return Plain(read, (image.shape[1], image.shape[2]), 3)


def in_tiles(change: Callable[[Tensor], Tensor], factor: int = 1) -> Callable[[Plain, Write], None]:
    """A restorer that makes of every tile what `change` does."""

    def run(copy: Plain, write: Write) -> None:
        for tile in tiles(copy.size, 300):
            write(tile.scaled(factor), change(copy.read(tile)))

    return run


def averaged(run: Callable[[Plain, Write], None], image: Tensor, copies: tuple[Copy, ...], factor: int = 1) -> Tensor:
    size = (image.shape[1] * factor, image.shape[2] * factor)
    result = torch.full((3, *size), float("nan"))

    def write(where: Rectangle, values: Tensor) -> None:
        assert where.of(result).isnan().all(), "a pixel was written twice"
        where.of(result).copy_(values)

    write_averaged(run, plain(image), copies, size, write, in_memory=True)
    return result


@pytest.mark.parametrize("copy", EVERY, ids=str)
def test_a_copy_is_turned_as_torch_turns_and_comes_back(copy: Copy) -> None:
    image = picture()
    framed = functional.pad(image[None], [copy.shift] * 4, mode="reflect")[0] if copy.shift else image
    expected = torch.rot90(framed.flip(-1) if copy.mirrored else framed, copy.turns, (-2, -1))
    made = copy.of(plain(image))
    assert made.size == tuple(expected.shape[1:])
    inner = Rectangle(copy.shift + 1, made.size[0] - copy.shift - 1, copy.shift + 1, made.size[1] - copy.shift - 1)
    assert torch.equal(made.read(inner), inner.of(expected))  # the frame repeats the border pixel, torch's does not
    assert torch.equal(averaged(in_tiles(lambda values: values), image, (copy,)), image)


@pytest.mark.parametrize("copy", ENLARGING, ids=str)
def test_what_is_enlarged_comes_back_enlarged(copy: Copy) -> None:
    def enlarge(values: Tensor) -> Tensor:
        return values.repeat_interleave(2, -1).repeat_interleave(2, -2)

    image = picture()
    assert torch.equal(averaged(in_tiles(enlarge, 2), image, (copy,), 2), enlarge(image))


def test_qualities_are_numbers_of_different_copies() -> None:
    for factor in (1, 2):
        chosen = {quality: copies_of(quality, factor, may_turn=True) for quality in ("fast", "good", "best")}
        assert [len(set(copies)) for copies in chosen.values()] == [1, 2, 8]
        assert chosen["fast"] == (Copy(),)
        assert chosen["good"] == chosen["best"][:2]
    assert {(copy.turns, copy.mirrored) for copy in DENOISING} == {(t, m) for t in range(4) for m in (False, True)}
    assert {(copy.turns, copy.mirrored) for copy in ENLARGING} == {(t, m) for t in range(4) for m in (False, True)}
    assert copies_of("best", 1, may_turn=False) == (Copy(), Copy(mirrored=True))


def local_cascade() -> WaveletCascade:
    torch.manual_seed(0)
    network = {"kind": "local", "width": 8, "depth": 4, "receptive_field": 9, "activation": "relu"}
    made = WaveletCascade(
        (32, 32),
        3,
        "haar",
        network | {"preactivated": False},
        [network | {"preactivated": False}] * 2,
        0.5,
        [0.08, 0.1],
    ).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    made.autocast = False
    return made.to(memory_format=torch.channels_last)


def restored(cascade: WaveletCascade, image: Tensor, **settings: Any) -> Tensor:
    """The colour that `Restorer` makes."""
    info = plain_info((image.shape[1], image.shape[2]), 3)
    calls: list[tuple[int, int]] = []
    request = RestorationRequest(**settings)
    source = MemorySource(Planes(image, None, None), info)
    work = Restorer(cascade, source, request, lambda *done: calls.append(done), limited=False)
    work.prepare()
    result = torch.full((3, *work.size), float("nan"))
    work.colour(lambda where, values: where.of(result).copy_(values), "mean", 0)
    assert calls[-1][0] == calls[-1][1], "the progress ends at all"
    assert calls == sorted(calls)
    return result


@pytest.mark.isa
@pytest.mark.parametrize("verb", ["denoise", "upscale"])
def test_it_is_the_mean_of_what_the_copies_give_whatever_the_tile(verb: str) -> None:
    cascade, image = local_cascade(), picture((70, 90))
    task: dict[str, Any] = {"verb": verb, **({"sigma": 0.1, "declip": False} if verb == "denoise" else {})}
    best = restored(cascade, image, quality="best", **task)
    order = DENOISING if verb == "denoise" else ENLARGING
    total = torch.zeros_like(best)
    for copy in order:
        turned = copy.of(plain(image))
        one = restored(cascade, turned.read(Rectangle(0, turned.size[0], 0, turned.size[1])), **task)
        copy.back(lambda where, values: where.of(total).add_(values), (best.shape[1], best.shape[2]))(
            Rectangle(0, one.shape[1], 0, one.shape[2]), one
        )
    assert torch.allclose(best, total / len(order), atol=1e-5)
    assert torch.allclose(best, restored(cascade, image, quality="best", memory_bytes=1 << 18, **task), atol=1e-4)
    assert not torch.allclose(best, restored(cascade, image, **task), atol=1e-3)


def test_a_mean_of_copies_forgets_how_the_picture_stood() -> None:
    """Best is the mean over a whole group, so the result for a turned picture is the turned result."""
    cascade, image = local_cascade(), picture((32, 40))
    result = wavdiff.upscale(image, 2, model=cascade, quality="best")
    turned = wavdiff.upscale(torch.rot90(image, 1, (-2, -1)), 2, model=cascade, quality="best")
    assert torch.allclose(torch.rot90(result, 1, (-2, -1)), turned, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (45, 71)])
def test_enlarged_block_means_stay(size: tuple[int, int]) -> None:
    image = picture(size)
    result = wavdiff.upscale(image, 4, model="photos", quality="best")
    assert torch.allclose(functional.avg_pool2d(result[None], 4)[0], image, atol=1e-5)


@pytest.mark.slow
def test_photographs_gain_and_lose_the_grid() -> None:
    import skimage.data

    clean = torch.from_numpy(skimage.data.coffee()[100:228, 200:328]).permute(2, 0, 1) / 127.5 - 1
    noisy = clean + 2 * 25 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    errors = [
        float((wavdiff.denoise(noisy, 25 / 255, quality=quality) - clean).square().mean().log10()) * 10
        for quality in ("fast", "good", "best")
    ]
    assert errors[0] - errors[1] > 0.03
    assert errors[1] - errors[2] > 0.01
    rows, columns = torch.linspace(-0.6, 0.5, 64)[:, None], torch.linspace(-0.2, 0.3, 64)[None]
    ramp = torch.stack([rows + columns, rows - columns, columns - rows])
    grids = []
    for quality in ("fast", "good", "best"):
        large = wavdiff.upscale(ramp, 2, quality=quality)
        smooth = functional.interpolate(ramp[None], scale_factor=2, mode="bilinear")[0]
        error = (large - smooth)[:, 16:-16, 16:-16].unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).mean(dim=(1, 3))
        grids.append(float((error - error.mean(dim=(1, 2), keepdim=True)).square().mean().sqrt()) * 127.5)
    assert grids[1] < 0.6 * grids[0]
    assert grids[2] < 0.4 * grids[0]


def test_a_model_of_upright_pictures_meets_no_turned_ones(tmp_path: Path, cli: Callable[..., Any]) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24), dtype=np.uint8)).save(tmp_path / "a.png")
    done = cli("upscale", tmp_path / "a.png", "--model", "faces", "--quality", "best", "-o", tmp_path / "b.png")
    assert done.code == 0, done.err
    assert "upright" in done.err + done.out


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"quality": "better"}, "fast, good or best"), ({"quality": "good", "samples": 2}, "is for means")],
)
def test_wrong_qualities_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(WavdiffError, match=named):
        RestorationRequest("denoise", sigma=0.1, **settings)


def test_the_command_names_them_too(tmp_path: Path, cli: Callable[..., Any]) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    for wrong in (("--quality", "better"), ("--quality", "good", "--sample"), ("--quality", "best", "--samples", 2)):
        done = cli("denoise", tmp_path / "a.png", "--sigma", 0.1, *wrong)
        assert done.code == 1
        assert "--quality" in done.err
        assert "Traceback" not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
