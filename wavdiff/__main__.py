"""`python -m wavdiff`: the command line."""

from wavdiff.cli import main

if __name__ == "__main__":
    main()
