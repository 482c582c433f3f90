"""From file to file: what comes in goes out, in the same mode and depth, with everything that was asked for."""

import functools
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wavdiff import api
from wavdiff.images import open_picture
from wavdiff.images.labels import coloured
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.restoration import RestorationRequest, planned_outputs, restore_file
from wavdiff.system.errors import WavdiffError

SIZE = (23, 31)


@functools.cache
def cascade() -> WaveletCascade:
    """An untrained cascade, whose heads are not quite zero."""
    torch.manual_seed(0)
    network = {
        "kind": "local",
        "width": 8,
        "depth": 4,
        "receptive_field": 5,
        "activation": "relu",
        "preactivated": False,
    }
    ladder = {"steps": 2, "solver": "sde-dpm"}
    ladders = {"lowpass": ladder, "details": ladder}
    made = WaveletCascade((32, 32), 3, "haar", network, [network] * 2, 0.6, [0.1, 0.1], True, ladders).eval()
    for name in made.scale_names:
        torch.nn.init.normal_(made.denoiser(name).network.head.weight, std=0.02)
    made.autocast = False  # float32, so that results can be compared closely
    return made.to(memory_format=torch.channels_last)


def noise(*shape: int, seed: int = 0, maximum: int = 255) -> np.ndarray:
    dtype = np.uint8 if maximum == 255 else np.uint16
    return np.random.default_rng(seed).integers(0, maximum + 1, shape, dtype=dtype)


