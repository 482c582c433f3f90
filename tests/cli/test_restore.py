"""`wavdiff restore` as people call it: files in, files out, and one line for every mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Outcome, run_piped, scene
from PIL import Image, ImageOps

import wavdiff
from wavdiff.restoration.operators import Frequencies, Mask
from wavdiff.system.errors import WavdiffError

Cli = Callable[..., Outcome]
CLEAN = scene(64, 64, 3, 3)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture, scratched in three ways, blurred and reduced."""
    folder = tmp_path_factory.mktemp("restore")
    lost = np.zeros((64, 64), dtype=bool)
    lost[20:23] = lost[:, 40:42] = True
    Image.fromarray(CLEAN).save(folder / "clean.png")
    Image.fromarray((255 * lost).astype(np.uint8)).save(folder / "mask.png")
    Image.fromarray(np.where(lost[..., None], np.uint8([255, 0, 255]), CLEAN)).save(folder / "scratched.png")
    alpha = np.where(lost, 0, 255).astype(np.uint8)
    Image.fromarray(np.dstack([np.where(lost[..., None], 0, CLEAN), alpha]).astype(np.uint8)).save(folder / "holes.png")
    padded = np.pad(CLEAN.astype(float), ((3, 3), (3, 3), (0, 0)), mode="reflect")
    blurred = sum(padded[i : i + 64, j : j + 64] for i in range(7) for j in range(7)) / 49
    Image.fromarray(blurred.round().astype(np.uint8)).save(folder / "blurred.png")
    Image.fromarray(np.full((7, 7), 255, dtype=np.uint8)).save(folder / "kernel.png")
    Image.fromarray(CLEAN).resize((32, 32), Image.Resampling.BICUBIC).save(folder / "small.png")
    return folder


def decibels(path: Path) -> float:
    with Image.open(path) as image:
        error = np.asarray(image.convert("RGB")).astype(float) - CLEAN
    return float(10 * np.log10(255**2 / (error[4:-4, 4:-4] ** 2).mean()))


def test_lost_pixels_are_filled_in_and_the_others_kept(cli: Cli, files: Path) -> None:
    made = {}
    for name, options in {
        "scratched": ("--colour-lost", "#ff00ff"),
        "holes": (),
        "clean": ("--mask", files / "mask.png"),
    }.items():
        before = (files / f"{name}.png").read_bytes()
        outcome = cli("restore", files / f"{name}.png", "--op", "inpaint", *options)
        assert outcome.code == 0 and "what is known of the picture is met to 0/255 rms" in outcome.err, outcome
        assert (files / f"{name}.png").read_bytes() == before
        made[name] = np.asarray(Image.open(files / f"{name}_restored.png"))
        assert decibels(files / f"{name}_restored.png") > 30
    known = np.asarray(Image.open(files / "mask.png")) == 0
    assert (made["scratched"][known] == CLEAN[known]).all() and (made["scratched"] == made["clean"]).all()
    assert (made["holes"][..., :3] == made["clean"]).all() and (made["holes"][..., 3] == 255).all()


def test_growing_takes_more_away(cli: Cli, files: Path) -> None:
    lost = ("--op", "inpaint", "--mask", files / "mask.png", "--grow", 2)
    assert cli("restore", files / "clean.png", *lost, "--out", files / "grown.png").code == 0
    changed = (np.asarray(Image.open(files / "grown.png")) != CLEAN).any(axis=-1)
    assert changed[18:25].mean() > 0.8 and not changed[30:, :36].any()


def test_a_blurred_picture_is_sharpened(cli: Cli, files: Path) -> None:
    before = decibels(files / "blurred.png")
    outcome = cli(
        "restore", files / "blurred.png", "--op", "deblur", "--kernel", files / "kernel.png", "--noise", "1/255"
    )
    assert outcome.code == 0 and "(noise 1/255)" in outcome.err
    assert decibels(files / "blurred_restored.png") > before + 2


def test_a_reduced_picture_is_enlarged_and_reduces_to_itself(cli: Cli, files: Path) -> None:
    outcome = cli("restore", files / "small.png", "--op", "upscale", "--factor", 2)
    assert outcome.code == 0, outcome
    with Image.open(files / "small_restored.png") as image, Image.open(files / "small.png") as small:
        again = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
        assert image.size == (64, 64) and np.abs(again - np.asarray(small)).max() <= 2
    cli("upscale", files / "small.png")
    assert decibels(files / "small_restored.png") > decibels(files / "small_x2.png")


