"""A page in the browser, by Gradio, on this machine: drop a picture, see its noise, denoise, enlarge, draw.

Nothing of it leaves the machine: no telemetry, no fonts or scripts from elsewhere. Work is done one piece at a time;
every visitor has a folder of their own, which goes with the server.
"""

from __future__ import annotations

import importlib
import os
import queue
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from wavdiff import api
from wavdiff.adapters.page_layout import layout
from wavdiff.adapters.page_work import (
    Cancelled,
    Choice,
    check_size,
    coarse_result,
    enlarged,
    measured,
    pair,
    part,
    pixels_of,
    restore,
    strip,
)
from wavdiff.images import to_pil
from wavdiff.models.cascade.model import WaveletCascade
from wavdiff.models.cascade.saved import load_cascade
from wavdiff.models.folders import DEFAULT_RESTORATION_MODEL
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import one_line

MOST_BYTES = "200mb"


def _gradio() -> Any:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        return importlib.import_module("gradio")
    except ImportError as error:
        raise WavdiffError(f'the page needs gradio ({error}): pip install "wavdiff[page]"') from error


class Page:
    """The page and what its visitors have made.

    Args:
        model: a cascade that restores, by name or folder.
        root: folder for everybody's files.
    """

    def __init__(self, model: str, root: Path) -> None:
        self.gradio = _gradio()
        self.model, self.root = model, root
        self.cascade: WaveletCascade = load_cascade(model)
        self._stops: dict[str, threading.Event] = defaultdict(threading.Event)

    # --- what happens ------------------------------------------------------------------------------------------------

    def arrived(self, file: str | None) -> tuple[str, Any]:
        """What is said of a picture that was dropped, and how it looks."""
        if not file:
            return "", None
        with self._told():
            check_size(Path(file))
            picture = to_pil(part(pixels_of(Path(file)), "whole"))
            return measured(self.cascade, Path(file)), (picture, picture)

    def run(self, given: tuple[Any, ...], request: Any) -> Iterator[dict[str, Any]]:
        """Restore; `given` are file, the settings of a `Choice`; yields what parts of the page become, by name."""
        file, action, sigma, strength, factor, quality, draws, seed = given
        if not file:
            raise self._error("drop a picture first")
        source, hidden = Path(file), self.gradio.update(value=None, visible=False)
        nothing = {"draws": hidden, "spread": hidden, "file": None, "command": "", "state": None}
        stop = self._stops[request.session_hash] = threading.Event()
        with self._told():
            choice = Choice(action, sigma, strength, int(factor), quality, int(draws), int(seed))
            choice.request()
            check_size(source, choice.times)
            before = pixels_of(source)
            yield {"status": "working", **nothing}
            coarse = coarse_result(self.cascade, choice, before)
            before = part(before, "whole")
            if coarse is not None:
                yield {"status": "coarse; working", "slider": (to_pil(before), to_pil(enlarged(coarse, before)))}
            folder = Path(tempfile.mkdtemp(dir=self.root))
            result = None
            for kind, value in self._working(choice, source, folder, stop):
                if kind == "status":
                    yield {"status": value}
                else:
                    result = value
            if result is None:
                shutil.rmtree(folder)
                yield {"status": "cancelled"}
                return

            def shown(value: Any) -> Any:
                return self.gradio.update(value=value, visible=value is not None)

            target = result.written[0]
            after = pixels_of(target)
            spread = target.with_name(f"{target.stem}_std.png")
            drawn = [path for path in result.written if "_sample_" in path.stem]
            yield {
                "status": "\n".join(["done", *result.messages]).replace(f"{folder}/", ""),
                "slider": pair(before, after, "whole", 0.5, 0.5),
                "draws": shown(strip([pixels_of(path) for path in drawn]) if drawn else None),
                "spread": shown(str(spread) if drawn else None),
                "file": str(target),
                "command": choice.command(source, target, self.model),
                "state": (file, str(target)),
            }

    def _working(self, choice: Choice, source: Path, folder: Path, stop: threading.Event) -> Iterator[tuple[str, Any]]:
        """The work in a thread: ("status", text) again and again, then ("done", result), unless it was stopped."""
        told: queue.Queue[tuple[str, Any]] = queue.Queue()

        def advance(share: float, left: str) -> None:
            told.put(("status", f"{share:.0%}, {left}"))

        def work() -> None:
            try:
                told.put(("done", restore(self.cascade, choice, source, folder, advance, stop.is_set)))
            except BaseException as error:  # handed on to whoever waits
                told.put(("error", error))

        threading.Thread(target=work, daemon=True).start()
        try:
            while True:
                kind, value = told.get()
                if isinstance(value, Cancelled):
                    return
                if kind == "error":
                    raise value
                yield kind, value
                if kind == "done":
                    return
        finally:
            stop.set()  # the visitor went away

    def cancel(self, request: Any) -> None:
        """Stop this visitor's work."""
        self._stops[request.session_hash].set()

    def zoomed(self, made: tuple[str, str] | None, zoom: str, across: float, down: float) -> Any:
        """Another part of the result."""
        if made is None:
            return None
        return pair(pixels_of(Path(made[0])), pixels_of(Path(made[1])), zoom, across, down)

    def batch(
        self, files: list[str] | None, action: str, sigma: str, strength: float, factor: int, quality: str, request: Any
    ) -> Iterator[tuple[str, str | None]]:
        """Restore many pictures with the settings of one; yields a log, and at the end an archive."""
        if not files:
            raise self._error("drop some pictures first")
        stop = self._stops[request.session_hash] = threading.Event()
        folder, lines = Path(tempfile.mkdtemp(dir=self.root)) / "restored", list[str]()
        folder.mkdir()
        choice = Choice(action, sigma, strength, int(factor), quality)
        for number, file in enumerate(files, start=1):
            source = Path(file)
            lines.append(f"{number}/{len(files)} {source.name}")
            yield "\n".join(lines), None
            try:
                check_size(source, choice.times)
                place = folder / str(number) if choice.target(source, folder).exists() else folder  # names may be equal
                restore(self.cascade, choice, source, place, lambda share, left: None, stop.is_set)
            except Cancelled:
                lines[-1] += ": cancelled"
                break
            except (WavdiffError, OSError) as error:
                lines[-1] += f": {one_line(str(error)).replace(file, source.name)}"
        archive = shutil.make_archive(str(folder), "zip", folder) if any(folder.iterdir()) else None
        yield "\n".join(lines), archive

    def draw(self, model: str, count: float, seed: float) -> list[tuple[Any, str]]:
        """New images with their seeds."""
        with self._told():
            images: torch.Tensor = api.sample(api.load(model), int(count), int(seed))
            large = images.repeat_interleave(4, -1).repeat_interleave(4, -2)
            return [(to_pil(image), f"seed {int(seed) + k}") for k, image in enumerate(large)]

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What the user can do something about, as the page's own message."""
        try:
            yield
        except WavdiffError as error:
            text = one_line(str(error))
            for folder in {str(Path(tempfile.gettempdir())), str(self.root)}:
                text = " ".join(Path(word).name if word.startswith(folder) else word for word in text.split(" "))
            raise self._error(text) from error

    def _error(self, text: str) -> Any:
        return self.gradio.Error(text, duration=None, print_exception=False)


