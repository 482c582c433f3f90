"""What is not imported before it is needed."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec


class CompilerLater(MetaPathFinder):
    """Keeps diffusers from importing torch's compiler when it is imported itself, which costs a second or two.

    diffusers wants one decorator of it, for models of its own that are not used here, and does without where there is
    no compiler. Who compiles imports it later, as ever.
    """

    _importer, _last_name = "diffusers.utils.torch_utils", "randn_tensor"

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Refuse the compiler while that module of diffusers is being imported; of others nothing is known."""
        if fullname == "torch._dynamo":
            importer = sys.modules.get(self._importer)
            if importer is not None and not hasattr(importer, self._last_name):
                raise ImportError(f"{fullname} is not imported for {self._importer}", name=fullname)
        return None


def postpone_compiler() -> None:
    """Let a `CompilerLater` look at the imports of this process."""
    if not any(isinstance(finder, CompilerLater) for finder in sys.meta_path):
        sys.meta_path.insert(0, CompilerLater())
