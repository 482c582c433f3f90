"""`MicroWav` reads the details of one level, `WavPool` pools what all levels say and classifies.

The decomposition is the orthonormal Haar transform, computed once per image, and differentiable. As published it goes
on to the end; where a side is odd, its last row or column stands twice (PyWavelets' mode "symmetric"): those levels are
not orthogonal, and their details of that row or column are always zero (and not read in our form).

A level gives (unit, direction); levels with fewer units have zeros before them; stacked they are (unit, direction,
level), over which the pool goes. Windows that do not fit are dropped, unless the model has `ceil`: units, directions
and levels that no window reaches have weights without effect (`dead_parameters`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from wavdiff.models import wavelets
from wavdiff.models.wavpool.config import WavpoolModel

DIRECTIONS = 3


def haar_details(images: Tensor, levels: int) -> tuple[Tensor, list[Tensor]]:
    """The low-pass image (B, 1, s, s) and details (B, 3, s, s) of images (B, 1, n, n), coarse to fine, orthonormal.

    Directions are horizontal, vertical, diagonal, with the signs of `pywt.wavedec2`.
    """
    x, found = images, list[Tensor]()
    for level in range(levels):
        x, details = wavelets.split(wavelets.pad_to_multiple(x, 2))
        found.append(details * 2 ** (level + 1))  # the package's step keeps the range, an orthonormal one the energy
    return x * 2**levels, found[::-1]


class MicroWav(nn.Module):
    """Details (B, 3, s, s) of one level -> (B, hidden, 3): a dense layer for each direction.

    Args:
        side: s.
        hidden: units.
        activation: "relu" or "none".
        repeated: whether the last row and column of what was split stand there twice, so that their details are zero.
        reads_zeros: whether those are read.

    Attributes:
        read: rows and columns that are read, of each direction.
        zeros: how many of these details are always zero.
    """

    def __init__(
        self, side: int, hidden: int, activation: str = "none", repeated: bool = False, reads_zeros: bool = False
    ) -> None:
        super().__init__()
        less = side - int(repeated)
        lively = ((less, side), (side, less), (less, less))
        self.read = ((side, side),) * DIRECTIONS if reads_zeros else lively
        self.zeros = [rows * columns - a * b for (rows, columns), (a, b) in zip(self.read, lively, strict=True)]
        self.layers = nn.ModuleList(nn.Linear(rows * columns, hidden) for rows, columns in self.read)
        self.activation = activation

    def forward(self, details: Tensor) -> Tensor:
        """Apply it."""
        parts = [details[:, place, :rows, :columns].flatten(1) for place, (rows, columns) in enumerate(self.read)]
        result = torch.stack([layer(part) for layer, part in zip(self.layers, parts, strict=True)], dim=2)
        return functional.relu(result) if self.activation == "relu" else result


class WavPool(nn.Module):
    """Images (B, 1, n, n) in [0, 1] -> logits (B, classes).

    Args:
        config: its settings.
    """

    def __init__(self, config: WavpoolModel) -> None:
        super().__init__()
        self.config, self.classes = config, config.classes
        side, sides = config.image_size[0], list[tuple[int, bool]]()
        for _ in range(config.levels):
            odd, side = side % 2 == 1, -(-side // 2)
            sides.append((side, odd))
        self.hidden = config.hidden_sizes
        self.micro = nn.ModuleList(
            MicroWav(size, hidden, config.activation, repeated, config.reads_zeros)
            for (size, repeated), hidden in zip(reversed(sides), self.hidden, strict=True)
        )
        self.lowpass = nn.Linear(side**2, self.hidden[0]) if config.lowpass else None
        grid = (max(self.hidden), DIRECTIONS, config.levels)
        counts = [
            -(-size // step) if config.ceil else size // step for size, step in zip(grid, config.pool, strict=True)
        ]
        pooled = counts[0] * counts[1] * counts[2]
        self.last = nn.Linear(pooled + (self.hidden[0] if config.lowpass else 0), len(config.classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        coarse, details = haar_details(images, self.config.levels)
        most, read = max(self.hidden), [micro(d) for micro, d in zip(self.micro, details, strict=True)]
        stacked = torch.stack([functional.pad(x, (0, 0, most - x.shape[1], 0)) for x in read], dim=3)
        features = self._pool(stacked).flatten(1)
        if self.lowpass is not None:
            low = self.lowpass(coarse.flatten(1))
            low = functional.relu(low) if self.config.activation == "relu" else low
            features = torch.cat([features, low], dim=1)
        result: Tensor = self.last(features)
        return result

    def _pool(self, stacked: Tensor) -> Tensor:
        """(B, unit, direction, level), smaller."""
        window = self.config.pool
        if window == (1, 1, 1):
            return stacked
        if self.config.pool_mode == "max":
            return functional.max_pool3d(stacked[:, None], window, window, ceil_mode=self.config.ceil)
        return functional.avg_pool3d(stacked[:, None], window, window, ceil_mode=self.config.ceil)

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Probabilities (B, classes) of images (B, 1, n, n) in [-1, 1]."""
        return self((images + 1) / 2).softmax(dim=1)

    def dead_parameters(self) -> int:
        """How many weights no image and no target can change, because no window of the pool reaches their unit."""
        return sum((hidden - live) * (inputs + 1) for hidden, live, inputs, _ in self._layers())

    def idle_parameters(self) -> int:
        """How many of the others read details that are zero in every image, as their row or column stands twice."""
        return sum(live * zeros for _, live, _, zeros in self._layers())

    def _layers(self) -> Iterator[tuple[int, int, int, int]]:
        """Of every dense layer: its units, those that the pool reaches, its inputs, and those that are always zero."""
        sizes = (max(self.hidden), DIRECTIONS, self.config.levels)
        steps = (1, 1, 1) if self.config.ceil else self.config.pool
        reached = [size // step * step for size, step in zip(sizes, steps, strict=True)]
        for level, (micro, hidden) in enumerate(zip(self.micro, self.hidden, strict=True)):
            assert isinstance(micro, MicroWav)
            units = max(0, min(hidden, reached[0] - (sizes[0] - hidden)))  # those before the end of the windows
            for direction, (rows, columns) in enumerate(micro.read):
                live = units if level < reached[2] and direction < reached[1] else 0
                yield hidden, live, rows * columns, micro.zeros[direction]

    def parameter_count(self) -> int:
        """All weights."""
        return sum(parameter.numel() for parameter in self.parameters())


def accuracy_error(correct: Sequence[bool] | Tensor) -> tuple[float, float]:
    """The part that is right, and its standard error (binomial)."""
    values = torch.as_tensor(correct, dtype=torch.float64)
    mean = float(values.mean())
    return mean, (mean * (1 - mean) / len(values)) ** 0.5
