"""One optimiser step: accumulated, clipped and skipped by part, and the same in all processes."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from diffusers.optimization import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup
from torch import Tensor, nn

from wavdiff.models.family import Family, Loss
from wavdiff.models.run_config import TrainingConfig
from wavdiff.training.averages import tensors_of
from wavdiff.training.batches import Batch
from wavdiff.training.checkpoints import optimizer_tensors, restore_optimizer
from wavdiff.training.records import StepOutcome, class_sums
from wavdiff.training.state import RunState

Family_ = Family[Any, Any]


NAMED_IMAGES = 4
"""Images of a batch that a message about it names."""


class Objective(nn.Module):
    """The model and its losses as one module, as processes share it.

    Attributes:
        active: parts whose losses are wanted.
        last: losses of the last call, by part.
    """

    def __init__(self, family: Family_, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.family = family
        self.active: list[str] = []
        self.last: dict[str, Loss] = {}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The scalar loss of every active part."""
        self.last = self.family.losses(batch, self.active)
        return {part: loss.scalar for part, loss in self.last.items()}


class Learner:
    """The optimiser and its schedules.

    Args:
        accelerator: device, precision and processes.
        family: its model is built.
        model: on its device.
        parts: those to be trained.
    """

    def __init__(self, accelerator: Accelerator, family: Family_, model: nn.Module, parts: list[str]) -> None:
        training = family.config.training
        self.accelerator, self.family, self.training, self.parts = accelerator, family, training, parts
        self.names = {id(tensor): name for name, tensor in tensors_of(model).items()}
        self.objective = Objective(family, model)
        groups = [{"params": list(family.parts[part].parameters())} for part in parts]
        settings: dict[str, Any] = {"lr": training.learning_rate, "weight_decay": training.weight_decay, "fused": True}
        self.optimizer: torch.optim.Optimizer
        if training.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(groups, **settings)
        else:
            self.optimizer = torch.optim.AdamW(groups, betas=(0.9, training.beta2), **settings)
        self._factors = {part: self._schedule(part) for part in parts}

    def _schedule(self, part: str) -> Callable[[int], float]:
        """Learning rate of a part, as a share of `learning_rate`, by the steps it has been trained for."""
        warmup = self.training.warmup_steps
        total = max(self.training.steps_of(part), warmup + 1)
        if self.training.schedule == "constant":
            schedule = get_constant_schedule_with_warmup(self.optimizer, warmup)
        else:
            schedule = get_cosine_schedule_with_warmup(self.optimizer, warmup, total)
        factor: Callable[[int], float] = schedule.lr_lambdas[0]
        return factor

    def moments(self) -> dict[str, Tensor]:
        """The optimiser's tensors, for a checkpoint."""
        return optimizer_tensors(self.optimizer, self.names)

    def restore(self, moments: dict[str, Tensor]) -> None:
        """Put the optimiser's tensors back."""
        restore_optimizer(self.optimizer, moments, self.names)

    def prepare(self, state: RunState) -> None:
        """Get ready for the first step."""
        if self.training.compile:
            for part in self.parts:
                self.family.compile(part)
        left = {self.training.steps_of(part) - state.trained.get(part, 0) for part in self.parts}
        # A part that has finished has no gradient: gradients are then waited for only where there are some.
        self.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=len(left) > 1)
        self.prepared, self.prepared_optimizer = self.accelerator.prepare(self.objective, self.optimizer)

    def release(self) -> None:
        """Let go of what `prepare` made.

        Comes before the processes part: DDP gives its process group back while it holds the interpreter's lock, and
        as its last owner would wait for ever for a thread of gloo that needs the lock.
        """
        del self.prepared, self.prepared_optimizer
        self.accelerator.free_memory()

    def step(self, batches: Iterator[Batch], state: RunState, active: list[str], ask: Callable[[], int]) -> StepOutcome:
        """One optimiser step.

        Args:
            batches: micro-batches.
            state: before the step.
            active: parts that take part.
            ask: the stop code of this process; the outcome has the one on which all agree.
        """
        torch.manual_seed(_step_seed(self.training.seed, state.step, self.accelerator.process_index))
        self.prepared.train()
        self.objective.active = active
        rates = self._set_rates(state)
        outcome = StepOutcome(dict.fromkeys(active, 0.0), {}, {part: rates[part] for part in active}, {})
        images: list[tuple[bool, str]] = []
        for _ in range(self.training.accumulation):
            before = time.perf_counter()
            batch = next(batches)
            outcome.waited += time.perf_counter() - before
            batch = {key: _to(value, self.accelerator.device) for key, value in batch.items()}
            with self.accelerator.accumulate(self.prepared):
                losses = self.prepared(batch)
                self.accelerator.backward(torch.stack(list(losses.values())).sum())
                if not self._add(outcome):
                    images += self._named(batch)
                if self.accelerator.sync_gradients:
                    self._finish(outcome, ask())
                self.prepared_optimizer.step()
                self.prepared_optimizer.zero_grad()
        if outcome.skipped:
            images = images or self._named(batch)
            outcome.images = gather_object(images) if self.accelerator.num_processes > 1 else images
        return outcome

    def _set_rates(self, state: RunState) -> dict[str, float]:
        rate = self.training.learning_rate
        rates = {part: rate * factor(state.trained.get(part, 0)) for part, factor in self._factors.items()}
        for group, part in zip(self.optimizer.param_groups, self.parts, strict=True):
            group["lr"] = rates[part]
        return rates

    def _add(self, outcome: StepOutcome) -> bool:
        """Add the losses of a micro-batch; whether all are finite."""
        losses = self.objective.last
        fields = [
            tensor
            for loss in losses.values()
            for tensor in (loss.scalar, loss.examples, loss.examples[:0] if loss.groups is None else loss.groups)
        ]
        numbers = iter(_fetched(fields))
        finite = True
        for part, loss in losses.items():
            (scalar,), examples, groups = next(numbers), next(numbers), next(numbers)
            outcome.loss[part] += scalar / self.training.accumulation
            finite = finite and math.isfinite(scalar)
            sums = class_sums(None if loss.groups is None else groups, examples)
            outcome.classes[part] = [
                a + b for a, b in zip(outcome.classes.get(part, [0.0] * len(sums)), sums, strict=True)
            ]
        return finite

    def _finish(self, outcome: StepOutcome, code: int) -> None:
        """Clip, agree with the other processes, and take gradients out that are not finite, or too large."""
        norms = [  # apart, so that one part's spike does not shorten another's step
            self.accelerator.clip_grad_norm_(self.family.parts[part].parameters(), self.training.gradient_clip)
            for part in outcome.loss
        ]
        for part, (norm,) in zip(outcome.loss, _fetched(norms), strict=True):
            outcome.gradient_norm[part] = norm
        outcome.code = code
        if self.accelerator.num_processes > 1:
            _agree(outcome, self.accelerator.num_processes)
        most = self.training.skip_threshold
        for part, loss in outcome.loss.items():
            norm = outcome.gradient_norm[part]
            if not math.isfinite(loss + norm) or (most is not None and norm >= most):
                outcome.skipped.append(part)
                for parameter in self.family.parts[part].parameters():
                    parameter.grad = None  # the optimiser passes over it

    def _named(self, batch: Batch) -> list[tuple[bool, str]]:
        """Of every example, whether its losses are finite, and its image's name and what made it hard."""
        bad = torch.zeros(len(batch["label"]), dtype=torch.bool)
        for loss in self.objective.last.values():
            bad |= ~loss.examples[: len(bad)].isfinite().cpu()
        return [
            (not bool(bad[place]), f"{label} ({self.family.describe_example(batch, place)})")
            for place, label in enumerate(batch["label"])
        ]


