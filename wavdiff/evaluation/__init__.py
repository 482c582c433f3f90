"""`wavdiff evaluate`: numbers of cascades beside references, as JSON, Markdown and pictures.

Two kinds of pictures, two reports; in both all models and references see the same pictures and the same noise
(`trials`), and PSNR and SSIM (`metrics.fidelity`) of several pictures are means over them.

**Photographs** (`run_photographs`): every clean picture of a folder, at its own size, in its own colours. The numbers
stand for each picture and on average, with times, the shift of the mean colour, and crops to look at. The noise of a
picture follows from its name, the level and the seed: neither the other pictures nor their order change it.

**Held-out images** (`run_evaluation`): the held-out part of a source of training images, at the size of training. The
same two tasks, and samples: KID-EffLite0 against the training and the held-out images, beside those two against each
other, and the distance of every sample to its nearest training image, beside the same for held-out images.
"""

from wavdiff.evaluation.heldout_images import run_evaluation
from wavdiff.evaluation.photographs.reading import Photograph
from wavdiff.evaluation.photographs.running import evaluate_photographs, run_photographs
from wavdiff.evaluation.request import EvaluationRequest, PhotographRequest

__all__ = [
    "EvaluationRequest",
    "Photograph",
    "PhotographRequest",
    "evaluate_photographs",
    "run_evaluation",
    "run_photographs",
]
