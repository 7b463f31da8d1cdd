"""Private copies of the package with changed code; the package itself is not modified."""

import builtins
import re
import warnings
from collections.abc import Mapping
from copy import copy
from functools import cache, lru_cache, partial
from importlib import import_module
from linecache import getlines
from operator import attrgetter
from types import CodeType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

from numpy_xlstm.module import Module

PACKAGE = __name__.partition(".")[0]
IMPORT = re.compile(r"^from (\w[\w.]*) import (\([^)]*\)|.*)", re.MULTILINE)


class Copy:
    """A copy of the package in which the source of some modules, or some functions, are changed.

    A module is executed again, in its own namespace, if it is changed or if it imports such a
    module. Its imports from the package find the modules of the copy. All other modules are shared
    with the package. Other packages that use this one can be copied with it.

    ``functions`` has the new functions, by the names MODULE:NAME of the old ones.
    """

    def __init__(
        self, changed: Mapping[str, str], *others: str, functions: Mapping[str, Any] | None = None
    ) -> None:
        self.functions = dict(functions or {})
        modules = {whole.partition(":")[0] for whole in self.functions}
        self.changed = {name: source(name) for name in modules} | dict(changed)
        self.packages = frozenset({PACKAGE, *others})
        self.modules: dict[str, ModuleType] = {}

    def of(self, thing: Any) -> Any:
        """Return the copy of a class, function or module of the package, or of some together."""
        if isinstance(thing, tuple):
            return tuple(map(self.of, thing))
        if isinstance(thing, partial):
            return partial(self.of(thing.func), *map(self.of, thing.args), **thing.keywords)
        if isinstance(thing, Module):
            module = copy(thing)
            object.__setattr__(module, "__class__", self.of(type(thing)))
            for name in thing.submodules:
                inner = getattr(thing, name)
                many = [self.of(each) for each in inner] if isinstance(inner, list) else None
                vars(module)[name] = many or self.of(inner)
            return module
        if isinstance(thing, type | FunctionType) and _package(thing.__module__) in self.packages:
            return attrgetter(thing.__qualname__)(self.module(thing.__module__))
        return thing

    def module(self, name: str) -> ModuleType:
        """Return a module of the copy."""
        if self.changed.keys().isdisjoint(_needs(name, self.packages)):
            return import_module(name)
        if name not in self.modules:
            module = ModuleType(name)
            vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
            text = self.changed.get(name) or source(name)
            exec(_code(text, f"<{name}>"), vars(module))
            for whole, function in self.functions.items():
                if whole.startswith(f"{name}:"):
                    setattr(module, whole.removeprefix(f"{name}:"), function)
            self.modules.setdefault(name, module)  # another thread may have added it already
        return self.modules[name]

    def _import(self, name: str, *scopes: Any) -> Any:
        """Replace ``__import__`` in the modules of the copy."""
        found = builtins.__import__(name, *scopes)
        if _package(name) not in self.packages:
            return found
        values = {each: getattr(found, each) for each in scopes[2]}
        for each, value in values.items():
            is_module = isinstance(value, ModuleType)
            copy = self.module(value.__name__ if is_module else found.__name__)
            values[each] = copy if is_module else getattr(copy, each)
        return SimpleNamespace(**values)


@cache
def source(name: str) -> str:
    """Return the source of a module."""
    module = import_module(name)
    return "".join(getlines(module.__file__ or "", vars(module)))


@lru_cache(maxsize=256)
def _code(text: str, name: str) -> CodeType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # some changes make no sense
        return compile(text, name, "exec")


def _package(module: str) -> str:
    return module.partition(".")[0]


@cache
def _needs(name: str, packages: frozenset[str]) -> set[str]:
    """Return the name of a module and of all modules of the packages that it imports."""
    found = {name}
    for module, names in IMPORT.findall(source(name)):
        if _package(module) not in packages:
            continue
        for each in re.findall(r"\w+", re.sub(r" as \w+|#.*", "", names)):
            value = getattr(import_module(module), each)
            found |= _needs(value.__name__ if isinstance(value, ModuleType) else module, packages)
    return found