def _agree(outcome: StepOutcome, processes: int) -> None:
    """Means of the losses, sums of the classes and the largest stop code over all processes."""
    rows = gather_object([(list(outcome.loss.values()), outcome.classes, outcome.code)])
    for place, part in enumerate(outcome.loss):
        outcome.loss[part] = math.fsum(losses[place] for losses, _, _ in rows) / processes
        sums = zip(*(classes[part] for _, classes, _ in rows), strict=True)
        outcome.classes[part] = [math.fsum(column) for column in sums]
    codes = [code for *_, code in rows]
    outcome.code = max(codes) or min(codes)


def complaint(outcome: StepOutcome, state: RunState, training: TrainingConfig) -> str:
    """Why a training ends from which nothing is learned any more; `state` has the step counted."""
    part = outcome.skipped[0]
    loss, norm = outcome.loss[part], outcome.gradient_norm[part]
    what, value = ("gradient norm", f"{norm}") if math.isfinite(loss) else ("loss", f"{loss}")
    if math.isfinite(loss + norm):
        value = f"{norm:.4g}, at least training.skip_threshold {training.skip_threshold:g},"
    guilty = [text for finite, text in outcome.images if not finite] or [text for _, text in outcome.images]
    more = f" and {len(guilty) - NAMED_IMAGES} more" if len(guilty) > NAMED_IMAGES else ""
    return (
        f"training: the {what} of scale {part} is {value} at step {state.step}, "
        f"after {state.skipped_in_a_row - 1} such steps in a row; nothing was learned from them, the weights "
        f"before them are kept. Images: {', '.join(guilty[:NAMED_IMAGES])}{more}. "
        f"Look at them, or try a smaller training.learning_rate than {training.learning_rate:g}"
    )


def _fetched(tensors: Sequence[Tensor]) -> list[list[float]]:
    """The numbers of tensors of one device, at once: when the program waits for a GPU, the GPU then waits for it."""
    flat = [tensor.detach().float().flatten() for tensor in tensors]
    numbers = torch.cat(flat).tolist()
    ends = list(itertools.accumulate(len(tensor) for tensor in flat))
    return [numbers[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _step_seed(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step * 8191 + rank) % 2**31  # dropout only; examples carry their own seeds


def _to(value: Any, device: torch.device) -> Any:
    if not isinstance(value, Tensor):
        return value
    layout = torch.channels_last if value.ndim == 4 else torch.preserve_format
    return value.to(device, non_blocking=True).to(memory_format=layout)  # pinned where there is a GPU
