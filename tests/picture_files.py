"""Pictures of every kind, for the tests of reading and writing them."""

import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from wavdiff.images import PictureInfo, create_picture, open_picture
from wavdiff.images.rectangle import Rectangle

HEIGHT, WIDTH = 21, 34
BY_ROWS, WHOLE = 0, 2**30
BOTH = [BY_ROWS, WHOLE]
ALL_PATHS = list(itertools.product(BOTH, BOTH))


def noise(*shape: int, high: int = 256, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, size=shape).astype(dtype)


def smooth(channels: int) -> np.ndarray:
    """A picture that JPEG keeps well."""
    rows, columns = np.mgrid[0:48, 0:64]
    planes = [128 + 100 * np.sin(rows / (7 + k)) * np.cos(columns / (9 + 2 * k)) for k in range(channels)]
    return np.stack(planes, axis=-1).round().astype(np.uint8)


def image_of_mode(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(noise(HEIGHT, WIDTH, high=65536, dtype=np.uint16))
    if mode == "I;16B":
        return Image.frombytes(mode, (WIDTH, HEIGHT), noise(HEIGHT, WIDTH, high=65536, dtype=np.uint16).tobytes())
    if mode == "I":
        return Image.fromarray(noise(HEIGHT, WIDTH, high=65536, dtype=np.int32))
    if mode == "CMYK":
        return Image.frombytes("CMYK", (WIDTH, HEIGHT), noise(HEIGHT, WIDTH, 4).tobytes())
    source = Image.fromarray(noise(HEIGHT, WIDTH, 3))
    if mode in ("P", "PA"):
        source = source.quantize(200)
    if mode in ("La", "RGBa"):
        return source.convert(mode.upper()).convert(mode)
    image = source.convert(mode)
    if mode in ("LA", "PA", "RGBA"):
        image.putalpha(Image.fromarray(noise(HEIGHT, WIDTH, seed=1)))
    return image


def copy(source: object, target: object, spools: tuple[int, int] = (BY_ROWS, BY_ROWS), tile: int = 13) -> PictureInfo:
    """Read and write a picture in tiles."""
    with (
        open_picture(source, spool_bytes=spools[0]) as reader,  # type: ignore[arg-type]
        create_picture(target, reader.info, spool_bytes=spools[1]) as writer,  # type: ignore[arg-type]
    ):
        height, width = reader.info.size
        for top, left in itertools.product(range(0, height, tile), range(0, width, tile)):
            where = Rectangle(top, min(top + tile, height), left, min(left + tile, width))
            writer.write(where, reader.read(where))
    return reader.info


def shown(image: Image.Image) -> np.ndarray:
    return np.array(image.convert("RGBA") if image.mode in ("P", "PA") else image)


def write_png(path: Path, chunks: list[tuple[bytes, bytes]]) -> None:
    parts = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
