"""How the page looks: its parts, and which of its work each of them starts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, cast

from wavdiff.adapters.page_work import BOTH, DENOISE, ENLARGE, ZOOMS

MOST_DRAWN = 16
DRAWING = ("faces", "fashion", "fashion-vdvae")
HEADING = "# wavdiff\nPictures are cleaned and enlarged on this machine; nothing is sent elsewhere."


def layout(page: Any) -> Any:
    """The blocks of a `gradio.Page`."""
    gr = page.gradio
    with gr.Blocks(title="wavdiff", analytics_enabled=False) as blocks:
        gr.Markdown(HEADING)
        made = gr.State(None)
        with gr.Tab("One picture"), gr.Row():
            with gr.Column(scale=1, min_width=300):
                file = gr.File(label="Picture", type="filepath", elem_id="file", height=110)
                noise = gr.Textbox(label="Noise", lines=2, interactive=False, elem_id="noise")
                action = gr.Radio([DENOISE, ENLARGE, BOTH], value=DENOISE, label="What", elem_id="action")
                sigma = gr.Textbox("auto", label="Noise level: auto, 0.1 or 25/255", elem_id="sigma")
                strength = gr.Slider(0, 1, 1, step=0.05, label="Part of the noise that is taken away")
                factor = gr.Radio([2, 4, 8], value=2, label="Enlarge by", elem_id="factor")
                quality = gr.Radio(["fast", "good", "best"], value="fast", label="Quality (1, 2 or 8 times the time)")
                with gr.Accordion("Draws from the posterior", open=False, elem_id="draws-panel"):
                    draws = gr.Slider(0, 16, 0, step=1, label="Draws (0: none, else 2 or more)", elem_id="draws")
                    seed = gr.Number(0, precision=0, minimum=0, label="Seed")
                with gr.Row():
                    start = gr.Button("Start", variant="primary", elem_id="start")
                    cancel = gr.Button("Cancel", elem_id="cancel")
            with gr.Column(scale=3, min_width=320):
                slider = gr.ImageSlider(
                    label="Before and after",
                    elem_id="slider",
                    max_height=640,
                    format="png",
                    type="pil",
                    interactive=False,
                )
                with gr.Row():
                    zoom = gr.Radio(list(ZOOMS), value="whole", label="Show", elem_id="zoom")
                    across = gr.Slider(0, 1, 0.5, step=0.01, label="Place from left to right")
                    down = gr.Slider(0, 1, 0.5, step=0.01, label="Place from top to bottom")
                status = gr.Textbox(label="Status", lines=3, interactive=False, elem_id="status")
                result = gr.File(label="Result: same format, depth and profile", interactive=False, elem_id="result")
                command = gr.Textbox(
                    label="The same on the command line", interactive=False, buttons=["copy"], elem_id="command"
                )
                strip_of = gr.Image(label="Draws", format="png", interactive=False, visible=False, elem_id="strip")
                spread = gr.Image(
                    label="Standard deviation of the draws", interactive=False, visible=False, elem_id="spread"
                )
        with gr.Tab("Many pictures"):
            gr.Markdown("With the settings of *One picture*.")
            files = gr.File(label="Pictures", type="filepath", file_count="multiple", elem_id="files")
            with gr.Row():
                start_many = gr.Button("Start", variant="primary", elem_id="start-many")
                cancel_many = gr.Button("Cancel")
            log = gr.Textbox(label="Log", lines=6, interactive=False, elem_id="log")
            archive = gr.File(label="Results", interactive=False, elem_id="archive")
        with gr.Tab("New images"):
            with gr.Row():
                model = gr.Radio(list(DRAWING), value="faces", label="Model", elem_id="model")
                count = gr.Slider(1, MOST_DRAWN, 4, step=1, label="Images")
                first = gr.Number(0, precision=0, minimum=0, label="First seed")
                new = gr.Button("Draw", variant="primary", elem_id="draw")
            gallery = gr.Gallery(label="Drawn", columns=4, format="png", elem_id="gallery", object_fit="contain")

        parts = {
            "status": status, "slider": slider, "draws": strip_of, "spread": spread, "file": result,
            "command": command, "state": made,
        }  # fmt: skip

        def run(*given: Any, request: Any) -> Iterator[dict[Any, Any]]:
            for update in page.run(given, request):
                yield {parts[name]: value for name, value in update.items()}

        settings = [action, sigma, strength, factor, quality]
        file.change(page.arrived, file, [noise, slider])
        start.click(_asked(gr, run), [file, *settings, draws, seed], list(parts.values()), show_progress="hidden")
        for moved in (zoom.change, across.release, down.release):  # not at every place that a slider passes
            moved(page.zoomed, [made, zoom, across, down], slider, show_progress="hidden")
        start_many.click(_asked(gr, page.batch), [files, *settings], [log, archive], show_progress="hidden")
        for button in (cancel, cancel_many):
            button.click(_asked(gr, page.cancel), None, None, queue=False)
        new.click(page.draw, [model, count, first], gallery)
    return blocks


def _asked(gr: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose `request` Gradio fills in: it looks for its class among the annotations, in their order."""

    def streamed(request: Any, *given: Any) -> Iterator[Any]:
        yield from function(*given, request=request)

    def called(request: Any, *given: Any) -> Any:
        return function(*given, request=request)

    wrapped: Any = streamed if inspect.isgeneratorfunction(function) else called
    wrapped.__annotations__ = {"request": gr.Request}
    return cast(Callable[..., Any], wrapped)
