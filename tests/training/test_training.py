"""A run is a function of its configuration, interrupted or not, and its losses are what they claim."""

import copy
import hashlib
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pywt
import torch
from conftest import TINY
from safetensors.torch import load_file, save

from wavdiff.data import Augmentation, ExampleDataset
from wavdiff.data.protocols import ArraySource
from wavdiff.models import wavelets
from wavdiff.models.cascade.denoising import Coarse
from wavdiff.models.cascade.noise import NoiseDistribution
from wavdiff.models.cascade.training.noisy_examples import NoisyExamples
from wavdiff.models.cascade.training.objective import CascadeObjective
from wavdiff.models.cascade.training.standardisation import build_cascade, measure_rms
from wavdiff.models.heldout_names import table_of
from wavdiff.system.errors import WavdiffError
from wavdiff.training.batches import TrainingExamples
from wavdiff.training.checkpoints import list_checkpoints, load_checkpoint
from wavdiff.training.config import RunConfig, from_mapping
from wavdiff.training.records import read_stats
from wavdiff.training.trainer import Trainer


def tiny(pictures: Path, *overrides: str) -> RunConfig:
    """The tiny configuration without evaluations, in float32."""
    mapping = copy.deepcopy(TINY)
    mapping["data"]["name"] = str(pictures)
    mapping["training"] |= {"evaluate_every": 0, "sample_every": 0, "precision": "float32"}
    return from_mapping(mapping, list(overrides))


CLOCK = ("elapsed_seconds", "images_per_second", "waiting_for_data")


def timeless(run: Path) -> list[dict[str, Any]]:
    """The records of stats.jsonl without what a clock says."""
    records = read_stats(run / "stats.jsonl")
    return [{key: value for key, value in record.items() if key not in CLOCK} for record in records]


def last(run: Path) -> tuple[dict, dict, dict, dict]:
    newest = load_checkpoint(list_checkpoints(run / "checkpoints")[-1])
    return newest.weights, newest.averaged, newest.moments, newest.state


