"""The training loop, for models of any family.

Rerunning the same command continues the run: every random number is a function of the step, so n + m steps are
n + m steps in one go. All files of a run lie in one folder (see `run_folder`). Several processes see the parts of one
global batch; only the main one writes.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import nn

from wavdiff.models import find_family
from wavdiff.models.family import Family
from wavdiff.models.heldout_names import mean_loss
from wavdiff.models.run_config import RunConfig
from wavdiff.system.errors import WavdiffError
from wavdiff.system.processes import find_processes
from wavdiff.training.acceleration import open_accelerator, others_alive
from wavdiff.training.averages import Averages
from wavdiff.training.batches import Batch, heldout_images, open_data, training_batches
from wavdiff.training.records import Recent, StepOutcome
from wavdiff.training.reporting import Report, Reporter, contact_sheet
from wavdiff.training.run_folder import RunFolder
from wavdiff.training.saving import Saver
from wavdiff.training.step import Learner, complaint
from wavdiff.training.stopping import StopRequest


class Trainer:
    """One training run.

    Args:
        config: the resolved configuration.
        out: folder of the run; continued if it holds checkpoints.
        scales: names of the parts of the model to train, or None for all.
        report: called with every record that goes to stats.jsonl.
        base: a trained model; parts that are not trained here are taken from it.
        max_hours: stop after so long in this call, saved and ready to be continued; None: no limit.
        max_steps: stop after so many steps in this call; None: no limit.

    Attributes:
        state: where the run stands.
        expect: called once, after the second step of a call, with the seconds that all others will take.
        stopped: after `run`: None where all is trained, else -1 for a limit or the number of a signal.

    Raises:
        WavdiffError: wrong names of parts, data that cannot be opened, a run of another configuration in `out`.
    """

    def __init__(
        self,
        config: RunConfig,
        out: Path,
        scales: list[str] | None = None,
        report: Report | None = None,
        base: str | Path | None = None,
        max_hours: float | None = None,
        max_steps: int | None = None,
    ) -> None:
        self._began = time.monotonic()
        self.config, self.out, self.report = config, out, report or (lambda record: None)
        self.expect: Callable[[float], None] = lambda seconds: None
        self.limits = max_hours, max_steps
        self.stopped: int | None = None
        self.train_source, self.heldout_source = open_data(config)
        self.family: Family[Any, Any] = find_family(config.family)(config)
        self.processes = find_processes()
        self.accelerator = open_accelerator(config.training, self.family.bf16_is_safe)
        # Before anything is written, so that a wrong configuration or wrong data leave no run behind.
        self.family.build({})
        self.parts = _known_parts(scales, config)
        self.processes.from_main(self._read_heldout)
        self.folder = RunFolder(out, self.family, self.train_source)
        self.processes.from_main(self.folder.begin)
        self.folder.read()
        self.model: nn.Module = self.family.build(self.folder.measured)
        self._take_weights(base)
        self.model.to(device=self.accelerator.device, memory_format=torch.channels_last)
        for name, part in self.family.parts.items():
            part.requires_grad_(name in self.parts)
        self.learner = Learner(self.accelerator, self.family, self.model, self.parts)
        self.averages = Averages(self.family.parts, self.learner.names, config.training)
        sources = self.train_source, self.heldout_source
        self.saver = Saver(self.folder, self.model, self.averages, self.learner, sources)
        self.state = self.saver.resume()
        if self.accelerator.num_processes > 1 and len(set(gather_object([self.state.step]))) > 1:
            raise WavdiffError(f"--out {out}: the processes see different checkpoints there; they must share it")
        self.family.ready |= {*self.state.trained, *self.parts}
        self.learner.prepare(self.state)

    def _read_heldout(self) -> None:
        self.heldout = heldout_images(self.family, self.heldout_source, self.config.data.heldout_limit)

    def _take_weights(self, base: str | Path | None) -> None:
        """Begin with the weights of other models, where the user asked for that."""
        init = self.config.training.init
        others = [name for name in self.family.parts if name not in self.parts] if base or init else []
        if init and not self.folder.found:
            if any(self.folder.measured.get(key) != value for key, value in self.family.measured_by(init).items()):
                raise WavdiffError(f"--out {self.out} was begun without training.init {init}; choose another folder")
            self.family.begin_with(init)
        if base:
            self.family.take(others, base)
        self.family.ready = set(others)

    @property
    def active(self) -> list[str]:
        """Parts that are still to be trained."""
        steps = self.config.training.steps_of
        return [name for name in self.parts if self.state.trained.get(name, 0) < steps(name)]

    @property
    def total(self) -> int:
        """The run's step at which all parts will be trained."""
        steps = self.config.training.steps_of
        left = (steps(name) - self.state.trained.get(name, 0) for name in self.active)
        return self.state.step + max(left, default=0)

    def run(self) -> Path:
        """Train every part for its number of steps, or until a limit or a signal; returns the model folder.

        Raises:
            WavdiffError: another process trains in this folder; too many steps without a finite loss; the last
                checkpoint cannot be written.
        """
        with contextlib.ExitStack() as stack:
            self.processes.from_main(lambda: self._take_folder(stack))
            request = stack.enter_context(StopRequest(*self.limits, began=self._began))
            with others_alive(self.accelerator):
                self._train(request)
                self.accelerator.wait_for_everyone()
        self.learner.release()
        self.accelerator.end_training()
        return self.out / "model"

    def _take_folder(self, stack: contextlib.ExitStack) -> None:
        stack.enter_context(self.folder.taken(self.state.step))
        self.reporter = Reporter(self.out, self.state.step, self.report)
        stack.callback(self.reporter.close)

    def _train(self, request: StopRequest) -> None:
        if not self.active:  # nothing to train: the model is written again, should it have been lost
            self.processes.from_main(lambda: self.saver.export(self.state))
            return
        batches = training_batches(
            self.config,
            self.train_source,
            start=self.state.step,
            stop=self.total,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        with contextlib.closing(batches):  # ends its workers
            self._take_steps(batches, request)

    def _take_steps(self, batches: Iterator[Batch], request: StopRequest) -> None:
        state, training, first = self.state, self.config.training, self.state.step
        while active := self.active:
            outcome = self._step(batches, first, lambda: request.code(state.step + 1 - first))
            state.count(outcome, training.batch_size)
            done = not self.active
            if state.step == first + 2:
                self.expect(outcome.seconds * (self.total - state.step))
            if state.step % training.log_every == 0 or self.active != active:
                self._log(state.recent.record(training.batch_size) | {"total": self.total})
                state.recent = Recent()
            stop = 0 if done else outcome.code
            better = _due(training.evaluate_every, state.step, done) and self._evaluate()
            if _due(training.sample_every, state.step, done):
                self._sample()
            given_up = state.skipped_in_a_row > training.max_skipped
            if _due(training.checkpoint_every, state.step, done) or better or stop or given_up:
                self._save(last=bool(done or stop or given_up))
            if given_up:
                if self.accelerator.is_main_process:
                    raise WavdiffError(complaint(outcome, state, training))
                raise SystemExit(1)
            if stop:
                self.stopped = stop
                return

    def _step(self, batches: Iterator[Batch], first: int, ask: Callable[[], int]) -> StepOutcome:
        began = time.perf_counter()
        try:
            outcome = self.learner.step(batches, self.state, self.active, ask)
        except WavdiffError:  # an image that cannot become an example
            if self.accelerator.num_processes == 1 and self.state.step > first:
                self._save(last=True)
            raise
        for part in outcome.loss:
            if part not in outcome.skipped:
                self.averages.step(part)
        outcome.seconds = time.perf_counter() - began
        return outcome

    def _log(self, content: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.reporter.record(self.state, content)

    def _evaluate(self) -> bool:
        """Measure on held-out images; whether it is the best so far (on the main process)."""
        if not self.accelerator.is_main_process:
            return False
        with self.averages.applied(self.model):
            numbers = self.family.evaluate(self.model, self.heldout)
        loss = mean_loss(numbers, self.parts)
        better = self.state.is_best(loss, self.parts)
        self._log({"heldout": numbers, "heldout_loss": loss, "best": self.state.best})
        return better

    def _sample(self) -> None:
        sheet = contact_sheet(self.family, self.model, self.averages, self.accelerator)
        if sheet is not None:
            self.reporter.sheet(self.state.step, sheet)

    def _save(self, last: bool) -> None:
        """Write a checkpoint and the model; what goes wrong before the last one is a warning, and training goes on.

        All processes come here for the last one.
        """
        if last:
            self.processes.from_main(lambda: self.saver.save(self.state))
        elif self.accelerator.is_main_process:
            try:
                self.saver.save(self.state)
            except WavdiffError as error:
                self.state.forget_best()
                warnings.warn(f"{error}; training goes on", stacklevel=2)


def _known_parts(names: list[str] | None, config: RunConfig) -> list[str]:
    """The parts to train, each once."""
    for name in names or ():
        if name not in config.parts:
            raise WavdiffError(f"--scales: {name!r} is not one of {', '.join(config.parts)}")
    return list(dict.fromkeys(names or config.parts))


def _due(every: int, step: int, done: bool) -> bool:
    return bool(every) and (step % every == 0 or done)
