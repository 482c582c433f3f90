"""The house as it is said to be: its picture, the size of its pieces, the order of its rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import wavdiff

REPOSITORY = Path(__file__).parents[1]
PACKAGE = Path(wavdiff.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "weights" not in path.parts)


def test_the_picture_is_drawn_from_the_imports_of_now() -> None:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "docs" / "draw_architecture.py", "--check"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_no_file_and_no_class_is_too_large_to_be_read_at_once() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 320, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                assert (node.end_lineno or 0) - node.lineno + 1 <= 200, f"{path}: {node.name}"


def test_a_name_of_a_file_says_which_it_is() -> None:
    """Twice only where it is the name of a role that every family or request has."""
    names = [path.name for path in FILES]
    roles = {"__init__.py", "__main__.py", "config.py", "family.py", "model.py", "request.py"}
    assert not {name for name in names if names.count(name) > 1} - roles


def test_thirteen_rooms() -> None:
    rooms = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or any(path.rglob("*.py"))]
    rooms.remove(PACKAGE / "__main__.py")  # a door
    assert len(rooms) <= 13
