"""The authors' release as models: equal to the authors' own results, and nothing else is taken for it."""

import functools
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from blind_models import PUBLISHED, needs_release, randomise
from conftest import Outcome
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import avg_pool2d

from wavdiff import api
from wavdiff.models.cascade.denoising import Coarse
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.networks import BiasFreeNetwork
from wavdiff.models.cascade.published import release as published
from wavdiff.models.cascade.published.importing import import_release, load_release
from wavdiff.models.cascade.published.release import find_release, read_network
from wavdiff.models.folders import weights_digest
from wavdiff.system.errors import WavdiffError

Cli = Callable[..., Outcome]
MULTI, FLAT = "multi_scale/celebA_160x160_gray", "flat/celebA_160x160_gray"


# --- a release made here, of narrow networks --------------------------------------------------------------------------


def released_state(inputs: int, outputs: int, depth: int, receptive_field: int, seed: int = 0) -> dict[str, Tensor]:
    """A state dict with the release's names and shapes."""
    network = BiasFreeNetwork(inputs, outputs, width=4, depth=depth, receptive_field=receptive_field)
    randomise(network, seed)
    state = {}
    for name, tensor in network.state_dict().items():
        part, layer, kind = name.split(".")
        if part == "convolutions":
            state[f"module.conv_layers.{layer}.weight"] = tensor
        else:
            theirs = {"gamma": "gammas", "running_sd": "running_sd"}[kind]
            state[f"module.BN_layers.{layer}.{theirs}"] = tensor.reshape(1, -1, 1, 1)
    return state


def write_network(folder: Path, state: object) -> Path:
    folder.mkdir(parents=True)
    torch.save(state, folder / "model.pt")
    return folder / "model.pt"


def write_set(home: Path, scales: int = 2, fields: tuple[int, ...] = (13,)) -> Path:
    write_network(home / "noise_range_0to255_RF_40x40_low", released_state(1, 1, 20, 41))
    for scale in range(scales):
        for field in fields:
            name = f"noise_range_0to255_RF_{field}x{field}_scale_{scale}"
            write_network(home / name, released_state(4, 3, 21, field, seed=1 + scale))
    return home


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_set(tmp_path / "multi_scale" / "celebA_160x160_gray")


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(WavdiffError) as error:
        call()
    text = str(error.value)
    assert "\n" not in text and len(text) < 700, text
    return text


# --- what there is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [5, 9, 13, 23, 43])
def test_every_receptive_field_is_read(tmp_path: Path, field: int) -> None:
    home = write_set(tmp_path / "celebA_160x160_gray", fields=(field,))
    cascade = import_release(home, tmp_path / "out")
    assert [cascade.denoiser(name).network.receptive_field for name in cascade.scale_names] == [41, field, field]
    state = torch.load(home / f"noise_range_0to255_RF_{field}x{field}_scale_1" / "model.pt", weights_only=True)
    network = api.load(tmp_path / "out").details[1].network
    assert torch.equal(network.convolutions[20].weight, state["module.conv_layers.20.weight"])
    assert torch.equal(network.scales[18].gamma, state["module.BN_layers.18.gammas"].flatten())
    assert torch.equal(network.scales[18].running_sd, state["module.BN_layers.18.running_sd"].flatten())


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_scales_are_counted_from_the_finest(tmp_path: Path, scales: int) -> None:
    home = write_set(tmp_path / "celebA_320x320_gray", scales)
    found = find_release(home)
    assert (found.name, found.image_size, found.receptive_field) == ("celebA_320x320_gray", (320, 320), 13)
    assert [path.name[-1] for path in found.details] == [str(k) for k in range(scales)]
    assert found.lowpass.name.endswith("_low")
    cascade = load_release(found)
    assert cascade.levels == scales and cascade.image_size == (320, 320) and not cascade.training
    assert cascade.lowpass_range == (0.0, 0.8)


def test_the_receptive_field_is_chosen(tmp_path: Path) -> None:
    home = write_set(tmp_path / "celebA_160x160_gray", fields=(5, 9))
    write_network(home / "noise_range_0to255_RF_13x13_scale_0", released_state(4, 3, 21, 13))  # not for scale 1
    assert find_release(home).receptive_field == 9 and find_release(home, 5).receptive_field == 5
    message = refusal(lambda: find_release(home, 13))
    assert "--receptive-field" in message and "(5, 9)" in message and "13" in message


