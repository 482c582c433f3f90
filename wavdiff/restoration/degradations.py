"""What happened to a picture in a file, and so what is known of it: pixels, a blurred or a reduced picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional

from wavdiff.images import load_image
from wavdiff.images.codecs.jpeg_coefficients import JpegCoefficients, read_jpeg_coefficients
from wavdiff.images.rectangle import whole
from wavdiff.images.resampling import ResizeMethod
from wavdiff.restoration.operators import Blur, Mask, Operator, Product, Reduction
from wavdiff.restoration.plain import Plain
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown, whole_number

FILTERS: tuple[str, ...] = (*get_args(ResizeMethod), "gaussian:S")
LARGEST_KERNEL = 255
LARGEST_FACTOR = 16
LARGEST_GAUSSIAN = 64


@dataclass(frozen=True)
class Problem:
    """A picture as the measurement of another.

    Attributes:
        operator: A.
        measured: y, (1, ...), library units.
        cut: the part of x (1, C, H, W) that is the result.
        exact: whether the picture's values are known as they are: a mask alone. The others were rounded.
    """

    operator: Operator
    measured: Tensor
    cut: Callable[[Tensor], Tensor]
    exact: bool


@dataclass(frozen=True, eq=False)
class Degradation:
    """A picture that was blurred, then reduced, and of which then pixels were lost; any of the three.

    Attributes:
        kernel: (kh, kw) of the blur, sum 1, or as `read_kernel` takes it; None: none.
        factor: by which it was reduced; 1: not at all.
        filter: of the reduction, see `operators.Reduction`, or as `read_filter` takes it.
        hidden: (H, W), true where pixels are lost, of every picture; None: none.
        colour: RGB in [0, 255] of lost pixels; None: none.
        opacity: whether fully transparent pixels are lost.
        jpeg: whether it was saved as JPEG, of which nothing else is to be undone; a file, or of the file that is
            restored: its coefficients.
        grow: pixels around lost ones that are lost as well: the edges of drawn lines are mixed colours.

    Raises:
        WavdiffError: nothing happened at all, or numbers out of their range.
    """

    kernel: Tensor | str | None = None
    factor: int = 1
    filter: ResizeMethod | str | float = "bicubic"
    hidden: Tensor | None = None
    colour: tuple[int, int, int] | None = None
    opacity: bool = False
    grow: int = 0
    jpeg: JpegCoefficients | bool = False

    def __post_init__(self) -> None:
        kernel, filter = self.kernel, self.filter
        if kernel is not None:
            kernel = read_kernel(kernel) if isinstance(kernel, str) else torch.as_tensor(kernel).float()
            if kernel.ndim != 2 or not bool(kernel.isfinite().all()) or abs(float(kernel.sum()) - 1) > 1e-3:
                raise WavdiffError(
                    f"a kernel is (kh, kw), finite, of sum 1, got {tuple(kernel.shape)}, {kernel.sum():g}"
                )
            object.__setattr__(self, "kernel", kernel)
        filter = read_filter(filter) if isinstance(filter, str) else filter
        if not isinstance(filter, str) and not 0.01 <= filter <= LARGEST_GAUSSIAN:
            raise WavdiffError(f"a Gaussian filter must be between 0.01 and {LARGEST_GAUSSIAN} pixels, got {filter}")
        object.__setattr__(self, "filter", filter)
        for name in ("factor", "grow"):
            object.__setattr__(self, name, whole_number(getattr(self, name), name))
        colour = self.colour
        if colour is not None and not (len(colour) == 3 and all(value in range(256) for value in colour)):
            raise WavdiffError(f"a colour has three whole numbers from 0 to 255, got {shown(colour)}")
        if self.grow and not self.loses:
            raise WavdiffError(f"grow is for lost pixels, and none are said to be, got {self.grow}")
        if self.hidden is not None:
            hidden = torch.as_tensor(self.hidden)
            if hidden.ndim != 2:
                raise WavdiffError(f"hidden pixels are (H, W), got {tuple(hidden.shape)}")
            object.__setattr__(self, "hidden", hidden != 0)
        if not 0 <= self.grow <= LARGEST_KERNEL:
            raise WavdiffError(f"grow must be between 0 and {LARGEST_KERNEL} pixels, got {shown(self.grow)}")
        if not 1 <= self.factor <= LARGEST_FACTOR:
            raise WavdiffError(f"factor must be a whole number from 2 to {LARGEST_FACTOR}, got {shown(self.factor)}")
        other = self.kernel is not None or self.factor > 1 or self.loses
        if self.jpeg and other:
            raise WavdiffError("jpeg undoes what saving did last, and alone: restore the file first, then the rest")
        if not self.jpeg and not other:
            raise WavdiffError("nothing is known of what happened to the picture: give a mask, a kernel or a factor")
        if self.blur is not None and max(self.blur.shape) > LARGEST_KERNEL:
            raise WavdiffError(f"a kernel has sides of at most {LARGEST_KERNEL}, got {tuple(self.blur.shape)}")

    def of(self, source: Path | BinaryIO) -> Degradation:
        """What happened to the picture of a file, whose coefficients are read where they matter.

        Raises:
            WavdiffError: they cannot be read.
        """
        return replace(self, jpeg=read_jpeg_coefficients(source)) if self.jpeg is True else self

    @property
    def blur(self) -> Tensor | None:
        """The kernel."""
        return cast("Tensor | None", self.kernel)

    @property
    def loses(self) -> bool:
        """Whether pixels are lost."""
        return self.hidden is not None or self.colour is not None or self.opacity

    def problem(self, picture: Plain) -> Problem:
        """What a picture is, as the measurement of another.

        Raises:
            WavdiffError: a mask of another size, a picture of which nothing is lost, or nothing is left, or smaller
                than the kernel.
        """
        values = picture.read(whole(picture.size))[None]
        height, width = picture.size
        operators: list[Operator] = []
        large = (height * self.factor, width * self.factor)

        def cut(x: Tensor) -> Tensor:
            return x

        kernel = self.blur
        if kernel is not None:
            if any(side > length for side, length in zip(kernel.shape, large, strict=True)):
                raise WavdiffError(f"the kernel {tuple(kernel.shape)} is larger than the picture, {width}x{height}")
            blur = Blur(kernel, large)
            operators.append(blur)
            large, cut = blur.large, blur.cut
        if self.factor > 1:
            full = (height * self.factor, width * self.factor)
            operators.append(Reduction(full, picture.size, cast("ResizeMethod | float", self.filter)))
        if self.loses:
            mask = Mask(~self._lost(picture, values))
            operators.append(mask)
            values = mask.A(values)
        operator = operators[0] if len(operators) == 1 else Product(operators)
        return Problem(operator, values, cut, exact=len(operators) == 1 and self.loses)

    def _lost(self, picture: Plain, values: Tensor) -> Tensor:
        """(H, W) bool."""
        lost = torch.zeros(picture.size, dtype=torch.bool)
        if self.hidden is not None:
            if tuple(self.hidden.shape) != picture.size:
                (height, width), (rows, columns) = picture.size, self.hidden.shape
                raise WavdiffError(f"the mask is {columns}x{rows}, but the picture is {width}x{height}")
            lost |= self.hidden
        if self.colour is not None:
            wanted = torch.tensor(self.colour, dtype=torch.float32)[:, None, None] / 127.5 - 1
            seen = values[0] if picture.colour is None else picture.colour(whole(picture.size))
            lost |= ((seen - wanted).abs() < 0.5 / 127.5).all(dim=0)
        if self.opacity:
            if picture.opacity is None:
                raise WavdiffError("the picture has no opacity that says what is lost; give --mask or --colour-lost")
            lost |= picture.opacity(whole(picture.size))[0] == 0
        if self.grow:
            reach = 2 * self.grow + 1
            lost = functional.max_pool2d(lost.float()[None, None], reach, 1, self.grow)[0, 0] > 0
        if not bool(lost.any()):
            raise WavdiffError("no pixel of the picture is marked as lost; there is nothing to fill in")
        if bool(lost.all()):
            raise WavdiffError("all pixels of the picture are marked as lost; nothing is left to go by")
        return lost


def read_mask(path: Path) -> Tensor:
    """(H, W) bool of a picture: lost where it is nearer to white than to black, and opaque.

    Raises:
        WavdiffError: it cannot be read.
    """
    image = load_image(path)
    white = image.pixels.mean(dim=0) > 0
    return white if image.alpha is None else white & (image.alpha[0] > 0.5)


def read_kernel(text: str) -> Tensor:
    """A kernel (kh, kw): "gaussian:2.0" (standard deviation), "disk:3" (radius), "motion:15,30" (length in pixels and
    angle in degrees, counter-clockwise), or the path of a picture, whose values are weights.

    Raises:
        WavdiffError: something else, or numbers out of range.
    """
    name, _, rest = text.partition(":")
    if name not in ("gaussian", "disk", "motion"):
        if rest and not Path(text).exists():
            raise WavdiffError(f"a kernel is gaussian:S, disk:R, motion:LENGTH,ANGLE or a picture, got {shown(text)}")
        weights = load_image(Path(text)).pixels.mean(dim=0) + 1
        if not float(weights.sum()) > 0:
            raise WavdiffError(f"{text}: a kernel needs a pixel that is not black")
        return weights / weights.sum()
    try:
        numbers = [float(part) for part in rest.split(",")]
        most = LARGEST_KERNEL // 8 if name == "gaussian" else LARGEST_KERNEL // 2
        if len(numbers) != (2 if name == "motion" else 1) or not all(math.isfinite(number) for number in numbers):
            raise ValueError
    except ValueError:
        rule = "motion:LENGTH,ANGLE" if name == "motion" else f"{name}:NUMBER"
        raise WavdiffError(f"a kernel is written {rule}, got {shown(text)}") from None
    if not 0.1 <= numbers[0] <= most:
        raise WavdiffError(f"the size of a {name} kernel must be between 0.1 and {most} pixels, got {shown(text)}")
    return _kernel(name, *numbers)


def _kernel(name: str, size: float, angle: float = 0.0) -> Tensor:
    reach = math.ceil(4 * size) if name == "gaussian" else math.ceil(size if name == "disk" else size / 2)
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    if name == "gaussian":
        line = (-(places**2) / (2 * size**2)).exp()
        kernel = line[:, None] * line[None]
    else:  # the part of every pixel that is covered, by 9x9 points in it
        fine = (places[:, None] + (torch.arange(9, dtype=torch.float64) - 4) / 9).flatten()
        down, right = fine[:, None], fine[None]
        if name == "disk":
            covered = down**2 + right**2 <= size**2
        else:
            direction = math.radians(angle)
            along = right * math.cos(direction) - down * math.sin(direction)
            across = right * math.sin(direction) + down * math.cos(direction)
            covered = (along.abs() <= max(size, 1) / 2) & (across.abs() <= 0.5)
        sides = len(places)
        kernel = covered.double().reshape(sides, 9, sides, 9).mean(dim=(1, 3))
    return (kernel / kernel.sum()).float()


def read_filter(text: str) -> ResizeMethod | float:
    """ "bicubic", "lanczos", "box" or "gaussian:S" (pixels of the large picture), as `operators.Reduction` takes them.

    Raises:
        WavdiffError: something else.
    """
    name, _, rest = text.partition(":")
    if name == "gaussian":
        try:
            size = float(rest)
        except ValueError:
            size = 0.0
        if 0.01 <= size <= LARGEST_GAUSSIAN:
            return size
        raise WavdiffError(f"a Gaussian filter must be between 0.01 and {LARGEST_GAUSSIAN} pixels, got {shown(text)}")
    elif text in get_args(ResizeMethod):
        return cast(ResizeMethod, text)
    raise WavdiffError(f"a filter must be one of {', '.join(FILTERS)}, got {shown(text)}")
