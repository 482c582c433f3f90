"""Restoration of four photographs that ship with scikit-image: the numbers beside those that were asked for.

    python benchmarks/photographs.py --models photos --samples 8 --out evaluation/photographs

astronaut, coffee, chelsea and rocket, their centre of 256x256 pixels, RGB, are in no training set of this project.
Denoising beside colour BM3D, enlarging from block means beside Pillow's bicubic and Lanczos filters, draws beside mean
mode. The report of `wavdiff evaluate` and a summary, `summary.md` and `summary.json`, go into --out. With the default
settings BM3D takes some minutes; --no-bm3d leaves it out.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from wavdiff.evaluation import Photograph, PhotographRequest, evaluate_photographs

SIZE = 256
PICTURES = ("astronaut", "coffee", "chelsea", "rocket")
# What stands beside, its PSNR as measured before this project with another noise draw, and the gain asked for, dB.
AIMS = {
    "15/255": ("BM3D", 35.08, 0.4),
    "25/255": ("BM3D", 32.57, 0.4),
    "50/255": ("BM3D", 29.30, 0.4),
    "x2": ("bicubic", 30.57, 1.5),
    "x4": ("bicubic", 26.68, 0.8),
}
SPEED = 100  # times faster than BM3D
GAP = 0.5  # dB that draws may be off


def photograph(name: str) -> Photograph:
    """A picture of `skimage.data`, from the files of the installed package."""
    from skimage import data

    pixels = torch.from_numpy(getattr(data, name)()).float()
    planes = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return Photograph(name, planes / 127.5 - 1)


def summarise(results: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per model and aim: what was measured, beside what, and whether it reaches what was asked."""
    rows: list[dict[str, Any]] = []
    tables = {**results["denoise"], **results["upscale"]}
    names = tuple(picture["name"] for picture in results["pictures"])
    comparable = names == PICTURES and results["request"]["crop"] == SIZE
    for model in results["request"]["models"]:
        for task, table in tables.items():
            if model not in table:
                continue
            name, before, asked = AIMS.get(task, ("BM3D" if "/" in task else "bicubic", None, None))
            row = {
                "model": model,
                "what": f"PSNR {task}, dB",
                "reference": name,
                "reference before": before if comparable else None,
            }
            value, reference = table[model]["psnr"], table.get(name, {}).get("psnr")
            gain = None if reference is None else round(value - reference, 3)
            rows.append({**row, "reference now": reference, "value": value, "gain": gain, "asked": asked})
        for task, table in results["samples"]["gaps"].items():
            for key, expected in results["samples"]["expected"].items():
                if model in table:
                    what = f"PSNR of {key.replace('_', ' ')} {task}, minus mean mode, dB"
                    row = {"model": model, "what": what, "reference": "exact posterior", "reference now": expected}
                    value = table[model][key]
                    rows.append({**row, "value": value, "gain": round(value - expected, 3), "asked": f"± {GAP}"})
        for task, table in results["denoise"].items():
            if "BM3D" in table:
                for measure in ("seconds_per_megapixel", "processor_seconds_per_megapixel"):
                    slow, fast = (table[name][measure] for name in ("BM3D", model))
                    row = {"model": model, "what": f"{measure.replace('_', ' ')} {task}", "reference": "BM3D"}
                    ratio = f"{slow / max(fast, 1e-9):.0f}x"
                    rows.append({**row, "reference now": slow, "value": fast, "gain": ratio, "asked": f"{SPEED}x"})
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The summary as a table."""

    def cell(value: Any, sign: str = "") -> str:
        return "–" if value is None else value if isinstance(value, str) else f"{value:{sign}.2f}"

    lines = ["| model | what | beside | it, before | it, now | model, now | gain | asked |", "|---" * 8 + "|"]
    for row in rows:
        numbers = [cell(row.get("reference before")), cell(row["reference now"]), cell(row["value"])]
        gains = [cell(row["gain"], "+"), cell(row["asked"], "+")]
        lines.append(f"| {' | '.join([row['model'], row['what'], row['reference'], *numbers, *gains])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["photos"], help="shipped models or model folders")
    parser.add_argument("--pictures", default=",".join(PICTURES), help="names in skimage.data, between commas")
    parser.add_argument("--size", type=int, default=SIZE, help="side of the central part, in pixels")
    parser.add_argument("--sigmas", default="15,25,50", help="noise levels, of 255; empty for none")
    parser.add_argument("--factors", default="2,4", help="empty for none")
    parser.add_argument("--samples", type=int, default=0, help="posterior draws; 0: none")
    parser.add_argument("--no-bm3d", action="store_true")
    parser.add_argument("--seed", type=int, default=0, help="of noise and draws")
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch and BM3D; 0: as PyTorch chooses")
    parser.add_argument("--out", type=Path, default=Path("evaluation/photographs"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    request = PhotographRequest(
        models=tuple(arguments.models),
        sigmas=tuple(float(part) / 255 for part in arguments.sigmas.split(",") if part),
        factors=tuple(int(part) for part in arguments.factors.split(",") if part),
        crop=arguments.size,
        draws=arguments.samples,
        bm3d=not arguments.no_bm3d,
        seed=arguments.seed,
    )
    pictures = [photograph(name) for name in arguments.pictures.split(",")]

    def say(text: str) -> None:
        print(text, flush=True)

    _, results = evaluate_photographs(pictures, "scikit-image", request, arguments.out, say)
    rows = summarise(results)
    (arguments.out / "summary.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (arguments.out / "summary.md").write_text(markdown(rows), encoding="utf-8")
    print(f"\n{markdown(rows)}\n{arguments.out / 'evaluation.md'}")


if __name__ == "__main__":
    main()
