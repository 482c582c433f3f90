"""`wavdiff evaluate`: numbers of cascades beside references, as JSON, Markdown and pictures.

Two kinds of pictures, two reports.

**Photographs** (`run_photographs`): every clean picture of a folder, at its own size, in its own colours. Noise of
known standard deviation is added and removed again, beside BM3D; the picture is shrunk by block means and enlarged
again, beside bicubic and Lanczos. The numbers stand for each picture and on average, with times, the shift of the mean
colour, and crops to look at. The noise of a picture follows from its name, the level and the seed: neither the other
pictures of the folder nor their order change it.

**Held-out images** (`run_evaluation`): the held-out part of a source of training images, at the size of training. The
same two tasks, and samples: KID-EffLite0 against the training and the held-out images, beside those two against each
other, and the distance of every sample to its nearest training image, beside the same for held-out images: what a
model that copies gives away.

In both all models and references see the same pictures and the same noise, and

    PSNR is that of floating-point results limited to [0, 1], not rounded to 8 bits; noisy pictures are handed over
    unlimited. Of several pictures it is the mean of their decibels.
    SSIM has Gaussian windows of standard deviation 1.5 on the [0, 1] scale, its mean over channels.
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
