"""The contract: tiled results equal untiled ones, whatever the size of picture and tile."""

import functools

import pytest
import torch
from torch import Tensor

from wavdiff.images.disk_array import Plane
from wavdiff.images.rectangle import Rectangle, tiles
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.solvers import Schedule
from wavdiff.models.random_numbers import position_noise
from wavdiff.restoration.frame import FramedPicture
from wavdiff.restoration.plain import Effort, Noise, Plain
from wavdiff.restoration.request import RestorationRequest
from wavdiff.restoration.tasks import Denoise, Upscale, is_local
from wavdiff.restoration.tiled import TiledCanvas, denoise_tiled, upscale_tiled
from wavdiff.system.errors import WavdiffError

pytestmark = pytest.mark.isa

SIZES = [(1, 1), (7, 53), (61, 47), (130, 33)]
SCHEDULES = (Schedule(steps=3, solver="sde-dpm"), Schedule(steps=4, solver="sde-dpm"))


@functools.cache
def cascade(channels: int = 3, activation: str = "relu", width: int = 16) -> WaveletCascade:
    torch.manual_seed(0)
    plain = {"activation": activation, "preactivated": activation == "silu"}
    network = {"kind": "local", "width": width, "depth": 6, "receptive_field": 9, **plain}
    wider = {**network, "receptive_field": 13}
    made = WaveletCascade((32, 32), channels, "haar", wider, [network, wider], 0.5, [0.08, 0.1]).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    return made.to(memory_format=torch.channels_last)


def picture(channels: int, size: tuple[int, int]) -> Tensor:
    return torch.rand(channels, *size, generator=torch.Generator().manual_seed(size[0])) * 2 - 1


def walked(verb: str, image: Tensor, model: WaveletCascade, factor: int = 1, **settings) -> Tensor:
    channels, height, width = image.shape
    result = torch.full((channels, height * factor, width * factor), float("nan"))

    def write(where: Rectangle, values: Tensor) -> None:
        place = where.of(result)
        assert place.isnan().all(), "a pixel was written twice"
        place.copy_(values)

    def read(where: Rectangle) -> Tensor:
        assert where.is_inside((height, width))
        return where.of(image)

    options = {key: settings.pop(key) for key in ("tile_pixels", "memory_bytes", "seed") if key in settings}
    counts = []
    canvas = TiledCanvas(model, channels, precision=torch.float32, progress=lambda *c: counts.append(c), **options)
    if verb == "denoise":
        denoise_tiled(canvas, read, (height, width), [0.2, 0.15, 0.1], write, **settings)
    else:
        upscale_tiled(canvas, read, (height, width), factor, write, **settings)
    assert counts[-1][0] == counts[-1][1] == len(counts)
    assert result.isfinite().all()
    return result


def rounding(model: WaveletCascade, whole: Tensor) -> float:
    """Largest difference of a tile: convolutions may sum other shapes in another order, in each layer of a walk."""
    layers = sum(isinstance(module, torch.nn.Conv2d) for module in model.modules())
    return 2 * layers * torch.finfo(torch.float32).eps * max(1.0, float(whole.abs().max()))


