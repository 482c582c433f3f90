"""Looking inside: rows of Jacobians are those of closed forms, and reports say what was measured."""

import io
import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
import torch
from conftest import Outcome, scene
from gaussian import GaussianCascade, wiener
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from wavdiff.evaluation.inspection import InspectionRequest, Place, describe, inspect_picture, planned_files
from wavdiff.evaluation.inspection import jacobian as rows
from wavdiff.evaluation.inspection.drawings import View, draw_filters, half_width
from wavdiff.evaluation.inspection.jacobian import pixel_rows
from wavdiff.evaluation.inspection.pixels import choose_places
from wavdiff.evaluation.inspection.recorded import RecordedWalk, reach
from wavdiff.evaluation.tables import for_terminal
from wavdiff.models import wavelets
from wavdiff.models.cascade.denoising import Coarse, Denoised
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.noise import SIGMA_MAX
from wavdiff.models.cascade.verbs import CascadeVerbs
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import one_line

Cli = Callable[..., Outcome]
LEVEL = 0.2


class LinearDenoiser:
    """Details or low-pass image by a fixed linear map of each channel; the coarse image is left alone."""

    std, top, mean_draws = 1.0, SIGMA_MAX, 0

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def denoise(self, noisy: Tensor, level: Tensor, coarse: Coarse | None = None) -> Denoised:
        return Denoised(self.function(noisy), None if coarse is None else coarse.estimate)


class LinearWalk(CascadeVerbs):
    """A cascade of linear denoisers."""

    wavelet = "haar"

    def __init__(self, lowpass: Callable[[Tensor], Tensor], *details: Callable[[Tensor], Tensor]) -> None:
        self.lowpass = LinearDenoiser(lowpass)
        self.details = [LinearDenoiser(function) for function in details]


def local_cascade(channels: int = 1, seed: int = 0) -> WaveletCascade:
    """Random local networks of receptive fields 5 (low-pass), 3 (coarser details) and 7 (finest)."""
    torch.manual_seed(seed)

    def network(field: int) -> dict[str, Any]:
        return {"kind": "local", "width": 8, "depth": 4, "receptive_field": field}

    cascade = WaveletCascade((16, 16), channels, "haar", network(5), [network(7), network(3)], 0.5, [0.1, 0.2])
    for module in cascade.modules():
        if isinstance(module, nn.Conv2d):  # fresh networks answer zero
            nn.init.normal_(module.weight, std=0.3)
    return cascade.double().eval()


