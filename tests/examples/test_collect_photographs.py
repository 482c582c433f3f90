"""The program that assembles photographs, on small packages of the real layout; no network, no dpkg."""

import gzip
import importlib
import io
import json
import os
import shutil
import struct
import sys
import tarfile
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import scene
from PIL import Image

from wavdiff.data import open_source
from wavdiff.system.errors import WavdiffError

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module("collect_photographs")
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def reading(program: ModuleType) -> ModuleType:
    return sys.modules["photograph_packages"]


# --- small packages ------------------------------------------------------------------------------------------------


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def shade(height: int, width: int, value: int) -> np.ndarray:
    """RGB that is quick to write, and tells one picture from another."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = (value, 255 - value, value // 2)
    pixels[: height // 3, : width // 2] //= 2
    return pixels


def resource_file(files: dict[str, bytes], version: int = 3, packed: tuple[str, ...] = ()) -> bytes:
    """A Qt binary resource file, as `rcc --binary` lays it out; `packed` names are compressed."""
    folders: dict[str, list[str]] = {"": []}
    for path in files:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            here, parent = "/".join(parts[:depth]), "/".join(parts[: depth - 1])
            if here not in folders[parent]:
                folders[parent].append(here)
                if depth < len(parts):
                    folders.setdefault(here, [])
    order = [""]  # the children of a folder stand side by side
    for place in order:
        order.extend(folders.get(place, []))
    data, names, tree = b"", b"", b""
    for path in order:
        name = path.rpartition("/")[2]
        name_at = len(names)
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        if path in folders:
            children = folders[path]
            tree += struct.pack(">IHII", name_at, 2, len(children), order.index(children[0]) if children else 0)
        else:
            content = files[path]
            if path in packed:
                content = struct.pack(">I", len(content)) + zlib.compress(content)
            tree += struct.pack(">IHHHI", name_at, int(path in packed), 0, 0, len(data))
            data += struct.pack(">I", len(content)) + content
        tree += b"\0" * (8 if version > 1 else 0)
    head = 20 if version < 3 else 24
    offsets = struct.pack(">IIII", version, head + len(data) + len(names), head, head + len(data))
    return (b"qres" + offsets).ljust(head, b"\0") + data + names + tree


ERASE = "gcompris/src/activities/erase/resource"
README = b"""Copyright: The Authors, 2022
License: CC-BY-SA 4.0
Files:

Copyright: A | B
Source: https://example.org/File:bee.jpg
License: CC-BY-2.0
Comments: cropping
Files: bee.webp

Copyright: C
License:
Public Domain
Source: https://example.org/crab
Files:
crab.webp
owl.webp

"""
NATURE_COPYRIGHT = b"""Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2000, Everyone
License: GPL-3+

Files: nature/Aqua.jpg
       nature/Wood.jpg
Copyright: 2008, Charles <c@example.org>
           2009, Hylke
License: GPL-2+
Comment: Copyright holders are found in AUTHORS file.

License: GPL-2+
 This package is free software:
 Files: nothing.
