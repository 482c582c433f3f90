"""The command line: the four verbs end to end, files that are what they claim, and mistakes answered in one line."""

import hashlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from blind_models import saved, smoothing_cascade
from conftest import Outcome, run_piped, run_python, scene
from PIL import Image

import wavdiff.cli
from wavdiff import api
from wavdiff.images import load_image

Cli = Callable[..., Outcome]
SUBCOMMANDS = (
    "train",
    "sample",
    "denoise",
    "upscale",
    "restore",
    "evaluate",
    "assemble",
    "inspect",
    "import-published",
)


def digests(folder: Path, pattern: str = "*.png") -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob(pattern))}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def write(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


@pytest.fixture(scope="module")
def drawn(cli: Cli, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five samples from seed 7, not to be written to."""
    out = tmp_path_factory.mktemp("sampled") / "five"
    outcome = cli("sample", "--model", tiny_model, "--n", 5, "--seed", 7, "--out", out, "--show-scales")
    assert outcome.code == 0, outcome.err
    return out


# --- help ----------------------------------------------------------------------------------------------------------


def test_a_warning_is_said_once() -> None:
    with wavdiff.cli._short_warnings():
        said = [warnings.formatwarning(text, UserWarning, "some.py", 1) for text in ("odd", "odd", "even")]
    assert said == ["wavdiff: odd\n", "", "wavdiff: even\n"]


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from wavdiff.cli import main
for arguments in (["--help"], *([name, "--help"] for name in sys.argv[1:])):
    try:
        main(arguments)
    except SystemExit as stop:
        assert not stop.code, arguments
    heavy = {"torch", "numpy", "diffusers", "accelerate", "PIL", "pywt", "scipy", "matplotlib"} & set(sys.modules)
    assert not heavy, (arguments, heavy)
"""
    said = run_python(code, *SUBCOMMANDS)
    for name in SUBCOMMANDS:
        assert name in said
    assert "--low-seed" in said and "--add-noise" in said


def test_pictures_and_draws_need_no_compiler(tiny_model: Path, tmp_path: Path) -> None:
    """torch's compiler and scipy.stats take seconds to import; what compiles or needs them imports them then."""
    Image.fromarray(scene(20, 24, 0)).save(tmp_path / "a.png")
    code = """
import sys
from wavdiff.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end
try:
    main(["--help"])  # a second command of one process looks no further
except SystemExit:
    assert sum(type(finder).__name__ == "CompilerLater" for finder in sys.meta_path) == 1
print(sorted({"torch._dynamo", "sympy", "scipy.stats", "diffusers.hooks"} & set(sys.modules)))
if "denoise" in sys.argv:
    import torch
    import diffusers.utils.torch_utils
    print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item(), "torch._dynamo" in sys.modules)
"""
    for command in (
        ["denoise", tmp_path / "a.png", "--sigma", "0.1", "--samples", "2"],
        ["upscale", tmp_path / "a.png"],
        ["sample", "--n", "1", "--out", tmp_path / "draws"],
    ):
        lines = run_python(code, *command, "--model", tiny_model).splitlines()
        assert "[]" in lines
        assert lines[-1] == ("2.0 True" if command[0] == "denoise" else "[]")


def test_the_version_says_what_a_report_of_a_mistake_needs(cli: Callable[..., Outcome]) -> None:
    said = cli("--version")
    assert said.code == 0 and said.out.splitlines()[0] == f"wavdiff {wavdiff.__version__}"
    assert f"torch {torch.__version__}".split("+")[0] in said.out and "Python 3." in said.out
    assert re.search(r"CPU \w+, \d+ threads: (bfloat16|float32, (direct|Winograd) convolutions)$", said.out.strip())


def test_the_module_is_the_program() -> None:
    assert "Commands:" in run_python(
        "import runpy, sys; sys.argv = ['wavdiff', '--help']; "
        "\ntry: runpy.run_module('wavdiff', run_name='__main__')\nexcept SystemExit as end: assert not end.code"
    )


def test_the_program_is_installed_and_a_mistake_is_one_line_without_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wavdiff.cli", "denoise", "none.png", "--sigma", "15"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "--sigma" in done.stderr and "15/255" in done.stderr


# --- sample --------------------------------------------------------------------------------------------------------


def test_samples_are_named_by_their_seeds(drawn: Path) -> None:
    seeds = [f"{seed:06d}.png" for seed in range(7, 12)]
    others = ["sample.json", "sheet.png", "walk.png", "walk.webp"]
    assert sorted(path.name for path in drawn.iterdir()) == sorted([*seeds, *others])
    for name in seeds:
        assert pixels(drawn / name).shape == (16, 16)
    assert len(set(digests(drawn, "0*.png").values())) == 5
    sheet = pixels(drawn / "sheet.png")  # 3 columns, 2 pixels of white between
    assert sheet.shape == (2 * 18 + 2, 3 * 18 + 2)
    for k, name in enumerate(seeds):
        top, left = 2 + k // 3 * 18, 2 + k % 3 * 18
        assert (sheet[top : top + 16, left : left + 16] == pixels(drawn / name)).all()


def test_the_walk_is_shown_from_coarse_to_fine(drawn: Path) -> None:
    walk = pixels(drawn / "walk.png")
    assert walk.shape == (5 * 18 + 2, 3 * 18 + 2)
    for k in range(5):
        low, middle, full = (walk[2 + k * 18 :, 2 + j * 18 :][:16, :16] for j in range(3))
        assert (full == pixels(drawn / f"{7 + k:06d}.png")).all()
        for blocks, side in ((low, 4), (middle, 2)):
            assert (blocks == blocks[::side, ::side].repeat(side, axis=0).repeat(side, axis=1)).all()


def test_the_walk_moves(drawn: Path) -> None:
    with Image.open(drawn / "walk.webp") as image:
        assert image.n_frames >= 3  # type: ignore[attr-defined]
        frames = []
        for k in range(3):
            image.seek(k)
            frames.append(np.asarray(image.convert("RGB")))
    assert frames[0].shape == (2 * (96 + 20 + 2) + 2, 4 * (96 + 2) + 2, 3)
    first = frames[2][22 : 22 + 96, 2 : 2 + 96, 0]
    assert (first == pixels(drawn / "000007.png").repeat(6, axis=0).repeat(6, axis=1)).all()
    assert not (frames[0] == frames[2]).all()


def test_a_sheet_with_seeds(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "labelled"
    assert cli("sample", "--model", tiny_model, "--n", 3, "--seed", 41, "--labels", "--out", out).code == 0
    sheet = pixels(out / "sheet.png")
    assert sheet.shape == (2 * 118 + 2, 2 * 98 + 2, 3)
    assert (sheet[22:118, 2:98, 0] == pixels(out / "000041.png").repeat(6, axis=0).repeat(6, axis=1)).all()
    assert (sheet[2:22, 2:98] < 128).any() and (sheet[:2] == 255).all()  # a text


def test_the_record_repeats_the_images(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    options = ("--steps", "3,2", "--solver", "sde-dpm", "--size", "16x24", "--low-seed", 3, "--stop-scale", 1)
    outcome = cli("sample", "--model", tiny_model, "--n", 3, "--seed", 40, *options, "--out", tmp_path / "first")
    assert outcome.code == 0, outcome.err
    record = json.loads((tmp_path / "first" / "sample.json").read_text())
    program, *repeat = shlex.split(record["repeat"])
    assert program == "wavdiff"
    outcome = cli(*repeat, "--out", tmp_path / "second")
    assert outcome.code == 0, outcome.err
    assert digests(tmp_path / "first") == digests(tmp_path / "second") and len(digests(tmp_path / "first")) == 4
    assert pixels(tmp_path / "first" / "000040.png").shape == (8, 12)
    assert record["seeds"] == [40, 41, 42]
    weights = tiny_model / "cascade" / "diffusion_pytorch_model.safetensors"
    assert record["model_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_correctors_are_recorded_and_repeated(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    common = ("sample", "--model", tiny_model, "--n", 2, "--steps", "3,2")
    assert cli(*common, "--correctors", "2,1", "--out", tmp_path / "first").code == 0
    record = json.loads((tmp_path / "first" / "sample.json").read_text())
    assert [record["draws"]["ladders"][name]["correctors"] for name in ("lowpass", "details")] == [2, 1]
    assert cli(*shlex.split(record["repeat"])[1:], "--out", tmp_path / "second").code == 0
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    assert cli(*common, "--correctors", "0", "--out", tmp_path / "third").code == 0
    assert cli(*common, "--out", tmp_path / "fourth").code == 0
    assert digests(tmp_path / "third") == digests(tmp_path / "fourth") != digests(tmp_path / "first")
    plain = json.loads((tmp_path / "fourth" / "sample.json").read_text())  # and versions without them continue it
    assert "correctors" not in plain["draws"]["ladders"]["lowpass"]
    for options, rule in (
        (("--correctors", "1,2,3"), "--correctors is a number of at least 0, or two as in 3,0, got '1,2,3'"),
        (("--correctors", "-1"), "--correctors is a number"),
        (("--correctors", "1", "--solver", "heun"), "correctors must be 0 with heun"),
        (("--correctors", "1", "--solver", "ascent"), "--correctors are for ladders"),
    ):
        refused = cli(*common[:5], *options, "--out", tmp_path / "refused")
        assert refused.code == 1 and rule in refused.err and refused.err.count("\n") == 1, refused.err


def test_a_precision_is_recorded_where_it_is_given(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("sample", "--model", tiny_model, "--n", 2)
    assert cli(*common, "--precision", "float32", "--out", tmp_path / "first").code == 0
    record = json.loads((tmp_path / "first" / "sample.json").read_text())
    assert record["precision"] == record["draws"]["precision"] == "float32"
    assert record["repeat"].endswith(" --precision float32")
    assert cli(*shlex.split(record["repeat"])[1:], "--out", tmp_path / "second").code == 0
    monkeypatch.setenv("WAVDIFF_PRECISION", "float32")
    assert cli(*common, "--out", tmp_path / "third").code == 0
    assert digests(tmp_path / "first") == digests(tmp_path / "second") == digests(tmp_path / "third")
    plain = json.loads((tmp_path / "third" / "sample.json").read_text())
    assert "precision" not in plain and "precision" not in plain["draws"] and "--precision" not in plain["repeat"]
    # Other draws than those that are there, or perhaps other ones, are not mixed with them; "auto" is what was always.
    for folder, options in (("first", ()), ("third", ("--precision", "float32"))):
        refused = cli(*common, *options, "--out", tmp_path / folder)
        assert refused.code == 1 and "drawn with precision" in refused.err and refused.err.count("\n") == 1
    assert cli(*common, "--precision", "auto", "--out", tmp_path / "third").out.startswith("2 images (2 were there)")


@pytest.mark.parametrize("solver", ["dpm", "sde-dpm", "heun", "euler"])
def test_no_batch_size_changes_an_image(cli: Cli, tiny_model: Path, tmp_path: Path, solver: str) -> None:
    for size in (1, 2, 5):
        options = ("--n", 5, "--solver", solver, "--batch-size", size, "--out", tmp_path / str(size))
        outcome = cli("sample", "--model", tiny_model, *options)
        assert outcome.code == 0, outcome.err
    assert digests(tmp_path / "1") == digests(tmp_path / "2") == digests(tmp_path / "5")


def test_an_image_depends_on_its_own_seed_only(cli: Cli, tiny_model: Path, drawn: Path, tmp_path: Path) -> None:
    assert cli("sample", "--model", tiny_model, "--n", 1, "--seed", 9, "--out", tmp_path / "one").code == 0
    assert (tmp_path / "one" / "000009.png").read_bytes() == (drawn / "000009.png").read_bytes()


def test_a_low_seed_keeps_the_layout(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    common = ("sample", "--model", tiny_model, "--n", 3, "--low-seed", 5)
    assert cli(*common, "--stop-scale", 2, "--out", tmp_path / "low").code == 0
    assert len(set(digests(tmp_path / "low", "0*.png").values())) == 1
    assert pixels(tmp_path / "low" / "000000.png").shape == (4, 4)
    assert cli(*common, "--out", tmp_path / "full").code == 0
    assert len(set(digests(tmp_path / "full", "0*.png").values())) == 3
    cascade = api.load(tiny_model)
    walk = api.sample_walk(cascade, [0, 1, 2], low_seeds=[5, 5, 5])
    assert torch.equal(walk[0][0], walk[0][1]) and torch.equal(walk[0][0], walk[0][2])
    assert torch.equal(walk[0][:1], api.sample_walk(cascade, [5], stop_scale=2)[0])
    means = torch.nn.functional.avg_pool2d(walk[-1], 4)  # Haar: the layout is the block means
    assert torch.allclose(means, walk[0], atol=1e-5)


def test_samples_are_not_overwritten_unless_asked(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli("sample", "--model", tiny_model, "--n", 1, "--out", out).code == 0
    before = digests(out, "*")
    refused = cli("sample", "--model", tiny_model, "--n", 2, "--seed", 5, "--out", out)
    assert refused.code == 1 and "--overwrite" in refused.err and str(out) in refused.err
    assert digests(out, "*") == before
    assert cli("sample", "--model", tiny_model, "--n", 2, "--seed", 5, "--out", out, "--overwrite").code == 0
    assert digests(out, "*") != before and (out / "000006.png").is_file()


# --- sample by ascent ------------------------------------------------------------------------------------------------


ASCENT = ("--solver", "ascent", "--beta", "0.5,1", "--h0", 0.2, "--sigma-l", "0.4,100/255")


@pytest.fixture(scope="module")
def blind_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(smoothing_cascade(16), tmp_path_factory.mktemp("blind") / "model")


def test_ascent_is_recorded_and_repeated(cli: Cli, blind_model: Path, tmp_path: Path) -> None:
    command = ("sample", "--model", blind_model, *ASCENT, "--sigma-0", 0.9, "--step-size", "growing,fixed")
    outcome = cli(*command, "--range", "0,0.8", "--n", 2, "--seed", 3, "--out", tmp_path / "first")
    assert outcome.code == 0 and outcome.err == "", outcome.err
    record = json.loads((tmp_path / "first" / "sample.json").read_text())
    low, details = record["ascents"]
    assert record["draws"]["ladders"] == {"lowpass": low, "details": details}
    assert low == {
        "beta": 0.5,
        "h0": 0.2,
        "sigma_0": 0.9,
        "sigma_l": 0.4,
        "growing": True,
        "stopping": "snr",
        "most_steps": 100_000,
        "mean": 0.0,
    }
    assert details == {**low, "beta": 1.0, "sigma_l": 100 / 255, "growing": False, "mean": 0.5}
    assert record["draws"]["lowpass_range"] == [0.0, 0.8] and record["solver"] is None
    program, *repeat = shlex.split(record["repeat"])
    assert program == "wavdiff"
    outcome = cli(*repeat, "--out", tmp_path / "second")
    assert outcome.code == 0, outcome.err
    again = json.loads((tmp_path / "second" / "sample.json").read_text())
    assert {**again, "model": ""} == {**record, "model": ""}  # 100/255 to its last digit
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    # By 2 and 2 images it is the same: every image ends by itself.
    assert cli(*repeat, "--n", 4, "--out", tmp_path / "first").out.startswith("4 images (2 were there)")
    assert cli(*repeat, "--n", 4, "--batch-size", 1, "--out", tmp_path / "third").code == 0
    assert digests(tmp_path / "first") == digests(tmp_path / "third")


def test_a_folder_of_another_walk_is_not_continued(cli: Cli, blind_model: Path, tmp_path: Path) -> None:
    common = ("sample", "--model", blind_model, "--n", 1, "--out", tmp_path / "out")
    assert cli(*common, *ASCENT).code == 0
    before = digests(tmp_path / "out", "*")
    for others, name in (
        ((), "ladders"),
        ((*ASCENT, "--h0", "0.3"), "ladders.lowpass.h0"),
        ((*ASCENT, "--step-size", "growing"), "ladders.lowpass.growing"),
        ((*ASCENT, "--range", "0,0.8"), "lowpass_range"),
    ):
        outcome = cli(*common, *others)
        assert outcome.code == 1 and outcome.err.count("\n") == 1, outcome.err
        assert name in outcome.err and "--overwrite" in outcome.err
    assert digests(tmp_path / "out", "*") == before
    assert cli(*common, *ASCENT).out.startswith("1 images (1 were there)")


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("--beta", "0.1"), "--beta is for --solver ascent"),
        (("--h0", "0.1", "--solver", "heun"), "--h0 is for --solver ascent, got --solver heun"),
        (("--sigma-0", "0.9"), "--sigma-0 is for --solver ascent"),
        (("--sigma-l", "0.9"), "--sigma-l is for --solver ascent"),
        (("--step-size", "fixed"), "--step-size is for --solver ascent"),
        ((*ASCENT, "--steps", "5"), "--steps: the images decide"),
        ((*ASCENT, "--beta", "much"), "--beta"),
        ((*ASCENT, "--beta", "0.1,0.2,0.3"), "--beta is one value, or LOW,DETAILS"),
        ((*ASCENT, "--beta", "0"), "--solver ascent: beta must be in (0, 1]"),
        ((*ASCENT, "--h0", "1.5"), "h0 must be in (0, 1], got 1.5"),
        ((*ASCENT, "--sigma-l", "1"), "sigma_l < sigma_0"),
        ((*ASCENT, "--sigma-0", "nan"), "sigma_0 must be a number"),
        ((*ASCENT, "--step-size", "slow"), "--step-size is fixed or growing, got 'slow'"),
        ((*ASCENT, "--step-size", "fixed,fixed,fixed"), "--step-size is one value"),
        (("--range", "0.8,0"), "--range must be two numbers with 0 <= low < high <= 1"),
        (("--range", "0.5"), "--range must be two numbers"),
        (("--range", "0,0.5,1"), "--range must be two numbers"),
        (("--range", "0,1.5"), "--range must be two numbers"),
        (("--range", "nan,1"), "--range must be two numbers"),
        (("--range", "all"), "--range"),
    ],
)
def test_wrong_options_of_ascent_are_one_line(
    cli: Cli, blind_model: Path, tmp_path: Path, options: tuple[str, ...], rule: str
) -> None:
    outcome = cli("sample", "--model", blind_model, "--n", 1, *options, "--out", tmp_path / "out")
    assert outcome.code == 1 and outcome.err.count("\n") == 1 and rule in outcome.err, outcome.err
    assert not (tmp_path / "out").exists()


def test_the_range_is_the_models_unless_told(cli: Cli, tmp_path: Path) -> None:
    cascade = smoothing_cascade(16)
    cascade.register_to_config(lowpass_range=[0.2, 0.6])
    model = saved(cascade, tmp_path / "model")
    for name, options, limits in (
        ("model", (), (51, 153)),
        ("told", ("--range", "0,1"), (0, 255)),
        ("left", ("--range", "NONE"), None),
    ):
        out = tmp_path / name
        command = ("sample", "--model", model, "--n", 1, "--stop-scale", 1, "--out", out, *options)
        assert cli(*command).code == 0
        low = pixels(out / "000000.png")
        seen = (int(low.min()), int(low.max()))
        assert seen == limits if limits else seen != (51, 153)
        record = json.loads((out / "sample.json").read_text())
        repeat = shlex.split(record["repeat"])[1:]
        assert cli(*repeat, "--out", tmp_path / f"{name} again").code == 0
        assert digests(out) == digests(tmp_path / f"{name} again")


def test_images_that_do_not_converge_are_told_in_a_line(cli: Cli, blind_model: Path, tmp_path: Path) -> None:
    from wavdiff.batch import drawers as sampling_run
    from wavdiff.models.cascade import ascent
    from wavdiff.models.cascade.sampling import sample_walk

    few = ascent.Ascent(most_steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling_run, "sample_walk", lambda *a, **k: sample_walk(*a, **{**k, "ascents": (few, few)}))
        with pytest.warns(UserWarning, match="did not converge for seeds 0$"):  # and no copies that fill a group
            outcome = cli("sample", "--model", blind_model, "--n", 1, *ASCENT, "--out", tmp_path / "out")
    assert outcome.code == 0 and (tmp_path / "out" / "000000.png").is_file()


# --- denoise -------------------------------------------------------------------------------------------------------


def noisy_scene(height: int, width: int, channels: int = 1) -> np.ndarray:
    clean = scene(height, width, 3, channels).astype(np.float64)
    return (clean + np.random.default_rng(1).normal(0, 25, clean.shape)).clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    "height, width, mode",
    [(16, 16, "L"), (1, 1, "L"), (1, 7, "RGB"), (13, 21, "L"), (17, 9, "RGB"), (15, 15, "RGBA"), (12, 10, "LA")],
)
def test_any_picture_is_denoised_and_stays_as_it_is(
    cli: Cli, tiny_model: Path, tmp_path: Path, height: int, width: int, mode: str
) -> None:
    path = write(tmp_path / "photo.png", noisy_scene(height, width, 3 if mode.startswith("RGB") else 1), mode)
    before = path.read_bytes()
    outcome = cli("denoise", path, "--sigma", "25/255", "--model", tiny_model)
    assert outcome.code == 0, outcome.err
    assert path.read_bytes() == before
    result = tmp_path / "photo_denoised.png"
    assert outcome.out.strip() == str(result)
    assert sorted(tmp_path.iterdir()) == [path, result]
    with Image.open(result) as image:
        assert image.mode == mode and image.size == (width, height)
    again = tmp_path / "again.png"
    assert cli("denoise", path, "--sigma", 25 / 255, "--model", tiny_model, "-o", again, "--seed", 4).code == 0
    assert again.read_bytes() == result.read_bytes()
    # The file is what the function says of the file's own pixels: nothing was added to them.
    clean = api.denoise(load_image(path).pixels, 25 / 255, model=tiny_model)
    assert torch.allclose(load_image(result).pixels, clean.clamp(-1, 1), atol=1.01 / 255)


def test_no_noise_no_change(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", noisy_scene(9, 11))
    assert cli("denoise", path, "--sigma", 0, "--model", tiny_model).code == 0
    assert (pixels(tmp_path / "a_denoised.png") == pixels(path)).all()


def test_posterior_samples_differ_by_seed_only(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", noisy_scene(16, 16))
    for name, seed in (("x", 1), ("y", 1), ("z", 2)):
        options = ("--sigma", 0.2, "--sample", "--seed", seed, "-o", tmp_path / f"{name}.png")
        assert cli("denoise", path, *options, "--model", tiny_model).code == 0
    x, y, z = (pixels(tmp_path / f"{name}.png") for name in "xyz")
    assert (x == y).all() and (x != z).any()


def test_added_noise_is_for_demonstrations(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", scene(32, 32, 3))
    before = path.read_bytes()
    outcome = cli("denoise", path, "--sigma", 0.2, "--add-noise", "--model", tiny_model)
    assert outcome.code == 0, outcome.err
    assert path.read_bytes() == before
    clean, noisy = (pixels(tmp_path / name).astype(float) for name in ("a.png", "a_denoised_input.png"))
    error = np.mean((clean - noisy) ** 2)
    noisy_psnr = 10 * np.log10(255**2 / error)
    assert "PSNR" in outcome.err and f"{noisy_psnr:.1f}"[:-1] in outcome.err
    result = pixels(tmp_path / "a_denoised.png").astype(float)
    printed = [
        float(word) for word in outcome.err.replace(",", " ").split() if word.count(".") == 1 and word[0].isdigit()
    ]
    assert printed[0] == pytest.approx(noisy_psnr, abs=0.1)
    assert printed[1] == pytest.approx(10 * np.log10(255**2 / np.mean((clean - result) ** 2)), abs=0.1)


def test_the_input_is_never_overwritten(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a_input.png", scene(8, 8, 3))
    numbered = write(tmp_path / "b_000001.png", scene(8, 8, 4))
    link = tmp_path / "link.png"
    link.symlink_to(path)
    before = digests(tmp_path)
    model = ("--model", tiny_model, "--overwrite")
    for arguments in (
        ("denoise", path, "--sigma", 0.1, "-o", path),
        ("denoise", path, "--sigma", 0.1, "-o", link),
        ("denoise", path, "--sigma", 0.1, "-o", tmp_path / "a.png", "--add-noise"),
        ("upscale", path, "-o", tmp_path / "." / path.name),
        ("upscale", numbered, "-o", tmp_path / "b.png", "--mode", "sample", "--n", 3),
    ):
        outcome = cli(*arguments, *model)
        assert outcome.code == 1 and "input" in outcome.err and outcome.err.count("\n") == 1, arguments
    assert digests(tmp_path) == before


# --- upscale -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("mode, height, width", [("L", 5, 7), ("RGB", 4, 4), ("RGBA", 3, 6), ("L", 1, 1)])
def test_enlarged_pictures_keep_the_small_one(
    cli: Cli, tiny_model: Path, tmp_path: Path, factor: int, mode: str, height: int, width: int
) -> None:
    path = write(tmp_path / "small.png", scene(height, width, 2, 3 if mode.startswith("RGB") else 1), mode)
    before = path.read_bytes()
    outcome = cli("upscale", path, "--factor", factor, "--model", tiny_model)
    assert outcome.code == 0, outcome.err
    result = tmp_path / f"small_x{factor}.png"
    assert path.read_bytes() == before and sorted(tmp_path.iterdir()) == sorted([path, result])
    with Image.open(result) as image:
        assert image.mode == mode and image.size == (factor * width, factor * height)
    small, cascade = load_image(path).pixels, api.load(tiny_model)
    for way in ("mean", "sample"):
        large = api.upscale(small, factor, model=cascade, mode=way, seed=1)
        means = torch.nn.functional.avg_pool2d(large[None], factor)[0]
        assert float((means - small).abs().max()) < 2e-6
    assert outcome.out.strip() == str(result)
    if mode != "RGBA":
        assert float(outcome.err.split("at most ")[1].split("/")[0]) <= 0.5  # rounding
    if mode == "RGBA":
        assert (pixels(result)[..., 3] == 255).all()  # what is opaque stays opaque
    mean = api.upscale(small, factor, model=cascade)
    assert torch.allclose(load_image(result).pixels, mean.clamp(-1, 1), atol=1.01 / 255)


def test_variants_differ_and_are_named_by_their_seeds(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "small.png", scene(6, 6, 2))
    outcome = cli("upscale", path, "--mode", "sample", "--n", 3, "--seed", 11, "--steps", 2, "--model", tiny_model)
    assert outcome.code == 0, outcome.err
    names = [f"small_x2_{seed:06d}.png" for seed in (11, 12, 13)]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["small.png", *names])
    assert len(set(digests(tmp_path, "small_*").values())) == 3
    one = ("--mode", "sample", "--seed", 12, "--steps", 2, "-o", tmp_path / "one.png")
    assert cli("upscale", path, *one, "--model", tiny_model).code == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / names[1]).read_bytes()


# --- both, on many files --------------------------------------------------------------------------------------------


def test_draws_their_mean_maps_and_bounds(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "small.png", scene(6, 7, 2))
    options = ("--samples", 5, "--interval", 0.9, "--seed", 3, "--steps", 2, "--model", tiny_model)
    dry = cli("upscale", path, *options, "--dry-run")
    assert dry.code == 0 and list(tmp_path.iterdir()) == [path]
    outcome = cli("upscale", path, *options)
    assert outcome.code == 0, outcome.err
    written = outcome.out.splitlines()
    assert written[0] == str(tmp_path / "small_x2.png")
    assert sorted([*written, str(path)]) == sorted(str(other) for other in tmp_path.iterdir())
    assert [line.split(" -> ")[1].split("  ")[0] for line in dry.out.splitlines()] == written  # as the dry run said
    draws = np.stack([pixels(tmp_path / f"small_x2_sample_{seed:06d}.png") for seed in range(3, 8)]).astype(float)
    inner = (draws > 0).all(axis=0) & (draws < 255).all(axis=0)  # where no draw was limited to the file's range
    assert inner.mean() > 0.5
    mean, lower, upper = (pixels(tmp_path / f"small_x2{end}.png").astype(float) for end in ("", "_lower", "_upper"))
    assert np.abs(mean - draws.mean(axis=0))[inner].max() <= 1
    spread = np.load(tmp_path / "small_x2_std.npy")
    assert spread.shape == (12, 14, 1)
    assert np.abs(255 * spread[..., 0] - draws.std(axis=0, ddof=1))[inner].max() <= 1
    assert (lower <= mean).all() and (mean <= upper).all()
    again = cli("upscale", path, *options)
    assert again.code == 1 and "exists" in again.err and again.out == ""


def test_a_folder_of_pictures_of_all_kinds(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in pictures.rglob("*") if path.is_file()}
    write(tmp_path / "wide.png", scene(9, 9, 1))
    (tmp_path / "bad.png").write_bytes(next(iter(before.values()))[:40])
    inputs = (pictures, tmp_path / "bad.png", tmp_path / "wide.png")
    outcome = cli("denoise", *inputs, "--sigma", 0.1, "-o", tmp_path / "out", "--model", tiny_model)
    assert outcome.code == 1 and "wavdiff: 1 of 26 failed" in outcome.err
    assert outcome.err.count("bad.png") == 1
    for path, data in before.items():
        assert path.read_bytes() == data
        with Image.open(path) as source, Image.open(tmp_path / "out" / path.relative_to(pictures)) as result:
            assert (result.mode, result.size, result.format) == (source.mode, source.size, source.format)
    results = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {Path(line) for line in outcome.out.splitlines()} == results and len(results) == 25


def test_a_picture_through_a_pipe(tiny_model: Path, tmp_path: Path, cli: Cli) -> None:
    path = write(tmp_path / "a.png", noisy_scene(16, 16))
    options = ("--sigma", "0.1", "--model", tiny_model)
    code, picture, said = run_piped(path.read_bytes(), "denoise", "-", *options)
    assert code == 0, said
    assert cli("denoise", path, *options, "-o", tmp_path / "b.png").code == 0
    assert picture == (tmp_path / "b.png").read_bytes()
    code, picture, _ = run_piped(path.read_bytes(), "denoise", "-", "--ext", "tif", *options)
    with Image.open(io.BytesIO(picture)) as image:
        assert code == 0 and image.format == "TIFF" and (np.array(image) == pixels(tmp_path / "b.png")).all()
    code, picture, said = run_piped(b"no picture", "denoise", "-", *options)
    assert code == 1 and picture == b"" and said.startswith("wavdiff: stdin: not an image") and said.count("\n") == 1


# --- evaluate, and all of it in a row ------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_verbs_in_a_row(
    cli: Cli, pictures: Path, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "noisy.png", noisy_scene(20, 14, 3))
    train = ("train", "--data", pictures, "--config", tiny_config, "--set", "training.steps=2", "--scales", "low,1,0")
    for arguments in (
        train,  # into runs/ and the name of the configuration
        train,
        ("sample", "--model", "runs/small", "--n", 2, "--steps", 2),
        ("denoise", "noisy.png", "--sigma", "0.1", "--model", "runs/small"),
        ("upscale", "noisy_denoised.png", "--factor", "2", "--model", "runs/small"),
        ("evaluate", "--model", "runs/small", "--no-bm3d", "--limit", 2, "--sigmas", "25/255,0.2", "--factors", "2"),
    ):
        outcome = cli(*arguments)
        assert outcome.code == 0, (arguments, outcome.err)
    assert pixels(tmp_path / "noisy_denoised_x2.png").shape == (40, 28, 3)
    assert {"sheet.png", "sample.json", "000001.png"} <= {path.name for path in (tmp_path / "samples").iterdir()}
    assert {"evaluation.json", "evaluation.md", "denoising.png"} == {
        p.name for p in (tmp_path / "evaluation").iterdir()
    }
    refused = cli("evaluate", "--model", "runs/small", "--no-bm3d")
    assert refused.code == 1 and "evaluation.json" in refused.err


# --- mistakes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workshop(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good picture, wrong files and wrong models; commands that fail must leave it as it is."""
    import shutil

    folder = tmp_path_factory.mktemp("workshop")
    write(folder / "good.png", scene(8, 8, 1))
    (folder / "text.png").write_text("this is no picture")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:60])
    (folder / "folder.png").mkdir()
    (folder / "taken").write_text("a file")
    (folder / "pictures").mkdir()
    for k in range(3):
        write(folder / "pictures" / f"{k}.png", scene(32, 32, k))
    write(folder / "exists.png", scene(8, 8, 2))
    shutil.copytree(tiny_model, folder / "model")
    weights = Path("cascade") / "diffusion_pytorch_model.safetensors"
    for name in ("cut", "gone", "garbled", "no-config", "other-config"):
        shutil.copytree(tiny_model, folder / name)
    (folder / "cut" / weights).write_bytes((folder / "model" / weights).read_bytes()[:-100])
    (folder / "gone" / weights).unlink()
    (folder / "garbled" / weights).write_bytes(b"\xff" * 1000)
    (folder / "no-config" / "cascade" / "config.json").unlink()
    config = folder / "other-config" / "cascade" / "config.json"
    mapping = json.loads(config.read_text())
    for network in mapping["detail_networks"]:
        network["width"] = 16
    config.write_text(json.dumps(mapping))
    return folder


DENOISE = "denoise good.png --model model"
MISTAKES = [
    (f"{DENOISE} --sigma 15", ["--sigma", "15/255"]),
    (f"{DENOISE} --sigma -1", ["--sigma", "-1"]),
    (f"{DENOISE} --sigma nan", ["--sigma", "nan"]),
    (f"{DENOISE} --sigma 1/0", ["noise level", "1/0"]),
    (f"{DENOISE} --sigma abc", ["noise level", "abc"]),
    (f"{DENOISE} --sigma 0.1 -o taken/out.png", ["taken"]),
    (f"{DENOISE} --sigma 0.1 -o exists.png", ["exists.png", "--overwrite"]),
    (f"{DENOISE} --sigma 0.1 -o out.xyz", ["out.xyz", ".png"]),
    (f"{DENOISE} --sigma 0.1 -o out", ["out"]),
    ("denoise missing.png --sigma 0.1 --model model", ["missing.png", "no such file"]),
    ("denoise text.png --sigma 0.1 --model model", ["text.png", "not an image"]),
    ("denoise empty.png --sigma 0.1 --model model", ["empty.png", "empty"]),
    ("denoise cut.png --sigma 0.1 --model model", ["cut.png"]),
    ("denoise folder.png --sigma 0.1 --model model", ["folder.png", "folder holds no picture"]),
    ("denoise no*.png --sigma 0.1 --model model", ["no*.png", "no file matches"]),
    (f"{DENOISE} --sigma auto --add-noise", ["--add-noise", "--sigma"]),
    (f"{DENOISE} --samples 1", ["--samples", "1"]),
    (f"{DENOISE} --samples -4", ["--samples", "-4"]),
    (f"{DENOISE} --interval 0.9", ["--interval", "--samples"]),
    (f"{DENOISE} --interval 90 --samples 4", ["--interval", "90", "0.9"]),
    (f"{DENOISE} --interval nan --samples 4", ["--interval", "nan"]),
    (f"{DENOISE} --steps 3", ["--steps", "--sample"]),
    (f"{DENOISE} --solver dpm", ["--solver", "--sample"]),
    (f"{DENOISE} --seed -1", ["--seed", "-1"]),
    (f"{DENOISE} --sample --solver magic", ["solver", "magic"]),
    (f"{DENOISE} --memory 100MB", ["--memory", "256MB", "100MB"]),
    (f"{DENOISE} --memory much", ["--memory", "much"]),
    (f"{DENOISE} --ext xyz", ["--ext", "xyz", "png"]),
    (f"{DENOISE} --ext tif -o a.png", ["--ext", "tif", "a.png"]),
    (f"{DENOISE} --suffix a/b", ["--suffix", "a/b"]),
    (f"{DENOISE} --suffix=", ["good.png", "input"]),
    ("denoise good.png exists.png --model model -o out.png", ["--out", "folder", "out.png"]),
    ("denoise pictures --model model -o taken", ["--out", "folder", "taken"]),
    ("denoise good.png --model fashion2", ["--model fashion2"]),
    ("denoise good.png --sigma 0.1 --model nowhere", ["--model nowhere"]),
    ("denoise good.png --sigma 0.1 --model cut", ["--model cut", "damaged"]),
    ("denoise good.png --sigma 0.1 --model garbled", ["--model garbled", "damaged"]),
    ("denoise good.png --sigma 0.1 --model gone", ["--model gone", "diffusion_pytorch_model.safetensors"]),
    ("denoise good.png --sigma 0.1 --model no-config", ["--model no-config", "config.json"]),
    ("denoise good.png --sigma 0.1 --model other-config", ["--model other-config"]),
    ("upscale good.png --model model --factor 1", ["--factor", "1"]),
    ("upscale good.png --model model --factor nan", ["--factor", "nan"]),
    ("upscale good.png --model model --factor 100", ["factor", "100", "64"]),
    ("upscale good.png --model model --factor 2 --longest 90", ["--factor", "--longest", "90"]),
    ("upscale good.png --model model --size 90", ["--size", "90"]),
    ("upscale good.png --model model --size 5x4", ["size", "5x4"]),
    ("upscale good.png --model model --longest 0", ["--longest", "0"]),
    ("upscale good.png --model model --longest 2", ["longest", "2"]),
    ("upscale good.png --model model --factor 3 --samples 4", ["samples", "powers of two"]),
    ("upscale good.png --model model --factor 0", ["factor", "0"]),
    ("upscale good.png --model model --factor -2", ["factor", "-2"]),
    ("upscale good.png --model model --n 0", ["--n", "0"]),
    ("upscale good.png --model model --n 2", ["--n", "2", "mean"]),
    ("upscale good.png --model model --mode best", ["--mode", "best"]),
    ("upscale good.png --model model --mode sample --steps 0", ["--steps", "0"]),
    ("upscale good.png --model model --mode sample --solver magic", ["solver", "magic"]),
    ("upscale good.png --model model --mode sample --n 2 --samples 3", ["--n", "--samples"]),
    ("upscale good.png --model model --seed -1", ["--seed", "-1"]),
    ("upscale good.png --model model --steps 2", ["--steps", "--mode sample"]),
    ("upscale missing.png --model model", ["missing.png"]),
    ("upscale good.png --model model -o out.xyz", ["out.xyz"]),
    ("sample --model model --n 0", ["--n", "0"]),
    ("sample --model model --seed -1", ["--seed", "-1"]),
    ("sample --model model --steps x", ["--steps", "x"]),
    ("sample --model model --steps 0", ["--steps", "0"]),
    ("sample --model model --steps 1,2,3", ["--steps", "1,2,3"]),
    ("sample --model model --size axb", ["--size", "axb"]),
    ("sample --model model --size 18x16", ["--size", "18x16", "4"]),
    ("sample --model model --size 0x16", ["--size", "0x16"]),
    ("sample --model model --solver magic", ["solver", "magic"]),
    ("sample --model model --stop-scale 9", ["--stop-scale", "9"]),
    ("sample --model model --stop-scale -1", ["--stop-scale", "-1"]),
    ("sample --model model --batch-size 0", ["--batch-size", "0"]),
    ("sample --model model --out taken", ["--out taken", "file"]),
    ("sample --model nowhere", ["--model nowhere"]),
    ("train --config nowhere.yaml", ["nowhere.yaml"]),
    ("train --config taken", ["taken"]),
    ("train --data nowhere", ["nowhere"]),
    ("train --data model --set training.steps", ["--set", "training.steps"]),
    ("train --data model --set training.stepz=3", ["stepz"]),
    ("train --data pictures --set model.wavelet=bior2.2", ["wavelet", "bior2.2"]),
    ("train --data pictures --set model.details.receptive_field=4", ["receptive_field", "4"]),
    ("train --data pictures --scales low,7", ["--scales", "7"]),
    ("train --data pictures --out taken", ["taken"]),
    ("train --data model --steps 0", ["training.steps", "0"]),
    ("train --data cut", ["cut"]),
    ("evaluate --model model --no-bm3d --sigmas 15", ["--sigmas", "15/255"]),
    ("evaluate --model model --no-bm3d --sigmas 0", ["--sigmas", "0"]),
    ("evaluate --model model --no-bm3d --factors two", ["--factors", "two"]),
    ("evaluate --model model --no-bm3d --limit 0", ["--limit", "0"]),
    ("evaluate --model model --no-bm3d --kid 1", ["--kid", "1"]),
    ("evaluate --model nowhere", ["--model nowhere"]),
]


@pytest.mark.parametrize("command, named", MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake_is_one_line_that_names_it(
    cli: Cli, workshop: Path, monkeypatch: pytest.MonkeyPatch, command: str, named: list[str]
) -> None:
    monkeypatch.chdir(workshop)
    before = {path: path.stat().st_mtime_ns for path in sorted(workshop.rglob("*"))}
    outcome = cli(*shlex.split(command))
    assert outcome.code == 1, outcome
    assert outcome.err.count("\n") == 1 and outcome.err.startswith("wavdiff: "), outcome.err
    assert not outcome.out
    for text in named:
        assert text in outcome.err
    assert {path: path.stat().st_mtime_ns for path in sorted(workshop.rglob("*"))} == before


def test_usage_errors_are_typers(cli: Cli) -> None:
    for arguments in (("denoise",), ("sample", "--nn", 3), ("paint",), ("upscale", "a.png", "--factor", "two")):
        outcome = cli(*arguments)
        assert outcome.code == 2 and "Traceback" not in outcome.err
