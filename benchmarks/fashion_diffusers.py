"""The baseline for Fashion-MNIST: a plain pixel-space diffusion by diffusers' own recipe.

The recipe is that of diffusers' unconditional training example: `UNet2DModel`, `DDPMScheduler` with 1,000 levels, the
squared error of the predicted noise at a uniformly drawn level, AdamW, a cosine learning rate with warm-up, `EMAModel`
with its warm-up; samples by `DDIMScheduler` or `DPMSolverMultistepScheduler`. What a fair person would set for small
gray images on a processor is set: 32x32 images (28 padded with black), 32-64-128 channels, two layers per block,
attention at 8x8 with heads of 64 (the default of 8 halves the speed), batches of 32, bfloat16 where the processor has
it. Channels-last memory is left out because group normalisation is slower with it. Training stops by the clock, and the
learning rate follows the clock, so that "trained for the same time" is exact.

    python benchmarks/fashion_diffusers.py train --minutes 40 --threads 1 --out build/fashion_diffusers
    python benchmarks/fashion_diffusers.py sample --model build/fashion_diffusers --n 5000 --steps 20 \
        --scheduler dpm --out build/dpm_20.npy
    python benchmarks/fashion_diffusers.py score build/dpm_20.npy --floor

`train` resumes when it is started again. `score` gives the KID-EffLite0 of any uint8 file (N, 28 or 32, 28 or 32)
against the 10,000 test images, all at 28x28, so it serves for the samples of every model.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn import functional

from wavdiff.data import Split, open_source
from wavdiff.evaluation.metrics import FeatureExtractor, kid_and_standard_error

SIDE = 28
PADDED = 32
BORDER = (PADDED - SIDE) // 2
WARMUP_FRACTION = 0.02
SAVE_EVERY_SECONDS = 120.0
LOG_EVERY_STEPS = 50


def load_pixels(split: Split) -> Tensor:
    """Return a split of Fashion-MNIST as uint8 (N, 1, 28, 28)."""
    source = open_source("fashion-mnist", split)
    return torch.from_numpy(np.stack([source[index] for index in range(len(source))]))[:, None]


def build_network(channels: list[int], layers: int) -> Any:
    """Return a U-Net for gray 32x32 images with attention at its lowest resolution."""
    levels = len(channels)
    return UNet2DModel(
        sample_size=PADDED,
        in_channels=1,
        out_channels=1,
        layers_per_block=layers,
        block_out_channels=tuple(channels),
        attention_head_dim=min(64, channels[-1]),
        down_block_types=("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
    )


def learning_rate_factor(fraction: float) -> float:
    """Return the factor of the peak learning rate after a fraction of the training time: linear, then half a cosine."""
    if fraction < WARMUP_FRACTION:
        return fraction / WARMUP_FRACTION
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (fraction - WARMUP_FRACTION) / (1.0 - WARMUP_FRACTION))))


def autocast() -> torch.autocast:
    """Return bfloat16 autocast, switched on where the processor computes in bfloat16."""
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())


class IndexStream:
    """Batches of indices, every image once per epoch, in an order drawn from a generator."""

    def __init__(self, count: int, batch_size: int, generator: torch.Generator) -> None:
        self.count, self.batch_size, self.generator = count, batch_size, generator
        self.order = torch.empty(0, dtype=torch.long)

    def draw(self) -> Tensor:
        """Return the next (batch_size,) indices."""
        if len(self.order) < self.batch_size:
            self.order = torch.randperm(self.count, generator=self.generator)
        batch, self.order = self.order[: self.batch_size], self.order[self.batch_size :]
        return batch


def train(options: argparse.Namespace) -> None:
    """Train for `options.minutes`, counted without start-up and saving, and save a pipeline with the EMA weights."""
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    pixels = functional.pad(load_pixels("train"), [BORDER] * 4)
    network = build_network(options.channels, options.layers)
    parameters = list(network.parameters())
    ema = EMAModel(parameters, decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75, foreach=True)
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, betas=(0.95, 0.999), weight_decay=1e-6, fused=True)
    scheduler: Any = DDPMScheduler(num_train_timesteps=1000)
    stream = IndexStream(len(pixels), options.batch_size, generator)
    step, elapsed, last_saved = 0, 0.0, 0.0
    state_file = out / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        ema.load_state_dict(state["ema"])
        generator.set_state(state["generator"])
        stream.order = state["order"]
        step, elapsed = state["step"], state["elapsed_seconds"]
        last_saved = elapsed
        print(f"resumed at step {step} after {elapsed / 60:.1f} minutes", flush=True)
    budget = 60.0 * options.minutes
    count = sum(parameter.numel() for parameter in parameters)
    print(f"{count:,} parameters, {options.minutes} minutes, {torch.get_num_threads()} threads", flush=True)

    def save() -> None:
        state = {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "ema": ema.state_dict(),
            "generator": generator.get_state(),
            "order": stream.order.clone(),
            "step": step,
            "elapsed_seconds": elapsed,
        }
        torch.save(state, out / "state.tmp")
        os.replace(out / "state.tmp", state_file)
        ema.store(parameters)
        ema.copy_to(parameters)
        pipeline: Any = DDPMPipeline(network, scheduler)
        pipeline.save_pretrained(out)
        ema.restore(parameters)
        record = {**vars(options), "parameters": count, "steps": step, "images": step * options.batch_size}
        record["elapsed_seconds"] = round(elapsed, 1)
        (out / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    network.train()
    loss_sum = torch.zeros(())
    window_steps, window_start = 0, elapsed
    while elapsed < budget:
        tick = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = options.lr * learning_rate_factor(elapsed / budget)
        clean = pixels[stream.draw()].float() / 127.5 - 1.0
        noise = torch.randn(clean.shape, generator=generator)
        times = torch.randint(0, scheduler.config["num_train_timesteps"], (len(clean),), generator=generator)
        with autocast():
            predicted = network(scheduler.add_noise(clean, noise, times), times).sample
        loss = functional.mse_loss(predicted.float(), noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(parameters)
        step += 1
        window_steps += 1
        loss_sum += loss.detach()
        elapsed += time.perf_counter() - tick
        if window_steps == LOG_EVERY_STEPS or elapsed >= budget:
            entry = {
                "step": step,
                "elapsed_seconds": round(elapsed, 1),
                "loss": round(loss_sum.item() / window_steps, 5),
                "lr": optimizer.param_groups[0]["lr"],
                "images_per_second": round(window_steps * options.batch_size / (elapsed - window_start), 1),
            }
            with (out / "stats.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            print(json.dumps(entry), flush=True)
            loss_sum.zero_()
            window_steps, window_start = 0, elapsed
        if elapsed - last_saved > SAVE_EVERY_SECONDS:
            save()
            last_saved = elapsed
    save()
    print(f"saved {out}", flush=True)


@torch.inference_mode()
def sample(options: argparse.Namespace) -> None:
    """Draw images with `options.steps` network calls each and write them as uint8 (N, 28, 28)."""
    pipeline = DDPMPipeline.from_pretrained(options.model)
    network = pipeline.unet.eval()
    if options.scheduler == "ddim":
        # "trailing" starts from the last level, as Lin et al. (2023) advise for few calls
        scheduler: Any = DDIMScheduler.from_config(
            pipeline.scheduler.config, timestep_spacing=options.spacing or "trailing"
        )
    else:
        scheduler = DPMSolverMultistepScheduler.from_config(
            pipeline.scheduler.config, timestep_spacing=options.spacing or "linspace"
        )
    generator = torch.Generator().manual_seed(options.seed)
    start = time.perf_counter()
    results = []
    # All noise is drawn first: the solvers are deterministic, so the batch size then changes nothing but rounding.
    for batch in torch.randn((options.n, 1, PADDED, PADDED), generator=generator).split(options.batch_size):
        scheduler.set_timesteps(options.steps)
        if len(scheduler.timesteps) != options.steps:
            raise SystemExit(
                f"{options.scheduler} makes {len(scheduler.timesteps)} calls, {options.steps} were asked for"
            )
        images = batch * scheduler.init_noise_sigma
        for moment in scheduler.timesteps:
            with autocast():
                noise = network(scheduler.scale_model_input(images, moment), moment).sample
            images = scheduler.step(noise.float(), moment, images, return_dict=False)[0]
        results.append(images)
    inner = slice(BORDER, BORDER + SIDE)
    drawn = ((torch.cat(results)[:, 0, inner, inner].clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
    seconds = time.perf_counter() - start
    out = Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.save(out, drawn.numpy())
    print(f"{options.n} images, {options.steps} calls each, {seconds:.1f} s, {options.n / seconds:.1f} images/s: {out}")


def score(options: argparse.Namespace) -> None:
    """Print the KID-EffLite0 of sample files, and of the training images, against the test images."""
    extractor = FeatureExtractor()
    cache = Path(options.cache)
    if cache.exists():
        reference = torch.from_numpy(np.load(cache))
    else:
        reference = extractor(load_pixels("heldout").float() / 127.5 - 1.0)
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.save(cache, reference.numpy())
    sets = {name: _read_samples(Path(name)) for name in options.files}
    if options.floor:
        chosen = torch.randperm(60_000, generator=torch.Generator().manual_seed(0))[: options.floor_images]
        sets[f"{options.floor_images} training images (the floor)"] = load_pixels("train")[chosen]
    for name, pixels in sets.items():
        value, error = kid_and_standard_error(extractor(pixels.float() / 127.5 - 1.0), reference)
        print(f"KID-EffLite0 {value:.5f} +- {error:.5f}  {len(pixels):6d} images  {name}", flush=True)


def _read_samples(path: Path) -> Tensor:
    pixels = torch.from_numpy(np.load(path))
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or tuple(pixels.shape[1:]) not in ((SIDE,) * 2, (PADDED,) * 2):
        raise SystemExit(f"{path}: expected uint8 (N, 28, 28) or (N, 32, 32), got {pixels.dtype} {tuple(pixels.shape)}")
    border = (pixels.shape[1] - SIDE) // 2
    return pixels[:, None, border : border + SIDE, border : border + SIDE]


def main() -> None:
    """Parse the command line and run one command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("train", help="train for a number of minutes; start again to resume")
    command.add_argument("--minutes", type=float, required=True)
    command.add_argument("--out", required=True, help="folder for the pipeline, the log and the resumable state")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--batch-size", type=int, default=32)
    command.add_argument(
        "--lr", type=float, default=1e-3, help="peak learning rate; best of 2e-4, 4e-4, 1e-3 in short runs"
    )
    command.add_argument("--channels", type=int, nargs="+", default=[32, 64, 128], help="channels per resolution")
    command.add_argument("--layers", type=int, default=2, help="layers per block")
    command.set_defaults(run=train)
    command = commands.add_parser("sample", help="draw images")
    command.add_argument("--model", required=True, help="folder that train wrote")
    command.add_argument("--n", type=int, default=5000)
    command.add_argument("--steps", type=int, default=20, help="network calls per image")
    command.add_argument("--scheduler", choices=("ddim", "dpm"), default="dpm")
    command.add_argument(
        "--spacing", choices=("leading", "trailing", "linspace"), help="default: ddim trailing, dpm linspace"
    )
    command.add_argument("--batch-size", type=int, default=50)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--out", required=True, help="file.npy: uint8 (N, 28, 28)")
    command.set_defaults(run=sample)
    command = commands.add_parser("score", help="KID-EffLite0 against the 10,000 test images")
    command.add_argument("files", nargs="*", help="uint8 .npy files (N, 28, 28) or (N, 32, 32)")
    command.add_argument("--floor", action="store_true", help="also score training images")
    command.add_argument("--floor-images", type=int, default=5000)
    command.add_argument("--cache", default="build/fashion_test_features.npy", help="features of the test images")
    command.set_defaults(run=score)
    for command in commands.choices.values():
        command.add_argument("--threads", type=int, default=0, help="processor threads; 0 leaves it to torch")
    options = parser.parse_args()
    run, threads = options.run, options.threads
    del options.run
    if threads:
        torch.set_num_threads(threads)
    run(options)


if __name__ == "__main__":
    main()
