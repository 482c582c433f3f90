"""The files of a restoring command: found, planned, checked, shared by the processes, and restored one by one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from wavdiff.batch.jobs import Job, OutputNaming, check_jobs, leave_out_finished, name_outputs, plan_jobs, share_jobs
from wavdiff.batch.report import BatchReport, batch_report, write_line
from wavdiff.batch.run import TileProgress, run_jobs
from wavdiff.batch.sources import Found, Problem, Source, find_sources, names_many
from wavdiff.system.devices import check_choices, computing_in
from wavdiff.system.errors import WavdiffError
from wavdiff.system.processes import Processes, join_processes

if TYPE_CHECKING:
    from wavdiff.models.cascade.model import WaveletCascade
    from wavdiff.restoration import RestorationRequest, RestorationResult

STREAM = "-"


@dataclass(frozen=True)
class FileOptions:
    """What the user says about files, and about the model for all of them.

    Attributes:
        inputs: files, folders, patterns, or "-" for standard input.
        out: a file, a folder, "-" for standard output, or None for beside the input.
        suffix: behind the names of results, or None for the default.
        extension: format of the results, with or without dot, or None for the input's own.
        overwrite: whether existing results may be replaced.
        skip_existing: whether to leave out what an earlier run has finished.
        dry_run: only say what would be done.
        model: a shipped model or a folder, or None for the default.
        precision: see `computing_in`.
    """

    inputs: Sequence[str]
    out: str | None
    suffix: str | None
    extension: str | None
    overwrite: bool
    skip_existing: bool
    dry_run: bool
    model: str | None
    precision: str | None = None

    @property
    def from_stdin(self) -> bool:
        """Whether the input is a stream."""
        return STREAM in self.inputs

    @property
    def to_stdout(self) -> bool:
        """Whether the result is a stream."""
        return self.out == STREAM or (self.from_stdin and self.out is None)


@dataclass(frozen=True)
class _Todo:
    """What all processes agree on: jobs of each, why files have none, what was passed over, and how many files."""

    shares: list[list[Job]]
    problems: list[Problem]
    notes: list[str]
    count: int


def find_files(options: FileOptions, default_suffix: str) -> tuple[Found, OutputNaming]:
    """Find the inputs and read the options on outputs; quick, before anything heavy is imported.

    Args:
        options: the user's.
        default_suffix: of results beside their input.

    Returns:
        The files, of which standard input is one, and what results are called.

    Raises:
        WavdiffError: options that make no sense together, or the only input is not there.
    """
    inputs, from_stdin, to_stdout = options.inputs, options.from_stdin, options.to_stdout
    if options.overwrite and options.skip_existing:
        raise WavdiffError("--overwrite and --skip-existing contradict each other; give one of them")
    if from_stdin and len(inputs) > 1:
        raise WavdiffError(f"- (standard input) must be the only input, got {len(inputs)} inputs")
    many = not from_stdin and names_many(inputs)
    if to_stdout and many:
        raise WavdiffError("--out - (standard output) takes one picture; several inputs need a folder")
    if to_stdout and options.suffix is not None:
        raise WavdiffError(f"--suffix has no meaning with standard output, got {options.suffix!r}")
    out = None if to_stdout else options.out
    naming = name_outputs(out, many, default_suffix, options.suffix, options.extension)
    if from_stdin and naming.folder is not None:
        raise WavdiffError(f"--out must be a file for standard input, got the folder {naming.folder}")
    if from_stdin and sys.stdin.isatty():
        raise WavdiffError("- (standard input) is a terminal; pipe a picture into it or name a file")
    if to_stdout and getattr(sys.stdout, "name", "") == os.devnull:
        raise WavdiffError("--out -: standard output is closed")
    if to_stdout and sys.stdout.isatty() and not options.dry_run:
        raise WavdiffError("standard output is a terminal; give --out FILE or pipe it into another program")
    if from_stdin:
        return Found([Source(Path("stdin"), Path())]), naming
    found = find_sources(inputs, naming.result_suffix, naming.folder)
    if not found.sources and len(found.problems) == 1 and not found.notes:
        raise WavdiffError(f"{found.problems[0].name}: {found.problems[0].reason}")
    return found, naming


@dataclass(frozen=True)
class PictureBatch:
    """All that one command does with pictures.

    Attributes:
        options, found, naming: the user's, and what `find_files` made of them.
        request: what to do with each picture.
        variants: results for each picture, drawn from `request.seed` + 0, 1, ...
    """

    options: FileOptions
    found: Found
    naming: OutputNaming
    request: RestorationRequest
    variants: int = 1

    def run(self) -> int:
        """Plan all results, check them, and compute them; returns how many files failed, in all processes together.

        Raises:
            WavdiffError: anything that concerns all files, such as a model that is not there.
        """
        processes = join_processes()
        if processes.count > 1 and (self.options.from_stdin or self.options.to_stdout):
            raise WavdiffError(f"standard input and output are for one process, got {processes.count}; name files")
        with computing_in(self.options.precision):
            todo = processes.from_main(lambda: self._prepare(processes.count))
            failed = set().union(*processes.gather(self._do_share(todo, processes)))
        if failed and todo.count > 1 and processes.is_main:
            print(f"wavdiff: {len(failed)} of {todo.count} failed", file=sys.stderr)
        return len(failed)

    def _prepare(self, processes: int) -> _Todo:
        """Plan all results, check them, and share those that are to be computed."""
        jobs, unnamed = self._plan()
        # A result of which a part is there is made again, or it would be in the way of every later run.
        ready, hindered = check_jobs(jobs, self._replaces)
        problems = [*self.found.problems, *unnamed, *hindered]
        count = len({job.name for job in jobs} | {problem.name for problem in problems})
        notes = list(self.found.notes)
        if self.options.skip_existing:
            missing = leave_out_finished(ready)
            if len(missing) < len(ready):
                notes.append(f"{len(ready) - len(missing)} of {len(ready)} results are there already")
            ready = missing
        # A dry run is described by one process.
        shares = share_jobs(ready, 1 if self.options.dry_run else processes)
        return _Todo(shares + [[]] * processes, problems, notes, count)

    def _plan(self) -> tuple[list[Job], list[Problem]]:
        from wavdiff.restoration import planned_outputs

        def outputs(target: Path) -> list[Path]:
            return planned_outputs(target, self.request)

        jobs, problems = [Job(source.path, None) for source in self.found.sources], list[Problem]()
        if not self.options.to_stdout:
            seeds = range(self.request.seed, self.request.seed + self.variants)
            names = [f"_{seed:06d}" for seed in seeds] if self.variants > 1 else [""]
            jobs, problems = plan_jobs(self.found.sources, self.naming, outputs, names)
        elif self.variants > 1 or len(outputs(Path("picture.png"))) > 1:
            raise WavdiffError("several results cannot go to standard output; give --out FILE")
        return [replace(job, source=None) for job in jobs] if self.options.from_stdin else jobs, problems

    def _do_share(self, todo: _Todo, processes: Processes) -> set[str]:
        """Do, or describe, what is this process's; returns the files that failed here, and those without a job."""
        share = todo.shares[processes.index]
        cascade = self._load(processes) if any(todo.shares) else None
        failed = {problem.name for problem in todo.problems}
        with batch_report(0 if self.options.dry_run else len(share), lines_only=processes.count > 1) as report:
            if processes.is_main:
                for note in todo.notes:
                    report.say(note)
                for problem in todo.problems:
                    report.problem(problem.name, problem.reason)
            if self.options.dry_run:
                return failed | self._describe(share, report)
            if cascade is not None:
                failed |= run_jobs(share, partial(self._restore, cascade), report)
        return failed

    def _load(self, processes: Processes) -> WaveletCascade:
        """The model, after a check that it and the device can do what is asked."""
        from wavdiff.models.cascade.saved import load_cascade
        from wavdiff.models.folders import DEFAULT_RESTORATION_MODEL

        check_choices(processes.device)
        cascade = load_cascade(self.options.model or DEFAULT_RESTORATION_MODEL, processes.device)
        if self.request.verb == "upscale":
            cascade.scales_of(2)
        changes = {"steps": self.request.steps, "solver": self.request.solver}
        cascade.schedule("details", **{name: value for name, value in changes.items() if value is not None})
        return cascade

    def _restore(
        self,
        cascade: WaveletCascade,
        job: Job,
        source: Path | BinaryIO,
        target: Path | BinaryIO,
        progress: TileProgress,
    ) -> RestorationResult:
        from wavdiff.restoration import restore_file

        request = replace(self.request, seed=self.request.seed + job.draw)
        extension = self.naming.extension if self.options.to_stdout else None
        form = extension and extension[1:]
        return restore_file(cascade, source, target, request, format=form, overwrite=self._replaces, progress=progress)

    @property
    def _replaces(self) -> bool:
        return self.options.overwrite or self.options.skip_existing

    def _describe(self, jobs: Sequence[Job], report: BatchReport) -> set[str]:
        """Print what would be written; returns the files for which that is not possible."""
        from wavdiff.images import check_picture_path, choose_pages, find_pages, read_info
        from wavdiff.restoration.target_size import size_of_result

        failed: set[str] = set()
        for job in jobs:
            sizes = ""
            if job.source is not None:
                try:
                    pages = choose_pages(find_pages(job.source), self.request.pages, job.name)
                    info = read_info(job.source, pages[0])
                    size = size_of_result(self.request, info.size)
                    for note in check_picture_path(job.target, info, size) if job.target is not None else ():
                        report.say(note)
                except (WavdiffError, OSError) as error:
                    report.problem(job.name, str(error).removeprefix(f"{job.name}: "))
                    failed.add(job.name)
                    continue
                sizes = f"  {info.size[1]}x{info.size[0]} {info.mode} -> {size[1]}x{size[0]}"
                sizes += f", {len(pages)} pages" if len(pages) > 1 else ""
            write_line(f"{job.name} -> {job.target_name}{sizes}")
            for path in job.outputs[1:]:
                write_line(f"{job.name} -> {path}")
        return failed
