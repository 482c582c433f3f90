"""From a picture file to its results: what comes in goes out, restored, in the same mode and depth."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from wavdiff.images import PictureWriter, check_picture_path, create_picture, format_of, open_picture
from wavdiff.images.disk_array import Plane
from wavdiff.images.rectangle import Write
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.restoration.plain import Plain
from wavdiff.restoration.posterior_files import write_summary
from wavdiff.restoration.request import RestorationRequest, RestorationResult, planned_outputs
from wavdiff.restoration.restorer import Restorer
from wavdiff.restoration.tiled import Progress
from wavdiff.system.errors import WavdiffError


def restore_file(
    cascade: WaveletCascade,
    source: Path | BinaryIO,
    target: Path | BinaryIO,
    request: RestorationRequest,
    *,
    format: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> RestorationResult:
    """Restore one picture.

    Args:
        cascade: the model.
        source: the file, which is never written to, or a binary stream.
        target: the file of the main result, whose suffix says the format, or a binary stream.
        request: what to do.
        format: format for a stream, such as "png"; None for the source's own.
        overwrite: whether existing results may be replaced.
        progress: called with (tiles done, tiles in all).

    Returns:
        The files written, and lines for the user.

    Raises:
        WavdiffError: the source cannot be read, the result cannot be written, or the model cannot do what is asked. No
            result is then left behind.
    """
    outputs = planned_outputs(target, request) if isinstance(target, Path) else []
    for path in outputs:
        if path.exists() and not overwrite:
            raise WavdiffError(f"{path} exists; choose another --out or give --overwrite")
        if isinstance(source, Path) and path.exists() and source.exists() and path.samefile(source):
            raise WavdiffError(f"{path} is the input file, which is never written to")
    if not isinstance(target, Path) and (request.samples or request.add_noise):
        raise WavdiffError("several results cannot go to a stream; give a file")
    before = {path for path in outputs if os.path.lexists(path)}
    try:
        with open_picture(source, spool_bytes=request.memory_bytes // 8) as reader, ExitStack() as writers:
            work = Restorer(cascade, reader, request, progress, limited=True)
            writers.callback(work.close)
            kind = None if isinstance(target, Path) else _format_name(format or reader.info.format)

            def opened(place: Path | BinaryIO) -> PictureWriter:
                spool = request.memory_bytes // 8 // (1 + request.samples)
                sink = create_picture(place, reader.info, work.size, format=kind, spool_bytes=spool)
                return writers.enter_context(sink)

            def written(sink: PictureWriter) -> Write:
                return lambda where, values: sink.write(where, work.completed(where, values))

            def writer(place: Path | BinaryIO) -> Write:
                return written(opened(place))

            first = opened(target)  # what the format cannot hold is refused here, before the work
            main = written(first)
            if isinstance(target, Path):
                work.messages += check_picture_path(target, reader.info, work.size)
            work.prepare()
            files = iter(outputs[1:])
            if request.add_noise:
                work.noisy.hand_over(writer(next(files)))
            if request.samples:
                draws = []
                for index in range(request.samples):
                    plane = Plane(work.channels, *work.size, in_memory=work.fits(request.samples))
                    draws.append(plane)
                    writers.callback(plane.close)
                    work.colour(plane.write, "sample", index)
                    Plain(plane.read, work.size, work.channels).hand_over(writer(next(files)))
                work.messages += write_summary(draws, request, list(files), main, writer, writers)
            else:
                watch = work.observer(first.info.maximum)
                work.colour(watch.watching(main) if watch else main, request.mode, 0)
                work.messages += [watch.report()] if watch else []
    except BaseException:
        for path in outputs:
            if path not in before:
                path.unlink(missing_ok=True)
        raise
    return RestorationResult(outputs, work.messages)


def _format_name(name: str | None) -> str:
    if name is None:
        raise WavdiffError("a stream needs the format of the result; give --ext png")
    return format_of(Path(f"picture.{name.lower().lstrip('.')}"))
