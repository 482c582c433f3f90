"""The cascade as a diffusers pipeline: `from_pretrained`, `save_pretrained`, `push_to_hub`, `pipeline(...).images`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, EDMDPMSolverMultistepScheduler
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from huggingface_hub import snapshot_download

from wavdiff.cascade import WaveletCascade  # the module that model_index.json names: diffusers wants it imported
from wavdiff.images import to_pil
from wavdiff.models.cascade.sampling import sample_walk
from wavdiff.models.cascade.saved import write_index
from wavdiff.models.folders import diffusers_folder, find_model
from wavdiff.system.errors import WavdiffError

DOWNLOAD = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")
"""Settings of `from_pretrained` that say how a repository of the hub comes here."""


class WaveletCascadePipeline(DiffusionPipeline):
    """Draws images from a cascade.

    Args:
        cascade: the trained networks.
        scheduler: kept in diffusers' layout; the walk takes its levels from the cascade's own schedules.
    """

    cascade: WaveletCascade
    register_modules: Any  # diffusers', untyped

    def __init__(self, cascade: WaveletCascade, scheduler: EDMDPMSolverMultistepScheduler) -> None:
        super().__init__()
        self.register_modules(cascade=cascade, scheduler=scheduler)

    @classmethod
    def from_pretrained(cls, model: str | Path, **settings: Any) -> WaveletCascadePipeline:
        """As diffusers has it, also for the name of a shipped model, a model folder or that of a run.

        No code of a folder or a repository runs; `DiffusionPipeline.from_pretrained(..., trust_remote_code=True)` runs
        those of its files that import this class and `WaveletCascade`.

        Args:
            model: or a repository of the hub, "owner/name".
            settings: of diffusers.
        """
        folder = diffusers_folder(model)
        if not Path(folder).is_dir():
            if "/" not in folder:  # no repository's name: one of ours, misspelt
                find_model(model)
            download = {name: settings.pop(name) for name in DOWNLOAD if name in settings}
            folder = snapshot_download(folder, allow_patterns=["*.json", "*.safetensors", "*.md"], **download)
        pipeline: WaveletCascadePipeline = super().from_pretrained(folder, **settings)
        return pipeline

    @classmethod
    def _dict_from_json_file(cls, json_file: str | Path) -> dict[str, Any]:
        """Read `model_index.json`, but what it says of code: these classes need no code of a folder."""
        found: dict[str, Any] = super()._dict_from_json_file(json_file)  # type: ignore[misc]
        ours = {"_class_name": cls.__name__, "cascade": ["wavdiff.cascade", WaveletCascade.__name__]}
        return found | ours if "cascade" in found else found

    def save_config(self, save_directory: str | Path, push_to_hub: bool = False, **settings: Any) -> None:
        """Write what `save_model` writes beside the parts."""
        write_index(Path(save_directory))

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        **settings: Any,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Draw images.

        Args:
            batch_size: number of images.
            seed: image k is drawn from `seed` + k.
            seeds: or one seed per image.
            generator: or where the seeds come from, as in diffusers: a generator for all images, or one for each.
            num_inference_steps: levels of every scale's schedule; default the cascade's own.
            output_type: "pil", "np" ((N, H, W, C) in [0, 1]) or "pt" ((N, C, H, W) in [-1, 1]).
            return_dict: whether to wrap the images in an `ImagePipelineOutput`.
            settings: more of `sample_walk`.

        Returns:
            The images.

        Raises:
            WavdiffError: an unknown output type, no images, seeds beside generators, or settings that the cascade
                refuses.
        """
        if generator is not None:
            seeds = _seeds_of(generator, batch_size, seeds)
        if output_type not in ("pil", "np", "pt"):
            raise WavdiffError(f"output_type must be pil, np or pt, got {output_type!r}")
        if not (batch_size if seeds is None else len(seeds)):
            raise WavdiffError("batch_size must be at least 1, got 0")
        if num_inference_steps is not None:
            settings = {"lowpass_steps": num_inference_steps, "detail_steps": num_inference_steps, **settings}
        chosen = list(seeds) if seeds is not None else list(range(seed, seed + batch_size))
        images: Any = sample_walk(self.cascade.eval(), chosen, **settings)[-1].clamp(-1, 1)
        if output_type == "pil":
            images = [to_pil(picture) for picture in images]
        elif output_type == "np":
            images = ((images + 1) / 2).permute(0, 2, 3, 1).numpy()
        return ImagePipelineOutput(images=images) if return_dict else (images,)


def _seeds_of(
    generator: torch.Generator | Sequence[torch.Generator], count: int, seeds: Sequence[int] | None
) -> list[int]:
    """A seed for each image, drawn from one generator or from its own."""
    if seeds is not None:
        raise WavdiffError("seeds and generator both say what is drawn; give one of them")
    each = [generator] * count if isinstance(generator, torch.Generator) else list(generator)
    if len(each) != count:
        raise WavdiffError(f"generator must be one, or one per image ({count}), got {len(each)}")
    return [int(torch.randint(2**62, (), generator=own, device=own.device)) for own in each]
