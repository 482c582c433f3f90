"""All chance of a model: generators of images and purposes, and noise that is a function of its place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from wavdiff.images.rectangle import Rectangle


def derive_generator(seed: int, *purpose: object) -> torch.Generator:
    """A generator for one image and purpose: independent streams for different seeds and purposes."""
    digest = hashlib.sha256(repr((int(seed), *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


BLOCK = 64
"""Side of the squares in which positioned noise is drawn."""


def position_noise(key: tuple[object, ...], channels: int, where: Rectangle) -> Tensor:
    """Standard normal noise (channels, h, w) of a rectangle, a function of `key` and of the place alone."""
    result = torch.empty(channels, where.height, where.width)
    for row in range(where.top // BLOCK, (where.bottom - 1) // BLOCK + 1):
        for column in range(where.left // BLOCK, (where.right - 1) // BLOCK + 1):
            digest = hashlib.blake2b(repr((*key, row, column)).encode(), digest_size=8).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
            block = torch.randn(channels, BLOCK, BLOCK, generator=generator)
            square = Rectangle(row * BLOCK, (row + 1) * BLOCK, column * BLOCK, (column + 1) * BLOCK)
            both = square.common(where)
            where.cut(result, both).copy_(square.cut(block, both))
    return result


def draw_noise(shape: Sequence[int], generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Standard normal noise (B, *shape), image k from generator k, so that batches do not change an image."""
    noise = [torch.randn(tuple(shape), generator=generator, device=generator.device) for generator in generators]
    return torch.stack(noise).to(like)
