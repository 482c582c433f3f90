"""The page: its work without a browser, and the page itself in Chromium, where that is installed."""

import importlib.util
import io
import re
import shlex
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import run_cli, scene
from PIL import Image

import wavdiff
from wavdiff.adapters import page_work
from wavdiff.adapters.page_work import BOTH, DENOISE, ENLARGE, Cancelled, Choice
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.system.errors import WavdiffError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed (extra page)"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="playwright is not installed (extra dev)"
    ),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)"),
]


def noisy(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    clean = scene(height, width, seed, channels)
    return (clean + np.random.default_rng(seed).normal(0, 20, clean.shape)).clip(0, 255).astype(np.uint8)


def saved(path: Path, array: np.ndarray, **options: Any) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture(scope="module")
def photos() -> WaveletCascade:
    loaded: WaveletCascade = wavdiff.load("photos")
    return loaded


# --- without a browser -----------------------------------------------------------------------------------------------

CHOICES = [
    Choice(),
    Choice(DENOISE, "25/255", 0.5, quality="good"),
    Choice(ENLARGE, factor=4),
    Choice(BOTH, "0.1", 0.8),
    Choice(DENOISE, "0.1", draws=2, seed=3),
]


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: " ".join(choice.options()) or "plain")
def test_the_command_that_is_shown_makes_the_same_file(
    choice: Choice, photos: WaveletCascade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(tmp_path / "my picture.png", noisy(40, 48), dpi=(300, 300))
    (tmp_path / "page").mkdir()
    told: list[tuple[float, str]] = []
    advance = lambda share, left: told.append((share, left))  # noqa: E731
    done = page_work.restore(photos, choice, source, tmp_path / "page", advance, lambda: False)
    assert told[-1][0] == 1 and all("left" in left for _, left in told)
    command = choice.command(source, done.written[0], "photos")
    monkeypatch.chdir(tmp_path)
    program, *arguments = shlex.split(command)
    assert program == "wavdiff" and run_cli(*arguments).code == 0
    for path in done.written:
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": "much"}, "auto; got 'much'"),
        ({"sigma": "25"}, "did you mean 25/255"),
        ({"draws": 1}, "at least 2"),
        ({"draws": 2, "quality": "best"}, "for means"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(WavdiffError, match=message):
        Choice(**settings).request()


def test_who_does_not_want_to_wait_leaves_nothing(photos: WaveletCascade, tmp_path: Path) -> None:
    source = saved(tmp_path / "a.png", noisy(40, 48))
    (tmp_path / "page").mkdir()
    with pytest.raises(Cancelled):
        page_work.restore(photos, Choice(), source, tmp_path / "page", lambda share, left: None, lambda: True)
    assert not list((tmp_path / "page").iterdir())


def test_what_is_said_of_noise(photos: WaveletCascade, tmp_path: Path) -> None:
    said = page_work.measured(photos, saved(tmp_path / "a.png", noisy(128, 128)))
    assert 15 < float(re.match(r"noise ([\d.]+)/255", said)[1]) < 25  # type: ignore[index]
    said = page_work.measured(photos, saved(tmp_path / "b.png", np.full((64, 64), 255, np.uint8)))
    assert "cannot be measured" in said or "no measurable noise" in said


def test_pictures_that_are_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_work, "MOST_PIXELS", 2_000_000)
    with pytest.raises(WavdiffError, match="1500x1400 pixels; the page takes at most 2 megapixels"):
        page_work.check_size(saved(tmp_path / "a.png", np.zeros((1400, 1500), np.uint8)))


def test_so_are_results(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.png", np.zeros((1000, 1000), np.uint8))
    page_work.check_size(source, Choice(ENLARGE, factor=4).times)
    with pytest.raises(WavdiffError, match="1000x1000 pixels enlarged to 8000x8000"):
        page_work.check_size(source, Choice(BOTH, factor=8).times)
    page_work.check_size(source, Choice(DENOISE, factor=8).times)


def test_a_large_picture_is_first_seen_coarse(photos: WaveletCascade, tmp_path: Path) -> None:
    large = page_work.pixels_of(saved(tmp_path / "a.png", noisy(600, 800)))
    for choice in (Choice(), Choice(DENOISE, "0.1"), Choice(ENLARGE)):
        coarse = page_work.coarse_result(photos, choice, large)
        assert coarse is not None and coarse.shape == (3, 150, 200)
    assert page_work.coarse_result(photos, Choice(), torch.zeros(3, 100, 500)) is None


def test_parts_are_shown_pixel_by_pixel() -> None:
    pixels = torch.linspace(-1, 1, 3 * 600 * 900).reshape(3, 600, 900)
    assert page_work.part(pixels, "whole", 0.2, 0.8) is pixels
    assert torch.equal(page_work.part(pixels, "100 %", 1, 0), pixels[:, :480, 420:])
    shown = page_work.part(pixels, "400 %", 0.5, 1)
    assert shown.shape == (3, 480, 480) and torch.equal(shown[:, ::4, ::4], pixels[:, 480:, 390:510])
    assert page_work.part(pixels[:, :50, :60], "400 %", 1, 1).shape == (3, 200, 240)
    assert page_work.part(torch.zeros(3, 40, 3200), "whole", 0, 0).shape == (3, 20, 1600)


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from wavdiff.adapters.gradio import serving

    with serving() as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    # Playwright's loop belongs to its thread, and other tests in this one have none of it.
    with sync_playwright() as tools:
        opened = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Visitor:
    """Somebody on the page, who sees what people see."""

    def __init__(self, browser: Any, address: str, width: int = 1366, height: int = 900) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector("#file")

    def drop(self, *paths: Path, where: str = "#file") -> None:
        self.page.set_input_files(f"{where} input[type=file]", [str(path) for path in paths])

    def wait(self, name: str, pattern: str) -> str:
        """Wait for what a box says."""
        script = f"new RegExp({pattern!r}).test(document.querySelector('{name} textarea').value)"
        self.page.wait_for_function(script)
        said: str = self.page.input_value(f"{name} textarea")
        return said

    def start(self) -> str:
        self.page.click("#start")
        return self.wait("#status", "^done")

    def download(self, name: str) -> tuple[str, bytes]:
        with self.page.expect_download() as waiting:
            self.page.click(f"{name} a[download]")
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()

    def error(self) -> str:
        return str(self.page.locator(".toast-body, [data-testid=toast-body]").first.inner_text())


@pytest.fixture
def visitor(browser: Any, address: str) -> Iterator[Visitor]:
    here = Visitor(browser, address)
    yield here
    here.context.close()


def browser_test(function: Any) -> Any:
    for mark in needs_browser:
        function = mark(function)
    return function


@browser_test
def test_a_picture_is_denoised_as_on_the_command_line(visitor: Visitor, tmp_path: Path) -> None:
    source = saved(tmp_path / "my picture.png", noisy(64, 80), dpi=(300, 300))
    visitor.drop(source)
    assert "white" in visitor.wait("#noise", "^noise")
    said = visitor.start()
    assert "noise" in said and str(tmp_path) not in said
    name, content = visitor.download("#result")
    assert name == "my picture_denoised.png"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        _, *arguments = shlex.split(visitor.wait("#command", "^wavdiff"))
        assert run_cli(*arguments).code == 0
    assert content == (tmp_path / name).read_bytes()
    assert all(url.startswith(("http://127.0.0.1", "data:", "blob:")) for url in visitor.asked)


@browser_test
def test_sixteen_bits_and_the_format_come_back(visitor: Visitor, tmp_path: Path) -> None:
    gray = (noisy(48, 56, 1, 1).astype(np.uint16) * 257) & 0xFFF0
    visitor.drop(saved(tmp_path / "deep.tif", gray))
    visitor.wait("#noise", ".")
    visitor.start()
    name, content = visitor.download("#result")
    with Image.open(io.BytesIO(content)) as image:
        assert name == "deep_denoised.tif" and image.format == "TIFF" and image.mode == "I;16"


@browser_test
def test_before_and_after_slide_and_zoom(visitor: Visitor, tmp_path: Path) -> None:
    visitor.drop(saved(tmp_path / "a.png", noisy(300, 400)))
    visitor.wait("#noise", "^noise")
    visitor.start()
    images = visitor.page.locator("#slider img")
    visitor.page.wait_for_function("document.querySelectorAll('#slider img').length >= 2")
    sources = [images.nth(k).get_attribute("src") for k in range(2)]
    assert sources[0] != sources[1]

    shown = "[...document.querySelectorAll('#slider img')].every(image => image.naturalWidth == {})"
    visitor.page.wait_for_function(shown.format(400))
    visitor.page.click("#zoom label:has-text('400 %')")
    visitor.page.wait_for_function(shown.format(480))
    before = visitor.page.locator("#slider").screenshot()
    box = visitor.page.locator("#slider img").first.bounding_box()
    visitor.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visitor.page.mouse.down()
    visitor.page.mouse.move(box["x"] + box["width"] / 5, box["y"] + box["height"] / 2, steps=5)
    visitor.page.mouse.up()
    assert visitor.page.locator("#slider").screenshot() != before


@browser_test
def test_a_picture_is_enlarged_and_denoised_before(visitor: Visitor, tmp_path: Path) -> None:
    visitor.drop(saved(tmp_path / "a.png", noisy(40, 48)))
    visitor.wait("#noise", ".")
    visitor.page.click("#action label:has-text('Denoise and enlarge')")
    visitor.page.fill("#sigma textarea", "20/255")
    assert "denoised input" in visitor.start()
    _, content = visitor.download("#result")
    with Image.open(io.BytesIO(content)) as image:
        assert image.size == (96, 80)
    visitor.wait("#command", "--denoise --sigma 20/255")


@browser_test
def test_draws_are_a_strip_with_their_spread(visitor: Visitor, tmp_path: Path) -> None:
    visitor.drop(saved(tmp_path / "a.png", noisy(24, 24)))
    visitor.wait("#noise", ".")
    visitor.page.fill("#sigma textarea", "0.1")
    assert not visitor.page.locator("#strip").is_visible()
    visitor.page.click("#draws-panel button")
    visitor.page.fill("#draws input[type=number]", "2")
    visitor.page.press("#draws input[type=number]", "Tab")
    assert "standard deviation" in visitor.start()
    visitor.page.wait_for_selector("#strip img")
    visitor.page.wait_for_function(f"document.querySelector('#strip img').naturalWidth == {2 * 24 + 3 * 2}")
    visitor.page.wait_for_selector("#spread img")


@browser_test
@pytest.mark.parametrize("content", [b"no picture at all", b"", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_garbage_is_said_in_one_line(visitor: Visitor, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.png").write_bytes(content)
    visitor.drop(tmp_path / "odd.png")
    said = visitor.error()
    assert "odd.png" in said and "/" not in said.replace("PGM/PPM", ""), said


@browser_test
def test_wrong_settings_are_said(visitor: Visitor, tmp_path: Path) -> None:
    visitor.page.click("#start")
    assert "drop a picture first" in visitor.error()
    visitor.drop(saved(tmp_path / "a.png", noisy(24, 24)))
    visitor.wait("#noise", ".")
    visitor.page.fill("#sigma textarea", "25")
    visitor.page.click("#start")
    visitor.page.wait_for_function("document.body.innerText.includes('did you mean 25/255')")


@browser_test
def test_two_visitors_get_their_own_results(browser: Any, address: str, tmp_path: Path) -> None:
    visitors = [Visitor(browser, address), Visitor(browser, address, 390, 844)]
    for number, visitor in enumerate(visitors):
        visitor.drop(saved(tmp_path / f"{number}.png", noisy(64, 64 + 16 * number, number)))
        visitor.wait("#noise", ".")
    for visitor in visitors:
        visitor.page.click("#start")
    for number, visitor in enumerate(visitors):
        visitor.wait("#status", "^done")
        name, content = visitor.download("#result")
        with Image.open(io.BytesIO(content)) as image:
            assert name == f"{number}_denoised.png" and image.size == (64 + 16 * number, 64)
        visitor.context.close()


@browser_test
def test_work_can_be_cancelled(visitor: Visitor, tmp_path: Path) -> None:
    visitor.drop(saved(tmp_path / "a.png", noisy(700, 900)))
    visitor.wait("#noise", "^noise")
    visitor.page.click("label:has-text('best')")
    visitor.page.click("#start")
    visitor.wait("#status", "left")
    visitor.page.click("#cancel")
    visitor.wait("#status", "^cancelled")
    assert visitor.page.locator("#result a[download]").count() == 0


@browser_test
def test_many_pictures_come_back_in_an_archive(visitor: Visitor, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "other").mkdir()
    files = [saved(tmp_path / name / "a.png", noisy(40, 40)) for name in (".", "other")]
    visitor.page.click("button[role=tab]:has-text('Many pictures')")
    visitor.drop(*files, tmp_path / "bad.png", where="#files")
    visitor.page.wait_for_function("document.querySelectorAll('#files a[download]').length == 3")
    visitor.page.click("#start-many")
    visitor.page.wait_for_selector("#archive a[download]")
    said = visitor.wait("#log", "3/3")
    assert "3/3 bad.png: not an image" in said.replace("bad.png: bad.png", "bad.png") and str(tmp_path) not in said
    _, content = visitor.download("#archive")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        pictures = sorted(name for name in archive.namelist() if not name.endswith("/"))
        assert pictures == ["2/a_denoised.png", "a_denoised.png"]


@browser_test
def test_new_images_have_their_seeds(visitor: Visitor) -> None:
    visitor.page.click("button[role=tab]:has-text('New images')")
    visitor.page.click("#model label:has-text('fashion-vdvae')")
    visitor.page.click("#draw")
    visitor.page.wait_for_function("document.querySelectorAll('#gallery img').length >= 4")
    visitor.page.wait_for_function("document.querySelector('#gallery').innerText.includes('seed 3')")


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "gradio", None)
    outcome = run_cli("page", "--no-browser")
    assert outcome.code == 1 and 'pip install "wavdiff[page]"' in outcome.err and outcome.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed (extra page)")
def test_the_command_says_where_it_is_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return True

    monkeypatch.setattr("wavdiff.cli.page.threading.Event", Ended)
    outcome = run_cli("page", "--no-browser")
    assert outcome.code == 0 and outcome.out.startswith("http://127.0.0.1:"), outcome.err
    refused = run_cli("page", "--no-browser", "--port", "1")
    assert refused.code == 1 or "127.0.0.1:1" in refused.out  # root may take it
    assert "at most 65535" in run_cli("page", "--port", "70000").err
