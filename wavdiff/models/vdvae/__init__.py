"""A hierarchical VAE whose cells may share weights over depth, read as a discretised multi-resolution diffusion.

Child, "Very deep VAEs generalize autoregressive models and can outperform them on images" (2021, arXiv 2011.10650);
Falck et al., "A multi-resolution framework for U-Nets with applications to hierarchical VAEs" (2022, arXiv 2301.08187),
who share weights within a resolution. docs/multiresolution.md says what was measured, and where we had to choose.
"""
