"""Configurations to and from YAML.

A file names only what differs from the defaults, and its model's family where that is no cascade;
`--set section.name=value` overrides single values; unknown names are errors. Lengths are in pixels, noise levels in
[0, 1] image units unless a name says otherwise.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from wavdiff.models import DEFAULT_FAMILY, find_family
from wavdiff.models.run_config import RunConfig, to_mapping
from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown
from wavdiff.system.settings import from_fields, merge_setting
from wavdiff.system.text_files import parse_yaml, read_text


def from_mapping(mapping: dict[str, Any], overrides: list[str] | None = None) -> RunConfig:
    """A configuration from a (YAML) mapping and overrides "section.name=value", whose values are YAML.

    Raises:
        WavdiffError: an unknown name, a wrong type or a value out of range; the message names it.
    """
    mapping = copy.deepcopy(mapping)
    for override in overrides or []:
        name, separator, text = override.partition("=")
        if not separator:
            raise WavdiffError(f"--set takes section.name=value, got {shown(override)}")
        try:
            value = parse_yaml(text)
        except WavdiffError as error:
            raise WavdiffError(f"--set {name[:80]}: {shown(text)} {error}") from error
        merge_setting(mapping, name.strip(), value)
    result: RunConfig = from_fields(find_family(mapping.pop("family", DEFAULT_FAMILY)).Config, mapping)
    return result


def to_yaml(config: RunConfig) -> str:
    """The whole configuration as YAML."""
    return yaml.safe_dump(to_mapping(config), sort_keys=False)


def preset_folders() -> list[Path]:
    """Folders searched for the configurations that ship: the checkout's configs/ and the installed package's."""
    import sys

    return [Path(__file__).parents[2] / "configs", Path(sys.prefix) / "share" / "wavdiff" / "configs"]


def read_mapping(source: str | Path) -> dict[str, Any]:
    """The mapping of a YAML file, or of a shipped configuration by name ("tiny", "faces", ...).

    Raises:
        WavdiffError: no such file or preset, or not a YAML mapping.
    """
    path = Path(source)
    if not path.suffix and not path.is_file():
        found = [folder / f"{source}.yaml" for folder in preset_folders() if (folder / f"{source}.yaml").is_file()]
        if not found:
            names = sorted({file.stem for folder in preset_folders() for file in folder.glob("*.yaml")})
            raise WavdiffError(f"--config {source}: no such file, and no preset of that name ({', '.join(names)})")
        path = found[0]
    try:
        mapping = parse_yaml(read_text(path))
    except WavdiffError as error:
        raise WavdiffError(f"--config {source}: {error}") from error
    if not isinstance(mapping, dict):
        raise WavdiffError(f"--config {source}: must hold a mapping of sections, got {type(mapping).__name__}")
    return mapping
