"""Work on many pictures: what will be read and written is settled before anything is computed.

    find_sources    inputs -> files: sorted, each once; hidden files and results of earlier runs are passed over
    plan_jobs       files  -> jobs: where the result of a file goes
    check_jobs      jobs   -> jobs that may run
    share_jobs      jobs   -> shares of several processes
    run_jobs        jobs   -> results, one after the other

An input is a file, a folder with all that lies below it, or a pattern. Two kinds of trouble are kept apart. What makes
the whole command doubtful is an exception and nothing is computed: two inputs with one output, an output that is an
input. What concerns one file is a `Problem`: it is reported and counted, and the other files go on.

Nothing here reads a picture or computes, so the package imports in no time.
"""

from wavdiff.batch.jobs import Job, OutputNaming, check_jobs, leave_out_finished, name_outputs, plan_jobs, share_jobs
from wavdiff.batch.report import BatchReport, batch_report
from wavdiff.batch.run import Restore, TileProgress, run_jobs
from wavdiff.batch.sources import Found, Problem, Source, find_sources, names_many

__all__ = [
    "BatchReport",
    "Found",
    "Job",
    "OutputNaming",
    "Problem",
    "Restore",
    "Source",
    "TileProgress",
    "batch_report",
    "check_jobs",
    "find_sources",
    "leave_out_finished",
    "name_outputs",
    "names_many",
    "plan_jobs",
    "run_jobs",
    "share_jobs",
]
