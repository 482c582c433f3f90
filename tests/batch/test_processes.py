"""Commands spread over processes: each file written once and as one process writes it, and runs that continue."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Outcome, scene
from fresh_processes import Fresh, free_port, together
from PIL import Image

from wavdiff.batch import samples as sampling_run
from wavdiff.batch.jobs import Job, leave_out_finished, share_jobs
from wavdiff.images import save_image
from wavdiff.system.errors import WavdiffError
from wavdiff.system.processes import Processes, find_processes

Cli = Callable[..., Outcome]

# Runs commands in a row, as each would be run alone, and notes for each what this process wrote, said, and returned,
# and the folder's state after it. A process named by FAIL_RANK dies in the middle of its third picture.
DRIVER = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import run_cli
from wavdiff.batch import samples as sampling_run

folder, commands = Path(sys.argv[2]), json.loads(sys.argv[3])
rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
written = []

def noting(save):
    def noted(path, *arguments):
        if os.environ.get("FAIL_RANK") == str(rank) and len(written) == 2:
            os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
        save(path, *arguments)
        written.append(path.name)
    return noted

sampling_run.save_image = noting(sampling_run.save_image)
sampling_run.save_animation = noting(sampling_run.save_animation)
log = []
for command in commands:
    written.clear()
    done = run_cli(*command)
    state = {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    log.append({"code": done.code, "out": done.out, "err": done.err, "written": list(written), "state": state})
    Path(f"{sys.argv[4]}-{rank}.json").write_text(json.dumps(log))
    print(f"DONE {rank} {done.code} {done.err}", file=sys.stderr, flush=True)
sys.exit(log[-1]["code"])
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def images(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.endswith((".png", ".webp"))}


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def driver(tmp_path: Path, folder: Path, commands: list[list[object]]) -> list[str]:
    """The driver's code and arguments."""
    texts = [[str(word) for word in command] for command in commands]
    return [DRIVER, str(Path(__file__).parents[1]), str(folder), json.dumps(texts), str(tmp_path / "log")]


def logs(tmp_path: Path) -> list[list[dict[str, Any]]]:
    return [json.loads((tmp_path / f"log-{rank}.json").read_text()) for rank in range(2)]


# --- which process this is ------------------------------------------------------------------------------------------


