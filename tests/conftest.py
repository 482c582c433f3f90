"""What several test files share: pictures, a tiny model trained by the command line, and ways to run commands."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Before torch is imported: workers of pytest-xdist share the cores, and a forked process hangs in a pool of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import yaml
from PIL import Image

TINY = {
    "model": {
        "image_size": [16, 16],
        "channels": 1,
        "levels": 2,
        "lowpass": {"kind": "global", "width": 8, "depth": 1, "stages": 1, "growth": 1.0},
        "details": {"kind": "local", "width": 8, "depth": 4, "receptive_field": 7},
        "ladders": {"lowpass": {"steps": 4}, "details": {"steps": 3}},
    },
    "data": {"heldout_limit": 4, "augmentation": {"flip": True}},
    "training": {
        "steps": 6,
        "batch_size": 4,
        "learning_rate": 2e-3,
        "warmup_steps": 1,
        "ema_decay": 0.9,
        "log_every": 2,
        "evaluate_every": 6,
        "sample_every": 6,
        "checkpoint_every": 3,
    },
}
"""A cascade of 16x16 gray images that trains in a second or two."""


@dataclass(frozen=True)
class Outcome:
    """What a command said and returned."""

    code: int
    out: str
    err: str


def run_cli(*arguments: object) -> Outcome:
    """Run `wavdiff ARGUMENTS` in this process, through the program's own entry point."""
    from wavdiff.cli import main

    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    return Outcome(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


class Pipe(io.TextIOWrapper):
    """Standard input or output as a pipe, of text and of bytes."""

    def __init__(self, data: bytes = b"") -> None:
        self.bytes = io.BytesIO(data)
        super().__init__(self.bytes, encoding="utf-8")

    def read_back(self) -> bytes:
        """What was written."""
        self.flush()
        return self.bytes.getvalue()


def run_piped(data: bytes, *arguments: object) -> tuple[int, bytes, str]:
    """Run `wavdiff ARGUMENTS` in this process with `data` on standard input; returns code, stdout as bytes, stderr."""
    from wavdiff.cli import main

    code: object = 0
    with pytest.MonkeyPatch.context() as patch:
        pipes = {"stdin": Pipe(data), "stdout": Pipe(), "stderr": Pipe()}
        for name, pipe in pipes.items():
            patch.setattr(sys, name, pipe)
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    return code if isinstance(code, int) else 0, pipes["stdout"].read_back(), pipes["stderr"].read_back().decode()


def run_python(code: str, *arguments: object) -> str:
    """Run Python code in a fresh interpreter, which has imported nothing; returns what it printed.

    `fresh_processes.Fresh` is quicker where the imports are not what is tested.
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def scene(height: int, width: int, seed: int, channels: int = 1) -> np.ndarray:
    """A smooth picture with an edge, uint8, (H, W) or (H, W, 3)."""
    generator = np.random.default_rng(seed)
    rows, columns = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]
    planes = []
    for _ in range(channels):
        a, b, c, d = generator.uniform(-1, 1, size=4)
        plane = a * rows + b * columns + 0.6 * c * np.cos(5 * (rows + d * columns)) + (rows > 0.5 + d * columns / 4)
        planes.append(127.5 + 80 * (plane - plane.mean()))
    picture = np.stack(planes, axis=-1).clip(0, 255).round().astype(np.uint8)
    return picture[..., 0] if channels == 1 else picture


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for these tests alone."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAVDIFF_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def cli() -> Callable[..., Outcome]:
    """`cli("sample", "--n", 4)` runs that command and returns its `Outcome`."""
    return run_cli


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 small pictures of mixed sizes, modes and formats, at several depths."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    (folder / "deeper" / "still").mkdir(parents=True)
    for k in range(24):
        place = (folder, folder / "deeper", folder / "deeper" / "still")[k % 3]
        height, width = 18 + k % 5, 16 + (3 * k) % 7
        kind = k % 6
        if kind < 3:
            Image.fromarray(scene(height, width, k)).save(place / f"{k:02d}.png")
        elif kind == 3:
            Image.fromarray(scene(height, width, k, 3)).save(place / f"{k:02d}.jpg", quality=95)
        elif kind == 4:
            Image.fromarray(scene(height, width, k)).convert("LA").save(place / f"{k:02d}.png")
        else:
            Image.fromarray(scene(height, width, k, 3)).quantize(32).save(place / f"{k:02d}.png")
    return folder


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`TINY` as a YAML file."""
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="session")
def tiny_run(pictures: Path, tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that `wavdiff train` made of `pictures` with `TINY`; not to be written to."""
    folder = tmp_path_factory.mktemp("runs") / "tiny run"
    outcome = run_cli("train", "--data", pictures, "--config", tiny_config, "--out", folder)
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_run: Path) -> Path:
    """The model folder of `tiny_run`."""
    return tiny_run / "model"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception]:
    """The Hugging Face hub, which answers that it is there, or raises what a test sets under "failure"."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    state: dict[str, Exception] = {}

    class Session:
        def head(self, url: str, timeout: float) -> None:
            if "failure" in state:
                raise state["failure"]

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    return state
