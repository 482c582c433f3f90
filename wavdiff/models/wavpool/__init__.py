"""WavPool: a classifier of dense layers on the wavelet details of every scale.

McDermott, Voetberg and Nord, "WavPool: a new block for deep neural networks" (2023, arXiv 2306.08734). docs/wavpool.md
says what of it was reproduced, what its release computes, and what we changed.
"""
