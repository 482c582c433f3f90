"""Images to learn from: sources by name or folder, training examples, and the order in which they come.

A *source* is a sequence of 8-bit images with a split that never moves: by person for `faces`, the official ones for
`fashion-mnist` and `celeba`, a stable hash of the path for a folder. An *example* is one image cropped, resized
and augmented to the size of the model; all its chance lies in one integer, its seed. The *order* is a function of the
step number alone, so that an interrupted run continues with exactly the images that it would have seen.

A *stream* is for data of which nobody has a list: shards and data sets of a hub. Its images come one after the other,
encoded, and are decoded where examples are made.
"""

from wavdiff.data.augmentation import Augmentation, crop_example
from wavdiff.data.catalog import find_source, open_source, source_names
from wavdiff.data.examples import ExampleDataset, heldout_batch
from wavdiff.data.order import StatelessBatchSampler, StreamBatchSampler
from wavdiff.data.protocols import Images, ImageSource, ImageStream, Split, count_images, source_digest
from wavdiff.data.stream import images_from

__all__ = [
    "Augmentation",
    "ExampleDataset",
    "ImageSource",
    "ImageStream",
    "Images",
    "Split",
    "StatelessBatchSampler",
    "StreamBatchSampler",
    "count_images",
    "crop_example",
    "find_source",
    "heldout_batch",
    "images_from",
    "open_source",
    "source_digest",
    "source_names",
]