def test_upscale_is_told_how_the_picture_was_made_small(cli: Cli, files: Path, tmp_path: Path) -> None:
    outcome = cli("upscale", files / "small.png", "--filter", "bicubic", "--out", tmp_path / "a.png")
    assert outcome.code == 0, outcome
    assert cli("restore", files / "small.png", "--op", "upscale", "--out", tmp_path / "b.png").code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    for options, said in {
        ("--size", "100x100"): "--size does not go with --filter bicubic",
        ("--factor", "2.5"): "--factor with --filter must be a whole number",
    }.items():
        outcome = cli("upscale", files / "small.png", "--filter", "bicubic", *options)
        assert outcome.code == 1 and said in outcome.err


def test_draws_their_spread_and_several_at_once(cli: Cli, files: Path, tmp_path: Path) -> None:
    options = ("--op", "inpaint", "--mask", files / "mask.png", "--steps", 2)
    outcome = cli("restore", files / "clean.png", *options, "--samples", 2, "--out", tmp_path / "a.png")
    assert outcome.code == 0, outcome
    std = np.load(tmp_path / "a_std.npy")
    lost = np.asarray(Image.open(files / "mask.png")) > 0
    assert std[lost].min() > 0 and std[~lost].max() == 0
    both = ("restore", files / "clean.png", files / "scratched.png", *options, "--mode", "sample")
    assert cli(*both, "--out", tmp_path / "all").code == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [
        "clean.png",
        "scratched.png",
    ]


def test_blurred_then_reduced(cli: Cli, files: Path, tmp_path: Path) -> None:
    options = ("--op", "deblur+upscale", "--kernel", "gaussian:0.8", "--factor", 3, "--filter", "box")
    assert cli("restore", files / "small.png", *options, "--out", tmp_path / "a.png").code == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (96, 96)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("clean", ("--op", "paint"), "--op must be some of inpaint, deblur, upscale"),
        ("clean", ("--op", "inpaint"), "the picture has no opacity that says what is lost; give --mask or --colour"),
        ("clean", ("--op", "inpaint", "--mask", "kernel.png"), "the mask is 7x7, but the picture is 64x64"),
        ("clean", ("--op", "inpaint", "--colour-lost", "#ff00ff"), "no pixel of the picture is marked as lost"),
        ("clean", ("--op", "inpaint", "--colour-lost", "mauvish"), "a colour is written '#ff00ff' or by its name"),
        ("clean", ("--op", "inpaint", "--mask", "none.png"), "none.png: no such file"),
        ("kernel", ("--op", "inpaint", "--mask", "kernel.png"), "all pixels of the picture are marked as lost"),
        ("clean", ("--op", "deblur"), "--op deblur needs the blur: give --kernel"),
        (
            "clean",
            ("--op", "deblur", "--kernel", "disk:-1"),
            "the size of a disk kernel must be between 0.1 and 127 pixels",
        ),
        ("clean", ("--op", "deblur", "--kernel", "motion:5"), "a kernel is written motion:LENGTH,ANGLE"),
        ("kernel", ("--op", "deblur", "--kernel", "gaussian:5"), "is larger than the picture, 7x7"),
        ("clean", ("--op", "deblur", "--kernel", "disk:2", "--factor", 2), "--factor is of --op upscale"),
        ("clean", ("--op", "upscale", "--filter", "nearest"), "a filter must be one of bicubic, lanczos, box"),
        ("clean", ("--op", "upscale", "--factor", 1), "--factor must be at least 2, got 1"),
        ("clean", ("--op", "upscale", "--noise", 3), "--noise"),
        ("clean", ("--op", "upscale", "--quality", "best"), "restore has no quality, got 'best'; leave it out"),
        ("clean", ("--op", "upscale", "--method", "ascent"), "method ascent has mode sample, got mean"),
        ("clean", ("--op", "upscale", "--factor", 16, "--memory", "256MB"), "are restored as a whole and need about"),
    ],
)
def test_mistakes_are_one_line(cli: Cli, files: Path, monkeypatch: pytest.MonkeyPatch, name, options, said) -> None:
    monkeypatch.chdir(files)
    outcome = cli("restore", f"{name}.png", *options, "--out", "never.png")
    assert outcome.code == 1 and said in outcome.err and outcome.err.count("\n") == 1, outcome
    assert not (files / "never.png").exists()


def test_the_same_in_python() -> None:
    lost = np.zeros((64, 64), dtype=bool)
    lost[10:12] = True
    given = np.where(lost[..., None], 0, CLEAN).astype(np.uint8)
    found = wavdiff.restore(Image.fromarray(given), wavdiff.Degradation(hidden=lost))
    assert isinstance(found, Image.Image) and (np.asarray(found)[~lost] == CLEAN[~lost]).all()
    assert np.abs(np.asarray(found)[lost].astype(float) - CLEAN[lost]).mean() < 12
    with pytest.raises(WavdiffError, match="nothing is known of what happened"):
        wavdiff.Degradation()


