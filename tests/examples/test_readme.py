"""Every snippet of README.md runs, in order, in one folder, as its reader would run them.

```python blocks are executed; in ```bash and ```sh blocks the lines that begin with `wavdiff ` are. A block whose fence
says `no-test` is passed over. Files that snippets may use: noisy.png, small.png and the folder pictures/.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import run_cli, scene
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "README.md"
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```[ ]*$", re.M | re.S)


@dataclass(frozen=True)
class Snippet:
    """One block of code: its language, its text, and the line of the file on which that begins."""

    language: str
    text: str
    line: int


def extract(markdown: str) -> list[Snippet]:
    """The blocks to be tested, in order."""
    found = []
    for match in FENCE.finditer(markdown):
        language, *notes = match["info"].split() or [""]
        if language in ("python", "bash", "sh") and "no-test" not in notes:
            text = re.sub(f"^{match['indent']}", "", match["body"], flags=re.M)
            found.append(Snippet(language, text, markdown[: match.start("body")].count("\n") + 1))
    return found


def commands(text: str) -> list[list[str]]:
    """The `wavdiff` commands of a shell block: continued lines joined, prompts and comments dropped."""
    lines = (line.strip().removeprefix("$ ") for line in text.replace("\\\n", " ").splitlines())
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("wavdiff ")]


def run(snippet: Snippet, page: str) -> None:
    """Execute a block in the current folder."""
    if snippet.language == "python":
        exec(compile(snippet.text, f"{page}, line {snippet.line}", "exec"), {"__name__": "__main__"})
        return
    for arguments in commands(snippet.text):
        outcome = run_cli(*arguments)
        assert outcome.code == 0, f"wavdiff {shlex.join(arguments)}\n{outcome.err}"


def snippets() -> list[Snippet]:
    return extract(README.read_text(encoding="utf-8")) if README.is_file() else []


def test_the_extractor() -> None:
    text = """# Title
```python
a = 1
```
```bash no-test
wavdiff no
```
  ```bash
  $ wavdiff sample --n 2 \\
      --out "my faces"  # draw
  pip install wavdiff
  wavdiff --help
  ```
```text
wavdiff no
```
"""
    python, shell = extract(text)
    assert python == Snippet("python", "a = 1\n", 3)
    assert commands(shell.text) == [["sample", "--n", "2", "--out", "my faces"], ["--help"]]


def test_there_is_a_readme_with_snippets() -> None:
    if not README.is_file():
        pytest.skip("README.md is not there yet")
    languages = {snippet.language for snippet in snippets()}
    assert "python" in languages and languages & {"bash", "sh"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader's folder."""
    folder = tmp_path_factory.mktemp("desk")
    clean = scene(64, 64, 5)
    noisy = clean + np.random.default_rng(0).normal(0, 25, clean.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / "noisy.png")
    Image.fromarray(scene(32, 32, 6)).save(folder / "small.png")
    (folder / "pictures").mkdir()
    for k in range(12):
        Image.fromarray(scene(40 + k, 48, k, 3)).save(folder / "pictures" / f"{k}.png")
    for shared in ("configs", "examples"):
        (folder / shared).symlink_to(REPOSITORY / shared)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("snippet", snippets(), ids=lambda snippet: f"line {snippet.line}")
def test_a_snippet_runs(snippet: Snippet, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    run(snippet, "README.md")
