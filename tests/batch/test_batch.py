"""Work on many pictures: which files are meant, where results go, and that trouble with one stays with that one."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Outcome, run_piped
from fresh_processes import Fresh
from PIL import Image

from wavdiff.batch.jobs import Job, OutputNaming, check_jobs, name_outputs, plan_jobs
from wavdiff.batch.report import batch_report
from wavdiff.batch.run import run_jobs
from wavdiff.batch.sources import READABLE_SUFFIXES, WRITABLE_SUFFIXES, Source, find_sources, names_many
from wavdiff.cli.options import memory_bytes
from wavdiff.system.errors import WavdiffError

Cli = Callable[..., Outcome]


def touch(folder: Path, *names: str, text: str = "") -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text or f"picture {path.name}")
    return paths


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def names_found(*inputs: str, suffix: str = "_denoised", out: Path | None = None) -> list[str]:
    return [source.path.as_posix() for source in find_sources(inputs, suffix, out).sources]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- which files are meant ------------------------------------------------------------------------------------------


def test_a_folder_is_searched_to_any_depth_and_hidden_files_are_not(desk: Path) -> None:
    touch(desk, "in/b.png", "in/a.JPG", "in/deep/er/c.tif", "in/.hidden.png", "in/.cache/d.png", "in/notes.txt")
    found = find_sources(["in"], "_denoised")
    assert [source.path.as_posix() for source in found.sources] == ["in/a.JPG", "in/b.png", "in/deep/er/c.tif"]
    assert {source.root for source in found.sources} == {Path("in")}
    assert found.notes == ["in: 1 file passed over, not pictures by their suffix"] and not found.problems


def test_files_are_sorted_and_taken_once(desk: Path) -> None:
    touch(desk, "in/a.png", "in/b.png")
    assert names_found("in/b.png", "in/a.png", "./in/b.png", str(desk / "in/a.png"), "in") == ["in/a.png", "in/b.png"]


def test_links_to_folders_are_not_followed(desk: Path) -> None:
    touch(desk, "in/a.png")
    (desk / "in" / "loop").symlink_to(desk / "in")
    (desk / "in" / "same.png").symlink_to("a.png")
    assert names_found("in") == ["in/a.png", "in/same.png"]
    (desk / "door").symlink_to("in")
    assert names_found("door") == ["door/a.png", "door/same.png"]


@pytest.mark.parametrize(
    "pattern, expected, root",
    [
        ("in/*.png", ["in/a.png", "in/b.png"], "in"),
        ("in/**/*.png", ["in/a.png", "in/b.png", "in/deep/c.png"], "in"),
        ("in/*/[c]*", ["in/deep/c.png"], "in"),
        ("*/deep/?.png", ["in/deep/c.png"], "."),
    ],
)
def test_patterns(desk: Path, pattern: str, expected: list[str], root: str) -> None:
    touch(desk, "in/a.png", "in/b.png", "in/deep/c.png", "in/.d.png")
    found = find_sources([pattern])
    assert [source.path.as_posix() for source in found.sources] == expected
    assert {source.root for source in found.sources} == {Path(root)}
    assert names_many([pattern])


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(desk: Path) -> None:
    touch(desk, "photo[1].png", "photo1.png")
    assert names_found("photo[1].png") == ["photo[1].png"] and not names_many(["photo[1].png"])


def test_results_of_earlier_runs_are_passed_over_in_folders_only(desk: Path) -> None:
    sides = ("_std.png", "_std_0.png", "_lower.png", "_upper.png", "_sample_000003.png", "_input.png", "_000007.png")
    touch(desk, "a.png", "a_denoised.png", *(f"a_denoised{side}" for side in sides), "my_denoised_picture.png")
    found = find_sources(["."], "_denoised")
    assert [source.path.name for source in found.sources] == ["a.png", "my_denoised_picture.png"]
    assert found.notes == [".: 8 files passed over, named like results of an earlier run (_denoised)"]
    assert names_found("*.png") == ["a.png", "my_denoised_picture.png"]
    assert names_found("a_denoised.png") == ["a_denoised.png"]
    assert len(names_found(".", suffix="")) == 10


def test_the_output_folder_is_no_input(desk: Path) -> None:
    touch(desk, "a.png", "out/a.png", "out/deep/b.png", "outer/c.png")
    assert names_found(".", out=Path("out")) == ["a.png", "outer/c.png"]
    assert names_found("out", out=Path("out")) == ["out/a.png", "out/deep/b.png"]


def test_what_is_not_there_is_a_problem_and_the_rest_is_found(desk: Path) -> None:
    touch(desk, "a.png", "texts/b.txt")
    found = find_sources(["gone.png", "texts", "no*.png", "a.png"])
    assert [source.path.name for source in found.sources] == ["a.png"]
    assert [problem.name for problem in found.problems] == ["gone.png", "texts", "no*.png"]


def test_the_suffixes_are_those_of_the_image_formats() -> None:
    from wavdiff.images import writable_formats

    assert tuple(writable_formats()) == WRITABLE_SUFFIXES and set(WRITABLE_SUFFIXES) < set(READABLE_SUFFIXES)


# --- where results go -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source, root, options, target",
    [
        ("in/a.png", "in", {}, "in/a_denoised.png"),
        ("in/a.JPG", "in", {"suffix": "-clean"}, "in/a-clean.JPG"),
        ("in/a.JPG", "in", {"extension": ".PNG"}, "in/a_denoised.png"),
        ("in/a.pnm", "in", {}, "in/a_denoised.png"),
        ("in/raw", "in", {"extension": "tif"}, "in/raw_denoised.tif"),
        ("in/deep/a.png", "in", {"out": "out/"}, "out/deep/a.png"),
        ("in/deep/a.png", "in", {"out": "out/", "suffix": "_2", "extension": "webp"}, "out/deep/a_2.webp"),
        ("in/a.png", "in", {"out": "here.tif"}, "here.tif"),
        ("two.dots.png", ".", {}, "two.dots_denoised.png"),
    ],
)
def test_names_of_results(desk: Path, source: str, root: str, options: dict[str, Any], target: str) -> None:
    naming = name_outputs(**{"out": None, **options}, many=False, default_suffix="_denoised")
    assert naming.target(Source(Path(source), Path(root))) == Path(target)


def test_out_is_a_folder_for_several_inputs_and_where_it_is_one(desk: Path) -> None:
    touch(desk, "file", "there/x.png")
    assert name_outputs("new", True, "_x2").folder == Path("new")
    assert name_outputs("there", False, "_x2").folder == Path("there")
    assert name_outputs("new/", False, "_x2").folder == Path("new")
    assert name_outputs("new.png", False, "_x2").file == Path("new.png")
    for out, many in (("file", True), ("new.png", True), ("new", False), ("new.xyz", False), ("", False)):
        with pytest.raises(WavdiffError, match="--out"):
            name_outputs(out, many, "_x2")


@pytest.mark.parametrize(
    "options, named",
    [
        ({"suffix": "../x"}, "--suffix"),
        ({"extension": "xyz"}, "--ext must be one of png, .*'xyz'"),
        ({"out": "a.png", "extension": "tif"}, "--ext and --out"),
        ({"out": "a.png", "suffix": "_x"}, "--suffix"),
    ],
)
def test_options_that_contradict_each_other(desk: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(WavdiffError, match=named):
        name_outputs(**{"out": None, **options}, many=False, default_suffix="_x2")


def plan(naming: OutputNaming, *inputs: str, sides: Sequence[str] = ()) -> list[Job]:
    def outputs(target: Path) -> list[Path]:
        return [target, *(target.with_name(f"{target.stem}{side}{target.suffix}") for side in sides)]

    jobs, problems = plan_jobs(find_sources(inputs).sources, naming, outputs)
    assert not problems
    return jobs


def test_two_inputs_with_one_output_are_refused_and_both_are_named(desk: Path) -> None:
    touch(desk, "x/a.png", "y/a.png", "a.png", "a.jpg", "b.png", "b_std.png")
    with pytest.raises(WavdiffError, match="x/a.png and y/a.png .* out/a.png"):
        check_jobs(plan(OutputNaming("_d", folder=Path("out")), "x/a.png", "y/a.png"))
    with pytest.raises(WavdiffError, match="a.jpg and a.png .* a_d.png"):
        check_jobs(plan(OutputNaming("_d", extension=".png"), "a.png", "a.jpg"))
    with pytest.raises(WavdiffError, match="b.png and b_std.png"):  # a side result of one is the result of the other
        check_jobs(plan(OutputNaming("_d", folder=Path("out")), "b.png", "b_std.png", sides=["_std"]))


def test_no_output_is_an_input_under_any_name(desk: Path) -> None:
    touch(desk, "a.png", "b.png", "sub/c.png")
    (desk / "soft.png").symlink_to("b.png")
    (desk / "hard.png").hardlink_to("b.png")
    (desk / "door").symlink_to(desk)
    for out in ("a.png", "./sub/../a.png", "door/a.png", "soft.png", "hard.png", "b.png"):
        with pytest.raises(WavdiffError, match="is an input file"):
            check_jobs(plan(OutputNaming("_d", file=Path(out)), "a.png", "b.png")[:2], overwrite=True)
    with pytest.raises(WavdiffError, match="is an input file"):
        check_jobs(plan(OutputNaming("_d", folder=Path("sub")), "sub"), overwrite=True)


def test_what_stands_in_the_way_concerns_one_file(desk: Path) -> None:
    touch(desk, "a.png", "b.png", "c.png", "d.png", "out/a.png", "file")
    (desk / "out" / "b.png").symlink_to("nowhere")
    (desk / "out" / "c.png").mkdir()
    jobs = plan(OutputNaming("_d", folder=Path("out")), "a.png", "b.png", "c.png", "d.png")
    ready, problems = check_jobs(jobs)
    assert [job.name for job in ready] == ["d.png"] and [problem.name for problem in problems] == [
        "a.png",
        "b.png",
        "c.png",
    ]
    assert (
        "--overwrite" in problems[0].reason and "--overwrite" in problems[1].reason and "folder" in problems[2].reason
    )
    ready, problems = check_jobs(jobs, overwrite=True)
    assert [job.name for job in ready] == ["a.png", "b.png", "d.png"]
    _, (problem,) = check_jobs(plan(OutputNaming("_d", file=Path("file/deep/x.png")), "a.png"))
    assert "file is not a folder" in problem.reason


def test_planning_writes_nothing(desk: Path) -> None:
    touch(desk, "a.png")
    check_jobs(plan(OutputNaming("_d", folder=Path("new/deep")), "a.png"))
    assert list(contents(desk)) == ["a.png"] and not (desk / "new").exists()


# --- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, amount",
    [
        ("500MB", 500_000_000),
        ("1GB", 10**9),
        ("2GiB", 2 << 30),
        ("1.5 gb", 1_500_000_000),
        ("512mib", 512 << 20),
        ("300000000", 300_000_000),
        ("256M", 256_000_000),
    ],
)
def test_amounts_of_memory(text: str, amount: int) -> None:
    assert memory_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "lots", "-1GB", "1XB", "255MB", "1", "1e9", "nan", "iB", "300iB"])
def test_no_amounts_of_memory(text: str) -> None:
    with pytest.raises(WavdiffError, match="--memory"):
        memory_bytes(text)


# --- the commands, with a stand-in for what is done to a picture ----------------------------------------------------


class Restorer:
    """Stands in for `wavdiff.restoration`: a result is its input, in brackets. Inputs that begin with "bad" fail."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.formats: list[str | None] = []
        self.precisions: list[str | None] = []
        self.interrupt_at: str | None = None

    def planned_outputs(self, target: Path, request: Any) -> list[Path]:
        return [target, *([target.with_name(f"{target.stem}_std{target.suffix}")] if request.samples else [])]

    def restore_file(
        self, cascade: object, source: Any, target: Any, request: Any, *, format: Any, overwrite: bool, progress: Any
    ) -> Any:
        self.requests.append(request)
        self.formats.append(format)
        self.precisions.append(os.environ.get("WAVDIFF_PRECISION"))
        text = source.read_bytes() if isinstance(source, Path) else source.read()
        progress(1, 2)
        if isinstance(source, Path) and source.name == self.interrupt_at:
            raise KeyboardInterrupt
        if not isinstance(target, Path):
            target.write(b"half")
        if text.startswith(b"bad"):
            raise WavdiffError(f"{source if isinstance(source, Path) else 'stdin'}: damaged image")
        if text.startswith(b"bug"):
            raise TypeError("no")
        progress(2, 2)
        if not isinstance(target, Path):
            target.seek(0)
            target.write(b"(" + text + b")")
            return SimpleNamespace(written=[], messages=["noise 0.1"])
        outputs = self.planned_outputs(target, request)
        for path in outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"(" + text + b")")
        return SimpleNamespace(written=outputs, messages=["noise 0.1"])


