"""The training loop: Accelerate for devices, precision and processes; diffusers' EMA and learning-rate schedule.

Rerunning the same command continues the run: every random number is a function of the step, so n + m steps are
n + m steps in one go. All files of a run lie in one folder:

    config.yaml        the resolved configuration
    run.json           what was measured on the data (standardisation, sizes) and which data they were
    stats.jsonl        one record per logged step and per evaluation
    checkpoints/       the newest few and the best (see `checkpoints`)
    samples/           grids: raw weights above, averaged weights below
    model/             the averaged cascade in diffusers' layout, with its card

Several processes see the parts of one global batch; only the main one writes.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor

from wavdiff.data import count_images, heldout_batch, source_digest
from wavdiff.images import image_grid, save_image
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.training.objective import CascadeObjective
from wavdiff.models.cascade.training.standardisation import (
    build_cascade,
    initialise,
    measure_rms,
    standardisation_of,
    take_scales,
)
from wavdiff.models.cascade.training.validation import heldout_numbers, mean_loss
from wavdiff.system.atomic import recover_folder, written_whole
from wavdiff.system.devices import has_fast_bfloat16
from wavdiff.system.errors import WavdiffError
from wavdiff.system.lock import folder_lock
from wavdiff.system.processes import LONGEST_WAIT, find_processes
from wavdiff.training.batches import open_data, training_batches
from wavdiff.training.checkpoints import (
    Checkpoint,
    checkpoint_folders,
    load_checkpoint,
    load_newest,
    optimizer_tensors,
    recover_checkpoints,
    restore_optimizer,
    save_checkpoint,
)
from wavdiff.training.config import RunConfig, from_mapping, to_mapping, to_yaml
from wavdiff.training.dashboard import Dashboard
from wavdiff.training.records import LEVEL_NAMES, Recent, StepOutcome, append_record, class_sums, forget_records_after
from wavdiff.training.saving import export_model
from wavdiff.training.stopping import StopRequest

T = TypeVar("T")


Report = Callable[[dict[str, Any]], None]


SHEET_IMAGES = 8


LOST_CONNECTION = ("gloo", "NCCL", "onnection", "closed by peer", "timed out")
"""What torch's messages say when another process is gone."""


NAMED_IMAGES = 4
"""Images of a batch that a message about it names."""


def _step_seed(seed: int, step: int, rank: int) -> int:
    return (seed * 1_000_003 + step * 8191 + rank) % 2**31  # dropout only; examples carry their own seeds


