"""Settings of the section `data` of a configuration: where images come from and how they are cut."""

from __future__ import annotations

from dataclasses import dataclass

from wavdiff.system.settings import require


@dataclass(frozen=True)
class AugmentationConfig:
    """Changes of training images, made before the wavelet transform (see `data.Augmentation`).

    `calm_strength` scales them for the part of a batch that teaches synthesis, so that samples are not drawn shifted
    and zoomed while denoising still learns from many variants. `gray` is the part of the examples of an RGB cascade
    that are gray, with the same noise in all channels, so that it serves gray pictures as well.
    """

    flip: bool = False
    shift: float = 0.0
    zoom: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    rotate90: bool = False
    window: float = 0.0
    gray: float = 0.0
    calm_strength: float = 1.0

    def __post_init__(self) -> None:
        for name, upper in (("shift", float("inf")), ("zoom", 1.0), ("contrast", 1.0), ("brightness", float("inf"))):
            value = getattr(self, name)
            require(0 <= value < upper, f"data.augmentation.{name} must be in [0, {upper:g})", value)
        require(
            self.window == 0 or 1 <= self.window < float("inf"),
            "data.augmentation.window must be 0 (off) or at least 1",
            self.window,
        )
        require(0 <= self.gray <= 1, "data.augmentation.gray must be in [0, 1]", self.gray)
        require(0 <= self.calm_strength <= 1, "data.augmentation.calm_strength must be in [0, 1]", self.calm_strength)


@dataclass(frozen=True)
class DataConfig:
    """Where images come from and how they are cut.

    `crop` is the side of the centred source square (None: the largest); `pad` puts small images on a black canvas
    instead. `validation` names persons or other groups of the source kept out of training, to choose settings on.
    `note` goes into the model card: what these data can and cannot teach. `cache_megabytes` of decoded images of a
    folder are kept in memory; `decoded_cache` is a folder where all of them are kept on disk. `shuffle_buffer` images
    of shards and streamed data sets are shuffled at a time, and wait in memory encoded.
    """

    name: str = "faces"
    data_dir: str | None = None
    crop: int | None = None
    pad: bool = False
    validation: tuple[str, ...] = ()
    heldout_limit: int = 256
    note: str = ""
    workers: int = 0
    cache_megabytes: int = 0
    decoded_cache: str | None = None
    shuffle_buffer: int = 1000
    augmentation: AugmentationConfig = AugmentationConfig()

    def __post_init__(self) -> None:
        require(self.crop is None or self.crop >= 1, "data.crop must be at least 1", self.crop)
        require(self.heldout_limit >= 1, "data.heldout_limit must be at least 1", self.heldout_limit)
        require(self.workers >= 0, "data.workers must be at least 0", self.workers)
        require(self.cache_megabytes >= 0, "data.cache_megabytes must be at least 0", self.cache_megabytes)
        require(self.shuffle_buffer >= 1, "data.shuffle_buffer must be at least 1", self.shuffle_buffer)
