"""Graphs of ONNX against torch, run by the example as it stands."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Outcome, run_cli, scene
from PIL import Image

import wavdiff
from wavdiff.adapters.onnx import export_onnx
from wavdiff.models.cascade.denoising import Coarse
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.saved import save_model
from wavdiff.system.errors import WavdiffError

onnxruntime = pytest.importorskip("onnxruntime")
EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_denoise.py"
pytestmark = pytest.mark.slow


def example() -> Any:
    spec = importlib.util.spec_from_file_location("onnx_denoise", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[WaveletCascade, Path]:
    """An untrained RGB cascade whose heads are not zero, its networks all local, and the folder of its graphs."""
    torch.manual_seed(0)
    network = {"kind": "local", "width": 8, "depth": 2, "receptive_field": 5}
    made = WaveletCascade((32, 32), 3, "haar", network, [network] * 2, 0.6, [0.1, 0.2], noise_min=0.01).eval()
    for name in made.scale_names:
        torch.nn.init.normal_(made.denoiser(name).network.head.weight, std=0.05)
    made.autocast = False
    folder = tmp_path_factory.mktemp("onnx") / "graphs"
    files = export_onnx(made, folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    return made, folder


@pytest.mark.parametrize("sigma", [0.002, 0.1, 0.3])
@pytest.mark.parametrize("size", [(32, 32), (45, 61)])
def test_pictures_of_any_size_are_denoised_as_torch_does(
    local: tuple[WaveletCascade, Path], size: tuple[int, int], sigma: float
) -> None:
    cascade, folder = local
    noisy = torch.from_numpy(scene(*size, 3, 3)).permute(2, 0, 1) / 127.5 - 1
    noisy = noisy + 2 * sigma * torch.randn(noisy.shape, generator=torch.Generator().manual_seed(0))
    ours = wavdiff.denoise(noisy, sigma, model=cascade, declip=False, impulses=False)
    theirs = example().OnnxCascade(folder).denoise(noisy.numpy(), sigma)
    assert np.abs(theirs - ours.numpy()).max() < 1e-4
    assert float((ours - noisy).abs().max()) > 0.1 * sigma  # the networks did something


def test_a_graph_takes_any_batch_and_an_exact_coarse_image(local: tuple[WaveletCascade, Path]) -> None:
    cascade, folder = local
    session = onnxruntime.InferenceSession(folder / "details-1.onnx", providers=["CPUExecutionProvider"])
    for batch, height, width in ((1, 1, 5), (3, 10, 7)):
        noisy, coarse = torch.randn(batch, 9, height, width), torch.randn(batch, 3, height, width)
        level, exact = torch.linspace(0.01, 1, batch), torch.zeros(batch)
        with torch.no_grad():
            answer = cascade.details[1].denoise(noisy, level, Coarse(coarse))
        given = {"noisy": noisy, "level": level, "estimate": coarse, "observed": coarse, "coarse_level": exact}
        mean, same = session.run(None, {name: value.numpy() for name, value in given.items()})
        assert np.abs(mean - answer.mean.numpy()).max() < 1e-4 and np.array_equal(same, coarse.numpy())


def test_a_cascade_that_sees_whole_images(tiny_model: Path, tmp_path: Path) -> None:
    outcome = run_cli("export", tiny_model, "--onnx", tmp_path / "graphs")
    assert outcome.code == 0 and outcome.out.splitlines()[0] == str(tmp_path / "graphs" / "low.onnx"), outcome.err
    cascade = wavdiff.load(tiny_model)
    cascade.autocast = False
    Image.fromarray(scene(16, 16, 1)).save(tmp_path / "a.png")
    command = [sys.executable, EXAMPLE, tmp_path / "graphs", tmp_path / "a.png", "--sigma", "0.1", "--out"]
    done = subprocess.run([*command, tmp_path / "b.png"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    pixels = torch.from_numpy(scene(16, 16, 1))[None] / 127.5 - 1
    ours = wavdiff.denoise(pixels, 0.1, model=cascade, declip=False, impulses=False)
    found = np.asarray(Image.open(tmp_path / "b.png")).astype(float)
    assert np.abs(found - (ours[0].numpy() + 1) * 127.5).max() < 0.51
    about = json.loads((tmp_path / "graphs" / "cascade.json").read_text())
    assert about["channels"] == 1 and list(about["scales"]) == ["low", "1", "0"] and not about["local"]


def test_refusals_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    refused: Outcome = run_cli("export", tiny_model, "--onnx", tmp_path / "full")
    assert refused.code == 1 and "exists; choose another folder" in refused.err
    network = {"kind": "local", "width": 4, "depth": 4, "receptive_field": 5}
    other = WaveletCascade((16, 16), 1, "db2", network, [network], 0.6, [0.1])
    save_model(other, tmp_path / "db2", "")
    with pytest.raises(WavdiffError, match="Haar"):
        export_onnx(other, tmp_path / "graphs")
    assert "no wavelet cascade" in run_cli("export", "fashion-vdvae", "--onnx", tmp_path / "graphs").err
    monkeypatch.setattr("torch.onnx.export", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_onnx(wavdiff.load(tiny_model), tmp_path / "graphs")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WavdiffError, match=r'pip install "wavdiff\[onnx\]"'):
        export_onnx(wavdiff.load(tiny_model), tmp_path / "graphs")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db2", "full"]
