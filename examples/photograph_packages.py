"""The photographs in three Debian packages: what they hold, whose it is, and how to get it.

    gcompris-qt-data               Qt resource files with WebP pictures, and READMEs with the author and licence of each
    mate-backgrounds               JPEG files; Debian's copyright file names the author and licence of each
    plasma-workspace-wallpapers    JPEG files; the author is in a metadata.json beside each

Nothing but Python is needed to read them: not apt-get (except to download), nor dpkg, nor Qt.
"""

import fnmatch
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wavdiff.system.errors import WavdiffError

MIRROR = "http://deb.debian.org/debian/pool/main"


@dataclass(frozen=True)
class Package:
    """A Debian package with photographs: where it is to be had, and where in it they lie."""

    name: str
    file: str
    sha256: str
    photographs: str
    wanted: tuple[str, ...]

    @property
    def address(self) -> str:
        """Where to download it by hand."""
        return f"{MIRROR}/{self.file}"


GCOMPRIS = Package(
    "gcompris-qt-data",
    "g/gcompris-qt/gcompris-qt-data_3.1-2_all.deb",
    "e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
    "usr/share/gcompris-qt/rcc",
    ("erase.rcc", "explore_*.rcc"),
)
MATE = Package(
    "mate-backgrounds",
    "m/mate-backgrounds/mate-backgrounds_1.26.0-1_all.deb",
    "7bf4c2209f34b4f61ba6d24c8b58c28b361e82e4b943aae6d42c030169af9e04",
    "usr/share/backgrounds/mate/nature",
    ("*.jpg",),
)
PLASMA = Package(
    "plasma-workspace-wallpapers",
    "p/plasma-workspace-wallpapers/plasma-workspace-wallpapers_5.27.5-2_all.deb",
    "32cd18b71c8c938a18b3b351f217c02ac590e323caa3cf322fbb875ce8892f8b",
    "usr/share/wallpapers",
    ("*/contents/images/2560x1600.jpg", "*/metadata.json"),
)
PACKAGES = (GCOMPRIS, MATE, PLASMA)

# Photographs among the pictures of the packages; the rest is artwork.
GCOMPRIS_RESOURCES = {
    "erase": "resource",
    "explore_farm_animals": "resource/animals",
    "explore_monuments": "resource",
    "explore_world_animals": "resource/animals",
    "explore_world_music": "resource/music",
}
PLASMA_TITLES = (
    "BytheWater",
    "ColdRipple",
    "ColorfulCups",
    "DarkestHour",
    "EveningGlow",
    "FallenLeaf",
    "Grey",
    "Kite",
    "OneStandsOut",
    "Path",
    "summer_1am",
)


@dataclass(frozen=True)
class Photograph:
    """A photograph to be taken, and what is known about it. `content` is a file, or the bytes of one."""

    name: str
    content: Path | bytes
    origin: str
    copyright: str = ""
    licence: str = ""
    source: str = ""


# --- what the packages hold ----------------------------------------------------------------------------------------


def qt_resources(blob: bytes, name: str) -> dict[str, bytes]:
    """The files of a Qt binary resource file by path, in the file's own order.

    The file is "qres", then big-endian 32-bit numbers: version, and the offsets of tree, data and names. A node of the
    tree has 14 bytes, or 22 from version 2 on: name, flags, then for a folder (flag 2) the number of children and the
    first one, else two 16-bit numbers and the place of its data. Data: length, bytes (flag 1: zlib after 4 bytes).
    Names: length, hash, UTF-16.

    Raises:
        WavdiffError: another kind of file, or a damaged one.
    """
    files: dict[str, bytes] = {}

    def walk(index: int, parent: str) -> None:
        node = tree + index * size
        name_at, flags = struct.unpack_from(">IH", blob, node)
        path = parent
        if index:
            (length,) = struct.unpack_from(">H", blob, names + name_at)
            path = f"{parent}/{blob[names + name_at + 6 : names + name_at + 6 + 2 * length].decode('utf-16-be')}"
        if flags & 2:
            count, first = struct.unpack_from(">II", blob, node + 6)
            if first <= index and count:
                raise ValueError("a folder that holds itself")
            for child in range(first, first + count):
                walk(child, path)
            return
        (place,) = struct.unpack_from(">I", blob, node + 10)
        (length,) = struct.unpack_from(">I", blob, data + place)
        content = blob[data + place + 4 : data + place + 4 + length]
        if len(content) < length or flags & 4:
            raise ValueError(f"{path} is cut off, or packed in a way that is not known here")
        files[path] = zlib.decompress(content[4:]) if flags & 1 else content

    try:
        if blob[:4] != b"qres":
            raise ValueError("it does not begin with 'qres'")
        version, tree, data, names = struct.unpack_from(">IIII", blob, 4)
        size = 14 if version == 1 else 22
        walk(0, "")
    except (struct.error, ValueError, zlib.error, RecursionError) as error:
        raise WavdiffError(f"{name}: is no Qt resource file that can be read ({error})") from error
    return files


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a file like Debian's `copyright`: fields by name; lines without a name continue a field."""
    for block in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        last = ""
        for line in block.splitlines():
            match = re.match(r"([A-Z][A-Za-z-]*):(.*)", line)
            if match:
                last = match[1]
                fields[last] = match[2].strip()
            elif last:
                fields[last] = f"{fields[last]}\n{line.strip()}".strip()
        yield fields