def noisy_picture(height: int, width: int, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(height + width)
    return 0.3 * torch.randn(1, channels, height, width, generator=generator, dtype=torch.float64)


def box(image: Tensor) -> Tensor:
    """Means over 3x3."""
    return functional.avg_pool2d(image, 3, stride=1, padding=1)


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_rows_of_the_exact_posterior_mean_are_those_of_the_wiener_filter(wavelet: str) -> None:
    cascade = GaussianCascade(wavelet=wavelet)
    place = Place(3, 5)
    found = pixel_rows(cascade, cascade.draw(1), LEVEL, place)
    exact = wiener(cascade.covariance, LEVEL)[3 * 8 + 5].reshape(8, 8)
    torch.testing.assert_close(found.whole.values, exact, rtol=1e-6, atol=1e-9)
    assert found.whole.sum == pytest.approx(float(exact.sum()), rel=1e-6)
    assert found.whole.noise_gain == pytest.approx(float(exact.square().sum()), rel=1e-6)
    low = wiener(cascade.coarse_covariances[-1], LEVEL / 4)[0 * 2 + 1].reshape(2, 2)
    torch.testing.assert_close(found.lowpass.values, low, rtol=1e-6, atol=1e-9)
    assert found.lowpass.centre == (0, 1)
    # A posterior covariance is symmetric, and differences of a linear map are exact.
    assert found.whole.asymmetry == pytest.approx(0, abs=1e-8) and found.lowpass.asymmetry == pytest.approx(0, abs=1e-8)
    # Its details are estimated from what was observed alone.
    assert all(not own.coarse.values.any() and own.observed is not None for own in found.details)


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_detail_rows_of_an_exact_cascade(wavelet: str) -> None:
    """Details given an exact coarse image: d^ = R x + G (d - R x), so rows are those of G and of (1 - G) R."""
    cascade = GaussianCascade(conditioning_augmentation=False, wavelet=wavelet)
    place = Place(6, 1)
    found = pixel_rows(cascade, cascade.draw(1, seed=3), LEVEL, place)
    for scale, own in enumerate(found.details):
        side = 4 // 2**scale
        details = cascade.details[scale]
        gain = wiener(details.conditional, LEVEL / 2 ** (scale + 1))
        basis = torch.eye(3 * side**2, dtype=torch.float64).reshape(-1, 3, side, side)
        pick = wavelets.join(torch.zeros(len(basis), 1, side, side, dtype=torch.float64), basis, wavelet)
        pick = pick[:, 0, 6 >> scale, 1 >> scale]  # what each coefficient gives to the pixel
        coarse = pick @ (torch.eye(len(gain), dtype=torch.float64) - gain) @ details.regression
        torch.testing.assert_close(own.coarse.values, coarse.reshape(side, side), rtol=1e-6, atol=1e-9)
        # As a picture of x_k: what the pixel gains where pixels of the noisy x_k grow.
        picture = torch.eye(4 * side**2, dtype=torch.float64).reshape(-1, 1, 2 * side, 2 * side)
        noisy = wavelets.split(picture, wavelet)[1].flatten(1) @ (pick @ gain)
        torch.testing.assert_close(own.noisy.values, noisy.reshape(2 * side, 2 * side), rtol=1e-6, atol=1e-9)
        assert own.noisy.sum == pytest.approx(0, abs=1e-9) and own.observed is None


def test_details_that_are_left_alone_let_three_quarters_of_the_noise_through() -> None:
    walk = LinearWalk(lambda x: x, lambda d: d)
    found = pixel_rows(walk, noisy_picture(12, 10), LEVEL, Place(5, 4))
    assert found.details[0].noisy.noise_gain == pytest.approx(0.75)
    assert found.details[0].noisy.values[5, 4] == pytest.approx(0.75)
    assert found.whole.noise_gain == pytest.approx(1) and found.whole.effective_pixels == pytest.approx(1)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_box_filter_averages_nine_pixels(channels: int) -> None:
    found = pixel_rows(LinearWalk(box), noisy_picture(11, 9, channels), LEVEL, Place(4, 6))
    expected = torch.zeros(11, 9, dtype=torch.float64)
    expected[3:6, 5:8] = 1 / 9
    torch.testing.assert_close(found.whole.values, expected)
    assert found.whole.effective_pixels == pytest.approx(9)
    assert found.whole.asymmetry == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_constant_is_what_no_filter_explains(channels: int) -> None:
    noisy = noisy_picture(11, 9, channels)
    found = pixel_rows(LinearWalk(lambda x: x), noisy, LEVEL, Place(4, 6))
    assert found.whole.constant == pytest.approx(0, abs=1e-12)
    # 0.2 in library units are 0.1 of the range; halved around black, nothing is added.
    lighter = pixel_rows(LinearWalk(lambda x: x + 0.2), noisy, LEVEL, Place(4, 6))
    darker = pixel_rows(LinearWalk(lambda x: (x + 1) / 2 - 1, lambda d: d / 2), noisy, LEVEL, Place(4, 6))
    assert lighter.whole.constant == pytest.approx(0.1) and lighter.lowpass.constant == pytest.approx(0.1)
    assert darker.whole.constant == pytest.approx(0, abs=1e-12) and darker.whole.sum == pytest.approx(0.5)
    # Details that look at no coarse image have zero rows by it, and none by what they were not given.
    assert not darker.details[0].coarse.values.any() and darker.details[0].observed is None


def test_asymmetry_of_a_known_matrix() -> None:
    """A shift by one pixel: row and column have nothing in common."""
    found = pixel_rows(LinearWalk(lambda x: x.roll(1, dims=-1)), noisy_picture(6, 6), LEVEL, Place(2, 3))
    assert found.whole.asymmetry == pytest.approx(1)
    assert found.whole.values[2, 2] == 1 and found.whole.sum == 1
    half = pixel_rows(LinearWalk(lambda x: x + x.roll(1, dims=-1)), noisy_picture(6, 6), LEVEL, Place(2, 3))
    assert half.whole.asymmetry == pytest.approx((2 / 4) ** 0.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_agree_with_finite_differences_of_the_walk(channels: int) -> None:
    cascade = local_cascade(channels)
    noisy = noisy_picture(22, 27, channels)  # no multiple of 4
    place = Place(13, 8)
    found = pixel_rows(cascade, noisy, LEVEL, place)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        change = torch.randn(22, 27, generator=generator, dtype=torch.float64)
        ends = [RecordedWalk(cascade, gradients=False).run(noisy + sign * 1e-5 * change, LEVEL)[-1] for sign in (1, -1)]
        slope = (ends[0] - ends[1])[..., 13, 8].mean() / 2e-5
        top, left = found.whole.origin
        height, width = found.whole.values.shape
        inside = (found.whole.values * change[top : top + height, left : left + width]).sum()
        assert float(inside) == pytest.approx(float(slope), rel=1e-6)


def test_rows_of_local_networks_end_at_the_receptive_field() -> None:
    cascade = local_cascade()
    found = pixel_rows(cascade, noisy_picture(96, 96), LEVEL, Place(50, 45))

    def extent(values: Tensor) -> list[tuple[int, int]]:
        return [(int(axis.min()), int(axis.max())) for axis in values.nonzero(as_tuple=True)]

    def around(row: rows.Row, half: int) -> list[tuple[int, int]]:
        centre = [c - o for c, o in zip(row.centre, row.origin, strict=True)]
        return [(c - half, c + half) for c in centre]

    assert extent(found.lowpass.values) == around(found.lowpass, 2)
    for scale, half in ((0, 3), (1, 1)):
        own = found.details[scale]
        assert own.observed is not None
        assert extent(own.coarse.values) == around(own.coarse, half)
        assert extent(own.observed.values) == around(own.observed, half)
        # Details of Haar: each coefficient stands for 2x2 pixels.
        cells = [(2 * low, 2 * high + 1) for low, high in around(own.coarse, half)]
        assert extent(own.noisy.values) == cells
    radius = reach(cascade)
    assert radius == 3 * 2 + 1 * 4 + 2 * 4 + 4
    for low, high in extent(found.whole.values):
        assert high - low <= 2 * radius


@pytest.mark.parametrize("place", [Place(31, 40), Place(0, 0), Place(60, 66)])
def test_a_window_gives_the_rows_of_the_whole_picture(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    cascade = local_cascade()
    noisy = noisy_picture(61, 67)
    part = pixel_rows(cascade, noisy, LEVEL, place)
    monkeypatch.setattr(rows, "reach", lambda cascade: None)
    whole = pixel_rows(cascade, noisy, LEVEL, place)
    assert part.whole.values.shape < whole.whole.values.shape == (61, 67)

    def padded(row: rows.Row, size: torch.Size) -> Tensor:
        result = row.values.new_zeros(size)
        (top, left), (height, width) = row.origin, row.values.shape
        result[top : top + height, left : left + width] = row.values
        return result

    pairs = [(part.whole, whole.whole), (part.lowpass, whole.lowpass)]
    for a, b in zip(part.details, whole.details, strict=True):
        assert a.observed is not None and b.observed is not None
        pairs += [(a.noisy, b.noisy), (a.coarse, b.coarse), (a.observed, b.observed)]
    for one, other in pairs:
        assert one.centre == other.centre
        torch.testing.assert_close(padded(one, other.values.shape), other.values, rtol=1e-9, atol=1e-13)
        assert one.asymmetry == pytest.approx(other.asymmetry, rel=1e-6) if one.asymmetry is not None else True


def test_the_recorded_walk_is_the_walk() -> None:
    cascade = local_cascade(3)
    noisy = noisy_picture(20, 24, 3)
    walk = RecordedWalk(cascade, gradients=False)
    cascade.autocast = False
    for one, other in zip(
        walk.run(noisy, LEVEL), cascade.denoise_walk(noisy, torch.tensor([LEVEL], dtype=torch.float64)), strict=True
    ):
        assert torch.equal(one, other)
    assert [call.noise_level for call in walk.calls] == pytest.approx([LEVEL / 4, LEVEL / 4, LEVEL / 2])
    pyramid = wavelets.decompose(noisy, 2)
    for call, given in zip(walk.calls, (pyramid.coarse, *reversed(pyramid.details)), strict=True):
        assert torch.equal(call.noisy, given)


# --- a picture --------------------------------------------------------------------------------------------------------


def test_energies_of_known_denoisers() -> None:
    walk = LinearWalk(lambda x: x, lambda d: d / 2, lambda d: 0 * d)
    picture = torch.from_numpy(scene(40, 36, 1)).float()[None] / 127.5 - 1
    seen = inspect_picture(walk, picture, InspectionRequest(sigma=0.05, seed=4, places=((3, 4),)))
    low, coarse, fine = seen.scales
    assert (low.kept, coarse.kept, fine.kept) == pytest.approx((1, 0, 0.25))
    assert low.residual_rms == 0 and coarse.residual_rms == pytest.approx(coarse.noisy_rms)
    assert fine.residual_rms == pytest.approx(fine.noisy_rms / 2)
    # Library units are twice those of --sigma; noise halves with every scale.
    assert [scale.noise_level for scale in seen.scales] == pytest.approx([0.025, 0.025, 0.05])
    assert [scale.noise_level_unit for scale in seen.scales] == pytest.approx([0.0125, 0.0125, 0.025])
    # The noise itself: what is removed where details are dropped that hold no picture.
    flat = inspect_picture(walk, torch.zeros(1, 128, 128), InspectionRequest(sigma=0.05))
    assert flat.scales[1].residual_sigma == pytest.approx(0.05, rel=0.05) and flat.scales[1].clean_rms == 0
    assert flat.psnr[-1][0] == pytest.approx(-20 * np.log10(0.05), abs=0.2)
    # All noise removed, or all of it left; of noise halved, a half of its energy is neither.
    assert flat.scales[0].balance == pytest.approx(1, rel=0.2) and flat.scales[1].balance == pytest.approx(1, rel=0.1)
    assert flat.scales[2].balance == pytest.approx(0.5, rel=0.1)
    # One pass of identity: the denoised x_J is the noisy one.
    assert torch.equal(seen.noisy_walk[0], seen.denoised_walk[0]) and seen.psnr[0][0] == seen.psnr[0][1]


def test_noise_depends_on_the_seed_alone() -> None:
    picture = torch.zeros(1, 16, 16)
    walk = LinearWalk(box)
    first, again, other = (
        inspect_picture(walk, picture, InspectionRequest(seed=seed, places=((2, 2),))).noisy for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_gray_and_colour_pictures_for_gray_and_colour_cascades() -> None:
    for channels in (1, 3):
        cascade = local_cascade(channels).float()
        for planes in (1, 3):
            picture = torch.from_numpy(scene(24, 20, 2, planes)).float().reshape(24, 20, planes) / 127.5 - 1
            seen = inspect_picture(cascade, picture.permute(2, 0, 1), InspectionRequest(places=((7, 9),)))
            shown = max(channels, planes)
            assert seen.denoised_walk[-1].shape == seen.noisy.shape == (shown, 24, 20)
            assert seen.rows[0].whole.values.ndim == 2


def test_places_are_where_they_are_said_to_be() -> None:
    picture = torch.zeros(1, 60, 90)
    picture[:, :, 30:] = 0.5  # an edge of 0.5 between columns 29 and 30
    generator = torch.Generator().manual_seed(0)
    picture[:, 30:, 60:] += 0.1 * torch.randn(30, 30, generator=generator)
    found = {place.reason: place for place in choose_places(picture)}
    flat, edge, texture = (found[name] for name in ("flattest place", "strongest edge", "most textured spot"))
    assert flat.column < 25 or 35 < flat.column < 56
    assert edge.column in (29, 30)
    assert texture.row >= 30 and texture.column >= 60
    assert [place.reason for place in choose_places(torch.zeros(3, 5, 4))] == [
        "flattest place and strongest edge and most textured spot"
    ]
    assert len(choose_places(torch.rand(1, 1, 1))) == 1


@pytest.mark.parametrize(
    "request_settings, picture, rule",
    [
        ({"sigma": 15}, (1, 8, 8), "did you mean 15/255"),
        ({"sigma": 0}, (1, 8, 8), "above 0"),
        ({"seed": -1}, (1, 8, 8), "--seed"),
        ({"places": ((8, 0),)}, (1, 8, 8), "rows 0 to 7 and columns 0 to 7, got 8,0"),
        ({"places": ((0, 0),) * 10}, (1, 8, 8), "9 times"),
        ({}, (2, 8, 8), "C = 1 or 3"),
        ({}, (1, 513, 512), "at most 262,144 pixels"),
    ],
)
def test_what_cannot_be_inspected(request_settings: Any, picture: tuple[int, ...], rule: str) -> None:
    with pytest.raises(WavdiffError, match=rule.replace("(", r"\(")):
        inspect_picture(LinearWalk(box), torch.zeros(picture), InspectionRequest(**request_settings))


def test_a_local_cascade_takes_larger_pictures() -> None:
    with pytest.raises(WavdiffError, match="at most 1,000,000 pixels, got 1001x1000"):
        inspect_picture(local_cascade(), torch.zeros(1, 1001, 1000))


# --- pictures ---------------------------------------------------------------------------------------------------------


def row_of(values: Tensor, origin: tuple[int, int], centre: tuple[int, int]) -> rows.Row:
    return rows.Row(values, origin, centre, float(values.sum()), float(values.square().sum()))


def test_a_view_shows_what_lies_there() -> None:
    image = torch.arange(35.0).reshape(1, 5, 7)
    seen = View(2, 3, 1).cut(image)
    assert torch.equal(seen, image[:, 1:4, 2:5])
    corner = View(0, 6, 2).cut(image)[0]
    assert torch.equal(corner[2:, :3], image[0, :3, 4:])
    assert bool(corner[:2].isnan().all()) and bool(corner[:, 3:].isnan().all())
    # A part of an image, cut by places of the whole.
    assert torch.equal(View(2, 3, 1).cut(image[:, 1:, 2:], (1, 2)), seen)
    assert bool(View(40, 40, 1).cut(image).isnan().all())


def test_filters_are_magnified_to_where_their_energy_lies() -> None:
    values = torch.zeros(101, 91)
    values[50, 40] = 1
    assert half_width(row_of(values, (0, 0), (50, 40))) == 7
    assert half_width(row_of(torch.zeros(9, 9), (0, 0), (4, 4))) == 7
    values[50 - 12, 40] = 0.5
    assert half_width(row_of(values, (0, 0), (50, 40))) == 12
    assert half_width(row_of(values[20:, 10:], (20, 10), (50, 40))) == 12
    values[100, 40] = 0.5
    assert half_width(row_of(values, (0, 0), (50, 40))) == 32


def test_drawn_filters_are_white_at_zero_and_red_above() -> None:
    pytest.importorskip("matplotlib")
    walk = LinearWalk(lambda x: x)
    seen = inspect_picture(walk, torch.zeros(1, 31, 31), InspectionRequest(places=((15, 15),)))
    with Image.open(io.BytesIO(draw_filters(seen))) as image:
        drawn = np.array(image.convert("RGB")).astype(int)
    width = drawn.shape[1] // 4
    last = drawn[:, 3 * width :]
    red = (last[..., 0] > 80) & (last[..., 1] < 20) & (last[..., 2] < 60)
    blue = (last[..., 2] > last[..., 0] + 60) & (last[..., 2] > 80)
    assert red.sum() > 30 and not blue.any()
    # All but the pixel itself is white, or nearly.
    assert (last.min(axis=2) > 240).mean() > 0.85


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_says_what_the_cascade_is() -> None:
    cascade = local_cascade(3)
    table = describe(cascade, "mine")
    assert [scale.name for scale in table.scales] == ["low", "1", "0"]
    assert [scale.receptive_field for scale in table.scales] == [5, 3, 7]
    assert table.parameters == sum(parameter.numel() for parameter in cascade.parameters())
    assert table.multiply_adds_per_pixel == pytest.approx(cascade.multiply_adds_per_pixel())
    assert [scale.std for scale in table.scales] == [0.5, 0.2, 0.1]
    assert [scale.grid for scale in table.scales] == [(4, 4), (4, 4), (8, 8)]
    text = table.as_markdown()
    assert "| low-pass | x_2, 4x4 | local |" in text and "| details 0 | x_0, 16x16 | local |" in text
    assert "7x7 | 14 |" in text and "3x3 | 12 |" in text and "5x5 | 20 |" in text
    assert json.loads(json.dumps(table.as_json()))["scales"][2]["receptive_field"] == 7


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small RGB picture of sides that are not multiples of 4."""
    path = tmp_path_factory.mktemp("to inspect") / "some picture.png"
    Image.fromarray(scene(30, 41, 3, 3)).save(path)
    return path


def test_the_command_without_a_picture(cli: Cli, tiny_model: Path) -> None:
    said = cli("inspect", tiny_model)
    assert said.code == 0 and "whole image" in said.out and "|" not in said.out
    assert re.search(r"^low-pass +x_2, 4x4 +global ", said.out, re.MULTILINE)
    numbers = json.loads(cli("inspect", tiny_model, "--json").out)
    assert numbers["image_size"] == [16, 16] and len(numbers["scales"]) == 3


@pytest.mark.slow
def test_the_command_writes_what_it_says(cli: Cli, tiny_model: Path, picture: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "inside"
    arguments = ("inspect", tiny_model, picture, "--sigma", "25/255", "--out", out)
    said = cli(*arguments)
    assert said.code == 0, said.err
    numbers = json.loads((out / "inspection.json").read_text())
    count = len(numbers["pixels"])
    assert sorted(path.name for path in out.iterdir()) == sorted(planned_files(count)) and count > 1
    for path in out.glob("*.png"):
        with Image.open(path) as image:
            image.load()
            assert min(image.size) > 200
    assert (
        said.out == for_terminal((out / "inspection.md").read_text()) + "\n" and "some picture.png, 30x41" in said.out
    )
    assert numbers["sigma"] == pytest.approx(25 / 255) and numbers["picture"]["channels"] == 3
    for pixel in numbers["pixels"]:
        assert f"row {pixel['row']}, column {pixel['column']} ({pixel['reason']})" in said.out
        assert re.search(f"{pixel['whole_walk']['sum']:.3f} +{pixel['whole_walk']['noise_gain']:.4f} ", said.out)

    refused = cli(*arguments)
    assert refused.code == 1 and "exists" in refused.err and len(refused.err.splitlines()) == 1
    again = cli(*arguments, "--overwrite", "--pixel", "29,40", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out) == json.loads((out / "inspection.json").read_text())
    assert [(p["row"], p["column"]) for p in json.loads(again.out)["pixels"]] == [(29, 40)]
    # Nothing is left of the pixels of the earlier run.
    assert sorted(path.name for path in out.iterdir()) == sorted(planned_files(1))


@pytest.mark.parametrize(
    "arguments, rule",
    [
        (["--sigma", "15"], "did you mean 15/255 = 0.059?"),
        (["--sigma", "0"], "above 0"),
        (["--sigma", "many"], "a noise level is a number"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--pixel", "30,0"], "rows 0 to 29 and columns 0 to 40, got 30,0"),
        (["--pixel", "3"], "--pixel is ROW,COL"),
        (["--pixel", "-1,4"], "--pixel is ROW,COL"),
        (["--pixel", "1,2,3"], "--pixel is ROW,COL"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    cli: Cli, tiny_model: Path, picture: Path, tmp_path: Path, arguments: list[str], rule: str
) -> None:
    said = cli("inspect", tiny_model, picture, "--out", tmp_path / "out", *arguments)
    assert said.code == 1 and rule in said.err and len(said.err.splitlines()) == 1 and not said.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [["--sigma", "0.1"], ["--pixel", "1,1"], ["--out", "x"], ["--seed", "1"]])
def test_options_of_pictures_need_a_picture(cli: Cli, tiny_model: Path, option: list[str]) -> None:
    said = cli("inspect", tiny_model, *option)
    assert said.code == 1 and f"{option[0]} needs an IMAGE" in said.err and len(said.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["missing", "folder", "text", "empty", "pipe", "null-device", "long-name"])
def test_files_that_are_no_pictures(cli: Cli, tiny_model: Path, tmp_path: Path, name: str) -> None:
    path = hostile.special_file(name, tmp_path, random.Random(0))
    before = hostile.listing(tmp_path)
    said = cli("inspect", tiny_model, path, "--out", tmp_path / "out")
    assert said.code == 1 and str(path) in said.err and len(said.err.splitlines()) == 1
    assert hostile.listing(tmp_path) == before


@pytest.mark.parametrize("name", [name for name in hostile.odd_pictures() if not name.startswith(("row.", "column."))])
def test_odd_pictures_are_inspected_or_refused(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("wavdiff.evaluation.inspection.inspection_report.draw_all", lambda seen: {})
    path = tmp_path / name
    path.write_bytes(hostile.odd_pictures()[name])
    said = cli("inspect", tiny_model, path, "--out", tmp_path / "out")
    if said.code:
        assert said.code == 1 and str(path) in said.err and len(said.err.splitlines()) == 1
        assert not (tmp_path / "out").exists()
    else:
        json.loads((tmp_path / "out" / "inspection.json").read_text())


@pytest.mark.parametrize("name", [b"a\nb.png", b"\xff.png", b"# [x](y) | z.png"])
def test_names_that_are_no_text(
    cli: Cli, tiny_model: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    monkeypatch.setattr("wavdiff.evaluation.inspection.inspection_report.draw_all", lambda seen: {})
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(picture.read_bytes())
    said = cli("inspect", tiny_model, path, "--out", tmp_path / "out", "--pixel", "3,4")
    assert said.code == 0, said.err
    assert one_line(path.name) in (tmp_path / "out" / "inspection.md").read_text(encoding="utf-8")


def test_pictures_that_are_too_large_and_folders_that_are_files(
    cli: Cli, tiny_model: Path, picture: Path, tmp_path: Path
) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (600, 500)).save(path)
    said = cli("inspect", tiny_model, path, "--out", tmp_path / "out")
    assert said.code == 1 and f"{path}: a picture to inspect has at most 262,144 pixels" in said.err
    said = cli("inspect", tiny_model, picture, "--out", path)
    assert said.code == 1 and "is a file, not a folder" in said.err
    said = cli("inspect", tmp_path / "none")
    assert said.code == 1 and "no such folder" in said.err


def test_without_matplotlib_it_says_so_at_once(
    cli: Cli, tiny_model: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    said = cli("inspect", tiny_model, picture, "--out", tmp_path / "out")
    assert said.code == 1 and "wavdiff[evaluation]" in said.err and not list(tmp_path.iterdir())