def saved(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def run(source, target, **settings):
    settings.setdefault("verb", "denoise")
    if settings["verb"] == "denoise":
        settings.setdefault("sigma", 0.1)
    return restore_file(cascade(), source, target, RestorationRequest(**settings))


@pytest.mark.parametrize("verb", ["denoise", "upscale"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "CMYK"])
def test_mode_and_content_survive(tmp_path, mode, verb):
    suffix = ".tif" if mode == "CMYK" else ".png"
    bands = {"L": None, "RGB": 3, "RGBA": 4, "LA": 2, "P": None, "CMYK": 4}[mode]
    array = noise(*SIZE, *([bands] if bands else []))
    image = Image.fromarray(array, mode="LA") if mode == "LA" else Image.fromarray(array)
    if mode == "P":
        image = Image.fromarray(noise(*SIZE, 3)).quantize(200)
    if mode == "CMYK":
        image = Image.frombytes("CMYK", SIZE[::-1], array.tobytes())
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    image.save(source, dpi=(96, 96))
    before = source.read_bytes()
    result = run(source, target, verb=verb, factor=2)
    assert result.written == [target] and source.read_bytes() == before
    factor = 2 if verb == "upscale" else 1
    with Image.open(target) as made:
        assert made.mode == mode and made.size == (SIZE[1] * factor, SIZE[0] * factor)
        assert made.info["dpi"] == pytest.approx((96, 96), abs=0.1)
        if mode == "RGBA" and verb == "denoise":
            assert np.array_equal(np.array(made)[..., 3], array[..., 3])
    assert sorted(path.name for path in tmp_path.iterdir()) == [source.name, target.name]


def test_the_file_holds_what_the_function_gives(tmp_path):
    array = noise(*SIZE, 3)
    run(saved(tmp_path / "a.png", array), tmp_path / "b.png", sigma=0.1)
    expected = api.denoise(array, 0.1, model=cascade())
    assert np.array_equal(np.array(Image.open(tmp_path / "b.png")), expected)
    run(tmp_path / "a.png", tmp_path / "c.png", verb="upscale", factor=4, mode="sample", seed=5)
    expected = api.upscale(array, 4, model=cascade(), mode="sample", seed=5)
    assert np.array_equal(np.array(Image.open(tmp_path / "c.png")), expected)


def test_sixteen_bits_keep_more_than_eight(tmp_path):
    array = noise(*SIZE, maximum=65535)
    Image.fromarray(array).save(tmp_path / "a.png")
    run(tmp_path / "a.png", tmp_path / "b.png")
    result = np.array(Image.open(tmp_path / "b.png"))
    assert Image.open(tmp_path / "b.png").mode == "I;16"
    exact = api.denoise(array.astype(np.float64) / 65535, 0.1, model=cascade())
    assert np.abs(result / 65535 - exact.clip(0, 1)).max() < 1e-4


def test_gray_stays_gray(tmp_path):
    gray = noise(*SIZE) // 2 + 64  # none at the ends: what was cut off there is taken back channel by channel
    run(saved(tmp_path / "l.png", gray), tmp_path / "l2.png")
    colour = api.denoise(np.repeat(gray[..., None], 3, axis=2), 0.1, model=cascade())
    assert Image.open(tmp_path / "l2.png").mode == "L"
    # Three equal channels are a colour picture; their mean is what the gray file holds, to rounding.
    assert np.abs(colour.mean(axis=2) - np.array(Image.open(tmp_path / "l2.png"))).max() <= 1


def test_orientation_is_applied_once(tmp_path):
    array = noise(*SIZE, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    run(tmp_path / "a.png", tmp_path / "b.png", sigma=0.0)
    with Image.open(tmp_path / "b.png") as made:
        assert made.size == SIZE and made.getexif().get(0x0112, 1) == 1
        assert np.array_equal(np.array(made), np.rot90(array, k=-1))


def test_opaque_and_transparent_regions_have_no_fringes(tmp_path):
    array = np.zeros((16, 16, 4), dtype=np.uint8)
    array[:, 8:] = (200, 40, 40, 255)
    array[:, :8] = (0, 255, 0, 0)  # a hidden colour, which must not bleed
    run(saved(tmp_path / "a.png", array), tmp_path / "b.png", verb="upscale", factor=2)
    result = np.array(Image.open(tmp_path / "b.png")).astype(int)
    assert np.array_equal(result[:, :12, 3], np.zeros((32, 12)))  # what is transparent all around stays so
    assert np.array_equal(result[:, 20:, 3], np.full((32, 12), 255))
    seen = result[result[..., 3] > 10]
    assert seen[:, 1].max() < 120  # no green


@pytest.mark.parametrize("mode", ["mean", "sample"])
def test_block_means_of_the_file_are_kept_and_reported(tmp_path, mode):
    """Black and white among them, where a result would leave the range."""
    small = noise(*SIZE, 3)
    small[:4], small[-4:] = 0, 255
    settings = {"verb": "upscale", "factor": 4, "mode": mode, "steps": 2 if mode == "sample" else None}
    result = run(saved(tmp_path / "a.png", small), tmp_path / "b.png", **settings)
    made = np.array(Image.open(tmp_path / "b.png")).astype(float)
    means = made.reshape(SIZE[0], 4, SIZE[1], 4, 3).mean(axis=(1, 3))
    off = np.abs(means - small).max()
    assert off <= 0.5  # what rounding can do; not rounded, it is 0
    (message,) = result.messages
    assert "block means" in message and float(message.split("most ")[1].split("/")[0]) == pytest.approx(off, rel=0.06)
    # In memory integers are limited as well, and floats are left as they are.
    whole = api.upscale(small, 4, model=cascade(), mode=mode, steps=settings["steps"])
    assert np.abs(whole.astype(float) - made).max() <= 1
    loose = api.upscale(small / 255.0, 4, model=cascade(), mode=mode, steps=settings["steps"])
    assert loose.min() < 0 or loose.max() > 1


def test_added_noise_is_removed_and_measured(tmp_path):
    source = saved(tmp_path / "a.png", np.full((40, 40, 3), 128, dtype=np.uint8))
    result = run(source, tmp_path / "b.png", sigma=0.1, add_noise=True, seed=3)
    assert [path.name for path in result.written] == ["b.png", "b_input.png"]
    assert float(result.messages[0].split()[1]) == pytest.approx(20, abs=0.3)  # 20 log10(1 / 0.1)
    noisy = np.array(Image.open(tmp_path / "b_input.png")).astype(float)
    assert noisy.std() == pytest.approx(25.5, rel=0.05)


def test_draws_and_what_they_say(tmp_path):
    source = saved(tmp_path / "a.png", noise(*SIZE, 3))
    request = {"samples": 4, "interval": 0.9, "seed": 7}
    result = run(source, tmp_path / "b.png", **request)
    assert result.written == planned_outputs(tmp_path / "b.png", RestorationRequest("denoise", sigma=0.1, **request))
    assert all(path.is_file() for path in result.written)
    draws = [api.denoise(noise(*SIZE, 3) / 255.0, 0.1, model=cascade(), mode="sample", seed=7 + k) for k in range(4)]
    first = np.array(Image.open(tmp_path / "b_sample_000007.png"))
    assert np.abs(first / 255 - draws[0].clip(0, 1)).max() < 0.6 / 255
    std = np.load(tmp_path / "b_std.npy")
    assert std.shape == (*SIZE, 3) and std.dtype == np.float32
    assert np.allclose(std, np.std(draws, axis=0, ddof=1), atol=1e-5)
    mean = np.array(Image.open(tmp_path / "b.png")) / 255
    assert np.abs(mean - np.mean(draws, axis=0).clip(0, 1)).max() < 0.6 / 255
    lower, upper = (np.array(Image.open(tmp_path / f"b_{name}.png")) / 255 for name in ("lower", "upper"))
    reach = 2.3534 * np.sqrt(1.25) * std  # Student's t, 3 degrees of freedom
    assert np.abs(upper - (np.mean(draws, axis=0) + reach).clip(0, 1)).max() < 1 / 255
    assert np.abs(lower - (np.mean(draws, axis=0) - reach).clip(0, 1)).max() < 1 / 255
    assert np.load(tmp_path / "b_std_octave3.npy").shape == (3, 4, 1)
    picture = np.array(Image.open(tmp_path / "b_std.png"))
    expected = np.sqrt((std**2).mean(axis=2))
    assert picture.shape == (SIZE[0] + 60, 180, 3) and (picture[: SIZE[0], SIZE[1] :] == 255).all()
    colours = (coloured(torch.from_numpy(expected / expected.max())[None]).permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(picture[: SIZE[0], : SIZE[1]] - colours).max() < 1
    assert f"at most {expected.max():.4f}" in "\n".join(result.messages)
    bar = picture[SIZE[0] + 30, 4:176].astype(int)  # from no spread to the largest
    assert np.abs(bar[0] - (68, 1, 84)).max() <= 1 and np.abs(bar[-1] - (253, 231, 37)).max() <= 1
    lightness = bar @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(lightness) > -0.5).all()


def test_enlarged_draws_have_an_octave_each(tmp_path):
    source = saved(tmp_path / "a.png", noise(*SIZE))
    result = run(source, tmp_path / "b.png", verb="upscale", factor=4, samples=2)
    names = {path.name for path in result.written}
    assert {"b_std_octave1.npy", "b_std_octave2.png"} < names and "b_std_octave3.npy" not in names
    means = np.array(Image.open(tmp_path / "b_sample_000000.png")).astype(float).reshape(23, 4, 31, 4).mean(axis=(1, 3))
    inside = np.abs(means - noise(*SIZE)) < 0.5
    assert inside.mean() > 0.5  # where nothing was clipped to the range of the file


@pytest.mark.parametrize("mode", ["RGB", "LA", "CMYK"])
def test_a_noisy_picture_is_denoised_and_then_enlarged(tmp_path, mode):
    array = noise(*SIZE, {"RGB": 3, "LA": 2, "CMYK": 4}[mode])
    image = Image.frombytes(mode, SIZE[::-1], array.tobytes())
    image.save(tmp_path / "in.tif")
    result = run(tmp_path / "in.tif", tmp_path / "out.tif", verb="upscale", denoise=True, sigma=0.1)
    assert "differ from the denoised input" in result.messages[-1]
    run(tmp_path / "in.tif", tmp_path / "clean.tif", sigma=0.1)
    run(tmp_path / "clean.tif", tmp_path / "twice.tif", verb="upscale")
    once, twice = (np.asarray(Image.open(tmp_path / f"{name}.tif")).astype(int) for name in ("out", "twice"))
    assert once.shape == twice.shape == (2 * SIZE[0], 2 * SIZE[1], array.shape[2])
    assert np.abs(once - twice).max() <= 2  # "twice" was rounded between


def test_one_verb_after_the_other_in_memory():
    x = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model = cascade()
    clean = api.denoise(x, 0.1, model=model, strength=0.6)
    expected = api.upscale(clean, 2, model=model)
    assert torch.allclose(api.upscale(x, 2, denoise=True, sigma=0.1, strength=0.6, model=model), expected, atol=1e-6)
    assert torch.equal(
        api.upscale(x, 2, sigma=0.1, model=model), api.upscale(x, 2, denoise=True, sigma=0.1, model=model)
    )
    assert not torch.allclose(api.upscale(x, 2, model=model), expected, atol=1e-2)


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_strength_is_the_part_of_the_noise_that_goes(tmp_path, mode):
    array = noise(*SIZE, {"RGB": 3, "CMYK": 4}[mode])
    Image.frombytes(mode, SIZE[::-1], array.tobytes()).save(tmp_path / "in.tif")
    made = {}
    for strength in (0.0, 0.25, 1.0):
        run(tmp_path / "in.tif", tmp_path / f"{strength}.tif", strength=strength)
        made[strength] = np.asarray(Image.open(tmp_path / f"{strength}.tif")).astype(float)
    assert np.array_equal(made[0.0], array) and not np.array_equal(made[1.0], array)
    inside = (made[1.0] > 0) & (made[1.0] < 255)  # elsewhere the result was limited after mixing
    assert np.abs(made[0.25] - (0.75 * array + 0.25 * made[1.0]))[inside].max() <= 0.626


def test_streams(tmp_path):
    source = io.BytesIO()
    Image.fromarray(noise(*SIZE, 3)).save(source, format="PNG")
    source.seek(0)
    target = io.BytesIO()
    restore_file(cascade(), source, target, RestorationRequest("denoise", sigma=0.1))
    assert Image.open(target).format == "PNG"
    source.seek(0)
    target = io.BytesIO()
    restore_file(cascade(), source, target, RestorationRequest("denoise", sigma=0.1), format="jpg")
    assert Image.open(target).format == "JPEG"
    with pytest.raises(WavdiffError, match="several results"):
        restore_file(cascade(), source, target, RestorationRequest("denoise", sigma=0.1, samples=2))


def test_refusals_leave_nothing(tmp_path):
    source = saved(tmp_path / "a.png", noise(*SIZE, 4))
    (tmp_path / "there.png").write_bytes(b"mine")
    for target, named in (
        ("there.png", "exists"),
        ("b.jpg", "transparency"),
        ("b.xyz", "xyz"),
        ("a.png", "a.png exists"),
    ):
        with pytest.raises(WavdiffError, match=named):
            run(source, tmp_path / target)
    with pytest.raises(WavdiffError, match="input file"):
        restore_file(cascade(), source, source, RestorationRequest("denoise", sigma=0.1), overwrite=True)
    with pytest.raises(WavdiffError, match="longest must be above"):
        run(source, tmp_path / "b.png", verb="upscale", longest=8)
    assert (tmp_path / "there.png").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "there.png"]


def test_a_failure_on_the_way_leaves_nothing(tmp_path, monkeypatch):
    source = saved(tmp_path / "a.png", noise(*SIZE, 3))
    monkeypatch.setattr(
        "wavdiff.restoration.file.write_summary", lambda *a: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        run(source, tmp_path / "b.png", samples=2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"samples": 1}, "samples"),
        ({"interval": 0.9}, "interval"),
        ({"samples": 2, "interval": 1.5}, "interval"),
        ({"seed": -1}, "seed"),
        ({"add_noise": True, "sigma": None}, "add_noise"),
        ({"strength": 1.5}, "strength"),
        ({"strength": 0.5, "samples": 2}, "strength"),
        ({"strength": 0.5, "mode": "sample"}, "strength"),
        ({"strength": 0.5, "verb": "upscale"}, "give denoise"),
    ],
)
def test_wrong_requests_are_named(settings, named):
    with pytest.raises(WavdiffError, match=named):
        RestorationRequest(**{"verb": "denoise", "sigma": 0.1, **settings})


