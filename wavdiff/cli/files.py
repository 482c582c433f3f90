"""The files of a restoring command: found, planned, checked, and restored one after the other."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import typer

from wavdiff import batch
from wavdiff.errors import WavdiffError

if TYPE_CHECKING:
    from wavdiff.cascade import WaveletCascade
    from wavdiff.restoration import RestorationRequest, RestorationResult

STREAM = "-"


@dataclass(frozen=True)
class FileOptions:
    """What the user says about files.

    Attributes:
        out: a file, a folder, "-" for standard output, or None for beside the input.
        suffix: behind the names of results, or None for the default.
        extension: format of the results, with or without dot, or None for the input's own.
        overwrite: whether existing results may be replaced.
        dry_run: only say what would be done.
        model: a shipped model or a folder, or None for the default.
    """

    out: str | None
    suffix: str | None
    extension: str | None
    overwrite: bool
    dry_run: bool
    model: str | None


@dataclass(frozen=True)
class Files:
    """What was found.

    Attributes:
        found: the files; for standard input none.
        naming: what results are called.
        from_stdin, to_stdout: whether a stream takes the place of a file.
    """

    found: batch.Found
    naming: batch.OutputNaming
    from_stdin: bool = False
    to_stdout: bool = False


def find_files(inputs: Sequence[str], options: FileOptions, default_suffix: str) -> Files:
    """Find the inputs and read the options on outputs; quick, before anything heavy is imported.

    Args:
        inputs: files, folders, patterns, or "-".
        options: the user's.
        default_suffix: of results beside their input.

    Raises:
        WavdiffError: options that make no sense together, or the only input is not there.
    """
    from_stdin = STREAM in inputs
    if from_stdin and len(inputs) > 1:
        raise WavdiffError(f"- (standard input) must be the only input, got {len(inputs)} inputs")
    many = not from_stdin and batch.names_many(inputs)
    to_stdout = options.out == STREAM or (from_stdin and options.out is None)
    if to_stdout and many:
        raise WavdiffError("--out - (standard output) takes one picture; several inputs need a folder")
    if to_stdout and options.suffix is not None:
        raise WavdiffError(f"--suffix has no meaning with standard output, got {options.suffix!r}")
    out = None if to_stdout else options.out
    naming = batch.name_outputs(out, many, default_suffix, options.suffix, options.extension)
    if from_stdin and naming.folder is not None:
        raise WavdiffError(f"--out must be a file for standard input, got the folder {naming.folder}")
    if from_stdin and sys.stdin.isatty():
        raise WavdiffError("- (standard input) is a terminal; pipe a picture into it or name a file")
    if to_stdout and sys.stdout.isatty() and not options.dry_run:
        raise WavdiffError("standard output is a terminal; give --out FILE or pipe it into another program")
    found = batch.Found() if from_stdin else batch.find_sources(inputs, naming.result_suffix, naming.folder)
    if not from_stdin and not found.sources and len(found.problems) == 1 and not found.notes:
        raise WavdiffError(f"{found.problems[0].name}: {found.problems[0].reason}")
    return Files(found, naming, from_stdin, to_stdout)


def restore_files(files: Files, options: FileOptions, request: RestorationRequest, variants: int = 1) -> None:
    """Plan all results, check them, and compute them.

    Args:
        files: from `find_files`.
        options: the user's.
        request: what to do with each picture.
        variants: results for each picture, drawn from `request.seed` + 0, 1, ...

    Raises:
        WavdiffError: anything that concerns all files, such as a model that is not there.
        typer.Exit: status 1, where a file failed.
    """
    jobs, problems = _plan(files, request, variants)
    ready, hindered = batch.check_jobs(jobs, options.overwrite)
    problems = [*files.found.problems, *problems, *hindered]
    count = len({job.name for job in jobs} | {problem.name for problem in problems})
    cascade = _load(options.model, request) if ready else None
    with batch.batch_report(0 if options.dry_run else len(ready)) as report:
        for note in files.found.notes:
            report.say(note)
        for problem in problems:
            report.problem(problem.name, problem.reason)
        failed = len({problem.name for problem in problems})
        if options.dry_run:
            failed += _describe(ready, request, report)
        elif cascade is not None:
            failed += batch.run_jobs(ready, _restorer(cascade, files, options, request), report)
    if failed:
        if count > 1:
            typer.echo(f"wavdiff: {failed} of {count} failed", err=True)
        raise typer.Exit(1)


def _plan(files: Files, request: RestorationRequest, variants: int) -> tuple[list[batch.Job], list[batch.Problem]]:
    from wavdiff.restoration import planned_outputs

    def outputs(target: Path) -> list[Path]:
        return planned_outputs(target, request)

    if files.to_stdout:
        if variants > 1 or len(outputs(Path("picture.png"))) > 1:
            raise WavdiffError("several results cannot go to standard output; give --out FILE")
        paths: list[Path | None] = [None] if files.from_stdin else [source.path for source in files.found.sources]
        return [batch.Job(path, None) for path in paths], []
    names = [""] if variants == 1 else [f"_{request.seed + draw:06d}" for draw in range(variants)]
    if not files.from_stdin:
        return batch.plan_jobs(files.found.sources, files.naming, outputs, names)
    nowhere = batch.Source(Path("stdin"), Path())
    jobs, problems = batch.plan_jobs([nowhere], files.naming, outputs, names)
    return [dataclasses.replace(job, source=None) for job in jobs], problems


def _load(model: str | None, request: RestorationRequest) -> WaveletCascade:
    """The model, after a check that it can do what is asked."""
    from wavdiff.pipeline import DEFAULT_RESTORATION_MODEL, load_cascade

    cascade = load_cascade(model or DEFAULT_RESTORATION_MODEL)
    if request.verb == "upscale":
        cascade.scales_of(request.factor)
    changes = {"steps": request.steps, "solver": request.solver}
    cascade.ladder("details", **{name: value for name, value in changes.items() if value is not None})
    return cascade


def _restorer(
    cascade: WaveletCascade, files: Files, options: FileOptions, request: RestorationRequest
) -> batch.Restore:
    from wavdiff.restoration import restore_file

    extension = files.naming.extension if files.to_stdout else None

    def restore(
        job: batch.Job, source: Path | BinaryIO, target: Path | BinaryIO, progress: batch.TileProgress
    ) -> RestorationResult:
        return restore_file(
            cascade,
            source,
            target,
            dataclasses.replace(request, seed=request.seed + job.draw),
            format=extension and extension[1:],
            overwrite=options.overwrite,
            progress=progress,
        )

    return restore


def _describe(jobs: Sequence[batch.Job], request: RestorationRequest, report: batch.BatchReport) -> int:
    """Print what would be written; returns the number of files for which that is not possible."""
    from wavdiff.images import check_picture_path, read_info

    failed = set()
    for job in jobs:
        sizes = ""
        if job.source is not None:
            try:
                info = read_info(job.source)
                factor = request.factor if request.verb == "upscale" else 1
                size = (info.size[0] * factor, info.size[1] * factor)
                for note in check_picture_path(job.target, info, size) if job.target is not None else ():
                    report.say(note)
            except (WavdiffError, OSError) as error:
                report.problem(job.name, str(error).removeprefix(f"{job.name}: "))
                failed.add(job.name)
                continue
            sizes = f"  {info.size[1]}x{info.size[0]} {info.mode} -> {size[1]}x{size[0]}"
        typer.echo(f"{job.name} -> {job.target_name}{sizes}")
        for path in job.outputs[1:]:
            typer.echo(f"{job.name} -> {path}")
    return len(failed)
