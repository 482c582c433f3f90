"""`wavdiff page`: a page in the browser, on this machine."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from wavdiff.cli.options import check_number


def page(
    model: Annotated[str, typer.Option(help="A shipped model or a folder of one, that restores.")] = "photos",
    host: Annotated[
        str, typer.Option(help="Who may come: 127.0.0.1 is this machine alone, 0.0.0.0 whoever reaches it.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Default the first from 7860 on that is free.")] = None,
    browser: Annotated[bool, typer.Option(help="Open it in a browser.")] = True,
) -> None:
    """Serve a page to clean, enlarge and draw pictures in a browser, until Ctrl-C. Nothing leaves this machine.

    Needs pip install "wavdiff[page]".
    """
    check_number("--port", port, 1, 65535)
    from wavdiff.adapters.gradio import serving

    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with serving(model, host, port, browser) as address:
        typer.echo(f"{address}  (Ctrl-C ends it)")
        try:
            ended.wait()
        except KeyboardInterrupt:
            typer.echo("", err=True)
