"""The pictures that ship are what the demonstration makes of a photograph in the public domain."""

import importlib.util
import sys
from pathlib import Path

import pytest

from wavdiff.images import load_image

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["noisy", "small"])
def test_a_picture_that_ships_can_be_made_again(name: str) -> None:
    pytest.importorskip("skimage")
    specification = importlib.util.spec_from_file_location("demo", EXAMPLES / "demo.py")
    assert specification is not None and specification.loader is not None
    demo = sys.modules["demo"] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(demo)
    expected = demo.parts_that_ship()[name].clamp(-1, 1)
    found = load_image(EXAMPLES / "pictures" / f"{name}.png").pixels
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() * 127.5) <= 0.51  # rounded to 8 bits
