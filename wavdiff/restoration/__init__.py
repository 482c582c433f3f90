"""Pictures of any size: the cascade's verbs tile by tile, with exactly the result of the whole.

- `walk`: the walk itself; `planes` and `picture`: what it reads and writes.
- `verbs`: denoise and upscale for one picture given by its rectangles, whatever the cascade.
- `posterior`: many draws, their mean, standard deviation and intervals.
- `file`: from a picture file to its results.
"""

from wavdiff.restoration.file import restore_file
from wavdiff.restoration.request import RestorationRequest, RestorationResult, planned_outputs

__all__ = ["RestorationRequest", "RestorationResult", "planned_outputs", "restore_file"]
