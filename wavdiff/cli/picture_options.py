"""What `wavdiff denoise` and `wavdiff upscale` share: their options on files, the model and draws, and what follows."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast, get_type_hints

import typer

from wavdiff.batch.pictures import FileOptions, PictureBatch, find_files
from wavdiff.cli.options import LARGEST_SEED, MOST_DRAWS, MOST_STEPS, PrecisionOption, check_number, memory_bytes
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown


@dataclass(frozen=True)
class PictureOptions:
    """The options as they are given; `picture_command` makes options of its fields."""

    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="Files, folders (with all below), patterns in quotes such as 'in/**/*.png', or - for standard input. "
            "They are not changed.",
        ),
    ]
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE|DIR",
            help="For one input a file, or - for standard output; for more a folder, in which names and structure are "
            "kept. Default: beside the input, with the suffix.",
        ),
    ] = None
    suffix: str | None = None
    ext: Annotated[str | None, typer.Option(metavar="png", help="Format of the results; default the input's own.")] = (
        None
    )
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing results; inputs never.")] = False
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            help="To continue a run: leave out the inputs whose results all exist. What has only a part of them is "
            "made again.",
        ),
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be written, with sizes, and write nothing.")
    ] = False
    model: Annotated[
        str | None, typer.Option(help="A shipped model or a model folder; default photos.", show_default=False)
    ] = None
    memory: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="Working memory, such as 500MB or 2GiB; changes no result but the rounding of draws.",
        ),
    ] = "1GB"
    precision: PrecisionOption = None
    quality: Annotated[
        str,
        typer.Option(
            metavar="fast|good|best", help="The mean over 1, 2 or 8 turned, mirrored and shifted copies: takes as long."
        ),
    ] = "fast"
    strength: Annotated[
        float,
        typer.Option(metavar="0..1", help="Part of the noise that is taken away; 0.8 leaves a grain of a fifth."),
    ] = 1.0
    samples: Annotated[
        int, typer.Option(metavar="N", help="N posterior draws, their mean, and maps of their standard deviation.")
    ] = 0
    interval: Annotated[
        float | None, typer.Option(metavar="0.9", help="With --samples: images of the bounds that hold so much.")
    ] = None
    pages: Annotated[
        str | None, typer.Option(metavar="0,3-7", help="Of TIFF files of several pages, from 0; default all.")
    ] = None
    seed: int = 0
    solver: Annotated[
        str | None, typer.Option(help="Of draws: sde-dpm; to enlarge also dpm, heun or euler; default the model's.")
    ] = None
    steps: Annotated[int | None, typer.Option(help="Of draws: number of noise levels; default the model's.")] = None
    colour: Annotated[str, typer.Option(help="How a gray model takes an RGB picture: channels (apart) or luma.")] = (
        "channels"
    )

    def check_draws(self, draws_one: bool, flag: str) -> None:
        """Refuse, as WavdiffError, options of draws and means out of range or without effect.

        Args:
            draws_one, flag: whether the result itself is a draw, and the option that says so.
        """
        samples, interval = self.samples, self.interval
        if samples < 0 or samples == 1:
            raise WavdiffError(f"--samples must be at least 2 (for one draw give {flag}), got {shown(samples)}")
        if interval is not None:
            if not 0 < interval < 1:
                hint = f"; did you mean {interval / 100:g}?" if 1 < interval < 100 else ""
                raise WavdiffError(f"--interval must lie between 0 and 1, such as 0.9, got {interval:g}{hint}")
            if not samples:
                raise WavdiffError(f"--interval {interval:g} needs draws: give --samples, such as --samples 16")
        if self.quality not in ("fast", "good", "best"):
            raise WavdiffError(f"--quality must be fast, good or best, got {shown(self.quality)}")
        if self.quality != "fast" and (draws_one or samples):
            raise WavdiffError(f"--quality {self.quality} is for means, and a mean of draws is no draw; leave it out")
        if not 0 <= self.strength <= 1:
            raise WavdiffError(f"--strength must be in [0, 1], got {self.strength:g}")
        check_number("--samples", samples, 0, MOST_DRAWS)
        check_number("--seed", self.seed, 0, LARGEST_SEED)
        check_number("--steps", self.steps, 1, MOST_STEPS)
        for name, value in (("--steps", self.steps), ("--solver", self.solver)):
            if value is not None and not samples and not draws_one:
                raise WavdiffError(f"{name} is for draws: give {flag} or --samples, got {name} {value} alone")

    def restore(
        self,
        verb: Literal["denoise", "upscale", "restore"],
        default_suffix: str,
        draws_one: bool,
        draw_flag: str,
        own: dict[str, Any],
        variants: int = 1,
    ) -> None:
        """Do what is asked with every input.

        Args:
            verb, own: of the `RestorationRequest`: which it is, and what its own options say.
            default_suffix: behind the names of results beside their inputs.
            draws_one, draw_flag: see `check_draws`.
            variants: results for each picture.

        Raises:
            typer.Exit: status 1, where a file failed.
        """
        self.check_draws(draws_one, draw_flag)
        memory = memory_bytes(self.memory)
        where = (self.inputs, self.out, self.suffix, self.ext, self.overwrite, self.skip_existing, self.dry_run)
        options = FileOptions(*where, self.model, self.precision)
        found, naming = find_files(options, default_suffix)
        from wavdiff.system.allocator import keep_freed_memory

        keep_freed_memory()  # before torch starts threads
        from wavdiff.images import read_pages
        from wavdiff.restoration import RestorationRequest

        if self.colour not in ("channels", "luma"):
            raise WavdiffError(f"--colour must be channels or luma, got {shown(self.colour)}")
        request = RestorationRequest(
            verb,
            mode="sample" if draws_one else "mean",
            quality=cast(Any, self.quality),
            samples=self.samples,
            interval=self.interval,
            seed=self.seed,
            solver=self.solver,
            steps=self.steps,
            memory_bytes=memory,
            pages=None if self.pages is None else read_pages(self.pages),
            colour="luma" if self.colour == "luma" else "channels",
            strength=self.strength,
            **own,
        )
        if PictureBatch(options, found, naming, request, variants).run():
            raise typer.Exit(1)


def picture_command(suffix_help: str, seed_help: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`verb(pictures, ...)` as a command whose options are the verb's own and then the fields of `PictureOptions`.

    Args:
        suffix_help, seed_help: of --suffix and --seed, which the verbs explain each in its way.
    """
    hints = get_type_hints(PictureOptions, include_extras=True)
    hints["suffix"] = Annotated[str | None, typer.Option(metavar="TEXT", help=suffix_help)]
    hints["seed"] = Annotated[int, typer.Option(help=seed_help)]
    shared = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(PictureOptions).parameters.items()
    ]

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        _, *own = inspect.signature(verb, eval_str=True).parameters.values()

        @functools.wraps(verb)
        def command(**given: Any) -> None:
            verb(PictureOptions(**{option.name: given.pop(option.name) for option in shared}), **given)

        typed: Any = command  # Typer reads both
        typed.__signature__ = inspect.Signature([*own, *shared])
        typed.__annotations__ = {option.name: option.annotation for option in (*own, *shared)}
        return command

    return decorate
