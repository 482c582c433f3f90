"""Processes that know nothing of this one, at the price of a fork.

A server imports the heavy libraries once, does nothing else, and forks for every process that is asked for: what runs
there has no model, no thread and no state of the tests, but need not wait seconds for its imports.
"""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

from conftest import Outcome

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["wavdiff.training.trainer", "wavdiff.adapters.diffusers", "accelerate.utils"])

WAVDIFF = "import sys; from wavdiff.cli import main; main(sys.argv[1:])"
"""`wavdiff ARGUMENTS` as code for `Fresh`."""


class Fresh:
    """`python -c CODE ARGUMENTS` in a fresh process.

    Args:
        code: what to run.
        arguments: `sys.argv[1:]`.
        environment: variables that are set beside those of this process.
    """

    def __init__(self, code: str, *arguments: object, **environment: object) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fresh-")
        self.streams = [Path(self._folder.name) / name for name in ("out", "err")]
        variables = {**os.environ, **{name: str(value) for name, value in environment.items()}}
        work = (code, [str(argument) for argument in arguments], variables, os.getcwd(), self.streams)
        self.process = SERVER.Process(target=_run, args=work)
        self.process.start()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self, seconds: float = 300) -> Outcome:
        """Wait for its end (it is killed after so long); what it said, and its exit status or minus the signal."""
        self.process.join(seconds)
        self.process.kill()
        self.process.join()
        out, err = (path.read_text() if path.is_file() else "" for path in self.streams)
        self._folder.cleanup()
        assert self.process.exitcode is not None
        return Outcome(self.process.exitcode, out, err)


def together(count: int, code: str, *arguments: object, **environment: object) -> list[Outcome]:
    """The same in `count` processes, as `torchrun` starts them on one machine without accelerators."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": count, "ACCELERATE_USE_CPU": "true"}
    ranks = [{"RANK": rank, "LOCAL_RANK": rank} for rank in range(count)]
    running = [Fresh(code, *arguments, **where, **rank, **environment) for rank in ranks]
    return [process.end() for process in running]


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def _run(code: str, arguments: list[str], variables: dict[str, str], folder: str, streams: list[Path]) -> None:
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    # Background jobs of a shell without job control are started with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<fresh>", "exec"), {"__name__": "__main__"})
