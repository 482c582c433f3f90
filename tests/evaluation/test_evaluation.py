"""What `wavdiff evaluate` writes is what was measured: the same numbers, computed here in another way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wavdiff import api
from wavdiff.data import heldout_batch, open_source
from wavdiff.evaluation import EvaluationRequest, metrics, run_evaluation
from wavdiff.evaluation.report_files import write_files
from wavdiff.evaluation.tables import for_terminal
from wavdiff.evaluation.trials import trials
from wavdiff.system.errors import WavdiffError

pytest.importorskip("matplotlib")
skimage_metrics = pytest.importorskip("skimage.metrics")


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean over images, of the values limited to the file's range."""
    values = [
        skimage_metrics.peak_signal_noise_ratio(b.numpy(), a.clamp(-1, 1).numpy(), data_range=2)
        for a, b in zip(one, other, strict=True)
    ]
    return float(np.mean(values))


def test_a_report_says_what_was_measured(
    cli: Callable[..., Any], tiny_model: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    options = ("--no-bm3d", "--sigmas", "25/255,0.2", "--factors", "2,4", "--limit", 2, "--out", out)
    outcome = cli("evaluate", "--model", tiny_model, "--data", pictures, *options)
    assert outcome.code == 0, outcome.err
    results = json.loads((out / "evaluation.json").read_text())
    held = heldout_batch(open_source(str(pictures), "heldout", None, 1), size=(16, 16), limit=2)
    assert results["images"]["held-out"] == len(held) and results["images"]["size"] == [1, 16, 16]
    assert set(results["denoise"]) == {"25/255", "51/255"}

    noise = [torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(k)) for k in range(len(held))]
    noisy = held + 2 * 25 / 255 * torch.stack(noise)
    cascade = api.load(tiny_model)
    row = results["denoise"]["25/255"]
    assert row["noisy"]["psnr"] == pytest.approx(psnr(noisy, held), abs=2e-3)
    assert row[str(tiny_model)]["psnr"] == pytest.approx(
        psnr(api.denoise(noisy, 25 / 255, model=cascade), held), abs=2e-3
    )
    assert set(row) == {"noisy", str(tiny_model)}

    small = held.reshape(len(held), 1, 8, 2, 8, 2).mean(dim=(3, 5))
    row = results["upscale"]["x2"]
    large = api.upscale(small, 2, model=cascade)
    assert row[f"{tiny_model} (mean)"]["psnr"] == pytest.approx(psnr(large, held), abs=2e-3)
    drawn = api.upscale(small, 2, model=cascade, mode="sample", seed=0)
    assert row[f"{tiny_model} (sample)"]["psnr"] == pytest.approx(psnr(drawn, held), abs=2e-3)
    assert set(results["upscale"]) == {"x2", "x4"} and "bicubic" in row

    text = (out / "evaluation.md").read_text()
    assert f"{results['denoise']['51/255']['noisy']['psnr']:.2f}" in text and "25/255" in text
    assert outcome.out.strip() == for_terminal(text).strip()
    assert (out / "denoising.png").read_bytes().startswith(b"\x89PNG")


def test_the_models_own_data_are_used_by_default(tiny_run: Path, tmp_path: Path) -> None:
    text = run_evaluation(EvaluationRequest((str(tiny_run),), bm3d=False, sigmas=(0.1,), factors=()), tmp_path)
    own, named = json.loads((tmp_path / "evaluation.json").read_text()), tmp_path / "named"
    data = own["images"]["source"]
    run_evaluation(EvaluationRequest((str(tiny_run),), data=data, bm3d=False, sigmas=(0.1,), factors=()), named)
    assert json.loads((named / "evaluation.json").read_text())["denoise"] == own["denoise"]
    assert "Denoising" in text and "Enlarging" not in text and "upscale" not in own


def test_models_stand_side_by_side_on_the_same_images(tiny_run: Path, tiny_model: Path, tmp_path: Path) -> None:
    request = EvaluationRequest((str(tiny_model), str(tiny_run)), bm3d=False, sigmas=(0.1,), factors=(2,))
    run_evaluation(request, tmp_path)
    results = json.loads((tmp_path / "evaluation.json").read_text())
    row = results["denoise"]["25.5/255"]
    assert row[str(tiny_model)] == row[str(tiny_run)]  # one model under two names: the same noise, the same numbers


def test_batches_of_images_change_no_number(tiny_model: Path) -> None:
    cascades = {"m": api.load(tiny_model)}
    images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    request = EvaluationRequest(("m",), sigmas=(0.2,), factors=(2,), bm3d=False)
    for _, trial in trials(images, lambda _: noise, cascades, request):
        restore = trial.models["m"]
        together = restore(trial.given), restore(trial.given, mode="sample", seed=4)
        for size in (1, 2):
            starts = range(0, 3, size)
            parts = [trial.given[start : start + size] for start in starts]
            assert torch.equal(torch.cat([restore(part) for part in parts]), together[0])
            drawn = [restore(part, mode="sample", seed=4 + at) for at, part in zip(starts, parts, strict=True)]
            assert torch.equal(torch.cat(drawn), together[1])


