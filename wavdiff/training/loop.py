"""The training loop: Accelerate for devices, precision and processes; diffusers' EMA and learning-rate schedule.

Rerunning the same command continues the run: every random number is a function of the step, so n + m steps are
n + m steps in one go. All files of a run lie in one folder:

    config.yaml        the resolved configuration
    run.json           what was measured on the data (standardisation, sizes)
    stats.jsonl        one record per logged step and per evaluation
    checkpoints/       the newest few (see `checkpoints`)
    samples/           grids: raw weights above, averaged weights below
    model/             the averaged cascade in diffusers' layout, with its card
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor

from wavdiff.cascade import WaveletCascade, has_fast_bfloat16
from wavdiff.config import RunConfig, from_mapping, to_mapping, to_yaml
from wavdiff.data import count_images, heldout_batch
from wavdiff.errors import WavdiffError
from wavdiff.images import image_grid, save_image
from wavdiff.pipeline import save_model
from wavdiff.training.card import model_card
from wavdiff.training.checkpoints import (
    list_checkpoints,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from wavdiff.training.dashboard import Dashboard
from wavdiff.training.feeding import training_batches
from wavdiff.training.heldout import heldout_numbers
from wavdiff.training.objective import CascadeObjective
from wavdiff.training.setup import (
    build_cascade,
    example_settings,
    initialise,
    measure_rms,
    open_data,
    standardisation_of,
    take_scales,
)

Report = Callable[[dict[str, Any]], None]


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
    ) -> None:
        training = config.training
        self.config, self.out, self.report = config, out, report or (lambda record: None)
        self.train_source, self.heldout_source = open_data(config)
        AcceleratorState._reset_state()  # or a second training in this process could not have another precision
        self.accelerator = Accelerator(
            mixed_precision="bf16" if self._use_bfloat16() else "no",
            gradient_accumulation_steps=training.accumulation,
            cpu=not torch.cuda.is_available(),
        )
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
        measured = self._measured()
        self.cascade = build_cascade(config, measured["lowpass_std"], measured["detail_stds"])
        self.based = [name for name in known if name not in self.scales] if base else []
        if training.init and not list_checkpoints(out / "checkpoints"):
            initialise(self.cascade, training.init)
        if base:
            take_scales(self.cascade, self.based, base)
        self.cascade.to(device=self.accelerator.device, memory_format=torch.channels_last)
        for name in known:
            self.cascade.denoiser(name).requires_grad_(name in self.scales)
        self.names = {id(parameter): name for name, parameter in self.cascade.named_parameters()}
        self.trained: dict[str, int] = {}
        self.step, self.images_seen, self.seconds = 0, 0, 0.0
        self.recent: list[dict[str, Any]] = []  # steps since the last record
        self.optimizer = torch.optim.AdamW(
            [{"params": list(self.cascade.denoiser(name).parameters())} for name in self.scales],
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.averages = {
            name: EMAModel(
                self.cascade.denoiser(name).parameters(),
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
        self.schedules = {name: self._schedule(name) for name in self.scales}
        self._set_rates()
        objective = CascadeObjective(self.cascade, self.scales, {*self.trained, *self.based}, training.detail_crop)
        self.objective, self.prepared_optimizer = self.accelerator.prepare(objective, self.optimizer)

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
        return precision == "bf16" or (precision == "auto" and has_fast_bfloat16(device))

    def _measured(self) -> dict[str, Any]:
        """Standardisation of the data, measured once per run and kept in run.json."""
        path = self.out / "run.json"
        model = {key: to_mapping(self.config)[key] for key in ("model", "data")}
        if path.is_file():
            try:
                measured: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
                # Settings that an earlier version did not have get their defaults.
                before = to_mapping(from_mapping({"model": dict(measured["model"])}))["model"]
                float(measured["lowpass_std"]), list(measured["detail_stds"])
            except (ValueError, KeyError, TypeError) as error:
                raise WavdiffError(f"{path} is damaged ({error}); remove it or choose another --out") from error
            comparable = {key: value for key, value in model["model"].items() if key != "ladders"}
            changed = [key for key, value in comparable.items() if before.get(key) != value]
            if changed:
                raise WavdiffError(
                    f"--out {self.out} holds a run with another model.{changed[0]} "
                    f"({before.get(changed[0])!r}, now {comparable[changed[0]]!r}); choose another folder"
                )
            return measured
        init = self.config.training.init
        if init:
            lowpass_std, detail_stds = standardisation_of(init, self.config)
        else:
            lowpass_std, detail_stds = measure_rms(self.train_source, self.config)
        measured = {
            "lowpass_std": lowpass_std,
            "detail_stds": detail_stds,
            "images": count_images(self.train_source),
            **model,
        }
        if self.accelerator.is_main_process:
            self.out.mkdir(parents=True, exist_ok=True)
            _write_text(path, json.dumps(measured, indent=1))
        self.accelerator.wait_for_everyone()
        return measured

    def _resume(self) -> None:
        found = list_checkpoints(self.out / "checkpoints")
        if not found:
            self._forget_later_records()
            return
        weights, averaged, moments, state = load_checkpoint(found[-1])
        self.cascade.load_state_dict(weights)
        for name, shadow in self._shadows().items():
            shadow.data.copy_(averaged[name])
        self.step, self.trained = state["step"], state["trained"]
        self.images_seen, self.seconds = state["images_seen"], state["seconds"]
        self.recent = state.get("recent", [])
        for name, average in self.averages.items():
            average.optimization_step = self.trained.get(name, 0)
        restore_optimizer(self.optimizer, moments, self.names)
        self._forget_later_records()

    def _forget_later_records(self) -> None:
        """Drop the records of steps after the checkpoint, which will be run again."""
        stats = self.out / "stats.jsonl"
        if stats.is_file() and self.accelerator.is_main_process:
            kept = [line for line in stats.read_text(encoding="utf-8").splitlines() if _step_of(line) <= self.step]
            _write_text(stats, "".join(line + "\n" for line in kept))

    def _shadows(self) -> dict[str, Tensor]:
        """The averaged weights by parameter name; no copies."""
        shadows = {}
        for scale, average in self.averages.items():
            for parameter, shadow in zip(self.cascade.denoiser(scale).parameters(), average.shadow_params, strict=True):
                shadows[self.names[id(parameter)]] = shadow
        return shadows

    def run(self) -> Path:
        """Train every scale for its number of steps; returns the model folder."""
        training = self.config.training
        if self.accelerator.is_main_process:
            _write_text(self.out / "config.yaml", to_yaml(self.config))
            self.dashboard = Dashboard(self.out / "tensorboard")
        self.heldout = heldout_batch(
            self.heldout_source, **example_settings(self.config), limit=self.config.data.heldout_limit
        )
        batches = training_batches(
            self.config,
            self.train_source,
            start=self.step,
            stop=self.total,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        resumed_at_end = not self.active
        last = time.perf_counter()
        while self.active:
            self.objective.train()
            self.accelerator.unwrap_model(self.objective).active = self.active
            self.recent.append(self._optimise(batches))
            now = time.perf_counter()
            self.seconds += now - last
            self.recent[-1]["seconds"], last = now - last, now
            self.step += 1
            self.images_seen += training.batch_size
            finished = self._count_step()
            done = not self.active
            if self.step % training.log_every == 0 or finished:
                self._log(_summary(self.recent, training.batch_size))
                self.recent = []
            if _due(training.evaluate_every, self.step, done):
                self._evaluate()
            if _due(training.sample_every, self.step, done):
                self._sample()
            if self.step % training.checkpoint_every == 0 or done:
                self._save()
            last = time.perf_counter()
        self.accelerator.wait_for_everyone()
        if resumed_at_end:  # nothing to train: the model is written again, should it have been lost
            self._save()
        if self.accelerator.is_main_process:
            self.dashboard.close()
        self.accelerator.end_training()
        return self.out / "model"

    def _count_step(self) -> bool:
        """Count a step for every active scale; whether one of them has finished with it."""
        before = self.active
        for name in before:
            self.trained[name] = self.trained.get(name, 0) + 1
        self._set_rates()
        return self.active != before

    def _optimise(self, batches: Iterator[Any]) -> dict[str, Any]:
        """One optimiser step; returns its losses and gradient norm."""
        training = self.config.training
        torch.manual_seed(_step_seed(training.seed, self.step, self.accelerator.process_index))
        totals: dict[str, Tensor] = {}
        norms: dict[str, float] = {}
        for _ in range(training.accumulation):
            batch = next(batches)
            batch = {
                key: value.to(self.accelerator.device, memory_format=torch.channels_last)
                if value.ndim == 4 else value.to(self.accelerator.device)
                for key, value in batch.items()
            }  # fmt: skip
            with self.accelerator.accumulate(self.objective):
                losses = self.objective(batch)
                self.accelerator.backward(torch.stack(list(losses.values())).sum())
                for name, loss in losses.items():
                    totals[name] = totals.get(name, torch.zeros(())) + loss.detach().float().cpu()
                if self.accelerator.sync_gradients:
                    for name in losses:  # apart, so that one scale's spike does not shorten another's step
                        norm = self.accelerator.clip_grad_norm_(
                            self.cascade.denoiser(name).parameters(), training.gradient_clip
                        )
                        norms[name] = float(norm)
                self.prepared_optimizer.step()
                self.prepared_optimizer.zero_grad()
        mean = {name: float(total) / training.accumulation for name, total in totals.items()}
        for what, values in (("loss", mean), ("gradient norm", norms)):
            bad = [name for name, value in values.items() if not math.isfinite(value)]
            if bad:
                raise WavdiffError(
                    f"training: the {what} of scale {bad[0]} is {values[bad[0]]} at step {self.step + 1}; the last "
                    f"checkpoint is kept; try a smaller training.learning_rate than {training.learning_rate:g}"
                )
        for name in mean:
            self.averages[name].step(self.cascade.denoiser(name).parameters())
        rates = {
            name: group["lr"]
            for name, group in zip(self.scales, self.optimizer.param_groups, strict=True)
            if name in mean
        }
        return {"loss": mean, "gradient_norm": norms, "learning_rate": rates}

    @contextmanager
    def averaged(self) -> Iterator[WaveletCascade]:
        """The cascade with averaged weights, in evaluation mode."""
        for name, average in self.averages.items():
            average.store(self.cascade.denoiser(name).parameters())
            average.copy_to(self.cascade.denoiser(name).parameters())
        try:
            yield self.cascade.eval()
        finally:
            for name, average in self.averages.items():
                average.restore(self.cascade.denoiser(name).parameters())
            self.cascade.train()

    def _log(self, record: dict[str, Any]) -> None:
        record = {"step": self.step, "images": self.images_seen, "elapsed_seconds": round(self.seconds, 1), **record}
        if self.accelerator.is_main_process:
            with (self.out / "stats.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            self.dashboard.add_record(record)
            self.report(record)

    def _evaluate(self) -> None:
        if self.accelerator.is_main_process:
            with self.averaged() as cascade:
                numbers = heldout_numbers(cascade, self.heldout)
            self._log({"heldout": numbers})

    def _sample(self) -> None:
        if not self.accelerator.is_main_process:
            return
        shape = (self.cascade.channels, *self.cascade.image_size)
        rows = []
        ladders: dict[str, Any] = {
            "lowpass_ladder": self.cascade.ladder("lowpass"),
            "detail_ladder": self.cascade.ladder("details"),
        }
        seeds = list(range(8))
        self.cascade.eval()
        rows.append(self.cascade.sample(shape, seeds, **ladders)[-1])
        with self.averaged() as cascade:
            rows.append(cascade.sample(shape, seeds, **ladders)[-1])
        self.cascade.train()
        grid = image_grid(torch.cat(rows).float().cpu().clone(), columns=8)
        folder = self.out / "samples"
        folder.mkdir(exist_ok=True)
        save_image(folder / f"step-{self.step:08d}.png", grid)
        self.dashboard.add_picture("samples (raw above, averaged below)", grid, self.step)

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        averaged = {name: shadow.detach().cpu().clone() for name, shadow in self._shadows().items()}
        state = {
            "images_seen": self.images_seen,
            "seconds": self.seconds,
            "trained": self.trained,
            "recent": self.recent,
        }
        save_checkpoint(
            self.out / "checkpoints",
            self.step,
            cast(torch.nn.Module, self.cascade),
            averaged,
            optimizer_tensors(self.optimizer, self.names),
            state,
            self.config.training.keep_checkpoints,
        )
        model = copy.deepcopy(self.cascade).to("cpu", memory_format=torch.contiguous_format).eval()
        model.load_state_dict(averaged, strict=False)
        dtype = getattr(torch, self.config.training.save_dtype)
        _cast(_cast(model, dtype), torch.float32)  # the card speaks of the weights as they are stored
        card = model_card(self.config, model, self.train_source, self.heldout_source, state, self.out)
        save_model(_cast(model, dtype), self.out / "model", card, to_yaml(self.config))


def _cast(model: WaveletCascade, dtype: torch.dtype) -> WaveletCascade:
    """The model itself, its weights in `dtype` (diffusers' own `to` warns of what does not concern us)."""
    torch.nn.Module.to(cast(torch.nn.Module, model), dtype)
    return model


def _due(every: int, step: int, done: bool) -> bool:
    return bool(every) and (step % every == 0 or done)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _summary(recent: list[dict[str, Any]], batch_size: int) -> dict[str, Any]:
    count = len(recent)
    names = recent[0]["loss"]
    seconds = sum(step["seconds"] for step in recent)
    return {
        "loss": {name: round(sum(step["loss"][name] for step in recent) / count, 6) for name in names},
        "gradient_norm": {
            name: round(sum(step["gradient_norm"].get(name, 0.0) for step in recent) / count, 4) for name in names
        },
        "learning_rate": recent[-1]["learning_rate"],
        "images_per_second": round(batch_size * count / max(seconds, 1e-9), 2),
    }


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
