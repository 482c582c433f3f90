"""Models by family: a family is one folder, one class (see `family.Family`) and one row here."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from wavdiff.system.errors import WavdiffError
from wavdiff.system.messages import shown

if TYPE_CHECKING:
    from wavdiff.models.family import Family

DEFAULT_FAMILY = "cascade"
FAMILIES: dict[str, str | type[Family[Any, Any]]] = {
    "cascade": "wavdiff.models.cascade.family:CascadeFamily",
    "vdvae": "wavdiff.models.vdvae.family:VdvaeFamily",
    "wavpool": "wavdiff.models.wavpool.family:WavpoolFamily",
}
"""Where every family is, "module:Class", so that none is imported before it is asked for; or the class itself."""


def find_family(name: object) -> type[Family[Any, Any]]:
    """The class of a family.

    Raises:
        WavdiffError: no family of that name.
    """
    found = FAMILIES.get(name) if isinstance(name, str) else None
    if found is None:
        raise WavdiffError(f"configuration: family must be one of {', '.join(FAMILIES)}, got {shown(name)}")
    return resolve_name(found) if isinstance(found, str) else found