def assert_same_tensors(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys() and one
    for name, value in one.items():
        same = torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        assert same, name


def load_weights(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "cascade" / "diffusion_pytorch_model.safetensors")


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, averages, moments, state, records and model of two runs are equal, to the bit."""
    first, second = last(one), last(other)
    for ours, theirs in zip(first[:3], second[:3], strict=True):
        assert_same_tensors(ours, theirs)
    clocks = ("seconds", "recent")
    assert {k: v for k, v in first[3].items() if k not in clocks} == {
        k: v for k, v in second[3].items() if k not in clocks
    }
    assert timeless(one) == timeless(other)
    assert_same_tensors(load_weights(one / "model"), load_weights(other / "model"))


def interrupted(config: RunConfig, out: Path, after: int, scales: list[str] | None = None) -> None:
    """Start a run that is killed when it reports step `after`."""

    def kill(record: dict[str, Any]) -> None:
        if record["step"] == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(config, out, scales, kill).run()


# --- resuming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, killed_at",
    [
        (("log_every=1", "checkpoint_every=4"), 5),  # just after a checkpoint: 4 + 4 steps
        (("log_every=1", "checkpoint_every=3"), 5),  # between checkpoints: steps 4 and 5 are run again
        (("log_every=2", "checkpoint_every=3"), 4),  # a record that spans the checkpoint
        (("log_every=1", "checkpoint_every=5"), 2),  # before the first checkpoint
    ],
)
def test_an_interrupted_run_continues_bit_for_bit(
    pictures: Path, tmp_path: Path, settings: tuple[str, ...], killed_at: int
) -> None:
    changes = [f"training.{name}" for name in ("steps=8", "low_repeats=2", *settings)]
    config = tiny(pictures, *changes, "model.details.dropout=0.2", "data.augmentation.shift=0.1")
    Trainer(config, tmp_path / "whole").run()
    interrupted(config, tmp_path / "parts", killed_at)
    Trainer(config, tmp_path / "parts").run()
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert last(tmp_path / "parts")[3]["step"] == 8


def test_a_finished_run_is_not_trained_again(pictures: Path, tmp_path: Path) -> None:
    config = tiny(pictures)
    Trainer(config, tmp_path).run()
    before, stats = last(tmp_path), (tmp_path / "stats.jsonl").read_bytes()
    Trainer(config, tmp_path).run()
    assert_same_tensors(before[0], last(tmp_path)[0])
    assert (tmp_path / "stats.jsonl").read_bytes() == stats


def test_only_the_newest_checkpoints_stay(pictures: Path, tmp_path: Path) -> None:
    Trainer(tiny(pictures, "training.checkpoint_every=1", "training.keep_checkpoints=2"), tmp_path).run()
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["step-00000005", "step-00000006"]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_a_run_of_another_model_is_refused(pictures: Path, tmp_path: Path) -> None:
    Trainer(tiny(pictures, "training.steps=1"), tmp_path).run()
    with pytest.raises(WavdiffError, match=r"another model\.details.*choose another folder"):
        Trainer(tiny(pictures, "model.details.width=16"), tmp_path)


def test_changed_settings_are_named_when_a_run_goes_on(pictures: Path, tmp_path: Path) -> None:
    Trainer(tiny(pictures, "training.steps=1"), tmp_path).run()
    changes = ("training.steps=2", "training.learning_rate=0.5", "training.seed=9", "noise.image_max=0.3")
    with pytest.warns(UserWarning, match="settings changed") as found:
        Trainer(tiny(pictures, *changes, "training.log_every=1", "data.workers=1"), tmp_path)
    (message,) = [str(warning.message) for warning in found]
    for name in ("training.steps was 1, is 2", "training.learning_rate was", "is 0.5", "training.seed was 0, is 9"):
        assert name in message
    assert "noise.image_max" in message
    assert "log_every" not in message
    assert "workers" not in message


def test_what_no_step_depends_on_changes_without_a_word(pictures: Path, tmp_path: Path) -> None:
    Trainer(tiny(pictures, "training.steps=1"), tmp_path).run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(tiny(pictures, "training.steps=1", "training.log_every=7", "training.export=best"), tmp_path)


@pytest.mark.parametrize("name", ["weights.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("content", [b"{}", b"\x00" * 40])
def test_a_damaged_checkpoint_is_named(pictures: Path, tmp_path: Path, name: str, content: bytes) -> None:
    config = tiny(pictures, "training.steps=1")
    Trainer(config, tmp_path).run()
    broken = list_checkpoints(tmp_path / "checkpoints")[-1] / name
    broken.write_bytes(content)
    with pytest.raises(WavdiffError, match=f"step-00000001/{name}.*damaged"):
        Trainer(config, tmp_path)


@pytest.mark.parametrize("content", ["{}", "[]", "not json", '{"model": 3}'])
def test_a_damaged_record_of_the_run_is_named(pictures: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(WavdiffError, match=r"run\.json is damaged"):
        Trainer(tiny(pictures), tmp_path)


# --- parts of a step -------------------------------------------------------------------------------------------------


def test_accumulation_changes_nothing_but_memory(pictures: Path, tmp_path: Path) -> None:
    curves = {}
    for parts in (1, 2):
        changes = ("training.log_every=1", "training.batch_size=8", f"training.accumulation={parts}")
        Trainer(tiny(pictures, *changes), tmp_path / str(parts)).run()
        curves[parts] = timeless(tmp_path / str(parts))
    for one, other in zip(curves[1], curves[2], strict=True):
        for what in ("loss", "gradient_norm"):
            assert one[what] == pytest.approx(other[what], rel=2e-3), (one["step"], what)
        assert one["learning_rate"] == other["learning_rate"]
    first, second = curves[1][0], curves[2][0]  # the first step has the same weights: equal but for rounding
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)
    assert first["gradient_norm"] == pytest.approx(second["gradient_norm"], rel=1e-3)


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Scales whose weights differ."""
    names = {name for name in before if not torch.equal(before[name], after[name])}
    return {"low" if name.startswith("lowpass") else name.split(".")[1] for name in names}


@pytest.mark.slow
def test_scales_are_trained_apart(pictures: Path, tmp_path: Path) -> None:
    config = tiny(pictures)
    fresh = {name: value.clone() for name, value in Trainer(config, tmp_path / "fresh").model.state_dict().items()}
    Trainer(config, tmp_path / "run", ["low"]).run()
    weights, averages, _, state = last(tmp_path / "run")
    assert changed(fresh, weights) == {"low"} and state["trained"] == {"low": 6}
    Trainer(config, tmp_path / "run", ["0"]).run()  # scale 1, between them, was never trained
    then, then_averages, _, state = last(tmp_path / "run")
    assert changed(weights, then) == {"0"} and changed(averages, then_averages) == {"0"}
    assert state["trained"] == {"low": 6, "0": 6} and state["step"] == 12
    records = timeless(tmp_path / "run")
    assert [set(record["loss"]) for record in records] == [{"low"}] * 3 + [{"0"}] * 3
    Trainer(config, tmp_path / "apart", ["0"]).run()  # without any coarser network
    assert changed(fresh, last(tmp_path / "apart")[0]) == {"0"}
    Trainer(config, tmp_path / "run").run()  # all: only scale 1 is missing
    final, _, _, state = last(tmp_path / "run")
    assert changed(then, final) == {"1"} and state["trained"] == {"low": 6, "0": 6, "1": 6}


def test_a_scale_has_its_own_number_of_steps(pictures: Path, tmp_path: Path) -> None:
    config = tiny(pictures, "training.scale_steps.low=5", "training.scale_steps.1=2", "training.log_every=1")
    assert Trainer(config, tmp_path).total == 6
    Trainer(config, tmp_path).run()
    records = timeless(tmp_path)
    expected = [{"low", "1", "0"}] * 2 + [{"low", "0"}] * 3 + [{"0"}]
    assert [set(record["loss"]) for record in records] == expected
    assert [set(record["learning_rate"]) for record in records] == expected
    assert last(tmp_path)[3]["trained"] == {"low": 5, "1": 2, "0": 6}


def test_unknown_scales_are_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(WavdiffError, match="--scales: '2' is not one of low, 1, 0"):
        Trainer(tiny(pictures), tmp_path, ["low", "2"])


def test_precision_may_differ_between_trainings_of_one_process(pictures: Path, tmp_path: Path) -> None:
    for precision in ("float32", "bf16", "float32"):
        trainer = Trainer(tiny(pictures, "training.steps=1", f"training.precision={precision}"), tmp_path / precision)
        assert trainer.accelerator.mixed_precision == {"float32": "no", "bf16": "bf16"}[precision]
        trainer.run()


# --- what is measured and drawn --------------------------------------------------------------------------------------


def random_source(count: int, height: int, width: int) -> ArraySource:
    generator = np.random.default_rng(0)
    smooth = generator.integers(0, 256, size=(count, height // 4, width // 4)).repeat(4, axis=1).repeat(4, axis=2)
    images = (0.7 * smooth + 0.3 * generator.integers(0, 256, size=(count, height, width))).astype(np.uint8)
    return ArraySource("random", "nobody", images)


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_scales_are_standardised_by_the_rms_of_their_coefficients(wavelet: str) -> None:
    config = from_mapping({"model": {"image_size": [32, 16], "levels": 2, "wavelet": wavelet}})
    source = random_source(7, 32, 16)
    images = np.stack([source[k] for k in range(7)]).astype(np.float64) * 2 / 255 - 1
    low, *details = pywt.wavedec2(images, wavelet, mode="periodization", level=2, axes=(-2, -1))
    rms = [float(np.sqrt(np.mean(np.square(low)))) / 4]  # W / 2 a level
    for level, bands in zip((2, 1), details, strict=True):
        rms.append(float(np.sqrt(np.mean(np.square(np.stack(bands))))) / 2**level)
    lowpass_std, detail_stds = measure_rms(source, config)
    assert [lowpass_std, *detail_stds[::-1]] == pytest.approx(rms, rel=1e-4)
    standardised = build_cascade(config, lowpass_std, detail_stds)
    assert [standardised.lowpass.std, *(d.std for d in standardised.details)] == [lowpass_std, *detail_stds]


def test_a_mirrored_example_has_the_bands_of_a_mirrored_image() -> None:
    source = random_source(1, 16, 16)
    images = ExampleDataset(source, size=(16, 16), augmentation=Augmentation(flip=True))
    examples = TrainingExamples(images, NoisyExamples(NoiseDistribution(), levels=1, low_repeats=1).draw)
    seen = {}
    for seed in range(20):
        image = examples[((0, seed, 1.0), True)]["image"]
        upright = torch.equal(image, ExampleDataset(source, size=(16, 16))[(0, seed, 0.0)])
        seen[upright] = wavelets.decompose(image[None], 1)
    assert set(seen) == {True, False}
    upright, mirrored = seen[True], seen[False]
    assert torch.allclose(mirrored.coarse, upright.coarse.flip(-1), atol=1e-6)
    signs = []
    for band in range(3):
        one, other = upright.details[0][:, band], mirrored.details[0][:, band].flip(-1)
        sign = 1 if torch.allclose(one, other, atol=1e-6) else -1
        assert torch.allclose(one, sign * other, atol=1e-6)
        signs.append(sign)
    # The band of row differences keeps its sign; those that take differences along a row change it.
    assert signs == [1, -1, -1]


def recorded(
    config: RunConfig, batch: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, torch.Tensor]]:
    """What the objective hands to every scale's loss, by scale."""
    cascade = build_cascade(config, 0.5, [0.1] * config.model.levels)
    seen: dict[str, dict[str, torch.Tensor]] = {}
    for scale in cascade.scale_names:
        denoiser = cascade.denoiser(scale)
        original: Callable[..., Any] = denoiser.loss

        def spy(
            clean: torch.Tensor,
            noisy: torch.Tensor,
            level: torch.Tensor,
            coarse: Coarse | None = None,
            clean_coarse: torch.Tensor | None = None,
            scale: str = scale,
            original: Callable[..., Any] = original,
        ) -> Any:
            seen[scale] = {"clean": clean, "noisy": noisy, "level": level}
            if coarse is not None:
                given = {"coarse": coarse.estimate, "noisy_coarse": coarse.observed, "coarse_level": coarse.level}
                seen[scale] |= {"clean_coarse": clean_coarse, **given}
            return original(clean, noisy, level, coarse, clean_coarse)

        monkeypatch.setattr(denoiser, "loss", spy)
    with torch.no_grad():
        CascadeObjective(cascade, cascade.scale_names, set(), config.training.detail_crop)(batch)
    return seen


def make_batch(config: RunConfig, count: int, low_repeats: int = 2) -> dict[str, torch.Tensor]:
    height, width = config.model.image_size
    images = ExampleDataset(random_source(count, height, width), size=config.model.image_size)
    examples = TrainingExamples(images, NoisyExamples(NoiseDistribution(), config.model.levels, low_repeats).draw)
    items = [examples[((k, 1000 + k, 1.0), k % 2 == 0)] for k in range(count)]
    return torch.utils.data.default_collate(items)


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_noise_reaches_every_scale_white_with_the_stated_level(wavelet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TINY["model"] | {"image_size": [64, 64], "wavelet": wavelet}
    config = from_mapping({"model": model})
    seen = recorded(config, make_batch(config, 48, low_repeats=3), monkeypatch)

    def unit(scale: str) -> torch.Tensor:
        what = seen[scale]
        return (what["noisy"] - what["clean"]) / what["level"][:, None, None, None]

    assert seen["low"]["noisy"].shape[0] == 3 * 48
    drawn = {scale: unit(scale) for scale in seen}
    for scale, noise in drawn.items():
        count = noise.numel()
        tolerance = 5 / count**0.5
        assert abs(float(noise.mean())) < tolerance, scale
        assert abs(float(noise.square().mean()) - 1) < tolerance * 2**0.5, scale
        for band in range(noise.shape[1]):  # each band alone has unit variance, too
            assert abs(float(noise[:, band].square().mean()) - 1) < tolerance * (2 * noise.shape[1]) ** 0.5
        for shift in ((0, 1), (1, 0), (1, 1), (0, 2)):
            product = noise * noise.roll(shift, dims=(-2, -1))
            assert abs(float(product.mean())) < tolerance, (scale, shift)
        for band in range(1, noise.shape[1]):
            assert abs(float((noise[:, 0] * noise[:, band]).mean())) < tolerance * noise.shape[1] ** 0.5
    fine, coarse = drawn["0"][..., ::2, ::2], drawn["1"]
    assert abs(float((fine * coarse).mean())) < 5 / coarse.numel() ** 0.5
    low = drawn["low"][:48]
    assert abs(float((coarse[:, :1] * low).mean())) < 5 / low.numel() ** 0.5


def test_denoising_examples_have_one_level_for_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    config = from_mapping({"model": TINY["model"] | {"image_size": [32, 32]}})
    batch = make_batch(config, 16)
    seen = recorded(config, batch, monkeypatch)
    chosen = batch["denoising"]
    assert torch.allclose(seen["low"]["level"][:16][chosen], batch["image_level"][chosen] / 4)
    noisy = None
    for scale in (1, 0):
        what = seen[str(scale)]
        assert torch.allclose(what["level"][chosen], batch["image_level"][chosen] / 2 ** (scale + 1))
        assert torch.equal(what["coarse_level"][chosen], what["level"][chosen])
        # Synthesis: the exact coarse image, known to be exact.
        assert (what["coarse_level"][~chosen] == 0).all()
        for name in ("coarse", "noisy_coarse"):
            assert torch.equal(what[name][~chosen], what["clean_coarse"][~chosen])
        if noisy is not None:
            assert torch.allclose(what["noisy_coarse"][chosen], noisy[chosen], atol=1e-5)
        noisy = wavelets.join(what["noisy_coarse"], what["noisy"], "haar")
    whole = batch["image"] + batch["image_level"][:, None, None, None] * batch["noise"]
    assert torch.allclose(noisy[chosen], whole[chosen], atol=1e-5)


def test_cropped_coefficients_are_those_of_a_cropped_image(monkeypatch: pytest.MonkeyPatch) -> None:
    model = TINY["model"] | {"image_size": [32, 24]}
    batch = make_batch(from_mapping({"model": model}), 12)
    whole = recorded(from_mapping({"model": model}), batch, monkeypatch)
    config = from_mapping({"model": model, "training": {"detail_crop": 16}})
    seen = recorded(config, batch, monkeypatch)
    assert torch.equal(seen["low"]["noisy"], whole["low"]["noisy"])  # the low-pass network sees whole images
    places = set()
    for k in range(12):
        found = []
        for top in range(0, 32 - 16 + 1, 4):
            for left in range(0, 24 - 16 + 1, 4):
                part = batch["image"][k : k + 1, :, top : top + 16, left : left + 16]
                pyramid = wavelets.decompose(part, 2)
                if torch.allclose(pyramid.coarse[0], seen["1"]["clean_coarse"][k], atol=1e-6):
                    found.append((top, left, pyramid))
        assert len(found) == 1
        top, left, pyramid = found[0]
        places.add((top, left))
        for scale in (1, 0):
            what, cut = seen[str(scale)], 2 ** (scale + 1)
            assert torch.allclose(what["clean"][k], pyramid.details[scale][0], atol=1e-6)
            area = (slice(None), slice(top // cut, (top + 16) // cut), slice(left // cut, (left + 16) // cut))
            for name in ("noisy", "clean_coarse", "noisy_coarse"):
                assert torch.allclose(what[name][k], whole[str(scale)][name][k][area], atol=1e-6), name
    assert len(places) > 4
    assert {top for top, _ in places} >= {0, 16} and {left for _, left in places} >= {0, 8}


def test_training_on_crops_runs(pictures: Path, tmp_path: Path) -> None:
    Trainer(tiny(pictures, "training.detail_crop=8"), tmp_path).run()
    assert last(tmp_path)[3]["trained"] == {"low": 6, "1": 6, "0": 6}


# --- learning --------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_losses_fall_on_images_that_are_easy_to_learn(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "stripes"
    folder.mkdir()
    for k in range(8):
        stripes = np.where((np.arange(16) + k) // 2 % 2, 220, 30).astype(np.uint8)
        Image.fromarray(np.broadcast_to(stripes, (16, 16)).copy()).save(folder / f"{k}.png")
    changes = [f"training.{text}" for text in ("steps=60", "learning_rate=1e-2", "batch_size=16", "log_every=15")]
    Trainer(tiny(folder, *changes, "training.checkpoint_every=60"), tmp_path / "run").run()
    records = timeless(tmp_path / "run")
    for scale in ("low", "1", "0"):
        assert records[-1]["loss"][scale] < 0.8 * records[0]["loss"][scale], scale


def test_averaged_weights_are_not_the_raw_ones_but_near(pictures: Path, tmp_path: Path) -> None:
    fresh = Trainer(tiny(pictures), tmp_path).model.state_dict()
    fresh = {name: value.clone() for name, value in fresh.items()}
    Trainer(tiny(pictures), tmp_path).run()
    weights, averages, _, _ = last(tmp_path)
    model = load_weights(tmp_path / "model")
    distances = {name: float((weights[name] - averages[name]).norm()) for name in averages}
    moved = {name: float((weights[name] - fresh[name]).norm()) for name in averages}
    assert any(value > 0 for value in distances.values())
    assert sum(distances.values()) < sum(moved.values())  # the average lags behind
    for name, value in averages.items():  # and it is what the model folder holds
        assert torch.equal(model[name], value), name


# --- what a run leaves ---------------------------------------------------------------------------------------------


def test_a_run_folder_holds_no_pickle(tiny_run: Path) -> None:
    files = [path for path in tiny_run.rglob("*") if path.is_file() and path.parent.name != "tensorboard"]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".yaml", ".md", ".png", ".jsonl", ".py"}
    for path in files:
        head = path.read_bytes()[:2]
        assert head != b"PK" and not head.startswith(b"\x80"), path  # zip (torch.save) and pickle protocol 2 and up
    assert not [path for path in tiny_run.rglob(".*") if path.is_file()]
    assert (tiny_run / "samples" / "step-00000006.png").is_file()


def test_the_card_describes_the_model(tiny_run: Path) -> None:
    card = (tiny_run / "model" / "README.md").read_text()
    assert "pictures" in card and re.search(r"\d+ images to train on, \d+ held out", card)
    train, held = map(int, re.search(r"(\d+) images to train on, (\d+) held out", card).groups())
    assert train + held == 24 and held >= 1
    weights = load_weights(tiny_run / "model")
    digest = hashlib.sha256(save({name: weights[name].contiguous() for name in sorted(weights)})).hexdigest()
    assert digest in card
    assert f"{sum(value.numel() for value in weights.values()):,}" in card
    for text in (
        f"torch {torch.__version__}",
        "Python 3",
        "diffusers",
        "safetensors",
        "low: 6, 1: 6, 0: 6",
        "24 images",
    ):
        assert text in card, text
    configuration = re.search(r"```yaml\n(.*?)```", card, re.S)
    assert configuration is not None and configuration.group(1) == (tiny_run / "model" / "training.yaml").read_text()
    numbers = read_stats(tiny_run / "stats.jsonl")[-1]["heldout"]
    before, after, losses = (table_of(numbers, what) for what in ("psnr_in", "psnr", "loss"))
    for scale in ("low", "1", "0"):
        pairs = zip(before[scale].values(), after[scale].values(), strict=True)
        assert f"| {scale} | " + " | ".join(f"{b:.2f} → {a:.2f}" for b, a in pairs) in card
        assert f"| {scale} | " + " | ".join(f"{value:.4f}" for value in losses[scale].values()) in card


def test_stats_are_json_lines_that_say_step_loss_and_speed(tiny_run: Path) -> None:
    records = [json.loads(line) for line in (tiny_run / "stats.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [2, 4, 6, 6]
    for record in records[:3]:
        assert set(record["loss"]) == {"low", "1", "0"} and record["images_per_second"] > 0
        assert record["images"] == 4 * record["step"]
    before, after = (table_of(records[-1]["heldout"], what)["0"] for what in ("psnr_in", "psnr"))
    assert before.keys() == after.keys() and len(after) > 1
    assert np.isfinite([*before.values(), *after.values()]).all()


def test_a_dry_run_prints_the_size_and_writes_nothing(
    cli: Callable[..., Any], tiny_config: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("train", "--config", tiny_config, "--data", pictures, "--steps", 9, "--dry-run", "--out", "run")
    assert outcome.code == 0, outcome.err
    assert not list(tmp_path.iterdir())
    config = tiny(pictures)
    count = sum(p.numel() for p in build_cascade(config, 1.0, [1.0, 1.0]).parameters())
    assert f"# total: {count:,} parameters" in outcome.out
    assert "steps: 9" in outcome.out and "receptive field 7x7" in outcome.out
    assert "# images as 16x16 gray" in outcome.out and "# a step takes" in outcome.out


# --- a base model --------------------------------------------------------------------------------------------------


def test_scales_that_are_not_trained_come_from_the_base_model(pictures: Path, tmp_path: Path) -> None:
    base = Trainer(tiny(pictures), tmp_path / "base").run()
    Trainer(tiny(pictures), tmp_path / "details", ["1", "0"], base=base).run()
    taken = load_file(tmp_path / "details" / "model" / "cascade" / "diffusion_pytorch_model.safetensors")
    given = load_file(base / "cascade" / "diffusion_pytorch_model.safetensors")
    for name, value in given.items():
        assert torch.equal(taken[name], value) == name.startswith("lowpass"), name


def test_a_base_model_that_does_not_fit_is_named(pictures: Path, tmp_path: Path) -> None:
    base = Trainer(tiny(pictures, "training.steps=1"), tmp_path / "base").run()
    wider = tiny(pictures, "training.steps=1", "model.lowpass.width=16")
    with pytest.raises(WavdiffError, match="--base .* scale low does not fit"):
        Trainer(wider, tmp_path / "wider", ["0"], base=base)
    with pytest.raises(WavdiffError, match="nowhere"):
        Trainer(wider, tmp_path / "missing", ["0"], base="nowhere")
