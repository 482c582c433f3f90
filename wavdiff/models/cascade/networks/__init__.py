"""The networks of a cascade: local, global and bias-free.

Local and global networks map a noisy input and its noise levels to the raw output F of the EDM preconditioning (see
`denoisers`); a noise level enters as a scale and a shift per channel and block, the same at every position. Bias-free
networks are told no noise level and return the noise (see `blind_denoisers`). `kinds` has a row for each.
"""

from wavdiff.models.cascade.networks.bias_free import BiasFreeNetwork, ChannelScale, bias_free_kernels
from wavdiff.models.cascade.networks.cost import count_multiply_adds
from wavdiff.models.cascade.networks.folded import FoldedNetwork
from wavdiff.models.cascade.networks.kinds import NETWORKS, build_network, count_parameters, network_class
from wavdiff.models.cascade.networks.layers import Modulation, NoiseEmbedding, kernel_sizes
from wavdiff.models.cascade.networks.local import LocalBlock, LocalNetwork
from wavdiff.models.cascade.networks.unet import GlobalNetwork

__all__ = [
    "NETWORKS",
    "BiasFreeNetwork",
    "ChannelScale",
    "FoldedNetwork",
    "GlobalNetwork",
    "LocalBlock",
    "LocalNetwork",
    "Modulation",
    "NoiseEmbedding",
    "bias_free_kernels",
    "build_network",
    "count_multiply_adds",
    "count_parameters",
    "kernel_sizes",
    "network_class",
]
