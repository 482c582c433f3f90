"""The released CelebA cascade, sampled by the paper's algorithm and by schedules: network calls, time and quality.

    python benchmarks/published_sampler.py published_cascades/multi_scale/celebA_160x160_gray --out bench-sampler

Two yardsticks, each of two independent sets of images by the same networks:

- "plain": schedules with 256 calls at every scale;
- "corrected": low-pass schedules of 32 levels with 15 small correctors (0.1) at each (512 calls), details with 256.

Their two sets say how far apart two samples of one distribution lie (the floor): random splits of both together give
the floor's spread for the sizes that are compared. Distances are KID-EffLite0 and the sliced Wasserstein distance of
wavelet patches (`wavdiff.evaluation.metrics.sliced`), mean over scales.

- "LEVELS/DETAILS": schedules with so many calls at the low-pass and at each detail scale, other seeds;
- "LEVELS x C/DETAILS": the same with C calls at every level of the low-pass image: C - 1 correctors and the step;
- "details DETAILS": low-pass images of a plain set with new details of so many calls, compared with the other set;
- "paper": stochastic ascent (beta 0.01, fixed h0 0.01 for the low-pass; beta 1, growing steps for details).

Times are taken last, in one process and by turns: one image of the published procedure (one image at a time, float32,
the network layer by layer as released) and groups of 16 images of each schedule. Images are kept in --out, so that the
command can be stopped and run again.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from wavdiff.evaluation import metrics
from wavdiff.evaluation.metrics.sliced import patch_projections, wasserstein
from wavdiff.evaluation.plots import pyplot
from wavdiff.images import image_grid, save_image
from wavdiff.models.cascade.ascent import DETAIL_ASCENT, LOWPASS_ASCENT
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.networks import BiasFreeNetwork
from wavdiff.models.cascade.published.importing import LOWPASS_RANGE, load_release
from wavdiff.models.cascade.published.release import Release, find_release
from wavdiff.system.allocator import keep_freed_memory

GROUP = 16
CONVERGED = 256
SCHEDULES = ((16, 0, 6), (24, 0, 8), (32, 0, 10), (64, 0, 10), (16, 1, 8), (16, 2, 8), (16, 3, 8), (32, 3, 10))
DETAILS = (2, 4, 6, 8, 10)
SPLITS = 60


class Released(nn.Module):
    """A network layer by layer, as the authors' code computes it."""

    def __init__(self, network: BiasFreeNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """The noise in x."""
        layers = list(self.network.convolutions)
        x = layers[0](x)
        for layer, scale in zip(layers[1:-1], self.network.scales, strict=True):
            x = layer(x) / scale.running_sd[:, None, None] * scale.gamma[:, None, None]
            x = functional.relu(x)
        result: Tensor = layers[-1](x)
        return result


def draw(cascade: WaveletCascade, seeds: range, walk: dict[str, Any], group: int = GROUP) -> dict[str, Any]:
    """Images of the seeds, their low-pass images, and the calls of every image by scale."""
    height, width = cascade.image_size
    images, lows, calls = [], [], {name: [] for name in cascade.scale_names}  # type: dict[str, list[int]]
    for first in range(0, len(seeds), group):
        drawn = cascade.sample(
            (1, height, width),
            seeds[first : first + group],
            lowpass_range=LOWPASS_RANGE,
            counted=lambda name, counts: calls[name].extend(counts),
            **walk,
        )
        images.append(drawn[-1].float().clone())
        lows.append(drawn[0].float().clone())
    return {"images": torch.cat(images), "low": torch.cat(lows), "calls": calls}


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` gives, from the file if it is there."""
    if not path.is_file():
        began = time.perf_counter()
        made = make()
        seconds = time.perf_counter() - began
        calls = {f"calls.{name}": torch.tensor(values) for name, values in made.get("calls", {}).items()}
        tensors = {key: value.contiguous() for key, value in made.items() if isinstance(value, Tensor)}
        save_file({**tensors, **calls}, path)
        print(f"{path.stem}: {len(made['images'])} images, {seconds:.0f} s", flush=True)
    found = load_file(path)
    calls = {name.partition(".")[2]: found[name].tolist() for name in found if name.startswith("calls.")}
    return {**found, "calls": calls}


class Judge:
    """Distances to the two sets of a yardstick, and the floor."""

    def __init__(self, extractor: Any, one: Tensor, other: Tensor, levels: int) -> None:
        self.levels, self.count, self.extractor = levels, len(one), extractor
        pool = torch.cat([one, other]).clamp(-1, 1)
        self.features = extractor(pool)
        self.patches, self.scales = patch_projections(pool, levels)

    def _between(self, features: Tensor, patches: list[Tensor], rows: Tensor) -> tuple[float, float]:
        sliced = [wasserstein(a, b[rows]) for a, b in zip(patches, self.patches, strict=True)]
        return metrics.kid(features, self.features[rows]), statistics.mean(sliced)

    def judge(self, images: Tensor, halves: tuple[int, ...] = (0, 1)) -> tuple[float, float]:
        """(KID, sliced Wasserstein) of a set, mean over its distances to both sets of the yardstick, or to one."""
        images = images.clamp(-1, 1)
        features, (patches, _) = self.extractor(images), patch_projections(images, self.levels, self.scales)
        rows = torch.arange(2 * self.count).split(self.count)
        pairs = [self._between(features, patches, rows[half]) for half in halves]
        return statistics.mean(kid for kid, _ in pairs), statistics.mean(sliced for _, sliced in pairs)

    def floor(self, size: int) -> dict[str, dict[str, float]]:
        """The same between `size` images of the yardstick and as many others as a set has, over random splits."""
        generator = torch.Generator().manual_seed(0)
        kids, sliced = [], []
        for _ in range(SPLITS):
            order = torch.randperm(2 * self.count, generator=generator)
            mine, rest = order[:size], order[size : size + self.count]
            kid, distance = self._between(self.features[mine], [p[mine] for p in self.patches], rest)
            kids.append(kid)
            sliced.append(distance)
        result = {}
        for name, values in (("kid", kids), ("sliced", sliced)):
            ordered = sorted(values)
            result[name] = {"mean": statistics.mean(values), "95 %": ordered[int(0.95 * len(ordered))]}
        return result


def measure_times(
    cascade: WaveletCascade, release: Release, schedules: dict[str, dict[str, Any]], rounds: int
) -> dict[str, Any]:
    """Seconds per image of the published procedure, and of every schedule: the least of `rounds` groups."""
    shape = (1, *cascade.image_size)
    released = load_release(release)
    released.autocast = False
    for name in released.scale_names:
        denoiser: Any = released.denoiser(name)
        layered = Released(denoiser.network).eval()
        denoiser._noise = lambda pixels, size, layered=layered: 2 * layered(pixels)
    times: dict[str, list[float]] = {name: [] for name in schedules}

    def turns() -> None:
        for name, walk in schedules.items():
            began = time.perf_counter()
            cascade.sample(shape, range(GROUP), lowpass_range=LOWPASS_RANGE, **walk)
            times[name].append((time.perf_counter() - began) / GROUP)

    turns()
    times = {name: [] for name in schedules}
    turns()
    counts: dict[str, int] = {}
    began = time.perf_counter()
    released.sample(
        shape,
        [0],
        lowpass_schedule=LOWPASS_ASCENT,
        detail_schedule=DETAIL_ASCENT,
        lowpass_range=LOWPASS_RANGE,
        counted=lambda name, calls: counts.update({name: calls[0]}),
    )
    published = time.perf_counter() - began
    for _ in range(rounds - 1):
        turns()
    least = {name: min(values) for name, values in times.items()}
    return {"published": published, "published calls": counts, **least}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("release", type=Path)
    parser.add_argument("--receptive-field", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("bench-sampler"))
    parser.add_argument("--n", type=int, default=96, help="images of every set")
    parser.add_argument("--paper-n", type=int, default=6, help="images of the paper's algorithm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-sets", action="store_true", help="draw the images, measure nothing")
    arguments = parser.parse_args()
    keep_freed_memory()
    arguments.out.mkdir(parents=True, exist_ok=True)
    release = find_release(arguments.release, arguments.receptive_field)
    cascade = load_release(release).to(memory_format=torch.channels_last)

    def schedule(low: int, correctors: int, details: int) -> dict[str, Any]:
        return {
            "lowpass_schedule": cascade.schedule("lowpass", steps=low, correctors=correctors),
            "detail_schedule": cascade.schedule("details", steps=details),
        }

    n, out = arguments.n, arguments.out
    sets: dict[str, Any] = {}

    def add(name: str, make: Callable[[], dict[str, Any]]) -> None:
        sets[name] = kept(out / f"{name.replace(' ', '-').replace('/', '-')}.safetensors", make)

    plain = schedule(CONVERGED, 0, CONVERGED)
    small = {"steps": 32, "correctors": 15, "corrector_step": 0.1}
    corrected = {**plain, "lowpass_schedule": cascade.schedule("lowpass", **small)}
    walks = {"plain A": plain, "plain B": plain, "corrected A": corrected, "corrected B": corrected}
    for k, (name, walk) in enumerate(walks.items()):
        add(name, lambda k=k, walk=walk: draw(cascade, range(k * n, (k + 1) * n), walk))
    schedules = {
        f"{low}{f' x {correctors + 1}' if correctors else ''}/{details}": schedule(low, correctors, details)
        for low, correctors, details in SCHEDULES
    }
    for name, walk in schedules.items():
        add(name, lambda walk=walk: draw(cascade, range(4 * n, 5 * n), walk))
    for details in DETAILS:

        def refine(details: int = details) -> dict[str, Any]:
            lows, walk = sets["plain B"]["low"], cascade.schedule("details", steps=details)
            parts = [
                cascade.upscale(
                    lows[k : k + GROUP],
                    2**cascade.levels,
                    seeds=range(5 * n + k, 5 * n + k + GROUP),
                    schedule=walk,
                )
                for k in range(0, n, GROUP)
            ]
            return {"images": torch.cat(parts).float().clone()}

        add(f"details {details}", refine)
    paper = {"lowpass_schedule": LOWPASS_ASCENT, "detail_schedule": DETAIL_ASCENT}
    add("paper", lambda: draw(cascade, range(6 * n, 6 * n + arguments.paper_n), paper, 1))
    for name in sets:
        sheet = image_grid(sets[name]["images"][:16].clamp(-1, 1), columns=8)
        save_image(out / f"{name.replace(' ', '-').replace('/', '-')}.png", sheet)
    shown = [sets[name]["images"][:8] for name in ("plain B", "24/8", "corrected B", "16 x 4/8", "paper")]
    shown[-1] = torch.cat([shown[-1], torch.ones_like(shown[0])])[:8]  # there may be fewer
    save_image(out / "samples.png", image_grid(torch.cat(shown).clamp(-1, 1), columns=8))
    if arguments.only_sets:
        return
    report(cascade, sets, measure_times(cascade, release, schedules, arguments.rounds), arguments)


def report(cascade: WaveletCascade, sets: dict[str, Any], times: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Measure, print a table, write it and a plot."""
    n, out, published = arguments.n, arguments.out, times["published"]
    extractor = metrics.FeatureExtractor()
    judges = {
        name: Judge(extractor, sets[f"{name} A"]["images"], sets[f"{name} B"]["images"], cascade.levels)
        for name in ("plain", "corrected")
    }
    sizes = sorted({n, min(n, arguments.paper_n)}, reverse=True)
    floors = {name: {size: judge.floor(size) for size in sizes} for name, judge in judges.items()}
    columns = ["sampler", "images", "calls: low, details", "s/image", "times as fast"]
    columns += [f"{distance} to {name}" for name in judges for distance in ("KID", "SW")]
    calls = times["published calls"]
    first = ["paper, one by one, float32", "1", ", ".join(f"{calls[k]:,}" for k in cascade.scale_names)]
    rows = [columns, ["---"] * len(columns), [*first, f"{published:.1f}", "1", *[""] * 4]]
    results: dict[str, Any] = {"floors": floors, "times": times, "sets": {}}
    for name, found in sets.items():
        if name.endswith(" A"):
            continue
        counts, spans = found["calls"], []
        for scale in cascade.scale_names if counts else ():
            low, high = min(counts[scale]), max(counts[scale])
            median = f"{statistics.median(counts[scale]):,.0f}"
            spans.append(median if low == high else f"{median} ({low:,} to {high:,})")
        row = [name, str(len(found["images"])), ", ".join(spans) or f"{CONVERGED}, {name.split()[-1]} each"]
        row += [f"{times[name]:.3f}", f"{published / times[name]:.0f}"] if name in times else ["", ""]
        results["sets"][name] = {"calls": counts}
        for yardstick, judge in judges.items():
            # A yardstick's own set, and details on its low-pass images, are compared with the other set only.
            own = name.startswith(yardstick) or (yardstick == "plain" and name.startswith("details"))
            kid, sliced = judge.judge(found["images"], (0,) if own else (0, 1))
            results["sets"][name][yardstick] = {"kid": kid, "sliced": sliced}
            row += [f"{kid:.4f}", f"{sliced:.4f}"]
        rows.append(row)
    for size in sizes:
        row = [f"floor, 95 % of splits: {size} and {n}", "", "", "", ""]
        row += [f"{floors[name][size][key]['95 %']:.4f}" for name in judges for key in ("kid", "sliced")]
        rows.append(row)
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    about = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"{n} images a set, seeds 0 to {6 * n + arguments.paper_n - 1}; least of {arguments.rounds} groups of {GROUP}"
    )
    print(f"{table}\n\n{about}")
    (out / "published-sampler.md").write_text(f"{table}\n\n{about}\n", encoding="utf-8")
    (out / "published-sampler.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    plot(results, sizes, out / "published-sampler.png")


def plot(results: dict[str, Any], sizes: list[int], path: Path) -> None:
    """Draw the sliced Wasserstein distance to both yardsticks against seconds per image."""
    plots = pyplot()
    figure, panels = plots.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for axes, yardstick in zip(panels, ("plain", "corrected"), strict=True):
        for label, corrected in (("schedules", False), ("with correctors", True)):
            rows = [
                (results["times"][name], found[yardstick]["sliced"], name)
                for name, found in results["sets"].items()
                if name in results["times"] and (" x " in name) == corrected
            ]
            axes.plot([row[0] for row in rows], [row[1] for row in rows], "o-", label=label)
            for seconds, value, name in rows:
                axes.annotate(name, (seconds, value), textcoords="offset points", xytext=(4, 4), fontsize=7)
        paper = results["times"]["published"], results["sets"]["paper"][yardstick]["sliced"]
        axes.plot(*([value] for value in paper), "s", label=f"paper, {sizes[-1]} images")
        for size, style in zip(sizes, ("--", ":"), strict=False):
            floor = results["floors"][yardstick][size]["sliced"]["95 %"]
            axes.axhline(floor, color="gray", linestyle=style, linewidth=0.8, label=f"floor, {size} images")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set(xlabel="seconds per image", ylabel=f"sliced Wasserstein distance to {yardstick}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plots.close(figure)


if __name__ == "__main__":
    main()