"""


def package_files() -> dict[str, dict[str, bytes]]:
    """The files of the three packages by name and path: 10 photographs that are kept, and more that are not."""
    doc = "usr/share/doc"
    webp = {"kind": "WEBP", "lossless": True, "method": 0}
    erase = resource_file(
        {
            f"{ERASE}/bee.webp": encoded(shade(500, 501, 10), **webp),
            f"{ERASE}/README": README,
            f"{ERASE}/crab.webp": encoded(shade(1001, 1401, 20), **webp),  # odd sides: 701 x 501
            f"{ERASE}/small.webp": encoded(shade(499, 600, 30), **webp),
            f"{ERASE}/broken.webp": b"RIFF....WEBP",
            f"{ERASE}/background.svg": b"<svg/>",
            "gcompris/src/activities/erase/erase.webp": encoded(shade(500, 500, 40), **webp),
        },
        packed=(f"{ERASE}/README",),
    )
    activities = "gcompris/src/activities"
    places = {
        "explore_farm_animals": "resource/animals/owl.webp",
        "explore_monuments": "resource/egypt/redPyramid.webp",
        "explore_world_animals": "resource/animals/owl.webp",
        "explore_world_music": "resource/music/japan.webp",
    }
    resources = {
        f"usr/share/gcompris-qt/rcc/{name}.rcc": resource_file(
            {f"{activities}/{name}/{place}": encoded(shade(500, 500, 50 + index), **webp)}, version=1 + index % 3
        )
        for index, (name, place) in enumerate(places.items())
    }
    wallpapers = "usr/share/wallpapers"
    about = {"KPlugin": {"Authors": [{"Name": "Risto"}, {"Name": "Ian"}], "License": "LGPLv3"}}
    return {
        "gcompris-qt-data": {
            "usr/share/gcompris-qt/rcc/erase.rcc": erase,
            "usr/share/gcompris-qt/rcc/core.rcc": b"artwork",
            **resources,
            f"{doc}/gcompris-qt-data/changelog.Debian.gz": gzip.compress(
                b"gcompris-qt (9.1-2) unstable; urgency=low\n"
            ),
            f"{doc}/gcompris-qt-data/copyright": b"Files: *\nCopyright: Many\nLicense: GPL-3+\n",
        },
        "mate-backgrounds": {
            "usr/share/backgrounds/mate/nature/Aqua.jpg": encoded(shade(500, 700, 60), "JPEG"),
            "usr/share/backgrounds/mate/nature/Storm.jpg": encoded(shade(500, 700, 70), "JPEG"),
            "usr/share/backgrounds/mate/abstract/Waves.jpg": encoded(shade(500, 700, 80), "JPEG"),
            f"{doc}/mate-backgrounds/copyright": NATURE_COPYRIGHT,
        },
        "plasma-workspace-wallpapers": {
            f"{wallpapers}/Kite/contents/images/2560x1600.jpg": encoded(shade(1000, 1600, 90), "JPEG"),
            f"{wallpapers}/Kite/metadata.json": json.dumps(about).encode(),
            f"{wallpapers}/Path/contents/images/2560x1600.jpg": encoded(shade(1000, 1600, 95), "JPEG"),
            f"{wallpapers}/Path/contents/images/1920x1080.jpg": encoded(shade(600, 800, 96), "JPEG"),
            f"{wallpapers}/Opal/contents/images/2560x1600.jpg": encoded(shade(1000, 1600, 97), "JPEG"),
            f"{doc}/plasma-workspace-wallpapers/copyright": b"Files: *\nCopyright: 2014 KDE\nLicense: GPL-2+\n",
        },
    }


KEPT = [
    "train/erase_bee",
    "train/erase_crab",
    "train/explore_farm_animals_animals_owl",
    "train/explore_monuments_egypt_redPyramid",
    "train/explore_world_animals_animals_owl",
    "train/explore_world_music_music_japan",
    "train/mate_Aqua",
    "train/mate_Storm",
    "train/plasma_Kite",
    "val/plasma_Path",
]


def debian_archive(files: dict[str, bytes], compression: str = "xz") -> bytes:
    """A .deb: an `ar` archive of a version, a control archive and the data."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{compression}") as members:
        for path, content in {**files, "../escape/usr/share/backgrounds/mate/nature/no.jpg": b"no"}.items():
            entry = tarfile.TarInfo(f"./{path}")
            entry.size = len(content)
            members.addfile(entry, io.BytesIO(content))
    archive = b"!<arch>\n"
    for name, content in {
        "debian-binary": b"2.0\n",
        "control.tar.xz": b"odd",
        f"data.tar.{compression}": stream.getvalue(),
    }.items():
        archive += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        archive += content + b"\n" * (len(content) % 2)
    return archive


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three .deb files."""
    folder = tmp_path_factory.mktemp("debs")
    for name, files in package_files().items():
        (folder / f"{name}_1.0_all.deb").write_bytes(debian_archive(files, "gz" if name[0] == "m" else "xz"))
    return folder


@pytest.fixture(scope="module")
def collected(program: ModuleType, archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the program makes of them."""
    out = tmp_path_factory.mktemp("collected") / "deeper" / "photographs"
    assert program.main([str(out), "--packages", str(archives)]) == 0
    return out


