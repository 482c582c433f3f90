"""The command line: parse, load, call one function, save. Heavy imports wait until a command runs.

Each command is a function of a module of its own; this one puts them together and turns mistakes into one line.
"""

from __future__ import annotations

import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from wavdiff.cli import (
    assemble,
    classify,
    denoise,
    evaluate,
    export,
    import_published,
    inspect,
    page,
    restore,
    sample,
    train,
    upscale,
)
from wavdiff.system.errors import WavdiffError
from wavdiff.system.imports import postpone_compiler
from wavdiff.system.messages import one_line, shown

app = typer.Typer(
    name="wavdiff",
    help="Draw, denoise and enlarge images with one small wavelet cascade.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print versions and what the processor can do, and exit.")
    ] = False,
) -> None:
    if version:
        from importlib.metadata import version as version_of

        from wavdiff import __version__
        from wavdiff.system.devices import describe_processor

        typer.echo(f"wavdiff {__version__}")
        typer.echo(f"Python {platform.python_version()}, torch {version_of('torch')}")
        typer.echo(describe_processor())
        raise typer.Exit


for _verb in (
    train.train,
    assemble.assemble,
    import_published.import_published,
    sample.sample,
    denoise.denoise,
    upscale.upscale,
    restore.restore,
    classify.classify,
    evaluate.evaluate,
    inspect.inspect,
    export.export,
    page.page,
):
    app.command()(_verb)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a user's mistake is one line on stderr and exit status 1, or 2 for wrong usage."""
    for name in ("stdout", "stderr"):  # closed, as services do: what is said goes nowhere
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):  # names of files that are not UTF-8 are printed as the bytes they are
        sys.stdout.reconfigure(errors="surrogateescape")
    postpone_compiler()
    with _short_warnings():
        try:
            status = app(args=arguments, standalone_mode=False)
        except WavdiffError as error:
            _stop(str(error))
        except typer.Abort:
            sys.exit(130)
        except _UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
                error.show()
                sys.exit(error.exit_code)
            _stop(_usage(error, sys.argv[1:] if arguments is None else arguments), error.exit_code)
        except OSError as error:
            name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file"
            _stop(f"{name}: {error.strerror or error}")
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
                raise
            _stop("not enough memory for pictures, batches or networks of this size")
    sys.exit(status if isinstance(status, int) else 0)


_UsageError: Any = typer.BadParameter.__mro__[1]  # Click's, or Typer's own copy of it


def _stop(message: str, status: int = 1) -> None:
    typer.echo(f"wavdiff: {one_line(message)}", err=True)
    sys.exit(status)


def _usage(error: Any, arguments: list[str]) -> str:
    """What is wrong with the usage, with the value of an option that cannot be read."""
    message = error.format_message()
    names = [*getattr(getattr(error, "param", None), "opts", ())]
    given = [after for before, after in zip(arguments[:-1], arguments[1:], strict=True) if before in names]
    command = error.ctx.info_name if error.ctx is not None and error.ctx.parent is not None else None
    text = f"{command}: {message}" if command else message
    return f"{text.rstrip('.')}, got {shown(given[-1])}" if given and shown(given[-1]) not in text else text


@contextmanager
def _short_warnings() -> Iterator[None]:
    """Warnings of this package are a line each, said once, without the place in its code."""
    before, said = warnings.formatwarning, set[str]()

    def short(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if category is UserWarning:
            text = f"wavdiff: {one_line(str(message))}\n"
            repeated = text in said
            said.add(text)
            return "" if repeated else text
        return before(message, category, filename, lineno, line)

    warnings.formatwarning = short
    try:
        yield
    finally:
        warnings.formatwarning = before
