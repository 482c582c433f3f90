"""What a training says of its progress: one line that fits, or a line every minute in a log."""

import io
import re

import pytest
from rich.console import Console

from wavdiff.training import progress
from wavdiff.training.progress import progress_line, training_progress

RECORD = {
    "step": 12_300,
    "images": 49_200,
    "images_per_second": 152.37,
    "loss": {"low": 0.66912, "1": 0.83081, "0": 0.71234},
    "gradient_norm": {"low": 0.41, "1": 1.25, "0": 0.97},
}


@pytest.mark.parametrize("width", [20, 60, 80, 120, 200])
def test_the_line_fits_and_the_least_important_goes_first(width: int) -> None:
    line = progress_line(RECORD, 200_000, width, elapsed=300)
    assert len(line) <= width and "12300/200000" in line
    assert ("1 h 22 min left" in line) == (width > 20)
    assert ("low 0.6691 | 1 0.8308" in line) == (width > 20)
    assert ("152.4 images/s" in line) == (width >= 120)
    assert ("gradient" in line) == (width == 200)
    assert ("━" in line) == (width >= 80)
    whole = [part for part in line.lstrip("━╌ ").split(" | ")]
    assert all(part in progress._parts(RECORD, 200_000, 300) for part in whole)  # none is cut in two


def test_the_bar_is_full_at_the_end() -> None:
    line = progress_line({**RECORD, "step": 500}, 500, 120, elapsed=9)
    assert "╌" not in line and "━" in line and "0 s left" in line


def test_a_log_has_the_first_and_the_last_record_and_one_every_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 10_000, 25))  # seconds: of the start, then of every record
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with training_progress(10) as report:
        for step in range(1, 11):
            report({**RECORD, "step": step})
    lines = capsys.readouterr().err.splitlines()
    assert [re.match(r"step (\d+)/10 ", line)[1] for line in lines] == ["1", "4", "7", "10"]  # type: ignore[index]
    assert all("left" in line and "gradient" in line for line in lines)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_terminal_shows_one_line_that_is_kept_up_to_date(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=columns)
    monkeypatch.setattr(progress, "Console", lambda stderr: terminal)
    with training_progress(10) as report:
        for step in (3, 7, 10):
            report({**RECORD, "step": step})
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue())
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    assert all(len(line) <= columns for line in lines)
    assert [re.search(r"(\d+)/10 ", line)[1] for line in lines][-1] == "10"  # type: ignore[index]
    assert {"3", "7", "10"} <= {re.search(r"(\d+)/10 ", line)[1] for line in lines}  # type: ignore[index]
