r"""Looking inside a cascade: what every scale is, and what it does to one picture.

A denoiser D(y) is, around one noisy picture y, a linear map: its Jacobian J = dD/dy. A network without additive
constants equals J y exactly (Mohan, Kadkhodaie et al., ICLR 2020); every other one, to first order. The row J[p, .] of
a pixel p is therefore the filter that this pixel was averaged with, chosen by the network for this picture and place:

    sum of the row          1 where the mean brightness is kept
    |row|^2                 share of the noise's variance that is left in the pixel
    sum^2 / |row|^2         pixels of a plain average that does the same: the effective number of pixels
    D(y) - row . y          0 for a bias-free network: all of the pixel is filtered picture
    |row - column|          0 for an exact posterior mean, whose Jacobian is symmetric (a covariance over sigma^2)

In a cascade every scale has such filters: the low-pass image's in the noisy low-pass image, and the details' in the
noisy details, in the coarse image as the coarser scales left it, and in that image as it was observed. They are
followed by automatic differentiation in float32 through the library's own walk (`walk`), pixel by pixel.

Details are drawn as a picture of the finer image: with the wavelet step range-preserving, the part of x_{k} that its
details hold is join(0, d), and the adjoint of split is join / 4, so a row q over details is the row join(0, q) / 4 over
the pixels of x_k. Its sum is zero, and |row|^2 is 3/4 where the details are left as they are (Haar).

`describe` says what the scales are; `inspect_picture` looks at one picture, `write_inspection` writes what was seen.

Sources: Mohan, Kadkhodaie, Simoncelli, Fernandez-Granda, "Robust and interpretable blind image denoising via bias-free
convolutional neural networks" (ICLR 2020), sections 5 and 6; Kadkhodaie, Guth, Mallat, Simoncelli (ICLR 2023).
"""

from wavdiff.evaluation.inspection.description import CascadeDescription, ScaleDescription, describe
from wavdiff.evaluation.inspection.inspecting import Inspection, InspectionRequest, ScaleMeasures, inspect_picture
from wavdiff.evaluation.inspection.inspection_report import inspect_file, planned_files, write_inspection
from wavdiff.evaluation.inspection.jacobian import PixelRows, Row
from wavdiff.evaluation.inspection.pixels import Place

__all__ = [
    "CascadeDescription",
    "Inspection",
    "InspectionRequest",
    "PixelRows",
    "Place",
    "Row",
    "ScaleDescription",
    "ScaleMeasures",
    "describe",
    "inspect_file",
    "inspect_picture",
    "planned_files",
    "write_inspection",
]
