"""What lets deepinv be imported without torchvision, which it uses for plots, data sets and rotations."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class EmptyModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Makes modules of one package, in which every name is an empty class."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != self.package:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: types.ModuleType) -> None:
        def attribute(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__getattr__ = attribute  # type: ignore[method-assign]


@contextmanager
def torchvision_or_empty() -> Iterator[None]:
    """Have `import torchvision` work inside; afterwards, nobody else sees what took its place."""
    if importlib.util.find_spec("torchvision") is not None:
        yield
        return
    finder = EmptyModules("torchvision")
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
