"""Work spread over processes: which process this is, of how many, on which device, and what all must agree on.

A launcher (`accelerate launch`, `torchrun`, Slurm's `srun`) starts the same command several times and says in
environment variables which is which. Without a launcher there is one process, and nothing is imported for it.

Processes share no results but files, each written by one of them. They meet twice: at the beginning, when the main
process has looked at what there is to do (`from_main`), and at the end, when all is done (`gather`). For that a few
bytes go over gloo on the CPU, also between processes that compute on GPUs: gloo notices at once when a process at the
other end is gone, so a process that fails leaves no other waiting. This is the only module outside of training that
knows accelerate.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from wavdiff.system.errors import WavdiffError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
LONGEST_WAIT = timedelta(days=1)  # of a process with little to do for the others

# Number of the process, number of processes, number on its machine, and processes on its machine where that is said.
# srun's own are those of the job step: SLURM_NTASKS is also set in a batch script, of which there is only one.
_TORCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_SLURM = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")


@dataclass(frozen=True)
class Processes:
    """This process among those that a launcher started: its number from 0, of how many, and that on its machine."""

    index: int = 0
    count: int = 1
    local_index: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that does what is done once."""
        return self.index == 0

    @property
    def name(self) -> str:
        """What this process is called in messages."""
        return f"process {self.index + 1} of {self.count}"

    @property
    def device(self) -> torch.device:
        """Where this process computes: a GPU of its own, else the CPU.

        `accelerate launch --cpu` holds; more processes than GPUs share them in turn.
        """
        import torch

        cpu_only = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on")
        if cpu_only or not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", self.local_index % torch.cuda.device_count())

    def from_main(self, decide: Callable[[], T]) -> T:
        """What `decide` returns, which is called in the main process only.

        Raises:
            SystemExit: in the other processes, status 1, where `decide` failed: the main process says why.
        """
        if self.count == 1:
            return decide()
        from accelerate.utils import broadcast_object_list

        box: list[Any] = [None, False]
        try:
            if self.is_main:
                box = [decide(), True]
        finally:  # the others wait for it, also where `decide` failed
            with _others_reached():
                broadcast_object_list(box)
        if not box[1]:
            raise SystemExit(1)
        result: T = box[0]
        return result

    def gather(self, value: T) -> list[T]:
        """`value` of every process, in order; waits until all have come here."""
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        with _others_reached():
            values: list[T] = gather_object([value])
        return values


def join_processes() -> Processes:
    """This process among the others, connected with them; a command calls it once, before it looks at any file.

    Raises:
        WavdiffError: the launcher's variables contradict each other, or the others are not reached.
    """
    here = find_processes()
    if here.count > 1:
        from accelerate import PartialState

        for name, value in (("RANK", here.index), ("WORLD_SIZE", here.count), ("LOCAL_RANK", here.local_index)):
            os.environ[name] = str(value)
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29500")
        with _others_reached():
            PartialState(cpu=True, timeout=LONGEST_WAIT)
    return here


def find_processes(environment: MutableMapping[str, str] | None = None) -> Processes:
    """This process among the others, by the launcher's variables (`environment`, or the program's own); quick.

    Raises:
        WavdiffError: variables that are no numbers or contradict each other.
    """
    variables = os.environ if environment is None else environment
    for names in (_TORCH, _SLURM):
        if names[0] in variables and names[1] in variables:
            values = [variables.get(name, "0") for name in names]
            if not all(value.isdigit() for value in values) or not int(values[0]) < int(values[1]):
                said = ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
                raise WavdiffError(f"the launcher's variables must number the processes from 0, got {said}")
            return Processes(*map(int, values))
    return Processes()


@contextmanager
def termination_as_exit() -> Iterator[None]:
    """SIGTERM ends the program as Ctrl-C does, with half-written files removed; exit status 143."""

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _others_reached() -> Iterator[None]:
    """Trouble with the connection as one line."""
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WavdiffError(
            "another process has ended early or is not reached; see its message, then run the same command again "
            f"to do what is missing ({reason})"
        ) from error
