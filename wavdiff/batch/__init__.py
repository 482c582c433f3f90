"""Work on many pictures: what will be read and written is settled before anything is computed.

    sources.find_sources    inputs -> files: sorted, each once; hidden files and results of earlier runs are passed over
    jobs.plan_jobs          files  -> jobs: where the result of a file goes
    jobs.check_jobs         jobs   -> jobs that may run
    jobs.share_jobs         jobs   -> shares of several processes
    run.run_jobs            jobs   -> results, one after the other

An input is a file, a folder with all that lies below it, or a pattern. Two kinds of trouble are kept apart. What makes
the whole command doubtful is an exception and nothing is computed: two inputs with one output, an output that is an
input. What concerns one file is a `Problem`: it is reported and counted, and the other files go on.

`pictures` does all of it for `wavdiff denoise` and `wavdiff upscale`; `samples` draws images, named by their seeds.
"""