@contextmanager
def serving(
    model: str = DEFAULT_RESTORATION_MODEL, host: str = "127.0.0.1", port: int | None = None, browser: bool = False
) -> Iterator[str]:
    """Serve the page while the block runs.

    Args:
        model: a cascade that restores.
        host, port: where; None: the first port from 7860 on that is free.
        browser: whether to open it.

    Yields:
        Its address.

    Raises:
        WavdiffError: gradio is missing, no such model, or no such port.
    """
    with tempfile.TemporaryDirectory(prefix="wavdiff-page-") as folder:
        page = Page(model, Path(folder))
        gr = page.gradio
        fonts = ["system-ui", "sans-serif"]
        blocks = layout(page).queue(default_concurrency_limit=1)
        try:
            blocks.launch(
                server_name=host,
                server_port=port,
                share=False,
                inbrowser=browser,
                quiet=True,
                prevent_thread_lock=True,
                show_error=True,
                allowed_paths=[folder],
                max_file_size=MOST_BYTES,
                footer_links=[],
                ssr_mode=False,
                theme=gr.themes.Base(font=fonts, font_mono=["ui-monospace", "monospace"]),
            )
        except OSError as error:
            raise WavdiffError(f"the page cannot be served on {host}, port {port or 7860}: {error}") from error
        try:
            yield blocks.local_url
        finally:
            blocks.close()
