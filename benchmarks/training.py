"""One training step, as published and as this project takes it, on the same machine in the same run.

The network has the size of the paper's (Kadkhodaie et al. 2023): 21 layers of 64 channels without bias, batches of 32
at 40x40, four inputs (low-pass image and noisy details) and three outputs; all layers are 3x3, or six of them with
`--receptive-field 13`, the others 1x1. A step is forward, backward, AdamW and the moving average of the weights.

    as published     float32, contiguous memory, default AdamW, the average taken parameter by parameter
    as trained here  bfloat16 autocast, channels-last memory, fused AdamW, the average over all parameters at once

Both are timed in turn, so that a busy machine slows both, and the medians are printed. `--learn N` then trains both for
N steps on the same examples (details of ORL faces given the low-pass image) and prints their held-out losses.

`--parts CONFIG` takes real training steps of a configuration instead and says where their time goes, in turn with
freed memory kept in the process and given back to the system (see `wavdiff.system.allocator`).

    python benchmarks/training.py --threads 2
    python benchmarks/training.py --network wavdiff --learn 300
    python benchmarks/training.py --parts photos --data photos --threads 1
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavdiff.models import wavelets

CHANNELS, DEPTH, BATCH, SIDE = 64, 21, 32, 40
INPUTS, OUTPUTS = 4, 3
EMA_DECAY = 0.999


class PlainStack(nn.Module):
    """A stack of convolutions and ReLUs: x (B, 4, H, W) to (B, 3, H, W); the noise level is not used."""

    def __init__(self, receptive_field: int) -> None:
        super().__init__()
        threes = (receptive_field - 1) // 2
        layers: list[nn.Module] = []
        for index in range(DEPTH):
            inputs = INPUTS if index == 0 else CHANNELS
            outputs = OUTPUTS if index == DEPTH - 1 else CHANNELS
            kernel = 3 if index < threes else 1
            layers += [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), nn.ReLU(inplace=True)]
        layers.pop()
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x: Tensor, levels: Tensor) -> Tensor:
        """Return (B, 3, H, W) for x (B, 4, H, W)."""
        output: Tensor = self.layers(x)
        return output


def build_network(name: str, receptive_field: int) -> nn.Module:
    """Return the plain stack, or this project's local network of the same width and receptive field."""
    if name == "plain":
        return PlainStack(receptive_field)
    from wavdiff.models.cascade.networks import LocalNetwork

    # The depth of a LocalNetwork is even: one 1x1 layer more than the paper's.
    network: nn.Module = LocalNetwork(
        INPUTS, OUTPUTS, width=CHANNELS, depth=DEPTH + 1, receptive_field=receptive_field, levels=1
    )
    return network


Batch = tuple[Tensor, Tensor, Tensor]


def random_batches() -> Iterator[Batch]:
    """Return inputs (B, 4, H, W), noise levels (B, 1) and targets (B, 3, H, W) of nothing in particular."""
    batch = torch.randn(BATCH, INPUTS, SIDE, SIDE), torch.rand(BATCH, 1), torch.randn(BATCH, OUTPUTS, SIDE, SIDE)
    while True:
        yield batch


def face_batches(split: str, seed: int) -> Iterator[Batch]:
    """Return the low-pass image and noisy details of 80x80 crops of ORL faces, the noise levels, and the noise."""
    from wavdiff.data import open_source

    source = open_source("faces", "train" if split == "train" else "heldout")
    generator = torch.Generator().manual_seed(seed)
    images = [torch.from_numpy(source[index]).float() * 2 / 255 - 1 for index in range(len(source))]
    while True:
        crops = []
        for _ in range(BATCH):
            image = images[int(torch.randint(len(images), (), generator=generator))]
            top, left = (int(torch.randint(n - 2 * SIDE + 1, (), generator=generator)) for n in image.shape)
            crops.append(image[top : top + 2 * SIDE, left : left + 2 * SIDE])
        pyramid = wavelets.decompose(torch.stack(crops)[:, None], 1)
        levels = 0.02 * 20 ** torch.rand(BATCH, 1, generator=generator)
        noise = torch.randn(pyramid.details[0].shape, generator=generator)
        noisy = pyramid.details[0] + levels[..., None, None] * noise
        yield torch.cat([pyramid.coarse, noisy], dim=1), levels, noise


def prepare_step(
    network: nn.Module, batches: Iterator[Batch], *, fast: bool, rate: float = 1e-4
) -> Callable[[], float]:
    """Return a function that takes one training step and returns its seconds."""
    parameters: list[Tensor] = list(network.parameters())
    layout = torch.channels_last if fast else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=rate, fused=True) if fast else torch.optim.AdamW(parameters, lr=rate)

    def step() -> float:
        x, levels, target = next(batches)
        x, target = x.contiguous(memory_format=layout), target.contiguous(memory_format=layout)
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            output = network(x, levels)
        (output.float() - target).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            if fast:
                torch._foreach_lerp_(average, parameters, 1.0 - EMA_DECAY)
            else:
                for mean, parameter in zip(average, parameters, strict=True):
                    mean.lerp_(parameter, 1.0 - EMA_DECAY)
        return time.perf_counter() - start

    return step


@torch.no_grad()
def heldout_loss(network: nn.Module) -> float:
    """Return the mean squared error on 8 batches of held-out faces, in float32."""
    batches = face_batches("heldout", 1)
    errors = []
    for _ in range(8):
        x, levels, target = next(batches)
        errors.append(float((network(x, levels) - target).square().mean()))
    return sum(errors) / len(errors)