def pictures_of(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.relative_to(folder).with_suffix("").as_posix(): np.asarray(Image.open(path))
        for path in sorted(folder.rglob("*.png"))
    }


# --- packages ------------------------------------------------------------------------------------------------------


def test_the_photographs_of_the_packages(collected: Path) -> None:
    pictures = pictures_of(collected)
    assert sorted(pictures) == sorted(KEPT)
    assert sorted(path.name for path in collected.iterdir()) == ["CREDITS.md", "train", "val"]
    np.testing.assert_array_equal(pictures["train/erase_bee"], shade(500, 501, 10))  # as it was
    crab = shade(1001, 1401, 20).astype(int)
    halves = (crab[:1000:2, :1400:2] + crab[1::2, :1400:2] + crab[:1000:2, 1::2] + crab[1::2, 1::2] + 2) // 4
    assert pictures["train/erase_crab"].shape == (501, 701, 3)
    np.testing.assert_array_equal(pictures["train/erase_crab"][:500, :700], halves)
    assert pictures["train/plasma_Kite"].shape == (500, 800, 3)


def test_training_finds_the_split(collected: Path) -> None:
    assert len(open_source(str(collected), "train", channels=3)) == 9
    assert len(open_source(str(collected), "heldout", channels=3)) == 1


def test_the_credits(collected: Path) -> None:
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
        for line in (collected / "CREDITS.md").read_text(encoding="utf-8").splitlines()
        if len(cells := line.replace("\\|", "/").split("|")) == 7
    }
    assert [name.removesuffix(".png") for name in rows if name.endswith(".png")] == KEPT
    assert rows["train/erase_bee.png"] == [
        "gcompris-qt-data 9.1-2: erase/resource/bee.webp",
        "A / B",
        "CC-BY-2.0",
        "https://example.org/File:bee.jpg (cropping)",
    ]
    assert rows["train/erase_crab.png"][1:] == ["C", "Public Domain", "https://example.org/crab"]
    assert rows["train/explore_world_music_music_japan.png"][1:] == ["", "not stated; the package: GPL-3+", ""]
    assert rows["train/mate_Aqua.png"] == [
        "mate-backgrounds: nature/Aqua.jpg",
        "2008, Charles <c@example.org>; 2009, Hylke",
        "GPL-2+",
        "",
    ]
    assert rows["train/mate_Storm.png"][1:3] == ["2000, Everyone", "GPL-3+"]
    assert rows["train/plasma_Kite.png"][1:3] == ["Risto, Ian; 2014 KDE", "GPL-2+ (Debian), LGPLv3 (metadata.json)"]
    assert rows["val/plasma_Path.png"][1:3] == ["2014 KDE", "GPL-2+"]


def test_unpacked_packages_give_the_same(program: ModuleType, collected: Path, tmp_path: Path) -> None:
    for index, files in enumerate(package_files().values()):
        for path, content in files.items():
            target = (
                tmp_path / "unpacked" / ("" if index == 0 else str(index)) / path
            )  # one at /, the others in folders
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    assert program.main([str(tmp_path / "out"), "--packages", str(tmp_path / "unpacked")]) == 0
    again = pictures_of(tmp_path / "out")
    assert {name: picture.tobytes() for name, picture in again.items()} == {
        name: picture.tobytes() for name, picture in pictures_of(collected).items()
    }
    assert (tmp_path / "out" / "CREDITS.md").read_bytes() == (collected / "CREDITS.md").read_bytes()


def test_what_is_said_about_other_versions(
    program: ModuleType, archives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program.main([str(tmp_path / "out"), "--packages", str(archives)])
    said = capsys.readouterr()
    assert "mate-backgrounds_1.0_all.deb: not the version that the photos model was trained on" in said.err
    assert "plasma-workspace-wallpapers: FallenLeaf is missing" in said.err
    assert "left out: gcompris-qt-data 9.1-2: erase/resource/broken.webp: " in said.err and ".spool" not in said.err
    assert "9 photographs for training, 1 for validation" in said.out


def test_a_second_run_does_nothing(
    program: ModuleType, collected: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)  # nothing is looked for
    before = {path: path.stat().st_mtime_ns for path in collected.rglob("*")}
    assert program.main([str(collected)]) == 0
    assert "is there already, with 10 photographs" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in collected.rglob("*")} == before


