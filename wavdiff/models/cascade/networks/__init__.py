"""The networks of a cascade: local, global and bias-free.

Local and global networks map a noisy input and its noise levels to the raw output F of the EDM preconditioning (see
`denoiser`); a noise level enters as a scale and a shift per channel and block, the same at every position. Bias-free
networks are told no noise level and return the noise (see `blind`).
"""

from wavdiff.models.cascade.networks.bias_free import BiasFreeNetwork, ChannelScale, bias_free_kernels
from wavdiff.models.cascade.networks.folded import FusedNetwork
from wavdiff.models.cascade.networks.kinds import count_parameters, detail_shape
from wavdiff.models.cascade.networks.layers import Modulation, NoiseEmbedding, kernel_sizes
from wavdiff.models.cascade.networks.local import LocalBlock, LocalNetwork
from wavdiff.models.cascade.networks.unet import GlobalNetwork

__all__ = [
    "BiasFreeNetwork",
    "ChannelScale",
    "FusedNetwork",
    "GlobalNetwork",
    "LocalBlock",
    "LocalNetwork",
    "Modulation",
    "NoiseEmbedding",
    "bias_free_kernels",
    "count_parameters",
    "detail_shape",
    "kernel_sizes",
]
