"""Pictures of any size: the cascade's verbs tile by tile, with exactly the result of the whole.

- `file`: from a picture file to its results; `request`: what is asked, and which files come of it.
- `restorer`: one picture with its planes beside colour; `channels`, `checks`: what is around and behind it.
- `tasks`: denoise and upscale, whatever the cascade; `plain`: what they are given; `tiled`, `frame`: a picture as a
  canvas of the walk.
- `target_size`, `block_means`: sizes that are no power of two, and what enlarged files keep.
- `noise_estimation`, `octave_noise`: how noisy a picture is.
- `posterior`, `posterior_files`: many draws, their mean, standard deviation and intervals.
"""

from wavdiff.restoration.file import restore_file
from wavdiff.restoration.request import RestorationRequest, RestorationResult, planned_outputs

__all__ = ["RestorationRequest", "RestorationResult", "planned_outputs", "restore_file"]
