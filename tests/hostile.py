"""Hostile inputs for every command, each a function of a seed and a number.

`make_case` writes the inputs of one attempt into a folder of its own and says what to run; `attempt` runs it in this
process and says what came of it. The first cases of every kind are a fixed corpus, the later ones are drawn.
"""

import contextlib
import functools
import hashlib
import io
import itertools
import json
import os
import random
import shutil
import signal
import socket
import stat
import struct
import sys
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

COMMANDS = ("train", "sample", "denoise", "upscale", "evaluate")
PICTURE_KINDS = ("special file", "giant header", "truncated", "bits flipped", "odd picture")
MODEL_KINDS = ("model weights", "model settings")
KINDS: list[tuple[str, str]] = [
    *itertools.product(("train", "denoise", "upscale", "evaluate"), PICTURE_KINDS),
    *itertools.product(COMMANDS, MODEL_KINDS),
    *itertools.product(COMMANDS, ("options",)),
    ("train", "configuration"),
    ("train", "--set"),
    ("evaluate", "configuration"),
]
"""All pairs of a command and a kind of input; case k is of pair k modulo their number."""

NUMBERS: list[Any] = [
    None, True, False, -1, 0, 0.5, 10**12, 10**30, 2**31, 2**63, float("nan"), float("inf"), -1e300, "1e400", "many",
    "", "../../x", "a\0b", [], {}, [1, 2], {"a": 1}, [[[[1]]]], 99999999999, 4096, 1000, 3, "\udcff",
]  # fmt: skip
TEXTS = (
    "-1", "0", "nan", "inf", "-inf", "1e400", "1000000000000", "99999999999", "9" * 400, "9" * 5000, "²", "٣", "", " ",
    "0x10", "1_0", "1.5", "../../x", "a\nb", "65536x65536", "1e-400", "1/0", "25/255/3", "\udcff", "2,x", "None",
    "true", "[]", "4096x4096x2", "100,100", "1" + "0" * 30, "x" * 300, ",", "-", "3e2", "10000000000000000000GB", "*",
)  # fmt: skip
OPTIONS: dict[str, tuple[str, ...]] = {
    "sample": (
        "--n", "--seed", "--low-seed", "--steps", "--solver", "--stop-scale", "--size", "--batch-size", "--model",
        "--out",
    ),
    "denoise": (
        "--sigma", "--memory", "--samples", "--interval", "--seed", "--steps", "--solver", "--ext", "--suffix",
        "--model", "--out",
    ),
    "upscale": (
        "--factor", "--memory", "--samples", "--interval", "--seed", "--steps", "--n", "--mode", "--ext", "--suffix",
        "--out",
    ),
    "evaluate": (
        "--sigmas", "--factors", "--limit", "--crop", "--samples", "--crops", "--seed", "--models", "--model",
        "--data", "--data-dir", "--kid", "--out",
    ),
    "train": ("--data", "--config", "--scales", "--base", "--init", "--steps", "--data-dir", "--out"),
}  # fmt: skip
FORMATS = (("PNG", "png"), ("JPEG", "jpg"), ("TIFF", "tif"), ("WEBP", "webp"), ("BMP", "bmp"), ("GIF", "gif"))

TINY = {
    "model": {
        "image_size": [16, 16],
        "channels": 1,
        "levels": 2,
        "lowpass": {"kind": "global", "width": 8, "depth": 1, "stages": 1, "growth": 1.0},
        "details": {"kind": "local", "width": 8, "depth": 4, "receptive_field": 7},
        "scale_networks": {"1": {"width": 8}},
        "ladders": {"lowpass": {"steps": 2}, "details": {"steps": 2}},
    },
    "data": {"heldout_limit": 2, "augmentation": {"flip": True}},
    "noise": {"log_std": 1.5},
    "training": {
        "steps": 1,
        "scale_steps": {"low": 1},
        "batch_size": 2,
        "warmup_steps": 0,
        "evaluate_every": 0,
        "sample_every": 0,
        "checkpoint_every": 1,
    },
}
"""A cascade that trains for one step in a fraction of a second."""


@dataclass(frozen=True)
class Case:
    """One attempt.

    Attributes:
        command, kind: see `KINDS`.
        name: what is wrong with the input.
        arguments: of `wavdiff`.
        results: files that exist after success; all inputs and results lie in the case's folder.
    """

    command: str
    kind: str
    name: str
    arguments: list[str]
    results: list[Path] = field(default_factory=list)


@dataclass
class Result:
    """What came of an attempt; `defects` is empty where all is well."""

    command: str
    kind: str
    name: str
    code: int | None = None
    message: str = ""
    defects: list[str] = field(default_factory=list)
    detail: str = ""
    rss_mb: float = 0.0
    seconds: float = 0.0


class TooLong(BaseException):
    """An attempt took longer than it may."""


# --- pictures --------------------------------------------------------------------------------------------------------


