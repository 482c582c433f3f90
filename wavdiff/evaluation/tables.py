"""Tables of scores, and how they are written in Markdown."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence

from rich.cells import cell_len

from wavdiff.evaluation.scores import Rows, Scores

NOTHING = "–"
LINK = re.compile(r"!?\[([^\]]*)\]\(([^)]*)\)")
TITLES = {"denoise": "Denoising, by noise level", "upscale": "Enlarging from block means"}


def markdown_table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A table whose first column has no heading and holds the names of the rows."""
    lines = ["| " + " | ".join(["", *columns]).lstrip() + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {' | '.join([name.replace('|', '/'), *cells])} |" for name, cells in rows.items()]
    return "\n".join(lines)


def for_terminal(text: str) -> str:
    """Markdown as people read it in a terminal: tables in columns, headings and links without their marks."""
    shown: list[str] = []
    for is_table, group in itertools.groupby(text.splitlines(), lambda line: line.startswith("|")):
        lines = list(group)
        shown += _columns(lines) if is_table else [re.sub("^#+ ", "", LINK.sub(_address, line)) for line in lines]
    return "\n".join(shown)


def _address(link: re.Match[str]) -> str:
    text, address = link.groups()
    return address if text == address else f"{text}: {address}"


def _columns(lines: list[str]) -> list[str]:
    """The lines of a table in columns: the first to the left, the others, which are mostly numbers, to the right."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    del rows[1]  # the rule
    widths = [max(map(cell_len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]

    def padded(row: list[str]) -> str:
        spaces = [" " * (width - cell_len(cell)) for width, cell in zip(widths, row, strict=False)]
        return "  ".join(
            [row[0] + spaces[0], *(s + cell for s, cell in zip(spaces[1:], row[1:], strict=True))]
        ).rstrip()

    return [padded(rows[0]), "─" * (sum(widths) + 2 * len(widths) - 2), *map(padded, rows[1:])]


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
