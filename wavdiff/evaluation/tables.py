"""Markdown tables, and their place in a model's card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from wavdiff.evaluation.scores import Rows

CARD_MARK = "<!-- written by wavdiff evaluate --update-card -->"


NOTHING = "–"


def markdown_table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A table whose first column has no heading and holds the names of the rows."""
    lines = ["| " + " | ".join(["", *columns]).lstrip() + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {' | '.join([name.replace('|', '/'), *cells])} |" for name, cells in rows.items()]
    return "\n".join(lines)


def methods_of(rows: Rows) -> list[str]:
    """All methods of a table, in the order of their first appearance."""
    return list(dict.fromkeys(name for row in rows.values() for name in row))


def score_table(title: str, rows: Rows) -> str:
    """A section: PSNR / SSIM by method (down) and noise level or factor (across)."""
    cells = {
        name: [
            f"{row[name]['psnr']:.2f} / {row[name]['ssim']:.3f}" if name in row else NOTHING for row in rows.values()
        ]
        for name in methods_of(rows)
    }
    return f"## {title}\n\n" + markdown_table(list(rows), cells)


def update_card(model: Path, text: str, out: Path | None = None) -> None:
    """Put a report into a model's card, in place of an earlier one, and the picture of neighbours beside it.

    Args:
        model: the folder of the model.
        text: the report in Markdown; its first line, the title, is left out.
        out: the folder of the report, where `neighbours-*.png` may lie; None: there are none.
    """
    card = model / "README.md"
    before = card.read_text(encoding="utf-8").split(CARD_MARK)[0].rstrip() if card.is_file() else ""
    body = text.split("\n", 1)[1].strip()
    neighbours = list(out.glob("neighbours-*.png")) if out else []
    if neighbours:
        shutil.copyfile(neighbours[0], model / "neighbours.png")
        body += "\n\nSamples, each with its nearest training photograph on its right:\n\n![neighbours](neighbours.png)"
    card.write_text(f"{before}\n\n{CARD_MARK}\n# Evaluation\n\n{body}\n", encoding="utf-8")
