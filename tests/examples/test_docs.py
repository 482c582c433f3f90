"""The documentation: it builds without a warning, its commands exist as they are printed, and its how-tos run."""

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import scene
from PIL import Image
from test_readme import FENCE, README, REPOSITORY, Snippet, commands, extract, run
from typer.main import get_command

import wavdiff.cli

DOCS = REPOSITORY / "docs"
PAGES = ("index.md", "photographer.md", "scientist.md", "researcher.md")
"""Those that run, block after block."""
NOTEBOOK = REPOSITORY / "examples" / "first_steps.ipynb"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed (extra docs)")
def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not re.search(r"^WARNING", done.stderr, re.MULTILINE)
    page = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    assert "Remove noise from pictures of any size" in page
    # Nothing is fetched from elsewhere when it is read.
    assert not re.search(r'(?:src|href)="https?://[^"]*\.(?:js|css|woff2?)', page)


def printed_commands() -> list[tuple[str, list[str]]]:
    """All `wavdiff` commands of README and docs, also of blocks that do not run."""
    found = []
    for path in (README, *sorted(DOCS.glob("*.md"))):
        for match in FENCE.finditer(path.read_text(encoding="utf-8")):
            language, *_ = match["info"].split() or [""]
            if language in ("bash", "sh", "console"):
                found += [(path.name, arguments) for arguments in commands(match["body"])]
    return found


def test_commands_exist_as_they_are_printed() -> None:
    group = get_command(wavdiff.cli.app)
    printed = printed_commands()
    assert len(printed) > 60
    for page, arguments in printed:
        if arguments[:1] in (["--help"], ["--version"], ["--install-completion"]) or not arguments:
            continue
        plain = [re.sub(r"\$\w+", "9", argument) for argument in arguments if argument != "..."]  # of a shell's loop
        verb = group.commands.get(plain[0])  # type: ignore[attr-defined]
        assert verb is not None, f"{page}: wavdiff {shlex.join(arguments)}"
        try:
            verb.make_context(plain[0], plain[1:])
        except SystemExit as stop:  # --help
            assert stop.code == 0
        except Exception as error:
            if type(error).__name__ != "Exit":
                raise AssertionError(f"{page}: wavdiff {shlex.join(arguments)}: {error}") from error


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader's folder."""
    folder = tmp_path_factory.mktemp("reader")
    noise = np.random.default_rng(0)
    clean = scene(64, 64, 5, 3)
    Image.fromarray((clean + noise.normal(0, 25, clean.shape)).clip(0, 255).astype(np.uint8)).save(folder / "noisy.png")
    Image.fromarray(scene(32, 32, 6, 3)).save(folder / "small.png")
    np.save(folder / "counts.npy", 4000 * (scene(64, 64, 7) / 255 + noise.normal(0, 0.05, (64, 64))))
    pages = [scene(64, 64, k) + noise.normal(0, 12, (64, 64)) for k in range(3)]
    stack = [Image.fromarray(page.clip(0, 255).astype(np.uint8)) for page in pages]
    stack[0].save(folder / "stack.tif", save_all=True, append_images=stack[1:])
    (folder / "pictures").mkdir()
    for k in range(12):
        picture = scene(40 + k, 48, k, 3) + noise.normal(0, 12, (40 + k, 48, 3))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "pictures" / f"{k}.png")
    return folder


def snippets() -> list[tuple[str, Snippet]]:
    return [(page, snippet) for page in PAGES for snippet in extract((DOCS / page).read_text(encoding="utf-8"))]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "snippet"), snippets(), ids=lambda part: getattr(part, "line", part))
def test_a_how_to_runs(page: str, snippet: Snippet, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = desk / page.removesuffix(".md")
    if not folder.exists():
        folder.mkdir()
        for path in desk.iterdir():
            if path.name in ("noisy.png", "small.png", "counts.npy", "stack.tif", "pictures"):
                (folder / path.name).symlink_to(path)
    monkeypatch.chdir(folder)
    run(snippet, page)


@pytest.mark.slow
def test_the_notebook_runs_and_was_run(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    monkeypatch.chdir(NOTEBOOK.parent)
    names: dict[str, object] = {"__name__": "__main__"}
    outputs = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["execution_count"], cell["source"]
            outputs += len(cell["outputs"])
            exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    assert outputs >= 4
    assert "image/png" in json.dumps(notebook)
    assert NOTEBOOK.stat().st_size < 2_000_000