class UnpackedPackages:
    """Folders in which packages are unpacked, each as it would lie under /."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = list(roots)

    def has(self, package: Package) -> bool:
        """Whether a package is here."""
        return any((root / package.photographs).is_dir() for root in self.roots)

    def folder(self, package: Package) -> Path:
        """Where the photographs of a package lie."""
        return next(root / package.photographs for root in self.roots if (root / package.photographs).is_dir())

    def document(self, package: Package, name: str) -> bytes | None:
        """A file of the package's documentation, or None."""
        for root in self.roots:
            path = root / "usr/share/doc" / package.name / name
            if path.is_file():
                return path.read_bytes()
        return None

    def title(self, package: Package) -> str:
        """Name and version."""
        packed = self.document(package, "changelog.Debian.gz")
        first = gzip.decompress(packed).decode("utf-8", "replace").splitlines()[0] if packed else ""
        version = re.search(r"\(([^)]+)\)", first)
        return f"{package.name} {version[1]}" if version else package.name

    def licence(self, package: Package, path: str) -> tuple[str, str]:
        """(copyright, licence) of a file of the source package, as its Debian copyright file says; the last match."""
        found = ("", "")
        for fields in paragraphs((self.document(package, "copyright") or b"").decode("utf-8", "replace")):
            if any(fnmatch.fnmatchcase(path, pattern) for pattern in fields.get("Files", "").split()):
                licence = fields.get("License", "").partition("\n")[0]
                found = (fields.get("Copyright", ""), licence)
        return found


def gcompris_photographs(packages: UnpackedPackages) -> Iterator[Photograph]:
    """Photographs from Wikimedia Commons; a README beside them says whose they are."""
    folder = packages.folder(GCOMPRIS)
    for activity, place in GCOMPRIS_RESOURCES.items():
        path = folder / f"{activity}.rcc"
        if not path.is_file():
            print(f"{GCOMPRIS.name}: {activity}.rcc is missing; is it another version?", file=sys.stderr)
            continue
        files = qt_resources(path.read_bytes(), str(path))
        beside = next((name for name in files if name.endswith(f"/{activity}/{place}/README")), "")
        known: dict[str, dict[str, str]] = {}
        for fields in paragraphs(files.get(beside, b"").decode("utf-8", "replace")):
            known |= {f"{beside.removesuffix('README')}{name}": fields for name in fields.get("Files", "").split("\n")}
        for name, content in files.items():
            if f"/{activity}/{place}/" not in name or not name.lower().endswith((".webp", ".jpg", ".png")):
                continue
            inside = name.rpartition("/activities/")[2]
            fields = known.get(name, {})
            if not fields:
                licence = packages.licence(GCOMPRIS, f"src/activities/{inside}")[1]
                fields = {"License": f"not stated; the package: {licence}"} if licence else {}
            changes = f"({fields['Comments']})" if fields.get("Comments") else ""
            yield Photograph(
                Path(inside.replace("/resource/", "/").replace("/", "_")).stem,
                content,
                f"{packages.title(GCOMPRIS)}: {inside}",
                fields.get("Copyright", ""),
                fields.get("License", ""),
                f"{fields.get('Source', '')} {changes}".strip(),
            )


def mate_photographs(packages: UnpackedPackages) -> Iterator[Photograph]:
    """Photographs of nature from the MATE desktop; the Debian copyright file says whose they are."""
    folder = packages.folder(MATE)
    for path in sorted(folder.glob("*.jpg")):
        copyright_, licence = packages.licence(MATE, f"nature/{path.name}")
        yield Photograph(f"mate_{path.stem}", path, f"{packages.title(MATE)}: nature/{path.name}", copyright_, licence)


def plasma_photographs(packages: UnpackedPackages) -> Iterator[Photograph]:
    """Wallpapers of KDE; each has its author in a file of its own, which also names a licence."""
    folder = packages.folder(PLASMA)
    for title in PLASMA_TITLES:
        path = folder / title / "contents/images/2560x1600.jpg"
        if not path.is_file():
            print(f"{PLASMA.name}: {title} is missing; is it another version?", file=sys.stderr)
            continue
        copyright_, licence = packages.licence(PLASMA, f"{title}/contents/images/2560x1600.jpg")
        try:
            about = json.loads((folder / title / "metadata.json").read_bytes())["KPlugin"]
            authors = ", ".join(author["Name"] for author in about["Authors"])
            stated = about.get("License", "")
        except (OSError, ValueError, KeyError, TypeError):
            authors = stated = ""
        yield Photograph(
            f"plasma_{title}",
            path,
            f"{packages.title(PLASMA)}: {title}",
            "; ".join(text for text in (authors, copyright_) if text),
            f"{licence} (Debian), {stated} (metadata.json)" if stated else licence,
        )


