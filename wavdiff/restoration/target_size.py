"""How large an enlarged picture becomes, and the careful reduction from the next power of two.

Cascades enlarge by powers of two. Any other size is made by the next power above and one reduction with Lanczos'
filter, widened against aliasing. Block means are then those of nothing: they hold for powers of two only.
"""

from __future__ import annotations

import math

from torch import Tensor

from wavdiff.images.disk_array import Plane
from wavdiff.images.rectangle import Rectangle, Write, bands
from wavdiff.images.resampling import LANCZOS_LOBES, resize_rows
from wavdiff.restoration.request import RestorationRequest
from wavdiff.system.errors import WavdiffError

NO_MEANS = "block means are kept by powers of two only"


def target_size(request: RestorationRequest, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the result for a picture of `size`.

    Raises:
        WavdiffError: the result would not be larger, or have another shape than the picture.
    """
    height, width = size
    if request.longest is not None:
        if request.longest <= max(size):
            raise WavdiffError(f"longest must be above {max(size)}, the picture's longest side, got {request.longest}")
        scale = request.longest / max(size)
        return max(1, round(height * scale)), max(1, round(width * scale))
    if request.size is None:
        return max(1, round(height * request.factor)), max(1, round(width * request.factor))
    wanted_height, wanted_width = request.size
    if wanted_height < height or wanted_width < width or (wanted_height, wanted_width) == size:
        raise WavdiffError(
            f"size must be above {width}x{height}, the picture's own, got {wanted_width}x{wanted_height}"
        )
    by_width, by_height = height * wanted_width / width, width * wanted_height / height
    if abs(by_width - wanted_height) > 1 and abs(by_height - wanted_width) > 1:
        raise WavdiffError(
            f"size {wanted_width}x{wanted_height} has another shape than the picture's {width}x{height}; "
            f"{wanted_width}x{round(by_width)} or {round(by_height)}x{wanted_height} would fit"
        )
    return request.size


def size_of_result(request: RestorationRequest, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of what a request makes of a picture of `size`.

    Raises:
        WavdiffError: see `target_size`.
    """
    if request.verb == "upscale":
        return target_size(request, size)
    factor = 1 if request.degradation is None else request.degradation.factor
    return size[0] * factor, size[1] * factor


def power_above(target: tuple[int, int], size: tuple[int, int]) -> int:
    """The least power of two that makes `size` at least as large as `target`."""
    ratio = max(wanted / side for wanted, side in zip(target, size, strict=True))
    return max(2, 2 ** math.ceil(math.log2(ratio) - 1e-9))


def reduce_plane(plane: Plane, size: tuple[int, int], write: Write) -> None:
    """Hand a plane on, reduced to `size` (height, width), in bands; the same whatever the bands."""
    ratio = plane.size[0] / size[0]
    reach = math.ceil(LANCZOS_LOBES * ratio) + 1
    rows = max(1, int((1 << 20) / (plane.size[1] * ratio)))
    for band in bands(size, rows):
        top = max(0, math.floor(band.top * ratio) - reach)
        bottom = min(plane.size[0], math.ceil(band.bottom * ratio) + reach)
        strip: Tensor = plane.read(Rectangle(top, bottom, 0, plane.size[1]))
        write(band, resize_rows(strip, (band.top * ratio - top, band.bottom * ratio - top), band.size))


def reduced_plane(plane: Plane, size: tuple[int, int], in_memory: bool) -> Plane:
    """A plane reduced to `size`, in its place."""
    made = Plane(plane.channels, *size, in_memory=in_memory)
    reduce_plane(plane, size, made.write)
    plane.close()
    return made