VERBS = {
    "denoise": {},
    "denoise sample": {"seed": 3, "schedule": SCHEDULES[0]},
    "upscale": {"factor": 4},
    "upscale sample": {"factor": 4, "seed": 3, "schedule": SCHEDULES[1]},
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("verb", VERBS)
def test_tiled_equals_untiled(verb, size, channels):
    image = picture(channels, size)
    run = functools.partial(walked, verb.split()[0], image, cascade(), **VERBS[verb])
    whole = run(tile_pixels=10**9)
    for most in (221, 1000):
        tiled = run(tile_pixels=most, memory_bytes=1 << 10)  # so little that every plane is a file
        assert float((tiled - whole).abs().max()) <= rounding(cascade(), whole)


@pytest.mark.parametrize("verb", VERBS)
def test_tiles_that_winograd_computes_equal_the_whole(verb, monkeypatch):
    """Its own tiles of 6x6 begin elsewhere in each, so that all of its rounding shows."""
    if not torch._nnpack_available():
        pytest.skip("torch has no NNPACK for this processor")
    image = picture(3, (61, 47) if "upscale" in verb else (150, 131))
    run = functools.partial(walked, verb.split()[0], image, cascade(width=64), **VERBS[verb])
    monkeypatch.setenv("WAVDIFF_CONVOLUTION", "winograd")
    whole, tiled = run(tile_pixels=10**9), run(tile_pixels=2500)
    assert not torch.equal(whole, tiled)
    assert float((tiled - whole).abs().max()) <= 1e-4 * max(1.0, float(whole.abs().max()))
    monkeypatch.setenv("WAVDIFF_CONVOLUTION", "direct")
    assert float((run() - whole).abs().max()) <= 1e-4 * max(1.0, float(whole.abs().max()))


@pytest.mark.parametrize("solver", ["dpm", "heun", "euler"])
def test_every_solver_tiles(solver):
    image = picture(3, (41, 30))
    run = functools.partial(
        walked, "upscale", image, cascade(), factor=2, seed=1, schedule=Schedule(steps=3, solver=solver)
    )
    whole = run(tile_pixels=10**9)
    assert float((run(tile_pixels=300) - whole).abs().max()) <= rounding(cascade(), whole)


def test_a_smaller_halo_would_be_seen(monkeypatch):
    image = picture(3, (61, 47))
    whole = walked("denoise", image, cascade(), tile_pixels=10**9)
    grown = Rectangle.grown
    monkeypatch.setattr(Rectangle, "grown", lambda self, halo, size: grown(self, halo - 1, size))
    assert float((walked("denoise", image, cascade(), tile_pixels=221) - whole).abs().max()) > 2 * rounding(
        cascade(), whole
    )


@pytest.mark.parametrize("verb", VERBS)
def test_a_gray_cascade_takes_channels_apart(verb):
    image = picture(3, (22, 35))
    run = functools.partial(walked, verb.split()[0], model=cascade(1, "silu"), **VERBS[verb])
    colour = run(image=image, tile_pixels=300)
    whole = run(image=image, tile_pixels=10**9)
    assert float((colour - whole).abs().max()) <= rounding(cascade(1, "silu"), whole)
    if "sample" not in verb:  # draws have noise of their own in every channel
        apart = torch.cat([run(image=image[k : k + 1]) for k in range(3)])
        assert float((colour - apart).abs().max()) <= rounding(cascade(1, "silu"), whole)


@pytest.mark.parametrize("mode", ["mean", "sample"])
@pytest.mark.parametrize("channels", [1, 3])
def test_upscaling_keeps_its_input(mode, channels):
    image = picture(channels, (19, 26))
    schedule = SCHEDULES[1] if mode == "sample" else None
    large = walked("upscale", image, cascade(), factor=4, seed=2, schedule=schedule, tile_pixels=200)
    means = torch.nn.functional.avg_pool2d(large[None], 4)[0]
    assert float((means - image).abs().max()) < 1e-6


def test_seeds_and_places_make_the_noise():
    whole = position_noise((1, "a"), 2, Rectangle(0, 200, 0, 150))
    part = Rectangle(63, 130, 5, 149)
    assert torch.equal(position_noise((1, "a"), 2, part), whole[:, 63:130, 5:149])
    assert not torch.equal(position_noise((2, "a"), 2, part), whole[:, 63:130, 5:149])
    assert not torch.equal(position_noise((1, "b"), 2, part), whole[:, 63:130, 5:149])
    many = position_noise((0,), 1, Rectangle(0, 640, 0, 640))
    assert abs(float(many.mean())) < 0.01 and abs(float(many.std()) - 1) < 0.01
    blocks = many.reshape(10, 64, 10, 64).permute(0, 2, 1, 3).reshape(100, -1)
    assert float((torch.corrcoef(blocks) - torch.eye(100)).abs().max()) < 0.1


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (40, 31)])
def test_the_frame_is_a_mirror_image(size):
    image = picture(1, size)
    framed = FramedPicture(lambda where: where.of(image), size, 1, 16, 8)
    assert framed.size[0] % 8 == framed.size[1] % 8 == 0
    whole = framed.read(Rectangle(0, framed.size[0], 0, framed.size[1]))
    assert torch.equal(framed.inner.cut(whole, framed.inner), whole[:, : size[0], : size[1]])
    assert torch.equal(whole[:, 16 : 16 + size[0], 16 : 16 + size[1]], image)
    rows = torch.arange(-16, framed.size[0] - 16) % (2 * size[0])
    columns = torch.arange(-16, framed.size[1] - 16) % (2 * size[1])
    rows, columns = (torch.where(i < n, i, 2 * n - 1 - i) for i, n in ((rows, size[0]), (columns, size[1])))
    assert torch.equal(whole, image[:, rows][..., columns])
    where = Rectangle(3, 21, 9, 30)
    assert torch.equal(framed.read(where), whole[:, 3:21, 9:30])


