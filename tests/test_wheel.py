"""The wheel, as people install it: into an environment of its own, its commands run from another folder."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import scene
from PIL import Image

REPOSITORY = Path(__file__).parents[1]


def run(*command: object, folder: Path) -> str:
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`wavdiff` in an environment that has this one's libraries, but the package from its wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, tracked.stdout.split("\0")):
        if name.startswith(("wavdiff/", "configs/")) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, source / name)
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, source)
    run(sys.executable, *build, folder=folder)
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env", folder=folder)
    python = folder / "env" / "bin" / "python"
    there = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip()
    # Libraries by their folder alone, so that what installs this checkout into it is not followed.
    (Path(there) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = folder.glob("wavdiff-*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, folder=folder)
    return folder / "env" / "bin" / "wavdiff"


@pytest.mark.slow
def test_what_is_installed_draws_restores_and_trains(program: Path, tmp_path: Path) -> None:
    where = "import wavdiff; print(wavdiff.__file__)"
    assert str(program.parents[1]) in run(program.parent / "python", "-c", where, folder=tmp_path)
    (tmp_path / "pictures").mkdir()
    for k in range(6):
        Image.fromarray(scene(40, 44, k, 3)).save(tmp_path / "pictures" / f"{k}.png")
    run(program, "sample", "--model", "faces", "--n", 1, "--steps", 2, "--out", "drawn", folder=tmp_path)
    run(program, "denoise", "pictures/0.png", "--sigma", "0.1", "--out", "clean.png", folder=tmp_path)
    run(program, "upscale", "pictures/0.png", "--out", "large.png", folder=tmp_path)
    training = ("--config", "tiny", "--data", "pictures", "--steps", 2, "--set", "data.workers=0", "--out", "run")
    run(program, "train", *training, folder=tmp_path)
    run(program, "upscale", "pictures/1.png", "--model", "run", "--out", "own.png", folder=tmp_path)
    assert Image.open(tmp_path / "clean.png").size == (44, 40)
    assert Image.open(tmp_path / "large.png").size == (88, 80)
    assert (tmp_path / "own.png").is_file() and (tmp_path / "drawn" / "sheet.png").is_file()