class StubExtractor:
    """Features that are cheap to compute: the 4x4 block means, and their squares."""

    def __call__(self, images: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        means = torch.nn.functional.adaptive_avg_pool2d(images.mean(dim=1, keepdim=True), 4).flatten(1)
        return torch.cat([means, means.square()], dim=1).double()


def test_samples_are_measured_against_training_and_heldout_images(
    tiny_model: Path, tiny_run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With more held-out images than a tenth, so that a variance can be estimated.
    import wavdiff.data.splits

    monkeypatch.setattr(wavdiff.data.splits, "HELDOUT_FRACTION", 0.5)
    monkeypatch.setattr(metrics, "FeatureExtractor", StubExtractor)
    request = EvaluationRequest((str(tiny_model),), sigmas=(), factors=(), kid_samples=12, seed=3)
    text = run_evaluation(request, tmp_path)
    results = json.loads((tmp_path / "evaluation.json").read_text())["samples"]
    train = heldout_batch(open_source(str(pictures), "train", None, 1), size=(16, 16))
    held = heldout_batch(open_source(str(pictures), "heldout", None, 1), size=(16, 16))
    assert results["training images"] == len(train) and results["held-out images"] == len(held)
    images, stub = api.sample(api.load(tiny_model), 12, 3), StubExtractor()

    def kid(a: torch.Tensor, b: torch.Tensor) -> float:
        """Binkowski et al. 2018, the unbiased estimate, written out."""
        kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3  # noqa: E731
        within = sum(float((k.sum() - k.trace()) / (len(k) * (len(k) - 1))) for k in (kernel(a, a), kernel(b, b)))
        return within - 2 * float(kernel(a, b).mean())

    row = results[str(tiny_model)]
    assert results["held-out against training"]["kid"] == pytest.approx(kid(stub(train), stub(held)), abs=2e-5)
    assert row["against training"]["kid"] == pytest.approx(kid(stub(images), stub(train)), abs=2e-5)
    assert row["against held-out"]["kid"] == pytest.approx(kid(stub(images), stub(held)), abs=2e-5)
    distances = row["distance to the nearest training image"]
    both = torch.cat([train, train.flip(-1)])
    rms = (images[:, None] - both[None]).square().mean(dim=(2, 3, 4)).sqrt().amin(dim=1)
    assert distances["samples"]["minimum"] == pytest.approx(float(rms.min()), abs=2e-4)
    assert distances["samples"]["median"] == pytest.approx(float(rms.quantile(0.5)), abs=2e-4)
    assert set(distances) == {"samples", "held-out images"}
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"evaluation.json", "evaluation.md", "neighbours-model.png", "samples-model.png"}
    assert "KID" not in text or "FID" not in text


def test_tables_stand_in_columns_in_a_terminal() -> None:
    table = "| | 25/255 | long one |\n|---|---|---|\n| méthode | 1.00 | – |\n| b | 12.00 | 3 |\n"
    shown = for_terminal("# Title\n\nSome *text*, [a page](page.html), [x.html](x.html).\n\n" + table).splitlines()
    assert shown[:4] == ["Title", "", "Some *text*, a page: page.html, x.html.", ""]
    assert shown[4:] == [
        "         25/255  long one",
        "─────────────────────────",
        "méthode    1.00         –",
        "b         12.00         3",
    ]


def test_how_far_an_evaluation_is(tiny_run: Path, tmp_path: Path) -> None:
    moved: list[tuple[str, int, int]] = []

    def advance(unit: str, done: int, total: int, line: str) -> None:
        moved.append((unit, done, total))

    asked = EvaluationRequest(models=(str(tiny_run),), sigmas=(0.1, 0.2), factors=(2,), limit=2, bm3d=False)
    run_evaluation(asked, tmp_path, advance=advance)
    assert moved == [("trials", done, 3) for done in range(4)]


def test_files_of_a_report_are_whole_or_stay_as_they_were(tmp_path: Path) -> None:
    out = tmp_path / "deeper" / "report"
    said: list[str] = []
    write_files(out, {"a.md": "– old\n", "b.png": b"old", "crops/c.png": b"c"}, said.append)
    assert said == [str(out / name) for name in ("a.md", "b.png", "crops/c.png")]
    assert (out / "a.md").read_text(encoding="utf-8") == "– old\n" and (out / "crops" / "c.png").read_bytes() == b"c"
    with pytest.raises(TypeError):
        write_files(out, {"a.md": "new", "b.png": [b"not bytes"]})  # type: ignore[dict-item]
    assert (out / "a.md").read_text() == "new" and (out / "b.png").read_bytes() == b"old"
    assert {path.name for path in out.iterdir()} == {"a.md", "b.png", "crops"}
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(WavdiffError, match="cannot be written"):
        write_files(tmp_path / "file", {"a.md": "new"})


def test_wrong_requests_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    for change, said in (
        ({"sigmas": (25.0,)}, "25/255"),
        ({"sigmas": (0.0,)}, "--sigmas"),
        ({"limit": 0}, "--limit"),
        ({"kid_samples": -1}, "--kid"),
        ({"kid_samples": 3}, "--kid"),
    ):
        with pytest.raises(WavdiffError, match=said):
            EvaluationRequest((str(tiny_model),), **change)
    request = EvaluationRequest((str(tiny_model),), kid_samples=8)  # the folder holds out fewer than four images
    with pytest.raises(WavdiffError, match="--kid needs at least 4"):
        run_evaluation(request, tmp_path / "out")
    request = EvaluationRequest((str(tiny_model),), sigmas=(), factors=(3,))
    with pytest.raises(WavdiffError, match="3 does not divide"):
        run_evaluation(request, tmp_path / "out")