@pytest.mark.parametrize("in_memory", [True, False])
def test_planes_are_read_as_they_were_written(in_memory):
    values = torch.randn(3, 17, 23)
    plane = Plane(3, 17, 23, in_memory=in_memory)
    for tile in tiles((17, 23), 40):
        plane.write(tile, values[:, tile.top : tile.bottom, tile.left : tile.right])
    assert torch.equal(plane.read(Rectangle(0, 17, 0, 23)), values)
    assert torch.equal(plane.read(Rectangle(2, 9, 5, 6)), values[:, 2:9, 5:6])
    plane.close()


@pytest.mark.parametrize(
    ("size", "most"), [((1, 1), 5), ((100, 3), 7), ((3, 1000), 50), ((64, 64), 4096), ((97, 89), 500)]
)
def test_tiles_cover_every_pixel_once_and_are_not_too_large(size, most):
    count = torch.zeros(size)
    for tile in tiles(size, most):
        assert 0 < tile.height * tile.width <= max(most, 1)
        count[tile.top : tile.bottom, tile.left : tile.right] += 1
    assert bool((count == 1).all())


def test_a_cascade_that_sees_the_whole_image_denoises_in_one_piece():
    torch.manual_seed(0)
    network = {"kind": "local", "width": 8, "depth": 4, "receptive_field": 5}
    low = {"kind": "global", "width": 8, "depth": 1, "stages": 2, "growth": 1.0}
    model = WaveletCascade((16, 16), 1, "haar", low, [network], 0.5, [0.1]).eval()
    assert not is_local(model) and is_local(cascade())
    image = picture(3, (20, 18))
    with pytest.raises(WavdiffError, match="sees the whole image"):
        denoise_tiled(TiledCanvas(model, 3), lambda where: where.of(image), (20, 18), [0.1, 0.1], lambda *a: None)
    results = []
    given = Plain(lambda where: where.of(image), (20, 18), 3)
    task = Denoise(model, RestorationRequest("denoise"))
    task.run(given, Noise([0.1, 0.1]), lambda where, v: results.append(v), Effort())
    assert results[0].shape == (3, 20, 18)
    larger = Upscale(model, RestorationRequest("upscale", factor=2))
    larger.run(given, None, lambda where, v: results.append(v), Effort())
    assert results[1].shape == (3, 40, 36)


def test_wrong_arguments_name_the_rule():
    with pytest.raises(WavdiffError, match="1 \\(gray\\) or 3"):
        TiledCanvas(cascade(), 2)
    with pytest.raises(WavdiffError, match="3 noise levels"):
        denoise_tiled(TiledCanvas(cascade(), 3), lambda *a: picture(3, (4, 4)), (4, 4), [0.1], lambda *a: None)
    with pytest.raises(WavdiffError, match="2, 4"):
        upscale_tiled(TiledCanvas(cascade(), 3), lambda *a: picture(3, (4, 4)), (4, 4), 3, lambda *a: None)
    with pytest.raises(WavdiffError, match="Haar"):
        network = {"kind": "local", "width": 8, "depth": 4, "receptive_field": 5}
        TiledCanvas(WaveletCascade((16, 16), 1, "db2", network, [network], 0.5, [0.1]), 1)
