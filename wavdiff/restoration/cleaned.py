"""A noisy picture that is to be enlarged: denoised first, and then a picture like another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from wavdiff.images import Planes
from wavdiff.images.disk_array import Plane
from wavdiff.images.rectangle import Rectangle
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.restoration.channels import Source
from wavdiff.restoration.request import RestorationRequest
from wavdiff.restoration.restorer import Restorer
from wavdiff.restoration.tiled import Progress


class Cleaned:
    """A `Source` whose colour is the denoised colour of another, made when it is first asked for.

    Args:
        cascade: the model.
        source: the noisy picture.
        request: what is known of the noise.
        progress: called with (tiles done, tiles in all).
        limited: whether results will be limited to black and white.

    Attributes:
        info: of the noisy picture.
        messages: lines for the user; what was found out about the noise, once it is done.
    """

    def __init__(
        self,
        cascade: WaveletCascade,
        source: Source,
        request: RestorationRequest,
        progress: Progress | None,
        *,
        limited: bool,
    ) -> None:
        request = replace(request, verb="denoise", mode="mean", samples=0, interval=None, solver=None, steps=None)
        self._work = Restorer(cascade, source, request, progress, limited=limited)
        self._limited = limited
        self._plane: Plane | None = None
        self.info, self.messages = source.info, self._work.messages

    def read(self, where: Rectangle) -> Planes:
        """A rectangle; the planes beside colour are those of the noisy picture, but for black ink."""
        if self._plane is None:
            self._plane = Plane(self._work.channels, *self._work.size, in_memory=self._work.fits(1))
            self._work.prepare()
            self._work.colour(self._plane.write, "mean", 0)
        colour = self._plane.read(where)
        return self._work.completed(where, colour.clamp(-1, 1) if self._limited else colour)

    def close(self) -> None:
        """Give its memory back."""
        self._work.close()
        if self._plane is not None:
            self._plane.close()


@contextmanager
def restoring(
    cascade: WaveletCascade,
    source: Source,
    request: RestorationRequest,
    progress: Progress | None,
    *,
    limited: bool,
) -> Iterator[Restorer]:
    """The work that a request asks for on a picture; see `Restorer`."""
    with ExitStack() as opened:
        cleaned = None
        if request.verb == "upscale" and request.denoise:
            source = cleaned = Cleaned(cascade, source, request, progress, limited=limited)
            opened.callback(cleaned.close)
        work = Restorer(cascade, source, request, progress, limited=limited)
        opened.callback(work.close)
        if cleaned is not None:  # one list for both
            cleaned.messages.extend(work.messages)
            work.messages = cleaned.messages
        yield work
