"""Denoise a picture with the ONNX graphs of `wavdiff export`: NumPy, Pillow and onnxruntime, no wavdiff and no torch.

    wavdiff export photos --onnx photos-onnx
    python examples/onnx_denoise.py photos-onnx examples/pictures/noisy.png --sigma 25/255 --out clean.png

The picture is framed by its own mirror image, split by Haar steps into block means and details, and denoised from the
coarsest scale to the finest; see docs/python.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

FRAME = 16
"""Pixels of mirror image around a picture, of cascades whose networks are all local."""


class OnnxCascade:
    """The graphs of a folder.

    Args:
        folder: that `wavdiff export` made.
    """

    def __init__(self, folder: Path) -> None:
        self.about = json.loads((folder / "cascade.json").read_text())
        options = {"providers": ["CPUExecutionProvider"]}
        files = self.about["scales"].items()
        self.scales = {name: onnxruntime.InferenceSession(folder / file, **options) for name, file in files}

    def denoise(self, noisy: np.ndarray, sigma: float) -> np.ndarray:
        """Denoise (C, H, W) in [-1, 1] with white noise of `sigma`, [0, 1] units; any size."""
        details = [name for name in self.scales if name != "low"]
        _, height, width = noisy.shape
        frame, multiple = (FRAME if self.about["local"] else 0), 2 ** len(details)
        around = [(frame, -(-(side + 2 * frame) // multiple) * multiple - side - frame) for side in (height, width)]
        observed = [np.pad(noisy, [(0, 0), *around], mode="symmetric")[None].astype(np.float32)]
        bands = []
        for _ in details:
            coarse, band = split(observed[-1])
            observed.append(coarse)
            bands.append(band)
        level = np.array([2 * sigma / multiple], np.float32)
        (image,) = self.scales["low"].run(None, {"noisy": observed[-1], "level": level})
        for scale in range(len(details) - 1, -1, -1):
            given = {"noisy": bands[scale], "estimate": image, "observed": observed[scale + 1]}
            mean, coarse = self.scales[str(scale)].run(None, {**given, "level": level, "coarse_level": level})
            image, level = join(coarse, mean), 2 * level
        return image[0, :, around[0][0] :, around[1][0] :][:, :height, :width]


def split(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of 2x2 pixels (B, C, h, w), and details (B, 3C, h, w)."""
    a, b, c, d = (image[..., row::2, column::2] for row in (0, 1) for column in (0, 1))
    return (a + b + c + d) / 4, np.concatenate([a + b - c - d, a - b + c - d, a - b - c + d], axis=1) / 4


def join(coarse: np.ndarray, details: np.ndarray) -> np.ndarray:
    """The inverse of `split`."""
    first, second, third = np.split(details, 3, axis=1)
    batch, channels, height, width = coarse.shape
    image = np.empty((batch, channels, 2 * height, 2 * width), np.float32)
    image[..., 0::2, 0::2] = coarse + first + second + third
    image[..., 0::2, 1::2] = coarse + first - second - third
    image[..., 1::2, 0::2] = coarse - first + second - third
    image[..., 1::2, 1::2] = coarse - first - second + third
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--sigma", default="25/255")
    parser.add_argument("--out", type=Path, default=Path("clean.png"))
    options = parser.parse_args()
    number, _, divisor = options.sigma.partition("/")
    cascade = OnnxCascade(options.folder)
    with Image.open(options.picture) as image:
        pixels = np.asarray(image.convert("L" if cascade.about["channels"] == 1 else "RGB"))
    planes = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1) / 127.5 - 1
    clean = cascade.denoise(planes, float(number) / float(divisor or 1))
    integers = ((clean + 1) * 127.5).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    Image.fromarray(integers.squeeze()).save(options.out)
    print(options.out)


if __name__ == "__main__":
    main()
