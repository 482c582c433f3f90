"""Metrics: fidelity to a clean picture, KID of samples, distances to training images, and BM3D as a reference."""

from wavdiff.evaluation.metrics.bm3d import bm3d_denoise
from wavdiff.evaluation.metrics.feature_distance import feature_distance
from wavdiff.evaluation.metrics.feature_extractor import FeatureExtractor
from wavdiff.evaluation.metrics.fidelity import mean_shift, psnr, ssim
from wavdiff.evaluation.metrics.kernel_distance import kid, kid_and_standard_error, kid_standard_error
from wavdiff.evaluation.metrics.memorisation import nearest_training_distances

__all__ = [
    "FeatureExtractor",
    "bm3d_denoise",
    "feature_distance",
    "kid",
    "kid_and_standard_error",
    "kid_standard_error",
    "mean_shift",
    "nearest_training_distances",
    "psnr",
    "ssim",
]