def encoded(kind: str, chance: random.Random, side: int = 20) -> bytes:
    """A small valid picture in a format, of chance mode and size."""
    generator = np.random.default_rng(chance.getrandbits(32))
    height, width = chance.randint(side // 2, side), chance.randint(side // 2, side)
    smooth = 60 * generator.standard_normal((1, 1, 3)) + 8 * generator.standard_normal((height, width, 3)) + 128
    image = Image.fromarray(smooth.clip(0, 255).astype(np.uint8))
    modes = {"PNG": ("L", "RGB", "RGBA", "P", "1", "LA"), "TIFF": ("L", "RGB", "CMYK", "P", "1")}
    mode = chance.choice(modes.get(kind, ("L", "RGB")))
    if kind == "PNG" and chance.random() < 0.2:
        image = Image.fromarray((smooth[..., 0].clip(0, 255) * 257).astype(np.uint16))
    else:
        image = image.quantize(16) if mode == "P" else image.convert(mode)
    options: dict[str, Any] = {}
    if kind == "TIFF":
        options["compression"] = chance.choice(["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
    if chance.random() < 0.3 and kind in ("PNG", "JPEG", "WEBP"):
        exif = Image.Exif()
        exif[274] = chance.randint(1, 8)
        options["exif"] = exif.tobytes()
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def cut(data: bytes, chance: random.Random) -> bytes:
    """The beginning of some bytes, often a short one."""
    return data[: chance.randrange(len(data)) if chance.random() < 0.7 else chance.randrange(min(64, len(data)))]


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Some bytes with a few bits turned, often near the beginning, where headers are."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        place = chance.randrange(len(data) if chance.random() < 0.5 else min(120, len(data)))
        changed[place] = chance.choice([changed[place] ^ (1 << chance.randrange(8)), 255, 0])
    return bytes(changed)


def png(width: int, height: int, bits: int = 8, colour: int = 0, data: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG file with this header and these compressed pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(name: bytes, content: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def zeros(count: int) -> bytes:
    """So many zero bytes, compressed."""
    packer, parts = zlib.compressobj(9), []
    for start in range(0, count, 1 << 20):
        parts.append(packer.compress(bytes(min(1 << 20, count - start))))
    return b"".join(parts) + packer.flush()


def tiff(tags: dict[int, tuple[int, int, int]], following: int = 0, tail: bytes = b"") -> bytes:
    """A TIFF file of one directory {tag: (type, count, value)}, and where the next one is said to lie."""
    entries = b"".join(struct.pack("<HHII", tag, *values) for tag, values in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following) + tail


def _gray_tiff(width: int, height: int, **changes: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    tags |= {273: (4, 1, 200), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, min(width * height, 2**32 - 1))}
    return tags | {int(tag[1:]): value for tag, value in changes.items()}


@functools.cache
def giant_headers() -> dict[str, bytes]:
    """{file name: content} of small files that claim to be enormous."""
    some = zlib.compress(bytes(1000))
    jpeg = encoded("JPEG", random.Random(1))
    frame = jpeg.index(b"\xff\xc0") + 5
    bomb = zeros(20_000 * 2501)
    return {
        "square.png": png(100_000, 100_000, data=some),
        "colour.png": png(100_000, 100_000, 16, 6, some),
        "most.png": png(2**31 - 1, 2**31 - 1, data=some),
        "beyond.png": png(2**32 - 1, 2**32 - 1, data=some),
        "none.png": png(0, 0, data=some),
        "flat.png": png(100_000, 0, data=some),
        "wide.png": png(2**31 - 1, 1, data=some),
        "high.png": png(1, 2**31 - 1, data=some),
        "bomb.png": png(20_000, 20_000, 1, 0, bomb),
        "almost.png": png(13_000, 13_000, data=some),
        "almost-colour.png": png(13_000, 13_000, 8, 2, some),
        "almost-deep.png": png(13_000, 13_000, 16, 6, some),
        "almost-palette.png": png(13_000, 13_000, 8, 3, some, chunk(b"PLTE", bytes(range(48)))),
        "text-bomb.png": png(4, 4, data=zlib.compress(bytes(20)), extra=chunk(b"zTXt", b"a\0\0" + zeros(1 << 24))),
        "profile-bomb.png": png(4, 4, data=zlib.compress(bytes(20)), extra=chunk(b"iCCP", b"a\0\0" + zeros(1 << 24))),
        "long-chunk.png": b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 2**31 - 1) + b"IHDR" + bytes(40),
        "square.jpg": jpeg[:frame] + b"\xff\xff\xff\xff" + jpeg[frame + 4 :],
        "almost.jpg": jpeg[:frame] + struct.pack(">HH", 13_000, 13_000) + jpeg[frame + 4 :],
        "square.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, 100_000, 100_000, 1, 24, *[0] * 6),
        "below.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, -5, -(2**31), 1, 24, *[0] * 6),
        "almost.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, 13_000, 13_000, 1, 24, *[0] * 6),
        "most.gif": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b"," + bytes(20),
        "square.ppm": b"P6 100000 100000 255\n" + bytes(100),
        "almost.ppm": b"P6 7000 7000 255\n" + bytes(100),
        "digits.pgm": b"P5 " + b"9" * 5000 + b" 1 255\n" + bytes(100),
        "maximum.pgm": b"P5 4 4 99999999999\n" + bytes(100),
        "square.tif": tiff(_gray_tiff(100_000, 100_000), tail=bytes(400)),
        "most.tif": tiff(_gray_tiff(2**32 - 1, 2**32 - 1), tail=bytes(400)),
        "almost.tif": tiff(_gray_tiff(13_000, 13_000), tail=bytes(400)),
        "samples.tif": tiff(_gray_tiff(4, 4, t277=(3, 1, 60_000)), tail=bytes(400)),
        "counts.tif": tiff(_gray_tiff(4, 4, t258=(3, 2**32 - 1, 8), t273=(4, 2**32 - 1, 8)), tail=bytes(400)),
        "exif.tif": tiff(_gray_tiff(4, 4, t34665=(4, 1, 8), t34675=(7, 2**31, 8)), tail=bytes(400)),
        "square.webp": b"RIFF" + struct.pack("<I", 60) + b"WEBPVP8L" + struct.pack("<IBI", 40, 0x2F, 2**28 - 1)
        + bytes(40),
    }  # fmt: skip


@functools.cache
def odd_pictures() -> dict[str, bytes]:
    """{file name: content} of files that are legal or nearly so, and unusual."""
    chance = random.Random(2)

    def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    gray = np.arange(20 * 20, dtype=np.float32).reshape(20, 20) / 400
    holes = {name: np.where(gray > 0.5, np.float32(value), gray) for name, value in
             (("nan", np.nan), ("inf", np.inf), ("minus-inf", -np.inf), ("huge", 3e38))}  # fmt: skip
    small = Image.fromarray((255 * gray).astype(np.uint8))
    pages = [small, small.transpose(Image.Transpose.ROTATE_90)]
    return {
        "one.png": saved(Image.new("L", (1, 1), 7), "PNG"),
        "one.jpg": saved(Image.new("RGB", (1, 1), (1, 2, 3)), "JPEG"),
        "row.png": saved(Image.new("L", (100_000, 1), 7), "PNG"),
        "column.png": saved(Image.new("L", (1, 100_000), 7), "PNG"),
        "column.tif": saved(Image.new("L", (1, 20_000), 7), "TIFF"),
        **{f"{name}.tif": saved(Image.fromarray(values), "TIFF") for name, values in holes.items()},
        "float.tif": saved(Image.fromarray(gray), "TIFF"),
        "signed.tif": saved(Image.fromarray((1e9 * (gray - 0.5)).astype(np.int32)), "TIFF"),
        "animated.gif": saved(pages[0], "GIF", save_all=True, append_images=pages[1:]),
        "pages.tif": saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]),
        "animated.webp": saved(pages[0].convert("RGB"), "WEBP", save_all=True, append_images=pages[1:]),
        "ring.tif": tiff(_gray_tiff(4, 4), following=8, tail=bytes(400)),
        "lab.tif": saved(Image.new("LAB", (20, 20), (90, 3, 200)), "TIFF"),
        "inks.jpg": saved(Image.new("CMYK", (20, 20), (9, 99, 199, 0)), "JPEG"),
        "palette-short.png": png(8, 8, 8, 3, zlib.compress(bytes([0, *[250] * 8] * 8)), chunk(b"PLTE", bytes(6))),
        "palette-none.png": png(8, 8, 8, 3, zlib.compress(bytes(9 * 8))),
        "bits.png": png(8, 8, 3, 0, zlib.compress(bytes(9 * 8))),
        "filter.png": png(8, 8, 8, 0, zlib.compress(bytes([9] * 72))),
        "checksum.png": png(8, 8, 8, 0, zlib.compress(bytes(72))[:-1] + b"x"),
        "little.png": png(8, 8, 8, 0, zlib.compress(bytes(30))),
        "much.png": png(8, 8, 8, 0, zeros(1 << 24)),
        "profile.png": saved(small, "PNG", icc_profile=b"no profile"),
        "exif.jpg": saved(small, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        "twelve.tif": tiff(_gray_tiff(4, 4, t258=(3, 1, 12)), tail=bytes(400)),
        "planes.tif": tiff(_gray_tiff(4, 4, t284=(3, 1, 2), t259=(3, 1, 34712)), tail=bytes(400)),
        "strip.tif": tiff(_gray_tiff(4, 4, t273=(4, 1, 2**32 - 1)), tail=bytes(400)),
        "rows.tif": tiff(_gray_tiff(40, 40, t278=(4, 1, 0)), tail=bytes(2000)),
        "named-jpeg.png": encoded("JPEG", chance),
        "named-png.webp": encoded("PNG", chance),
        "drawing.png": b"<svg xmlns='http://www.w3.org/2000/svg' width='99999' height='99999'/>",
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\n",
        "zip.png": b"PK\x03\x04" + bytes(200),
        "plain.pgm": b"P2 4 4 255\n" + b"1 " * 16,
        "text.ppm": b"P6 # no end" + b"x" * 100,
    }


SPECIAL_FILES = (
    "empty", "text", "chance", "folder", "broken-link", "link-loop", "pipe", "missing", "no-permission", "bytes-name",
    "bytes-name-broken", "line-break", "long-name", "below-a-file", "null-device", "zero-device", "socket", "pattern",
    "link-to-pipe", "dots", "bare-name", "upper",
)  # fmt: skip


def special_file(name: str, folder: Path, chance: random.Random) -> Path:
    """Something in a folder that is no ordinary picture file."""
    path = folder / f"{name}.png"
    picture = encoded("PNG", chance)
    contents = {"empty": b"", "text": b"hello, this is no picture\n" * 9, "chance": chance.randbytes(500)}
    if name in contents:
        path.write_bytes(contents[name])
    elif name == "folder":
        path.mkdir()
    elif name == "broken-link":
        path.symlink_to(folder / "nowhere.png")
    elif name == "link-loop":
        path.symlink_to(path)
    elif name == "pipe":
        os.mkfifo(path)
    elif name == "link-to-pipe":
        os.mkfifo(folder / "real")
        path.symlink_to(folder / "real")
    elif name == "no-permission":
        path.write_bytes(picture)
        path.chmod(0)
    elif name in ("bytes-name", "bytes-name-broken"):
        path = Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.png"))
        path.write_bytes(picture if name == "bytes-name" else picture[:50])
    elif name == "line-break":
        path = folder / "a\nb\x1b[31m.png"
        path.write_bytes(picture[:50])
    elif name == "long-name":
        path = folder / ("x" * 300 + ".png")
    elif name == "below-a-file":
        (folder / "file").write_bytes(picture)
        path = folder / "file" / "a.png"
    elif name == "null-device":
        path.symlink_to("/dev/null")
    elif name == "zero-device":
        path.symlink_to("/dev/zero")
    elif name == "socket":
        with socket.socket(socket.AF_UNIX) as door, contextlib.suppress(OSError):
            before = os.open(".", os.O_RDONLY)
            try:
                os.chdir(folder)  # the names of sockets are short
                door.bind(path.name)
            finally:
                os.fchdir(before)
                os.close(before)
    elif name == "pattern":
        path = folder / "[ab*].png"
        path.write_bytes(picture[:40])
    elif name == "dots":
        path = folder / ".." / folder.name / ".." / "nothing.png"
    elif name == "bare-name":
        path = folder / "picture"
        path.write_bytes(picture)
    elif name == "upper":
        path = folder / "A.PNG"
        path.write_bytes(picture)
    return path


def hostile_picture(kind: str, number: int, folder: Path, chance: random.Random) -> tuple[str, Path]:
    """What is wrong, and the file: number 0, 1, ... of a kind of `PICTURE_KINDS`."""
    if kind == "special file":
        name = SPECIAL_FILES[number % len(SPECIAL_FILES)]
        return name, special_file(name, folder, chance)
    if kind in ("giant header", "odd picture"):
        corpus = giant_headers() if kind == "giant header" else odd_pictures()
        name = list(corpus)[number % len(corpus)]
        data = corpus[name] if number < len(corpus) else flipped(corpus[name], chance)
    else:
        form, ending = FORMATS[number % (4 if number % 3 else len(FORMATS))]
        change = cut if kind == "truncated" else flipped
        name, data = f"{form.lower()}.{ending}", change(encoded(form, chance), chance)
    path = folder / name
    path.write_bytes(data)
    return name, path


# --- models ----------------------------------------------------------------------------------------------------------


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything inside nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*before, key)
        yield from places(item, (*before, key))


def changed(mapping: Any, chance: random.Random) -> tuple[str, Any]:
    """A copy of nested dicts and lists with one place changed, removed or added, and what was done."""
    mapping = json.loads(json.dumps(mapping))
    path = chance.choice(list(places(mapping)))
    within = mapping
    for key in path[:-1]:
        within = within[key]
    action = chance.choice(["set", "set", "set", "set", "remove", "unknown"])
    if action == "remove":
        del within[path[-1]]
    elif action == "unknown":
        target = within if isinstance(within, dict) else mapping
        target[chance.choice(["heads", "../x", "", "__class__", "0", "n" * 500])] = chance.choice(NUMBERS)
    else:
        within[path[-1]] = chance.choice(NUMBERS)
    value = within.get(path[-1], "") if isinstance(within, dict) else ""
    return f"{action} {'.'.join(map(str, path))} {value!r:.40}", mapping


def _json_texts(good: str) -> dict[str, bytes]:
    return {
        "empty": b"",
        "half": good[: len(good) // 2].encode(),
        "list": b"[]",
        "null": b"null",
        "number": b"1e999",
        "deep": b"[" * 100_000,
        "deep-object": b'{"a":' * 50_000,
        "bytes": b"\xff\xfe\x00",
        "digits": b'{"channels": ' + b"9" * 5000 + b"}",
        "constant": b'{"channels": NaN}',
        "nothing": b"{}",
        "long": b'{"channels": "' + b"x" * 5_000_000 + b'"}',
        "twice": good.replace('"channels": 1', '"channels": 1, "channels": 3').encode(),
        "class": json.dumps({**json.loads(good), "_class_name": "LocalNetwork"}).encode(),
        "class-path": json.dumps({**json.loads(good), "_class_name": "../../x"}).encode(),
    }


def hostile_settings(model: Path, number: int, chance: random.Random) -> str:
    """Damage `cascade/config.json` of a copied model; returns what was done."""
    path = model / "cascade" / "config.json"
    good = path.read_text(encoding="utf-8")
    texts = _json_texts(good)
    names = [*texts, "pipe", "folder", "broken-link", "missing", "no-cascade", "zero-device"]
    if number < len(names):
        name = names[number]
        if name in texts:
            path.write_bytes(texts[name])
            return name
        shutil.rmtree(path.parent) if name == "no-cascade" else path.unlink()
        if name == "pipe":
            os.mkfifo(path)
        elif name == "folder":
            path.mkdir()
        elif name == "broken-link":
            path.symlink_to("nowhere")
        elif name == "zero-device":
            path.symlink_to("/dev/zero")
        return name
    if chance.random() < 0.2:
        path.write_bytes(chance.choice([cut, flipped])(good.encode(), chance))
        return "bytes"
    done, settings = changed(json.loads(good), chance)
    path.write_text(json.dumps(settings), encoding="utf-8")
    return done


def _tensors(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _packed(header: Any, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def weights_corpus(good: bytes) -> dict[str, bytes]:
    """{what is wrong: content} of files of tensors made from a good one."""
    header, body = _tensors(good)
    names = [name for name in header if name != "__metadata__"]
    matrix = next(name for name in names if len(header[name]["shape"]) > 1)
    first, second = names[0], next(n for n in names if header[n]["shape"] != header[names[0]]["shape"])

    def with_entry(name: str = first, **changes: Any) -> bytes:
        return _packed({**header, name: {**header[name], **changes}}, body)

    def typed(kind: str, size: int) -> bytes:
        """All tensors in another type, of chance-free content."""
        place, entries = 0, {}
        for name in names:
            count = int(np.prod(header[name]["shape"]))
            entries[name] = {
                "dtype": kind,
                "shape": header[name]["shape"],
                "data_offsets": [place, place + size * count],
            }
            place += size * count
        return _packed(entries, bytes(place))

    def filled(value: float) -> bytes:
        start, end = header[first]["data_offsets"]
        return _packed(header, body[:start] + struct.pack("<f", value) * ((end - start) // 4) + body[end:])

    without = {name: value for name, value in header.items() if name != first}
    swapped = {**header, first: header[second], second: header[first]}
    renamed = {("x" + name if name == first else name): value for name, value in header.items()}
    return {
        "empty": b"",
        "short": good[:7],
        "header-only": good[: 8 + int.from_bytes(good[:8], "little")],
        "half": good[: len(good) // 2],
        "longer": good + bytes(1000),
        "length-most": b"\xff" * 8 + good[8:],
        "length-giant": (2**40).to_bytes(8, "little") + good[8:],
        "length-none": bytes(8) + good[8:],
        "no-tensors": _packed({}, b""),
        "list": _packed([], b""),
        "deep": (50_000).to_bytes(8, "little") + b"[" * 50_000,
        "missing": _packed(without, body),
        "swapped": _packed(swapped, body),
        "renamed": _packed(renamed, body),
        "extra": _packed({**header, "extra": {"dtype": "F32", "shape": [0], "data_offsets": [len(body)] * 2}}, body),
        "shape-giant": with_entry(shape=[10**6, 10**6]),
        "shape-beyond": with_entry(shape=[2**62, 2**62]),
        "shape-negative": with_entry(shape=[-1, 4]),
        "shape-text": with_entry(shape="many"),
        "shape-flat": with_entry(matrix, shape=[int(np.prod(header[matrix]["shape"]))]),
        "type-unknown": with_entry(dtype="F7"),
        "offsets-beyond": with_entry(data_offsets=[0, 2**50]),
        "offsets-negative": with_entry(data_offsets=[-4, 4]),
        "offsets-reversed": with_entry(data_offsets=[40, 0]),
        "int64": typed("I64", 8),
        "bool": typed("BOOL", 1),
        "float64": typed("F64", 8),
        "bytes": typed("U8", 1),
        "float8": typed("F8_E4M3", 1),
        "complex": typed("C64", 8),
        "half-precision": typed("F16", 2),
        "nan": filled(float("nan")),
        "inf": filled(float("inf")),
        "pickle": b"\x80\x02}q\x00.",
        "zip": b"PK\x03\x04" + bytes(300),
        "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    }


def hostile_weights(model: Path, number: int, chance: random.Random) -> str:
    """Damage the weights of a copied model; returns what was done."""
    path = model / "cascade" / "diffusion_pytorch_model.safetensors"
    good = path.read_bytes()
    corpus = weights_corpus(good)
    names = [*corpus, "pipe", "folder", "broken-link", "missing", "zero-device", "index"]
    if number < len(names):
        name = names[number]
        if name in corpus:
            path.write_bytes(corpus[name])
            return name
        if name == "index":  # an index of shards that lie elsewhere
            index = {"metadata": {}, "weight_map": {"lowpass.network.stem.weight": "../../../secret.safetensors"}}
            Path(f"{path}.index.json").write_text(json.dumps(index))
            return name
        path.unlink()
        if name == "pipe":
            os.mkfifo(path)
        elif name == "folder":
            path.mkdir()
        elif name == "broken-link":
            path.symlink_to("nowhere")
        elif name == "zero-device":
            path.symlink_to("/dev/zero")
        return name
    if chance.random() < 0.4:
        header, body = _tensors(good)
        done, header = changed(header, chance)
        path.write_bytes(_packed(header, body))
        return done
    path.write_bytes(chance.choice([cut, flipped])(good, chance))
    return "bytes"


# --- configurations --------------------------------------------------------------------------------------------------

CONFIG_TEXTS: dict[str, bytes] = {
    "empty": b"",
    "null": b"null\n",
    "list": b"- 1\n",
    "text": b"hello\n",
    "bytes": b"\xff\xfe\x00\x00",
    "deep": b"[" * 20_000,
    "deep-blocks": b"".join(b" " * k + b"a:\n" for k in range(2000)),
    "laughs": b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(b"a%d: &a%d [%s]\n" % (k, k, b",".join([b"*a%d" % (k - 1)] * 9)) for k in range(1, 30)),
    "laughs-inside": b"model: {ladders: {lowpass: &a0 {a: 1}, details: {"
    + b"".join(b"k%d: &a%d [%s], " % (k, k, b",".join([b"*a%d" % (k - 1)] * 9)) for k in range(1, 30))
    + b"z: 1}}}\n",
    "ring": b"model: &m\n  ladders: {lowpass: *m}\n",
    "ring-networks": b"model:\n  levels: 1\n  scale_networks: &m {'0': *m}\n",
    "object": b"!!python/object/apply:os.system ['true']\n",
    "date": b"training: {steps: 2024-99-99}\n",
    "timestamp": b"training: {steps: !!timestamp soon}\n",
    "not-bool": b"data: {pad: !!bool perhaps}\n",
    "not-int": b"training: {steps: !!int ''}\n",
    "binary": b"training: {init: !!binary '%%%'}\n",
    "set": b"training: !!set {steps, init}\n",
    "list-key": b"? [1, 2]\n: 3\n",
    "null-key": b"? null\n: 3\n",
    "digits": b"training: {steps: " + b"9" * 5000 + b"}\n",
    "hexadecimal": b"training: {steps: 0x" + b"f" * 5000 + b"}\n",
    "sexagesimal": b"training: {steps: 9" + b":59" * 2000 + b"}\n",
    "long": b"data: {name: " + b"x" * 3_000_000 + b"}\n",
    "twice": b"training: {steps: 1}\ntraining: {steps: 1.5}\n",
    "documents": b"training: {steps: 1}\n---\ntraining: {steps: 2}\n",
    "tabs": b"training:\n\tsteps: 1\n",
    "null-section": b"training:\nmodel:\ndata:\n",
    "null-byte": b'data: {name: "a\\0b"}\n',
    "surrogate": b'data: {name: "\\uDCFF"}\n',
    "path": b"data: {name: ../../../../../../etc}\n",
    "file": b"data: {name: /etc/passwd}\n",
}
SETTINGS = (
    "model.levels=1000000000", "model.image_size=1000000000000", "model.image_size=[65536, 65536]",
    "model.details.width=1000000000000",
    "model.lowpass={kind: global, depth: 128, stages: 10, width: 8, growth: 1}",
    "model.details.depth=1000000", "model.details.receptive_field=1000000001",
    "model.lowpass.width=4096", "model.lowpass.stages=1000000", "model.lowpass.growth=1e300",
    "model.lowpass.growth=1e30",
    "model.lowpass.depth=1000", "model.details={width: 4096, depth: 1000, receptive_field: 7}",
    "model.wavelet=../../x", "model.wavelet=1", "model.wavelet=dmey", "model.wavelet=gaus1", "model.channels=true",
    "model.channels=1.0", "model.ladders.details.steps=99999999999", "model.ladders.details.steps=1.5",
    "model.ladders.details.sigma_max=.inf", "model.ladders.details.sigma_max=.nan", "model.ladders.details.rho=0",
    "model.ladders.details.rho=-.inf", "model.ladders.details=3", "model.ladders.details=[1]",
    "model.ladders.details.sigma_min=true", "model.ladders.lowpass.solver=[]", "model.ladders.0=1",
    "model.ladders.details.sigma_max=1e400", "model.scale_networks.0.width=1.5", "model.scale_networks.9={}",
    "model.scale_networks.../x={}", "model.scale_networks.low={}", "training.steps=99999999999999999999",
    "training.steps=1e9", "training.batch_size=1000000000000", "training.accumulation=1000000000000",
    "training.learning_rate=1e400", "training.learning_rate=.nan", "training.learning_rate=-1",
    "training.warmup_steps=1000000000000000000000", "training.gradient_clip=.nan", "training.gradient_clip=.inf",
    "training.ema_power=.nan", "training.ema_power=-1", "training.ema_power=1e400",
    "training.low_repeats=1000000000000",
    "training.seed=1000000000000000000000000000000", "training.seed=-1", "training.keep_checkpoints=1e400",
    "training.scale_steps.low=true", "training.scale_steps=[1]", "training.scale_steps.low=.inf",
    "training.scale_steps.../../x=1", "training.scale_steps.low=99999999999999999999", "training.detail_crop=true",
    "training.detail_crop=16.0", "training.init=../../nowhere", "training.init=3", "training.save_dtype=[]",
    "training.log_every=10000000000000000000000000", "noise.image_min=nan", "noise.image_max=1e400",
    "noise.log_mean=.nan", "noise.log_mean=1e300", "noise.log_std=1e300", "noise.top_fraction=true", "=", "a=b", ".=1",
    "..=1", "model=1", "model=", "model.=1", "training.steps=!!int ''", "training.steps=!!bool x",
    "training.steps=&a [*a]",
    "training.steps=2024-99-99", "training.steps=" + "9" * 5000, "training.steps=0x" + "f" * 5000,
    "training." + "x" * 5000 + "=1", "training.steps.a.b.c=1", "training.steps=" + "[" * 3000, "__class__=1",
    "model.__init__=1", "training.steps=\x00", "training.steps=\udcff", "training.precision=\x1b[31m",
)  # fmt: skip


def hostile_config(number: int, chance: random.Random) -> tuple[str, bytes]:
    """What is wrong, and the YAML text."""
    names = list(CONFIG_TEXTS)
    if number < len(names):
        return names[number], CONFIG_TEXTS[names[number]]
    if chance.random() < 0.15:
        return "bytes", chance.choice([cut, flipped])(yaml.safe_dump(TINY).encode(), chance)
    done, mapping = changed(TINY, chance)
    return done, yaml.safe_dump(mapping).encode()


# --- cases -----------------------------------------------------------------------------------------------------------


def make_case(seed: int, index: int, place: Path, model: Path) -> Case:
    """Write the inputs of case `index` and say what to run.

    Args:
        seed: of all chance.
        index: 0, 1, ...; of kind `KINDS[index % len(KINDS)]`.
        place: an empty folder; inputs go into `in`, results shall go into `out`.
        model: a good model folder, which is copied where it is damaged.
    """
    (command, kind), number = KINDS[index % len(KINDS)], index // len(KINDS)
    chance = random.Random(f"{seed} {command} {kind} {number}")
    if command in ("upscale", "evaluate") and kind in PICTURE_KINDS:
        number += 7 * (1 + ("upscale", "evaluate").index(command))  # each command begins elsewhere in the corpus
    if kind in MODEL_KINDS or kind == "options":
        number = 5 * number + COMMANDS.index(command)
    inputs, out = place / "in", place / "out"
    inputs.mkdir(parents=True)
    if kind in PICTURE_KINDS:
        folder = inputs / "pictures"
        folder.mkdir()
        name, path = hostile_picture(kind, number, folder, chance)
        return _picture_case(command, kind, name, path, out, model, chance)
    if kind in MODEL_KINDS:
        copy = inputs / "model"
        shutil.copytree(model, copy)
        damage = hostile_weights if kind == "model weights" else hostile_settings
        name = damage(copy, number, chance)
        return _model_case(command, kind, name, copy, inputs, out, model, chance)
    if kind in ("configuration", "--set"):
        return _config_case(command, kind, number, inputs, out, model, chance)
    return _option_case(command, number, inputs, out, model, chance)


def _good_pictures(folder: Path, count: int, chance: random.Random) -> Path:
    folder.mkdir(exist_ok=True)
    for index in range(count):
        (folder / f"good{index}.png").write_bytes(encoded("PNG", random.Random(chance.getrandbits(32)), side=48))
    return folder


def _picture_case(
    command: str, kind: str, name: str, path: Path, out: Path, model: Path, chance: random.Random
) -> Case:
    quick = ["--model", str(model)]
    if command in ("denoise", "upscale"):
        result = out / "result.png"
        noise = ["--sigma", "0.1"] if command == "denoise" and chance.random() < 0.7 else []
        if os.path.isdir(path):
            return Case(command, kind, name, [command, str(path), *noise, *quick, "--out", f"{out}/"])
        return Case(command, kind, name, [command, str(path), *noise, *quick, "--out", str(result)], [result])
    if command == "evaluate":
        target = path if chance.random() < 0.5 else path.parent
        options = ["--no-bm3d", "--sigmas", "", "--factors", "2", *quick, "--out", str(out), "--crops", "0"]
        return Case(command, kind, name, [command, str(target), *options], [out / "evaluation.json"])
    config = path.parent.parent / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    if chance.random() < 0.5 and os.path.isdir(path.parent):
        _good_pictures(path.parent, 4, chance)
    arguments = [command, "--data", str(path.parent), "--config", str(config), "--out", str(out)]
    return Case(command, kind, name, arguments, [out / "model" / "model_index.json"])


def _model_case(
    command: str, kind: str, name: str, copy: Path, inputs: Path, out: Path, model: Path, chance: random.Random
) -> Case:
    if command == "sample":
        arguments = ["sample", "--model", str(copy), "--n", "1", "--steps", "1", "--out", str(out)]
        return Case(command, kind, name, arguments, [out / "sheet.png", out / "sample.json"])
    pictures = _good_pictures(inputs / "pictures", 4 if command == "train" else 1, chance)
    first = pictures / "good0.png"
    if command in ("denoise", "upscale"):
        result = out / "result.png"
        arguments = [command, str(first), "--model", str(copy), "--out", str(result)]
        return Case(command, kind, name, arguments, [result])
    if command == "evaluate":
        arguments = ["evaluate", str(first), "--no-bm3d", "--sigmas", "", "--factors", "2", "--crops", "0"]
        return Case(
            command, kind, name, [*arguments, "--model", str(copy), "--out", str(out)], [out / "evaluation.json"]
        )
    config = inputs / "tiny.yaml"
    config.write_text(yaml.safe_dump(TINY))
    start = chance.choice([["--init", str(copy)], ["--base", str(copy), "--scales", "0"]])
    arguments = ["train", "--data", str(pictures), "--config", str(config), "--out", str(out), *start]
    return Case(command, kind, name, arguments, [out / "model" / "model_index.json"])


def _config_case(
    command: str, kind: str, number: int, inputs: Path, out: Path, model: Path, chance: random.Random
) -> Case:
    if command == "evaluate":  # the configuration that a model folder says it was trained with
        copy = inputs / "model"
        shutil.copytree(model, copy)
        name, text = hostile_config(number, chance)
        (copy / "training.yaml").write_bytes(text)
        pictures = _good_pictures(inputs / "pictures", 2, chance)
        arguments = ["evaluate", "--model", str(copy), "--data", str(pictures), "--no-bm3d", "--sigmas", ""]
        arguments += ["--factors", "2", "--limit", "1", "--out", str(out)]
        return Case(command, kind, name, arguments, [out / "evaluation.json"])
    pictures = _good_pictures(inputs / "pictures", 3, chance)
    config = inputs / "some.yaml"
    arguments = ["train", "--dry-run", "--config", str(config), "--out", str(out), "--data", str(pictures)]
    if kind == "configuration":
        special = ("pipe", "folder", "zero-device", "missing", "broken-link")
        if number < len(special):
            name = special[number]
            path = special_file(name, inputs, chance)
            arguments[arguments.index(str(config))] = str(path)
            return Case(command, kind, name, arguments)
        name, text = hostile_config(number - len(special), chance)
        config.write_bytes(text)
        return Case(command, kind, name, arguments)
    config.write_text(yaml.safe_dump(TINY))
    if number < len(SETTINGS):
        setting = SETTINGS[number]
    else:
        path = ".".join(map(str, chance.choice(list(places(TINY)))))
        setting = f"{path}={chance.choice([*TEXTS, *map(str, NUMBERS)])}"
    return Case(command, kind, setting[:60], [*arguments, "--set", setting])


def _option_case(command: str, number: int, inputs: Path, out: Path, model: Path, chance: random.Random) -> Case:
    options = OPTIONS[command]
    option = options[number % len(options)]
    text = TEXTS[(number // len(options) * 11 + 3 * (number % len(options))) % len(TEXTS)]
    if option == "--out" and (not text.strip() or "/" in text or text == "-"):
        text = str(inputs / "pictures" / "good0.png" / "below.png")
    elif option in ("--out", "--data-dir"):
        text = str(out / text)
    name = f"{option} {text[:40]}"
    pictures = _good_pictures(inputs / "pictures", 4, chance)
    first = str(pictures / "good0.png")
    given: dict[str, str] = {"--model": str(model), "--out": str(out)}
    arguments: list[str] = []
    flags: list[str] = []
    if command == "sample":
        given |= {"--n": "1", "--steps": "1"}
    elif command in ("denoise", "upscale"):
        arguments, given["--out"] = [first], str(out / "result.png")
        if option in ("--samples", "--interval", "--steps", "--solver"):
            given |= {"--samples": "2", "--steps": "1"}
        if option == "--suffix":
            given["--out"] = f"{out}/"
    elif command == "evaluate":
        flags = ["--no-bm3d"]
        given |= {"--sigmas": "", "--factors": "2", "--limit": "1"}
        if option in ("--data", "--data-dir", "--kid"):
            given |= {"--data": str(pictures)}
        else:
            arguments = [str(pictures)]
    else:
        (inputs / "tiny.yaml").write_text(yaml.safe_dump(TINY))
        given = {"--out": str(out), "--config": str(inputs / "tiny.yaml"), "--data": str(pictures)}
        flags = ["--dry-run"] if option in ("--steps", "--config") else []
    given[option] = text
    words = [word for pair in given.items() for word in pair]
    return Case(command, "options", name, [command, *arguments, *flags, *words])


# --- attempts --------------------------------------------------------------------------------------------------------


def listing(place: Path) -> dict[str, str]:
    """What lies below a folder, with a digest of every ordinary file."""
    found = {}
    for folder, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = Path(folder) / name
            status = path.lstat()
            text = f"{stat.S_IFMT(status.st_mode):o}"
            if stat.S_ISREG(status.st_mode):
                text += hashlib.sha256(path.read_bytes()).hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                text += os.readlink(path)
            found[str(path.relative_to(place))] = text
    return found


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise `TooLong` in the main thread after so many seconds."""

    def ring(number: int, frame: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(arguments: list[str], seconds: float) -> tuple[int | None, str, str, str]:
    """Run `wavdiff` here with streams as strict as a terminal's; exit status (None: none), out, err, traceback."""
    from wavdiff.cli import main

    out = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    code: int | None = None
    crash = ""
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), alarm(seconds):
            main(arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except TooLong:
        crash = "TooLong"
    except BaseException:
        crash = traceback.format_exc()
    texts = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)]  # type: ignore[attr-defined]
    return code, texts[0], texts[1], crash


def attempt(case: Case, place: Path, seconds: float = 20.0, check: Callable[[Path], None] | None = None) -> Result:
    """Run a case whose inputs lie in `place`; what is found wrong is in the result's `defects`."""
    before = listing(place)
    code, out, err, crash = run(case.arguments, seconds)
    after = listing(place)
    result = Result(case.command, case.kind, case.name, code, err.strip())
    if crash == "TooLong":
        result.defects.append("time-out")
    elif crash or "Traceback (most recent" in err or "a bug in wavdiff" in err:
        result.defects.append("traceback")
        result.detail = crash or err
    if any(after.get(name) != digest for name, digest in before.items()):
        result.defects.append("input damaged")
    if result.defects:
        return result
    if code:
        left = sorted(set(after) - set(before))
        if left:
            result.defects.append("left over")
            result.detail = ", ".join(left)[:300]
        if not err.strip() or len(err.strip().splitlines()) > 2:
            result.defects.append("message")
            result.detail = err[-2000:]
    else:
        try:
            for path in case.results:
                _check_result(path)
        except Exception:
            result.defects.append("bad result")
            result.detail = traceback.format_exc()
    return result


def _check_result(path: Path) -> None:
    if path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
        return
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path) as image:
        image.load()


def main_process_note() -> str:
    """Why permissions are not tried, where they are not."""
    return "permissions are not tried: this is root, which may read everything" if os.geteuid() == 0 else ""


if __name__ == "__main__":
    sys.exit("this module is for benchmarks/fuzz.py and tests/cli/test_hostile.py")