# --- measurements ---------------------------------------------------------------------------------------------------


def test_measurements_become_pictures(cli: Cli, tmp_path: Path) -> None:
    x = CLEAN[:32, :32].transpose(2, 0, 1) / 255
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(1500, x.size)) / x.size**0.5
    np.savez(tmp_path / "random.npz", y=matrix @ x.ravel(), shape=x.shape, matrix=matrix)
    frequency = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.fftfreq(32))
    np.savez(tmp_path / "mri.npz", y=np.fft.fft2(x[0], norm="ortho"), shape=x[0].shape, mask=frequency < 0.2)
    outcome = cli("restore", tmp_path / "random.npz", tmp_path / "mri.npz", "--op", "compressed")
    assert outcome.code == 0 and outcome.err.count("what was measured is met to") == 2, outcome
    for name, truth in (("random", x), ("mri", x[:1])):
        with Image.open(tmp_path / f"{name}_restored.png") as image:
            found = np.asarray(image).reshape(32, 32, -1).transpose(2, 0, 1) / 255
        assert found.shape == truth.shape and np.square(found - truth).mean() < 0.25 * truth.var(), name
    assert cli("restore", tmp_path / "mri.npz", "--op", "compressed").code == 1  # it is there


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"y": np.ones(3)}, "it needs `y`, `shape`"),
        ({"y": np.ones(3), "shape": (2, 2), "matrix": np.ones((3, 5))}, r"matrix must be (3, 4) for this y and shape"),
        ({"y": np.ones(4), "shape": (2, 2), "mask": np.ones((3, 2))}, "mask must be (2, 2)"),
        ({"y": np.full(3, np.nan), "shape": (2, 2), "matrix": np.ones((3, 4))}, "y must be finite"),
        ({"y": np.ones(3), "shape": (2, 2, 2), "matrix": np.ones((3, 8))}, "shape must be (H, W) or (C, H, W)"),
        (None, "not a .npz file of numbers"),
    ],
)
def test_measurements_that_do_not_fit_are_said(cli: Cli, tmp_path: Path, arrays: dict | None, said: str) -> None:
    path = tmp_path / "odd.npz"
    if arrays is None:
        path.write_bytes(b"nothing of the kind")
    else:
        np.savez(path, **arrays)
    outcome = cli("restore", path, "--op", "compressed")
    assert outcome.code == 1 and said in outcome.err and "odd.npz" in outcome.err, outcome
    assert not (tmp_path / "odd_restored.png").exists()


