"""From a picture file to its results: what comes in goes out, restored, in the same mode and depth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from wavdiff.images import (
    PictureWriter,
    check_picture_path,
    choose_pages,
    create_picture,
    find_pages,
    format_of,
    join_pages,
    open_picture,
)
from wavdiff.images.disk_array import Plane, temporary_file
from wavdiff.images.pages import Stack, true_notes
from wavdiff.images.rectangle import Write
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.restoration.cleaned import restoring
from wavdiff.restoration.plain import Plain
from wavdiff.restoration.posterior_files import write_summary
from wavdiff.restoration.request import RestorationRequest, RestorationResult, planned_outputs
from wavdiff.restoration.target_size import size_of_result
from wavdiff.restoration.tiled import Progress
from wavdiff.system.atomic import written_whole
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
    """Restore a picture, or all pages of a TIFF file as pictures of their own.

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
    if request.degradation is not None:
        request = replace(request, degradation=request.degradation.of(source))
    stack = find_pages(source) if isinstance(source, Path) else Stack((0,), 1 + max(request.pages or (0,)))
    pages = choose_pages(stack, request.pages, str(source))
    left_out = []
    if stack.has_pyramid and request.pages is None:
        left_out = ["smaller copies (thumbnails, levels of a pyramid) in the file are left out"]
    if len(pages) == 1:
        page = pages[0] if isinstance(source, Path) or request.pages else None
        complete = len(stack.pages) == 1
        result = _restore_page(cascade, source, target, request, page, complete, format, overwrite, progress)
        return replace(result, messages=left_out + result.messages)
    if not isinstance(source, Path) or not isinstance(target, Path) or format_of(target) != "TIFF":
        raise WavdiffError(
            f"{source}: its {len(pages)} pages need a TIFF file (.tif) for the result; or choose one with pages"
        )
    if request.samples or request.add_noise:
        raise WavdiffError(f"{source}: samples and add_noise are for one page, not {len(pages)}; choose one with pages")
    _check_outputs([target], source, overwrite)
    messages = dict.fromkeys(left_out)

    def restored() -> Iterator[BinaryIO]:
        for number, page in enumerate(pages):

            def advance(done: int, total: int, number: int = number) -> None:
                if progress:
                    progress(number * total + done, len(pages) * total)

            drawn = replace(request, seed=request.seed + number)
            with temporary_file() as part:
                complete = pages == stack.pages
                result = _restore_page(cascade, source, part, drawn, page, complete, "tif", overwrite, advance)
                messages.update(dict.fromkeys(f"page {page}: {line}" for line in result.messages))
                yield part

    with written_whole(target) as file:
        join_pages(restored(), file, target)
    return RestorationResult([target], list(messages))


def _check_outputs(outputs: list[Path], source: Path | BinaryIO, overwrite: bool) -> None:
    """Refuse what is in the way, and the input."""
    for path in outputs:
        if path.exists() and not overwrite:
            raise WavdiffError(f"{path} exists; choose another --out or give --overwrite")
        if isinstance(source, Path) and path.exists() and source.exists() and path.samefile(source):
            raise WavdiffError(f"{path} is the input file, which is never written to")


def _restore_page(
    cascade: WaveletCascade,
    source: Path | BinaryIO,
    target: Path | BinaryIO,
    request: RestorationRequest,
    page: int | None,
    complete: bool,
    format: str | None,
    overwrite: bool,
    progress: Progress | None,
) -> RestorationResult:
    """Restore one picture; see `restore_file`. `complete`: no page of its file is left out."""
    outputs = planned_outputs(target, request) if isinstance(target, Path) else []
    _check_outputs(outputs, source, overwrite)
    if not isinstance(target, Path) and (request.samples or request.add_noise):
        raise WavdiffError("several results cannot go to a stream; give a file")
    before = {path for path in outputs if os.path.lexists(path)}
    try:
        with open_picture(source, spool_bytes=request.memory_bytes // 8, page=page) as reader, ExitStack() as writers:
            info, notes = true_notes(
                reader.info, complete, size_of_result(request, reader.info.size) != reader.info.size
            )
            limited = not reader.info.is_float
            work = writers.enter_context(restoring(cascade, reader, request, progress, limited=limited))
            work.messages += notes
            kind = None if isinstance(target, Path) else _format_name(format or reader.info.format)

            def opened(place: Path | BinaryIO) -> PictureWriter:
                spool = request.memory_bytes // 8 // (1 + request.samples)
                sink = create_picture(place, info, work.size, format=kind, spool_bytes=spool)
                return writers.enter_context(sink)

            def written(sink: PictureWriter) -> Write:
                return lambda where, values: sink.write(where, work.completed(where, values))

            def writer(place: Path | BinaryIO) -> Write:
                return written(opened(place))

            first = opened(target)  # what the format cannot hold is refused here, before the work
            main = written(first)
            if isinstance(target, Path):
                work.messages += check_picture_path(target, info, work.size)
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
                watch = work.observer(int(first.info.maximum)) if limited and not first.info.is_float else None
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