def test_flat_networks_are_found_in_their_set_and_by_themselves(tmp_path: Path) -> None:
    home = tmp_path / "flat" / "celebA_40x60_gray"
    for field in (5, 9):
        name = f"noise_range_0to255_RF_{field}x{field}"
        write_network(home / name, released_state(1, 1, 21, field))
    assert find_release(home).receptive_field == 9
    one = find_release(home / "noise_range_0to255_RF_5x5")
    assert (one.receptive_field, one.details, one.image_size, one.name) == (5, (), (40, 60), "celebA_40x60_gray")
    cascade = load_release(one)
    assert cascade.levels == 0 and cascade.lowpass_range == (0, 0.8) and cascade.lowpass.network.receptive_field == 5
    assert "9" in refusal(lambda: find_release(home / "noise_range_0to255_RF_5x5", 9))


def test_folders_that_are_not_one_set_are_named(tmp_path: Path, release: Path) -> None:
    assert "no such folder" in refusal(lambda: find_release(tmp_path / "nothing"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "noise_range" in refusal(lambda: find_release(empty))
    write_network(tmp_path / FLAT / "noise_range_0to255_RF_5x5", released_state(1, 1, 21, 5))
    for folder in (tmp_path, tmp_path / "multi_scale"):
        assert str(release) in refusal(lambda folder=folder: find_release(folder))
    assert "folder above" in refusal(lambda: find_release(release / "noise_range_0to255_RF_40x40_low"))
    (tmp_path / "faces").mkdir()
    nameless = release.rename(tmp_path / "faces" / "some")
    assert "size of the images" in refusal(lambda: find_release(nameless))


def test_a_missing_network_is_named(release: Path) -> None:
    (release / "noise_range_0to255_RF_13x13_scale_0" / "model.pt").unlink()
    assert "scales 0, 1" in refusal(lambda: find_release(release)) and "[1]" in refusal(lambda: find_release(release))
    (release / "noise_range_0to255_RF_40x40_low" / "model.pt").unlink()
    assert "low-pass" in refusal(lambda: find_release(release))


def test_images_that_do_not_halve_are_refused(tmp_path: Path) -> None:
    home = write_set(tmp_path / "celebA_162x160_gray")
    assert "multiples" in refusal(lambda: load_release(find_release(home)))


# --- files that are not as released -----------------------------------------------------------------------------------


def without(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != name}


def changed(state: dict[str, Tensor], name: str, value: object) -> dict[str, object]:
    return {**state, name: value}


SCALE = "module.BN_layers.3.running_sd"
LAYER = "module.conv_layers.2.weight"
WRONG: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "missing weight": (lambda s: without(s, LAYER), "conv_layers.2.weight must be there"),
    "missing last weight": (lambda s: without(s, "module.conv_layers.20.weight"), "receptive field"),
    "missing factor": (lambda s: without(s, "module.BN_layers.3.gammas"), "BN_layers.3.gammas is missing"),
    "extra tensor": (lambda s: changed(s, "module.BN_layers.19.gammas", torch.ones(4)), "unknown entry"),
    "bias": (lambda s: changed(s, "module.conv_layers.0.bias", torch.ones(4)), "conv_layers.0.bias"),
    "two names of one": (lambda s: changed(s, LAYER.removeprefix("module."), s[LAYER][:2]), "conv_layers.2.weight"),
    "shape": (lambda s: changed(s, LAYER, torch.ones(4, 5, 1, 1)), "must be of shape"),
    "kernel": (lambda s: changed(s, LAYER, torch.ones(4, 4, 5, 5)), "1x1 or 3x3"),
    "flat weight": (lambda s: changed(s, LAYER, torch.ones(4, 4)), "1x1 or 3x3"),
    "moved layer": (
        lambda s: {**s, "module.conv_layers.4.weight": torch.ones(4, 4, 1, 1), LAYER: torch.ones(4, 4, 3, 3)},
        "not where those of the release are",
    ),
    "nan": (lambda s: changed(s, LAYER, s[LAYER] * float("nan")), "not finite"),
    "infinite": (lambda s: changed(s, SCALE, s[SCALE] + float("inf")), "not finite"),
    "zero deviation": (lambda s: changed(s, SCALE, s[SCALE] * 0), "must be positive"),
    "negative deviation": (lambda s: changed(s, SCALE, -s[SCALE]), "must be positive"),
    "integers": (lambda s: changed(s, LAYER, s[LAYER].int()), "floating-point"),
    "float8": (lambda s: changed(s, LAYER, s[LAYER].to(torch.float8_e4m3fn)), "floating-point"),
    "sparse": (lambda s: changed(s, LAYER, s[LAYER].to_sparse()), "floating-point"),
    "no tensor": (lambda s: changed(s, LAYER, 3), "unknown entry"),
    "no text": (lambda s: {**s, 7: torch.ones(1)}, "unknown entry 7"),
    "no state": (lambda s: [s], "state dict"),
    "empty": (lambda s: {}, "conv_layers.0.weight"),
    "one layer": (lambda s: {"module.conv_layers.0.weight": torch.ones(3, 4, 3, 3)}, "and more are needed"),
    # A few bytes that stand for terabytes: stored once, seen many times.
    "expanded": (lambda s: changed(s, LAYER, torch.ones(1).expand(10**6, 10**6)), "too large"),
    # Layers that would have to be made before their shapes could be compared.
    "wide": (lambda s: changed(s, "module.conv_layers.0.weight", torch.ones(10**6, 1, 3, 3)), "must be of shape"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_as_released_is_refused(tmp_path: Path, case: str) -> None:
    change, reason = WRONG[case]
    file = write_network(tmp_path / "net", change(released_state(4, 3, 21, 13)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = refusal(lambda: read_network(file, 4, 3, 13))
    assert reason in message and message.startswith(str(file)), message


def test_a_network_of_another_place_is_refused(tmp_path: Path) -> None:
    file = write_network(tmp_path / "net", released_state(4, 3, 21, 13))
    assert "13x13, not 9" in refusal(lambda: read_network(file, 4, 3, 9))
    assert "conv_layers.0.weight must be of shape (4, 1, 3, 3), got (4, 4, 3, 3)" in refusal(
        lambda: read_network(file, 1, 1)
    )
    assert read_network(file, 4, 3).receptive_field == 13


class Bomb:
    """What runs code when a pickle of it is loaded."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.witness,))


@pytest.mark.parametrize("how", ["zip", "legacy", "plain pickle"])
def test_a_file_that_would_run_code_runs_nothing(tmp_path: Path, release: Path, cli: Cli, how: str) -> None:
    witness = tmp_path / "witness"
    state = {**released_state(4, 3, 21, 13), "module.conv_layers.0.weight": Bomb(witness)}
    file = release / "noise_range_0to255_RF_13x13_scale_0" / "model.pt"
    if how == "plain pickle":
        file.write_bytes(pickle.dumps(state))
    else:
        torch.save(state, file, _use_new_zipfile_serialization=how == "zip")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it would be a second line
        outcome = cli("import-published", release, "--out", tmp_path / "out")
    assert outcome.code == 1 and outcome.err.count("\n") == 1 and str(file) in outcome.err
    assert "Traceback" not in outcome.err and not witness.exists() and not (tmp_path / "out").exists()
    if how != "plain pickle":  # the trap is one: loaded without care it snaps
        torch.load(file, weights_only=False)
        assert witness.exists()


def test_damaged_files_are_one_line(tmp_path: Path, release: Path, cli: Cli) -> None:
    file = release / "noise_range_0to255_RF_13x13_scale_1" / "model.pt"
    whole = file.read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:100], b"no zip at all", whole[:-200], bytes(1000)):
        file.write_bytes(content)
        outcome = cli("import-published", release, "--out", tmp_path / "out")
        assert outcome.code == 1 and outcome.err.count("\n") == 1 and str(file) in outcome.err, outcome.err
        assert outcome.out == "" and not (tmp_path / "out").exists()


def test_files_that_are_too_large_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_network(tmp_path / "net", released_state(4, 3, 21, 13))
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
        target.writestr("archive/data/99", bytes(10**8))  # a thousand times as large as its place in the file
    assert packed.stat().st_size < 10**6
    assert "unpacked" in refusal(lambda: read_network(packed, 4, 3))
    with file.open("r+b") as end:
        end.truncate(published.LARGEST_FILE + 1)  # a hole: takes no place on the disk
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("was read"))
    assert str(published.LARGEST_FILE) in refusal(lambda: read_network(file, 4, 3))


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_took(cli: Cli, release: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    outcome = cli("import-published", release, "--out", out)
    assert outcome.code == 0 and outcome.err == "", outcome.err
    lines = outcome.out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["scale low", "scale 1", "scale 0", "Model"]
    assert "41x41" in lines[0] and "13x13" in lines[2] and lines[-1] == f"Model: {out}"
    card = (out / "README.md").read_text()
    for part in ("LabForComputationalVision", "MIT", "Copyright (c) 2023 LCV", "2303.02984", "Kadkhodaie", "CelebA"):
        assert part in card, part
    assert weights_digest(api.load(out)) in card and "noise_range_0to255_RF_13x13_scale_1" in card
    suffixes = sorted(path.suffix for path in out.rglob("*") if path.is_file())
    assert suffixes == [".json"] * 4 + [".md", ".py", ".py", ".safetensors"]


def test_a_folder_in_the_way_stays(cli: Cli, release: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    assert cli("import-published", release, "--out", out).code == 0
    before = (out / "cascade" / "config.json").stat().st_mtime_ns
    refused = cli("import-published", release, "--out", out)
    assert refused.code == 1 and "--overwrite" in refused.err and refused.err.count("\n") == 1
    assert (out / "cascade" / "config.json").stat().st_mtime_ns == before
    assert cli("import-published", release, "--out", out, "--overwrite").code == 0
    other = tmp_path / "photographs"
    other.mkdir()
    (other / "a.txt").write_text("mine")
    refused = cli("import-published", release, "--out", other, "--overwrite")
    assert refused.code == 1 and "not a model" in refused.err and (other / "a.txt").read_text() == "mine"
    files = sorted(release.rglob("*"))
    for inside in (release, release.parent):
        assert cli("import-published", release, "--out", inside, "--overwrite").code == 1
    assert sorted(release.rglob("*")) == files


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    home = write_set(folder / "celebA_16x16_gray")
    import_release(home, folder / "model")
    return folder / "model"


@pytest.mark.parametrize("size", [(37, 53), (16, 16), (1, 2)])
def test_the_verbs_take_an_imported_model_and_any_picture(imported: Path, size: tuple[int, int]) -> None:
    cascade = api.load(imported)
    gray = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
    colour = np.random.default_rng(1).random((*size, 3)).astype(np.float32)
    assert api.denoise(gray, 0.1, model=cascade).shape == size
    clean = api.denoise(colour, 0.1, model=cascade)
    for channel in range(3):  # the channels apart
        alone = api.denoise(np.ascontiguousarray(colour[..., channel]), 0.1, model=cascade)
        assert np.allclose(clean[..., channel], alone, atol=1e-5)
    tensor = 2 * torch.rand(1, *size, generator=torch.Generator().manual_seed(2)) - 1
    large = api.upscale(tensor, 4, model=cascade)
    assert float((avg_pool2d(large, 4) - tensor).abs().max()) < 1e-5 * max(1.0, float(large.abs().max()))
    assert api.denoise(gray, 0.1, model=cascade, mode="sample", steps=2).shape == size
    assert api.upscale(gray, 2, model=cascade, mode="sample", steps=2).shape == (2 * size[0], 2 * size[1])


def test_a_damaged_deviation_is_refused_when_the_model_is_loaded(imported: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(imported, copied)
    file = copied / "cascade" / "diffusion_pytorch_model.safetensors"
    name = "details.0.network.scales.2.running_sd"
    weights = load_file(file)
    for value, reason in ((0.0, "positive"), (-1.0, "positive"), (float("nan"), "finite"), (float("inf"), "finite")):
        save_file({**weights, name: torch.full_like(weights[name], value)}, file, metadata={"format": "pt"})
        assert reason in refusal(lambda: api.load(copied))


# --- the authors' own results -----------------------------------------------------------------------------------------


@functools.cache
def reference() -> dict[str, Tensor]:
    return load_file(PUBLISHED / "reference.safetensors")


@functools.cache
def cascade(name: str = MULTI, receptive_field: int | None = None) -> WaveletCascade:
    return load_release(find_release(PUBLISHED / name, receptive_field))


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 1e-4


def in_library_units(pixels: Tensor) -> Tensor:
    return 2 * pixels - 1


def in_pixels(image: Tensor) -> Tensor:
    return (image + 1) / 2


@needs_release
@pytest.mark.parametrize("field", [13, 43])
def test_flat_networks_equal_the_authors(field: int) -> None:
    model, pixels = cascade(FLAT, field), reference()["noisy"]
    noisy = in_library_units(pixels)
    with torch.no_grad():
        residual = (noisy - model.lowpass.denoise(noisy, torch.ones(1)).mean) / 2
    assert_close(residual, reference()[f"flat_rf{field}_residual"])
    inside = slice(field // 2, -(field // 2))  # beyond it the authors' networks see zeros, ours a mirror image
    ours = in_pixels(api.denoise(noisy, 30 / 255, model=model))
    theirs = pixels - reference()[f"flat_rf{field}_residual"]
    assert_close(ours[..., inside, inside], theirs[..., inside, inside])


@needs_release
def test_networks_of_a_cascade_equal_the_authors() -> None:
    model = cascade()
    noisy = in_library_units(reference()["low_input"])
    with torch.no_grad():
        assert_close((noisy - model.lowpass.denoise(noisy, torch.ones(1)).mean) / 2, reference()["low_residual"])
        details = 2 * reference()["scale0_details"]
        coarse = Coarse(in_library_units(reference()["scale0_coarse"]))
        clean = model.details[0].denoise(details, torch.ones(1), coarse).mean
        assert_close((details - clean) / 2, reference()["scale0_residual"])


@needs_release
def test_the_walk_equals_the_authors() -> None:
    noisy = in_library_units(reference()["noisy"])
    walk = cascade().denoise_walk(noisy, torch.tensor([60 / 255]))
    for image in walk:
        assert_close(in_pixels(image), reference()[f"cascade_rf13_denoised_{image.shape[-1]}"])
    # As users call it: a picture of the size of its training images goes through in one piece, as theirs.
    assert_close(in_pixels(api.denoise(noisy, 30 / 255, model=cascade())), reference()["cascade_rf13_denoised_160"])


@needs_release
@pytest.mark.parametrize(
    ("name", "field", "levels"),
    [(MULTI, 9, 2), (MULTI, 13, 2), ("multi_scale/celebA_320x320_gray", 13, 3), (FLAT, 13, 0), (FLAT, 43, 0)],
)
def test_all_of_the_release_is_read_and_denoises(name: str, field: int, levels: int) -> None:
    model = cascade(name, field)
    assert model.levels == levels
    counts = {9: 148_608, 13: 214_144}
    parameters = [sum(p.numel() for p in model.denoiser(scale).parameters()) for scale in model.scale_names]
    assert parameters == ([665_856, *[counts[field]] * levels] if levels else [{13: 211_264, 43: 702_784}[field]])
    clean, noisy = (in_library_units(reference()[key])[..., 20:121, 30:127] for key in ("clean", "noisy"))
    result = api.denoise(noisy, 30 / 255, model=model)  # an odd size, in tiles

    def psnr(image: Tensor) -> float:
        return float(10 * torch.log10(4 / (image - clean).square().mean()))

    assert psnr(result) > psnr(noisy) + 6  # no face of CelebA, from which the networks learned


@needs_release
def test_written_and_loaded_it_is_the_same(tmp_path: Path, cli: Cli) -> None:
    outcome = cli("import-published", PUBLISHED / MULTI, "--receptive-field", 9, "--out", tmp_path / "model")
    assert outcome.code == 0, outcome.err
    assert "scale low: 665,856 parameters" in outcome.out and "148,608 parameters, receptive field 9x9" in outcome.out
    loaded, direct = api.load(tmp_path / "model"), cascade(MULTI, 9)
    assert weights_digest(loaded) == weights_digest(direct)
    noisy = in_library_units(reference()["noisy"])[..., :64, :64]
    assert torch.allclose(api.denoise(noisy, 0.1, model=loaded), api.denoise(noisy, 0.1, model=direct), atol=1e-5)


@needs_release
def test_several_sets_are_told_apart(cli: Cli, tmp_path: Path) -> None:
    for folder in (PUBLISHED, PUBLISHED / "multi_scale"):
        outcome = cli("import-published", folder, "--out", tmp_path / "model")
        assert outcome.code == 1 and "celebA_160x160_gray" in outcome.err and "celebA_320x320_gray" in outcome.err