@dataclass(frozen=True)
class FakeRequest:
    """As `RestorationRequest`, without its checks and without torch."""

    verb: str
    sigma: float | None = None
    noise: str = "auto"
    gain: float | None = None
    read_noise: float = 0.0
    white: float | None = None
    declip: bool = True
    impulses: bool | None = None
    factor: float = 2
    size: tuple[int, int] | None = None
    longest: int | None = None
    mode: str = "mean"
    quality: str = "fast"
    samples: int = 0
    interval: float | None = None
    seed: int = 0
    solver: str | None = None
    steps: int | None = None
    memory_bytes: int = 1 << 30
    add_noise: bool = False
    colour: str = "channels"
    pages: tuple[int, ...] | None = None
    denoise: bool = False
    strength: float = 1.0


class FakeCascade:
    def scales_of(self, factor: int) -> int:
        return 1

    def schedule(self, name: str, **changes: object) -> None: ...


@pytest.fixture
def restorer(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Restorer:
    stand_in = Restorer()
    restoration = SimpleNamespace(
        RestorationRequest=FakeRequest,
        restore_file=stand_in.restore_file,
        planned_outputs=stand_in.planned_outputs,
    )
    folders = SimpleNamespace(DEFAULT_RESTORATION_MODEL="photos")
    saved = SimpleNamespace(load_cascade=lambda model, device: FakeCascade())
    monkeypatch.setitem(sys.modules, "wavdiff.restoration", restoration)
    monkeypatch.setitem(sys.modules, "wavdiff.models.folders", folders)
    monkeypatch.setitem(sys.modules, "wavdiff.models.cascade.saved", saved)

    def size_of_result(request: FakeRequest, size: tuple[int, int]) -> tuple[int, ...]:
        return tuple(int(side * request.factor) if request.verb == "upscale" else side for side in size)

    sizes = SimpleNamespace(size_of_result=size_of_result)
    monkeypatch.setitem(sys.modules, "wavdiff.restoration.target_size", sizes)
    return stand_in


def test_one_file(cli: Cli, desk: Path, restorer: Restorer) -> None:
    touch(desk, "a.png")
    outcome = cli("denoise", "a.png", "--sigma", "25/255")
    assert (outcome.code, outcome.out, outcome.err) == (0, "a_denoised.png\n", "noise 0.1\n")
    assert contents(desk) == {"a.png": b"picture a.png", "a_denoised.png": b"(picture a.png)"}
    assert restorer.requests[0].sigma == 25 / 255 and restorer.requests[0].mode == "mean"
    outcome = cli("denoise", "a.png", "-o", "deep/b.tif")
    assert outcome.code == 0 and outcome.out == "deep/b.tif\n" and restorer.requests[1].sigma is None


def test_a_bad_file_is_one_line_and_the_rest_go_on(cli: Cli, desk: Path, restorer: Restorer) -> None:
    touch(desk, "in/a.png", "in/deep/c.jpg", "in/e.png")
    touch(desk, "in/b.png", "in/d.png", text="bad")
    before = contents(desk / "in")
    outcome = cli("upscale", "in", "missing.png", "-o", "out")
    assert outcome.code == 1
    assert outcome.out.splitlines() == ["out/a.png", "out/deep/c.jpg", "out/e.png"]
    said = outcome.err.splitlines()
    for line in ("missing.png: no such file", "in/b.png: damaged image", "in/d.png: damaged image", "3 of 6 failed"):
        assert said.count(f"wavdiff: {line}") == 1
    assert said[-1] == "wavdiff: 3 of 6 failed"
    assert contents(desk / "in") == before
    assert sorted(contents(desk / "out")) == ["a.png", "deep/c.jpg", "e.png"]


def test_the_same_command_again_does_what_is_missing(cli: Cli, desk: Path, restorer: Restorer) -> None:
    touch(desk, "in/a.png", "in/b.png", "out/a.png")
    outcome = cli("denoise", "in", "-o", "out")
    assert outcome.code == 1 and outcome.out == "out/b.png\n" and "in/a.png: out/a.png exists" in outcome.err
    assert (desk / "out" / "a.png").read_bytes() == b"picture a.png"
    outcome = cli("denoise", "in", "-o", "out", "--overwrite")
    assert outcome.code == 0 and (desk / "out" / "a.png").read_bytes() == b"(picture a.png)"


def test_a_second_run_in_place_does_not_restore_results(cli: Cli, desk: Path, restorer: Restorer) -> None:
    touch(desk, "a.png", "b.png")
    assert cli("denoise", ".", "--samples", 4).code == 0
    after = contents(desk)
    assert sorted(after) == [f"{n}{end}.png" for n in "ab" for end in ("", "_denoised", "_denoised_std")]
    outcome = cli("denoise", ".", "--samples", 4, "--overwrite")
    assert outcome.code == 0 and "4 files passed over" in outcome.err and contents(desk) == after


def test_a_bug_keeps_its_traceback_and_the_rest_go_on(cli: Cli, desk: Path, restorer: Restorer) -> None:
    touch(desk, "a.png", "c.png", text="bug")
    touch(desk, "b.png")
    outcome = cli("denoise", "a.png", "b.png", "c.png")
    assert outcome.code == 1 and outcome.out == "b_denoised.png\n"
    assert outcome.err.count("Traceback") == 1  # the second is the same
    assert "wavdiff: a.png: a bug" in outcome.err and "wavdiff: c.png: a bug" in outcome.err


@pytest.mark.parametrize(
    "error, said",
    [
        (OSError(28, "No space left on device", "/tmp/x"), "a.png: /tmp/x: No space left on device"),
        (OSError(5, "Input/output error"), "a.png: Input/output error"),
        (MemoryError(), "a.png: not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "a.png: not enough memory"),
        (WavdiffError("out.png: exists"), "a.png: out.png: exists"),
    ],
)
def test_trouble_with_the_machine_is_one_line(capsys: pytest.CaptureFixture[str], error: Exception, said: str) -> None:
    def fail(*arguments: object) -> Any:
        raise error

    with batch_report(1) as report:
        assert run_jobs([Job(Path("a.png"), Path("b.png"))], fail, report) == {"a.png"}
    printed = capsys.readouterr()
    assert printed.err.startswith(f"wavdiff: {said}") and printed.err.count("\n") == 1 and printed.out == ""


def test_doubtful_commands_compute_nothing(cli: Cli, desk: Path, restorer: Restorer) -> None:
    touch(desk, "x/a.png", "y/a.png")
    before = contents(desk)
    outcome = cli("denoise", "x/a.png", "y/a.png", "-o", "out", "--overwrite")
    assert outcome.code == 1 and outcome.err.count("\n") == 1 and "x/a.png and y/a.png" in outcome.err
    outcome = cli("denoise", "x", "-o", "x", "--overwrite")
    assert outcome.code == 1 and outcome.err.count("\n") == 1 and "input" in outcome.err
    assert contents(desk) == before and not restorer.requests and not outcome.out


def test_variants_are_files_of_their_own_seeds(cli: Cli, desk: Path, restorer: Restorer) -> None:
    touch(desk, "a.png")
    outcome = cli("upscale", "a.png", "--mode", "sample", "--n", 3, "--seed", 11)
    assert outcome.code == 0
    assert outcome.out.splitlines() == [f"a_x2_{seed:06d}.png" for seed in (11, 12, 13)]
    assert [request.seed for request in restorer.requests] == [11, 12, 13]
    outcome = cli("upscale", "a.png", "--mode", "sample", "--n", 4, "--seed", 11)
    assert outcome.code == 1 and "exists" in outcome.err and "failed" not in outcome.err


def test_a_precision_holds_for_the_command(
    cli: Cli, desk: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAVDIFF_PRECISION", "auto")
    touch(desk, "a.png")
    for verb in ("denoise", "upscale"):
        assert cli(verb, "a.png", "--precision", "float32", "-o", f"{verb}.png").code == 0
        assert cli(verb, "a.png", "-o", f"{verb}2.png").code == 0
    assert restorer.precisions == ["float32", "auto"] * 2
    monkeypatch.setenv("WAVDIFF_PRECISION", "double")
    refused = cli("denoise", "a.png")
    assert refused.code == 1 and refused.err == (
        "wavdiff: WAVDIFF_PRECISION must be one of auto, float32, bf16, got 'double'\n"
    )


def test_a_dry_run_writes_nothing(cli: Cli, desk: Path, restorer: Restorer) -> None:
    for name, mode in (("a.png", "L"), ("b.png", "RGBA")):
        Image.new(mode, (7, 5)).save(desk / name)
    touch(desk, "c.png", text="no picture")
    before = contents(desk)
    outcome = cli("upscale", "*.png", "-o", "out", "--factor", 4, "--dry-run", "--samples", 2)
    assert outcome.code == 1 and contents(desk) == before and not restorer.requests
    lines = outcome.out.splitlines()
    assert lines[0].startswith("a.png -> out/a.png") and "7x5" in lines[0] and "28x20" in lines[0]
    assert lines[1] == "a.png -> out/a_std.png" and len(lines) == 4
    assert "wavdiff: c.png: not an image" in outcome.err and outcome.err.endswith("1 of 3 failed\n")
    outcome = cli("denoise", "b.png", "-o", "b.jpg", "--dry-run")
    assert outcome.code == 1 and not outcome.out and "transparency" in outcome.err


def test_ctrl_c_ends_with_130(cli: Cli, desk: Path, restorer: Restorer) -> None:
    touch(desk, "a.png", "b.png", "c.png")
    restorer.interrupt_at = "b.png"
    outcome = cli("denoise", "a.png", "b.png", "c.png")
    assert outcome.code == 130 and outcome.out == "a_denoised.png\n"
    assert "interrupted; 1 of 3 done" in outcome.err and "Traceback" not in outcome.err
    assert sorted(contents(desk)) == ["a.png", "a_denoised.png", "b.png", "c.png"]


@pytest.mark.slow
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_clean_up(desk: Path, number: int, code: int) -> None:
    script = """
import time
from pathlib import Path
from wavdiff.batch.jobs import Job
from wavdiff.batch.report import batch_report
from wavdiff.batch.run import run_jobs

def restore(job, source, target, progress):
    temporary = Path("half")
    try:
        temporary.write_text("half")
        time.sleep(60)
    finally:
        temporary.unlink()

with batch_report(1) as report:
    try:
        run_jobs([Job(Path("a.png"), Path("b.png"))], restore, report)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
"""
    process = Fresh(script)
    while process.process.is_alive() and not (desk / "half").exists():
        time.sleep(0.05)
    process.signal(number)
    done = process.end()
    assert done.code == code, done.err
    assert not contents(desk)


# --- streams --------------------------------------------------------------------------------------------------------


def test_a_picture_through_a_pipe(desk: Path, restorer: Restorer) -> None:
    assert run_piped(b"abc", "denoise", "-", "--ext", "png") == (0, b"(abc)", "noise 0.1\n")
    assert restorer.formats == ["png"] and not contents(desk)
    assert run_piped(b"abc", "upscale", "-", "-o", "b.png") == (0, b"b.png\n", "noise 0.1\n")
    assert contents(desk) == {"b.png": b"(abc)"}
    assert run_piped(b"", "upscale", "b.png", "-o", "-") == (0, b"((abc))", "noise 0.1\n")
    variants = run_piped(b"abc", "upscale", "-", "-o", "v.png", "--mode", "sample", "--n", 2)
    assert variants[:2] == (0, b"v_000000.png\nv_000001.png\n")
    assert (desk / "v_000001.png").read_bytes() == b"(abc)"


def test_a_failure_leaves_standard_output_empty(desk: Path, restorer: Restorer) -> None:
    assert run_piped(b"bad", "denoise", "-") == (1, b"", "wavdiff: stdin: damaged image\n")


@pytest.mark.parametrize(
    "arguments, named",
    [
        ("denoise - a.png", "only input"),
        ("denoise - -o out/", "--out"),
        ("denoise - --suffix _x", "--suffix"),
        ("denoise a.png b.png -o -", "--out -"),
        ("denoise - --samples 3", "standard output"),
        ("upscale - --mode sample --n 2", "standard output"),
    ],
)
def test_what_streams_cannot_do(desk: Path, restorer: Restorer, arguments: str, named: str) -> None:
    touch(desk, "a.png", "b.png")
    code, out, err = run_piped(b"abc", *arguments.split())
    assert code == 1 and out == b"" and err.count("\n") == 1 and named in err
    assert not restorer.requests


# --- what is shown --------------------------------------------------------------------------------------------------


def test_bars_are_on_stderr_and_paths_on_stdout(
    cli: Cli, desk: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(desk, "a.png", "b.png")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich: treat stderr as a terminal
    outcome = cli("denoise", "a.png", "b.png")
    assert outcome.code == 0 and outcome.out == "a_denoised.png\nb_denoised.png\n"
    assert "files" in outcome.err and "2/2" in outcome.err


def test_without_a_terminal_there_are_plain_lines(cli: Cli, desk: Path, restorer: Restorer) -> None:
    touch(desk, "a.png", "b.png")
    outcome = cli("denoise", "a.png", "b.png")
    assert "2/2 b.png -> b_denoised.png" in outcome.err and "a.png: noise 0.1\n" in outcome.err
    assert "\x1b" not in outcome.err and "\r" not in outcome.err


def test_a_long_picture_says_how_far_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with batch_report(1) as report:
        report.begin("a.png")
        for done in range(1, 11):
            now += 7
            report.tiles(done, 10)
    assert capsys.readouterr().err == "a.png: 5 of 10 tiles\n"


def test_names_cannot_forge_lines(cli: Cli, desk: Path, restorer: Restorer) -> None:
    touch(desk, "evil\nwavdiff: all went well\x1b[2J.png", text="bad")
    touch(desk, "good.png")
    outcome = cli("denoise", ".")
    assert outcome.code == 1 and "\nwavdiff: all went well" not in outcome.err and "\x1b" not in outcome.err


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
def test_names_may_be_any_bytes(desk: Path, restorer: Restorer) -> None:
    Path(os.fsdecode(b"caf\xe9.png")).write_text("x")
    code, out, _ = run_piped(b"", "denoise", ".", "-o", "out")
    assert code == 0 and out == b"out/caf\xe9.png\n" and os.listdir(b"out") == [b"caf\xe9.png"]
