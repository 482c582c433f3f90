"""From files to jobs: where each result goes, and which jobs may run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wavdiff.batch.sources import READABLE_SUFFIXES, WRITABLE_SUFFIXES, Problem, Source, place_of
from wavdiff.system.errors import WavdiffError

LONGEST_NAME = 255  # bytes, on nearly all file systems


@dataclass(frozen=True)
class OutputNaming:
    """How results are called.

    Attributes:
        default_suffix: what is put behind the name of a result beside its input, such as "_denoised".
        suffix: the user's own, which holds in an output folder as well; None for none given.
        extension: with its dot, such as ".png"; None for the input's own (.png for formats that are only read).
        file: the one output file, or None.
        folder: the output folder, or None for beside the input.
    """

    default_suffix: str
    suffix: str | None = None
    extension: str | None = None
    file: Path | None = None
    folder: Path | None = None

    @property
    def result_suffix(self) -> str:
        """The suffix by which results of earlier runs are known."""
        return self.default_suffix if self.suffix is None else self.suffix

    def target(self, source: Source) -> Path:
        """Where the result of `source` goes; WavdiffError where neither its name nor `extension` says a format."""
        if self.file is not None:
            return self.file
        extension = self.extension or _own_extension(source.path)
        if self.folder is None:
            return source.path.with_name(f"{source.path.stem}{self.result_suffix}{extension}")
        place = (self.folder / source.path.relative_to(source.root)).parent
        return place / f"{source.path.stem}{self.suffix or ''}{extension}"


@dataclass(frozen=True)
class Job:
    """One result to compute: variant `draw` of a file, or of standard input for None; into standard output for None.

    `outputs` are all files that will be written, the main result first.
    """

    source: Path | None
    target: Path | None
    outputs: tuple[Path, ...] = ()
    draw: int = 0

    @property
    def name(self) -> str:
        """What the input is called in messages."""
        return "stdin" if self.source is None else str(self.source)

    @property
    def target_name(self) -> str:
        """What the main result is called in messages."""
        return "stdout" if self.target is None else str(self.target)


def name_outputs(
    out: str | None, many: bool, default_suffix: str, suffix: str | None = None, extension: str | None = None
) -> OutputNaming:
    """Read `--out`, `--suffix` and `--ext` together.

    Args:
        out: a file for one input; a folder for any number, which for one must exist or end with a slash.
        many: whether results need a folder; see `sources.names_many`.
        default_suffix, suffix, extension: see `OutputNaming`; the extension may lack its dot.

    Raises:
        WavdiffError: options that contradict each other, or a format that cannot be written.
    """
    if suffix is not None and (set(suffix) & {"/", os.sep, os.altsep, "\0"} or suffix in (".", "..")):
        raise WavdiffError(f"--suffix is put behind the name of a file and cannot hold a folder, got {suffix!r}")
    chosen = None if extension is None else _written_extension(extension)
    if out is None:
        return OutputNaming(default_suffix, suffix, chosen)
    if out == "":
        raise WavdiffError("--out is a file or a folder, got nothing")
    path = Path(out)
    says_folder = path.is_dir() or out.endswith(("/", os.sep))
    says_file = path.suffix.lower() in WRITABLE_SUFFIXES and not says_folder
    if many and (says_file or (path.exists() and not path.is_dir())):
        raise WavdiffError(f"--out must be a folder for several inputs, a folder or a pattern; {out} is a file")
    if many or says_folder:
        return OutputNaming(default_suffix, suffix, chosen, folder=path)
    if not says_file:
        known = ", ".join(WRITABLE_SUFFIXES)
        raise WavdiffError(f"--out must be a file that ends in one of {known}, or a folder such as {out}/, got {out}")
    if suffix is not None:
        raise WavdiffError(f"--suffix has no meaning with an output file, got {suffix!r} and --out {out}")
    if chosen is not None and chosen != path.suffix.lower():
        raise WavdiffError(f"--ext and --out name two formats: {chosen[1:]} and {out}")
    return OutputNaming(default_suffix, file=path)


def plan_jobs(
    sources: Iterable[Source],
    naming: OutputNaming,
    planned_outputs: Callable[[Path], Sequence[Path]],
    variants: Sequence[str] = ("",),
) -> tuple[list[Job], list[Problem]]:
    """One job for each file and variant, in order, and a problem for each file whose result cannot be named.

    Args:
        sources, naming: the files, and how their results are called.
        planned_outputs: all files that a run with this target writes, the target first.
        variants: what is put behind the names of the variants; one empty text where there is only one.
    """
    jobs, problems = [], []
    for source in sources:
        try:
            target = naming.target(source)
        except WavdiffError as error:
            problems.append(Problem(str(source.path), str(error)))
            continue
        for draw, variant in enumerate(variants):
            path = target.with_name(f"{target.stem}{variant}{target.suffix}")
            jobs.append(Job(source.path, path, tuple(planned_outputs(path)), draw))
    return jobs, problems


def check_jobs(jobs: Sequence[Job], overwrite: bool = False) -> tuple[list[Job], list[Problem]]:
    """The jobs that may run, and a problem for each file with a job that may not; `overwrite` allows existing results.

    Raises:
        WavdiffError: an output is an input, under whatever name; or two inputs have one output.
    """
    inputs = {place_of(job.source): job.source for job in jobs if job.source is not None}
    identities = {identity: path for path in inputs.values() if (identity := _identity(path)) is not None}
    owners: dict[str, Job] = {}
    for job in jobs:
        for path in job.outputs:
            place, identity = place_of(path), _identity(path)
            victim = inputs.get(place) or (identities.get(identity) if identity else None)
            if victim is not None:
                also = "" if victim == path else f" ({victim})"
                raise WavdiffError(
                    f"{path} is an input file{also}, which is never written to; choose another --out or --suffix"
                )
            other = owners.setdefault(place, job)
            if other is not job:
                raise WavdiffError(
                    f"{other.name} and {job.name} would both be written to {path}; choose another --out or --suffix"
                )
    ready: list[Job] = []
    problems: dict[str, Problem] = {}
    for job in jobs:
        reason = _hindrance(job, overwrite)
        if reason is None:
            ready.append(job)
        else:
            problems.setdefault(job.name, Problem(job.name, reason))
    return ready, list(problems.values())


def _written_extension(text: str) -> str:
    extension = "." + text.strip().lower().removeprefix(".")
    if extension not in WRITABLE_SUFFIXES:
        known = ", ".join(suffix[1:] for suffix in WRITABLE_SUFFIXES)
        raise WavdiffError(f"--ext must be one of {known}, got {text!r}")
    return extension


def _own_extension(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in WRITABLE_SUFFIXES:
        return path.suffix
    if suffix in READABLE_SUFFIXES:
        return ".png"
    raise WavdiffError("its name says no format in which a result can be written; give one, such as --ext png")


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of the file behind a name, links followed; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _hindrance(job: Job, overwrite: bool) -> str | None:
    for path in job.outputs:
        length = len(os.fsencode(path.name))
        if length > LONGEST_NAME:
            return f"the result's name {path.name[:40]}... has {length} bytes; at most {LONGEST_NAME} are possible"
        if path.is_dir():
            return f"{path} is a folder"
        if os.path.lexists(path) and not overwrite:
            return f"{path} exists; choose another --out or --suffix, or give --skip-existing or --overwrite"
        place = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        if not place.is_dir():
            return f"{path} cannot be written: {place} is not a folder"
        if not os.access(place, os.W_OK | os.X_OK):
            return f"{path} cannot be written: the folder {place} is write-protected"
    return None


def share_jobs(jobs: Sequence[Job], count: int) -> list[list[Job]]:
    """Split jobs into shares of about equal work, each job in one of them.

    Work is measured by the size of the input files. The largest come first, each into the share that is smallest so
    far; within a share the order of `jobs` is kept.
    """
    sizes = [_size(job) for job in jobs]
    loads = [0] * count
    shares: list[list[int]] = [[] for _ in range(count)]
    for place in sorted(range(len(jobs)), key=lambda place: -sizes[place]):
        smallest = loads.index(min(loads))
        shares[smallest].append(place)
        loads[smallest] += sizes[place] + 1  # empty files are work, too
    return [[jobs[place] for place in sorted(share)] for share in shares]


def leave_out_finished(jobs: Sequence[Job]) -> list[Job]:
    """The jobs of which an output is missing. As files appear complete or not at all, one that is there is finished."""
    return [job for job in jobs if not job.outputs or not all(path.is_file() for path in job.outputs)]


def _size(job: Job) -> int:
    try:
        return job.source.stat().st_size if job.source is not None else 0
    except OSError:  # what cannot be read is told when it is its turn
        return 0