def test_large_pictures_take_their_planes_to_disk(tmp_path):
    source = saved(tmp_path / "a.png", noise(90, 70, 3))
    run(source, tmp_path / "b.png", samples=2)
    run(source, tmp_path / "c.png", samples=2, memory_bytes=4096)
    for name in ("b", "b_std", "b_std_octave2", "b_sample_000001"):
        with (
            open_picture(tmp_path / f"{name}.png") as one,
            open_picture(tmp_path / f"{name.replace('b', 'c', 1)}.png") as two,
        ):
            difference = (one.read_all().colour - two.read_all().colour).abs().max()
            assert float(difference) <= 2.01 / 255  # one step of 255, where rounding falls the other way


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "CMYK"])
def test_nothing_to_remove_is_nothing_changed(tmp_path, mode):
    array = noise(*SIZE, *([] if mode == "L" else [{"RGB": 3, "RGBA": 4, "LA": 2, "CMYK": 4}[mode]]))
    image = Image.frombytes(mode, SIZE[::-1], array.tobytes())
    suffix = ".tif" if mode == "CMYK" else ".png"
    image.save(tmp_path / f"a{suffix}")
    run(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}", sigma=0.0)
    with Image.open(tmp_path / f"b{suffix}") as made:
        assert made.mode == mode and np.array_equal(np.array(made), np.array(image))


def test_a_failure_while_files_are_completed_leaves_nothing(tmp_path, monkeypatch):
    source = saved(tmp_path / "a.png", noise(*SIZE, 3))
    from wavdiff.images import writer

    finish = writer.PictureWriter._finish

    def failing(self) -> None:
        if self._name.endswith("b.png"):
            raise OSError(28, "No space left on device")
        finish(self)

    monkeypatch.setattr(writer.PictureWriter, "_finish", failing)
    with pytest.raises(OSError, match="No space"):
        run(source, tmp_path / "b.png", samples=2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_planes_do_go_to_disk(tmp_path, monkeypatch):
    from wavdiff.images import disk_array

    made = []
    file = disk_array.temporary_file
    monkeypatch.setattr(disk_array, "temporary_file", lambda: made.append(1) or file())
    run(saved(tmp_path / "a.png", noise(90, 70, 3)), tmp_path / "c.png", memory_bytes=4096)
    assert made
