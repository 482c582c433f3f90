"""Jobs spread over processes, and jobs that an earlier run has finished."""

from __future__ import annotations

from collections.abc import Sequence

from wavdiff.batch.jobs import Job


def share_jobs(jobs: Sequence[Job], count: int) -> list[list[Job]]:
    """Split jobs into shares of about equal work, each job in one of them.

    Work is measured by the size of the input files. The largest come first, each into the share that is smallest so
    far; within a share the order of `jobs` is kept.

    Args:
        jobs: the jobs.
        count: number of shares.
    """
    sizes = [_size(job) for job in jobs]
    loads = [0] * count
    shares: list[list[int]] = [[] for _ in range(count)]
    for place in sorted(range(len(jobs)), key=lambda place: (-sizes[place], place)):
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
