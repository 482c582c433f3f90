"""Pictures of `wavdiff page` for the documentation, in a laptop's and a telephone's window: docs/images/page*.png.

Needs pip install "wavdiff[page]" playwright, and Chromium (Debian: apt install chromium).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from wavdiff.adapters.gradio import serving

HERE = Path(__file__).parent
PICTURE = HERE.parent / "examples" / "pictures" / "noisy.png"
WINDOWS = {"page": (1280, 1000), "page-telephone": (390, 1480)}


def main() -> None:
    """Take the pictures."""
    with serving() as address, sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, (width, height) in WINDOWS.items():
            page = browser.new_context(viewport={"width": width, "height": height}).new_page()
            page.goto(address)
            page.set_input_files("#file input[type=file]", str(PICTURE))
            page.wait_for_function("document.querySelector('#noise textarea').value")
            page.click("#start")
            page.wait_for_function("document.querySelector('#status textarea').value.startsWith('done')")
            page.wait_for_timeout(1000)  # the handle of the slider moves to its place
            path = HERE / "images" / f"{name}.png"
            page.screenshot(path=path)
            with Image.open(path) as image:
                image.convert("RGB").quantize(255, dither=Image.Dither.NONE).save(path, optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
