"""What was seen, as Markdown, JSON and pictures in a folder."""

from __future__ import annotations

import string
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wavdiff.evaluation.inspection.description import CascadeDescription, scale_title
from wavdiff.evaluation.inspection.drawings import draw_all, scales_name
from wavdiff.evaluation.inspection.inspecting import (
    MOST_PLACES,
    Inspection,
    InspectionRequest,
    check_size,
    inspect_picture,
)
from wavdiff.evaluation.inspection.jacobian import PixelRows, Row
from wavdiff.evaluation.inspection.pixels import check_places
from wavdiff.evaluation.plots import pyplot
from wavdiff.evaluation.report_files import Say, as_json, write_files
from wavdiff.evaluation.tables import NOTHING, markdown_table
from wavdiff.images import load_image, read_info
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.system.errors import WavdiffError

REPORT, NUMBERS = "inspection.md", "inspection.json"


def planned_files(places: int = MOST_PLACES) -> list[str]:
    """Names of all files that an inspection of so many pixels writes; by default of those that any may write."""
    return ["walk.png", "filters.png", *(scales_name(k) for k in range(1, places + 1)), REPORT, NUMBERS]


def inspect_file(cascade: WaveletCascade, path: Path, request: InspectionRequest) -> Inspection:
    """Inspect the picture in a file, gray or in colour, without noise; its transparency is passed over.

    Raises:
        WavdiffError: no picture, one that is too large, pixels outside of it, or no matplotlib.
    """
    pyplot()  # before minutes of work, not after
    size = read_info(path).size
    try:
        check_size(cascade, size)
        check_places(request.places, size)
    except WavdiffError as error:
        raise WavdiffError(f"{path}: {error}") from error
    return inspect_picture(cascade, load_image(path).pixels, request)


def write_inspection(
    seen: Inspection, description: CascadeDescription, picture: str, out: Path, say: Say | None = None
) -> tuple[str, dict[str, Any]]:
    """Write pictures, tables and numbers; every file appears complete or not at all.

    Args:
        seen: what to write.
        description: of the cascade.
        picture: what the report calls the picture.
        out, say: as in `write_files`.

    Returns:
        The report in Markdown and the numbers as they are in the JSON file.
    """
    numbers = inspection_numbers(seen, description, picture)
    text = inspection_report(seen, description, picture)
    write_files(out, {**draw_all(seen), REPORT: text + "\n", NUMBERS: as_json(numbers)}, say)
    for number in range(len(seen.rows) + 1, MOST_PLACES + 1):  # of an earlier run that looked at more pixels
        (out / scales_name(number)).unlink(missing_ok=True)
    return text, numbers


def inspection_numbers(seen: Inspection, description: CascadeDescription, picture: str) -> dict[str, Any]:
    """All numbers, as plain values."""
    levels = len(seen.scales) - 1
    channels, height, width = seen.clean.shape
    scales = [asdict(scale) for scale in seen.scales]
    return {
        "cascade": description.as_json(),
        "picture": {"name": picture, "height": height, "width": width, "channels": channels},
        "sigma": seen.request.sigma,
        "seed": seen.request.seed,
        "scales": {scale.pop("name"): scale for scale in scales},
        "psnr": {f"x_{levels - k}": {"noisy": a, "denoised": b} for k, (a, b) in enumerate(seen.psnr)},
        "pixels": [_pixel_numbers(rows, number) for number, rows in enumerate(seen.rows, 1)],
    }


def _pixel_numbers(rows: PixelRows, number: int) -> dict[str, Any]:
    details = {
        str(scale): {
            "noisy_details": own.noisy.measures(),
            "denoised_coarse": own.coarse.measures(),
            "noisy_coarse": own.observed and own.observed.measures(),
        }
        for scale, own in reversed(list(enumerate(rows.details)))
    }
    return {
        **asdict(rows.place),
        "picture": scales_name(number),
        "whole_walk": rows.whole.measures(),
        "lowpass": rows.lowpass.measures(),
        "details": details,
    }


