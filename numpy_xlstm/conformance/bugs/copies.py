"""Private copies of the package with other lines: the package itself is never written."""

import builtins
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec
from modulefinder import ModuleFinder
from operator import attrgetter
from threading import RLock
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

PACKAGE = __name__.partition(".")[0]
LOADING = RLock()
"""Held while a copy loads modules: threads share copies."""


class Original:
    """The package as it is."""

    changed: Mapping[str, list[str]] = {}

    def module(self, name: str) -> ModuleType:
        """Return a module."""
        return import_module(name)


class Copy(Original):
    """A copy of the package, or of another copy, in which modules have other lines.

    A module that has other lines, or imports from a module that is run again, is run again from its
    source. Its imports from the package find the modules of the copy. All other modules are those
    of the original.
    """

    def __init__(self, original: Original, changed: Mapping[str, list[str]]) -> None:
        self.original, self.changed = original, {**original.changed, **changed}
        self.own, self.modules = changed.keys(), dict[str, ModuleType]()

    def of(self, thing: Any) -> Any:
        """Return the copy's class or function for one of the package; a tuple for a tuple."""
        if isinstance(thing, tuple):
            return tuple(map(self.of, thing))
        if isinstance(thing, type | FunctionType) and _is_ours(thing.__module__):
            return attrgetter(thing.__qualname__)(self.module(thing.__module__))
        return thing

    def module(self, name: str) -> ModuleType:
        """Return a module of the copy."""
        if self.own.isdisjoint(_needs(name)):
            return self.original.module(name)
        with LOADING:
            if name not in self.modules:
                self.modules[name] = self._run(name)
            return self.modules[name]

    def _run(self, name: str) -> ModuleType:
        """Run the source of a module in a new namespace."""
        module = module_from_spec(_spec(name))
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
        lines = self.changed.get(name)
        code = compile("".join(lines), f"<{name}>", "exec") if lines else _code(name)
        exec(code, vars(module))
        return module

    def _import(self, name: str, *scopes: Any) -> Any:
        """Import as ``__import__`` does; from the package, import what belongs to the copy."""
        found = builtins.__import__(name, *scopes)
        if not _is_ours(name):
            return found
        _, _, names, _ = scopes
        return SimpleNamespace(**{each: self._member(name, each) for each in names})

    def _member(self, module: str, name: str) -> Any:
        """Return the copy's value of a name in a module of the package, which may be a module."""
        home = _home(module, name)
        found = self.module(home)
        return found if home == f"{module}.{name}" else getattr(found, name)


def source_lines(name: str) -> list[str]:
    """Return the source of a module, line by line."""
    source = _spec(name).loader.get_source(name) or ""
    return source.splitlines(keepends=True)


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == PACKAGE


def _spec(name: str) -> Any:
    return import_module(name).__spec__


@cache
def _code(name: str) -> Any:
    return _spec(name).loader.get_code(name)


@cache
def _needs(name: str) -> set[str]:
    """Return the modules of the package that a module is made of: itself, and all it imports."""
    found, new = set[str](), {name}
    while new:
        found |= new
        new = {home for each in new for home in _imports(each)} - found
    return found


@cache
def _imports(name: str) -> set[str]:
    """Return the modules of the package that a module imports from."""
    steps = ModuleFinder().scan_opcodes(_code(name))
    found = [what for kind, what in steps if kind == "absolute_import"]
    return {_home(module, each) for names, module in found if _is_ours(module) for each in names}


def _home(module: str, name: str) -> str:
    """Return the module that defines a name of a module; a module that is imported is its own."""
    value = getattr(import_module(module), name)
    if isinstance(value, ModuleType):
        return value.__name__
    home = str(getattr(value, "__module__", None))
    defined = _is_ours(home) and getattr(import_module(home), name, None) is value
    return home if defined else module