def package_photographs(packages: UnpackedPackages) -> Iterator[Photograph]:
    """All of them, in an order that depends on the packages alone: it decides about the split."""
    yield from gcompris_photographs(packages)
    yield from mate_photographs(packages)
    yield from plasma_photographs(packages)


# --- getting the packages ------------------------------------------------------------------------------------------


UNPACKING: dict[str, Callable[[bytes], bytes]] = {
    "data.tar.xz": lzma.decompress,
    "data.tar.gz": gzip.decompress,
    "data.tar": bytes,
}


def by_hand(missing: Sequence[Package]) -> str:
    """How to provide packages without apt-get."""
    addresses = "".join(f"\n  {package.address}" for package in missing)
    return f"download these files into a folder and pass it as --packages FOLDER:{addresses}"


def download(folder: Path) -> None:
    """Download the packages into `folder`, with the checks of apt-get.

    Raises:
        WavdiffError: no apt-get, no network, no such packages; says how to provide them by hand.
    """
    apt = shutil.which("apt-get")
    if apt is None:
        raise WavdiffError(f"there is no apt-get here; {by_hand(PACKAGES)}")
    names = [package.name for package in PACKAGES]
    # apt-get gives the download to a user of its own, who cannot write here; root may do it itself.
    command = [apt, "download", "-qq", "-o", "APT::Sandbox::User=root", *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:  # a system whose lists of packages are empty or old
        subprocess.run([apt, "update", "-qq"], capture_output=True)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise WavdiffError(f"apt-get cannot download the packages ({reason}); {by_hand(PACKAGES)}")


def unpack(archive: Path, package: Package, root: Path) -> None:
    """Unpack what is wanted of a .deb, without dpkg: it is an `ar` archive with a tar archive in it.

    Raises:
        WavdiffError: a damaged file, or a compression that Python cannot read.
    """
    patterns = [f"{package.photographs}/{name}" for name in package.wanted]
    patterns += [f"usr/share/doc/{package.name}/{name}" for name in ("copyright", "changelog.Debian.gz")]
    try:
        with open(archive, "rb") as file:
            with tarfile.open(fileobj=io.BytesIO(data_member(file)), mode="r:") as members:
                for member in members:
                    name = member.name.removeprefix("./")
                    wanted = any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
                    if member.isfile() and wanted and ".." not in name.split("/"):
                        content = members.extractfile(member)
                        assert content is not None
                        target = root / name
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(content.read())
            file.seek(0)
            if hashlib.file_digest(file, "sha256").hexdigest() != package.sha256:
                print(
                    f"{archive.name}: not the version that the photos model was trained on ({Path(package.file).name})",
                    file=sys.stderr,
                )
    except (OSError, EOFError, ValueError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        raise WavdiffError(
            f"{archive}: cannot be unpacked ({error}); if the file is whole, unpack it with `dpkg-deb -x FILE FOLDER` "
            "and pass the folder as --packages"
        ) from error


def data_member(file: io.BufferedReader) -> bytes:
    """The tar archive in an `ar` archive: 8 bytes of magic; its members have headers of 60 bytes and even lengths.

    It is unpacked as a whole, because that tells whether it is whole.
    """
    if file.read(8) != b"!<arch>\n":
        raise ValueError("it is no .deb")
    while (header := file.read(60))[58:] == b"`\n":
        name, length = header[:16].decode().strip(" /"), int(header[48:58])
        if not name.startswith("data.tar"):
            file.seek(length + length % 2, os.SEEK_CUR)
        elif name in UNPACKING:
            return UNPACKING[name](file.read(length))
        else:
            raise ValueError(f"{name} is packed in a way that is not known here")
    raise ValueError("it holds no data.tar")


def package_roots(folder: Path, scratch: Path) -> list[Path]:
    """Folders with unpacked packages: `folder`, those in it, and `scratch` with what its .deb files hold.

    Raises:
        WavdiffError: no such folder, or packages that are not there.
    """
    if not folder.is_dir():
        raise WavdiffError(f"--packages {folder}: no such folder")
    # os.path.isdir and not Path.is_dir: what must not be looked into is not it.
    roots = [folder, *sorted(path for path in folder.iterdir() if os.path.isdir(path / "usr/share"))]
    archives = {package: sorted(folder.glob(f"{package.name}_*.deb")) for package in PACKAGES}
    missing = [package for package in PACKAGES if not (archives[package] or UnpackedPackages(roots).has(package))]
    if missing:
        names = ", ".join(package.name for package in missing)
        raise WavdiffError(f"--packages {folder}: {names} not found, neither as .deb nor unpacked; {by_hand(missing)}")
    for package in PACKAGES:
        if archives[package]:
            print(f"unpacking {archives[package][-1].name} ...")
            unpack(archives[package][-1], package, scratch)
    return [scratch, *roots]
