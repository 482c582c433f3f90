"""The command line: parse, load, call one function, save. Heavy imports wait until a command runs.

Each command is a function of a module of its own; this one puts them together and turns mistakes into one line.
"""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer

from wavdiff.cli import assemble, evaluate, restore, sample, train
from wavdiff.errors import WavdiffError

_python_warning = warnings.formatwarning

app = typer.Typer(
    name="wavdiff",
    help="Draw, denoise and enlarge images with one small wavelet cascade.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from wavdiff import __version__

        typer.echo(f"wavdiff {__version__}")
        raise typer.Exit


app.command()(train.train)
app.command()(assemble.assemble)
app.command()(sample.sample)
app.command()(restore.denoise)
app.command()(restore.upscale)
app.command()(evaluate.evaluate)


def _warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning to the user as one line; one for developers as Python has it."""
    if category is UserWarning:
        return f"wavdiff: {message}\n"
    return _python_warning(message, category, filename, lineno, line)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a user's mistake is one line on stderr and exit status 1."""
    import click

    warnings.formatwarning = _warning_line
    try:
        return app(args=arguments, standalone_mode=True)
    except WavdiffError as error:
        typer.echo(f"wavdiff: {error}", err=True)
        sys.exit(1)
    except click.exceptions.Abort:
        sys.exit(130)
    except OSError as error:
        typer.echo(f"wavdiff: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        sys.exit(1)