def test_the_launcher_says_which_process_this_is() -> None:
    assert find_processes({}) == Processes(0, 1, 0)
    torchrun = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    srun = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "2", "SLURM_NTASKS": "4"}
    assert find_processes(torchrun) == Processes(5, 8, 1) and not find_processes(torchrun).is_main
    assert find_processes(srun) == Processes(2, 4, 2) and find_processes(srun).name == "process 3 of 4"
    assert find_processes({**srun, **torchrun}) == Processes(5, 8, 1)  # srun that starts torchrun
    # The script of a batch job is no job step: it is alone, whatever the job's size.
    assert find_processes({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}) == Processes()
    for wrong in ({"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "-1", "WORLD_SIZE": "2"}, {"RANK": "", "WORLD_SIZE": ""}):
        with pytest.raises(WavdiffError, match="launcher's variables .* RANK=.*WORLD_SIZE="):
            find_processes(wrong)


def test_one_process_decides_and_gathers_alone() -> None:
    alone = Processes()
    assert alone.is_main and alone.from_main(lambda: 3) == 3 and alone.gather("x") == ["x"]


# --- jobs in shares -------------------------------------------------------------------------------------------------


def test_jobs_are_shared_by_size_each_once(tmp_path: Path) -> None:
    sizes = [5, 100, 1, 60, 50, 0, 7]
    for k, size in enumerate(sizes):
        (tmp_path / f"{k}.png").write_bytes(b"x" * size)
    jobs = [Job(tmp_path / f"{k}.png", tmp_path / "out" / f"{k}.png") for k in range(len(sizes))]
    shares = share_jobs(jobs, 2)
    assert sorted(job.name for share in shares for job in share) == [job.name for job in jobs]
    loads = [sum(job.source.stat().st_size for job in share if job.source) for share in shares]
    assert abs(loads[0] - loads[1]) <= 20
    assert all(share == sorted(share, key=jobs.index) for share in shares)
    assert share_jobs(jobs, 1) == [jobs] and share_jobs(jobs[:1], 3) == [jobs[:1], [], []]


def test_a_job_is_finished_when_all_its_outputs_are_there(tmp_path: Path) -> None:
    outputs = (tmp_path / "a.png", tmp_path / "a_std.png")
    job = Job(Path("in.png"), outputs[0], outputs)
    stream = Job(None, None)
    assert leave_out_finished([job, stream]) == [job, stream]
    outputs[0].write_text("x")
    assert leave_out_finished([job, stream]) == [job, stream]
    outputs[1].write_text("x")
    assert leave_out_finished([job, stream]) == [stream]


# --- one process that continues -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nine(cli: Cli, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine samples of one process, not to be written to."""
    out = tmp_path_factory.mktemp("nine") / "nine"
    assert cli("sample", "--model", tiny_model, "--n", 9, "--show-scales", "--out", out).code == 0
    return out


def test_the_same_command_again_draws_what_is_missing(cli: Cli, tiny_model: Path, nine: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("sample", "--model", tiny_model, "--show-scales", "--batch-size", 2, "--out", out)
    outcome = cli(*command, "--n", 4)
    assert outcome.code == 0 and outcome.out.startswith("4 images, ")
    before = times(out)
    outcome = cli(*command, "--n", 4)
    assert outcome.code == 0 and outcome.out.startswith("4 images (4 were there), ") and times(out) == before
    (out / "000001.png").unlink()
    (out / "000002.png").write_bytes((out / "000002.png").read_bytes()[:-20])
    (out / "sheet.png").unlink()
    (out / ".wavdiff-0123456789ab.tmp").write_bytes(b"half")
    outcome = cli(*command, "--n", 9)
    assert outcome.code == 0 and outcome.out.startswith("9 images (2 were there), "), outcome.err
    assert images(out) == images(nine)
    kept = {name for name, time_ns in times(out).items() if before.get(name) == time_ns}
    assert kept == {str(out / "000000.png"), str(out / "000003.png")}
    record = json.loads((out / "sample.json").read_text())
    assert record["finished"] is True and record["seeds"] == list(range(9))
    assert not list(out.glob(".*"))


def test_an_interrupted_run_keeps_its_images(
    cli: Cli, tiny_model: Path, nine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = ("sample", "--model", tiny_model, "--n", 9, "--show-scales", "--batch-size", 3, "--out", out)

    def stopped(path: Path, *arguments: Any) -> None:
        if path.name == "000005.png":
            raise KeyboardInterrupt
        save_image(path, *arguments)

    monkeypatch.setattr(sampling_run, "save_image", stopped)
    assert cli(*command).code == 130
    assert sorted(images(out)) == [f"{seed:06d}.png" for seed in range(5)]
    assert json.loads((out / "sample.json").read_text())["finished"] is False
    monkeypatch.undo()
    before = times(out)
    assert cli(*command).code == 0
    assert images(out) == images(nine)
    assert all(times(out)[name] == before[name] for name in before if not name.endswith("sample.json"))


def test_another_request_is_refused_and_says_what_differs(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    command = ("sample", "--model", tiny_model, "--out", out)
    assert cli(*command, "--n", 2, "--steps", "3,2").code == 0
    before = contents(out)
    shutil.copytree(tiny_model, other)
    config = json.loads((other / "cascade" / "config.json").read_text())
    (other / "cascade" / "config.json").write_text(json.dumps(config))  # other bytes
    for options, named in (
        (("--n", 2), "ladders.lowpass.steps 3, and now 4"),
        (("--n", 2, "--steps", "3,2", "--solver", "euler"), "ladders.lowpass.solver"),
        (("--n", 2, "--steps", "3,2", "--size", "16x24"), "size [16, 16], and now [16, 24]"),
        (("--n", 2, "--steps", "3,2", "--stop-scale", 1), "stop_scale 0, and now 1"),
        (("--n", 2, "--steps", "3,2", "--low-seed", 1), "low_seed None, and now 1"),
        (("--n", 2, "--steps", "3,2", "--seed", 1), "--seed 0, not 1"),
        (("--n", 1, "--steps", "3,2"), "--n 1 does not continue the 2 images"),
        (("--n", 2, "--steps", "3,2", "--model", other), "model.config_sha256"),
    ):
        outcome = cli(*command, *options)
        assert outcome.code == 1 and named in outcome.err and "--overwrite" in outcome.err, outcome.err
        assert outcome.err.count("\n") == 1 and contents(out) == before
    # Images that the record does not know may be of anything, also beyond its seeds.
    (out / "000003.png").write_bytes(before["000000.png"])
    outcome = cli(*command, "--n", 4, "--steps", "3,2")
    assert outcome.code == 1 and "000003.png exists" in outcome.err
    for damage in ("{", "{}", "[]"):
        (out / "sample.json").write_text(damage)
        outcome = cli(*command, "--n", 2, "--steps", "3,2")
        assert outcome.code == 1 and "sample.json exists" in outcome.err
    (out / "sample.json").unlink()
    outcome = cli(*command, "--n", 2, "--steps", "3,2")
    assert outcome.code == 1 and "exists, but no sample.json" in outcome.err
    assert cli(*command, "--n", 2, "--overwrite").code == 0
    assert json.loads((out / "sample.json").read_text())["draws"]["ladders"]["lowpass"]["steps"] == 4


def test_overwriting_leaves_nothing_that_looks_drawn(
    cli: Cli, tiny_model: Path, nine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = ("sample", "--model", tiny_model, "--n", 9, "--show-scales", "--out", out)
    assert cli(*command, "--steps", 2).code == 0

    def fail(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sampling_run, "save_image", fail)
    assert cli(*command, "--overwrite").code == 130
    monkeypatch.undo()
    assert cli(*command).code == 0 and images(out) == images(nine)


def test_a_folder_job_continues(cli: Cli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    command = ("upscale", pictures, "--samples", 2, "--steps", 1, "--model", tiny_model, "-o", tmp_path / "out")
    some = ("upscale", pictures / "00.png", *command[2:-1], f"{tmp_path / 'out'}/")
    assert cli(*some).code == 0
    before = times(tmp_path / "out")
    assert len(before) > 4
    refused = cli(*some)
    assert refused.code == 1 and "--skip-existing" in refused.err
    outcome = cli(*some, "--skip-existing")
    assert outcome.code == 0 and outcome.out == "" and "1 of 1 results are there already" in outcome.err
    assert times(tmp_path / "out") == before
    main, side = tmp_path / "out" / "00.png", tmp_path / "out" / "00_std.npy"
    expected = contents(tmp_path / "out")
    side.unlink()
    assert cli(*some, "--skip-existing", "--dry-run").out.count("\n") == len(before)
    outcome = cli(*some, "--skip-existing")
    assert outcome.code == 0 and contents(tmp_path / "out") == expected
    assert main.stat().st_mtime_ns > before[str(main)]  # a part was missing: all of it is made again
    outcome = cli(*some, "--skip-existing", "--overwrite")
    assert outcome.code == 1 and "--overwrite and --skip-existing" in outcome.err


# --- two processes --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_write_what_one_writes(
    cli: Cli, tiny_model: Path, nine: Path, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    shutil.copytree(pictures, folder / "in")
    (folder / "in" / "bad.png").write_text("no picture")
    Image.fromarray(scene(40, 50, 1)).save(folder / "in" / "large.png")
    out = folder / "out"
    sample = ["sample", "--model", tiny_model, "--batch-size", 2, "--show-scales", "--out", out]
    denoise = ["denoise", folder / "in", "--sigma", 0.1, "--model", tiny_model, "-o", folder / "clean"]
    commands = [
        [*sample, "--n", 5],
        [*sample, "--n", 5],
        [*sample, "--n", 9],
        [*sample, "--n", 9, "--seed", 3],
        denoise,
        [*denoise, "--skip-existing"],
    ]
    done = together(2, *driver(tmp_path, folder, commands))
    assert all(process.code for process in done), done  # bad.png
    zero, one = logs(tmp_path)
    assert [entry["code"] for entry in zero] == [entry["code"] for entry in one] == [0, 0, 0, 1, 1, 1], done

    first, again, longer, other, cleaned, skipped = zip(zero, one, strict=True)
    names = [f"{seed:06d}.png" for seed in range(9)]
    assert [entry["written"] for entry in first] == [
        [*names[0:5:2], "walk.png", "walk.webp", "sheet.png"],
        names[1:5:2],
    ]
    assert "process 2 of 2: 2 images drawn" in first[1]["err"] and first[1]["out"] == ""
    assert again[0]["written"] == again[1]["written"] == [] and again[0]["state"] == first[0]["state"]
    assert [entry["written"] for entry in longer] == [
        ["000005.png", "000007.png", "walk.png", "walk.webp", "sheet.png"],
        names[6::2],
    ]
    assert images(out) == images(nine)
    alone, shared = (json.loads((place / "sample.json").read_text()) for place in (nine, out))
    assert {**shared, "batch_size": 64} == alone
    assert "--seed 0, not 3" in other[0]["err"] and other[1]["err"] == ""  # said once
    assert other[0]["state"] == longer[0]["state"]

    lines = [line for entry in cleaned for line in entry["out"].splitlines()]
    assert len(lines) == len(set(lines)) == 25 and all(entry["out"].count("\n") > 5 for entry in cleaned)
    assert sum(entry["err"].count("bad.png") for entry in cleaned) == 1
    assert "wavdiff: 1 of 26 failed" in cleaned[0]["err"] and "failed" not in cleaned[1]["err"]
    assert skipped[0]["out"] == skipped[1]["out"] == "" and skipped[0]["state"] == cleaned[0]["state"]
    assert "25 of 26 results are there already" in skipped[0]["err"]
    assert cli(*denoise[:-1], folder / "alone").code == 1
    assert contents(folder / "alone") == contents(folder / "clean")


@pytest.mark.slow
def test_a_killed_process_leaves_no_other_waiting(cli: Cli, tiny_model: Path, nine: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["sample", "--model", tiny_model, "--n", 9, "--show-scales", "--batch-size", 2, "--out", out]
    step = {
        "SLURM_STEP_NUM_TASKS": 2, "ACCELERATE_USE_CPU": "true", "MASTER_PORT": free_port(), "FAIL_RANK": 1,
    }  # fmt: skip
    running = [
        Fresh(*driver(tmp_path, tmp_path, [command]), **step, SLURM_PROCID=rank, SLURM_LOCALID=rank)
        for rank in range(2)
    ]
    done = [process.end(240) for process in running]  # one that waited would be killed
    assert [process.code for process in done] == [1, -9], done
    assert "another process has ended early" in done[0].err and "Traceback" not in done[0].err
    drawn = {name: path for name, path in images(out).items() if name[0] == "0"}
    assert 2 <= len(drawn) < 9 and not (out / "sheet.png").exists()
    assert len(list(out.glob(".wavdiff-*.tmp"))) == 1  # what the killed process was writing
    before = times(out)
    assert cli(*command).code == 0
    assert images(out) == images(nine) and not list(out.glob(".*"))
    assert all(times(out)[str(out / name)] == before[str(out / name)] for name in drawn)
