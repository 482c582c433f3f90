"""A release of the authors as a model of this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.networks import BiasFreeNetwork
from wavdiff.models.cascade.published.release import REPOSITORY, Release, find_release, read_network
from wavdiff.models.cascade.saved import save_model
from wavdiff.models.folders import refuse_folder, weights_digest, write_model
from wavdiff.system.errors import WavdiffError

LOWPASS_STD = 0.5
DETAIL_STDS = {1: [0.05], 2: [0.05, 0.07], 3: [0.06, 0.06, 0.07]}
"""Rms of low-pass images and details, finest first, library units: what the released networks leave over at the largest
noise in the release's own test results (31.8 and 29.6 dB at 160 pixels; 30.7, 30.5 and 29.1 dB at 320), rounded. They
set the units of noise ladders and change no denoised image."""
LADDERS: dict[str, dict[str, Any]] = {
    "lowpass": {"steps": 16, "correctors": 3, "solver": "sde-dpm", "sigma_max": 4.0, "sigma_min": 0.1},
    "details": {"steps": 8, "solver": "dpm", "sigma_max": 10.0, "sigma_min": 0.1},
}
LOWPASS_RANGE = (0.0, 0.8)
"""To which the authors stretched drawn low-pass images by hand."""


def load_release(release: Release) -> WaveletCascade:
    """The cascade of a release, in evaluation mode.

    Raises:
        WavdiffError: networks that cannot be read or are not as released, or an image size that does not fit.
    """
    levels = len(release.details)
    step = 2**levels
    if levels > max(DETAIL_STDS) or any(side % step or side < step for side in release.image_size):
        raise WavdiffError(
            f"{release.name}: at most {max(DETAIL_STDS)} scales, and sides that are multiples of 2**scales, are known"
        )
    low = read_network(release.lowpass / "model.pt", 1, 1, None if levels else release.receptive_field)
    details = [read_network(path / "model.pt", 4, 3, release.receptive_field) for path in release.details]
    cascade = WaveletCascade(
        image_size=release.image_size,
        channels=1,
        wavelet="haar",
        lowpass_network=_settings(low),
        detail_networks=[_settings(network) for network in details],
        lowpass_std=LOWPASS_STD,
        detail_stds=DETAIL_STDS.get(levels, []),
        conditioning_augmentation=False,
        ladders=LADDERS,
        lowpass_range=list(LOWPASS_RANGE),
    )
    cascade.lowpass.network.load_state_dict(low.state_dict())
    for denoiser, network in zip(cascade.details, details, strict=True):
        denoiser.get_submodule("network").load_state_dict(network.state_dict())
    return cascade.eval()


def _settings(network: BiasFreeNetwork) -> dict[str, Any]:
    config: Any = network.config
    return {"kind": "bias-free", **{name: config[name] for name in ("width", "depth", "receptive_field")}}


def release_card(release: Release, cascade: WaveletCascade) -> str:
    """The model card of an imported release."""
    height, width = release.image_size
    rows = "\n".join(
        f"| {name} | {path.name} | "
        f"{sum(p.numel() for p in cascade.denoiser(name).parameters()):,} | "
        f"{cascade.denoiser(name).network.receptive_field}x{cascade.denoiser(name).network.receptive_field} |"
        for name, path in zip(cascade.scale_names, (release.lowpass, *reversed(release.details)), strict=True)
    )
    what = "A wavelet cascade of blind bias-free networks" if release.details else "One blind bias-free network"
    return f"""---
library_name: diffusers
tags: [wavdiff, image-denoising, super-resolution, unconditional-image-generation]
license: mit
datasets: [celeba]
---
# {release.name}, receptive field {release.receptive_field}x{release.receptive_field}

{what} for gray images of {height}x{width} pixels, trained on CelebA by Zahra Kadkhodaie, Florentin Guth, Stéphane
Mallat and Eero P. Simoncelli, and imported unchanged by `wavdiff import-published`.

- **Paper:** "Learning multi-scale local conditional probability models of images", ICLR 2023, arXiv 2303.02984.
- **Source:** {REPOSITORY}
- **Licence:** MIT, Copyright (c) 2023 LCV (the licence of that repository).
- **Data:** CelebA, for non-commercial research; the networks know faces as CelebA shows them, and no conclusion about
  faces in general should be drawn from what they draw.
- **sha256 of the weights** (float32, safetensors serialisation of the sorted tensors): `{weights_digest(cascade)}`

| scale | released as | parameters | receptive field |
|---|---|---|---|
{rows}

The networks are told no noise level. {_range_words(release)}

The rms values in the configuration set the units of the noise ladders; they were not measured on CelebA.
"""


def _range_words(release: Release) -> str:
    what, drawn = ("Their low-pass network", "low-pass image") if release.details else ("This one", "image")
    low, high = LOWPASS_RANGE
    return (
        f"{what} was trained on images whose\ncontrast was scaled by a random factor in (0, 1), so it draws images of "
        f"low contrast; `wavdiff sample` stretches the drawn\n{drawn} to the range [{low:g}, {high:g}], as the authors "
        "did, unless told otherwise (`--range`)."
    )


def import_release(
    folder: Path, out: Path, receptive_field: int | None = None, overwrite: bool = False
) -> WaveletCascade:
    """Write a released cascade or flat network as a model folder.

    Args:
        folder, receptive_field: see `find_release`.
        out: the model folder.
        overwrite: whether a model there may be replaced.

    Returns:
        The cascade, as it was written.

    Raises:
        WavdiffError: see `find_release` and `read_network`; or a folder is in the way.
    """
    refuse_folder(out, overwrite)
    release = find_release(folder, receptive_field)
    if out.resolve() == folder.resolve() or out.resolve() in folder.resolve().parents:
        raise WavdiffError(f"--out {out} holds the release; choose another folder")
    cascade = load_release(release)
    record = {"trained": {}, "data": {"name": "celeba"}}
    write_model(cascade, out.resolve(), release_card(release, cascade), record, None, save_model)
    return cascade