# --- JPEG files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "quality", "subsampling", "orientation"),
    [("RGB", 30, 2, 1), ("RGB", 50, 0, 6), ("RGB", 40, 1, 3), ("L", 30, 0, 1), ("RGB", 50, 2, 8)],
)
def test_a_jpeg_file_loses_its_blocks_and_would_be_saved_as_it_was(
    cli: Cli, tmp_path: Path, mode: str, quality: int, subsampling: int, orientation: int
) -> None:
    pytest.importorskip("jpeglib")
    clean = Image.fromarray(scene(75, 101, 3, 3)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path, out = tmp_path / "a.jpg", tmp_path / "a.png"
    clean.save(path, quality=quality, subsampling=subsampling, exif=exif)
    data = path.read_bytes()
    outcome = cli("restore", path, "--op", "jpeg", "--out", out)
    assert outcome.code == 0 and path.read_bytes() == data, outcome
    kept = float(outcome.err.partition(" % of the file's cosine coefficients")[0])
    assert kept > 99

    def turned(image: Image.Image) -> np.ndarray:
        copy = image.copy()
        copy.getexif()[0x0112] = orientation
        return np.asarray(ImageOps.exif_transpose(copy)).astype(float)

    with Image.open(path) as decoded, Image.open(out) as restored:
        truth = turned(clean)
        before = np.square(np.asarray(ImageOps.exif_transpose(decoded)).astype(float) - truth).mean()
        after = np.square(np.asarray(restored).astype(float) - truth).mean()
        assert 10 * np.log10(before / after) > (0.5 if mode == "RGB" else 0)
        if mode == "L":  # the same file again, but for the few coefficients at the edge of their bins
            restored.save(tmp_path / "again.jpg", quality=quality)
            with Image.open(tmp_path / "again.jpg") as again:
                same = (np.asarray(again) == np.asarray(decoded)).mean()
            assert same > 0.9


def test_jpeg_is_said_where_it_is_not(cli: Cli, files: Path, tmp_path: Path) -> None:
    pytest.importorskip("jpeglib")
    Image.fromarray(CLEAN).convert("CMYK").save(tmp_path / "ink.jpg")
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    Image.fromarray(CLEAN).save(tmp_path / "a.jpg", quality=50)
    for path, options, said in (
        (files / "clean.png", (), "--op jpeg is for JPEG files as they were saved, got PNG"),
        (tmp_path / "ink.jpg", (), "a JPEG file in gray or YCbCr is needed"),
        (tmp_path / "cut.jpg", (), "cut.jpg"),
        (tmp_path / "a.jpg", ("--mode", "sample"), "restore of JPEG files has no mode"),
        (tmp_path / "a.jpg", ("--samples", 2), "restore of JPEG files has no samples"),
    ):
        outcome = cli("restore", path, "--op", "jpeg", *options, "--out", tmp_path / "never.png")
        assert outcome.code == 1 and said in outcome.err and not (tmp_path / "never.png").exists(), outcome
    code, _, err = run_piped((tmp_path / "a.jpg").read_bytes(), "restore", "-", "--op", "jpeg", "--ext", "png")
    assert code == 0, err


# --- what a reader found --------------------------------------------------------------------------------------------


def test_transparent_holes_of_a_blurred_picture_become_opaque(cli: Cli, files: Path, tmp_path: Path) -> None:
    for op, factor in (("deblur+inpaint", 1), ("upscale+inpaint", 2)):
        options = ("--kernel", "gaussian:0.6") if factor == 1 else ("--factor", factor)
        out = tmp_path / f"{factor}.png"
        assert cli("restore", files / "holes.png", "--op", op, *options, "--out", out).code == 0
        found = np.asarray(Image.open(out))
        lost = np.kron(np.asarray(Image.open(files / "mask.png")) > 0, np.ones((factor, factor))) > 0
        assert (found[..., 3] == 255).all() and found[lost][:, :3].mean() > 40


def test_a_lost_colour_is_that_of_the_picture_for_its_opacity_too(cli: Cli, files: Path, tmp_path: Path) -> None:
    with Image.open(files / "scratched.png") as image:
        image.convert("RGBA").save(tmp_path / "a.png")
    options = ("--op", "upscale+inpaint", "--colour-lost", "#ff00ff", "--out", tmp_path / "b.png")
    outcome = cli("restore", tmp_path / "a.png", *options)
    assert outcome.code == 0 and "opacity: what is known" in outcome.err, outcome


def test_what_was_not_measured_has_no_say() -> None:
    x = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    known = torch.rand(16, 16, generator=torch.Generator().manual_seed(1)) < 0.5
    for operator in (Mask(known), Frequencies(known)):
        right = wavdiff.restore(operator.A(x), operator, steps=3)
        odd = operator.A(x) + 5 * (1 - operator.A_adjoint(operator.A(torch.ones_like(x)))) * ~known
        assert torch.allclose(wavdiff.restore(odd, operator, steps=3), right, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel": torch.ones(3, 3)},
        {"kernel": torch.full((3, 3), float("nan"))},
        {"kernel": torch.ones(9) / 9},
        {"kernel": "gaussian:1e-9"},
        {"kernel": "motion:5,inf"},
        {"kernel": "gauss:2"},
        {"factor": 2.5},
        {"factor": 2, "filter": -1.0},
        {"factor": 2, "filter": "gaussian:100"},
        {"colour": (300, 0, 0)},
        {"colour": (3, 0)},
        {"factor": 2, "grow": 2},
        {"hidden": np.ones(3)},
        {"jpeg": True, "factor": 2},
    ],
)
def test_a_degradation_is_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(WavdiffError):
        wavdiff.Degradation(**settings)


def test_python_says_what_is_wrong() -> None:
    hidden = wavdiff.Degradation(hidden=np.eye(64))
    for given, operator, settings, said in (
        (CLEAN, hidden, {"limits": (0, 1)}, "refinements and limits are for operators"),
        (CLEAN, hidden, {"steps": -3}, "steps must be at least 1"),
        (CLEAN, hidden, {"steps": 5, "mode": "sample", "method": "ascent"}, "steps must be the ascent's own"),
        (CLEAN, hidden, {"memory_bytes": 10**5}, "are restored as a whole and need about"),
        (CLEAN, "gaussian:2", {}, "operator must be a Degradation, or have A and A_adjoint"),
        (CLEAN, Mask(torch.ones(64, 64)), {}, "measured must be a tensor of finite"),
        (torch.full((1, 1, 64, 64), float("nan")), Mask(torch.ones(64, 64)), {}, "measured must be a tensor of finite"),
    ):
        with pytest.raises(WavdiffError, match=said):
            wavdiff.restore(given, operator, **settings)