# --- own photographs -----------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """13 pictures: of mixed modes, turned, small, damaged, hidden, of names that meet."""
    folder = tmp_path / "own"
    (folder / "a" / ".hidden").mkdir(parents=True)
    for index in range(7):
        Image.fromarray(shade(500, 520, index)).save(folder / f"{index}.png")
    Image.fromarray(scene(500, 510, 1)).save(folder / "gray.png")
    turned = Image.fromarray(shade(500, 640, 100))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif, quality=95)
    Image.fromarray(shade(500, 500, 101)).save(folder / "a" / "b.png")
    Image.fromarray(shade(500, 500, 102)).save(folder / "a_B.tiff")
    Image.fromarray(shade(499, 900, 103)).save(folder / "small.png")
    Image.fromarray(shade(1200, 998 + 600, 104)).save(folder / "wide.png")
    Image.fromarray(shade(500, 500, 105)).save(folder / "a" / ".hidden" / "no.png")
    (folder / "damaged.jpg").write_bytes(encoded(shade(500, 500, 106), "JPEG")[:900])
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_own_photographs(program: ModuleType, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([str(tmp_path / "out"), "--from", str(own)]) == 0
    pictures = pictures_of(tmp_path / "out")
    names = [f"{index}" for index in range(7)] + ["a_b", "a_B_2", "gray", "turned", "wide"]
    assert sorted(name.partition("/")[2] for name in pictures) == sorted(names)
    assert [name for name in pictures if name.startswith("val/")] == ["val/gray"]  # the tenth
    assert all(picture.ndim == 3 and picture.shape[2] == 3 for picture in pictures.values())
    assert pictures["train/turned"].shape == (640, 500, 3)  # upright
    assert pictures["train/wide"].shape == (600, 799, 3)
    np.testing.assert_array_equal(pictures["val/gray"], np.repeat(scene(500, 510, 1)[..., None], 3, axis=2))
    said = capsys.readouterr().err
    assert "left out" in said and "damaged.jpg" in said and said.count("\n") == 1
    assert "not stated" in (tmp_path / "out" / "CREDITS.md").read_text()


def test_few_photographs_still_have_one_for_validation(program: ModuleType, own: Path, tmp_path: Path) -> None:
    for path in own.iterdir():
        if path.name not in ("0.png", "1.png", "2.png"):
            path.unlink() if path.is_file() else shutil.rmtree(path)
    program.collect(tmp_path / "out", own=own)
    assert list(pictures_of(tmp_path / "out")) == ["train/0", "train/1", "val/2"]
    assert "| val/2.png |" in (tmp_path / "out" / "CREDITS.md").read_text()


def test_both(program: ModuleType, archives: Path, own: Path, tmp_path: Path) -> None:
    program.collect(tmp_path / "out", packages=archives, own=own)
    pictures = pictures_of(tmp_path / "out")
    assert len(pictures) == 22 and set(KEPT) <= set(pictures)  # the packages come first: their split stays


# --- what goes wrong -----------------------------------------------------------------------------------------------


def complains(program: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The message of a run that fails."""
    assert program.main([str(argument) for argument in arguments]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("collect_photographs: ")
    return said


def test_nothing_is_left_of_a_run_that_fails(
    program: ModuleType, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "credits", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        program.main([str(tmp_path / "out"), "--from", str(own)])
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_other_things_in_the_place(
    program: ModuleType, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    assert "name another one" in complains(program, capsys, tmp_path / "mine", "--from", own)
    assert "name another one" in complains(program, capsys, tmp_path / "mine" / "thesis.txt", "--from", own)
    (tmp_path / "empty").mkdir()
    assert program.main([str(tmp_path / "empty"), "--from", str(own)]) == 0


def test_no_folder_and_no_photographs(
    program: ModuleType, archives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    assert "no such folder" in complains(program, capsys, out, "--from", tmp_path / "nowhere")
    assert "no such folder" in complains(program, capsys, out, "--packages", tmp_path / "nowhere")
    assert "no photograph of at least 500 pixels" in complains(program, capsys, out, "--from", empty)
    said = complains(program, capsys, out, "--packages", empty)
    assert "gcompris-qt-data, mate-backgrounds, plasma-workspace-wallpapers not found" in said and "http://" in said
    shutil.copy(archives / "mate-backgrounds_1.0_all.deb", empty)
    said = complains(program, capsys, out, "--packages", empty)
    assert "gcompris-qt-data, plasma-workspace-wallpapers not found" in said and "/m/mate" not in said
    for package in ("gcompris-qt-data", "plasma-workspace-wallpapers"):
        shutil.copy(archives / f"{package}_1.0_all.deb", empty)
    whole = (archives / "mate-backgrounds_1.0_all.deb").read_bytes()
    ruined = bytearray(whole)
    ruined[-len(whole) // 2 :] = bytes(len(whole) - len(whole) // 2)
    unknown = whole.replace(b"data.tar.gz ", b"data.tar.zst")
    for content in (b"!<arch>\nnonsense", b"PK", whole[: len(whole) // 2], bytes(ruined), unknown):
        (empty / "mate-backgrounds_1.0_all.deb").write_bytes(content)
        assert program.main([str(out), "--packages", str(empty)]) == 1
        assert "mate-backgrounds_1.0_all.deb: cannot be unpacked" in capsys.readouterr().err
    assert not out.exists()


def test_without_apt(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    said = complains(program, capsys, tmp_path / "out")
    assert "there is no apt-get here" in said and "--packages FOLDER" in said and said.count("http://") == 3


@pytest.mark.skipif(os.name != "posix", reason="apt-get is a shell script here")
def test_downloading(
    program: ModuleType,
    archives: Path,
    collected: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An apt-get of our own: it has no network until its lists are updated, and none at all in the end."""
    apt = tmp_path / "bin" / "apt-get"
    apt.parent.mkdir()
    apt.write_text(
        f"""#!/bin/sh
if [ "$1" = update ]; then touch "{tmp_path}/updated"; exit 0; fi
if [ -e "{tmp_path}/updated" ] && [ ! -e "{tmp_path}/broken" ]; then cp "{archives}"/*.deb .; exit 0; fi
echo "W: a warning" >&2; echo "E: Unable to locate package" >&2; exit 100
"""
    )
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apt.parent}{os.pathsep}{os.environ['PATH']}")
    assert program.main([str(tmp_path / "out")]) == 0
    assert sorted(pictures_of(tmp_path / "out")) == sorted(KEPT)
    (tmp_path / "broken").touch()
    capsys.readouterr()
    said = complains(program, capsys, tmp_path / "other")
    assert "(E: Unable to locate package)" in said and said.count("http://") == 3


# --- resource files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2, 3])
def test_resource_files(reading: ModuleType, version: int) -> None:
    files = {"a/b/ü.txt": b"one", "a/c": b"", "d": bytes(range(256)) * 9}
    blob = resource_file(files, version, packed=("d",))
    assert reading.qt_resources(blob, "x") == {f"/{name}": content for name, content in files.items()}


def test_damaged_resource_files(reading: ModuleType) -> None:
    blob = resource_file({"a/b": b"content", "c": b"more"}, packed=("a/b",))
    with pytest.raises(WavdiffError, match="x.rcc: is no Qt resource file"):
        reading.qt_resources(b"PK" + blob, "x.rcc")
    for length in range(len(blob) - 8):  # the last 8 bytes are a time
        with pytest.raises(WavdiffError, match="is no Qt resource file that can be read"):
            reading.qt_resources(blob[:length], "x.rcc")
    loop = bytearray(blob)
    (tree,) = struct.unpack_from(">I", blob, 8)
    loop[tree + 22 + 10 : tree + 22 + 14] = struct.pack(">I", 0)  # a folder that is its own grandparent
    with pytest.raises(WavdiffError, match="holds itself"):
        reading.qt_resources(bytes(loop), "x.rcc")
