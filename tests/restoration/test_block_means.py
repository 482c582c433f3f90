"""Results within black and white that keep the block means of the small picture."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from wavdiff.images.disk_array import Plane
from wavdiff.images.rectangle import Rectangle, bands
from wavdiff.restoration import block_means
from wavdiff.restoration.block_means import projected, write_projected


def pictures(factor: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """An enlarged picture that leaves the range, and its block means, which do not."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.rand(3, 7, 5, generator=generator) * 2 - 1
    details = spread * torch.randn(3, 7 * factor, 5 * factor, generator=generator)
    details -= avg_pool2d(details, factor).repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    return means, means.repeat_interleave(factor, 1).repeat_interleave(factor, 2) + details


@pytest.mark.parametrize("spread", [0.05, 0.5, 20.0])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_result_is_within_the_range_and_has_the_means(factor: int, spread: float) -> None:
    means, large = pictures(factor, spread)
    kept = projected(large, means, factor)
    assert float(kept.abs().max()) <= 1
    torch.testing.assert_close(avg_pool2d(kept, factor), means, rtol=0, atol=3e-6)
    # Nearer than any other such picture: the way from the result to the given one, without its part that moves all
    # values of a block alike, goes out of the range only (the projection onto a convex set).
    rest = large - kept
    inside = kept.abs() < 1 - 1e-6
    blocks = [t.reshape(3, 7, factor, 5, factor).transpose(2, 3).flatten(3) for t in (rest, inside, kept)]
    for way, free, value in zip(*(t.flatten(0, 2) for t in blocks), strict=True):
        if bool(free.any()):
            common = way[free].mean()
            assert float((way[free] - common).abs().max()) < 1e-4 * max(1.0, spread)
            assert bool(((way - common) * value.sign() >= -1e-4 * max(1.0, spread))[~free].all())


def test_blocks_within_the_range_stay_to_the_bit() -> None:
    means, large = pictures(4, 0.2)
    kept = projected(large, means, 4)
    unmoved = avg_pool2d((large.abs() > 1).float(), 4) == 0
    assert 0.2 < float(unmoved.float().mean()) < 1
    same = unmoved.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert torch.equal(kept[same], large[same])


def test_opacity_limits_premultiplied_colour() -> None:
    means, large = pictures(2, 0.5)
    upper = torch.rand(1, 14, 10, generator=torch.Generator().manual_seed(3)) * 2 - 1
    kept = projected(large, means, 2, upper)
    assert bool((kept <= upper + 1e-6).all()) and bool((kept >= -1).all())
    highest = avg_pool2d(upper, 2).expand_as(means)
    torch.testing.assert_close(avg_pool2d(kept, 2), torch.minimum(means, highest), rtol=0, atol=3e-6)


def test_it_is_the_same_band_by_band(monkeypatch: pytest.MonkeyPatch) -> None:
    means, large = pictures(4, 0.5)
    plane, result = Plane(3, 28, 20, in_memory=True), torch.full((3, 28, 20), float("nan"))
    plane.write(Rectangle(0, 28, 0, 20), large)
    monkeypatch.setattr(block_means, "bands", lambda size, _: bands(size, 3))
    write_projected(plane, lambda w: w.of(means), 4, None, lambda w, v: w.of(result).copy_(v))
    plane.close()
    assert torch.equal(result, projected(large, means, 4))
