"""From a configuration to data, standardisation and a fresh cascade."""

from __future__ import annotations

import torch

from wavdiff.data import ExampleDataset, Images
from wavdiff.data.examples import some_images
from wavdiff.models import wavelets
from wavdiff.models.cascade.config import CascadeConfig
from wavdiff.models.cascade.model import WaveletCascade

STANDARDISE_IMAGES = 2000


def measure_rms(source: Images, config: CascadeConfig) -> tuple[float, list[float]]:
    """Rms of the low-pass image and of the details (finest first) over up to 2,000 training images, library units."""
    dataset = ExampleDataset(source, **config.example_settings)
    levels = config.model.levels
    energy = torch.zeros(levels + 1, dtype=torch.float64)
    count = 0
    for image in some_images(source, config.training.seed, STANDARDISE_IMAGES):
        count += 1
        pyramid = wavelets.decompose(dataset[(image, 0, 0.0)][None], levels, config.model.wavelet)
        for place, bands in enumerate((*pyramid.details, pyramid.coarse)):
            energy[place] += bands.double().square().mean()
    rms = (energy / count).sqrt().clamp(min=1e-4).tolist()
    return round(rms[-1], 6), [round(value, 6) for value in rms[:-1]]


def build_cascade(config: CascadeConfig, lowpass_std: float, detail_stds: list[float]) -> WaveletCascade:
    """A fresh cascade of the configuration, initialised from `training.seed`."""
    model = config.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        return WaveletCascade(
            image_size=model.image_size,
            channels=model.channels,
            wavelet=model.wavelet,
            lowpass_network=model.lowpass.settings(),
            detail_networks=[model.detail_network(str(scale)).settings() for scale in range(model.levels)],
            lowpass_std=lowpass_std,
            detail_stds=detail_stds,
            conditioning_augmentation=model.conditioning_augmentation,
            ladders=model.ladders,
            draws=model.draws,
            noise_max=config.noise.image_max if config.noise.denoising_fraction > 0 else None,
            noise_min=config.noise.image_min if config.noise.denoising_fraction > 0 else None,
        )
