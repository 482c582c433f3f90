"""Settings of the section `data` of a configuration: where images come from and how they are cut."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from wavdiff.system.settings import Checked, Rule, at_least, setting, within


@dataclass(frozen=True)
class AugmentationConfig(Checked):
    """Changes of training images, made before the wavelet transform (see `data.Augmentation`).

    `calm_strength` scales them for the part of a batch that teaches synthesis, so that samples are not drawn shifted
    and zoomed while denoising still learns from many variants. `gray` is the part of the examples of an RGB cascade
    that are gray, with the same noise in all channels, so that it serves gray pictures as well.
    """

    where: ClassVar[str] = "data.augmentation."

    flip: bool = False
    shift: float = setting(0.0, within(0, inf, "[)"))
    zoom: float = setting(0.0, within(0, 1, "[)"))
    contrast: float = setting(0.0, within(0, 1, "[)"))
    brightness: float = setting(0.0, within(0, inf, "[)"))
    rotate90: bool = False
    window: float = setting(0.0, Rule(lambda value: value == 0 or 1 <= value < inf, "0 (off) or at least 1"))
    gray: float = setting(0.0, within(0, 1))
    calm_strength: float = setting(1.0, within(0, 1))


@dataclass(frozen=True)
class DataConfig(Checked):
    """Where images come from and how they are cut.

    `crop` is the side of the centred source square (None: the largest); `pad` puts small images on a black canvas
    instead. `validation` names persons or other groups of the source kept out of training, to choose settings on.
    `images`: only the first so many are trained on.
    `note` goes into the model card: what these data can and cannot teach. `cache_megabytes` of decoded images of a
    folder are kept in memory; `decoded_cache` is a folder where all of them are kept on disk. `shuffle_buffer` images
    of shards and streamed data sets are shuffled at a time, and wait in memory encoded.
    """

    where: ClassVar[str] = "data."

    name: str = "faces"
    data_dir: str | None = None
    crop: int | None = setting(None, at_least(1))
    pad: bool = False
    validation: tuple[str, ...] = ()
    images: int | None = setting(None, at_least(1))
    heldout_limit: int = setting(256, at_least(1))
    note: str = ""
    workers: int = setting(0, at_least(0))
    cache_megabytes: int = setting(0, at_least(0))
    decoded_cache: str | None = None
    shuffle_buffer: int = setting(1000, at_least(1))
    augmentation: AugmentationConfig = AugmentationConfig()
