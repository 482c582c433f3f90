"""The folder of a run: what was measured on its data, once, and the way in for a training.

config.yaml        the resolved configuration
run.json           what was measured on the data (standardisation, sizes) and which data they were
stats.jsonl        one record per logged step and per evaluation
checkpoints/       the newest few and the best (see `checkpoints`)
samples/           grids: raw weights above, averaged weights below
model/             the averaged model with its card
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wavdiff.data import Images, count_images, source_digest
from wavdiff.models import DEFAULT_FAMILY
from wavdiff.models.family import Family
from wavdiff.models.run_config import RunConfig, to_mapping
from wavdiff.system.atomic import recover_folder, written_whole
from wavdiff.system.errors import WavdiffError
from wavdiff.system.lock import folder_lock
from wavdiff.training.checkpoints import checkpoint_folders, recover_checkpoints
from wavdiff.training.config import from_mapping, read_mapping, to_yaml
from wavdiff.training.records import forget_records_after

NOT_MEASURED = ("family", "trained_on", "model", "data", "images")
"""What run.json holds besides the family's numbers; "images" in early versions."""

NO_STEP_DEPENDS_ON = {
    *(f"training.{name}_every" for name in ("log", "evaluate", "sample", "checkpoint")),
    *(f"training.{name}" for name in ("keep_checkpoints", "max_skipped", "export", "save_dtype", "init", "compile")),
    *(f"data.{name}" for name in ("name", "data_dir", "note", "workers", "cache_megabytes", "decoded_cache")),
    "data.heldout_limit",
}
"""Settings that may change between two calls without a word; another init is refused, other data are named."""
MEANS = {
    "steps": " (the learning rate follows the schedule to that end)",
    "learning_rate": " (from here on)",
    "batch_size": " (other images in every step)",
    "seed": " (other images and noise in every step)",
}


class RunFolder:
    """The folder of a run, as one process sees it.

    Args:
        path: of the folder; it need not be there.
        family: with the run's configuration.
        source: the training images.

    Attributes:
        measured: numbers of the data that the family needs; after `read`.
        data: name, number and digest of the images that the run began with; after `read`.
        found: names of the checkpoints that were there; after `read`.
    """

    def __init__(self, path: Path, family: Family[Any, Any], source: Images) -> None:
        self.path, self.family, self.source = path, family, source
        self.config: RunConfig = family.config
        name, images = self.config.data.name, count_images(source)
        self._data_now = {"name": name, "images": images, "digest": source_digest(source)}

    def begin(self) -> None:
        """Measure the data where that was not done, and clean up after a process that was killed."""
        path = self.path / "run.json"
        if not path.is_file():
            init = self.config.training.init
            measured = self.family.measured_by(init) if init else self.family.measure(self.source)
            mapping = to_mapping(self.config)
            sections = {key: mapping[key] for key in ("family", "model", "data") if key in mapping}
            with written_whole(path) as file:
                file.write(json.dumps({**measured, "trained_on": self._data_now, **sections}, indent=1).encode())
        recover_checkpoints(self.path / "checkpoints")

    def read(self) -> None:
        """Read what was measured.

        Raises:
            WavdiffError: run.json is damaged, or of another model.

        Warns:
            UserWarning: the data, or settings on which a step depends, have changed since.
        """
        path = self.path / "run.json"
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            # Settings that an earlier version did not have get their defaults.
            sections = {"family": record.get("family", DEFAULT_FAMILY), "model": dict(record["model"])}
            model = from_mapping(sections)
            before = dict(record.get("trained_on") or {"images": record.get("images")})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, WavdiffError) as error:
            raise self._damaged(error) from error
        self._refuse_another_model(model)
        self.measured = {key: value for key, value in record.items() if key not in NOT_MEASURED}
        try:
            self.family.check_measured(self.measured)
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(error) from error
        self._warn_of_changes(before)
        self.data = {**self._data_now, **before}
        self.found = self._checkpoints()
        if self.found:
            self._warn_of_settings()

    def _damaged(self, reason: object) -> WavdiffError:
        return WavdiffError(f"{self.path / 'run.json'} is damaged ({reason}); remove it or choose another --out")

    def _refuse_another_model(self, before: RunConfig) -> None:
        then, now = to_mapping(before), to_mapping(self.config)
        pairs = [("family", before.family, self.config.family)]
        pairs += [(f"model.{key}", then["model"].get(key), value) for key, value in now["model"].items()]
        for name, old, new in pairs:
            if old != new and name.removeprefix("model.") not in self.config.free:
                raise WavdiffError(
                    f"--out {self.path} holds a run with another {name} ({old!r}, now {new!r}); choose another folder"
                )

    def _warn_of_changes(self, before: dict[str, Any]) -> None:
        now = self._data_now
        changes = {
            "name": f"it was {before.get('name')}",
            "images": f"{before.get('images')} images then, {now['images']} now",
            "digest": "other files",
        }
        for key, change in changes.items():
            if before.get(key) is not None and before[key] != now[key]:
                warnings.warn(
                    f"the data {now['name']} changed since this run began ({change}); it goes on with those of now, "
                    "and n + m steps are no longer n + m steps in one go",
                    stacklevel=4,
                )
                return

    def _warn_of_settings(self) -> None:
        try:
            then = read_mapping(self.path / "config.yaml")
        except WavdiffError:  # lost: nothing can be said
            return
        now, changes = to_mapping(self.config), list[str]()
        for section in (name for name in now if name not in ("family", "model")):
            given = then.get(section)
            before: dict[str, Any] = given if isinstance(given, dict) else {}
            for key, value in now[section].items():
                if f"{section}.{key}" not in NO_STEP_DEPENDS_ON and before.get(key, value) != value:
                    changes.append(f"{section}.{key} was {before[key]}, is {value}{MEANS.get(key, '')}")
        if changes:
            warnings.warn(
                f"settings changed since this run was last trained: {'; '.join(changes)}. It goes on with those of "
                "now, and n + m steps are no longer n + m steps in one go",
                stacklevel=4,
            )

    def _checkpoints(self) -> list[str]:
        return [path.name for path in checkpoint_folders(self.path / "checkpoints")]

    @contextmanager
    def taken(self, step: int) -> Iterator[None]:
        """Hold the folder for a training that goes on from `step`; only the main process does.

        Raises:
            WavdiffError: another process holds it, or has trained here since it was read.
        """
        with folder_lock(self.path):
            if self._checkpoints() != self.found:
                raise WavdiffError(
                    f"--out {self.path}: another process has trained here meanwhile; run the command again"
                )
            recover_folder(self.path / "model")
            forget_records_after(self.path / "stats.jsonl", step)
            with written_whole(self.path / "config.yaml") as file:
                file.write(to_yaml(self.config).encode())
            yield