def learn(name: str, receptive_field: int, steps: int) -> None:
    """Train both ways from the same weights on the same examples; print the held-out losses."""
    losses = {}
    for fast in (False, True):
        torch.manual_seed(0)
        network = build_network(name, receptive_field)
        step = prepare_step(network, face_batches("train", 0), fast=fast, rate=5e-4)
        for _ in range(steps):
            step()
        losses[fast] = heldout_loss(network.float())
    change = 100 * (losses[True] / losses[False] - 1)
    print(
        f"held-out loss after {steps} steps: float32 {losses[False]:.5f}, bfloat16 {losses[True]:.5f} ({change:+.2f} %)"
    )


def timed_parts(config: str, data: str | None, keep: bool, steps: int) -> dict[str, float]:
    """Return seconds per step of the parts of real training steps; called in a process of its own."""
    from wavdiff.system.allocator import keep_freed_memory
    from wavdiff.training.batches import training_batches
    from wavdiff.training.config import from_mapping, read_mapping
    from wavdiff.training.trainer import Trainer

    if keep:
        keep_freed_memory()
    mapping = read_mapping(config)
    if data:
        mapping.setdefault("data", {})["name"] = data
    seconds: dict[str, float] = defaultdict(float)

    def watch(owner: Any, method: str, part: str) -> None:
        work = getattr(owner, method)

        def watched(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = work(*arguments, **options)
            seconds[part] += time.perf_counter() - start
            return result

        setattr(owner, method, watched)

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(from_mapping(mapping), Path(folder))
        batches = training_batches(trainer.config, trainer.train_source, start=0, stop=10**6)
        watch(trainer.learner.prepared, "forward", "forward")
        watch(trainer.accelerator, "backward", "backward")
        watch(trainer.accelerator, "clip_grad_norm_", "clipping")
        watch(trainer.learner.prepared_optimizer, "step", "optimiser")
        for average in trainer.averages.of_part.values():
            watch(average, "step", "averages")
        total = 0.0
        for number in range(4 + steps):
            if number == 4:
                seconds.clear()
                start = time.perf_counter()
            outcome = trainer._step(batches, number, lambda: 0)
            trainer.state.count(outcome, trainer.config.training.batch_size)
            if number >= 4:
                seconds["data"] += outcome.waited
        total = time.perf_counter() - start
    named = sum(seconds.values())
    return {"whole step": total / steps} | {
        part: value / steps for part, value in [*sorted(seconds.items()), ("all else", total - named)]
    }


def print_parts(options: argparse.Namespace) -> None:
    """Time the parts with and without keeping freed memory, in turn, and print the medians."""
    rows: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for _ in range(3):
        for keep in (False, True):
            command = [sys.executable, __file__, "--parts", options.parts, "--threads", str(torch.get_num_threads())]
            command += ["--n", str(options.n), "--one", "keep" if keep else "return"]
            command += ["--data", options.data] if options.data else []
            rows[keep].append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
    print(f"{options.parts}: {options.n} steps, medians of 3 runs in turn, {torch.get_num_threads()} threads")
    print(f"{'part':12} {'returned':>10} {'kept':>10}   seconds per step, freed memory returned or kept")
    for part in rows[True][0]:
        returned, kept = (statistics.median(row.get(part, 0.0) for row in rows[keep]) for keep in (False, True))
        print(f"{part:12} {returned:10.4f} {kept:10.4f}")


def main() -> None:
    """Time both ways in turn and print the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--network", choices=("plain", "wavdiff"), default="plain")
    parser.add_argument("--n", type=int, default=7, help="timed steps of each kind")
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0 leaves it to torch")
    parser.add_argument(
        "--receptive-field", type=int, default=2 * DEPTH + 1, help="43: all layers 3x3; 13: six of them"
    )
    parser.add_argument("--learn", type=int, default=0, metavar="STEPS", help="train both ways and compare the losses")
    parser.add_argument("--parts", metavar="CONFIG", help="where the time of real training steps goes")
    parser.add_argument("--data", help="for --parts, as for wavdiff train")
    parser.add_argument("--one", choices=("keep", "return"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.one:
        print(json.dumps(timed_parts(options.parts, options.data, options.one == "keep", options.n)))
        return
    if options.parts:
        print_parts(options)
        return
    torch.manual_seed(0)
    steps = {
        name: prepare_step(
            build_network(options.network, options.receptive_field), random_batches(), fast=name == "fast"
        )
        for name in ("plain", "fast")
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(options.n + 1):
        for name, step in steps.items():
            taken = step()
            if repeat:  # the first step of each compiles kernels and allocates
                seconds[name].append(taken)
    plain, fast = statistics.median(seconds["plain"]), statistics.median(seconds["fast"])
    field = options.receptive_field
    count = sum(parameter.numel() for parameter in build_network(options.network, field).parameters())
    print(f"network {options.network}, {field}x{field}: {count:,} parameters, batch {BATCH} at {SIDE}x{SIDE}")
    print(f"{torch.get_num_threads()} threads, bfloat16 in hardware: {torch.cpu._is_avx512_bf16_supported()}")
    print(f"float32, contiguous            {plain:.3f} s per step (least {min(seconds['plain']):.3f})")
    print(f"bfloat16, channels-last, fused {fast:.3f} s per step (least {min(seconds['fast']):.3f})")
    print(f"ratio                          {plain / fast:.2f}")
    if options.learn:
        learn(options.network, options.receptive_field, options.learn)


if __name__ == "__main__":
    main()
