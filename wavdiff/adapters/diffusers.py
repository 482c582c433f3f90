"""The cascade as a diffusers pipeline: `from_pretrained`, `save_pretrained`, `push_to_hub`, `pipeline(...).images`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline, EDMDPMSolverMultistepScheduler
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput

from wavdiff.cascade import WaveletCascade  # the module that model_index.json names: diffusers wants it imported
from wavdiff.images import to_pil
from wavdiff.models.cascade.sampling import sample_walk
from wavdiff.system.errors import WavdiffError


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

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
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
            num_inference_steps: levels of every scale's schedule; default the cascade's own.
            output_type: "pil", "np" ((N, H, W, C) in [0, 1]) or "pt" ((N, C, H, W) in [-1, 1]).
            return_dict: whether to wrap the images in an `ImagePipelineOutput`.
            settings: more of `sample_walk`.

        Returns:
            The images.

        Raises:
            WavdiffError: an unknown output type, no images, or settings that the cascade refuses.
        """
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
