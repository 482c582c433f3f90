"""`python -m wavdiff.cli` is `wavdiff`."""

from wavdiff.cli import main

main()
