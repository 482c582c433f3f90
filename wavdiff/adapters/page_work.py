"""What the page does with a picture: the same work as the command line's, told as it goes on and stopped when asked."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from wavdiff import api
from wavdiff.images import format_of, image_grid, open_picture, read_info, resize, to_pil
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.restoration import RestorationRequest, RestorationResult, planned_outputs, restore_file
from wavdiff.restoration.cleaned import restoring
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import check_sigma, shown
from wavdiff.training.status import duration

DENOISE, ENLARGE, BOTH = "Denoise", "Enlarge", "Denoise and enlarge"
MOST_PIXELS = 50_000_000
"""Of a picture, and of a result."""
COARSE_SIDE = 256
"""Longest side of the picture that is shown first, where a picture has more than that twice."""
WINDOW = 480
"""Pixels of the page in which a part is shown."""
LARGEST_SHOWN = 1600
"""Longest side of what a browser is given to show."""
ZOOMS = {"whole": 0, "100 %": 1, "400 %": 4}


class Cancelled(Exception):
    """The user does not want to wait."""


@dataclass(frozen=True)
class Choice:
    """What is asked on the page.

    Attributes:
        action: one of DENOISE, ENLARGE, BOTH.
        sigma: "auto", or a noise level such as "0.1" or "25/255".
        strength, factor, quality, draws, seed: as of `RestorationRequest`.
    """

    action: str = DENOISE
    sigma: str = "auto"
    strength: float = 1.0
    factor: int = 2
    quality: str = "fast"
    draws: int = 0
    seed: int = 0

    @property
    def times(self) -> int:
        """Sides of the result, in those of the picture."""
        return 1 if self.action == DENOISE else self.factor

    @property
    def verb(self) -> str:
        """Of the command line."""
        return "denoise" if self.action == DENOISE else "upscale"

    def request(self) -> RestorationRequest:
        """The same for the library; raises WavdiffError."""
        settings: dict[str, Any] = {"quality": self.quality, "samples": self.draws, "seed": self.seed}
        if self.action != ENLARGE:
            settings |= {"sigma": _level(self.sigma), "strength": self.strength, "denoise": self.action == BOTH}
        if self.action != DENOISE:
            settings["factor"] = self.factor
        return RestorationRequest(self.verb, **settings)  # type: ignore[arg-type]

    def options(self) -> list[str]:
        """Options of the command line."""
        given = [] if self.action == DENOISE else ["--factor", str(self.factor)]
        given += ["--denoise"] if self.action == BOTH else []
        if self.action != ENLARGE:
            given += [] if _level(self.sigma) is None else ["--sigma", self.sigma.strip()]
            given += [] if self.strength == 1 else ["--strength", f"{self.strength:g}"]
        given += [] if self.quality == "fast" else ["--quality", self.quality]
        given += ["--samples", str(self.draws)] if self.draws else []
        return given + (["--seed", str(self.seed)] if self.draws and self.seed else [])

    def command(self, source: Path, target: Path, model: str) -> str:
        """The line that does the same."""
        named = [] if model == "photos" else ["--model", model]
        return shlex.join(["wavdiff", self.verb, source.name, *self.options(), *named, "--out", target.name])

    def target(self, source: Path, folder: Path) -> Path:
        """Where the result goes."""
        try:
            format_of(source)
            suffix = source.suffix
        except WavdiffError:
            suffix = ".png"
        return folder / f"{source.stem}{'_denoised' if self.action == DENOISE else f'_x{self.factor}'}{suffix}"


def _level(text: str) -> float | None:
    text = text.strip().lower()
    if text in ("", "auto"):
        return None
    number, _, divisor = text.partition("/")
    try:
        level = float(number) / float(divisor or 1)
    except (ValueError, ZeroDivisionError):
        raise WavdiffError(f"noise is a number such as 0.1 or 25/255, or auto; got {shown(text)}") from None
    return check_sigma(level)


def check_size(source: Path, factor: int = 1) -> None:
    """Refuse a picture that is larger than a page should work on, or becomes so when it is enlarged by `factor`."""
    height, width = read_info(source, page=0).size
    if height * width * factor**2 > MOST_PIXELS:
        enlarged_to = f" enlarged to {width * factor}x{height * factor}" if factor > 1 else ""
        raise WavdiffError(
            f"{source.name}: {width}x{height} pixels{enlarged_to}; the page takes at most {MOST_PIXELS // 10**6} "
            "megapixels, the command line any number"
        )


def measured(cascade: WaveletCascade, source: Path) -> str:
    """What is found out about the noise of a picture, or why nothing is."""
    with open_picture(source, page=0) as reader:
        request = RestorationRequest("denoise")
        with restoring(cascade, reader, request, None, limited=not reader.info.is_float) as work:
            try:
                work.prepare()
            except WavdiffError as error:
                return str(error)
            return "\n".join(work.messages)


def pixels_of(source: Path) -> torch.Tensor:
    """Colour (3, H, W) in [-1, 1] of a file, transparent parts before white; of its first page."""
    with open_picture(source, page=0) as reader:
        planes = reader.read_all()
    colour = planes.colour.expand(3, -1, -1)
    if planes.key is not None:
        colour = (colour + 1) * (planes.key + 1) / 2 - 1
    return colour if planes.alpha is None else colour * planes.alpha + (1 - planes.alpha)


def coarse_result(cascade: WaveletCascade, choice: Choice, pixels: torch.Tensor) -> torch.Tensor | None:
    """A large picture (3, H, W) at a fraction of its size, done at once; None where the picture is small."""
    factor = 1
    while max(pixels.shape[-2:]) // factor > COARSE_SIDE:
        factor *= 2
    if factor <= 2:
        return None
    small = functional.avg_pool2d(pixels[None], factor)[0]
    if choice.action == ENLARGE:
        return small
    level = _level(choice.sigma)
    try:
        done: torch.Tensor = api.denoise(small, None if level is None else level / factor, model=cascade)
    except WavdiffError:  # in so small a picture no noise is measured
        return small
    return done


def restore(
    cascade: WaveletCascade,
    choice: Choice,
    source: Path,
    folder: Path,
    advance: Callable[[float, str], None],
    stopped: Callable[[], bool],
) -> RestorationResult:
    """Restore a file into a folder, as the command line does.

    Args:
        cascade, choice, source, folder: with what, what, of which file, and where to.
        advance: told the part that is done, and how long the rest takes.
        stopped: asked after every tile.

    Raises:
        Cancelled: `stopped` said so; nothing is left.
        WavdiffError: as of `restore_file`.
    """
    began = time.monotonic()

    def progress(done: int, total: int) -> None:
        if stopped():
            raise Cancelled
        elapsed = time.monotonic() - began
        advance(done / max(total, 1), f"about {duration(elapsed * (total - done) / max(done, 1))} left")

    target = choice.target(source, folder)
    request = choice.request()
    done = restore_file(cascade, source, target, request, progress=progress)
    return replace(done, written=planned_outputs(target, request))


def part(pixels: torch.Tensor, zoom: str, across: float = 0, down: float = 0) -> torch.Tensor:
    """What is shown of a picture: all of it, reduced where it is large, or WINDOW pixels of the page around a place.

    `zoom` is of ZOOMS: how many pixels of the page a pixel of the picture takes.
    """
    times = ZOOMS[zoom]
    if not times:
        longest = max(pixels.shape[-2:])
        if longest <= LARGEST_SHOWN:
            return pixels
        height, width = (max(1, round(side * LARGEST_SHOWN / longest)) for side in pixels.shape[-2:])
        return resize(pixels, (height, width)).clamp(-1, 1)
    side = WINDOW // times
    starts = [
        round((length - min(side, length)) * place)
        for length, place in zip(pixels.shape[-2:], (down, across), strict=True)
    ]
    cut = pixels[:, starts[0] : starts[0] + side, starts[1] : starts[1] + side]
    return cut.repeat_interleave(times, 1).repeat_interleave(times, 2)


def pair(before: torch.Tensor, after: torch.Tensor, zoom: str, across: float, down: float) -> tuple[Any, Any]:
    """Pillow images of a part of both; the smaller is enlarged with Pillow's bicubic filter."""
    after = after if ZOOMS[zoom] else part(after, zoom)
    before = enlarged(before, after)
    return to_pil(part(before, zoom, across, down)), to_pil(part(after, zoom, across, down))


def enlarged(small: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A picture at the size of another, with Pillow's bicubic filter."""
    return small if small.shape == like.shape else resize(small, (like.shape[-2], like.shape[-1])).clamp(-1, 1)


def strip(images: list[torch.Tensor]) -> Any:
    """Pictures of one size side by side, as a Pillow image."""
    return to_pil(image_grid(torch.stack(images), columns=len(images)))
