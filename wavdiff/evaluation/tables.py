"""Tables of scores, and how they are written in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from wavdiff.evaluation.scores import Rows, Scores

NOTHING = "–"
TITLES = {"denoise": "Denoising, by noise level", "upscale": "Enlarging from block means"}


def markdown_table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A table whose first column has no heading and holds the names of the rows."""
    lines = ["| " + " | ".join(["", *columns]).lstrip() + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {' | '.join([name.replace('|', '/'), *cells])} |" for name, cells in rows.items()]
    return "\n".join(lines)


def methods_of(rows: Rows) -> list[str]:
    """All methods of a table, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows.values() for name in row))


def above(rows: Rows, reference: str) -> Rows:
    """PSNR above that of a reference, where it was measured; of all methods but this one and the noisy picture."""
    return {
        key: {
            name: {"psnr": one["psnr"] - row[reference]["psnr"]}
            for name, one in row.items()
            if name not in (reference, "noisy")
        }
        for key, row in rows.items()
        if reference in row
    }


def cells(rows: Rows, cell: Callable[[Scores], str | None]) -> dict[str, list[str]]:
    """{method: its cells, one for each noise level or factor}; methods without any are left out."""
    found = {
        name: [(cell(row[name]) if name in row else None) or NOTHING for row in rows.values()]
        for name in methods_of(rows)
    }
    return {name: texts for name, texts in found.items() if set(texts) != {NOTHING}}


def score_cell(scores: Scores) -> str:
    """PSNR / SSIM."""
    return f"{scores['psnr']:.2f} / {scores['ssim']:.3f}"


def score_table(task: str, rows: Rows) -> str:
    """A section on "denoise" or "upscale": PSNR / SSIM by method (down) and noise level or factor (across)."""
    return f"## {TITLES[task]}\n\n" + markdown_table(list(rows), cells(rows, score_cell))