class Trainer:
    """One training run.

    Args:
        config: the resolved configuration.
        out: folder of the run; continued if it holds checkpoints.
        scales: names of the scales to train, or None for all.
        report: called with every record that goes to stats.jsonl.
        base: a trained model; scales that are not trained here are taken from it.
        max_hours: stop after so long in this call, saved and ready to be continued; None: no limit.
        max_steps: stop after so many steps in this call; None: no limit.

    Attributes:
        stopped: after `run`: None where all is trained, else -1 for a limit or the number of a signal.

    Raises:
        WavdiffError: wrong scale names, data that cannot be opened, a run of another configuration in `out`.
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
        training = config.training
        self.config, self.out, self.report = config, out, report or (lambda record: None)
        self.limits = max_hours, max_steps
        self.train_source, self.heldout_source = open_data(config)
        AcceleratorState._reset_state()  # or a second training in this process could not have another precision
        self.accelerator = Accelerator(
            mixed_precision="bf16" if self._use_bfloat16() else "no",
            gradient_accumulation_steps=training.accumulation,
            cpu=not torch.cuda.is_available(),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
        )
        started = find_processes().count
        if started != self.accelerator.num_processes:
            raise WavdiffError(
                f"training in {started} processes needs accelerate launch or torchrun: srun alone starts them apart"
            )
        if self.accelerator.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32 where the device has it
        parts = training.accumulation * self.accelerator.num_processes
        if training.batch_size % parts:
            raise WavdiffError(
                f"training.batch_size {training.batch_size} is not divisible by accumulation x processes = {parts}"
            )
        # Built once before anything is written, so that a wrong configuration leaves no run behind.
        known = build_cascade(config, 1.0, [1.0] * config.model.levels).scale_names
        self.scales = list(dict.fromkeys(scales or known))
        for name in self.scales:
            if name not in known:
                raise WavdiffError(f"--scales: {name!r} is not one of {', '.join(known)}")
        self._from_main(self._read_heldout)  # before anything is written
        measured = self._measured()
        self.data = measured["trained_on"]
        self.cascade = build_cascade(config, measured["lowpass_std"], measured["detail_stds"])
        self._from_main(lambda: recover_checkpoints(out / "checkpoints"))
        self._found = [path.name for path in checkpoint_folders(out / "checkpoints")]
        begins = not self._found
        self.based = [name for name in known if name not in self.scales] if base or training.init else []
        if training.init and begins:
            if standardisation_of(training.init, config) != (measured["lowpass_std"], measured["detail_stds"]):
                raise WavdiffError(
                    f"--out {out} was begun without training.init {training.init}; choose another folder"
                )
            initialise(self.cascade, training.init)
        if base:
            take_scales(self.cascade, self.based, base)
        self.cascade.to(device=self.accelerator.device, memory_format=torch.channels_last)
        for name in known:
            self.cascade.denoiser(name).requires_grad_(name in self.scales)
        self.names = {id(tensor): name for name, tensor in _state(cast(torch.nn.Module, self.cascade)).items()}
        self.trained: dict[str, int] = {}
        self.step, self.images_seen, self.seconds = 0, 0, 0.0
        self.recent = Recent()
        self.skipped: dict[str, int] = {}
        self.best: dict[str, Any] | None = None
        self.stopped: int | None = None
        self._skipped_in_a_row = 0
        self._complaint = ""
        self._best_before: dict[str, Any] | None = None
        self._began = time.monotonic()
        self.optimizer = torch.optim.AdamW(
            [{"params": list(self.cascade.denoiser(name).parameters())} for name in self.scales],
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.averages = {
            name: EMAModel(
                _averaged_tensors(self.cascade.denoiser(name)),
                decay=training.ema_decay,
                use_ema_warmup=True,
                power=training.ema_power,
                foreach=True,
            )
            for name in known
        }
        for average in self.averages.values():
            average.to(self.accelerator.device)
        self._resume()
        if self.accelerator.num_processes > 1 and len(set(gather_object([self.step]))) > 1:
            raise WavdiffError(f"--out {out}: the processes see different checkpoints there; they must share it")
        self.schedules = {name: self._schedule(name) for name in self.scales}
        self._set_rates()
        available = {*self.trained, *self.based}
        objective = CascadeObjective(self.cascade, self.scales, available, training.detail_crop, training.balance)
        self.plain_objective = objective
        if training.compile:
            for name in self.scales:
                self.cascade.denoiser(name).network.compile()
        left = {training.steps_of(name) - self.trained.get(name, 0) for name in self.scales}
        # A scale that has finished has no gradient: gradients are then waited for only where there are some.
        self.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=len(left) > 1)
        self.objective, self.prepared_optimizer = self.accelerator.prepare(objective, self.optimizer)

    def _from_main(self, work: Callable[[], T]) -> T:
        """What `work` returns, done by the main process only; where it fails, the others end as well."""
        return work() if self.accelerator.num_processes == 1 else find_processes().from_main(work)

    def _read_heldout(self) -> None:
        settings = self.config.example_settings
        self.heldout = heldout_batch(self.heldout_source, **settings, limit=self.config.data.heldout_limit)

    def _schedule(self, scale: str) -> Callable[[int], float]:
        """Learning rate of a scale, as a part of `learning_rate`, by the steps it has been trained for."""
        training = self.config.training
        total = max(training.steps_of(scale), training.warmup_steps + 1)
        factor: Callable[[int], float] = get_cosine_schedule_with_warmup(
            self.optimizer, training.warmup_steps, total
        ).lr_lambdas[0]
        return factor

    def _set_rates(self) -> None:
        for group, name in zip(self.optimizer.param_groups, self.scales, strict=True):
            group["lr"] = self.config.training.learning_rate * self.schedules[name](self.trained.get(name, 0))

    @property
    def active(self) -> list[str]:
        """Scales that are still to be trained."""
        steps = self.config.training.steps_of
        return [name for name in self.scales if self.trained.get(name, 0) < steps(name)]

    @property
    def total(self) -> int:
        """The run's step at which all scales will be trained."""
        steps = self.config.training.steps_of
        return self.step + max((steps(name) - self.trained.get(name, 0) for name in self.active), default=0)

    def _use_bfloat16(self) -> bool:
        precision = self.config.training.precision
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = self.config.model
        networks = [model.lowpass, *(model.detail_network(str(scale)) for scale in range(model.levels))]
        blind = any(network.kind == "bias-free" for network in networks)  # they cannot learn small noise in bf16
        return precision == "bf16" or (precision == "auto" and not blind and has_fast_bfloat16(device))

    # --- what a run is made of -----------------------------------------------------------------------------------

    def _measured(self) -> dict[str, Any]:
        """Standardisation of the data, measured once per run by the main process and kept in run.json."""
        path = self.out / "run.json"
        data = {
            "name": self.config.data.name,
            "images": count_images(self.train_source),
            "digest": source_digest(self.train_source),
        }
        self._from_main(lambda: self._measure(path, data))
        return self._read_measured(path, data)

    def _measure(self, path: Path, data: dict[str, Any]) -> None:
        if not path.is_file():
            init = self.config.training.init
            if init:
                lowpass_std, detail_stds = standardisation_of(init, self.config)
            else:
                lowpass_std, detail_stds = measure_rms(self.train_source, self.config)
            sections = {key: to_mapping(self.config)[key] for key in ("model", "data")}
            measured = {"lowpass_std": lowpass_std, "detail_stds": detail_stds, "trained_on": data, **sections}
            with written_whole(path) as file:
                file.write(json.dumps(measured, indent=1).encode())

    def _read_measured(self, path: Path, data: dict[str, Any]) -> dict[str, Any]:
        try:
            measured: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            # Settings that an earlier version did not have get their defaults.
            before = to_mapping(from_mapping({"model": dict(measured["model"])}))["model"]
            right = all(value > 0 for value in (float(measured["lowpass_std"]), *map(float, measured["detail_stds"])))
            if not right or len(measured["detail_stds"]) != before["levels"]:
                raise ValueError("its rms values must be positive, one for each scale")
            earlier = dict(measured.get("trained_on") or {"images": measured.get("images")})
        except (ValueError, KeyError, TypeError, RecursionError, WavdiffError) as error:
            raise WavdiffError(f"{path} is damaged ({error}); remove it or choose another --out") from error
        comparable = {key: value for key, value in to_mapping(self.config)["model"].items() if key != "ladders"}
        changed = [key for key, value in comparable.items() if before.get(key) != value]
        if changed:
            raise WavdiffError(
                f"--out {self.out} holds a run with another model.{changed[0]} "
                f"({before.get(changed[0])!r}, now {comparable[changed[0]]!r}); choose another folder"
            )
        for key in ("name", "images", "digest"):
            if earlier.get(key) is not None and earlier[key] != data[key]:
                now = f"{earlier[key]} images then, {data[key]} now" if key == "images" else "other files"
                if key == "name":
                    now = f"it was {earlier[key]}"
                warnings.warn(
                    f"the data {data['name']} changed since this run began ({now}); it goes on with those of now, "
                    "and n + m steps are no longer n + m steps in one go",
                    stacklevel=2,
                )
                break
        return {**measured, "trained_on": {**data, **earlier}}

    def _resume(self) -> None:
        found = load_newest(self.out / "checkpoints")
        if found is None:
            return
        try:
            self.cascade.load_state_dict(found.weights)
            for name, shadow in self._shadows().items():
                shadow.data.copy_(found.averaged[name])
            restore_optimizer(self.optimizer, found.moments, self.names)
        except (RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WavdiffError(
                f"--out {self.out}: checkpoint step-{found.state['step']:08d} does not fit this model ({reason})"
            ) from error
        state = found.state
        if state.get("standardisation", self._standardisation()) != self._standardisation():
            raise WavdiffError(
                f"{self.out / 'run.json'} is damaged (its rms values are not those of the checkpoints, "
                f"{state['standardisation']})"
            )
        self.step, self.trained = state["step"], state["trained"]
        self.images_seen, self.seconds = state["images_seen"], state["seconds"]
        self.recent = Recent(state.get("recent"))
        self.skipped, self.best = state.get("skipped", {}), state.get("best")
        self._skipped_in_a_row = state.get("skipped_in_a_row", 0)
        for name, average in self.averages.items():
            average.optimization_step = self.trained.get(name, 0) - self.skipped.get(name, 0)

    def _standardisation(self) -> list[float]:
        return [self.cascade.denoiser(name).std for name in self.cascade.scale_names]

    def _shadows(self) -> dict[str, Tensor]:
        """The averaged weights by parameter name; no copies."""
        shadows = {}
        for scale, average in self.averages.items():
            tensors = _averaged_tensors(self.cascade.denoiser(scale))
            for tensor, shadow in zip(tensors, average.shadow_params, strict=True):
                shadows[self.names[id(tensor)]] = shadow
        return shadows

    # --- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> Path:
        """Train every scale for its number of steps, or until a limit or a signal; returns the model folder.

        Raises:
            WavdiffError: another process trains in this folder; too many steps without a finite loss; the last
                checkpoint cannot be written.
        """
        with contextlib.ExitStack() as stack:
            self._from_main(lambda: self._take_folder(stack))
            request = stack.enter_context(StopRequest(*self.limits, began=self._began))
            try:
                self._train(request)
                self.accelerator.wait_for_everyone()
            except RuntimeError as error:
                if self.accelerator.num_processes > 1 and any(word in str(error) for word in LOST_CONNECTION):
                    raise WavdiffError(
                        "training: another process has ended early; see its message. The last checkpoint is kept"
                    ) from error
                raise
        self.accelerator.end_training()
        return self.out / "model"

    def _take_folder(self, stack: contextlib.ExitStack) -> None:
        """What the main process does with the folder before the first step."""
        stack.enter_context(folder_lock(self.out))
        if [path.name for path in checkpoint_folders(self.out / "checkpoints")] != self._found:
            raise WavdiffError(f"--out {self.out}: another process has trained here meanwhile; run the command again")
        recover_folder(self.out / "model")
        forget_records_after(self.out / "stats.jsonl", self.step)
        with written_whole(self.out / "config.yaml") as file:
            file.write(to_yaml(self.config).encode())
        self.dashboard = Dashboard(self.out / "tensorboard", purge_step=self.step)
        stack.callback(self.dashboard.close)

    def _train(self, request: StopRequest) -> None:
        if not self.active:  # nothing to train: the model is written again, should it have been lost
            self._from_main(self._export)
            return
        batches = training_batches(
            self.config,
            self.train_source,
            start=self.step,
            stop=self.total,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        with contextlib.closing(batches):  # ends its workers
            self._take_steps(batches, request)

    def _take_steps(self, batches: Generator[Any, None, None], request: StopRequest) -> None:
        training = self.config.training
        began, last = self.step, time.perf_counter()
        while self.active:
            self.objective.train()
            self.plain_objective.active = self.active
            try:
                outcome, code = self._optimise(batches, lambda: request.code(self.step + 1 - began))
            except WavdiffError:  # an image that cannot become an example
                if self.accelerator.num_processes == 1 and self.step > began:
                    self._save(last=True)
                raise
            now = time.perf_counter()
            outcome.seconds, last = now - last, now
            self.seconds += outcome.seconds
            self.recent.add(outcome)
            self.step += 1
            self.images_seen += training.batch_size
            finished = self._count_step(outcome)
            done = not self.active
            if self.step % training.log_every == 0 or finished:
                self._log(self.recent.record(training.batch_size) | {"total": self.total})
                self.recent = Recent()
            stop = 0 if done else code
            better = _due(training.evaluate_every, self.step, done) and self._evaluate()
            if _due(training.sample_every, self.step, done):
                self._sample()
            given_up = self._skipped_in_a_row > training.max_skipped
            if self.step % training.checkpoint_every == 0 or done or better or stop or given_up:
                self._save(last=bool(done or stop or given_up))
            if given_up:
                if self.accelerator.is_main_process:
                    raise WavdiffError(self._complaint)
                raise SystemExit(1)
            if stop:
                self.stopped = stop
                return
            last = time.perf_counter()

    def _count_step(self, outcome: StepOutcome) -> bool:
        """Count a step for every active scale; whether one of them has finished with it."""
        before = self.active
        for name in before:
            self.trained[name] = self.trained.get(name, 0) + 1
        for name in outcome.skipped:
            self.skipped[name] = self.skipped.get(name, 0) + 1
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if outcome.skipped else 0
        self._set_rates()
        return self.active != before

    def _optimise(self, batches: Iterator[Any], ask: Callable[[], int]) -> tuple[StepOutcome, int]:
        """One optimiser step; returns what happened and the stop code (of `ask`) on which all processes agree."""
        training, device = self.config.training, self.accelerator.device
        torch.manual_seed(_step_seed(training.seed, self.step, self.accelerator.process_index))
        totals: dict[str, float] = {}
        classes: dict[str, list[float]] = {}
        norms: dict[str, float] = {}
        waited, code = 0.0, 0
        images: list[tuple[bool, str]] = []
        for _ in range(training.accumulation):
            before = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - before
            batch = {key: _to(value, device) for key, value in batch.items()}
            with self.accelerator.accumulate(self.objective):
                losses = self.objective(batch)
                self.accelerator.backward(torch.stack(list(losses.values())).sum())
                if not all(bool(loss.isfinite()) for loss in losses.values()):
                    images += self._named(batch)
                for name, loss in losses.items():
                    totals[name] = totals.get(name, 0.0) + float(loss.detach()) / training.accumulation
                    sums = class_sums(*(part.float().cpu() for part in self.plain_objective.examples[name]))
                    classes[name] = [a + b for a, b in zip(classes.get(name, [0.0] * len(sums)), sums, strict=True)]
                if self.accelerator.sync_gradients:
                    for name in losses:  # apart, so that one scale's spike does not shorten another's step
                        norms[name] = float(
                            self.accelerator.clip_grad_norm_(
                                self.cascade.denoiser(name).parameters(), training.gradient_clip
                            )
                        )
                    totals, classes, code = self._agree(totals, classes, ask())
                    skipped = [name for name in totals if not math.isfinite(totals[name] + norms[name])]
                    for name in skipped:
                        for parameter in self.cascade.denoiser(name).parameters():
                            parameter.grad = None  # the optimiser passes over it
                self.prepared_optimizer.step()
                self.prepared_optimizer.zero_grad()
        if skipped:
            images = images or self._named(batch)
            if self.accelerator.num_processes > 1:
                images = gather_object(images)
            self._complaint = self._describe(skipped, totals, norms, images)
        for name in totals:
            if name not in skipped:
                self.averages[name].step(_averaged_tensors(self.cascade.denoiser(name)))
        rates = {
            name: group["lr"]
            for name, group in zip(self.scales, self.optimizer.param_groups, strict=True)
            if name in totals
        }
        return StepOutcome(totals, norms, rates, classes, skipped, waited), code

    def _agree(
        self, totals: dict[str, float], classes: dict[str, list[float]], code: int
    ) -> tuple[dict[str, float], dict[str, list[float]], int]:
        """Means of the losses, sums of the classes and the largest stop code over all processes."""
        processes = self.accelerator.num_processes
        if processes == 1:
            return totals, classes, code
        count = len(LEVEL_NAMES)
        row = [*totals.values(), *(value for name in totals for value in classes[name])]
        rows = gather_object([(row, code)])
        summed = [math.fsum(column) for column in zip(*(values for values, _ in rows), strict=True)]
        means = {name: summed[place] / processes for place, name in enumerate(totals)}
        start = len(totals)
        joined = {
            name: summed[start + 2 * count * place : start + 2 * count * (place + 1)]
            for place, name in enumerate(totals)
        }
        codes = [value for _, value in rows]
        return means, joined, max(codes) or min(codes)

    def _named(self, batch: Any) -> list[tuple[bool, str]]:
        """Of every example, whether its losses are finite, and its image's name and noise level."""
        bad = torch.zeros(len(batch["label"]), dtype=torch.bool)
        for _, losses in self.plain_objective.examples.values():
            bad |= ~losses[: len(bad)].isfinite().cpu()
        named = []
        for place, label in enumerate(batch["label"]):
            if batch["denoising"][place]:
                level = f"noise {255 * float(batch['image_level'][place]) / 2:.1f}/255"
            else:
                level = "noise of " + "/".join(f"{float(value):.3g}" for value in batch["levels"][place]) + " std"
            named.append((not bool(bad[place]), f"{label} ({level})"))
        return named

    def _describe(
        self, skipped: list[str], totals: dict[str, float], norms: dict[str, float], images: list[tuple[bool, str]]
    ) -> str:
        """What to say of a step from which nothing could be learned."""
        name = skipped[0]
        what, value = ("loss", totals[name]) if not math.isfinite(totals[name]) else ("gradient norm", norms[name])
        guilty = [text for finite, text in images if not finite] or [text for _, text in images]
        more = f" and {len(guilty) - NAMED_IMAGES} more" if len(guilty) > NAMED_IMAGES else ""
        return (
            f"training: the {what} of scale {name} is {value} at step {self.step + 1}, after {self._skipped_in_a_row} "
            f"such steps in a row; nothing was learned from them, the weights before them are kept. Images: "
            f"{', '.join(guilty[:NAMED_IMAGES])}{more}. "
            f"Look at them, or try a smaller training.learning_rate than {self.config.training.learning_rate:g}"
        )

    @contextmanager
    def averaged(self) -> Iterator[WaveletCascade]:
        """The cascade with averaged weights, in evaluation mode."""
        for name, average in self.averages.items():
            average.store(_averaged_tensors(self.cascade.denoiser(name)))
            average.copy_to(_averaged_tensors(self.cascade.denoiser(name)))
        try:
            yield self.cascade.eval()
        finally:
            for name, average in self.averages.items():
                average.restore(_averaged_tensors(self.cascade.denoiser(name)))
            self.cascade.train()

    # --- what a run writes ---------------------------------------------------------------------------------------

    def _log(self, record: dict[str, Any]) -> None:
        record = {"step": self.step, "images": self.images_seen, "elapsed_seconds": round(self.seconds, 1), **record}
        if self.accelerator.is_main_process:
            try:
                append_record(self.out / "stats.jsonl", record)
            except OSError as error:
                warnings.warn(f"{self.out / 'stats.jsonl'} cannot be written ({error.strerror})", stacklevel=2)
            self.dashboard.add_record(record)
            self.report(record)

    def _evaluate(self) -> bool:
        """Measure on held-out images; whether it is the best so far (on the main process)."""
        if not self.accelerator.is_main_process:
            return False
        with self.averaged() as cascade:
            numbers = heldout_numbers(cascade, self.heldout)
        value = mean_loss(numbers, self.scales)
        best = self.best if self.best and self.best.get("scales", self.scales) == self.scales else None
        better = math.isfinite(value) and (best is None or value < best["heldout_loss"])
        if better:
            self._best_before = self.best
            self.best = {"step": self.step, "heldout_loss": value, "scales": self.scales}
        self._log({"heldout": numbers, "heldout_loss": value, "best": self.best})
        return better

    def _sample(self) -> None:
        """Draw a contact sheet; every process draws its share."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        seeds = list(range(SHEET_IMAGES))[rank::processes]
        shape = (self.cascade.channels, *self.cascade.image_size)
        ladders: dict[str, Any] = {
            "lowpass_ladder": self.cascade.ladder("lowpass"),
            "detail_ladder": self.cascade.ladder("details"),
        }
        drawn: list[tuple[int, int, Tensor]] = []
        if seeds:
            self.cascade.eval()
            for image, seed in zip(self.cascade.sample(shape, seeds, **ladders)[-1], seeds, strict=True):
                drawn.append((0, seed, image.float().cpu().clone()))
            with self.averaged() as cascade:
                for image, seed in zip(cascade.sample(shape, seeds, **ladders)[-1], seeds, strict=True):
                    drawn.append((1, seed, image.float().cpu().clone()))
            self.cascade.train()
        if processes > 1:
            drawn = gather_object(drawn)
        if not self.accelerator.is_main_process:
            return
        images = [image for *_, image in sorted(drawn, key=lambda item: item[:2])]
        grid = image_grid(torch.stack(images), columns=SHEET_IMAGES)
        folder = self.out / "samples"
        try:
            folder.mkdir(exist_ok=True)
            save_image(folder / f"step-{self.step:08d}.png", grid)
        except OSError as error:
            warnings.warn(f"{folder} cannot be written ({error.strerror or error})", stacklevel=2)
        self.dashboard.add_picture("samples (raw above, averaged below)", grid, self.step)

    def _save(self, last: bool) -> None:
        """Write a checkpoint and the model; what goes wrong before the last one is a warning, and training goes on.

        All processes come here for the last one.
        """
        if last:
            self._from_main(self._write)
        elif self.accelerator.is_main_process:
            try:
                self._write()
            except WavdiffError as error:
                if self.best and self.best["step"] == self.step:  # it has no checkpoint
                    self.best = self._best_before
                warnings.warn(f"{error}; training goes on", stacklevel=2)

    def _write(self) -> None:
        state = self._state()
        weights = cast(torch.nn.Module, self.cascade).state_dict()
        moments = optimizer_tensors(self.optimizer, self.names)
        protected = [self.best["step"]] if self.best else []
        save_checkpoint(
            self.out / "checkpoints",
            self.step,
            Checkpoint(weights, self._averaged_weights(), moments, state),
            self.config.training.keep_checkpoints,
            protected,
        )
        self._export()

    def _state(self) -> dict[str, Any]:
        return {
            "images_seen": self.images_seen,
            "seconds": self.seconds,
            "trained": self.trained,
            "scales": self.scales,
            "standardisation": self._standardisation(),
            "skipped": self.skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
            "best": self.best,
            "recent": self.recent.state(),
        }

    def _averaged_weights(self) -> dict[str, Tensor]:
        return {name: shadow.detach().cpu().clone() for name, shadow in self._shadows().items()}

    def _export(self) -> None:
        """Write the model: the last averaged weights, or the best ones."""
        averaged, state = self._averaged_weights(), self._state()
        if self.config.training.export == "best" and self.best and self.best["step"] != self.step:
            try:
                best = load_checkpoint(self.out / "checkpoints" / f"step-{self.best['step']:08d}")
                averaged, state = best.averaged, best.state
            except WavdiffError as error:
                warnings.warn(f"the model is the last one, not the best: {error}", stacklevel=2)
        export_model(
            self.cascade, averaged, self.config, (self.train_source, self.heldout_source), state, self.data, self.out
        )


def _state(module: torch.nn.Module) -> dict[str, Any]:
    """Parameters and kept buffers by name, the tensors themselves."""
    return dict(torch.nn.Module.state_dict(module, keep_vars=True))


def _averaged_tensors(denoiser: torch.nn.Module) -> list[Any]:
    """What is averaged: the parameters; running statistics of the weights of now go along as they are."""
    return list(_state(denoiser).values())


def _to(value: Any, device: torch.device) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.to(device, memory_format=torch.channels_last) if value.ndim == 4 else value.to(device)


def _due(every: int, step: int, done: bool) -> bool:
    return bool(every) and (step % every == 0 or done)