def inspection_report(seen: Inspection, description: CascadeDescription, picture: str) -> str:
    """The report in Markdown: the cascade, its scales at work, and the filters of the pixels."""
    height, width = seen.clean.shape[-2:]
    sigma = seen.request.sigma
    opening = (
        f"{picture}, {height}x{width}, with white noise of {255 * sigma:.3g}/255 (sigma {sigma:.4g}, seed "
        f"{seen.request.seed}); PSNR {seen.psnr[-1][0]:.2f} dB noisy, {seen.psnr[-1][1]:.2f} dB denoised."
    )
    sections = [
        description.as_markdown().replace("# Cascade", "# Inside", 1),
        f"## {picture}\n\n{opening}\n\n![the walk from coarse to fine](walk.png)",
        _scale_section(seen),
        _filter_section(seen),
    ]
    return "\n\n".join(sections)


def _scale_section(seen: Inspection) -> str:
    levels = len(seen.scales) - 1
    columns = [
        "noise", "of the picture's range", "noisy", "denoised", "removed", "estimate of sigma", "energy kept", "clean",
        "error", "balance", "PSNR of",
    ]  # fmt: skip
    cells = {}
    for place, scale in enumerate(seen.scales):
        before, after = seen.psnr[place]
        cells[scale_title(scale.name)] = [
            f"{scale.noise_level:.4f}", f"{scale.noise_level_unit:.4f}", f"{scale.noisy_rms:.4f}",
            f"{scale.denoised_rms:.4f}", f"{scale.residual_rms:.4f}", f"{scale.residual_sigma:.4f}",
            f"{scale.kept:.1%}", f"{scale.clean_rms:.4f}", f"{scale.error_rms:.4f}", f"{scale.balance:.2f}",
            f"x_{levels - place}: {before:.2f} → {after:.2f} dB",
        ]  # fmt: skip
    text = (
        "Root mean squares over all coefficients, library units (images in [-1, 1]). *removed* is y - D(y), the noise "
        "level that the network acts as if it saw; *estimate of sigma* is the same as white noise on the picture, to "
        "be compared with --sigma. *balance* is (removed^2 + error^2) / noise^2, 1 on average for an exact posterior "
        "mean."
    )
    return f"## Scales\n\n{text}\n\n{markdown_table(columns, cells)}"


def _filter_section(seen: Inspection) -> str:
    columns = ["of", "with respect to", "sum", "noise left", "effective pixels", "largest", "asymmetry", "constant"]
    cells: dict[str, list[str]] = {}
    notes = []
    for number, rows in enumerate(seen.rows, 1):
        place = rows.place
        notes.append(
            f"{number}. row {place.row}, column {place.column} ({place.reason}): "
            f"[{scales_name(number)}]({scales_name(number)})"
        )
        levels = len(rows.details)
        lines: list[tuple[str, str, Row | None, bool]] = [
            ("x_0", "noisy x_0, whole walk", rows.whole, True),
            (f"x_{levels}", f"noisy x_{levels}", rows.lowpass, True),
        ]
        for scale, own in reversed(list(enumerate(rows.details))):
            given = ("noisy details", f"denoised x_{scale + 1}", f"noisy x_{scale + 1}")
            parts = zip(given, (own.noisy, own.coarse, own.observed), strict=True)
            lines += [(f"details of x_{scale}", name, row, False) for name, row in parts]
        for index, (what, name, row, averages) in enumerate(lines):
            if row is not None:
                cells[f"{number}{string.ascii_lowercase[index % 26]}"] = [
                    what, name, f"{round(row.sum, 3) + 0.0:.3f}", f"{row.noise_gain:.4f}",
                    f"{row.effective_pixels:.1f}" if averages else NOTHING, f"{float(row.values.abs().max()):.3f}",
                    NOTHING if row.asymmetry is None else f"{row.asymmetry:.2f}",
                    NOTHING if row.constant is None else f"{row.constant:.3f}",
                ]  # fmt: skip
    text = (
        "Rows of the Jacobian. *Noise left* is |row|^2, the share of the noise's variance that reaches the pixel; "
        "*effective pixels* is sum^2 / |row|^2; *asymmetry* is |row - column| / sqrt(|row|^2 + |column|^2), 0 for an "
        "exact posterior mean; *constant* is D(y) - row . y in [0, 1] units, 0 for a bias-free network. In the "
        "pictures red adds, blue takes away, white is zero."
    )
    return "\n\n".join(
        ["## Filters", text, "![filters](filters.png)", "\n".join(notes), markdown_table(columns, cells)]
    )
